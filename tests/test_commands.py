"""The commands `emu-run` and `emu`, as a user types them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from manystack.commands.emu import main as emu_command
from manystack.commands.probe import hop_line
from manystack.commands.run import main as run_command
from manystack.host.runtime import running

NAME = f"commands-{os.getpid()}"
RUN = [sys.executable, "-c", "from manystack.commands.run import main; main()"]


def document(**extra: Any) -> dict[str, Any]:
    """h1 - r1 - h2, 5 and 10 ms."""
    return {
        "manystack": 1,
        "name": NAME,
        "seed": 7,
        "routes": "shortest",
        "nodes": {
            "h1": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.10/24"]}}},
            "r1": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["10.0.0.1/24"]},
                    "eth1": {"addresses": ["192.168.0.1/24"]},
                },
            },
            "h2": {"kind": "host", "interfaces": {"eth0": {"addresses": ["192.168.0.2/24"]}}},
        },
        "links": [
            {"ends": ["h1.eth0", "r1.eth0"], "delay": "5ms"},
            {"ends": ["r1.eth1", "h2.eth0"], "delay": "10ms", "bandwidth": "10Mbit/s", "queue": "50packets"},
        ],
        **extra,
    }


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **extra: Any) -> Path:
    path = folder / "office.yaml"
    path.write_text(yaml.safe_dump(document(**extra)))
    return path


def emu(*arguments: str, exit_code: int = 0) -> str:
    """Run an `emu` verb in this process and return what it prints."""
    return checked(emu_command, arguments, exit_code).stdout


def emu_json(*arguments: str, exit_code: int = 0) -> Any:
    return json.loads(emu(*arguments, "--json", exit_code=exit_code))


def emu_run(*arguments: str | Path, exit_code: int = 0) -> Result:
    return checked(run_command, [str(argument) for argument in arguments], exit_code)


def checked(command: click.Command, arguments: Any, exit_code: int) -> Result:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result


@contextmanager
def network(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A network in a process of its own, from its first line on."""
    with subprocess.Popen(
        [*RUN, str(path), "--name", NAME, *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{NAME}: ")
            yield process
        finally:
            process.terminate()


PINGS = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "100ms", "count": 50}]


def test_a_virtual_run_prints_its_summary(tmp_path: Path) -> None:
    output = emu_run(written(tmp_path, traffic=PINGS), "--time", "virtual").stdout
    assert f"{NAME}: 3 nodes, 2 links, virtual time, seed 7" in output
    assert "ended: idle" in output
    (line,) = [line for line in output.splitlines() if line.startswith("ping h1 → h2, every 100ms")]
    assert line.split()[6:10] == ["50", "50", "0", "(0%)"]
    assert "The emulator itself lost nothing." in output


def test_two_virtual_runs_print_the_same_json_but_for_the_wall_clock(tmp_path: Path) -> None:
    udp = [{"kind": "udp", "from": "h1", "to": "h2", "rate": "20Mbit/s", "size": "1000B", "stop": "2s"}]
    path = written(tmp_path, traffic=[*PINGS, *udp])
    path.write_text(path.read_text().replace("delay: 5ms", "delay: 5ms\n  loss: 3%"))

    def one_run(*options: str) -> Any:
        summary = json.loads(emu_run(path, "--time", "virtual", "--json", *options).stdout)
        assert summary.pop("wall_ns") > 0
        return summary

    first = one_run()
    assert first["reproducible"] is True
    assert first["traffic"][1]["lost_packets"] > 2000  # half of it finds the queue full
    assert one_run() == first
    assert one_run("--seed", "8")["traffic"] != first["traffic"]


def test_a_duration_ends_a_run_in_time(topology: Path) -> None:
    virtual = json.loads(emu_run(topology, "--time", "virtual", "--duration", "90s", "--json").stdout)
    assert (virtual["ended"], virtual["emulated_ns"]) == ("duration", 90_000_000_000)
    real = json.loads(emu_run(topology, "--duration", "20ms", "--json").stdout)
    assert real["ended"] == "duration"
    assert real["emulated_ns"] >= 20_000_000
    assert real["reproducible"] is False
    dilated = json.loads(emu_run(topology, "--time", "x5", "--duration", "10ms", "--json").stdout)
    assert dilated["time"] == "x5"
    assert dilated["wall_ns"] >= 50_000_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("time", ["real", "virtual"])
