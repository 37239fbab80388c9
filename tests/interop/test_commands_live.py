"""The commands on a network with real hosts behind it: what a user sees from both sides."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.root

NAME = f"live-{os.getpid()}"
LEFT, RIGHT = f"left{os.getpid()}", f"right{os.getpid()}"
RUN = [sys.executable, "-c", "from manystack.commands.run import main; main()"]
EMU = [sys.executable, "-c", "from manystack.commands.emu import main; main()"]


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """left - r1 - r2 - right, with 5 ms between the routers."""
    path = tmp_path / "live.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "manystack": 1,
                "name": "live",
                "routes": "shortest",
                "nodes": {
                    "left": tap(LEFT, "10.0.1.2/24", "10.0.1.1"),
                    "right": tap(RIGHT, "10.0.3.2/24", "10.0.3.1"),
                    "r1": router("10.0.1.1/24", "10.0.2.1/24"),
                    "r2": router("10.0.2.2/24", "10.0.3.1/24"),
                },
                "links": [
                    {"ends": ["left", "r1.eth0"]},
                    {"ends": ["r1.eth1", "r2.eth0"], "delay": "5ms"},
                    {"ends": ["r2.eth1", "right"]},
                ],
            }
        )
    )
    return path


def tap(namespace: str, address: str, gateway: str) -> dict[str, Any]:
    return {
        "kind": "tap",
        "device": "emu0",
        "namespace": namespace,
        "addresses": [address],
        "routes": [{"to": "default", "via": gateway}],
    }


def router(*addresses: str) -> dict[str, Any]:
    return {
        "kind": "router",
        "interfaces": {f"eth{i}": {"addresses": [address]} for i, address in enumerate(addresses)},
    }


@contextmanager
def network(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*RUN, str(path), "--name", NAME], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{NAME}: ")
            yield process
        finally:
            process.terminate()


def output_of(command: list[str], exit_code: int = 0) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == exit_code, result.stdout + result.stderr
    return result.stdout


def emu(*arguments: str, exit_code: int = 0) -> str:
    return output_of([*EMU, *arguments, "--name", NAME], exit_code)


def within(namespace: str, *command: str, exit_code: int = 0) -> str:
    return output_of(["ip", "netns", "exec", namespace, *command], exit_code)


def round_trips_ms(output: str) -> list[float]:
    return [float(found) for found in re.findall(r"time=([0-9.]+) ms", output)]


def carrier(namespace: str) -> bool:
    (link,) = json.loads(output_of(["ip", "-n", namespace, "-json", "link", "show", "emu0"]))
    return "NO-CARRIER" not in link["flags"]


def namespaces() -> set[str]:
    return {line.split()[0] for line in output_of(["ip", "netns", "list"]).splitlines()}


def test_real_and_virtual_nodes_reach_each_other(topology: Path) -> None:
    with network(topology) as process:
        assert all(
            rtt >= 10.0 for rtt in round_trips_ms(within(LEFT, "ping", "-c", "2", "-i", "0.1", "10.0.3.2"))
        )
        lines = within(LEFT, "traceroute", "-n", "-w", "1", "10.0.3.2").splitlines()
        assert [line.split()[1] for line in lines[1:]] == ["10.0.1.1", "10.0.2.2", "10.0.3.2"]
        lines = emu("ping", "r1", "right", "-c", "2", "-i", "10ms").splitlines()
        assert lines[1].startswith("64 bytes from 10.0.3.2: icmp_seq=1 ttl=63 time=")
        lines = emu("traceroute", "r1", "10.0.3.2").splitlines()
        assert [line.split()[1] for line in lines[1:]] == ["10.0.2.2", "10.0.3.2"]
        process.terminate()
        summary, _ = process.communicate()
    assert "The emulator itself lost nothing." in summary
    assert not {LEFT, RIGHT} & namespaces()


def test_link_set_shows_in_the_next_pings_of_a_real_host(topology: Path) -> None:
    with network(topology):
        within(LEFT, "ping", "-c", "1", "10.0.3.2")
        command = ["ip", "netns", "exec", LEFT, "ping", "-i", "0.1", "10.0.3.2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
            assert ping.stdout is not None
            before = next(rtt for line in ping.stdout for rtt in round_trips_ms(line))
            emu("link", "set", "r1.eth1", "r2.eth0", "delay=150ms")
            after = next(rtt for line in ping.stdout for rtt in round_trips_ms(line) if rtt >= 150.0)
            ping.terminate()
        assert 10.0 <= before < 150.0
        assert after >= 155.0  # this one may have been on its way at the change
        assert min(round_trips_ms(within(LEFT, "ping", "-c", "2", "-i", "0.1", "10.0.3.2"))) >= 300.0


def test_link_down_cuts_a_real_host_off_and_lowers_its_carrier(topology: Path) -> None:
    with network(topology):
        within(LEFT, "ping", "-c", "1", "10.0.3.2")
        assert carrier(LEFT)
        emu("link", "down", "left", "r1.eth0")
        assert not carrier(LEFT)
        assert carrier(RIGHT)
        within(RIGHT, "ping", "-c", "1", "-W", "0.2", "10.0.1.2", exit_code=1)
        emu("link", "up", "left", "r1.eth0")
        assert carrier(LEFT)
        within(RIGHT, "ping", "-c", "1", "10.0.1.2")


def test_kill_and_the_same_run_again(topology: Path) -> None:
    with network(topology) as process:
        assert {LEFT, RIGHT} <= namespaces()
        process.kill()
        process.wait()
    assert {LEFT, RIGHT} <= namespaces()
    with network(topology):
        within(LEFT, "ping", "-c", "1", "10.0.3.2")
        assert len([line for line in output_of([*EMU, "ps"]).splitlines() if line.startswith(NAME)]) == 1
        emu("stop")
    assert not {LEFT, RIGHT} & namespaces()


def test_a_device_that_is_taken_stops_the_start_and_leaves_nothing(topology: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(topology.read_text())
    document["nodes"]["right"]["namespace"] = LEFT  # where emu0 is by then
    twice = tmp_path / "twice.yaml"
    twice.write_text(yaml.safe_dump(document))
    result = subprocess.run([*RUN, str(twice), "--name", NAME], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "emu0" in result.stderr
    assert result.stdout == ""
    assert LEFT not in namespaces()


def test_a_start_in_another_pid_namespace_leaves_the_network_alone(topology: Path) -> None:
    lonely = topology.with_name("lonely.yaml")
    lonely.write_text(yaml.safe_dump({"manystack": 1, "name": "lonely", "nodes": {"h": {"kind": "host"}}}))
    inside = ["unshare", "--pid", "--fork", "--mount-proc"]
    start = [*inside, *RUN, str(lonely), "--time", "virtual", "--name"]
    with network(topology) as process:
        output_of([*start, NAME], exit_code=2)
        output_of([*start, f"other-{NAME}"])
        shown = json.loads(output_of([*inside, *EMU, "ps", "--name", NAME, "--json"]))
        assert [(about["name"], about["nodes"]) for about in shown] == [(NAME, 4)]
        output_of([*inside, *EMU, "ping", "r1", "10.0.3.2", "-c", "1", "--name", NAME])
        within(LEFT, "ping", "-c", "1", "10.0.3.2")
        process.kill()
        process.wait()
        assert {LEFT, RIGHT} <= namespaces()
        output_of([*start, NAME])
        assert not {LEFT, RIGHT} & namespaces()
