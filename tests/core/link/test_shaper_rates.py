"""Shaped pipes have no cliffs: the rate is exact at every speed, delay costs nothing and counts once."""

from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any

import pytest
from flows import flow_frame
from lab import TYPE_IP4, Lab, echo, ether, ip4, mac, udp
from shaped import Shaped
from timeline import MILLISECOND, SECOND, Shape, Wire, numbered

pytestmark = pytest.mark.engine

DISCIPLINES = ["droptail", "codel", "round_robin", "drr", "wfq", "qfq", "priority"]


@pytest.mark.parametrize(
    "shaping", [{}, {"cell_bytes": 48, "cell_overhead_bytes": 5}], ids=["frames", "cells"]
)
@pytest.mark.parametrize("length", [60, 98, 1514])
@pytest.mark.parametrize(
    "bandwidth_bps",
    [
        1000,
        9600,
        56_000,
        10_000_000,
        975_999_999,
        976_000_000,
        976_000_001,
        SECOND,
        2_488_320_000,
        25 * SECOND,
        400 * SECOND,
    ],
)
def test_the_rate_is_exact(bandwidth_bps: int, length: int, shaping: dict[str, Any]) -> None:
    """From 1 kbit/s to 400 Gbit/s; at 976 Mbit/s others' service times begin to be nothing."""
    wire = Wire()
    Shaped(Shape(bandwidth_bps=bandwidth_bps, overhead_bytes=24), shaping).apply(wire.switch, wire.pipe)
    bytes_ = length + 24
    if shaping:
        bytes_ = ceil(Fraction(bytes_, 48)) * 53
    service = Fraction(bytes_ * 8 * SECOND, bandwidth_bps)
    wire.switch.inject(wire.near, bytes(length), 1000)
    times = [time_ns for time_ns, _ in wire.arrivals(ceil(1000 * service))]
    assert times == [floor(k * service) for k in range(1, 1001)]
    wire.switch.close()


@pytest.mark.parametrize(
    "rates", [([0], [2 * SECOND], 0), ([0], [2 * SECOND], 7), ([0, 1000], [4 * SECOND, 0], 2000)]
)
def test_a_recorded_rate_is_exact(rates: tuple[list[int], list[int], int]) -> None:
    """Two of them are 2 Gbit/s however they are written; the third is in the mean."""
    wire = Wire()
    Shaped(Shape(), {"rates": rates}).apply(wire.switch, wire.pipe)
    wire.switch.inject(wire.near, bytes(250), 10_000)
    times = [time_ns for time_ns, _ in wire.arrivals(SECOND)]
    if len(rates[0]) == 1:
        assert times == [1000 * k for k in range(1, 10_001)]
    else:
        assert times == [1000 * k - (500 if k % 2 else 1000) for k in range(1, 10_001)]
    wire.switch.close()


@pytest.mark.parametrize(
    "shaping",
    [
        {},
        {"jitter": ([0.0], [0])},
        {"jitter": ([0.0], [0]), "jitter_overtakes": True},
        {"burst_bytes": 1514},
        {"discipline": "codel", "target_ns": 10**12, "interval_ns": 10**12},
    ],
    ids=["plain", "jitter", "overtakes", "burst", "codel"],
)
def test_delay_costs_no_throughput(shaping: dict[str, Any]) -> None:
    """Other emulators fall from 2 Gbit/s to 5 Mbit/s with 1 ms of delay."""
    frames = {}
    for delay_ns in (0, MILLISECOND):
        wire = Wire()
        Shaped(Shape(bandwidth_bps=2 * SECOND, delay_ns=delay_ns), shaping).apply(wire.switch, wire.pipe)
        wire.switch.inject(wire.near, bytes(1514), 20_000)
        frames[delay_ns] = [time_ns for time_ns, _ in wire.arrivals(SECOND)]
        wire.switch.close()
    first = 0 if "burst_bytes" in shaping else 1514 * 4
    assert frames[0] == [first + 1514 * 4 * k for k in range(20_000)]
    assert frames[MILLISECOND] == [time_ns + MILLISECOND for time_ns in frames[0]]


