"""Event files and their comparison: the first difference of all, whatever the order and the damage."""

import json
import os
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner

from manystack import Engine, Topology
from manystack.commands.emu import main as emu_command
from manystack.commands.run import main as run_command
from manystack.errors import UsageError
from manystack.record.difference import compare
from manystack.record.eventfile import EventReader, UnreadableError, digest
from manystack.topology import TimeMode

Event = tuple[int, int]
"""Time in ns, packet hash."""

PIPES = ["a → b", "b → a", "b → c"]


def record(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), kind) + payload + bytes(-len(payload) % 8)


def arrival(pipe: int, event: Event) -> bytes:
    head = event[1].to_bytes(8, "little") * 4
    return record(1, struct.pack("<qQII", *event, pipe, len(head)) + head)


def written(
    path: Path, pipes: list[list[Event]], rng: random.Random, *, end: bool = True, **header: Any
) -> Path:
    """An event file with all arrivals, shuffled as far as each pipe's order and the marks allow."""
    told = {"version": 2, "time": "virtual", "seed": 1, "topology": "x", "pipes": PIPES, "nodes": []} | header
    data = bytearray(b"emu-evts" + record(0, msgpack.packb(told)))
    left = [list(events) for events in pipes]
    while any(left):
        pipe = rng.choice([number for number, events in enumerate(left) if events])
        data += arrival(pipe, left[pipe].pop(0))
        if any(left) and rng.random() < 0.3:
            data += record(2, struct.pack("<q", min(events[0][0] for events in left if events)))
    if end:
        data += record(3, msgpack.packb({"ended_ns": 10**9, "lost": 0}))
    path.write_bytes(data)
    return path


def random_pipes(rng: random.Random) -> list[list[Event]]:
    return [sorted((rng.randrange(50), rng.getrandbits(64)) for _ in range(rng.randrange(30))) for _ in PIPES]


def planted(pipes: list[list[Event]], rng: random.Random) -> list[list[Event]]:
    """The same with some differences."""
    changed = [list(events) for events in pipes]
    for _ in range(rng.randrange(1, 4)):
        events = rng.choice(changed)
        place = rng.randrange(len(events) + 1)
        kind = rng.choice(["insert", "delete", "time", "bytes", "cut"])
        if kind == "insert" or place == len(events):
            earliest = events[place - 1][0] if place else 0
            events.insert(place, (earliest, 2**64 - 1))
        elif kind == "delete":
            del events[place]
        elif kind == "cut":
            del events[place:]
        elif kind == "bytes":
            events[place] = events[place][0], 2**64 - 2
        else:
            latest = events[place + 1][0] if place + 1 < len(events) else 60
            events[place] = latest, events[place][1]
    return changed


def first_difference(one: list[list[Event]], other: list[list[Event]]) -> tuple[int, str, int] | None:
    """Time, link and number, found the slow way."""
    found = []
    for name, a, b in zip(PIPES, one, other, strict=True):
        for number in range(max(len(a), len(b))):
            here = [events[number] for events in (a, b) if number < len(events)]
            if len(here) < 2 or here[0] != here[1]:
                found.append((min(time_ns for time_ns, _ in here), name, number + 1))
                break
    return min(found, default=None)


def test_the_first_difference_is_found_whatever_the_order(tmp_path: Path) -> None:
    rng = random.Random(20261124)
    for _ in range(400):
        one = random_pipes(rng)
        other = planted(one, rng)
        for pair in ((one, other), (other, one)):
            files = [written(tmp_path / name, pipes, rng) for name, pipes in zip("ab", pair, strict=True)]
            difference = compare(*files).difference
            expected = first_difference(*pair)
            if expected is None:
                assert difference is None
                continue
            assert difference is not None
            assert (difference.time_ns, difference.link, difference.number) == expected
            place = PIPES.index(difference.link), difference.number - 1
            for seen, pipes in zip(difference.runs, pair, strict=True):
                events = pipes[place[0]][place[1] : place[1] + 1]
                assert (seen is None) == (not events)
                if seen is not None:
                    assert [(seen.time_ns, int(seen.packet_hash, 16))] == events


