"""What random impairments do over a million draws each, against their distributions.

Every bound is passed by chance once in a million runs: 4.892 standard deviations of a normal variable,
two-sided, and for chi-square of its cube root (Wilson and Hilferty, 1931); those that are written as a plain
number are wider. The seeds were chosen before the first run: 20261124 for the first test of this file, one
more for each that follows. Nothing here is marked `engine`, as other builds draw the same numbers.

A correlated choice repeats the last outcome with the probability c (core/machine/random.pxd): outcomes are a
Markov chain with P(yes | yes) = c + (1 - c) p and P(yes | no) = (1 - c) p, whose lag-1 correlation is c.
"""

from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import pairwise
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy
import pytest
from shaped import Shaped
from timeline import SECOND, Shape, Wire

DRAWS = 1_000_000
BLOCKS = 100
STEP = 50_000
DEVIATIONS = -NormalDist().inv_cdf(0.5e-6)
ONE_BYTE_A_NANOSECOND = 8 * SECOND
MILLISECOND = 1_000_000


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.switch.close()


def seeded(offset: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("wire", [20_261_124 + offset], indirect=True, ids=[""])


def deviations(found: float, expected: float, variance: float) -> float:
    return float(found - expected) / sqrt(variance)


def assert_binomial(found: int, number: int, probability: float) -> None:
    variance = number * probability * (1 - probability)
    assert abs(deviations(found, number * probability, variance)) < DEVIATIONS


def assert_chi_square(statistic: float, freedom: int) -> None:
    spread = 2 / (9 * freedom)
    assert abs(deviations((statistic / freedom) ** (1 / 3), 1 - spread, spread)) < DEVIATIONS


def assert_cells(counts: numpy.ndarray, probabilities: numpy.ndarray) -> None:
    """Cells of a multinomial distribution, each expected often enough for its normal approximation."""
    expected = counts.sum() * probabilities
    assert expected.min() > 50
    assert_chi_square(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1)


def counted(wire: Wire, kind: str, shape: Shaped, length: int) -> numpy.ndarray:
    """How often something happened to the packets of each of a hundred blocks."""
    shape.apply(wire.switch, wire.pipe)
    wire.switch.discard_frames(wire.far, True)
    counts = [wire.switch.pipe_statistics(wire.pipe)[kind]]
    for block in range(BLOCKS):
        wire.switch.inject(wire.near, bytes(length), DRAWS // BLOCKS)
        wire.switch.run(block + 1)
        counts.append(wire.switch.pipe_statistics(wire.pipe)[kind])
    return numpy.diff(counts)


def assert_counts(counts: numpy.ndarray, probability: float) -> None:
    """Binomial in each block: that shows the probability, and that no outcome knows of another."""
    expected = DRAWS // BLOCKS * probability
    assert_binomial(int(counts.sum()), DRAWS, probability)
    assert_chi_square(float(((counts - expected) ** 2).sum()) / (expected * (1 - probability)), BLOCKS)


def arrivals(wire: Wire, shape: Shaped, length: int = 1) -> numpy.ndarray:
    """When each of a million frames arrives; they are served without a gap, in `length` ns each."""
    shape.apply(wire.switch, wire.pipe)
    times = []
    for sent in range(STEP, DRAWS + 1, STEP):
        wire.switch.inject(wire.near, bytes(length), STEP)
        wire.switch.run(sent * length + (SECOND if sent == DRAWS else 0))
        times += [time_ns for time_ns, _ in wire.switch.take_frames(wire.far)]
    return numpy.array(times)


def lost(wire: Wire, loss: float = 0.0, **shaping: Any) -> numpy.ndarray:
    """The fates of a million frames."""
    times = arrivals(wire, Shaped(Shape(bandwidth_bps=ONE_BYTE_A_NANOSECOND, loss=loss), shaping))
    fates = numpy.ones(DRAWS, dtype=bool)
    fates[times - 1] = False
    return fates


def assert_steps(outcomes: numpy.ndarray, from_yes: float, from_no: float) -> None:
    """The transition counts of a chain of two states, of which each step is one of its own."""
    before, after = outcomes[:-1], outcomes[1:]
    for state, probability in ((True, from_yes), (False, from_no)):
        found, number = int(after[before == state].sum()), int((before == state).sum())
        if 0 < probability < 1:
            assert number * probability * (1 - probability) > 1000
            assert_binomial(found, number, probability)
        else:
            assert found == number * probability


def assert_mean(outcomes: numpy.ndarray, mean: float, covariances: float) -> None:
    """The share of yes among correlated outcomes; covariances: the sum of those at all lags above 0."""
    variance = (mean * (1 - mean) + 2 * covariances) / DRAWS
    assert abs(deviations(outcomes.mean(), mean, variance)) < DEVIATIONS


def assert_correlated(outcomes: numpy.ndarray, probability: float, correlation: float) -> None:
    spread = probability * (1 - probability)
    assert_steps(outcomes, correlation + (1 - correlation) * probability, (1 - correlation) * probability)
    assert_mean(outcomes, probability, spread * correlation / (1 - correlation))
    realised = numpy.corrcoef(outcomes[:-1], outcomes[1:])[0, 1]
    assert abs(realised - correlation) < 0.01


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.9])
@seeded(0)
def test_loss(wire: Wire, probability: float) -> None:
    assert_counts(counted(wire, "loss_packets", Shaped(Shape(loss=probability), {}), 60), probability)


