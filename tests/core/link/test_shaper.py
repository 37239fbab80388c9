"""Shaped pipes: departures and arrivals to the nanosecond, as the rules have them in exact fractions."""

from dataclasses import dataclass, field
from math import ceil
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shaped import Shaped, ShapedModel
from timeline import SECOND, Shape, Wire, mac, numbered

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

SEED = 0x5EED5

TIMES = st.one_of(st.integers(0, 4), st.integers(0, 2000), st.integers(0, 10**6), st.integers(0, 10**11))
RATES = st.one_of(
    st.sampled_from([100, 1000, 976_000_000, SECOND, 8 * SECOND, 400 * SECOND]),
    st.integers(100, 10_000),
    st.integers(10_000, SECOND),
    st.integers(SECOND, 1000 * SECOND),
)
LENGTHS = st.one_of(st.integers(1, 100), st.integers(1, 1514), st.sampled_from([64, 88, 1514, 65549]))
CHANCES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
CORRELATIONS = st.sampled_from([0.0, 0.0, 0.3, 0.9, 1.0])


@st.composite
def distributions(draw: st.DrawFn, least: int, most: int) -> tuple[list[float], list[int]]:
    values = sorted(draw(st.lists(st.integers(least, most), min_size=1, max_size=6)))
    inner = draw(st.lists(st.floats(0, 1), min_size=len(values), max_size=len(values)))
    return [0.0, *sorted(inner)[1:-1], 1.0][: len(values)], values


