"""Same topology, same seed, same run, to the last byte and nanosecond; and what differs is found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from manystack import Engine, Topology
from manystack.commands.emu import main as emu_command
from manystack.report.summary import Summary, summary_lines

OFFICE_HASH = "791b02cb104844761e77ea0c8aeda24d58ed8c2f4d8bf717826b19829512a6db"
"""Of the network below, whatever has built the engine. If it changes, so does every run of a user: say in the
commit what has changed in packets or in their times."""

RUN = [sys.executable, "-c", "from manystack.commands.run import main; main()"]


def office(**extra: Any) -> dict[str, Any]:
    """h1 and h2 behind a switch, two routers with a lossy slow link between them, h3 behind the second."""

    def host(address: str) -> dict[str, Any]:
        return {"kind": "host", "interfaces": {"eth0": {"addresses": [address]}}}

    return {
        "manystack": 1,
        "name": "office",
        "time": "virtual",
        "seed": 7,
        "routes": "shortest",
        "nodes": {
            "h1": host("10.0.0.11/24"),
            "h2": host("10.0.0.12/24"),
            "sw": {"kind": "switch"},
            "r1": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["10.0.0.1/24"]},
                    "eth1": {"addresses": ["192.168.0.1/30"]},
                },
            },
            "r2": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["192.168.0.2/30"]},
                    "eth1": {"addresses": ["10.0.1.1/24"]},
                },
            },
            "h3": host("10.0.1.13/24"),
        },
        "links": [
            {"ends": ["h1.eth0", "sw"], "bandwidth": "100Mbit/s"},
            {"ends": ["h2.eth0", "sw"], "delay": "100us"},
            {"ends": ["sw", "r1.eth0"]},
            {
                "ends": ["r1.eth1", "r2.eth0"],
                "bandwidth": "3Mbit/s",
                "overhead": "24B",
                "delay": "7ms",
                "loss": "2%",
                "queue": "20packets",
            },
            {"ends": ["r2.eth1", "h3.eth0"], "bandwidth": "10Mbit/s", "delay": "1ms"},
        ],
        "traffic": [
            {"kind": "ping", "from": "h1", "to": "h3", "interval": "20ms", "count": 50},
            {"kind": "ping", "from": "h3", "to": "10.0.0.99", "interval": "100ms", "count": 3},
            {"kind": "udp", "from": "h2", "to": "h3", "rate": "4Mbit/s", "size": "700B", "stop": "1s"},
            {"kind": "udp", "from": "h3", "to": "h1", "rate": "1Mbit/s", "size": "1400B", "stop": "500ms"},
        ],
        **extra,
    }


def network(**extra: Any) -> Topology:
    return Topology.parse(office(**extra))


def ran(topology: Topology, **options: Any) -> Summary:
    with Engine(topology, **options) as emu:
        emu.run("3s")
        return emu.summary()


@pytest.fixture(scope="module")
def office_run() -> Summary:
    return ran(network())


def traces(summary: Summary) -> dict[str, str | None]:
    return {pipe.name: pipe.hash for pipe in summary.links}


@pytest.mark.engine
def test_every_build_of_the_engine_gives_the_same_run(office_run: Summary) -> None:
    """The plain, the debug and the sanitized build run this test."""
    assert sum(pipe.counters["delivered_packets"] for pipe in office_run.links) > 2000
    assert all(pipe.hashed_packets for pipe in office_run.links)
    assert office_run.run_hash == OFFICE_HASH


@pytest.mark.engine
def test_twice_in_one_process(office_run: Summary) -> None:
    again = ran(network())
    assert traces(again) == traces(office_run)
    assert again.run_hash == office_run.run_hash


def test_however_the_run_is_cut_up(office_run: Summary) -> None:
    with Engine(network()) as emu:
        for _ in range(30):
            emu.run("100ms")
            emu.summary()
        assert emu.summary().run_hash == office_run.run_hash


def summary_of_process(folder: Path, hash_seed: str, *prefix: str) -> Any:
    """What `emu-run --json` prints in a fresh process with a folder and a hash seed of its own."""
    folder.mkdir()
    (folder / "office.yaml").write_text(yaml.safe_dump(office(), sort_keys=False))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(
        [*prefix, *RUN, "office.yaml", "--duration", "3s", "--json", "--name", f"office-{os.getpid()}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    summary = json.loads(run.stdout)
    del summary["wall_ns"]
    return summary


def test_two_fresh_processes(tmp_path: Path, office_run: Summary) -> None:
    one = summary_of_process(tmp_path / "one", "1")
    other = summary_of_process(tmp_path / "another place", "4242")
    assert one == other
    assert one["run_hash"] == office_run.run_hash


@pytest.mark.root
def test_another_host_name(tmp_path: Path, office_run: Summary) -> None:
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    summary = summary_of_process(tmp_path / "here", "0", *renamed)
    assert summary["run_hash"] == office_run.run_hash


def test_an_unconnected_node_changes_nothing_elsewhere(office_run: Summary) -> None:
    document = office()
    others = {"a0": document["nodes"]["h1"], "zz": {"kind": "switch"}}
    document["nodes"] = {"a0": others["a0"], **document["nodes"], "zz": others["zz"]}
    document["nodes"]["a0"] = {"kind": "host", "interfaces": {"eth0": {"addresses": ["172.16.0.1/24"]}}}
    summary = ran(Topology.parse(document))
    assert traces(summary) == traces(office_run)
    assert summary.run_hash == office_run.run_hash


def test_a_network_beside_it_changes_nothing_here(office_run: Summary) -> None:
    document = office()
    for name, address in (("a1", "172.16.0.1/24"), ("a2", "172.16.0.2/24")):
        node = {"kind": "host", "interfaces": {"eth0": {"addresses": [address]}}}
        document["nodes"] = {name: node, **document["nodes"]}
    document["links"].insert(0, {"ends": ["a1.eth0", "a2.eth0"], "delay": "1ms", "loss": "10%"})
    document["traffic"].append({"kind": "ping", "from": "a1", "to": "a2", "interval": "10ms"})
    summary = ran(Topology.parse(document))
    assert traces(summary).items() > traces(office_run).items()
    assert summary.run_hash != office_run.run_hash


def test_another_seed_differs(office_run: Summary) -> None:
    other = ran(network(), seed=8)
    assert other.run_hash != office_run.run_hash
    slow = "r1.eth1 → r2.eth0"
    assert traces(other)[slow] != traces(office_run)[slow]


def test_the_summary_tells_the_hash(office_run: Summary) -> None:
    assert f"run hash {office_run.run_hash}" in summary_lines(office_run)
    without = ran(network(), run_hash=False)
    assert without.run_hash is None
    assert {pipe.hash for pipe in without.links} == {None}
    assert not any("hash" in line for line in summary_lines(without))


# emu diff


def recorded(topology: Topology, path: Path, **options: Any) -> Summary:
    with Engine(topology, events=path, **options) as emu:
        emu.run("3s")
        summary = emu.summary()
    assert emu.event_file is not None and emu.event_file.is_complete
    return summary


def emu_diff(*arguments: str | Path, exit_code: int) -> str:
    result = CliRunner().invoke(emu_command, ["diff", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def test_diff_finds_two_runs_the_same(tmp_path: Path, office_run: Summary) -> None:
    one = recorded(network(), tmp_path / "one")
    recorded(network(), tmp_path / "two")
    assert one.run_hash == office_run.run_hash
    arrivals = sum(pipe.hashed_packets for pipe in one.links)
    assert emu_diff(tmp_path / "one", tmp_path / "two", exit_code=0) == (
        f"The runs are the same: {arrivals:,} arrivals.\n"
    )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_diff_finds_a_planted_difference(tmp_path: Path) -> None:
    """A link becomes slower by a nanosecond: the next packet that is sent over it is the first to differ."""
    for name, more_ns in (("one", 0), ("two", 1)):
        with Engine(network(), events=tmp_path / name) as emu:
            emu.run("444ms")
            before = emu.switch.pipe_proof(emu.wiring.links[4].pipes[0])[1]
            emu.link("r2.eth1", "h3.eth0").set(forward={"delay": f"{1_000_000 + more_ns}ns"})
            emu.run("1s")
    told = json.loads(emu_diff(tmp_path / "one", tmp_path / "two", "--json", exit_code=1))
    difference = told["difference"]
    assert difference["link"] == "r2.eth1 → h3.eth0"
    assert difference["differs"] == "time"
    first, second = difference["runs"]
    assert 444_000_000 < first["time_ns"] == difference["time_ns"]
    assert second["time_ns"] == first["time_ns"] + 1
    assert first["hash"] == second["hash"]
    assert before < difference["number"] <= before + 2  # what was under way arrives as it would have
    text = emu_diff(tmp_path / "one", tmp_path / "two", exit_code=1)
    assert text.startswith(f"The runs part at {first['time_ns'] / 1e6}ms: r2.eth1 → h3.eth0, packet ")
    assert first["packet"] in text