@pytest.mark.parametrize("probability", [0.01, 0.5])
@seeded(1)
def test_duplication(wire: Wire, probability: float) -> None:
    shape = Shaped(Shape(), {"duplicate": probability})
    assert_counts(counted(wire, "duplicate_packets", shape, 60), probability)


@pytest.mark.parametrize("probability", [0.01, 0.5])
@seeded(2)
def test_corruption(wire: Wire, probability: float) -> None:
    shape = Shaped(Shape(), {"corrupt": probability})
    assert_counts(counted(wire, "corrupted_packets", shape, 60), probability)


@seeded(3)
def test_every_bit_is_corrupted_alike(wire: Wire) -> None:
    length = 13
    Shaped(Shape(), {"corrupt": 1.0}).apply(wire.switch, wire.pipe)
    found = []
    for step in range(DRAWS // STEP):
        wire.switch.inject(wire.near, bytes(length), STEP)
        found += [frame for _, frame in wire.arrivals(step)]
    bits = numpy.unpackbits(numpy.frombuffer(b"".join(found), dtype=numpy.uint8)).reshape(DRAWS, 8 * length)
    assert (bits.sum(axis=1) == 1).all()
    assert_cells(bits.sum(axis=0, dtype=numpy.int64), numpy.full(8 * length, 1 / (8 * length)))


@pytest.mark.parametrize(
    ("bit_error", "length", "overhead_bytes"),
    [(1e-4, 60, 24), (1e-5, 1514, 0), (1e-6, 1514, 24), (1e-6, 60, 9000), (1e-3, 64, -14)],
)
@seeded(4)
def test_bit_errors(wire: Wire, bit_error: float, length: int, overhead_bytes: int) -> None:
    with localcontext() as context:
        context.prec = 50
        probability = float(1 - (1 - Decimal(bit_error)) ** (8 * (length + overhead_bytes)))
    shape = Shaped(Shape(overhead_bytes=overhead_bytes), {"bit_error": bit_error})
    assert_counts(counted(wire, "loss_packets", shape, length), probability)


@seeded(5)
def test_gilbert_steps_and_bursts(wire: Wire) -> None:
    """With h = 0 and k = 1 the losses are the states: steps, bursts and their mean 1/r, the mean loss."""
    p, r = 0.02, 0.25
    fates = lost(wire, loss_model="gilbert_elliott", loss_chain=[p, r, 1.0, 0.0])
    assert_steps(fates, 1 - r, p)
    share, memory = p / (p + r), 1 - p - r
    assert_mean(fates, share, share * (1 - share) * memory / (1 - memory))
    assert_bursts(fates, r)


def assert_bursts(fates: numpy.ndarray, end: float) -> None:
    """Lengths of bursts are geometric, with the mean 1 / end."""
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([False], fates, [False])).astype(numpy.int8)))
    lengths = edges[1::2] - edges[::2]
    assert abs(deviations(lengths.mean(), 1 / end, (1 - end) / end**2 / len(lengths))) < DEVIATIONS
    most = 12
    cells = numpy.bincount(numpy.minimum(lengths, most), minlength=most + 1)[1:]
    probabilities = (1 - end) ** numpy.arange(most) * end
    probabilities[-1] = (1 - end) ** (most - 1)
    assert_cells(cells, probabilities)


