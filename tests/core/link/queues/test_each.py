"""A transmitter for each flow: times to the nanosecond, as the rules say; and as many plain links in one."""

import random
from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
from flows import flow_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from pacing import PacedModel, Pacing
from timeline import MILLISECOND, SECOND, Shape, Wire

pytestmark = pytest.mark.engine

SEED = 0x5EED

RATES = st.sampled_from([SECOND, SECOND, 976_000_000, 7_000_001, 400 * SECOND, 10**12])
PACINGS = st.builds(
    Pacing,
    rate_bps=RATES,
    flows=st.sampled_from([1, 2, 65536, 65536]),
    drops_head=st.booleans(),
    bandwidth_bps=st.one_of(st.just(0), RATES),
    overhead_bytes=st.sampled_from([0, 0, 24, -60]),
    cells=st.sampled_from([False, False, True]),
    packets=st.sampled_from([None, None, 0, 1, 2, 5]),
    bytes=st.sampled_from([None, None, 1000, 6000]),
)
FRAMES = st.tuples(st.integers(0, 3), st.sampled_from([60, 61, 100, 125, 1000, 1514, 9000]))
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.lists(FRAMES, min_size=1, max_size=10)),
    st.tuples(st.just("send"), st.lists(FRAMES, min_size=1, max_size=2)),
    st.tuples(st.just("wait"), st.integers(0, 20_000)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 60 * 8, 1000, 8000, 10**5])),
    st.tuples(st.just("change"), PACINGS),
    st.tuples(st.just("rate"), RATES),
)


def applied(wire: Wire, pacing: Pacing) -> None:
    wire.switch.set_pipe(wire.pipe, **pacing.arguments())


@pytest.mark.parametrize("changes", [False, True])
@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.data())
def test_order_and_times_are_those_of_the_rules(changes: bool, data: st.DataObject) -> None:
    pacing = data.draw(PACINGS)
    actions = data.draw(st.lists(ACTIONS, min_size=1, max_size=40))
    wire = Wire(SEED)
    model = PacedModel(SEED, pacing)

    def run(until_ns: int) -> None:
        assert wire.arrivals(until_ns) == model.run(until_ns)
        statistics = wire.switch.pipe_statistics(wire.pipe)
        assert statistics["queue_drop_packets"] == model.drops
        assert statistics["waiting_packets"] == model.waiting()
        assert wire.in_balance()

    try:
        applied(wire, pacing)
        now_ns = number = 0
        for action, value in actions:
            if action == "wait":
                now_ns += value
                run(now_ns)
            elif action == "send":
                for flow, length in value:
                    frame = flow_frame(flow, number, length)
                    number += 1
                    wire.switch.inject(wire.near, frame)
                    model.send(now_ns, frame)
            elif changes:
                wanted = value if action == "change" else replace(model.now, rate_bps=value)
                applied(wire, wanted)
                model.change(now_ns, wanted)
        run(now_ns + 10 * SECOND)
        assert model.waiting() == 0
        assert wire.switch.statistics()["packets_in_use"] == 0
    finally:
        wire.switch.close()


@pytest.mark.parametrize("drops_head", [False, True])
def test_flows_of_an_unlimited_link_have_a_link_each(drops_head: bool) -> None:
    """What dummynet calls dynamic pipes, held against pipes: delay, limit and drops are those of one."""
    rng = random.Random(5)
    shape = Shape(bandwidth_bps=8_000_000, delay_ns=3 * MILLISECOND, queue_limit_packets=5)
    alone = [Wire(SEED) for _ in range(3)]
    shared = Wire(SEED)
    for wire in alone:
        wire.shape(replace(shape, shaping={"drops_head": drops_head}))
    shaping = {"discipline": "each", "rate_bps": 8_000_000, "drops_head": drops_head, "flows": 65536}
    shared.shape(replace(shape, bandwidth_bps=0, shaping=shaping))
    for number in range(2000):
        flow = rng.randrange(3)
        length = rng.choice([61, 333, 1001, 1514])
        for wire in (alone[flow], shared):
            wire.switch.inject(wire.near, flow_frame(flow, number, length))
        until_ns = shared.switch.now_ns + rng.randrange(400_000)
        for wire in (*alone, shared):
            wire.switch.run(until_ns)
    expected = [entry for wire in alone for entry in wire.arrivals(SECOND * 10)]
    arrived = shared.arrivals(SECOND * 10)
    assert sorted(arrived) == sorted(expected)
    assert [time_ns for time_ns, _ in arrived] == sorted(time_ns for time_ns, _ in expected)
    dropped = [wire.switch.pipe_statistics(wire.pipe)["queue_drop_packets"] for wire in (*alone, shared)]
    assert min(dropped) > 50
    assert sum(dropped[:3]) == dropped[3]
    for wire in (*alone, shared):
        wire.switch.close()