@st.composite
def recorded_rates(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Times, rates (outages among them), and the period, or 0 for a last rate that stays."""
    times = [0, *sorted(draw(st.sets(st.integers(1, 10**6), max_size=5)))]
    steps = [draw(st.one_of(st.just(0), RATES)) for _ in times[1:]]
    steps.insert(draw(st.integers(0, len(steps))), draw(st.integers(10**7, 1000 * SECOND)))
    repeats = draw(st.booleans()) or steps[-1] == 0
    return times, steps, times[-1] + draw(st.integers(1, 1000)) if repeats else 0


@st.composite
def opportunities(draw: st.DrawFn) -> tuple[list[int], int, int]:
    times = sorted(draw(st.lists(st.integers(0, 3000), min_size=1, max_size=6)))
    period_ns = max(1, times[-1] + draw(st.sampled_from([0, 0, 1, 500])))
    return times, draw(st.sampled_from([50, 100, 1500])), period_ns


@st.composite
def transmitters(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """A bandwidth, and what of the shaping goes with it."""
    shaping: dict[str, Any] = {}
    bandwidth_bps = 0
    kind = draw(st.sampled_from(["none", "rate", "rate", "burst", "rates", "opportunities"]))
    if kind in ("rate", "burst"):
        bandwidth_bps = draw(RATES)
    if kind == "burst":
        shaping["burst_bytes"] = draw(st.sampled_from([1, 100, 1514, 10_000, 1 << 30]))
    elif kind == "rates":
        shaping["rates"] = draw(recorded_rates())
    elif kind == "opportunities":
        shaping["opportunities"] = draw(opportunities())
    if draw(st.booleans()):
        shaping["cell_bytes"] = draw(st.sampled_from([1, 48, 1000]))
        shaping["cell_overhead_bytes"] = draw(st.sampled_from([0, 5, 255]))
    if kind != "burst" and draw(st.booleans()):
        shaping["airtime"] = draw(distributions(0, 10**5))
        shaping["airtime_loss_above"] = draw(CHANCES)
    return bandwidth_bps, shaping


@st.composite
def wires(draw: st.DrawFn) -> tuple[float, dict[str, Any]]:
    """A random loss, and all else that happens behind the transmitter."""
    shaping: dict[str, Any] = {}
    loss = 0.0
    model = draw(st.sampled_from(["random", "random", "gilbert_elliott", "markov", "recorded"]))
    if model == "random":
        loss = draw(CHANCES)
        shaping["loss_correlation"] = draw(CORRELATIONS)
    else:
        shaping["loss_model"] = model
    if model == "gilbert_elliott":
        shaping["loss_chain"] = [draw(CHANCES) for _ in range(4)]
    elif model == "markov":
        shaping["loss_chain"] = [draw(st.sampled_from([0.0, 0.1, 0.5])) for _ in range(5)]
    elif model == "recorded":
        shaping["loss_fates"] = draw(st.binary(min_size=1, max_size=20))
    for key in draw(st.sets(st.sampled_from(["corrupt", "duplicate", "reorder"]))):
        shaping[key] = draw(CHANCES)
        shaping[f"{key}_correlation"] = draw(CORRELATIONS)
    if draw(st.booleans()):
        shaping["reorder_gap"] = draw(st.integers(0, 4))
    if draw(st.booleans()):
        shaping["bit_error"] = draw(st.sampled_from([1e-12, 1e-6, 1e-4, 0.01, 1.0]))
    if draw(st.booleans()):
        shaping["jitter"] = draw(distributions(-(10**6), 10**6))
        shaping["jitter_correlation"] = draw(CORRELATIONS)
        shaping["jitter_overtakes"] = draw(st.booleans())
    if draw(st.booleans()):
        shaping["slots"] = draw(distributions(-(10**4), 10**5))
        shaping["slots_packets"] = draw(st.sampled_from([0, 0, 1, 3]))
        shaping["slots_bytes"] = draw(st.sampled_from([0, 0, 1, 200, 3000]))
    return loss, shaping


@st.composite
def shapes(draw: st.DrawFn, *, plain: bool = True) -> Shaped:
    """Anything that a pipe can be asked for; also that it is plain."""
    bandwidth_bps, shaping = draw(transmitters())
    loss = 0.0
    if draw(st.booleans()):
        loss, more = draw(wires())
        shaping |= more
    if draw(st.booleans()):
        shaping["drops_head"] = draw(st.booleans())
    shape = Shape(
        bandwidth_bps=bandwidth_bps,
        overhead_bytes=draw(st.sampled_from([0, 0, 24, -14, -100, 65535])),
        delay_ns=draw(st.one_of(st.just(0), TIMES)),
        loss=loss,
        queue_limit_packets=draw(st.one_of(st.none(), st.none(), st.integers(0, 5))),
        queue_limit_bytes=draw(st.one_of(st.none(), st.none(), st.integers(0, 3000))),
    )
    return Shaped(shape, None if plain and draw(st.integers(0, 3)) == 0 else shaping)


def shaped(shape: Shape | None = None, **shaping: Any) -> Shaped:
    return Shaped(shape or Shape(), shaping)


@st.composite
def quick_shapes(draw: st.DrawFn) -> Shaped:
    """Round numbers, so that much happens at one time."""
    shaping: dict[str, Any] = {}
    if draw(st.booleans()):
        shaping["jitter"] = ([0.0, 0.5, 0.5, 1.0], [draw(st.sampled_from([-5, 0])), 0, 100, 100])
        shaping["jitter_overtakes"] = draw(st.booleans())
    if draw(st.booleans()):
        shaping |= {"reorder": 0.3, "reorder_gap": draw(st.integers(0, 3))}
    if draw(st.booleans()):
        shaping["duplicate"] = 0.3
    return Shaped(
        Shape(
            bandwidth_bps=draw(st.sampled_from([0, 8 * SECOND, 800 * SECOND, 700 * SECOND])),
            delay_ns=draw(st.sampled_from([0, 0, 1, 2, 100, 1000])),
            queue_limit_packets=draw(st.sampled_from([None, 1, 3])),
        ),
        shaping,
    )


ACTIONS = st.one_of(
    st.tuples(st.just("wait"), TIMES),
    st.tuples(st.just("wait"), st.integers(0, 2000)),
    st.tuples(st.just("send"), st.lists(LENGTHS, min_size=1, max_size=30)),
    st.tuples(st.just("send"), st.lists(LENGTHS, min_size=1, max_size=3)),
    st.tuples(st.just("change"), shapes()),
    st.tuples(st.just("same"), st.just(0)),
    st.tuples(st.just("link"), st.booleans()),
)


def run_to(switch: Switch, until_ns: int, run_ahead: bool) -> None:
    """Run in one go, or from instant to instant, so that no node is ever ahead of another."""
    while not run_ahead and (next_ns := switch.next_event_ns) is not None and next_ns < until_ns:
        switch.run(next_ns)
    switch.run(until_ns)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(shapes(), st.lists(ACTIONS, max_size=30), st.booleans())
# An opportunity that is half used is not given again where a change leaves the recording as it is.
@example(shaped(opportunities=([1], 1500, 1)), [("send", [600, 1000, 1000]), ("same", 0)], True)
# The opportunity at the very end of a lap, after a long silence.
@example(shaped(opportunities=([5000, 10_000], 1500, 10_000)), [("wait", 30_000), ("send", [1500])], True)
# A remainder in fractions of one rate does not count in those of another.
@example(
    shaped(rates=([0], [700 * SECOND], 0)),
    [("send", [99] * 9), ("change", shaped(rates=([0], [3 * SECOND], 0)))],
    True,
)
# A remainder in fractions of a recorded rate does not count in the step to which an airtime leads.
@example(
    shaped(rates=([0, 1], [1_000_000_001, 0], 2), airtime=([0.0], [1]), airtime_loss_above=0.0),
    [("send", [60, 60, 60])],
    True,
)
# The draws go on where a distribution is changed, and begin no sooner than there is one.
@example(
    shaped(Shape(bandwidth_bps=700 * SECOND)),
    [
        ("send", [99] * 9),
        ("change", shaped(Shape(bandwidth_bps=700 * SECOND), airtime=([0.0, 1.0], [0, 1000]))),
        ("wait", 2000),
        ("change", shaped(airtime=([0.0, 1.0], [50, 70]), airtime_loss_above=0.5)),
    ],
    True,
)
# What takes no bytes on the wire does not wait for the end of an outage.
@example(
    shaped(Shape(overhead_bytes=-14), rates=([0, 100], [0, SECOND], 0)),
    [("wait", 9), ("send", [14, 15])],
    True,
)
# A tiny rate whose lap is shorter than a frame by far.
@example(shaped(rates=([0, 1], [0, 10], 3)), [("send", [1500, 1500])], True)
# The transmitter's remainder is a part of the present nanosecond, which a bucket's beginning must not undo.
@example(
    Shaped(Shape(bandwidth_bps=700 * SECOND)),
    [("send", [60, 60, 60]), ("wait", 0), ("change", shaped(Shape(700 * SECOND), burst_bytes=5000))],
    True,
)
# Cutting the wire does not empty the bucket.
@example(
    shaped(Shape(bandwidth_bps=SECOND), burst_bytes=3000),
    [("wait", 10**6), ("link", False), ("link", True), ("send", [1000, 1000, 1000, 1000])],
    True,
)
# The largest bucket at the least bandwidth, and more than 10^15 ns of service.
@example(
    shaped(Shape(bandwidth_bps=100), burst_bytes=1 << 30, cell_bytes=1, cell_overhead_bytes=255),
    [("send", [65549, 1])],
    True,
)
# Lost in front of the line before there was a shaper, and then overtaken.
@example(
    Shaped(Shape(bandwidth_bps=SECOND, delay_ns=10**5, loss=0.8)),
    [
        ("send", [100] * 2),
        ("wait", 200_000),
        ("send", [100] * 5),
        ("wait", 102_000),
        ("change", shaped(Shape(bandwidth_bps=SECOND), jitter_overtakes=True)),
        ("send", [100]),
        ("wait", 1000),
    ],
    True,
)
# What waits when a plain pipe becomes shaped is not lost a second time.
@example(
    Shaped(Shape(bandwidth_bps=SECOND, loss=0.5)),
    [("send", [100] * 30), ("change", shaped(Shape(bandwidth_bps=SECOND, loss=0.5))), ("send", [100] * 30)],
    True,
)
# A frame that takes no bytes on the wire is not judged by the bit errors of another setting.
@example(
    shaped(Shape(bandwidth_bps=100), bit_error=0.01),
    [("send", [1, 1, 37]), ("change", shaped(Shape(overhead_bytes=-37), bit_error=1e-6))],
    True,
)
# A setting made again leaves a slot what it has left.
@example(
    shaped(Shape(bandwidth_bps=8 * SECOND), slots=([0.0], [10**4]), slots_packets=2),
    [("send", [100] * 9), ("wait", 150), ("same", 0), ("wait", 100), ("same", 0)],
    True,
)
def test_a_shaped_pipe_does_what_its_rules_say(
    first: Shaped, actions: list[tuple[str, Any]], run_ahead: bool
) -> None:
    wire = Wire(SEED)
    model = ShapedModel(SEED)
    switch = wire.switch
    now_ns = count = 0
    shape = first

    def run(until_ns: int) -> None:
        run_to(switch, until_ns, run_ahead)
        assert switch.take_frames(wire.far) == model.run(until_ns)
        compare()

    def compare() -> None:
        statistics = switch.pipe_statistics(wire.pipe)
        assert {key: statistics[key] for key in model.statistics()} == model.statistics()
        assert wire.in_balance()

    try:
        first.apply(switch, wire.pipe)
        model.change(0, first)
        for action, value in actions:
            if action == "wait":
                now_ns += value
                run(now_ns)
            elif action == "send":
                for length in value:
                    frame = numbered(count, length)
                    switch.inject(wire.near, frame)
                    model.send(now_ns, frame, count)
                    count += 1
            elif action == "link":
                switch.set_link_up(wire.pipe, value)
                model.set_up(now_ns, value)
            else:
                shape = value if action == "change" else shape
                shape.apply(switch, wire.pipe)
                model.change(now_ns, shape)
            compare()
        run(now_ns)
        run(max(now_ns, model.last_ns()))
        assert switch.statistics()["packets_in_use"] == 0
    finally:
        switch.close()


@dataclass
class Net:
    """A tree of hubs with PORTs at its ends, in the engine and as models of its pipes.

    Order is by time, then by round (a step over a link that takes no time), at a node by port and sequence;
    a transmitter starts service after what arrives at that time in the round.
    """

    switch: Switch
    ports: list[list[tuple[int, int]]] = field(default_factory=list)
    models: dict[int, ShapedModel] = field(default_factory=dict)
    leaves: list[int] = field(default_factory=list)
    arrived: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)

    def node(self, kind: int) -> int:
        self.ports.append([])
        node = self.switch.add_node(kind)
        if kind == core.PORT:
            self.leaves.append(node)
            self.arrived[node] = []
        return node

    def join(self, a: int, b: int, shapes: tuple[Shaped, Shaped]) -> None:
        ends = [
            self.switch.add_interface(node, mac(100 * node + len(self.ports[node]) + 1), 65535)
            for node in (a, b)
        ]
        pipes = self.switch.add_link(*ends, 1000 * a + b, 1000 * b + a)
        self.ports[a].append((pipes[0], pipes[1]))
        self.ports[b].append((pipes[1], pipes[0]))
        for pipe, seed, shape in zip(pipes, (1000 * a + b, 1000 * b + a), shapes, strict=True):
            self.models[pipe] = ShapedModel(seed)
            self.change(pipe, shape)

    def change(self, pipe: int, shape: Shaped) -> None:
        shape.apply(self.switch, pipe)
        self.models[pipe].change(self.switch.now_ns, shape)

    def send(self, leaf: int, number: int, length: int) -> None:
        frame = numbered(number, length)
        self.switch.inject(leaf, frame)
        self.models[self.ports[leaf][0][0]].send(self.switch.now_ns, frame, number)

    def next(self) -> tuple[int, int]:
        """The time and round of what comes next."""
        arrivals = [(m.line[0].arrival_ns, m.line[0].round) for m in self.models.values() if m.line]
        starts = [(ceil(m.next_start()), 0) for m in self.models.values() if m.queue]
        return min([*arrivals, *starts], default=(core.NEVER, 0))

    def run(self, until_ns: int) -> None:
        while (now := self.next())[0] <= until_ns:
            for node, ports in enumerate(self.ports):
                self._turn(node, ports, now)

    def _turn(self, node: int, ports: list[tuple[int, int]], now: tuple[int, int]) -> None:
        for place, (_, pipe) in enumerate(ports):
            line = self.models[pipe].line
            while line and (line[0].arrival_ns, line[0].round) == now:
                frame = line.pop(0).frame
                if node in self.arrived:
                    self.arrived[node].append((now[0], frame))
                for other, (out, _) in enumerate(ports):
                    if other != place:
                        self.models[out].send(now[0], frame, 0, now[1])
        for out, _ in ports:
            self.models[out].serve(now[0], inclusive=True, round_=now[1])


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.data(), st.booleans())
def test_networks_of_shaped_pipes_do_what_their_rules_say(data: st.DataObject, run_ahead: bool) -> None:
    """Nodes run ahead as far as the pipes that lead to them allow, and all comes as if none did."""
    switch = Switch()
    net = Net(switch)
    any_shape = st.one_of(shapes(plain=False), quick_shapes())
    try:
        hubs = [net.node(core.HUB) for _ in range(data.draw(st.integers(1, 3)))]
        for i in range(1, len(hubs)):
            net.join(
                hubs[data.draw(st.integers(0, i - 1))], hubs[i], (data.draw(any_shape), data.draw(any_shape))
            )
        for _ in range(data.draw(st.integers(2, 4))):
            leaf = net.node(core.PORT)
            net.join(leaf, data.draw(st.sampled_from(hubs)), (data.draw(any_shape), data.draw(any_shape)))
        count = 0
        for _ in range(data.draw(st.integers(1, 12))):
            leaf = data.draw(st.sampled_from(net.leaves))
            for length in data.draw(st.lists(LENGTHS, min_size=1, max_size=8)):
                net.send(leaf, count, length)
                count += 1
            if data.draw(st.integers(0, 5)) == 0:
                net.change(data.draw(st.sampled_from(sorted(net.models))), data.draw(any_shape))
            now_ns = switch.now_ns + data.draw(TIMES)
            run_to(switch, now_ns, run_ahead)
            net.run(now_ns)
        end_ns = switch.now_ns
        while (next_ns := net.next()[0]) != core.NEVER:
            end_ns = next_ns
            net.run(end_ns)
        run_to(switch, end_ns, run_ahead)
        for leaf in net.leaves:
            assert switch.take_frames(leaf) == net.arrived[leaf]
        assert switch.statistics()["packets_in_use"] == 0
    finally:
        switch.close()
