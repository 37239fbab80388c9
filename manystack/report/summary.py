"""What a network has done: collected from the engine's counters, and told in text."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from manystack.network import Network
from manystack.report.verdict import LatenessSummary, Verdict, lateness_summary, own_losses, verdict_lines
from manystack.text import NOTHING, clock_text, count_text, plural, rate_text, share_text, table, time_text
from manystack.wiring import FlowState, direction_name

if TYPE_CHECKING:
    from manystack.core._switch import EngineStatistics, FlowStatistics, PipeStatistics

LINKS_IN_TEXT = 24
"""Links beyond these are left out of the text, those without drops first."""


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """One entry of `traffic`. Lost packets include, while it is not done, what is still on the way.

    Delays (ns) are round trips for a ping and one way for UDP. What a real host received is not known: None.
    """

    label: str
    kind: str
    source: str
    destination: str
    done: bool
    sent_packets: int
    received_packets: int | None
    lost_packets: int | None
    reordered_packets: int | None
    unreachable_packets: int
    rate_bps: float | None
    delay_min_ns: int | None
    delay_median_ns: int | None
    delay_p99_ns: int | None
    delay_max_ns: int | None


@dataclass(frozen=True, slots=True)
class PipeSummary:
    """One direction of a link."""

    source: str
    target: str
    up: bool
    counters: "PipeStatistics"
    lateness: LatenessSummary | None
    """None in virtual time, on a pipe that takes no time, and before the first packet."""
    hash: str | None
    """Of all that has arrived, bytes and nanoseconds; None where that is not wanted."""
    hashed_packets: int
    """Of which a super-frame is one."""

    @property
    def name(self) -> str:
        """What this direction is called."""
        return direction_name(self.source, self.target)


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A node that dropped packets, and why."""

    node: str
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """A run so far. Times in ns. `own_loss_packets` is what the emulator itself lost, by where."""

    network: str
    time: str
    seed: int
    devices: int
    emulated_ns: int
    wall_ns: int
    outside_changes: tuple[str, ...]
    traffic: tuple[TrafficSummary, ...]
    links: tuple[PipeSummary, ...]
    nodes: tuple[NodeSummary, ...]
    engine: "EngineStatistics"
    own_loss_packets: dict[str, int]
    verdict: Verdict
    device_lateness: dict[str, LatenessSummary | None]
    """By tap and nic: how long frames of real hosts may have waited while the engine did not look."""
    run_hash: str | None
    """Of all that has arrived anywhere, bytes and nanoseconds; None where that is not wanted."""
    missing_offloads: tuple[str, ...] = ()
    """What the kernel cannot leave to the engine, so that taps cost more time."""

    @property
    def reproducible(self) -> bool:
        """Whether the same topology, seed and calls give the same run again, to the last byte."""
        return self.time == "virtual" and not self.outside_changes


def summarize(network: Network, verdict: Verdict) -> Summary:
    """Collect a summary, the verdict with it. Costs a few µs for each link and node."""
    switch = network.switch
    statistics = switch.statistics()
    links = tuple(_pipe_summaries(network))
    return Summary(
        network=network.name,
        time=str(network.mode),
        seed=network.seed,
        devices=len(network.taps) + len(network.nics),
        emulated_ns=network.now_ns,
        wall_ns=network.wall_ns,
        outside_changes=network.unrepeatable,
        traffic=tuple(traffic_summary(state, switch.flow(state.flow)) for state in network.wiring.flows),
        links=links,
        nodes=tuple(_node_summaries(network)),
        engine=statistics,
        own_loss_packets=own_losses(network, statistics),
        verdict=verdict,
        device_lateness={
            name: lateness_summary(switch.device_lateness(network.wiring.nodes[name]))
            for name in (*network.taps, *network.nics)
        },
        run_hash=run_hash(_pipe_hashes(network, links)) if network.has_run_hash else None,
        missing_offloads=next(
            (tap.missing_offloads for tap in network.taps.values()), ()
        ),  # one kernel: alike
    )


