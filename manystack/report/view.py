"""What `emu-run` shows while a network runs: a live view on a terminal, plain lines elsewhere."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from manystack.network import Event, Network
from manystack.report.summary import TrafficSummary, lost_text, traffic_summary
from manystack.report.verdict import own_losses
from manystack.text import clock_text, count_text, plural, rate_text, time_text

if TYPE_CHECKING:
    from manystack.core._switch import FlowStatistics

LIVE_PERIOD_S = 0.25
PLAIN_PERIOD_S = 5.0
SHARE = 0.05
"""The part of the loop's time that a view may take; it is refreshed less often where that takes longer."""
LINKS_AT_MOST = 200
"""Links whose counters are read at each refresh; more would not fit a screen."""
RATE_NS = 1_000_000_000
"""The emulated time that rates are an average over; more where more passes between two refreshes."""
RATE_REFRESHES = 40
"""The most refreshes that a rate looks back; in dilated time they may be less than RATE_NS."""
RATE_DIGITS = 3
"""More would tell of single packets."""

Reading = tuple[int, int, int]
"""Two counters, behind the emulated time at which they were read."""


class View(Protocol):
    """Shows a running network; the times of its calls are real, not emulated."""

    period_s: float

    def begin(self) -> None:
        """The network has started."""

    def refresh(self) -> None:
        """A period is over."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def end(self) -> None:
        """The run is over; the summary follows."""


@contextmanager
def showing(view: View, network: Network) -> Iterator[None]:
    """Keep a view up to date while the block runs the network's loop."""
    over = threading.Event()
    rests_until = 0.0

    # The loop's own timers are emulated ones, so real periods come from a thread.
    def tick() -> None:
        while not over.wait(view.period_s):
            network.loop.call_soon_threadsafe(refresh)

    def refresh() -> None:
        nonlocal rests_until
        began = monotonic()
        if began >= rests_until:
            view.refresh()
            rests_until = monotonic() + (monotonic() - began) / SHARE

    unsubscribe = network.subscribe(view.event)
    ticker = threading.Thread(target=tick, name="view", daemon=True)
    view.begin()
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
        unsubscribe()
        view.end()


class PlainView:
    """Lines: one at the start, one now and then, and one for each event."""

    period_s = PLAIN_PERIOD_S

    def __init__(self, network: Network, write: Callable[[str], None]) -> None:
        self._network = network
        self._write = write
        self._hops = 0
        self._wall_ns = 0

    def begin(self) -> None:
        """Say what runs."""
        self._write(start_line(self._network))

    def refresh(self) -> None:
        """Say how far it is."""
        network = self._network
        hops, wall_ns = network.switch.statistics()["hop_packets"], network.wall_ns
        rate = (hops - self._hops) * 1e9 / max(1, wall_ns - self._wall_ns)
        self._hops, self._wall_ns = hops, wall_ns
        flows = [network.switch.flow(state.flow, quantiles=False) for state in network.wiring.flows]
        done = sum(flow["done"] for flow in flows)
        text = f"{clock_text(network.now_ns):>12}  {count_text(hops)} hop-packets, {rate:,.0f} a second"
        if flows:
            text += f"; traffic: {done} of {len(flows)} done"
        self._write(text)

    def event(self, event: Event) -> None:
        """Say what happened."""
        self._write(f"{clock_text(event.time_ns):>12}  {event}")

    def end(self) -> None:
        """Part the lines from the summary."""
        self._write("")