def test_a_signal_ends_a_run_with_its_summary(tmp_path: Path, number: signal.Signals, time: str) -> None:
    endless = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "100ms"}]
    with network(written(tmp_path, traffic=endless), "--time", time) as process:
        process.send_signal(number)
        output, _ = process.communicate()
    assert process.returncode == 0
    assert f"ended: {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}" in output
    assert "ping h1 → h2" in output
    assert NAME not in emu("ps")


IMPORTING = """
import signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "manystack.engine":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
sys.meta_path.insert(0, Interrupting())
from manystack.commands.entry import emu_run
emu_run()
"""


def test_ctrl_c_during_imports_is_quiet(topology: Path) -> None:
    command = [sys.executable, "-c", IMPORTING, str(topology), "--duration", "1ms"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (130, "")


@pytest.mark.parametrize(
    "where",
    ["manystack.topology.Topology.load", "manystack.network.wire", "manystack.engine.Engine._open_captures"],
)
def test_ctrl_c_before_a_run_has_begun_is_quiet_and_leaves_nothing(
    topology: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(where, interrupted)
    result = emu_run(topology, "--name", NAME, exit_code=130)
    assert result.output == ""
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert NAME not in [network.name for network in running()]


def test_the_verbs_on_a_running_network(topology: Path) -> None:
    with network(topology):
        assert NAME in emu("ps")
        (listed,) = emu_json("ps", "--name", NAME)
        assert (listed["time"], listed["nodes"], listed["links"]) == ("real", 3, 2)

        lines = emu("ping", "h1", "h2", "-c", "2", "-i", "10ms", "--name", NAME).splitlines()
        assert lines[0] == "PING 192.168.0.2 from h1: 56 bytes of data."
        assert lines[1].startswith("64 bytes from 192.168.0.2: icmp_seq=1 ttl=254 time=")
        assert "2 packets transmitted, 2 received, 0% packet loss" in lines[-2]
        assert lines[-1].startswith("rtt min/avg/max/mdev = ")

        lines = emu("traceroute", "h1", "192.168.0.2", "--name", NAME).splitlines()
        assert [line.split()[:2] for line in lines[1:]] == [["1", "10.0.0.1"], ["2", "192.168.0.2"]]
        assert lines[1].count(" ms") == 3

        emu("link", "set", "h1.eth0", "r1.eth0", "delay=20ms", "reverse.delay=30ms", "--name", NAME)
        assert "20ms" in emu("show", "links", "h1", "--name", NAME)
        assert emu_json("ping", "h1", "h2", "-c", "1", "--name", NAME)["replies"][0]["rtt_ns"] >= 70_000_000

        emu("link", "down", "r1.eth1", "h2.eth0", "--name", NAME)
        assert "down" in emu("show", "links", "h2", "--name", NAME)
        output = emu("ping", "r1", "h2", "-c", "1", "-W", "10ms", "--name", NAME, exit_code=1)
        assert "1 packets transmitted, 0 received, 100% packet loss" in output
        emu("link", "up", "r1.eth1", "h2.eth0", "--name", NAME)

        emu("route", "add", "r1", "10.9.0.0/16", "via", "192.168.0.2", "--name", NAME)
        routes = [line.split() for line in emu("show", "routes", "r1", "--name", NAME).splitlines()]
        assert ["r1", "10.9.0.0/16", "192.168.0.2", "r1.eth1", "gateway"] in routes
        emu("route", "del", "r1", "10.9.0.0/16", "--name", NAME)
        assert "10.9.0.0/16" not in emu("show", "routes", "r1", "--name", NAME)

        assert "192.168.0.1/24" in emu("show", "nodes", "--name", NAME)
        assert "10.0.0.10" in emu("show", "neighbors", "r1", "--name", NAME)
        assert "r1.eth0" in emu("show", "stats", "r1", "--name", NAME)


def test_a_ping_without_end_ends_on_ctrl_c_with_its_statistics(topology: Path) -> None:
    command = "from manystack.commands.emu import main; main()"
    with network(topology):
        arguments = ["ping", "h1", "h2", "-i", "20ms", "--name", NAME]
        with subprocess.Popen(
            [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, text=True
        ) as ping:
            assert ping.stdout is not None
            assert ping.stdout.readline().startswith("PING 192.168.0.2 from h1")
            for number in (1, 2, 3):
                assert f"icmp_seq={number} " in ping.stdout.readline()
            ping.send_signal(signal.SIGINT)
            output, _ = ping.communicate()
        assert ping.returncode == 0
        assert "rtt min/avg/max/mdev = " in output
        assert emu_json("ps", "--name", NAME)


def test_every_verb_speaks_json(topology: Path) -> None:
    with network(topology):
        for verb in (
            ["ps"],
            *(["show", what] for what in ("nodes", "links", "routes", "neighbors", "stats")),
        ):
            assert emu_json(*verb, "--name", NAME)
        assert emu_json("traceroute", "h1", "h2", "--name", NAME)["hops"]
        changed = emu_json("link", "set", "h1", "r1.eth0", "loss=1%", "--name", NAME)
        assert changed["forward"]["loss"] == 0.01
        for verb in ("down", "up"):
            assert emu_json("link", verb, "h1", "r1.eth0", "--name", NAME)["up"] is (verb == "up")
        for verb in (["add", "h1", "10.1.0.0/16", "via", "10.0.0.1"], ["del", "h1", "10.1.0.0/16"]):
            assert emu_json("route", *verb, "--name", NAME)["h1"]
        assert emu_json("stop", "--name", NAME)["name"] == NAME


def test_stop_waits_until_nothing_is_left(topology: Path) -> None:
    with network(topology) as process:
        emu("stop", "--name", NAME)
        output, _ = process.communicate()
        assert "ended: stopped" in output
        assert NAME not in emu("ps")
        assert "no network named" in checked(emu_command, ["stop", "--name", NAME], 1).stderr


def test_watch_prints_events_as_they_happen(topology: Path) -> None:
    arguments = ["-c", "from manystack.commands.emu import main; main()", "watch", "--json", "--name", NAME]
    with network(topology) as process:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
        ) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["kind"] == "watching"
            emu("link", "set", "h1.eth0", "r1.eth0", "delay=1ms", "--name", NAME)
            emu("link", "down", "h1.eth0", "r1.eth0", "--name", NAME)
            events = [json.loads(watching.stdout.readline()) for _ in range(2)]
            assert [event["kind"] for event in events] == ["link-set", "link-down"]
            assert events[0]["detail"] == "delay=1ms"
            process.terminate()
            assert watching.wait() == 0


def test_a_change_under_a_virtual_run_marks_it(tmp_path: Path) -> None:
    endless = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "100ms"}]
    with network(written(tmp_path, traffic=endless), "--time", "virtual") as process:
        lines = emu("ping", "h2", "h1", "--name", NAME).splitlines()
        assert len([line for line in lines if line.startswith("64 bytes from 10.0.0.10")]) == 4
        emu("link", "set", "h1.eth0", "r1.eth0", "delay=6ms", "--name", NAME)
        assert emu_json("ping", "h1", "h2", "-c", "1", "--name", NAME)["replies"][0]["rtt_ns"] >= 32_000_000
        process.terminate()
        output, _ = process.communicate()
    assert "not reproducible: changed from outside (ping h2 h1" in output
    assert "link set h1.eth0 r1.eth0 at " in output


