"""Pipes: departures and arrivals to the nanosecond, against the rules in exact fractions."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timeline import MILLISECOND, SECOND, PipeModel, Shape, Wire, is_in_balance, numbered

pytestmark = pytest.mark.engine

SEED = 0x5EED

RATES = st.one_of(
    st.sampled_from([0, 0, 100, 1000, 976_000_000, SECOND, 100 * SECOND, 400 * SECOND, 1000 * SECOND]),
    st.integers(100, 10_000),
    st.integers(10_000, SECOND),
    st.integers(SECOND, 1000 * SECOND),
)
TIMES = st.one_of(st.integers(0, 4), st.integers(0, 2000), st.integers(0, 10**6), st.integers(0, 10**11))
SHAPES = st.builds(
    Shape,
    bandwidth_bps=RATES,
    overhead_bytes=st.sampled_from([0, 0, 1, 24, 65535]),
    delay_ns=st.one_of(st.just(0), TIMES),
    loss=st.sampled_from([0.0, 0.0, 0.3, 0.9, 1.0]),
    queue_limit_packets=st.one_of(st.none(), st.none(), st.integers(0, 5)),
    queue_limit_bytes=st.one_of(st.none(), st.none(), st.integers(0, 3000)),
)
LENGTHS = st.one_of(st.integers(1, 100), st.integers(1, 1514), st.sampled_from([64, 88, 1514, 65549]))
ACTIONS = st.one_of(
    st.tuples(st.just("wait"), TIMES),
    st.tuples(st.just("send"), st.lists(LENGTHS, min_size=1, max_size=40)),
    st.tuples(st.just("send"), st.lists(LENGTHS, min_size=1, max_size=3)),
    st.tuples(st.just("change"), SHAPES),
    st.tuples(st.just("link"), st.booleans()),
)
QUICK = Shape(bandwidth_bps=1000 * SECOND)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(SHAPES, st.lists(ACTIONS, max_size=40), st.booleans())
# The second frame's service starts 0.8 ns after now and arrives at now: it leaves the line before the queue.
@example(QUICK, [("send", [100, 20, 20]), ("wait", 0), ("change", Shape(bandwidth_bps=SECOND))], True)
# Ideal again, with frames still on their way: the next ones must not overtake them.
@example(Shape(delay_ns=100), [("send", [9]), ("wait", 1), ("change", Shape()), ("send", [8])], True)
@example(
    Shape(delay_ns=100),
    [("send", [9]), ("wait", 1), ("change", Shape()), ("link", True), ("send", [8])],
    True,
)
# One lost while it waited must not hold back those behind it once the delay is gone.
@example(
    Shape(bandwidth_bps=SECOND, delay_ns=10**6, loss=0.9),
    [("send", [99] * 9), ("wait", 900), ("change", Shape(bandwidth_bps=SECOND)), ("send", [99])],
    False,
)
# The last in the line is lost, and still has the arrival that it would have had at the old rate.
@example(
    Shape(bandwidth_bps=8_000_000),
    [
        ("send", [100] * 3),
        ("change", Shape(bandwidth_bps=8_000_000, loss=1.0)),
        ("send", [100]),
        ("change", Shape(bandwidth_bps=1_000_000)),
        ("wait", 900_000),
        ("wait", 100_000),
    ],
    True,
)
def test_a_pipe_does_what_its_rules_say(
    shape: Shape, actions: list[tuple[str, object]], run_ahead: bool
) -> None:
    wire = Wire(SEED)
    model = PipeModel(SEED)
    switch = wire.switch
    now_ns = count = 0

    def run(until_ns: int) -> None:
        switch.run(until_ns, stop_on_event=not run_ahead)
        assert switch.take_frames(wire.far) == model.run(until_ns)
        compare()

    def compare() -> None:
        statistics = switch.pipe_statistics(wire.pipe)
        assert {key: statistics[key] for key in model.statistics()} == model.statistics()
        assert wire.in_balance()

    try:
        wire.shape(shape)
        model.change(0, shape)
        for action, value in actions:
            if action == "wait":
                now_ns += value
                run(now_ns)
            elif action == "send":
                for length in value:
                    switch.inject(wire.near, numbered(count, length))
                    model.send(now_ns, count, length)
                    count += 1
            elif action == "change":
                wire.shape(value)
                model.change(now_ns, value)
            else:
                switch.set_link_up(wire.pipe, value)
                model.set_up(now_ns, value)
            compare()
        run(max([now_ns, *(frame.arrival_ns for frame in model.line)]))
        assert not model.line
        assert switch.statistics()["packets_in_use"] == 0
    finally:
        switch.close()


@pytest.mark.parametrize(
    ("bandwidth_bps", "length"),
    [(100 * SECOND, 88), (400 * SECOND, 88), (976_000_000, 98), (SECOND * 3, 1514), (1000 * SECOND, 15)],
)
def test_a_million_frames_keep_the_rate_exactly(bandwidth_bps: int, length: int) -> None:
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=bandwidth_bps, delay_ns=MILLISECOND))
    service = Fraction(length * 8 * SECOND, bandwidth_bps)
    step = 10_000
    wire.switch.inject(wire.near, bytes(length), step)
    done = 0
    for sent in range(step, 1_000_001, step):
        if sent < 1_000_000:
            wire.switch.inject(wire.near, bytes(length), step)
        # The transmitter never idles: one step is on its way while the next one waits.
        frames = wire.arrivals(floor(sent * service) + (MILLISECOND if sent == 1_000_000 else 0))
        numerator, denominator = service.numerator, service.denominator
        for k, (time_ns, _) in enumerate(frames, done + 1):
            assert time_ns == k * numerator // denominator + MILLISECOND
        done += len(frames)
    assert done == 1_000_000
    wire.switch.close()


@pytest.mark.parametrize("bandwidth_bps", [100, 1000, 9600])
def test_a_slow_line_takes_its_time(bandwidth_bps: int) -> None:
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=bandwidth_bps, overhead_bytes=10))
    wire.switch.inject(wire.near, bytes(60), 3)
    service = Fraction(70 * 8 * SECOND, bandwidth_bps)
    frames = wire.arrivals(60 * SECOND)
    assert [time_ns for time_ns, _ in frames] == [floor(k * service) for k in (1, 2, 3)]
    wire.switch.close()


def test_delay_costs_no_throughput() -> None:
    """Other emulators fall from 2 Gbit/s to 5 Mbit/s with 1 ms of delay."""
    frames = {}
    for delay_ns in (0, MILLISECOND):
        wire = Wire()
        wire.shape(Shape(bandwidth_bps=2 * SECOND, delay_ns=delay_ns))
        wire.switch.inject(wire.near, bytes(1514), 50_000)
        frames[delay_ns] = [time_ns for time_ns, _ in wire.arrivals(SECOND)]
        assert frames[delay_ns][-1] == 50_000 * 1514 * 8 // 2 + delay_ns
        wire.switch.close()
    assert frames[MILLISECOND] == [time_ns + MILLISECOND for time_ns in frames[0]]


def test_a_delay_counts_once_in_its_own_direction() -> None:
    wire = Wire()
    wire.shape(Shape(delay_ns=70 * MILLISECOND))
    wire.shape(Shape(delay_ns=3 * MILLISECOND), wire.back)
    wire.switch.inject(wire.near, b"there")
    wire.switch.inject(wire.far, b"back")
    wire.switch.run(SECOND)
    assert wire.switch.take_frames(wire.far) == [(70 * MILLISECOND, b"there")]
    assert wire.switch.take_frames(wire.near) == [(3 * MILLISECOND, b"back")]
    wire.switch.close()


def test_a_queue_of_no_packets_serves_only_who_finds_the_transmitter_idle() -> None:
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=8 * SECOND, queue_limit_packets=0))
    for time_ns in (0, 0, 99, 100, 199, 200, 201):
        wire.switch.run(time_ns)
        wire.switch.inject(wire.near, bytes(100))
    assert [time_ns for time_ns, _ in wire.arrivals(1000)] == [100, 200, 300]
    assert wire.switch.pipe_statistics(wire.pipe)["queue_drop_packets"] == 4
    assert wire.in_balance()
    wire.switch.close()


def test_a_full_queue_drops_at_the_tail() -> None:
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=8 * SECOND, queue_limit_bytes=250))
    for number, length in enumerate([100, 100, 100, 51, 50, 1]):
        wire.switch.inject(wire.near, numbered(number, length))
    # The first is in service; 100 + 100 + 50 fill the queue to the byte, 51 and the last 1 do not fit.
    arrived = wire.arrivals(1000)
    assert [frame for _, frame in arrived] == [numbered(*x) for x in [(0, 100), (1, 100), (2, 100), (4, 50)]]
    assert wire.switch.pipe_statistics(wire.pipe)["queue_drop_packets"] == 2
    wire.switch.close()


def test_the_ring_grows_and_keeps_what_it_holds() -> None:
    """A ring that starts in the middle of its buffer doubles six times, with holes for lost frames in it."""
    wire = Wire(SEED)
    model = PipeModel(SEED)
    shape = Shape(bandwidth_bps=SECOND, delay_ns=10_000, loss=0.4)
    wire.shape(shape)
    model.change(0, shape)
    number = now_ns = 0
    for burst in [5, 9, 16, 17, 33, 70, 150, 300, 700, 1]:
        for _ in range(burst):
            wire.switch.inject(wire.near, numbered(number, 60))
            model.send(now_ns, number, 60)
            number += 1
        now_ns += burst * 400
        assert wire.arrivals(now_ns) == model.run(now_ns)
    assert wire.arrivals(SECOND) == model.run(SECOND)
    wire.switch.close()


def test_a_pipe_that_loses_all_holds_no_memory() -> None:
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=SECOND, loss=1.0))
    memory = []
    for step in range(1, 101):
        wire.switch.inject(wire.near, bytes(60), 1000)
        wire.switch.run(step * 480_000)
        memory.append(wire.switch.memory_bytes(wire.near))
    assert memory[-1] == memory[9]
    assert wire.switch.pipe_statistics(wire.pipe)["loss_packets"] == 100_000
    wire.switch.close()


def test_one_that_arrives_behind_many_lost_ones_is_a_vector_of_its_own() -> None:
    """All in the nanosecond that the first one takes to send; the lost are more than a vector holds."""
    wire = Wire(seed=3)
    wire.shape(Shape(bandwidth_bps=1000 * SECOND, overhead_bytes=-1, loss=0.997))
    wire.switch.inject(wire.near, bytes(101))
    while not wire.switch.pipe_statistics(wire.pipe)["in_flight_packets"]:
        wire.switch.inject(wire.near, b"x")
    assert wire.switch.pipe_statistics(wire.pipe)["loss_packets"] > 256
    assert wire.arrivals(0) == [(0, b"x")]
    assert wire.switch.statistics()["vectors"] == 1


def test_cutting_a_link_takes_both_directions() -> None:
    wire = Wire()
    for pipe in (wire.pipe, wire.back):
        wire.shape(Shape(bandwidth_bps=SECOND, delay_ns=MILLISECOND), pipe)
    wire.switch.inject(wire.near, bytes(100), 7)
    wire.switch.inject(wire.far, bytes(100), 5)
    wire.switch.run(2000)
    wire.switch.set_link_up(wire.back, False)
    wire.switch.inject(wire.near, bytes(100), 2)
    assert wire.arrivals(SECOND) == wire.switch.take_frames(wire.near) == []
    assert wire.switch.pipe_statistics(wire.pipe)["down_drop_packets"] == 9
    assert wire.switch.pipe_statistics(wire.back)["down_drop_packets"] == 5
    wire.switch.set_link_up(wire.pipe, True)
    wire.switch.inject(wire.near, b"again")
    assert wire.arrivals(2 * SECOND) == [(SECOND + MILLISECOND + 40, b"again")]
    assert is_in_balance(wire.switch, wire.pipe) and is_in_balance(wire.switch, wire.back)
    wire.switch.close()


@pytest.mark.parametrize("bandwidth_bps", [0, 1000 * SECOND])
def test_what_was_sent_at_the_instant_of_the_cut_is_lost(bandwidth_bps: int) -> None:
    """Over an ideal link too, or a very quick one: it has not been handled."""
    wire = Wire()
    wire.shape(Shape(bandwidth_bps=bandwidth_bps), wire.pipe)
    wire.switch.inject(wire.near, bytes(100))
    wire.switch.set_link_up(wire.pipe, False)
    assert wire.arrivals(SECOND) == []
    assert wire.switch.pipe_statistics(wire.pipe)["down_drop_packets"] == 1
    wire.switch.close()
