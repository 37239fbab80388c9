"""Captures: files that Wireshark reads without a word, the same bytes each time, and undisturbed packets."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from captured import EMU, blocks, document, options, outside, read, tshark
from hypothesis import given, settings
from hypothesis import strategies as st

from manystack import Engine, Topology
from manystack.control.client import Client, find
from manystack.core import _switch as core
from manystack.errors import UsageError
from manystack.record import pcapng
from manystack.record.capture import Capture
from manystack.record.pcapng import Interface, Packet
from manystack.topology import TopologyError

NAME = f"capture-{os.getpid()}"
PINGS = 20


def run(folder: Path, *captures: dict[str, Any], **more: Any) -> Engine:
    """Run it to its end in virtual time, with files in `folder`."""
    entries = [capture | {"file": str(folder / capture["file"])} for capture in captures]
    with Engine(Topology.parse(document(capture=entries, **more)), run_hash=True) as engine:
        engine.run()
        engine.outcome = engine.summary().run_hash  # type: ignore[attr-defined]
    return engine


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.builds(
            Packet,
            st.integers(0, 2**63),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            st.sampled_from([1, 2]),
            st.text(st.characters(codec="utf-8"), max_size=20),
            st.binary(max_size=70),
        )
    )
)
def test_what_is_written_is_read_again(found: list[Packet]) -> None:
    assert read(pcapng.packets(found)) == found


def test_a_head_and_statistics_say_what_they_should() -> None:
    interfaces = [Interface("h1.eth0", "host h1", 96, bytes(range(6))), Interface("sw.port1", "", 65664)]
    data = pcapng.head("test 1", interfaces) + pcapng.statistics(1, 5, 2**40 + 7, 10, 3)
    (first, section), (_, one), (_, two), (last, numbers) = blocks(data)
    assert (first, section[:16]) == (0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    assert options(section[16:]) == {4: b"test 1"}
    assert struct.unpack_from("<HHI", one) == (1, 0, 96)
    assert options(one[8:]) == {2: b"h1.eth0", 3: b"host h1", 6: bytes(range(6)), 9: b"\x09"}
    assert options(two[8:]) == {2: b"sw.port1", 3: b"", 9: b"\x09"}
    assert (last, struct.unpack_from("<III", numbers)) == (5, (1, 2**8, 7))
    assert options(numbers[12:]) == {
        2: struct.pack("<II", 0, 5),
        3: struct.pack("<II", 2**8, 7),
        4: struct.pack("<Q", 10),
        5: struct.pack("<Q", 3),
    }


def test_tshark_reads_a_whole_network_in_one_file(tmp_path: Path) -> None:
    run(tmp_path, {"file": "all.pcapng"})
    file = tmp_path / "all.pcapng"
    told = subprocess.run(["capinfos", str(file)], capture_output=True, text=True, check=True)
    assert told.stderr == ""
    assert "Strict time order:   True" in told.stdout
    assert told.stdout.count("Time precision = nanoseconds (9)") == 4
    reply = tshark(
        file,
        "frame.time_epoch",
        "frame.interface_name",
        "frame.interface_description",
        "frame.packet_id",
        "frame.packet_flags_direction",
        only="icmp.seq == 2 and icmp.type == 8",
    )
    # h1 sends at 2 s; 5 ms to the router; 98 bytes at 8 Mbit/s and 3 ms to h2.
    times = ["2.000000000", "2.005000000", "2.005000000", "2.008098000"]
    assert [row[0] for row in reply] == times
    assert [row[1] for row in reply] == ["h1.eth0", "r.eth0", "r.eth1", "h2.eth0"]
    assert reply[1][2] == "router r, linked to h1.eth0"
    assert len({row[3] for row in reply}) == 1
    assert [int(row[4], 16) for row in reply] == [2, 1, 2, 1]
    experts = subprocess.run(
        [
            *("tshark", "-r", str(file), "-q", "-z", "expert,warn"),
            *("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Errors" not in experts.stdout and "Warn" not in experts.stdout


def test_drops_are_comments(tmp_path: Path) -> None:
    engine = run(tmp_path, {"file": "r.pcapng", "interfaces": ["r"]})
    rows = tshark(tmp_path / "r.pcapng", "frame.interface_name", "frame.comment", only="frame.comment")
    assert ["r.eth0", "dropped: ip4_no_route"] in rows
    queue_full = [row for row in rows if row == ["r.eth1", "dropped: queue_full"]]
    assert len(queue_full) > 10
    assert len(queue_full) + 1 == len(rows)
    assert engine.captures.all[0].lost_packets == 0


def test_a_snap_length_and_a_choice_of_interfaces(tmp_path: Path) -> None:
    run(
        tmp_path,
        {"file": "all.pcapng"},
        {"file": "some.pcapng", "interfaces": ["h2", "r.eth1"], "snap_length": "60B"},
    )
    whole, some = (read((tmp_path / name).read_bytes()) for name in ("all.pcapng", "some.pcapng"))
    names = {0: "h1.eth0", 1: "r.eth0", 2: "r.eth1", 3: "h2.eth0"}
    numbers = {"h2.eth0": 0, "r.eth1": 1}
    assert some == [
        packet._replace(interface=numbers[names[packet.interface]], frame=packet.frame[:60])
        for packet in whole
        if names[packet.interface] in numbers
    ]


def test_a_virtual_run_gives_the_same_bytes_again_and_does_not_notice(tmp_path: Path) -> None:
    """Also with a ring that is read many times within the run, and beside a run that is not captured."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    first = run(one, {"file": "a.pcapng"})
    second = run(two, {"file": "a.pcapng"}, {"file": "b.pcapng", "interfaces": ["r"]})
    plain = run(tmp_path)
    assert (one / "a.pcapng").read_bytes() == (two / "a.pcapng").read_bytes()
    outcomes = {engine.outcome for engine in (first, second, plain)}  # type: ignore[attr-defined]
    assert len(outcomes) == 1


