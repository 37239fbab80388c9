"""Whether a run can be relied on: where and when the emulator was late, or lost packets of its own.

The engine judges each pipe second by second (`core/observe/lateness.pxd`). What the emulator itself loses is
counted by the kernel and by the engine; Python looks at these counts once a second. `docs/accuracy.md` has
the rule.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from manystack.core import _switch as core
from manystack.loop import SECOND_NS
from manystack.network import Network
from manystack.text import NOTHING, clock_text, plural, share_text, table, time_text

STRETCHES = 64
"""Kept for one place that loses packets; beyond that the two closest to each other become one."""
ROWS_IN_TEXT = 12
LOOK_AFTER_NS = 20_000_000
"""How long after the end of a second it is looked at, so that what belongs to it has been handled."""
EVENTS = "events"
"""The place whose losses are not packets: what the engine told Python, and Python did not take in time."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """A stretch (ns) in which one place was degraded, and by how much.

    `place` is a direction of a link whose packets came late, a tap or nic whose frames were read late, or
    what lost packets of the emulator's own accord. `packets`, `late_packets`, `worst_ns` are of its degraded
    seconds.
    """

    place: str
    from_ns: int
    until_ns: int
    packets: int = 0
    late_packets: int = 0
    worst_ns: int = 0
    lost: int = 0

    @property
    def detail(self) -> str:
        """By how much, in words."""
        if self.lost:
            return f"{self.lost:,} lost"
        packets = plural(self.packets, "packet")
        return f"{self.late_packets:,} of {packets} late, worst {time_text(self.worst_ns)}"

    def joined(self, later: "Degraded") -> "Degraded":
        """Return both as one stretch, with what lies between them."""
        return replace(
            self,
            until_ns=max(self.until_ns, later.until_ns),
            packets=self.packets + later.packets,
            late_packets=self.late_packets + later.late_packets,
            worst_ns=max(self.worst_ns, later.worst_ns),
            lost=self.lost + later.lost,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` is "exact" (virtual time), "valid" or "degraded", and then `intervals` say where and when.

    `degraded_ns` is how long anything was degraded.
    """

    state: str
    intervals: tuple[Degraded, ...] = ()
    degraded_ns: int = 0


@dataclass(frozen=True, slots=True)
class LatenessSummary:
    """How late (ns) packets of a pipe were handled, or frames of a device read; by (least ns, packets)."""

    packets: int
    late_packets: int
    median_ns: int
    p99_ns: int
    worst_ns: int
    buckets: tuple[tuple[int, int], ...]


