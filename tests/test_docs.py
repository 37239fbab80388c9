"""The documents: their examples run, their links lead somewhere, and they name every key and command."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import click
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from manystack.commands.emu import VERBS
from manystack.commands.emu import main as emu_command
from manystack.commands.run import main as run_command
from manystack.topology import Topology, schema
from manystack.topology.link import disciplines, written
from manystack.topology.model import Interface, Route

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What the first says in Python is run by tests/test_engine.py, with a topology of its own; the second quotes.
PYTHON_PAGES = [page for page in PAGES if page.name not in ("python.md", "adding-an-impairment.md")]
NAME = f"docs-{os.getpid()}"
RUN = [sys.executable, "-c", "from manystack.commands.run import main; main()"]
OF_FILES = {"check", "convert", "diff", "generate", "ps"}
SOON = ["--duration", "1s", "--name", NAME]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def all_commands(page: Path) -> list[list[str]]:
    """Every call of a program that a page shows."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def commands(page: Path, program: str) -> list[list[str]]:
    """Every call of one program that a page shows, as its arguments."""
    return [call[1:] for call in all_commands(page) if call[0] == program]


def checked(command: click.Command, arguments: list[str], exit_code: int = 0) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == exit_code, f"{arguments}: {result.output}"
    return result.output


@contextmanager
def running(topology: Path) -> Iterator[subprocess.Popen[str]]:
    """A network in a process of its own, from its first line on."""
    command = [*RUN, str(topology), "--name", NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{NAME}: ")
            yield process
        finally:
            process.terminate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the examples, where examples may write."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_every_page_is_listed_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert not [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in text]


@pytest.mark.parametrize("topology", sorted((ROOT / "examples").iterdir()), ids=ids)
def test_every_example_topology_is_right(topology: Path) -> None:
    assert Topology.load(topology).nodes


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_topologies_are_right(page: Path, tmp_path: Path) -> None:
    """A block that begins with the ends of a link is one of two hosts; a text is the file that it names."""
    for block in blocks(page, "text"):
        name, text = re.fullmatch(r"# (\S+)\n(.*)", block, re.DOTALL).groups()  # type: ignore[union-attr]
        (tmp_path / name).write_text(text)
    for block in blocks(page, "yaml"):
        document = yaml.safe_load(block)
        if "ends" in document:
            hosts = {name: {"kind": "host", "interfaces": {"eth0": {}}} for name in ("h1", "h2")}
            document = {"manystack": 1, "nodes": hosts, "links": [document]}
        assert Topology.parse(document, tmp_path).nodes


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=ids)
def test_python_runs(page: Path, folder: Path) -> None:
    for block in blocks(page, "python"):
        assert 'time="virtual"' in block
        exec(compile(block, page.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_for_files_run(page: Path, folder: Path) -> None:
    for program, *arguments in all_commands(page):
        if program == "emu" and arguments[0] in OF_FILES:
            checked(emu_command, arguments)
        elif program == "emu-run" and "examples/two-real-hosts.yaml" not in arguments:
            assert (
                "SENT" in checked(run_command, [*arguments, "--time", "virtual", *SOON])
                or "--json" in arguments
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "commands.md", ROOT / "docs" / "links.md"], ids=ids
)
def test_commands_for_running_networks_run(page: Path, folder: Path) -> None:
    """Against the three routers, with traffic that does not end before the page does."""
    document = Topology.load("examples/three-routers.yaml").dump()
    document["traffic"] = [{"kind": "ping", "from": "h1", "to": "h2"}]
    topology = folder / "three-routers.yaml"
    topology.write_text(yaml.safe_dump(document))
    calls = [arguments for arguments in commands(page, "emu") if arguments[0] not in OF_FILES]
    assert len(calls) >= 4
    with running(topology):
        for arguments in calls:
            if arguments[0] not in ("watch", "capture"):  # they have no end of their own
                checked(emu_command, [*arguments, "--name", NAME])


@pytest.mark.root
def test_two_real_hosts(folder: Path) -> None:
    page = ROOT / "README.md"
    (arguments,) = [call for call in commands(page, "emu-run") if "examples/two-real-hosts.yaml" in call]
    calls = commands(page, "ip")
    assert len(calls) == 4
    with running(Path(*arguments)) as network:
        for call in calls:
            subprocess.run(["ip", *call], check=True, timeout=60, stdout=subprocess.DEVNULL)
        checked(emu_command, ["stop", "--name", NAME])
        assert network.wait() == 0


def test_make_has_every_target_that_is_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"run", "test", "bench"} <= targets
    assert not {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)}