@pytest.mark.parametrize("jitter_ns", [0, 12_345])
def test_a_ping_meets_each_delay_once(jitter_ns: int) -> None:
    """Request and reply take both directions' service and delay, no more, once addresses are resolved."""
    lab = Lab()
    (first, near), (_, far) = lab.host("10.0.0.1/24"), lab.host("10.0.0.2/24")
    there, back = lab.link(near, far)
    for pipe, delay_ns, bandwidth_bps in (
        (there, 70 * MILLISECOND, 8_000_000),
        (back, 3 * MILLISECOND, SECOND),
    ):
        shaping = {"jitter": ([0.0], [jitter_ns])}
        lab.switch.set_pipe(pipe, bandwidth_bps=bandwidth_bps, delay_ns=delay_ns, shaping=shaping)
    flow = lab.switch.add_ping(first, 0x0A000002, interval_ns=SECOND, count=5, keep_replies=True)
    lab.run(10 * SECOND)
    rtts = [reply["rtt_ns"] for reply in lab.switch.take_replies(flow)]
    assert rtts[1:] == [98_000 + 70 * MILLISECOND + 784 + 3 * MILLISECOND + 2 * jitter_ns] * 4
    lab.close()


def test_a_host_that_runs_ahead_answers_over_a_shaped_link() -> None:
    """All requests are on the way at once; each is answered as it comes, and the answers take turns."""
    lab = Lab()
    _, interface = lab.host("10.0.0.2/24")
    wire = lab.wire(interface, "10.0.0.9")
    lab.quiet()
    wire.introduce("10.0.0.2")
    lab.switch.set_pipe(wire.pipe_in, bandwidth_bps=SECOND, delay_ns=MILLISECOND, shaping={})
    lab.switch.set_pipe(
        wire.pipe_out, bandwidth_bps=SECOND // 2, delay_ns=10, queue_limit_packets=50, shaping={}
    )
    for number in range(200):
        request = ip4("10.0.0.9", "10.0.0.2", echo(1, number, bytes(58)), protocol=1, identification=number)
        wire.send(ether(lab.macs[interface], wire.mac, TYPE_IP4, request))
    lab.run(SECOND)
    # A request of 100 bytes takes 800 ns, its answer 1600: every second one finds the queue full at last.
    free, waiting, expected = 0, [], []
    for number in range(200):
        time_ns = MILLISECOND + 800 * (number + 1)
        waiting = [start for start in waiting if start >= time_ns]
        start = max(time_ns, free)
        if start > time_ns and len(waiting) >= 50:
            continue
        waiting += [start] if start > time_ns else []
        free = start + 1600
        expected.append((free + 10, number))
    found = [(time_ns, int.from_bytes(frame[40:42], "big")) for time_ns, frame in wire.take_timed()]
    assert found == expected
    lab.close()


@pytest.mark.parametrize("overtakes", [False, True])
def test_a_line_of_many_frames_keeps_the_order_of_arrivals(overtakes: bool) -> None:
    """Frames go in at all places of a long line, those that arrive together in the order of departure."""
    wire = Wire(3)
    shaping = {"jitter": ([0.0, 1.0], [0, 1000]), "jitter_overtakes": overtakes, "reorder": 0.05}
    Shaped(Shape(bandwidth_bps=8 * SECOND, delay_ns=2000), shaping).apply(wire.switch, wire.pipe)
    frames = []
    for number in range(5000):
        wire.switch.inject(wire.near, numbered(number, 4))
        if number % 100 == 99:
            frames += wire.arrivals(wire.switch.now_ns + 390)
    frames += wire.arrivals(SECOND)
    numbers = [int.from_bytes(frame, "big") for _, frame in frames]
    keys = [(time_ns, number) for (time_ns, _), number in zip(frames, numbers, strict=True)]
    assert sorted(numbers) == list(range(5000))
    assert keys == sorted(keys)
    inversions = sum(after < before for before, after in pairwise(numbers))
    assert inversions > (1500 if overtakes else 100)
    wire.switch.close()


