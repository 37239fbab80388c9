"""How exactly packets leave in real time: between two real hosts, over two routers and a link between them.

Delay is judged at 50% and 70% of the rate at which the same path first loses packets. The error is the
departure at the egress TAP against logical time, as the engine measures it after each write; beside it stands
what the hosts see, which has the sender's system call and the way into the engine in it.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import pytest

from bench.bench_devices import emulated_path, workers_on
from bench.figures import Figure, Figures
from bench.hosts import Hosts
from bench.peers.forwarder import Forwarder
from bench.peers.pacer import Journey, compile_pacer, pace
from bench.plot import plot_distributions
from manystack import Engine
from manystack.report.verdict import bucket_quantile_ns, own_losses

SMALL_FRAME_BYTES, FULL_FRAME_BYTES = 60, 1514
DELAY_NS = 1_000_000
LOADS = (0.5, 0.7)
ROUNDS, ROUND_SECONDS = 6, 0.8
"""No longer: the kernel stops real-time threads that do not sleep for a second; arrivals wait in a socket."""

SLOWEST_PPS, FASTEST_PPS, PRECISION = 50_000, 1_000_000, 1.03
TRIALS, TRIAL_SECONDS = 3, 0.3
"""Long enough for a rate that is too high by a twentieth to fill the TAP's queue."""

PING_DELAY_US, PINGS = 4_000, 500
"""There and back in less than 10 ms: of longer round trips ping shows tenths of a millisecond only."""

LINK_BPS, OFFERED = 100_000_000, 1.1
LINK_FRAMES, WARMUP_FRAMES = 20_000, 200

Samples = list[tuple[float, int]]
"""Values and how often each came, in order."""


@dataclass(frozen=True)
class Route:
    """A path between two real hosts, and who sends over it."""

    emu: Engine
    hosts: Hosts
    pacer: Path
    sending_cpu: int

    def send(self, packets_per_second: float, seconds: float) -> Journey:
        """Small frames at an even pace."""
        interval_ns = round(1e9 / packets_per_second)
        count = int(seconds * packets_per_second)
        return pace(self.pacer, self.hosts, self.sending_cpu, SMALL_FRAME_BYTES, interval_ns, count)

    def first_lossy_pps(self) -> float:
        """The rate above which the emulator loses packets; where it loses none, the most that is sent."""
        slow, fast = SLOWEST_PPS, FASTEST_PPS
        while fast > slow * PRECISION:
            middle = (slow * fast) ** 0.5
            if self._loses(middle):
                fast = middle
            else:
                slow = middle
        return min(slow, self.send(slow, TRIAL_SECONDS).packets_per_second)

    def departures(self) -> Counter[int]:
        """Packets that have left for the receiver, by the bucket of how late they were (least ns)."""
        lateness = self.emu.switch.lateness(self.emu.wiring.links[-1].pipes[0])
        return Counter(dict(lateness["buckets"] if lateness else ()))

    def _loses(self, packets_per_second: float) -> bool:
        lossy = 0
        for _ in range(TRIALS):
            before = self._lost()
            self.send(packets_per_second, TRIAL_SECONDS)
            lossy += self._lost() > before
        return 2 * lossy > TRIALS

    def _lost(self) -> int:
        return sum(own_losses(self.emu.network, self.emu.switch.statistics()).values())


@pytest.fixture(scope="module")
def pacer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pacer(tmp_path_factory.mktemp("pacer"))


@pytest.fixture(scope="module")
def distributions(results: Path) -> Iterator[dict[str, dict[str, Samples]]]:
    """What the plot shows, by axis and curve; drawn when all is measured."""
    found: dict[str, dict[str, Samples]] = {}
    yield found
    plot_distributions(found, results / "accuracy.png")


