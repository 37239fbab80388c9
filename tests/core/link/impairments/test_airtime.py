"""How long packets occupy the link beside their transmission, who waits for it, and who does so in vain.

Statistical bounds: by the normal approximation the sum of a million independent draws, and how many of them
lose, lies within 4.892 standard deviations of its mean, except in one run of a million (two-sided). The seed
was chosen before the first run.
"""

from collections.abc import Iterator
from math import sqrt

import pytest
from timeline import MILLISECOND, SECOND, Wire, numbered

pytestmark = pytest.mark.engine

DRAWS = 1_000_000
DEVIATIONS = 4.892
# Whole nanoseconds from 0 to 999, each as likely as any other.
EVEN = ([0.0, 1.0], [0, 1000])
MICROSECOND = ([0.0], [1000])


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(20_260_117)
    yield wire
    assert wire.in_balance()
    wire.switch.close()


def send(wire: Wire, *lengths: int) -> None:
    for number, length in enumerate(lengths):
        wire.switch.inject(wire.near, numbered(number, length))


def times(wire: Wire, until_ns: int = SECOND) -> list[int]:
    return [time_ns for time_ns, _ in wire.arrivals(until_ns)]


def test_a_million_draws_take_the_time_that_was_asked_for(wire: Wire) -> None:
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": EVEN})
    busy_ns = 0
    for _ in range(100):
        start_ns = wire.switch.now_ns
        wire.switch.inject(wire.near, bytes(60), DRAWS // 100)
        busy_ns += times(wire, start_ns + 10 * MILLISECOND)[-1] - start_ns
    assert abs(busy_ns - DRAWS * 499.5) < DEVIATIONS * sqrt(DRAWS * (1000**2 - 1) / 12)


@pytest.mark.parametrize("loss_above", [0.0, 0.86, 0.999, 1.0])
def test_a_million_draws_lose_what_was_asked_for(wire: Wire, loss_above: float) -> None:
    """None and all are exact."""
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": ([0.0], [0]), "airtime_loss_above": loss_above})
    wire.switch.discard_frames(wire.far, True)
    for now_ns in range(100):
        wire.switch.inject(wire.near, bytes(60), DRAWS // 100)
        wire.switch.run(now_ns)
    lost = wire.switch.pipe_statistics(wire.pipe)["loss_packets"]
    bound = DEVIATIONS * sqrt(DRAWS * loss_above * (1 - loss_above))
    assert abs(lost - DRAWS * (1 - loss_above)) <= bound


def test_those_that_take_longest_are_lost_and_have_used_the_link(wire: Wire) -> None:
    """The same draws: what arrives comes when it would have come if nothing were lost."""
    arrived = []
    for loss_above in (1.0, 0.5):
        again = Wire(7)
        again.switch.set_pipe(again.pipe, shaping={"airtime": EVEN, "airtime_loss_above": loss_above})
        send(again, *[60] * 1000)
        arrived.append(again.arrivals(SECOND))
        again.switch.close()
    everyone, some = arrived
    begun_ns = [0, *(time_ns for time_ns, _ in everyone)]
    assert some == [
        (time_ns, frame)
        for before_ns, (time_ns, frame) in zip(begun_ns, everyone, strict=False)
        if time_ns - before_ns < 500
    ]


def test_those_behind_wait_for_it(wire: Wire) -> None:
    """Without a bandwidth, too; and a full queue drops."""
    wire.switch.set_pipe(wire.pipe, queue_limit_packets=2, shaping={"airtime": MICROSECOND})
    send(wire, 60, 60, 60, 60)
    assert times(wire) == [1000, 2000, 3000]
    assert wire.switch.pipe_statistics(wire.pipe)["queue_drop_packets"] == 1


def test_it_is_added_to_the_transmission(wire: Wire) -> None:
    """Of 100 bytes at 700 Gbit/s, exactly: 8/7 ns, whose sevenths are carried on."""
    wire.switch.set_pipe(wire.pipe, bandwidth_bps=700 * SECOND, shaping={"airtime": MICROSECOND})
    send(wire, *[100] * 7)
    assert times(wire) == [1000 * count + 8 * count // 7 for count in range(1, 8)]


def test_at_a_recorded_rate_transmissions_are_whole_nanoseconds(wire: Wire) -> None:
    """The step in which the next one starts has another rate; 8/7 ns come to 2."""
    recording = ([0, 1000, 3000], [700 * SECOND, 350 * SECOND, 700 * SECOND], 0)
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": MICROSECOND, "rates": recording})
    send(wire, *[100] * 4)
    assert times(wire) == [1002, 2005, 3008, 4010]


def test_an_opportunity_that_passes_meanwhile_is_lost(wire: Wire) -> None:
    chances = ([400, 800, 1600], 1500, 2000)
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": MICROSECOND, "opportunities": chances})
    send(wire, *[1500] * 3)
    assert times(wire) == [1400, 2600, 3800]


def test_a_change_counts_from_the_next_service(wire: Wire) -> None:
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": MICROSECOND})
    send(wire, *[60] * 6)
    assert times(wire, 1500) == [1000]
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": ([0.0], [70])})
    assert times(wire, 2075) == [2000, 2070]
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": MICROSECOND, "airtime_loss_above": 0.0})
    assert times(wire, 2150) == [2140]
    wire.switch.set_pipe(wire.pipe)
    assert times(wire) == [3140]
    assert wire.switch.pipe_statistics(wire.pipe)["loss_packets"] == 1


def test_a_cut_link_is_free_at_once(wire: Wire) -> None:
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": ([0.0], [SECOND])})
    send(wire, 60, 60)
    wire.switch.run(1000)
    wire.switch.set_link_up(wire.pipe, False)
    wire.switch.set_link_up(wire.pipe, True)
    wire.switch.set_pipe(wire.pipe, shaping={"airtime": MICROSECOND})
    send(wire, 60)
    assert times(wire) == [2000]