def traffic_summary(state: FlowState, flow: "FlowStatistics") -> TrafficSummary:
    """Return what one entry of `traffic` has come to."""
    known = state.is_counted
    return TrafficSummary(
        label=state.label,
        kind=state.traffic.kind,
        source=state.traffic.from_,
        destination=state.traffic.to,
        done=flow["done"],
        sent_packets=flow["sent_packets"],
        received_packets=flow["received_packets"] if known else None,
        lost_packets=flow["sent_packets"] - flow["received_packets"] if known else None,
        reordered_packets=flow["reordered_packets"] if known else None,
        unreachable_packets=flow["unreachable_packets"],
        rate_bps=_rate(flow),
        delay_min_ns=flow["delay_min_ns"],
        delay_median_ns=flow["delay_median_ns"],
        delay_p99_ns=flow["delay_p99_ns"],
        delay_max_ns=flow["delay_max_ns"],
    )


def _rate(flow: "FlowStatistics") -> float | None:
    """Return the received bit/s of payload: n packets span n - 1 of their intervals."""
    first, last, packets = flow["first_received_ns"], flow["last_received_ns"], flow["received_packets"]
    if first is None or last is None or last <= first:
        return None
    return flow["received_bytes"] * 8e9 * (packets - 1) / (packets * (last - first))


def _pipe_summaries(network: Network) -> Iterable[PipeSummary]:
    switch = network.switch
    for state in network.wiring.links:
        for pipe, source, target in zip(state.pipes, state.ends, reversed(state.ends), strict=True):
            chain, packets = switch.pipe_proof(pipe) if network.has_run_hash else (0, 0)
            yield PipeSummary(
                source,
                target,
                state.up,
                switch.pipe_statistics(pipe),
                None if network.is_virtual else lateness_summary(switch.lateness(pipe)),
                f"{chain:016x}" if network.has_run_hash else None,
                packets,
            )


def _pipe_hashes(network: Network, links: Iterable[PipeSummary]) -> Iterable[tuple[str, str | None, int]]:
    """Give name, hash and packets of every pipe: of links, and of the loopback interfaces that were used."""
    for pipe in links:
        yield pipe.name, pipe.hash, pipe.hashed_packets
    for index in network.switch.loopbacks():
        chain, packets = network.switch.pipe_proof(index)
        if packets:
            yield network.wiring.interface_name(index), f"{chain:016x}", packets


def run_hash(pipes: Iterable[tuple[str, str | None, int]]) -> str:
    """Combine the hashes of all pipes (name, hash, packets), in the order of their names, into one digest."""
    digest = sha256()
    for name, chain, packets in sorted(pipes):
        digest.update(f"{name} {chain} {packets}\n".encode())
    return digest.hexdigest()


def _node_summaries(network: Network) -> Iterable[NodeSummary]:
    for name, index in network.wiring.nodes.items():
        drops = {reason: count for reason, count in network.switch.node_drops(index).items() if count}
        if drops:
            yield NodeSummary(name, drops)


# Telling it.


def summary_lines(summary: Summary, ended: str | None = None) -> list[str]:
    """Return the summary as lines of text for a terminal."""
    lines = head_lines(summary, ended)
    for part in (_traffic_lines(summary), _link_lines(summary), _node_lines(summary)):
        if part:
            lines += ["", *part]
    lines += ["", own_loss_line(summary), *verdict_lines(summary.verdict)]
    if summary.missing_offloads:
        missing = ", ".join(summary.missing_offloads)
        lines.append(f"This kernel lacks offloads, so that taps cost more time: {missing}.")
    return lines


def head_lines(summary: Summary, ended: str | None) -> list[str]:
    """Return how long it ran, in which time, why it ended, and what keeps it from being repeated."""
    text = f"{summary.network}: {clock_text(summary.emulated_ns)}"
    if summary.time != "real":
        text += f" of {summary.time} time in {time_text(summary.wall_ns)}"
    if ended is not None:
        text += f", ended: {ended}"
    lines = [f"{text} (seed {summary.seed})"]
    if summary.run_hash is not None:
        lines.append(f"run hash {summary.run_hash}")
    if summary.outside_changes:
        changes = [*summary.outside_changes[:5], *(["…"] if len(summary.outside_changes) > 5 else [])]
        lines.append(f"not reproducible: changed from outside ({'; '.join(changes)})")
    if summary.devices and summary.time != "real":
        lines.append("programs outside live in another time than this network")
    return lines