def test_mistakes_are_reported_as_the_page_says(folder: Path) -> None:
    (block,) = blocks(ROOT / "docs" / "topology.md", "console")
    command, *lines = block.splitlines()
    stack = {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}}
    document = {
        "manystack": 1,
        "nodes": {"h1": stack, "r1": stack | {"kind": "rooter"}},
        "links": [{"ends": ["h1.eth0", "r1.eth0"], "delay": 5}],
    }
    Path("broken.yaml").write_text(yaml.safe_dump(document))
    assert command.startswith("$ emu ")
    assert checked(emu_command, command.split()[2:], exit_code=2).splitlines() == lines


def test_runs_part_as_the_page_says(folder: Path) -> None:
    page = ROOT / "docs" / "determinism.md"
    for arguments in commands(page, "emu-run"):
        checked(run_command, [*arguments, "--name", NAME])
    (block,) = blocks(page, "console")
    command, *lines = block.splitlines()
    assert command.startswith("$ emu ")
    assert checked(emu_command, command.split()[2:], exit_code=1).splitlines() == lines


PARTS: list[type[BaseModel]] = [
    schema.Header,
    schema.WrittenStack,
    schema.WrittenTap,
    schema.WrittenNic,
    written.WrittenLink,
    schema.WrittenPing,
    schema.WrittenUdp,
    schema.WrittenCapture,
    Interface,
    Route,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_the_page_on_topologies_names_every_key(part: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "topology.md").read_text()
    # What is not in this version has no type but None.
    fields = part.model_fields.items()
    keys = {field.alias or name for name, field in fields if field.annotation is not type(None)}
    assert not {key for key in keys if f"`{key}`" not in page}


@pytest.mark.parametrize(
    "part",
    [
        part
        for part in vars(written).values()
        if isinstance(part, type) and part.__module__ == written.__name__
    ],
    ids=lambda part: part.__name__,
)
def test_the_page_on_links_names_every_key(part: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "links.md").read_text()
    keys = {field.alias or name for name, field in part.model_fields.items()}
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    assert not keys - told


def test_the_page_on_links_names_every_discipline() -> None:
    page = (ROOT / "docs" / "links.md").read_text()
    rows = {name: row for name, row in re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.MULTILINE)}
    for name, settings in disciplines.DISCIPLINES.items():
        same = re.search(r"those of `(\w+)`", rows[name])
        told = rows[name] + (rows[same[1]] if same else "")
        keys = {key for key, field in disciplines.KEYS.items() if field in settings}
        assert {key for key in keys if f"`{key}`" in told} == keys
    assert set(disciplines.DISCIPLINES) <= set(rows)


def test_the_guide_shows_lines_of_the_files_that_it_names() -> None:
    page = ROOT / "docs" / "adding-an-impairment.md"
    for block in [*blocks(page, "cython"), *blocks(page, "python")]:
        head, *lines = block.splitlines()
        text = (ROOT / head.removeprefix("# ")).read_text()
        assert not [line for line in lines if line not in text.splitlines()]
    named = re.findall(r"`((?:core|manystack|tests)/[\w/.]+)`", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_page_on_commands_shows_every_verb() -> None:
    shown = {arguments[0] for arguments in commands(ROOT / "docs" / "commands.md", "emu")}
    assert shown == {verb for verb, place in VERBS.items() if ".later:" not in place}


# The picture.


def live_view() -> ModuleType:
    spec = importlib.util.spec_from_file_location("live_view", ROOT / "docs" / "live_view.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headings(picture: str) -> list[str]:
    texts = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    return [text.text or "" for text in texts if text.get("class") == "bold"]


def test_the_picture_shows_what_the_live_view_shows() -> None:
    module = live_view()
    picture = module.PICTURE.read_text()
    assert headings(picture) == headings(module.svg(*module.view_at("2s", "virtual"), ""))
    assert headings(picture)[0] == "three-routers"


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    picture = live_view().PICTURE.read_text()
    assert re.findall(r"\w+://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in picture
