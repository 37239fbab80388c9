"""The project as others get it: an sdist, a wheel built from it, and the wheel in a fresh environment."""

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "plugins", "daemons", "manystack")


def run(*command: str | Path, folder: Path) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked_files(*patterns: str) -> list[str]:
    """What git holds, or would hold after `git add`."""
    listing = run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns, folder=ROOT
    )
    return [name for name in listing.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of a clean copy of the tree, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    source, output = folder / "source", folder / "dist"
    for name in tracked_files():
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy, follow_symlinks=False)
    # Told neither --sdist nor --wheel, it builds the wheel from the sdist. Its requirements are here already.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, folder=source)
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment with the wheel and what it requires, and nothing else."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", distributions[1], folder=environment)
    (site,) = environment.glob("lib/python*/site-packages")
    lend_requirements("manystack", site)
    return environment / "bin"


def lend_requirements(name: str, site: Path) -> None:
    """Link what a distribution requires, and what that requires, from this environment into `site`."""
    lent: set[str] = set()
    waiting = [name]
    while waiting:
        for line in importlib.metadata.requires(waiting.pop()) or []:
            requirement = Requirement(line)
            if requirement.name in lent or (
                requirement.marker and not requirement.marker.evaluate({"extra": ""})
            ):
                continue
            lent.add(requirement.name)
            waiting.append(requirement.name)
            files = importlib.metadata.files(requirement.name) or []
            base = Path(str(importlib.metadata.distribution(requirement.name).locate_file("")))
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(base / top)


def test_generated_c_is_not_in_the_repository() -> None:
    outside_bench = [name for name in tracked_files("*.c", "*.so") if not name.startswith("bench/peers/")]
    assert outside_bench == []


def test_every_folder_is_packaged() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    python = {Path(name).parent for name in tracked_files("manystack/*.py")}
    engine = {"manystack" / Path(name).parent for name in tracked_files("core/*.pyx", "core/*.pxd")}
    assert setup["packages"] == sorted(".".join(folder.parts) for folder in python | engine)


@pytest.mark.slow
def test_sdist_holds_the_sources_and_nothing_generated(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {f"manystack/{name}" for name in tracked_files("core/*.pyx", "core/*.pxd", "core/*.pyi")}
    assert sources
    assert sources <= names
    assert not [name for name in names if name.endswith((".c", ".so", ".o"))]


@pytest.mark.slow
def test_wheel_installs_one_package(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"manystack"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["emu-run", "emu"])
def test_installed_commands_start(installed: Path, command: str, tmp_path: Path) -> None:
    assert "Usage" in run(installed / command, "--help", folder=tmp_path)


EVERY_MODULE = """
import importlib.util, pkgutil, sys
import manystack
for module in pkgutil.walk_packages(manystack.__path__, "manystack."):
    __import__(module.name)
assert "manystack.core._switch" in sys.modules
assert not any(importlib.util.find_spec(name) for name in ("core", "plugins", "daemons"))
print(manystack.__file__)
"""


@pytest.mark.slow
def test_every_installed_module_imports(installed: Path, tmp_path: Path) -> None:
    file = run(installed / "python", "-c", EVERY_MODULE, folder=tmp_path).strip()
    assert installed.parent in Path(file).parents


def test_no_module_has_two_names() -> None:
    names: defaultdict[Path, list[str]] = defaultdict(list)
    for name, module in list(sys.modules.items()):
        if file := getattr(module, "__file__", None):
            names[Path(file).resolve()].append(name)
    ours = {path: names[path] for path in names if any(ROOT / room in path.parents for room in ROOMS)}
    assert ours
    assert not {path: loaded for path, loaded in ours.items() if len(loaded) > 1}
