"""Distributions: mean and standard deviation of each, and how near the ideal one they are."""

from itertools import pairwise
from math import isclose
from statistics import NormalDist

import pytest

from manystack.topology.link.distributions import distances, times
from manystack.topology.link.values import Slots, Variation

SPREAD_NS = 10**9
SHAPES = ["normal", "pareto", "paretonormal"]


def quantiles(distribution: str, spread_ns: int = SPREAD_NS) -> list[tuple[float, int]]:
    probabilities, values = times(Variation(distribution=distribution, spread_ns=spread_ns))
    return list(zip(probabilities, values, strict=True))


def moments(points: list[tuple[float, int]]) -> tuple[float, float]:
    """Mean and variance of what lies evenly between the points."""
    mean = sum((q - p) * (a + b) / 2 for (p, a), (q, b) in pairwise(points))
    square = sum((q - p) * (a * a + a * b + b * b) / 3 for (p, a), (q, b) in pairwise(points))
    return mean, square - mean * mean


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_and_deviation(shape: str) -> None:
    points = quantiles(shape)
    assert points[0][0] == 0
    assert points[-1][0] == 1
    assert points == sorted(points)
    mean, variance = moments(points)
    assert abs(mean) < 1e-9 * SPREAD_NS
    assert isclose(variance, SPREAD_NS**2, rel_tol=1e-9)


def test_uniform_is_even_around_nothing() -> None:
    assert quantiles("uniform") == [(0.0, -SPREAD_NS), (1.0, SPREAD_NS)]


def test_normal_is_normal() -> None:
    ideal = NormalDist(0, SPREAD_NS)
    # A chi-square of a million draws in a hundred cells sees differences of about 1e-4.
    assert max(abs(ideal.cdf(value) - share) for share, value in quantiles("normal")) < 3e-6


def test_pareto_has_the_index_3() -> None:
    points = quantiles("pareto")
    # x = 1 / tail^(1/3), moved and scaled by two numbers that any two points tell.
    ideal = [(1 - share * (1 - 2**-20)) ** (-1 / 3) for share, _ in points]
    (low, high), (first, last) = (ideal[0], ideal[1000]), (points[0][1], points[1000][1])
    scale = (last - first) / (high - low)
    assert all(
        isclose(value - first, (x - low) * scale, rel_tol=2e-3, abs_tol=1e-4 * SPREAD_NS)
        for x, (_, value) in zip(ideal, points, strict=True)
    )


def test_tables_have_the_mean_of_their_values() -> None:
    variation = Variation(distribution="table", spread_ns=8192, file="t", table=(-9000, -100, 0, 50, 8000))
    probabilities, values = times(variation)
    assert values == (-9000, -9000, -100, 0, 50, 8000, 8000)
    assert probabilities == (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    assert isclose(moments(list(zip(probabilities, values, strict=True)))[0], sum(variation.table) / 5)


def test_distances_of_slots() -> None:
    assert distances(Slots(from_ns=5, to_ns=9)) == ((0.0, 1.0), (5, 9))
    variation = Variation(distribution="cdf", points=((0.0, 7), (1.0, 8)))
    assert distances(Slots(from_ns=10, to_ns=10, variation=variation)) == ((0.0, 1.0), (17, 18))


def test_equal_variations_share_their_table() -> None:
    first, second = (times(Variation(distribution="normal", spread_ns=5)) for _ in range(2))
    assert first is second
