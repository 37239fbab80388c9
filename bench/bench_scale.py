"""Hop-packets per second by size: routes in every router, nodes in play, and links that take time.

The engine at its plainest, a chain of 10 routers with one route, and what is compared with it take turns on
one CPU: many short ones, since a shared host changes its speed meanwhile. Their medians are compared.
Frames are put in beforehand, which is not measured.
"""

from statistics import median
from time import perf_counter

import pytest

from bench.chain import VECTOR, open_chain
from bench.figures import Figure, Figures
from bench.forest import Forest, open_forest

TURNS = 51
HOP_PACKETS = 500_000
"""What one turn forwards: some thousandths of a second."""

SHAPED_VECTORS = 200


def measure(forest: Forest) -> float:
    """Hop-packets per second in one turn."""
    packets = forest.vector * len(forest.sources) * forest.routers
    return 1e9 / forest.nanoseconds_per_hop(-(-HOP_PACKETS // packets))


def compare(forest: Forest) -> tuple[float, float]:
    """The medians of `forest` and of the plain chain beside it."""
    with open_forest(routers=10, vector=VECTOR) as plain:
        turns = [(measure(plain), measure(forest)) for _ in range(TURNS + 1)][1:]
    return median(own for _, own in turns), median(beside for beside, _ in turns)


@pytest.mark.parametrize("routes", [10, 1000])
def test_routes(figures: Figures, one_cpu: int, routes: int) -> None:
    with open_forest(routers=10, routes=routes, vector=VECTOR) as forest:
        rate, plain = compare(forest)
    figures.record(Figure("scale, routes", f"{routes} routes", rate, "hop-packets/s", peer=plain))


@pytest.mark.parametrize(
    ("chains", "routers", "vector"),
    [(1, 1, VECTOR), (1, 10, VECTOR), (200, 50, 32)],
    ids=["1", "10", "10000"],
)
def test_nodes(figures: Figures, one_cpu: int, chains: int, routers: int, vector: int) -> None:
    with open_forest(chains=chains, routers=routers, vector=vector) as forest:
        rate, plain = compare(forest)
    case = f"{chains * routers} node{'s' if chains * routers > 1 else ''}"
    figures.record(Figure("scale, nodes", case, rate, "hop-packets/s", peer=plain))


def test_links_that_take_time(figures: Figures, one_cpu: int) -> None:
    routers = 9
    with open_chain(routers, shaped=True) as chain:
        seconds = []
        for _ in range(TURNS + 1):
            start = perf_counter()
            chain.forward(SHAPED_VECTORS)
            seconds.append(perf_counter() - start)
    rate = SHAPED_VECTORS * VECTOR * routers / median(seconds[1:])
    figures.record(Figure("scale, links with bandwidth and delay", "10 links", rate, "hop-packets/s"))
