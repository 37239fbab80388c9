"""`emu check`, `emu convert` and `emu generate`, as a shell meets them."""

import json
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from manystack.commands.check import check
from manystack.commands.convert import convert
from manystack.commands.generate import generate
from manystack.topology import Topology

OFFICE = Path(__file__).parent / "office.json"
BAD = "manystack: 1\nnodes: {h1: {kind: host, mtu: 10}}\nlinks: [{ends: [h1.eth0, h2], delay: 5}]\n"


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    return file


def test_check_of_a_good_topology() -> None:
    result = run(check, OFFICE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "no mistakes in 5 nodes and 4 links" in result.stdout


def test_check_with_all_defaults() -> None:
    shown = run(check, OFFICE, "-v").stdout
    assert Topology.parse(yaml.safe_load(shown)) == Topology.load(OFFICE)
    assert "interval: 1s" in shown
    report = json.loads(run(check, OFFICE, "-v", "--json").stdout)
    assert report["valid"]
    assert report["topology"] == Topology.load(OFFICE).dump(defaults=True)


def test_check_says_everything_that_is_wrong(bad: Path) -> None:
    result = run(check, bad)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [str(bad), "nodes.h1.mtu"],
        [str(bad), "links[0].delay"],
        [str(bad), "links[0].ends[0]"],
        [str(bad), "links[0].ends[1]"],
    ]


def test_check_as_json(bad: Path) -> None:
    result = run(check, bad, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["valid"]) == (2, False)
    assert [error["place"] for error in report["errors"]][:2] == ["nodes.h1.mtu", "links[0].delay"]


def test_check_of_several_files(bad: Path) -> None:
    result = run(check, OFFICE, bad, OFFICE)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [f"{OFFICE}: no mistakes in 5 nodes and 4 links"] * 2
    assert len(result.stderr.splitlines()) == 4
    reports = json.loads(run(check, OFFICE, bad, "--json").stdout)
    assert [report["valid"] for report in reports] == [True, False]
    shown = run(check, OFFICE, OFFICE, "-v").stdout
    assert [Topology.parse(part) for part in yaml.safe_load_all(shown)] == [Topology.load(OFFICE)] * 2
    assert run(check).exit_code == 2


def test_check_of_no_file(tmp_path: Path) -> None:
    result = run(check, tmp_path / "none.yaml")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path / 'none.yaml'}: No such file or directory\n")


def test_convert_there_and_back(tmp_path: Path) -> None:
    files = [OFFICE, *(tmp_path / name for name in ("a.msgpack", "b.yaml", "c.json"))]
    for source, target in pairwise(files):
        assert run(convert, source, target).exit_code == 0
        assert Topology.load(target) == Topology.load(OFFICE)
    assert json.loads(run(convert, OFFICE, files[1], "--json").stdout)["output"] == str(files[1])


def test_convert_refuses(tmp_path: Path, bad: Path) -> None:
    result = run(convert, bad, tmp_path / "bad.json")
    assert (result.exit_code, (tmp_path / "bad.json").exists()) == (2, False)
    assert run(convert, OFFICE, tmp_path / "office.xml").exit_code == 2
    assert "cannot write" in run(convert, OFFICE, tmp_path / "none" / "office.json").stderr


def test_generate(tmp_path: Path) -> None:
    file = tmp_path / "chain.msgpack"
    result = run(generate, "chain", 3, "-o", file, "--delay", "5ms", "--json")
    assert json.loads(result.stdout) == {"output": str(file), "nodes": 5, "links": 4}
    topology = Topology.load(file)
    assert topology.links[0].forward.delay_ns == 5 * 10**6
    assert Topology.parse(yaml.safe_load(run(generate, "chain", 3, "--delay", "5ms").stdout)) == topology
    assert (
        Topology.parse(json.loads(run(generate, "chain", 3, "--delay", "5ms", "--json").stdout)) == topology
    )
    assert run(generate, "ring", 3, "--format", "msgpack").stdout_bytes.startswith(b"\x86\xa9manystack\x01")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chian", 3], "unknown kind"),
        (["grid", 3], "WIDTH HEIGHT"),
        (["chain", 3, "--delay", "5"], "delay: 5 has no unit: write 5ms"),
        (["chain", 3, "-o", "chain.xml"], "unknown format"),
    ],
)
def test_generate_refuses(arguments: list[object], said: str) -> None:
    result = run(generate, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
