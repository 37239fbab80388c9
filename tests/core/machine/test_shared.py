"""Tables that pipes share: made once, held as long as anybody needs them, and counted with each node."""

from itertools import pairwise
from pathlib import Path
from resource import getpagesize
from typing import Any

import pytest
from timeline import MILLISECOND, SECOND, Wire, numbered

from manystack.core import Switch

pytestmark = pytest.mark.engine

POINTS = 1 << 15
TABLE_BYTES = 16 * POINTS


def spread(points: int, widest_ns: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    return (
        tuple(i / (points - 1) for i in range(points)),
        tuple(widest_ns * i // (points - 1) for i in range(points)),
    )


def told(switch: Switch, pipe: int, shaping: Any) -> None:
    bandwidth_bps = 0 if {"rates", "opportunities"} & shaping.keys() else SECOND
    switch.set_pipe(pipe, bandwidth_bps=bandwidth_bps, shaping=shaping)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def frames(wire: Wire, count: int = 50) -> list[tuple[int, bytes]]:
    """What arrives of so many frames that are sent now, by when the line is empty."""
    now_ns = wire.switch.now_ns
    for number in range(count):
        wire.switch.inject(wire.near, numbered(number, 100))
    return [(time_ns - now_ns, frame) for time_ns, frame in wire.arrivals(now_ns + 10 * SECOND)]


TABLES: list[dict[str, Any]] = [
    {"airtime": spread(50, 900)},
    {"jitter": spread(50, 900)},
    {"slots": spread(50, 90_000)},
    {
        "jitter": spread(9, 900),
        "slots": spread(9, 900),
        "loss_model": "recorded",
        "loss_fates": bytes([0, 1, 0]),
    },
    {"rates": ((0, 300, 700), (SECOND, 3 * SECOND, 7 * SECOND), 1000)},
    {"opportunities": ((0, 300, 700), 1500, 1000)},
]


def as_lists(shaping: dict[str, Any]) -> dict[str, Any]:
    """The same, told by what may change and so is never remembered."""
    return {
        key: tuple(list(part) if isinstance(part, tuple) else part for part in value)
        if isinstance(value, tuple)
        else bytearray(value)
        if isinstance(value, bytes)
        else value
        for key, value in shaping.items()
    }


def test_pipes_that_are_told_the_same_share_it() -> None:
    """Two hundred pipes: 100 MiB of tables, were they their own."""
    switch = Switch()
    wires = [Wire(seed, seed, switch) for seed in range(100)]
    points = spread(POINTS, MILLISECOND)
    told(switch, wires[0].pipe, {"jitter": points})
    before = resident_bytes()
    for wire in wires:
        for pipe in (wire.pipe, wire.back):
            told(switch, pipe, {"jitter": points})
    assert resident_bytes() - before < 200 * TABLE_BYTES / 4
    switch.close()


@pytest.mark.parametrize("shaping", TABLES, ids=lambda shaping: "+".join(shaping))
def test_shared_tables_do_what_own_ones_do(shaping: dict[str, Any]) -> None:
    """Three pipes of a switch share tables; two let go of them, which the third does not notice."""
    alone = Wire(7)
    told(alone.switch, alone.pipe, as_lists(shaping))
    switch = Switch()
    first, second, third = (Wire(7, 8, switch) for _ in range(3))
    for wire in (first, second, third):
        told(switch, wire.pipe, shaping)
    expected = frames(alone)
    assert len(expected) >= 30
    assert frames(first) == expected
    told(switch, first.pipe, {"duplicate": 0.5})
    told(switch, second.pipe, {"jitter": ((0.0,), (5,))})
    assert len(frames(second)) == 50
    switch.run(20 * SECOND + switch.now_ns)
    third_alone = Wire(7)
    third_alone.switch.run(switch.now_ns)
    told(third_alone.switch, third_alone.pipe, as_lists(shaping))
    assert frames(third) == frames(third_alone)
    switch.close()
    alone.switch.close()
    third_alone.switch.close()


def test_a_new_object_in_an_old_ones_place_is_not_taken_for_it() -> None:
    """Each tuple is gone before the next is made, mostly at the same address."""
    wire = Wire()
    for delay_ns in range(1000, 1400):
        told(wire.switch, wire.pipe, {"jitter": (tuple([0.0]), tuple([delay_ns]))})
        assert frames(wire, 1) == [(800 + delay_ns, numbered(0, 100))]
    wire.switch.close()


def test_more_tables_than_are_remembered() -> None:
    switch = Switch()
    wires = [Wire(seed, seed, switch) for seed in range(300)]
    for number, wire in enumerate(wires):
        told(switch, wire.pipe, {"jitter": ((0.0,), (1000 + number,))})
    for number, wire in enumerate(wires):
        switch.inject(wire.near, numbered(number, 100))
    switch.run(SECOND)
    for number, wire in enumerate(wires):
        assert switch.take_frames(wire.far) == [(1800 + number, numbered(number, 100))]
    switch.close()


def test_tables_that_nobody_needs_any_more_are_freed() -> None:
    """Forty tables of 16 MiB, replaced or never taken; a sanitized build frees 256 MiB late."""
    wire = Wire()
    before = resident_bytes()
    for number in range(20):
        recorded: dict[str, Any] = {"loss_model": "recorded", "loss_fates": bytes([number]) * (1 << 24)}
        told(wire.switch, wire.pipe, recorded)
        with pytest.raises(ValueError, match="slots_packets"):
            told(wire.switch, wire.pipe, recorded | {"loss_fates": bytes(1 << 24), "slots_packets": -1})
    assert resident_bytes() - before < 400 << 20
    wire.switch.close()


def test_a_nodes_memory_counts_what_its_pipes_hold() -> None:
    wire = Wire()
    switch = wire.switch
    points = spread(POINTS, MILLISECOND)
    steps: list[tuple[dict[str, Any], int]] = [
        ({}, 500),
        ({"discipline": "drr", "flows": 1024}, 1024 * 60),
        ({"discipline": "wfq", "flows": 4096}, 4096 * 60),
        ({"discipline": "wfq", "flows": 4096, "jitter": points}, 4096 * 60 + TABLE_BYTES),
        (
            {"discipline": "wfq", "flows": 4096, "jitter": points, "slots": points},
            4096 * 60 + 2 * TABLE_BYTES,
        ),
        (
            {"discipline": "wfq", "flows": 4096, "jitter": points, "slots": points, "airtime": points},
            4096 * 60 + 3 * TABLE_BYTES,
        ),
    ]
    plain, far = switch.memory_bytes(wire.near), switch.memory_bytes(wire.far)
    taken = [plain]
    for shaping, least in steps:
        told(switch, wire.pipe, shaping)
        taken.append(switch.memory_bytes(wire.near))
        assert least < taken[-1] - plain < 3 * least + 1000
    assert all(less < more for less, more in pairwise(taken))
    # Another pipe's table is another node's memory, and the same in full.
    told(switch, wire.back, {"jitter": points})
    assert switch.memory_bytes(wire.near) == taken[-1]
    assert switch.memory_bytes(wire.far) - far > TABLE_BYTES
    switch.inject(wire.near, bytes(100), 10_000)
    assert switch.memory_bytes(wire.near) - taken[-1] >= 16 * 10_000
    told(switch, wire.pipe, {})
    assert switch.memory_bytes(wire.near) < taken[-1]
    switch.close()


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"rates": ((0,), (SECOND,), 0)}, {"rates": (tuple(range(POINTS)), (SECOND,) * POINTS, 0)}),
        ({"loss_fates": b"0"}, {"loss_fates": bytes(TABLE_BYTES)}),
    ],
    ids=["rates", "fates"],
)
def test_a_nodes_memory_counts_recordings(short: dict[str, Any], long: dict[str, Any]) -> None:
    wire = Wire()
    model = {"loss_model": "recorded"} if "loss_fates" in short else {}
    told(wire.switch, wire.pipe, {})
    before = wire.switch.memory_bytes(wire.near)
    told(wire.switch, wire.pipe, model | long)
    assert TABLE_BYTES < wire.switch.memory_bytes(wire.near) - before < TABLE_BYTES + 1000
    told(wire.switch, wire.pipe, model | short)
    assert wire.switch.memory_bytes(wire.near) < before + 1000
    wire.switch.close()
