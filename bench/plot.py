"""The plots of a bench run: hop-packets per second over the length of a chain, and distributions."""

from collections.abc import Iterable, Mapping
from itertools import accumulate, groupby
from operator import attrgetter
from pathlib import Path
from statistics import fmean

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


def plot_distributions(axes: Mapping[str, Mapping[str, Iterable[tuple[float, int]]]], path: Path) -> None:
    """Draw, for each axis, what part of the packets is above a value; curves are (value, packets)."""
    canvas, places = pyplot.subplots(
        1, len(axes), figsize=(6 * len(axes), 4.5), layout="constrained", squeeze=False
    )
    for place, (label, curves) in zip(places[0], axes.items(), strict=True):
        for name, samples in curves.items():
            values, counts = zip(*samples, strict=True)
            total = sum(counts)
            above = [1 - passed / total for passed in accumulate(counts)]
            place.step(values, above, where="post", label=name)
        place.set_xscale("symlog", linthresh=1)
        place.set_xlim(left=0)
        place.set_yscale("log")
        place.set_ylim(1e-4, 1)
        place.set_xlabel(label)
        place.set_ylabel("part of the packets above")
        place.grid(visible=True, alpha=0.3)
        place.legend()
    canvas.savefig(path, dpi=150)
    pyplot.close(canvas)


def plot_waiting(
    means: Mapping[str, Mapping[float, float]],
    steps: Mapping[str, Iterable[tuple[float, float]]],
    path: Path,
) -> None:
    """Draw the mean wait (ms) over the load for each discipline, and beside it over time by tenths (s)."""
    canvas, (load_axes, time_axes) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name, points in means.items():
        load_axes.plot([100 * load for load in points], list(points.values()), marker="o", label=name)
    load_axes.set_xlabel("offered load, % of the link")
    load_axes.set_ylabel("mean wait, ms")
    for name, samples in steps.items():
        tenths = groupby(sorted(samples), key=lambda sample: int(sample[0] * 10))
        times, waits = zip(
            *((tenth / 10, fmean(wait for _, wait in group)) for tenth, group in tenths), strict=True
        )
        time_axes.plot(times, waits, label=name)
    time_axes.set_xlabel("time, s (load 50 %, from 2 s on 125 %, from 10 s on 50 %)")
    time_axes.set_ylabel("mean wait, ms")
    for axes in (load_axes, time_axes):
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    canvas.savefig(path, dpi=150)
    pyplot.close(canvas)