def test_a_killed_run_leaves_nothing_that_stops_the_next(topology: Path) -> None:
    with network(topology) as process:
        process.kill()
        process.wait()
    with network(topology):
        assert len([line for line in emu("ps").splitlines() if line.startswith(NAME)]) == 1


def test_a_name_that_is_taken_is_refused_before_anything_starts(topology: Path) -> None:
    with network(topology) as process:
        second = subprocess.run(
            [*RUN, str(topology), "--name", NAME], capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert f"already running as process {process.pid}" in second.stderr
        assert second.stdout == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "2"], "not in this version"),
        (["--duration", "10"], "--duration"),
        (["--time", "fast"], "real, virtual"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**64)], "--seed"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_options_of_emu_run_are_exit_code_2(topology: Path, options: list[str], words: str) -> None:
    result = emu_run(topology, *options, exit_code=2)
    assert words in result.stderr
    assert result.stdout == ""


def test_a_bad_topology_is_exit_code_2_with_every_mistake(tmp_path: Path) -> None:
    path = written(tmp_path, seed="seven", routes="longest")
    result = emu_run(path, exit_code=2)
    assert f"{path}: seed: " in result.stderr
    assert f"{path}: routes: " in result.stderr
    assert len(json.loads(emu_run(path, "--json", exit_code=2).stdout)["errors"]) == 2
    result = emu_run(tmp_path / "nothing.yaml", exit_code=2)
    assert (result.stdout, result.stderr) == ("", f"{tmp_path / 'nothing.yaml'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("verb", "exit_code", "words"),
    [
        (["exec", "h1", "--", "true"], 2, "not in this version"),
        (["diff", "a", "b"], 2, "a: No such file or directory"),
        (["show", "daemons"], 2, "not in this version"),
        (["dance"], 2, "dance"),
        (["ping", "h1"], 2, "ADDRESS"),
        (["ping", "h1", "h2", "-c", "0"], 2, "--count"),
        (["show", "nodes", "--name", "no-such-network"], 1, "no network named 'no-such-network'"),
    ],
)
def test_wrong_use_of_emu(verb: list[str], exit_code: int, words: str) -> None:
    assert words in checked(emu_command, verb, exit_code).stderr


