"""Distributions of times as quantile functions by points: (probabilities, values in ns), both rising.

Between two points the function is a straight line, so what the engine draws has a distribution that is
known exactly. `normal`, `pareto` and `paretonormal` are those of Linux' netem (iproute2, netem/*.c, from
NISTNet): a Pareto distribution of index 3, and a quarter of a normal quantile with three quarters of a Pareto
one. Each is cut where one draw in 2^20 would lie beyond (normal: at both ends), and then moved and scaled so
that its mean is 0 and its standard deviation one spread. netem's own tables end at 4 spreads and miss both.

Decimal numbers and the four operations of floats give the same tables on every machine.
"""

from collections.abc import Iterable
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import pairwise
from typing import Final

from manystack.topology.link.values import Slots, Variation

TABLE_SPREAD: Final = 8192
"""What a value of netem's tables has to be for one spread (NETEM_DIST_SCALE)."""
_STEPS_IN_SPREAD: Final = 100
_LAST_STEP: Final = 476
"""Where one draw in 2^20 of a normal distribution lies beyond: 4.76 standard deviations."""
_PARETO_STEP: Final = Decimal("1.003")
_PARETO_END: Final = Decimal(2) ** 20

Quantiles = tuple[tuple[float, ...], tuple[float, ...]]
Times = tuple[tuple[float, ...], tuple[int, ...]]


@lru_cache(maxsize=256)
def times(variation: Variation) -> Times:
    """Return the quantile function of a variation. Equal ones share it: links have them in thousands."""
    spread_ns = variation.spread_ns
    match variation.distribution:
        case "uniform":
            return (0.0, 1.0), (-spread_ns, spread_ns)
        case "cdf":
            probabilities, values = zip(*variation.points, strict=True)
            return probabilities, values
        case "table":
            return _of_table(variation.table, spread_ns)
        case name:
            probabilities, quantiles = _SHAPES[name]()
            return probabilities, tuple(round(quantile * spread_ns) for quantile in quantiles)


@lru_cache(maxsize=256)
def distances(slots: Slots) -> Times:
    """Return the quantile function of the distance between two openings."""
    if slots.variation is None:
        return (0.0, 1.0), (slots.from_ns, slots.to_ns)
    probabilities, values = times(slots.variation)
    return probabilities, tuple(slots.from_ns + value for value in values)


def _of_table(table: tuple[int, ...], spread_ns: int) -> Times:
    """Each value lies in the middle of an equal share, which leaves the table's mean as it is."""
    values = [(2 * value * spread_ns + TABLE_SPREAD) // (2 * TABLE_SPREAD) for value in table]
    count = len(values)
    middles = [(2 * index + 1) / (2 * count) for index in range(count)]
    return (0.0, *middles, 1.0), (values[0], *values, values[-1])


def _standardized(probabilities: Iterable[Decimal], values: Iterable[Decimal]) -> Quantiles:
    """Return a quantile function moved to the mean 0 and scaled to the standard deviation 1."""
    below = list(probabilities)
    whole = below[-1] - below[0]
    shares = [(probability - below[0]) / whole for probability in below]
    points = list(zip(shares, values, strict=True))
    # Between two points a value is evenly distributed: its mean is (a + b) / 2, that of its square below.
    mean = sum(((q - p) * (a + b) for (p, a), (q, b) in pairwise(points)), _ZERO) / 2
    square = sum(((q - p) * (a * a + a * b + b * b) for (p, a), (q, b) in pairwise(points)), _ZERO) / 3
    deviation = (square - mean * mean).sqrt()
    return (
        tuple(float(probability) for probability, _ in points),
        tuple(float((value - mean) / deviation) for _, value in points),
    )


def _normal_steps() -> list[tuple[Decimal, Decimal]]:
    """Return (x, the probability of more than x) of a standard normal distribution, in even steps of x.

    By its series: Marsaglia, "Evaluating the normal distribution", J. of Statistical Software 11(4), 2004.
    """
    upper = []
    root = (2 * _PI).sqrt()
    for step in range(_LAST_STEP + 1):
        x = Decimal(step) / _STEPS_IN_SPREAD
        term = total = x
        divisor = 3
        while term > _NEGLIGIBLE:
            term *= x * x / divisor
            total += term
            divisor += 2
        upper.append((x, Decimal("0.5") - total * (-x * x / 2).exp() / root))
    return [(-x, 1 - tail) for x, tail in reversed(upper[1:])] + upper


def _pareto_excess(tail: Decimal) -> Decimal:
    """Return the value that a Pareto variable of index 3 exceeds with a probability, as netem scales it."""
    return (tail ** (Decimal(-1) / 3) - Decimal("1.5")) * 4 / 3


@lru_cache(maxsize=1)
def _normal() -> Quantiles:
    with localcontext(prec=40):
        steps = _normal_steps()
        return _standardized((1 - tail for _, tail in steps), (x for x, _ in steps))


@lru_cache(maxsize=1)
def _pareto() -> Quantiles:
    with localcontext(prec=40):
        values = [Decimal(1)]
        while values[-1] ** 3 < _PARETO_END:
            values.append(values[-1] * _PARETO_STEP)
        return _standardized((1 - 1 / value**3 for value in values), values)


@lru_cache(maxsize=1)
def _paretonormal() -> Quantiles:
    with localcontext(prec=40):
        steps = _normal_steps()
        return _standardized(
            (1 - tail for _, tail in steps), ((x + 3 * _pareto_excess(tail)) / 4 for x, tail in steps)
        )


_ZERO: Final = Decimal(0)
_PI: Final = Decimal("3.14159265358979323846264338327950288419717")
_NEGLIGIBLE: Final = Decimal("1e-38")
_SHAPES: Final = {"normal": _normal, "pareto": _pareto, "paretonormal": _paretonormal}
