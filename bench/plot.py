"""The plot of a bench run: hop-packets per second over the length of the chain, with the peer beside them."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.figures import Figure


def plot_forwarding(figures: Iterable[Figure], path: Path) -> None:
    """Draw every `forwarding` suite as one line over the number of routers that its cases start with."""
    chosen = [figure for figure in figures if figure.suite.startswith("forwarding")]
    if not chosen:
        return
    canvas, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for suite, group in groupby(
        sorted(chosen, key=attrgetter("suite"), reverse=True), key=attrgetter("suite")
    ):
        points = sorted((int(figure.case.split()[0]), figure.value, figure.peer) for figure in group)
        routers, values, peers = zip(*points, strict=True)
        axes.loglog(routers, values, marker="o", label=f"manystack, {suite.partition(', ')[2]}")
    axes.loglog(routers, peers, marker="s", linestyle="--", color="gray", label="network namespaces")
    axes.set_xticks(routers, [str(count) for count in routers], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("routers in the chain")
    axes.set_ylabel("hop-packets per second, one core")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    canvas.savefig(path, dpi=150)
    pyplot.close(canvas)