def test_what_a_network_refuses_comes_back_with_its_exit_code(topology: Path) -> None:
    with network(topology):
        for verb, words in (
            (["show", "routes", "h7"], "no node 'h7'"),
            (["link", "set", "h1", "r1.eth0", "delay=5"], "delay"),
            (["link", "set", "h1", "r1.eth0", "delay"], "KEY=VALUE"),
            (["link", "set", "h1", "r1.eth0", "delay=1ms", "delay=2ms"], "delay is there twice: 1ms and 2ms"),
            (["link", "set", "h1", "r1.eth0", "self=1"], "unknown key 'self'"),
            (["link", "set", "h1", "r1.eth0", "forward=1"], "for example forward.delay=20ms"),
            (["link", "set", "h1", "r1.eth0", "reverse.dealy=1"], "reverse.dealy: unknown key 'dealy'"),
            (
                ["link", "set", "h1", "r1", "delay=1ms"],
                "r1 has more than one interface: name one of r1.eth0",
            ),
            (["route", "add", "h1", "10.0.0.0/8", "over", "10.0.0.1"], "via ADDRESS"),
            (["route", "del", "h1", "10.77.0.0/16"], "no route"),
            (["ping", "h1", "10.0.0.300"], "neither an IPv4 address nor a node"),
            (["ping", "h1", "h2", "-s", "2000B"], "size: 2000B make a packet of 2028 bytes"),
            (["route", "add", "h1", "10.0.0.0/33"], "prefix length '33' is impossible"),
            (["route", "add", "h1", "10.1.0.0/16", "via", "r1"], "via: 'r1' is not an IPv4 address"),
        ):
            assert words in checked(emu_command, [*verb, "--name", NAME], 2).stderr


def test_a_traceroute_reads_as_people_know_it() -> None:
    def probe(responder: str, rtt_ns: int, icmp_type: int = 11, icmp_code: int = 0) -> dict[str, Any]:
        return {"responder": responder, "rtt_ns": rtt_ns, "icmp_type": icmp_type, "icmp_code": icmp_code}

    hops = [
        [probe("10.0.0.1", 1_000_000), probe("10.0.0.1", 1_100_000), probe("10.0.0.2", 900_000)],
        [None, None, None],
        [None, probe("10.0.2.1", 12_345_678), None],
        [
            probe("10.0.3.1", 20_000_000, 3, 1),
            probe("10.0.3.1", 20_000_000, 3, 13),
            probe("10.0.3.1", 1, 3, 9),
        ],
    ]
    assert [hop_line({"ttl": ttl, "probes": probes}) for ttl, probes in enumerate(hops, 9)] == [
        " 9  10.0.0.1  1.000 ms  1.100 ms 10.0.0.2  0.900 ms",
        "10  * * *",
        "11  * 10.0.2.1  12.346 ms *",
        "12  10.0.3.1  20.000 ms !H  20.000 ms !X  0.000 ms !<9>",
    ]


def test_help_names_every_verb() -> None:
    output = emu("--help")
    for verb in (
        "ps",
        "stop",
        "check",
        "convert",
        "generate",
        "show",
        "watch",
        "ping",
        "traceroute",
        "link",
        "route",
    ):
        assert f"  {verb} " in output


def test_looking_at_a_network_does_not_wait_for_what_only_topologies_need() -> None:
    code = "import sys, manystack.commands.show; sys.exit('networkx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
