"""Disciplines that share a link among flows: order and times, to the nanosecond, as the rules say."""

from typing import Any

import pytest
from flows import flow_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from schedulers import UNLIMITED, Discipline, LinkModel
from timeline import SECOND, Wire

pytestmark = pytest.mark.engine

SEED = 0x5EED
FAIR = ["round_robin", "drr", "wfq", "qfq", "priority"]

DISCIPLINES = st.builds(
    Discipline,
    name=st.sampled_from([*FAIR, *FAIR, "droptail"]),
    flows=st.sampled_from([1, 2, 3, 65536, 65536]),
    quantum_bytes=st.sampled_from([64, 300, 800, 1514]),
    weights=st.tuples(*[st.sampled_from([1, 2, 3, 7, 50, 1000])] * 8),
    drops_head=st.booleans(),
)
FRAMES = st.tuples(
    st.integers(0, 3),
    st.one_of(st.integers(60, 1514), st.sampled_from([60, 64, 100, 1000, 1514, 1514, 9000])),
    st.sampled_from([0, 0, 1, 2, 3]),
)
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.lists(FRAMES, min_size=1, max_size=12)),
    st.tuples(st.just("send"), st.lists(FRAMES, min_size=1, max_size=2)),
    st.tuples(st.just("wait"), st.integers(0, 20_000)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 60 * 8, 1514 * 8, 10**5])),
    st.tuples(st.just("change"), DISCIPLINES),
)


@pytest.mark.parametrize("name", [None, *FAIR])
@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.data())
def test_order_and_times_are_those_of_the_rules(name: str | None, data: st.DataObject) -> None:
    discipline = data.draw(DISCIPLINES)
    if name is not None:
        discipline = Discipline(name, *list(discipline.__dict__.values())[1:])
    bandwidth_bps = data.draw(st.sampled_from([SECOND, SECOND, 976_000_000]))
    limit_packets = data.draw(st.sampled_from([UNLIMITED, UNLIMITED, 0, 1, 2, 3, 6, 20]))
    limit_bytes = data.draw(st.sampled_from([UNLIMITED, UNLIMITED, 3000, 12_000]))
    actions = data.draw(st.lists(ACTIONS, min_size=1, max_size=50))
    wire = Wire(SEED)
    model = LinkModel(discipline, SEED, bandwidth_bps, limit_packets=limit_packets, limit_bytes=limit_bytes)

    def shape(shaping: dict[str, Any]) -> None:
        wire.switch.set_pipe(
            wire.pipe,
            bandwidth_bps=bandwidth_bps,
            queue_limit_packets=limit_packets,
            queue_limit_bytes=limit_bytes,
            shaping=shaping,
        )

    def run(until_ns: int) -> None:
        model.serve(until_ns)
        assert wire.arrivals(until_ns) == model.arrivals(until_ns)
        statistics = wire.switch.pipe_statistics(wire.pipe)
        assert statistics["queue_drop_packets"] == model.queue_drops()
        assert statistics["waiting_packets"] == model.scheduler.packets()
        assert wire.in_balance()

    try:
        shape(discipline.shaping())
        now_ns = number = 0
        for action, value in actions:
            if action == "wait":
                now_ns += value
                run(now_ns)
            elif action == "send":
                for flow, length, band in value:
                    frame = flow_frame(flow, number, length, band)
                    number += 1
                    wire.switch.inject(wire.near, frame)
                    model.send(now_ns, frame)
            elif name is None:
                shape(value.shaping())
                model.change(value)
        run(now_ns + 10 * SECOND)
        assert model.scheduler.packets() == 0
        assert wire.switch.statistics()["packets_in_use"] == 0
    finally:
        wire.switch.close()