@pytest.mark.parametrize("chain", [(0.01, 0.1, 0.75, 0.001), (0.3, 0.4, 0.1, 0.6)])
@seeded(6)
def test_gilbert_elliott_mean_loss(wire: Wire, chain: tuple[float, float, float, float]) -> None:
    p, r, lost_bad, lost_good = chain
    fates = lost(wire, loss_model="gilbert_elliott", loss_chain=chain)
    bad, memory = p / (p + r), 1 - p - r
    covariance = (lost_bad - lost_good) ** 2 * bad * (1 - bad)
    assert_mean(fates, bad * lost_bad + (1 - bad) * lost_good, covariance * memory / (1 - memory))
    mean = bad * lost_bad + (1 - bad) * lost_good
    realised = numpy.corrcoef(fates[:-1], fates[1:])[0, 1]
    assert abs(realised - covariance * memory / (mean * (1 - mean))) < 0.01


@pytest.mark.parametrize(
    ("chain", "stays_lost", "gets_lost"),
    [
        # p13, p31, p32, p23, p14: chains of which only two states are visited, one of them lost
        ((0.05, 0.3, 0.0, 0.0, 0.0), 0.7, 0.05),
        ((1.0, 0.0, 0.4, 0.1, 0.0), 0.6, 0.1),
        ((0.0, 0.0, 0.0, 0.0, 0.02), 0.0, 0.02),
    ],
)
@seeded(7)
def test_markov_steps(wire: Wire, chain: tuple[float, ...], stays_lost: float, gets_lost: float) -> None:
    assert_steps(lost(wire, loss_model="markov", loss_chain=chain), stays_lost, gets_lost)


@seeded(8)
def test_markov_mean_loss(wire: Wire) -> None:
    """All four states: the share of losses is that of the chain's stationary distribution."""
    p13, p31, p32, p23, p14 = chain = (0.01, 0.15, 0.25, 0.4, 0.005)
    steps = numpy.array(
        [
            [1 - p13 - p14, 0, p13, p14],
            [0, 1 - p23, p23, 0],
            [p31, p32, 1 - p31 - p32, 0],
            [1, 0, 0, 0],
        ]
    )
    share = numpy.linalg.matrix_power(steps, 1 << 14)[0]
    is_lost = numpy.array([0.0, 0, 1, 1])
    mean = float(share @ is_lost)
    # The fundamental matrix sums the covariances over all lags.
    fundamental = numpy.linalg.inv(numpy.eye(4) - steps + numpy.outer(numpy.ones(4), share)) - numpy.eye(4)
    covariances = float((share * (is_lost - mean)) @ fundamental @ (is_lost - mean))
    fates = lost(wire, loss_model="markov", loss_chain=chain)
    assert_mean(fates, mean, covariances)
    # A burst of losses begins in a gap, alone, or in a burst, with a length that is geometric.
    alone = share[0] * p14 / (share[0] * (p13 + p14) + share[1] * p23)
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([False], fates, [False])).astype(numpy.int8)))
    lengths = edges[1::2] - edges[::2]
    assert lengths.mean() == pytest.approx(alone + (1 - alone) / (p31 + p32), rel=0.02)


@pytest.mark.parametrize(("probability", "correlation"), [(0.1, 0.25), (0.5, 0.9)])
@seeded(9)
def test_correlated_loss(wire: Wire, probability: float, correlation: float) -> None:
    fates = lost(wire, probability, loss_correlation=correlation)
    assert_correlated(fates, probability, correlation)


@seeded(10)
def test_correlated_duplication(wire: Wire) -> None:
    shaping = {"duplicate": 0.1, "duplicate_correlation": 0.4}
    times = arrivals(wire, Shaped(Shape(bandwidth_bps=ONE_BYTE_A_NANOSECOND), shaping))
    copies = numpy.bincount(times, minlength=DRAWS + 1)[1:]
    assert set(numpy.unique(copies)) == {1, 2}
    assert_correlated(copies == 2, 0.1, 0.4)