def test_the_order_between_pipes_does_not_matter(tmp_path: Path) -> None:
    rng = random.Random(3)
    pipes = random_pipes(rng)
    files = [written(tmp_path / f"{number}", pipes, rng) for number in range(2)]
    assert files[0].read_bytes() != files[1].read_bytes()
    comparison = compare(*files)
    assert comparison.difference is None
    assert comparison.equal_arrivals == sum(map(len, pipes))
    assert comparison.notes == ()


def test_what_one_run_lacks_for_ever_is_not_kept_in_memory(tmp_path: Path) -> None:
    """One packet is missing; of the thousands behind it on the same link, only the first is kept."""
    rng = random.Random(4)
    events = [(time_ns, time_ns) for time_ns in range(20_000)]
    one = written(tmp_path / "one", [events, [], []], rng)
    other = written(tmp_path / "other", [[], events, []], rng)
    difference = compare(one, other).difference
    assert difference is not None
    assert (difference.time_ns, difference.link, difference.differs) == (0, "a → b", "missing")


def test_notes_tell_what_else_differs(tmp_path: Path) -> None:
    rng = random.Random(5)
    pipes = random_pipes(rng)
    one = written(tmp_path / "one", pipes, rng, end=False)
    other = written(tmp_path / "other", pipes, rng, seed=2, time="real", topology="y")
    assert compare(one, other).notes == (
        "the topologies differ",
        "the clocks differ: virtual and real",
        "the seeds differ: 1 and 2",
        "run 1 was cut off: its file has no end",
    )


def test_what_only_observes_is_no_part_of_a_network(tmp_path: Path) -> None:
    """Nor is what a run may have of its own, or where a file lies whose content counts."""
    files = [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"]
    for file, fates in zip(files, ("0 1 0", "0 1 0", "0 0 1"), strict=True):
        file.write_text(fates.replace(" ", "\n"))

    def lossy(file: Path, **more: Any) -> Topology:
        document = pair(**more)
        document["links"][0]["loss"] = {"trace": str(file)}
        return Topology.parse(document)

    one = digest(lossy(files[0]))
    assert digest(lossy(files[0], name="other", seed=9, capture=[{"file": "x.pcapng"}])) == one
    assert digest(lossy(files[1])) == one
    assert digest(lossy(files[2])) != one
    assert digest(lossy(files[0], traffic=[])) != one
    # Other clocks and seeds are told apart by the run itself.
    assert digest(lossy(files[0]).with_time(TimeMode.parse("x3"))) == one


def cut(data: bytes) -> bytes:
    return data[:30]


def with_wrong_signature(data: bytes) -> bytes:
    return b"emu-evtz" + data[8:]


def with_endless_record(data: bytes) -> bytes:
    return data + b"\xff" * 8


def with_unknown_kind(data: bytes) -> bytes:
    return data + record(9, b"")


def with_unknown_pipe(data: bytes) -> bytes:
    return data + arrival(3, (1, 1))


def with_short_arrival(data: bytes) -> bytes:
    return data + record(1, b"short")


def with_broken_end(data: bytes) -> bytes:
    return data + record(3, b"\xc1")


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        with_wrong_signature,
        with_endless_record,
        with_unknown_kind,
        with_unknown_pipe,
        with_short_arrival,
        with_broken_end,
    ],
)
def test_what_cannot_be_read_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rng = random.Random(6)
    good = written(tmp_path / "good", random_pipes(rng), rng, end=False)
    bad = tmp_path / "bad"
    bad.write_bytes(damage(good.read_bytes()))
    with pytest.raises(UnreadableError, match=r"bad: (not an event file|damaged)"):
        compare(good, bad)
    result = CliRunner().invoke(emu_command, ["diff", str(good), str(bad)])
    assert result.exit_code == 2
    assert result.output.startswith("error: ")


def test_other_versions_and_missing_files_are_named(tmp_path: Path) -> None:
    rng = random.Random(7)
    newer = written(tmp_path / "newer", random_pipes(rng), rng, version=3)
    with pytest.raises(UnreadableError, match="newer: version 3, not in this version"):
        EventReader(newer)
    with pytest.raises(UnreadableError, match="nowhere: No such file"):
        EventReader(tmp_path / "nowhere")