def test_a_capture_by_hand(tmp_path: Path) -> None:
    with Engine(Topology.parse(document())) as emu:
        emu.run("500ms")
        capture = emu.capture(tmp_path / "mine.pcapng", "h1", snap_length=64)
        emu.run("1s")
        capture.close()
        capture.close()
        before = capture.packets
        emu.run("1s")
        assert capture.packets == before > 0
        with pytest.raises(UsageError, match=r"no interface 'h1.eth9' in three \(did you mean h1.eth0"):
            emu.capture(tmp_path / "x", "h1.eth9")
        with pytest.raises(UsageError, match="No such file or directory"):
            emu.capture(tmp_path / "nowhere" / "x", "h1")
        with pytest.raises(UsageError, match="snap length 0B: allowed are 1B to 65664B"):
            emu.capture(tmp_path / "x", "h1", snap_length=0)
    packets = read((tmp_path / "mine.pcapng").read_bytes())
    assert len(packets) == before
    assert all(packet.time_ns >= 500_000_000 and len(packet.frame) <= 64 for packet in packets)


def test_a_full_disk_ends_the_capture_and_not_the_network(tmp_path: Path) -> None:
    document_ = document(capture=[{"file": "/dev/full"}])
    with pytest.raises(TopologyError, match=r"capture\[0\]: cannot write /dev/full: No space left"):
        Engine(Topology.parse(document_)).start()
    # A limit on the size of files, half of what there is to write.
    run(tmp_path, {"file": "whole.pcapng"})
    whole = (tmp_path / "whole.pcapng").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    events = []
    entries = [{"file": str(tmp_path / "part.pcapng")}]
    try:
        with Engine(Topology.parse(document(capture=entries))) as emu:
            emu.subscribe(events.append)
            emu.run("1100ms")
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            emu.run()
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            capture = emu.captures.all[0]
            assert emu.node("h2").statistics().interfaces[0].rx_packets > 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert capture.error == "File too large"
    ended = [str(event) for event in events if event.kind == "capture-ended"]
    assert ended == [
        f"capture-ended {entries[0]['file']} File too large, after {capture.packets} packets; "
        "the network goes on"
    ]
    part = (tmp_path / "part.pcapng").read_bytes()
    assert whole.startswith(part) and len(read(part)) == capture.packets > 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "a", "interfaces": ["h1.eth7"]}, r"capture\[0\].interfaces\[0\]: no node or interface"),
        ({"file": "a", "interfaces": ["h3"]}, r"capture\[0\].interfaces\[0\]: no node or interface"),
        ({"interfaces": ["h1"]}, r"capture\[0\].file"),
        ({"file": "a", "snap_length": 96}, r"capture\[0\].snap_length"),
        ({"file": "a", "snap_length": "0B"}, "a snap length is 1B to 65664B"),
        ({"file": "a", "interface": "h1"}, r"capture\[0\].interface"),
    ],
)
def test_a_mistake_in_the_topology_has_its_place(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        Topology.parse(document(capture=[entry]))


def test_a_file_is_written_once_and_the_document_comes_back() -> None:
    with pytest.raises(TopologyError, match=r"capture\[1\].file: a is written already, by capture\[0\]"):
        Topology.parse(document(capture=[{"file": "a"}, {"file": "a"}]))
    entries = [{"file": "a"}, {"file": "b", "interfaces": ["r", "h1.eth0"], "snap_length": "96B"}]
    topology = Topology.parse(document(capture=entries))
    assert topology.dump()["capture"] == entries
    assert Topology.parse(topology.dump(defaults=True)) == topology


# Beside a network that runs in real time.


@pytest.fixture
def real() -> Iterator[Engine]:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "5ms"}]
    topology = Topology.parse(document(traffic=traffic, time="real"))
    with Engine(topology, name=NAME) as emu:
        yield emu


def emu_capture(*arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*EMU, "capture", "--name", NAME, *arguments], stderr=subprocess.PIPE, **options)


def send_pings(client: Client) -> None:
    """Have `PINGS` requests answered; the first lets neighbors find each other: few may wait for that."""
    for count in (1, PINGS):
        ping = {"node": "h1", "destination": "h2", "count": count, "interval": "1ms"}
        assert client.call("ping", **ping)["received_packets"] == count