@pytest.mark.parametrize("discipline", [*DISCIPLINES, "each"])
def test_what_is_set_already_changes_no_queue(discipline: str) -> None:
    """A change of something else leaves turns, deficits and states of the discipline alone."""
    arrived = []
    for again in (False, True):
        wire = Wire()
        shaping = {"discipline": discipline, "flows": 64, "quantum_bytes": 300, "target_ns": 5000}
        shaping |= {"interval_ns": 20_000, "weights": [1, 1, 1, 1, 1, 2, 3, 4], "rate_bps": SECOND // 2}
        shaped = Shaped(Shape(bandwidth_bps=SECOND, delay_ns=777), shaping)
        shaped.apply(wire.switch, wire.pipe)
        for number in range(600):
            for flow in range(3):
                frame = flow_frame(flow, number, 60 + 100 * flow, 5 + flow)
                if number % (flow + 2) == 0:
                    wire.switch.inject(wire.near, frame)
            wire.switch.run(wire.switch.now_ns + 1500)
            if again:
                shaped.apply(wire.switch, wire.pipe)
        arrived.append((wire.arrivals(SECOND), wire.switch.pipe_statistics(wire.pipe)))
        wire.switch.close()
    assert arrived[0] == arrived[1]
    assert len(arrived[0][0]) > 300


def one_flow(number: int) -> bytes:
    """A packet of 86 bytes; its number is its identification."""
    return ip4("10.0.0.1", "10.0.0.2", udp("10.0.0.1", "10.0.0.2", bytes(58)), identification=number)


@pytest.mark.parametrize("drops_head", [False, True])
def test_a_change_of_discipline_loses_nothing_that_waits(drops_head: bool) -> None:
    """One flow, queued anew with each change: it stays in its order and at its pace."""
    wire = Wire()
    shape = Shape(bandwidth_bps=SECOND, delay_ns=777)
    frames = [ether(mac(2), mac(1), TYPE_IP4, one_flow(number)) for number in range(400)]
    for number, frame in enumerate(frames):
        if number % 10 == 0:
            discipline = DISCIPLINES[number // 10 % len(DISCIPLINES)]
            shaping = {"discipline": discipline, "flows": 16, "target_ns": 10**12, "interval_ns": 10**12}
            Shaped(shape, shaping | {"drops_head": drops_head}).apply(wire.switch, wire.pipe)
        wire.switch.inject(wire.near, frame)
        if number % 7 == 6:
            wire.switch.run(wire.switch.now_ns + 1000)
    arrived = wire.arrivals(SECOND)
    assert arrived == [(800 * (number + 1) + 777, frame) for number, frame in enumerate(frames)]
    wire.switch.close()


@pytest.mark.parametrize(
    ("recording", "departure_ns"),
    [
        ({"rates": ([0, SECOND, 10 * SECOND], [8000, 0, 8000], 0)}, 10 * SECOND + SECOND // 10),
        ({"rates": ([0, SECOND, 10 * SECOND], [8000, 0, 8000], 11 * SECOND)}, 10 * SECOND + SECOND // 10),
        ({"opportunities": ([0, SECOND], 100, 2 * SECOND)}, 4 * SECOND),
    ],
)
def test_a_cut_gives_back_what_the_frame_in_service_would_have_used(
    recording: dict[str, Any], departure_ns: int
) -> None:
    """A frame of 1000 bytes would be in service for seconds more: the one after the cut starts from there."""
    wire = Wire()
    Shaped(Shape(), recording).apply(wire.switch, wire.pipe)
    wire.switch.run(SECOND - 1000)
    wire.switch.inject(wire.near, bytes(1000))
    wire.switch.run(2 * SECOND)
    wire.switch.set_link_up(wire.pipe, False)
    wire.switch.set_link_up(wire.pipe, True)
    wire.switch.run(3 * SECOND + 1)
    wire.switch.inject(wire.near, bytes(100))
    assert [time_ns for time_ns, _ in wire.arrivals(20 * SECOND)] == [departure_ns]
    wire.switch.close()