# Writing.


def pair(**extra: Any) -> dict[str, Any]:
    return {
        "manystack": 1,
        "name": "pair",
        "nodes": {
            name: {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{number}/24"]}}}
            for number, name in enumerate(("a", "b"), 1)
        },
        "links": [{"ends": ["a.eth0", "b.eth0"], "delay": "1ms"}],
        "traffic": [{"kind": "ping", "from": "a", "to": "b", "interval": "5ms", "count": 10}],
        **extra,
    }


@pytest.mark.parametrize("time", ["virtual", "real", "x2"])
def test_a_file_tells_every_arrival(tmp_path: Path, time: str) -> None:
    path = tmp_path / "events"
    with Engine(Topology.parse(pair()), time=time, seed=5, events=path) as emu:
        emu.run()
        summary = emu.summary()
    assert emu.event_file is not None and emu.event_file.is_complete
    reader = EventReader(path)
    assert reader.header["pipes"] == [pipe.name for pipe in summary.links]
    assert (reader.header["network"], reader.header["time"], reader.header["seed"]) == ("pair", time, 5)
    arrivals = list(reader.arrivals())
    assert reader.end == {"ended_ns": pytest.approx(emu.now_ns, abs=10**9), "lost": 0}
    for pipe in summary.links:
        mine = [arrival for arrival in arrivals if arrival.pipe == pipe.name]
        assert len(mine) == pipe.counters["delivered_packets"] > 10
        assert sum(arrival.total_bytes for arrival in mine) == pipe.counters["delivered_bytes"]
        assert [arrival.time_ns for arrival in mine] == sorted(arrival.time_ns for arrival in mine)
    reader.close()


def test_a_file_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    engine = Engine(Topology.parse(pair()), time="virtual", events=tmp_path / "nowhere" / "events")
    with pytest.raises(UsageError, match=r"events cannot be written to .*No such file or directory"):
        engine.start()


def test_a_named_pipe_holds_up_neither_start_nor_end_and_gives_a_late_reader_all(tmp_path: Path) -> None:
    pipe, copy = tmp_path / "pipe", tmp_path / "copy"
    os.mkfifo(pipe)
    with Engine(Topology.parse(pair()), time="real", events=pipe) as emu:
        emu.run("1ms")
    assert emu.event_file is not None and emu.event_file.is_cut_off
    assert emu.event_file.error == f"{pipe}: nobody has read it"
    with Engine(Topology.parse(pair()), time="virtual", events=pipe) as emu:
        emu.run()
        reader = subprocess.Popen(["dd", f"if={pipe}", f"of={copy}", "status=none"])
    assert reader.wait(60) == 0
    assert emu.event_file is not None and emu.event_file.is_complete
    with Engine(Topology.parse(pair()), time="virtual", events=tmp_path / "file") as emu:
        emu.run()
    comparison = compare(copy, tmp_path / "file")
    assert comparison.difference is None and comparison.equal_arrivals > 20 and comparison.notes == ()


def test_what_a_pipe_has_no_room_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manystack.record.sinks.KEPT_BYTES", 0)
    monkeypatch.setattr("manystack.record.sinks.PATIENCE_S", 0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Engine(Topology.parse(pair()), time="virtual", events=pipe) as emu:
        emu.run()
        delivered = sum(link.counters["delivered_packets"] for link in emu.summary().links)
    assert emu.event_file is not None
    assert emu.event_file.lost_records == delivered > 20


def test_a_full_disk_ends_the_file_and_not_the_network(tmp_path: Path) -> None:
    topology = tmp_path / "pair.json"
    topology.write_text(json.dumps(pair(time="virtual")))
    arguments = [str(topology), "--events", "/dev/full", "--name", tmp_path.name]
    result = CliRunner().invoke(run_command, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert "ended: idle" in result.output
    assert result.output.splitlines()[-1] == (
        "Events were not written to the end: /dev/full: No space left on device"
    )
    result = CliRunner().invoke(run_command, [*arguments, "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert told["traffic"][0]["received_packets"] == 10
    assert told["events"]["complete"] is False
    assert told["events"]["error"] == "/dev/full: No space left on device"