def traffic_table(traffic: Iterable[TrafficSummary]) -> list[str]:
    """Return a table of the network's own traffic."""
    rows = []
    for flow in traffic:
        rows.append(
            [
                flow.label,
                count_text(flow.sent_packets),
                count_text(flow.received_packets),
                lost_text(flow),
                count_text(flow.reordered_packets),
                rate_text(flow.rate_bps),
                time_text(flow.delay_min_ns),
                time_text(flow.delay_median_ns),
                time_text(flow.delay_p99_ns),
                time_text(flow.delay_max_ns),
            ]
        )
    headers = ["TRAFFIC", "SENT", "RECEIVED", "LOST", "REORDERED", "RATE", "MIN", "MEDIAN", "P99", "MAX"]
    return table(headers, rows)


def lost_text(flow: TrafficSummary) -> str:
    """Return how many packets a flow lost, which is at most so many while it goes on."""
    if flow.lost_packets is None:
        return NOTHING
    at_most = "" if flow.done or not flow.lost_packets else "≤"
    return f"{at_most}{flow.lost_packets:,} ({share_text(flow.lost_packets, flow.sent_packets)})"


def _traffic_lines(summary: Summary) -> list[str]:
    return traffic_table(summary.traffic) if summary.traffic else []


FATE_COLUMNS = {
    "queue_drop_packets": "QUEUE DROPS",
    "early_drop_packets": "EARLY DROPS",
    "loss_packets": "LOSS",
    "marked_packets": "MARKED",
    "duplicate_packets": "DUPLICATED",
    "corrupted_packets": "CORRUPTED",
    "reordered_packets": "REORDERED",
    "down_drop_packets": "DOWN",
    "loop_drop_packets": "LOOP",
    "in_flight_packets": "ON THE WAY",
}


def pipe_table(pipes: Iterable[PipeSummary]) -> list[str]:
    """Return a table of the directions of links, with those fates of packets that happened."""
    pipes = list(pipes)
    counters = [dict(pipe.counters) for pipe in pipes]
    shown = [key for key in FATE_COLUMNS if any(counter[key] for counter in counters)]
    headers = ["LINK", "STATE", "SENT", "DELIVERED", *(FATE_COLUMNS[key] for key in shown)]
    timed = any(pipe.lateness for pipe in pipes)
    if timed:
        headers += ["LATENESS P99", "WORST"]
    rows = []
    for pipe, counter in zip(pipes, counters, strict=True):
        drops = [f"{counter[key]:,}" for key in shown]
        state = "up" if pipe.up else "down"
        delivered = count_text(pipe.counters["delivered_packets"])
        rows.append(
            [
                pipe.name,
                state,
                count_text(pipe.counters["sent_packets"]),
                delivered,
                *drops,
                *(_lateness_cells(pipe.lateness) if timed else []),
            ]
        )
    return table(headers, rows, left=2)


def _lateness_cells(lateness: LatenessSummary | None) -> list[str]:
    if lateness is None:
        return [NOTHING, NOTHING]
    return [time_text(lateness.p99_ns), time_text(lateness.worst_ns)]


def _link_lines(summary: Summary) -> list[str]:
    pipes = summary.links
    if not pipes:
        return []
    limit = 2 * LINKS_IN_TEXT
    if len(pipes) <= limit:
        return pipe_table(pipes)
    shown = sorted(
        pipes, key=lambda pipe: pipe.counters["sent_packets"] == pipe.counters["delivered_packets"]
    )
    return [
        *pipe_table(shown[:limit]),
        f"… and {plural(len(pipes) - limit, 'more direction')}: --json has all of them",
    ]


def _node_lines(summary: Summary) -> list[str]:
    rows = [
        [
            node.node,
            ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in node.drops.items()),
        ]
        for node in summary.nodes
    ]
    return table(["NODE", "DROPS"], rows, left=2) if rows else []


def own_loss_line(summary: Summary) -> str:
    """Return whether the emulator itself lost packets, and where, or events."""
    lost = []
    if summary.own_loss_packets:
        total = plural(sum(summary.own_loss_packets.values()), "packet")
        places = ", ".join(f"{place} {count:,}" for place, count in summary.own_loss_packets.items())
        lost.append(f"{total} ({places})")
    if summary.engine["lost_events"]:
        lost.append(f"{plural(summary.engine['lost_events'], 'event')}, which came too fast for Python")
    return f"The emulator itself lost {' and '.join(lost) or 'nothing'}."