def test_delay(figures: Figures, distributions: dict[str, dict[str, Samples]], pacer: Path) -> None:
    working, sending = sorted(os.sched_getaffinity(0))[:2]
    topology, hosts = emulated_path("delay", 2, {"delay": f"{DELAY_NS}ns"})
    curves = distributions.setdefault("delay error, us", {})
    with Engine(topology, time="real") as emu:
        hosts.prepare()
        with workers_on(working, os.getpid()):
            route = Route(emu, hosts, pacer, sending)
            most_pps = route.first_lossy_pps()
            figures.record(Figure("accuracy, path", "first lossy rate", most_pps, "packets/s"))
            for load in LOADS:
                before = route.departures()
                journeys = [route.send(load * most_pps, ROUND_SECONDS) for _ in range(ROUNDS)]
                departures = sorted((route.departures() - before).items())
                beyond_ns = [error for journey in journeys for error in journey.beyond_ns(DELAY_NS)]
                curves[f"departure, {load:.0%} load"] = [(ns / 1e3, count) for ns, count in departures]
                curves[f"between hosts, {load:.0%} load"] = thinned([ns / 1e3 for ns in beyond_ns])
                for name, value_ns, outside_ns in (
                    ("median", bucket_quantile_ns(departures, 50), median(beyond_ns)),
                    ("p99", bucket_quantile_ns(departures, 99), quantiles(beyond_ns, n=100)[98]),
                ):
                    case = f"{load:.0%} load, {name}"
                    figures.record(
                        Figure("accuracy, departure against logical time", case, value_ns / 1e3, "us")
                    )
                    figures.record(Figure("accuracy, delay between hosts", case, outside_ns / 1e3, "us"))


def test_departures_of_a_busy_link(
    figures: Figures, distributions: dict[str, dict[str, Samples]], pacer: Path, forwarder: Path
) -> None:
    """Beside a plain C shaper on the same CPU, one after the other, and the sender, who only waits and sends.

    They show what error is the machine's.
    """
    working, sending = sorted(os.sched_getaffinity(0))[:2]
    topology, hosts = emulated_path("rate", 2, {"bandwidth": f"{LINK_BPS}bit/s", "queue": "100packets"})
    shape = {"rate_bps": LINK_BPS, "delay_ns": 0, "queue_bytes": 100 * FULL_FRAME_BYTES}
    interval_ns = FULL_FRAME_BYTES * 8 * 1e9 / LINK_BPS
    errors: dict[str, list[float]] = {}
    with Engine(topology, time="real"), Forwarder(forwarder, **shape) as shaper:
        paths = {"engine": hosts, "C shaper": shaper.hosts}
        for path in paths.values():
            path.prepare()
        with workers_on(working, shaper.process_id):
            for name, path in paths.items():
                offered_ns = round(interval_ns / OFFERED)
                journey = pace(pacer, path, sending, FULL_FRAME_BYTES, offered_ns, LINK_FRAMES)
                arrived_ns = sorted(filter(None, journey.arrived_ns))
                errors[name] = gap_errors(arrived_ns, interval_ns, interval_ns)
                errors.setdefault("sender", []).extend(gap_errors(journey.sent_ns, offered_ns, interval_ns))
    distributions["inter-departure error at 100 Mbit/s, %"] = {
        name: thinned(values) for name, values in errors.items()
    }
    for name, quantile in (("median", median), ("p99", lambda values: quantiles(values, n=100)[98])):
        of = {path: quantile(values) for path, values in errors.items()}
        figures.record(
            Figure("accuracy, inter-departure at 100 Mbit/s", f"sender, {name}", of["sender"], "%")
        )
        figures.record(
            Figure("accuracy, inter-departure at 100 Mbit/s", name, of["engine"], "%", of["C shaper"])
        )


def test_ping_beyond_the_delay(figures: Figures) -> None:
    """On an idle path; the hosts' own time, and what it takes to wake them and the engine up, is in it."""
    topology, hosts = emulated_path("ping", 3, {"bandwidth": "100Mbit/s", "delay": f"{PING_DELAY_US}us"})
    with Engine(topology, time="real"):
        hosts.prepare()
        beyond_us = hosts.ping_us(PINGS) - 2 * PING_DELAY_US
    figures.record(Figure("accuracy, ping beyond the delay", "median", beyond_us, "us"))


def gap_errors(times_ns: Sequence[int], expected_ns: float, interval_ns: float) -> list[float]:
    """By how much the time between two packets is not what it should be, in % of the interval."""
    gaps_ns = [later - earlier for earlier, later in pairwise(times_ns[WARMUP_FRAMES:])]
    return [100 * abs(gap_ns - expected_ns) / interval_ns for gap_ns in gaps_ns]


def thinned(values: list[float]) -> Samples:
    """A thousand of them in order: enough for a curve."""
    ordered = sorted(values)
    step = max(1, len(ordered) // 1000)
    return [(value, step) for value in ordered[::step]]
