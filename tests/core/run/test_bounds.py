"""Every call into the engine comes back: frames that multiply in a loop of hubs hold up nobody for ever."""

import signal
from collections.abc import Iterator
from itertools import combinations
from types import FrameType

import pytest
from lab import Lab, Wire

from manystack.core import _switch as core


class AlarmError(Exception):
    """What the handler of the signal raises."""


@pytest.fixture
def storm(lab: Lab) -> Iterator[tuple[Lab, list[int]]]:
    """Four hubs, each linked to each, in which a broadcast goes round; and the pipes between them."""
    hubs = [lab.bridge(core.HUB, 4)[1] for _ in range(4)]
    pipes = []
    for a, b in combinations(range(4), 2):
        pipes += lab.link(hubs[a][b], hubs[b][a])
    wire: Wire = lab.wire(hubs[0][0])
    wire.send(bytes.fromhex("ffffffffffff 020000000099 88b5") + bytes(46))
    assert not lab.switch.run(0, wall_limit_ns=10_000_000)
    yield lab, pipes
    for pipe in pipes[::2]:
        lab.switch.set_link_up(pipe, False)
    wire.take()


def test_a_run_comes_back_when_its_time_is_over(storm: tuple[Lab, list[int]]) -> None:
    lab, _ = storm
    for _ in range(3):
        assert not lab.switch.run(0, wall_limit_ns=10_000_000)
    assert lab.switch.now_ns == 0


def test_a_change_is_made_though_the_instant_does_not_end(storm: tuple[Lab, list[int]]) -> None:
    lab, pipes = storm
    for pipe in pipes[::2]:
        lab.switch.set_link_up(pipe, False)
    assert lab.switch.unsettled_calls >= 1
    assert lab.switch.run(1)
    assert lab.switch.pipe_statistics(pipes[0])["in_flight_packets"] == 0


def test_signals_are_heard(storm: tuple[Lab, list[int]]) -> None:
    lab, _ = storm

    def ring(number: int, frame: FrameType | None) -> None:
        raise AlarmError

    previous = signal.signal(signal.SIGALRM, ring)
    try:
        for call in (lambda: lab.switch.run(1), lab.switch.settle):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(AlarmError):
                call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
