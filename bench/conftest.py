"""One set of figures for the whole run; saved to bench/results and printed when it ends."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench.figures import Figures
from bench.peers.forwarder import compile_forwarder
from bench.peers.namespaces import compile_generator
from bench.plot import plot_forwarding

RESULTS = Path(__file__).with_name("results")
MEASURED = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = Figures()


def pytest_report_header() -> str:
    return f"busy with other work: {busy_share(seconds=1):.0%} of the machine (figures need a quiet one)"


def pytest_terminal_summary(config: pytest.Config) -> None:
    figures = config.stash[MEASURED]
    if figures.measured:
        figures.save(RESULTS)
        plot_forwarding(figures.measured, RESULTS / "forwarding.png")
        figures.print(Console(width=120))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where every bench puts what it measured."""
    return pytestconfig.stash[MEASURED]


@pytest.fixture(scope="session")
def results() -> Path:
    """The folder for plots."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peer's frame generator, compiled."""
    return compile_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="session")
def forwarder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peer between two TAP devices, compiled."""
    return compile_forwarder(tmp_path_factory.mktemp("forwarder"))


@pytest.fixture(scope="module")
def one_cpu() -> Iterator[int]:
    """The CPU that this process, and the peer's generator beside it, are pinned to meanwhile."""
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    yield cpu
    os.sched_setaffinity(0, allowed)


def busy_share(seconds: float) -> float:
    """The part of all CPUs' time that was used in the next `seconds`."""

    def ticks() -> tuple[int, int]:
        with Path("/proc/stat").open() as lines:
            # user, nice, system, idle, waiting, interrupts, soft interrupts, stolen: see proc(5)
            counts = [int(count) for count in lines.readline().split()[1:9]]
        return counts[3] + counts[4], sum(counts)

    idle_before, all_before = ticks()
    time.sleep(seconds)
    idle_after, all_after = ticks()
    return 1 - (idle_after - idle_before) / (all_after - all_before)