class LossLog:
    """When each place lost packets: between which two looks at its count."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._looked_ns = 0
        self._stretches: dict[str, list[Degraded]] = {}

    def note(self, now_ns: int, counts: Mapping[str, int]) -> bool:
        """Take note of counts that only grow; whether one has since the last time."""
        grown = False
        for place, count in counts.items():
            lost = count - self._counts.get(place, 0)
            if lost > 0:
                grown = True
                self._counts[place] = count
                self._add(Degraded(place, self._looked_ns, now_ns, lost=lost))
        self._looked_ns = now_ns
        return grown

    def stretches(self) -> list[Degraded]:
        """Return all of them."""
        return [stretch for stretches in self._stretches.values() for stretch in stretches]

    def _add(self, new: Degraded) -> None:
        stretches = self._stretches.setdefault(new.place, [])
        if stretches and stretches[-1].until_ns >= new.from_ns:
            stretches[-1] = stretches[-1].joined(new)
            return
        stretches.append(new)
        if len(stretches) > STRETCHES:
            gaps = [b.from_ns - a.until_ns for a, b in pairwise(stretches)]
            closest = gaps.index(min(gaps))
            stretches[closest : closest + 2] = [stretches[closest].joined(stretches[closest + 1])]


class Watch:
    """Looks at a running network once a second, and tells when it becomes degraded and when that is over."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._losses = LossLog()

    def begin(self) -> None:
        """Look at every second from now on. In virtual time there is nothing to see."""
        if not self._network.is_virtual:
            self._wait()

    def verdict(self) -> Verdict:
        """Return the verdict on the run so far, the second under way judged as if it ended now."""
        network = self._network
        self._look_at_losses()
        intervals = [*self._late(network.switch.late_stretches()), *self._losses.stretches()]
        intervals.sort(key=lambda stretch: (stretch.from_ns, stretch.place))
        if intervals:
            return Verdict("degraded", tuple(intervals), _covered_ns(intervals))
        return Verdict("exact" if network.is_virtual else "valid")

    def _wait(self) -> None:
        following_ns = (self._network.now_ns // SECOND_NS + 1) * SECOND_NS + LOOK_AFTER_NS
        self._network.loop.call_at(following_ns / SECOND_NS, self._look)

    def _look(self) -> None:
        network = self._network
        now_ns = network.now_ns
        since_ns = (now_ns // SECOND_NS - 1) * SECOND_NS
        lost = self._look_at_losses()
        late = self._late(network.switch.late_stretches(since_ns, under_way=False))
        if late or lost:
            if not network.is_degraded:
                worst = max(
                    late or self._losses.stretches(), key=lambda stretch: (stretch.worst_ns, stretch.until_ns)
                )
                network.publish("degraded", worst.place, worst.detail)
        elif network.is_degraded:
            network.publish("valid", network.name, "again")
        network.is_degraded = bool(late or lost)
        self._wait()

    def _look_at_losses(self) -> bool:
        network = self._network
        statistics = network.switch.statistics()
        counts = own_losses(network, statistics)
        counts[EVENTS] = statistics["lost_events"]
        return self._losses.note(network.now_ns, counts)

    def _late(self, rows: Iterable[tuple[int | None, int | None, int, int, int, int, int]]) -> list[Degraded]:
        network = self._network
        return [
            Degraded(device_name(network, node) if pipe is None else network.wiring.pipe_name(pipe), *numbers)
            for pipe, node, *numbers in rows
        ]


def device_name(network: Network, node: int | None) -> str:
    """Return what the device of a node is called: `tap site`."""
    name = next(name for name, index in network.wiring.nodes.items() if index == node)
    return f"{network.topology.nodes[name].kind} {name}"


def own_losses(network: Network, statistics: "core.EngineStatistics") -> dict[str, int]:
    """Return what the emulator itself lost, which no model of the topology explains; empty if nothing."""
    losses = {f"tap {name}": tap.drops() for name, tap in network.taps.items()}
    losses |= {f"nic {name}": nic.drops() for name, nic in network.nics.items()}
    losses["devices, writing"] = statistics["device_write_drop_packets"]
    losses["packet pool"] = statistics["pool_drop_packets"]
    return {place: count for place, count in losses.items() if count}


def lateness_summary(lateness: "core.Lateness | None") -> LatenessSummary | None:
    """Return a pipe's histogram with its quantiles, each the upper end of its bucket."""
    if lateness is None:
        return None
    buckets = tuple(lateness["buckets"])
    return LatenessSummary(
        packets=sum(count for _, count in buckets),
        late_packets=lateness["late_packets"],
        median_ns=min(bucket_quantile_ns(buckets, 50), lateness["worst_ns"]),
        p99_ns=min(bucket_quantile_ns(buckets, 99), lateness["worst_ns"]),
        worst_ns=lateness["worst_ns"],
        buckets=buckets,
    )


def bucket_quantile_ns(buckets: Iterable[tuple[int, int]], percent: float) -> int:
    """Return a percentile of (least ns, packets) in order, as if the packets of a bucket lay evenly in it."""
    buckets = tuple(buckets)
    left = sum(count for _, count in buckets) * percent / 100
    for least_ns, count in buckets:
        if left <= count:
            width_ns = 1 << max(0, least_ns.bit_length() - 3)
            return least_ns + round(width_ns * left / count)
        left -= count
    return 0


def _covered_ns(intervals: Iterable[Degraded]) -> int:
    """Return how long at least one of them lasted; they come in the order of their beginnings."""
    covered_ns = reached_ns = 0
    for stretch in intervals:
        covered_ns += max(0, stretch.until_ns - max(stretch.from_ns, reached_ns))
        reached_ns = max(reached_ns, stretch.until_ns)
    return covered_ns


# Telling it.


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return the verdict as text, the intervals as a table."""
    if verdict.state == "exact":
        return ["Verdict: exact. In virtual time nothing is late."]
    if verdict.state == "valid":
        return ["Verdict: valid. The emulator kept to the clock."]
    rows = [
        [
            stretch.place,
            clock_text(stretch.from_ns),
            clock_text(stretch.until_ns),
            *(
                [
                    f"{stretch.late_packets:,} ({share_text(stretch.late_packets, stretch.packets)})",
                    time_text(stretch.worst_ns),
                ]
                if stretch.packets
                else [NOTHING, NOTHING]
            ),
            f"{stretch.lost:,}" if stretch.lost else NOTHING,
        ]
        for stretch in verdict.intervals[:ROWS_IN_TEXT]
    ]
    left_out = len(verdict.intervals) - len(rows)
    return [
        f"Verdict: degraded for {clock_text(verdict.degraded_ns)} (docs/accuracy.md has the rule).",
        *table(["DEGRADED", "FROM", "UNTIL", "LATE", "WORST", "LOST"], rows),
        *([f"… and {plural(left_out, 'more interval')}: --json has all of them"] if left_out else []),
    ]