@pytest.mark.parametrize("length", [98, 1514])
@pytest.mark.parametrize("rate_bps", [1000, 9600, 976_000_000, SECOND, 25 * SECOND, 400 * SECOND])
def test_the_rate_of_each_flow_is_exact(rate_bps: int, length: int) -> None:
    """A thousand packets of each flow, one after the other to the nanosecond, whatever the others do."""
    wire = Wire(SEED)
    wire.shape(Shape(overhead_bytes=24, shaping={"discipline": "each", "rate_bps": rate_bps, "flows": 65536}))
    service = Fraction((length + 24) * 8 * SECOND, rate_bps)
    frames = [flow_frame(flow, 0, length) for flow in range(3)]
    for flow, frame in enumerate(frames):
        wire.switch.inject(wire.near, frame, 1000 - flow)
    arrived = wire.arrivals(floor(1000 * service))
    for flow, frame in enumerate(frames):
        times = [time_ns for time_ns, one in arrived if one == frame]
        assert times == [floor(k * service) for k in range(1, 1001 - flow)]
    wire.switch.close()


def test_subscribers_share_a_link_and_none_exceeds_its_rate() -> None:
    """Three of 10 Mbit/s on a link of 20: full together, and one alone gets its own rate, not the link's."""
    wire = Wire(SEED)
    pacing = Pacing(10_000_000, bandwidth_bps=20_000_000, packets=50)
    applied(wire, pacing)
    got: dict[bytes, int] = {}
    for _ in range(1000):
        for flow in range(3):
            wire.switch.inject(wire.near, flow_frame(flow, 0, 1250))
        for _, frame in wire.arrivals(wire.switch.now_ns + MILLISECOND):
            got[frame] = got.get(frame, 0) + 1
    assert (
        sum(got.values()) == 1998
    )  # the first leaves its flow after one millisecond, and the link after half of one
    wire.arrivals(wire.switch.now_ns + SECOND)
    for _ in range(200):
        wire.switch.inject(wire.near, flow_frame(1, 0, 1250))
        wire.switch.run(wire.switch.now_ns + MILLISECOND // 2)
    alone = wire.arrivals(wire.switch.now_ns)
    assert len(alone) in (98, 99)
    wire.switch.close()


def test_a_change_of_discipline_loses_nothing_that_waits() -> None:
    """To other disciplines and back: nothing is lost, and a flow keeps its order."""
    wire = Wire(SEED)
    shapings = [
        {"discipline": "each", "rate_bps": 400_000_000, "flows": 16},
        {"discipline": "droptail"},
        {"discipline": "each", "rate_bps": 90_000_000, "flows": 64},
        {"discipline": "drr", "flows": 16},
    ]
    frames = [flow_frame(number % 3, number, 100 + number) for number in range(400)]
    for number, frame in enumerate(frames):
        if number % 10 == 0:
            shaping = shapings[number // 10 % 4]
            wire.switch.set_pipe(wire.pipe, bandwidth_bps=SECOND, queue_limit_packets=5, shaping=shaping)
            wire.switch.set_pipe(wire.pipe, bandwidth_bps=SECOND, shaping=shaping)
        wire.switch.inject(wire.near, frame)
        if number % 7 == 6:
            wire.switch.run(wire.switch.now_ns + 1000)
    arrived = [frame for _, frame in wire.arrivals(10 * SECOND)]
    for flow in range(3):
        assert [frame for frame in arrived if frames.index(frame) % 3 == flow] == frames[flow::3]
    wire.switch.close()


def test_a_cut_wire_loses_what_is_in_the_flows() -> None:
    wire = Wire(SEED)
    applied(wire, Pacing(SECOND))
    for flow in range(3):
        wire.switch.inject(wire.near, flow_frame(flow, 0, 1250), 3)
    assert len(wire.arrivals(10_000)) == 3
    wire.switch.set_link_up(wire.pipe, False)
    wire.switch.set_link_up(wire.pipe, True)
    assert len(wire.arrivals(SECOND)) == 0
    statistics = wire.switch.pipe_statistics(wire.pipe)
    assert (statistics["delivered_packets"], statistics["down_drop_packets"]) == (3, 6)
    wire.switch.inject(wire.near, flow_frame(0, 1, 1250))
    assert [time_ns for time_ns, _ in wire.arrivals(2 * SECOND)] == [SECOND + 10_000]
    wire.switch.close()


def test_a_rate_is_needed() -> None:
    wire = Wire(SEED)
    with pytest.raises(ValueError, match="rate_bps, the bandwidth of each flow, is missing"):
        wire.switch.set_pipe(wire.pipe, shaping={"discipline": "each"})
    for rate_bps in (-1, 10**12 + 1):
        with pytest.raises(ValueError, match=f"rate_bps {rate_bps}: allowed are 0 to 1000000000000"):
            wire.switch.set_pipe(wire.pipe, shaping={"discipline": "each", "rate_bps": rate_bps})
    wire.switch.close()