@seeded(11)
def test_correlated_reordering(wire: Wire) -> None:
    """A frame takes 2 ns, and 1 ns more where it does not overtake: which one did is told by its arrival."""
    shaping = {"reorder": 0.3, "reorder_correlation": 0.5}
    times = arrivals(wire, Shaped(Shape(bandwidth_bps=ONE_BYTE_A_NANOSECOND, delay_ns=1), shaping), 2)
    assert len(times) == DRAWS
    assert_correlated(times % 2 == 0, 0.3, 0.5)


def jitters(wire: Wire, points: tuple[list[float], list[int]], correlation: float) -> numpy.ndarray:
    """What was added to the delay of each of a million frames, which come too far apart to meet."""
    shaping = {"jitter": points, "jitter_correlation": correlation, "jitter_overtakes": True}
    shape = Shape(bandwidth_bps=8 * 1000, delay_ns=MILLISECOND // 2)
    Shaped(shape, shaping).apply(wire.switch, wire.pipe)
    times = []
    for sent in range(STEP, DRAWS + 1, STEP):
        wire.switch.inject(wire.near, b"\0", STEP)
        wire.switch.run(sent * MILLISECOND)
        times += [time_ns for time_ns, _ in wire.switch.take_frames(wire.far)]
    times += [time_ns for time_ns, _ in wire.arrivals((DRAWS + 1) * MILLISECOND)]
    return numpy.array(times) - numpy.arange(1, DRAWS + 1) * MILLISECOND - shape.delay_ns


NORMAL_PLACES = [k / 200 for k in range(201)]
NORMAL_POINTS = (
    NORMAL_PLACES,
    [round(20_000 * NormalDist().inv_cdf(min(max(place, 0.001), 0.999))) for place in NORMAL_PLACES],
)
UNIFORM_POINTS = ([0.0, 1.0], [-100_000, 100_000])


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("points", [UNIFORM_POINTS, NORMAL_POINTS], ids=["uniform", "table"])
@seeded(12)
def test_jitter(wire: Wire, points: tuple[list[float], list[int]], correlation: float) -> None:
    found = jitters(wire, points, correlation)
    # The distribution: on a sample so thin that what is left of the correlation is below 10^-4.
    thin = found[:: 1 if correlation == 0 else 8 if correlation < 0.5 else 42]
    places = numpy.linspace(0, 1, 51)
    edges = numpy.round(numpy.interp(places, *points)).astype(numpy.int64)
    # A value is rounded down, so it is below a whole number as often as the line that it lies on.
    probabilities = numpy.diff(numpy.interp(edges, points[1], points[0]))
    cells = numpy.histogram(thin, bins=[*edges[:-1], edges[-1] + 1])[0]
    assert cells.sum() == len(thin)
    assert_cells(cells, probabilities)
    # The correlation: a run of one value ends with the probability 1 - c; the estimate's variance follows.
    centred = found - found.mean()
    realised = float((centred[:-1] * centred[1:]).mean() / centred.var())
    tails = float((centred**4).mean() / centred.var() ** 2)
    variance = (1 - correlation) * (correlation * tails + 1) / DRAWS
    assert abs(deviations(realised, correlation, variance)) < DEVIATIONS


@pytest.mark.parametrize("points", [([0.0, 1.0], [1000, 3000]), NORMAL_POINTS], ids=["uniform", "table"])
@seeded(13)
def test_slots_open_as_often_as_they_should(wire: Wire, points: tuple[list[float], list[int]]) -> None:
    """One frame a slot, and always more that wait: arrivals are as far apart as openings."""
    places, values = points
    values = [value - values[0] + 1 for value in values]
    shaping = {"slots": (places, values), "slots_packets": 1}
    Shaped(Shape(), shaping).apply(wire.switch, wire.pipe)
    intervals = []
    for _ in range(DRAWS // STEP):
        wire.switch.inject(wire.near, b"\0", STEP + 1)
        times = [time_ns for time_ns, _ in wire.arrivals(wire.switch.now_ns + 2 * values[-1] * STEP)]
        intervals += [after - before for before, after in pairwise(times)]
    edges = numpy.round(numpy.interp(numpy.linspace(0, 1, 51), places, values)).astype(numpy.int64)
    probabilities = numpy.diff(numpy.interp(edges, values, places))
    assert_cells(numpy.histogram(intervals, bins=[*edges[:-1], edges[-1] + 1])[0], probabilities)