def test_a_file_in_real_time_has_true_dates(real: Engine, tmp_path: Path) -> None:
    file = tmp_path / "real.pcapng"
    begun = time.time_ns()
    capture = real.capture(file, "r")
    real.run("300ms")
    capture.close()
    packets = read(file.read_bytes())
    assert len(packets) == capture.packets > 50
    assert [p.time_ns for p in packets] == sorted(p.time_ns for p in packets)
    assert all(begun - 10**9 < p.time_ns <= time.time_ns() for p in packets)
    ids = [p.packet_id for p in packets]
    assert all(ids.count(packet_id) <= 2 for packet_id in ids)
    assert len(tshark(file, "frame.number")) == len(packets)


def test_a_viewer_sees_packets_as_they_come(real: Engine) -> None:
    def watch() -> list[bytes]:
        lines = []
        with emu_capture("r.eth0", stdout=subprocess.PIPE) as capture:
            viewer = subprocess.Popen(
                ["tshark", "-l", "-i", "-", "-c", "10"],
                stdin=capture.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert capture.stdout is not None
            capture.stdout.close()
            lines = viewer.communicate(timeout=60)[0].splitlines()
            _, told = capture.communicate(timeout=60)  # its reader has left
            assert (capture.returncode, told) == (0, b"")
        return lines

    assert len(outside(real, watch)) == 10


def test_a_capture_from_outside_ends_with_ctrl_c(
    real: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "live.pcapng"
    begun = threading.Event()
    add = real.captures.add

    def note(*arguments: Any) -> Capture:
        capture = add(*arguments)
        begun.set()
        return capture

    monkeypatch.setattr(real.captures, "add", note)

    def watch() -> tuple[int, str]:
        with emu_capture("r", "h1.eth0", "-w", str(file), "-s", "64B") as capture:
            assert begun.wait(60)
            with Client(find(NAME)) as client:
                send_pings(client)
            capture.send_signal(signal.SIGINT)
            _, told = capture.communicate(timeout=60)
        return capture.returncode, told.decode()

    exit_code, told = outside(real, watch)
    packets = read(file.read_bytes())
    assert (exit_code, told) == (0, f"captured {len(packets)} packets\n")
    assert (
        len(packets) >= 6 * PINGS
    )  # request and reply leave and enter h1, and enter and leave r on both sides
    kinds = [kind for kind, _ in blocks(file.read_bytes())]
    assert kinds.count(1) == kinds.count(5) == 3
    assert len(tshark(file, "frame.number")) == len(packets)


def test_a_stalled_reader_loses_packets_and_the_network_none(
    real: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manystack.control.stream.KEPT_BYTES", 2000)
    monkeypatch.setattr("manystack.control.server.PARTS_AHEAD", 1)

    def stall() -> int:
        with Client(find(NAME)) as client:
            # No part is ever answered with `more`.
            client._send({"id": 99, "op": "capture", "args": {"interfaces": ["r"]}})
            client._wait(60_000)
            assert client._take()["id"] == 99
            for _ in range(2):  # what passes first is kept, and then nothing
                send_pings(client)
                real.captures.drain()
            return real.captures.all[0].lost_packets

    assert outside(real, stall) >= 2 * PINGS
    assert real.switch.statistics()["pool_drop_packets"] == 0
    assert real.switch.lost_records(core.CAPTURE_RING) == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["h1.eth9"], 2, "no interface 'h1.eth9' in "),
        (["h1", "-s", "many"], 2, "many"),
        (["h1", "-w", "/nowhere/x"], 2, "cannot write /nowhere/x: No such file or directory"),
        (["h1", "-w", "/dev/full"], 1, "cannot write /dev/full: No space left on device"),
        (["h1", "--json"], 2, "-w"),
        ([], 2, "NODE.IFACE"),
    ],
)
def test_what_cannot_be_captured_is_said(
    real: Engine, arguments: list[str], exit_code: int, words: str
) -> None:
    def ask() -> tuple[int, str]:
        with emu_capture(*arguments, stdout=subprocess.DEVNULL) as capture:
            _, told = capture.communicate(timeout=60)
        return capture.returncode, told.decode()

    code, told = outside(real, ask)
    assert code == exit_code and words in told


def test_the_tools_that_prove_it_are_there() -> None:
    assert shutil.which("tshark") and shutil.which("capinfos")


def test_emu_run_tells_what_was_captured(tmp_path: Path) -> None:
    path = tmp_path / "three.json"
    path.write_text(
        json.dumps(document(capture=[{"file": str(tmp_path / "a.pcapng"), "interfaces": ["h1"]}]))
    )
    command = [sys.executable, "-c", "from manystack.commands.run import main; main()", str(path)]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    packets = len(read((tmp_path / "a.pcapng").read_bytes()))
    assert f"Captured {packets} packets in {tmp_path / 'a.pcapng'}." in plain.stdout
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert told["captures"] == [
        {
            "file": str(tmp_path / "a.pcapng"),
            "interfaces": ["h1.eth0"],
            "packets": packets,
            "lost_packets": 0,
            "error": None,
        }
    ]
