"""Loss: the rate that was asked for, streams that know nothing of each other, the bandwidth of lost frames.

Statistical bounds: of a million frames, each lost independently with probability p, a binomial number is
lost. By its normal approximation it lies within 4.892 standard deviations, sqrt(n p (1 - p)), of n p, except
in one run of a million (two-sided). The seeds were chosen before the first run.
"""

from collections.abc import Iterator
from math import sqrt

import pytest
from timeline import MILLISECOND, SECOND, PipeModel, Shape, Wire, mac, numbered, shape_pipe

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

DRAWS = 1_000_000
DEVIATIONS = 4.892
FORWARD, BACK = 20_260_101, 20_260_102


def bound(probability: float) -> float:
    return DEVIATIONS * sqrt(DRAWS * probability * (1 - probability))


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(FORWARD, BACK)
    yield wire
    wire.switch.close()


def losses(wire: Wire, pipe: int) -> int:
    return wire.switch.pipe_statistics(pipe)["loss_packets"]


@pytest.mark.parametrize("probability", [0.001, 0.01, 0.25, 0.5, 0.999])
def test_a_million_draws_lose_what_was_asked_for(wire: Wire, probability: float) -> None:
    wire.shape(Shape(loss=probability))
    wire.switch.discard_frames(wire.far, True)
    for now_ns in range(100):
        wire.switch.inject(wire.near, bytes(60), DRAWS // 100)
        wire.switch.run(now_ns)
    assert abs(losses(wire, wire.pipe) - DRAWS * probability) < bound(probability)
    assert wire.in_balance()


@pytest.mark.parametrize(("probability", "lost"), [(0.0, 0), (1.0, DRAWS), (2.0**-70, 0)])
def test_never_and_always_are_exact(wire: Wire, probability: float, lost: int) -> None:
    wire.shape(Shape(loss=probability))
    wire.switch.discard_frames(wire.far, True)
    for now_ns in range(100):
        wire.switch.inject(wire.near, bytes(60), DRAWS // 100)
        wire.switch.run(now_ns)
    assert losses(wire, wire.pipe) == lost


def test_the_two_directions_lose_independently(wire: Wire) -> None:
    """Both lose a quarter; if that is independent, a sixteenth of the pairs is lost in both."""
    probability = 0.25
    step = 20_000
    lost: dict[int, set[int]] = {}
    for pipe in (wire.pipe, wire.back):
        wire.shape(Shape(loss=probability), pipe)
    for pipe, sender, receiver in ((wire.pipe, wire.near, wire.far), (wire.back, wire.far, wire.near)):
        lost[pipe] = set(range(DRAWS))
        for first in range(0, DRAWS, step):
            for number in range(first, first + step):
                wire.switch.inject(sender, number.to_bytes(4, "big"))
            wire.switch.run(wire.switch.now_ns + 1)
            frames = wire.switch.take_frames(receiver)
            lost[pipe].difference_update([int.from_bytes(frame, "big") for _, frame in frames])
    both = len(lost[wire.pipe] & lost[wire.back])
    assert abs(both - DRAWS * probability**2) < bound(probability**2)


def test_the_same_seed_loses_the_same_frames() -> None:
    survivors = []
    for seed, seed_back in ((FORWARD, BACK), (FORWARD, 0), (BACK, FORWARD)):
        wire = Wire(seed, seed_back)
        wire.shape(Shape(loss=0.5))
        for number in range(1000):
            wire.switch.inject(wire.near, numbered(number, 60))
        survivors.append(wire.arrivals(0))
        wire.switch.close()
    assert survivors[0] == survivors[1] != survivors[2]


@pytest.mark.parametrize("queue_limit_packets", [None, 10])
def test_lost_frames_have_used_their_bandwidth(wire: Wire, queue_limit_packets: int | None) -> None:
    """What survives leaves exactly when it would have without losses, and the queue drops the same."""
    model = PipeModel(FORWARD)
    shape = Shape(
        bandwidth_bps=SECOND, delay_ns=MILLISECOND, loss=0.5, queue_limit_packets=queue_limit_packets
    )
    wire.shape(shape)
    model.change(0, shape)
    for number in range(1000):
        wire.switch.inject(wire.near, numbered(number, 125))
        model.send(0, number, 125)
    frames = wire.arrivals(SECOND)
    assert frames == model.run(SECOND)
    served = 1000 if queue_limit_packets is None else 1 + queue_limit_packets
    assert losses(wire, wire.pipe) + len(frames) == served
    for time_ns, frame in frames:
        assert time_ns == (int.from_bytes(frame[:4], "big") + 1) * 1000 + MILLISECOND


def lossy_pair(extra: bool) -> list[tuple[int, bytes]]:
    """What a lossy wire delivers, alone or among others that were built before and after it."""
    switch = Switch()
    others = [Wire(77, 78, switch)] if extra else []
    wire = Wire(FORWARD, BACK, switch)
    if extra:
        others.append(Wire(79, 80, switch))
        hub = switch.add_node(core.HUB)
        switch.add_interface(hub, mac(9))
    for one in [*others, wire]:
        shape_pipe(switch, one.pipe, Shape(delay_ns=500, loss=0.3))
    for number in range(2000):
        for one in [*others, wire]:
            switch.inject(one.near, numbered(number, 60))
        switch.run(number * 100)
    switch.run(SECOND)
    frames = switch.take_frames(wire.far)
    switch.close()
    return frames


def test_other_nodes_and_links_change_nothing() -> None:
    assert lossy_pair(extra=True) == lossy_pair(extra=False)