class LiveView:
    """A screenful that is redrawn: the clock, traffic, links, nodes that drop packets, the last events."""

    period_s = LIVE_PERIOD_S

    def __init__(self, network: Network, console: Console) -> None:
        self._network = network
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._events: list[Event] = []
        self._readings: deque[tuple[int, dict[tuple[str, int], Reading]]] = deque()
        self._hops = self._wall_ns = 0

    def begin(self) -> None:
        """Take the screen's lower part."""
        self._live.start()
        self.refresh()

    def refresh(self) -> None:
        """Redraw."""
        self._live.update(self.render(), refresh=True)

    def event(self, event: Event) -> None:
        """Keep the last few."""
        self._events = [*self._events[-3:], event]

    def end(self) -> None:
        """Give the screen back."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Return the screenful as it is now; its rates are since what was rendered a second ago."""
        network = self._network
        self._begin_readings(network.now_ns)
        tables = 2 + bool(network.wiring.flows)
        rows = max(3, (self._console.height - 8) // tables - 3)
        parts: list[RenderableType] = [self._head()]
        if network.wiring.flows:
            parts += ["", self._traffic(rows)]
        if network.wiring.links:
            parts += ["", self._links(rows)]
        parts += ["", self._nodes(rows)]
        if self._events:
            parts += [""]
            parts += [
                Text(f"{clock_text(event.time_ns):>12}  {event}", style="dim") for event in self._events
            ]
        return Group(*parts)

    def _head(self) -> Text:
        network = self._network
        statistics = network.switch.statistics()
        hops, wall_ns = statistics["hop_packets"], network.wall_ns
        rate = (hops - self._hops) * 1e9 / max(1, wall_ns - self._wall_ns)
        self._hops, self._wall_ns = hops, wall_ns
        text = Text.assemble(
            (network.name, "bold"),
            f"  {clock_text(network.now_ns)}  {network.mode} time",
            f"  {plural(len(network.wiring.nodes), 'node')}, {plural(len(network.wiring.links), 'link')}",
            f"  {rate:,.0f} hop-packets/s",
        )
        losses = own_losses(network, statistics)
        if losses:
            text.append(f"  emulator lost {sum(losses.values()):,}", "bold red")
        if network.is_degraded:
            text.append("  degraded", "bold red")
        return text

    def _traffic(self, rows: int) -> Table:
        table = _table("TRAFFIC", "SENT", "RECEIVED", "LOST", "RATE", "MIN", "MAX")
        flows = self._network.wiring.flows
        for state in flows[:rows]:
            now_ns = self._network.now_ns
            statistics = self._network.switch.flow(state.flow, quantiles=False)
            table.add_row(
                *self._traffic_row(traffic_summary(state, statistics), state.flow, statistics, now_ns)
            )
        return _with_rest(table, len(flows) - rows)

    def _traffic_row(
        self, flow: TrafficSummary, number: int, statistics: "FlowStatistics", now_ns: int
    ) -> list[str | Text]:
        packets, octets = self._rates(
            "flow", number, (now_ns, statistics["received_packets"], statistics["received_bytes"])
        )
        pace = _rate_text(octets) if flow.kind == "udp" else f"{packets:,.0f}/s"
        return [
            Text(flow.label, style="dim" if flow.done else ""),
            count_text(flow.sent_packets),
            count_text(flow.received_packets),
            lost_text(flow),
            "done" if flow.done else pace,
            time_text(flow.delay_min_ns),
            time_text(flow.delay_max_ns),
        ]

    def _links(self, rows: int) -> Table:
        table = _table("LINK", "→", "PACKETS/S", "WAITING", "←", "PACKETS/S", "WAITING", "DROPPED")
        links, switch = self._network.wiring.links, self._network.switch
        for number, link in enumerate(links[: min(rows, LINKS_AT_MOST)]):
            cells: list[str] = []
            dropped = 0
            now_ns = self._network.now_ns
            for direction, pipe in enumerate(map(switch.pipe_statistics, link.pipes)):
                packets, octets = self._rates(
                    "pipe",
                    2 * number + direction,
                    (now_ns, pipe["delivered_packets"], pipe["delivered_bytes"]),
                )
                cells += [_rate_text(octets), f"{packets:,.0f}", count_text(pipe["waiting_packets"])]
                arriving = pipe["delivered_packets"] + pipe["in_flight_packets"]
                dropped += pipe["sent_packets"] + pipe["duplicate_packets"] - arriving
            name = Text(" — ".join(link.ends), style="" if link.up else "red strike")
            table.add_row(name, *cells, count_text(dropped))
        return _with_rest(table, len(links) - rows)

    def _nodes(self, rows: int) -> Table:
        table = _table("NODE", "KIND", "IN/S", "OUT/S", "DROPPED")
        switch, wiring = self._network.switch, self._network.wiring
        for name, index in islice(wiring.nodes.items(), rows):
            now_ns = self._network.now_ns
            own = (wiring.interfaces[f"{name}.{interface}"] for interface in wiring.interfaces_of[name])
            counters = [switch.interface_statistics(interface) for interface in own]
            arrived = sum(counter["rx_packets"] for counter in counters)
            left = sum(counter["tx_packets"] for counter in counters)
            in_rate, out_rate = self._rates("node", index, (now_ns, arrived, left))
            dropped = sum(switch.node_drops(index).values())
            kind = self._network.topology.nodes[name].kind
            table.add_row(name, kind, f"{in_rate:,.0f}", f"{out_rate:,.0f}", count_text(dropped))
        return _with_rest(table, len(wiring.nodes) - rows)

    def _begin_readings(self, now_ns: int) -> None:
        """Forget readings that are more than a second old, but for the last of them."""
        past = self._readings
        while len(past) == RATE_REFRESHES or (len(past) > 1 and now_ns - past[1][0] >= RATE_NS):
            past.popleft()
        past.append((now_ns, {}))

    def _rates(self, kind: str, number: int, reading: Reading) -> tuple[float, float]:
        """Return how fast two counters grew, a second of emulated time."""
        self._readings[-1][1][kind, number] = reading
        before_ns, *before = self._readings[0][1].get((kind, number), reading)
        now_ns, *counters = reading
        span_ns = max(1, now_ns - before_ns)
        first, second = (1e9 * (now - then) / span_ns for now, then in zip(counters, before, strict=True))
        return first, second


def start_line(network: Network) -> str:
    """Return what is about to run, in one line."""
    wiring = network.wiring
    size = f"{plural(len(wiring.nodes), 'node')}, {plural(len(wiring.links), 'link')}"
    return f"{network.name}: {size}, {network.mode} time, seed {network.seed}"


def _rate_text(octets: float) -> str:
    return rate_text(8 * octets, RATE_DIGITS)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for header in others:
        table.add_column(header, justify="left" if header == "KIND" else "right", no_wrap=True)
    return table


def _with_rest(table: Table, left_out: int) -> Table:
    if left_out > 0:
        table.add_row(Text(f"… {left_out:,} more", style="dim"), *[""] * (len(table.columns) - 1))
    return table
