"""What `emu-run` shows while a network runs: a live view on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from manystack.engine import Engine, Event
from manystack.summary import TrafficSummary, lost_text, own_losses, traffic_summary
from manystack.text import clock_text, count_text, plural, rate_text, time_text

if TYPE_CHECKING:
    from manystack.core._switch import FlowStatistics

LIVE_PERIOD_S = 0.25
PLAIN_PERIOD_S = 5.0
SHARE = 0.05
"""The part of the loop's time that a view may take; it is refreshed less often where that takes longer."""
LINKS_AT_MOST = 200
"""Links whose counters are read at each refresh; more would not fit a screen."""


class View(Protocol):
    """Shows a running engine; the times of its calls are real, not emulated."""

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
def showing(view: View, engine: Engine) -> Iterator[None]:
    """Keep a view up to date while the block runs the engine's loop."""
    over = threading.Event()
    rests_until = 0.0

    # The loop's own timers are emulated ones, so real periods come from a thread.
    def tick() -> None:
        while not over.wait(view.period_s):
            engine.loop.call_soon_threadsafe(refresh)

    def refresh() -> None:
        nonlocal rests_until
        began = monotonic()
        if began >= rests_until:
            view.refresh()
            rests_until = monotonic() + (monotonic() - began) / SHARE

    unsubscribe = engine.subscribe(view.event)
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

    def __init__(self, engine: Engine, write: Callable[[str], None]) -> None:
        self._engine = engine
        self._write = write
        self._hops = 0
        self._wall_ns = 0

    def begin(self) -> None:
        """Say what runs."""
        self._write(start_line(self._engine))

    def refresh(self) -> None:
        """Say how far it is."""
        engine = self._engine
        hops, wall_ns = engine.switch.statistics()["hop_packets"], engine.wall_ns
        rate = (hops - self._hops) * 1e9 / max(1, wall_ns - self._wall_ns)
        self._hops, self._wall_ns = hops, wall_ns
        flows = [engine.switch.flow(state.flow, quantiles=False) for state in engine.wiring.flows]
        done = sum(flow["done"] for flow in flows)
        text = f"{clock_text(engine.now_ns):>12}  {count_text(hops)} hop-packets, {rate:,.0f} a second"
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

    def __init__(self, engine: Engine, console: Console) -> None:
        self._engine = engine
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._events: list[Event] = []
        self._before: dict[tuple[str, int], tuple[int, int]] = {}
        self._then_ns = 0
        self._hops = self._wall_ns = 0

    def begin(self) -> None:
        """Take the screen's lower part."""
        self._live.start()
        self.refresh()

    def refresh(self) -> None:
        """Redraw."""
        self._live.update(self._render(), refresh=True)

    def event(self, event: Event) -> None:
        """Keep the last few."""
        self._events = [*self._events[-3:], event]

    def end(self) -> None:
        """Give the screen back."""
        self._live.stop()

    def _render(self) -> RenderableType:
        engine = self._engine
        span_ns = engine.now_ns - self._then_ns
        tables = 2 + bool(engine.wiring.flows)
        rows = max(3, (self._console.height - 8) // tables - 3)
        parts: list[RenderableType] = [self._head()]
        if engine.wiring.flows:
            parts += ["", self._traffic(rows, span_ns)]
        if engine.wiring.links:
            parts += ["", self._links(rows, span_ns)]
        parts += ["", self._nodes(rows, span_ns)]
        if self._events:
            parts += [""]
            parts += [
                Text(f"{clock_text(event.time_ns):>12}  {event}", style="dim") for event in self._events
            ]
        self._then_ns = engine.now_ns
        return Group(*parts)

    def _head(self) -> Text:
        engine = self._engine
        statistics = engine.switch.statistics()
        hops, wall_ns = statistics["hop_packets"], engine.wall_ns
        rate = (hops - self._hops) * 1e9 / max(1, wall_ns - self._wall_ns)
        self._hops, self._wall_ns = hops, wall_ns
        text = Text.assemble(
            (engine.name, "bold"),
            f"  {clock_text(engine.now_ns)}  {engine.mode} time",
            f"  {plural(len(engine.wiring.nodes), 'node')}, {plural(len(engine.wiring.links), 'link')}",
            f"  {rate:,.0f} hop-packets/s",
        )
        losses = own_losses(engine, statistics)
        if losses:
            text.append(f"  emulator lost {sum(losses.values()):,}", "bold red")
        return text

    def _traffic(self, rows: int, span_ns: int) -> Table:
        table = _table("TRAFFIC", "SENT", "RECEIVED", "LOST", "RATE", "MIN", "MAX")
        flows = self._engine.wiring.flows
        for state in flows[:rows]:
            statistics = self._engine.switch.flow(state.flow, quantiles=False)
            table.add_row(
                *self._traffic_row(traffic_summary(state, statistics), state.flow, statistics, span_ns)
            )
        return _with_rest(table, len(flows) - rows)

    def _traffic_row(
        self, flow: TrafficSummary, number: int, statistics: "FlowStatistics", span_ns: int
    ) -> list[str | Text]:
        packets, octets = self._rates(
            "flow", number, statistics["received_packets"], statistics["received_bytes"], span_ns
        )
        return [
            Text(flow.label, style="dim" if flow.done else ""),
            count_text(flow.sent_packets),
            count_text(flow.received_packets),
            lost_text(flow),
            "done" if flow.done else rate_text(8 * octets) if flow.kind == "udp" else f"{packets:,.0f}/s",
            time_text(flow.delay_min_ns),
            time_text(flow.delay_max_ns),
        ]

    def _links(self, rows: int, span_ns: int) -> Table:
        table = _table("LINK", "→", "PACKETS/S", "WAITING", "←", "PACKETS/S", "WAITING", "DROPPED")
        links = self._engine.links()
        for number, link in enumerate(links[: min(rows, LINKS_AT_MOST)]):
            cells: list[str] = []
            dropped = 0
            for direction, pipe in enumerate(link.statistics()):
                key = 2 * number + direction
                packets, octets = self._rates(
                    "pipe", key, pipe["delivered_packets"], pipe["delivered_bytes"], span_ns
                )
                cells += [rate_text(8 * octets), f"{packets:,.0f}", count_text(pipe["waiting_packets"])]
                dropped += pipe["sent_packets"] - pipe["delivered_packets"] - pipe["in_flight_packets"]
            name = Text(" — ".join(link.ends), style="" if link.is_up else "red strike")
            table.add_row(name, *cells, count_text(dropped))
        return _with_rest(table, len(links) - rows)

    def _nodes(self, rows: int, span_ns: int) -> Table:
        table = _table("NODE", "KIND", "IN/S", "OUT/S", "DROPPED")
        switch, wiring = self._engine.switch, self._engine.wiring
        for node in self._engine.nodes()[:rows]:
            counters = [switch.interface_statistics(wiring.interfaces[name]) for name in node.interfaces]
            arrived = sum(counter["rx_packets"] for counter in counters)
            left = sum(counter["tx_packets"] for counter in counters)
            in_rate, out_rate = self._rates("node", node.index, arrived, left, span_ns)
            dropped = sum(switch.node_drops(node.index).values())
            table.add_row(node.name, node.kind, f"{in_rate:,.0f}", f"{out_rate:,.0f}", count_text(dropped))
        return _with_rest(table, len(wiring.nodes) - rows)

    def _rates(self, kind: str, number: int, first: int, second: int, span_ns: int) -> tuple[float, float]:
        """Return how fast two counters grew since the last refresh, a second of emulated time."""
        before_first, before_second = self._before.get((kind, number), (0, 0))
        self._before[kind, number] = first, second
        if span_ns <= 0:
            return 0.0, 0.0
        return (first - before_first) * 1e9 / span_ns, (second - before_second) * 1e9 / span_ns


def start_line(engine: Engine) -> str:
    """Return what is about to run, in one line."""
    wiring = engine.wiring
    size = f"{plural(len(wiring.nodes), 'node')}, {plural(len(wiring.links), 'link')}"
    return f"{engine.name}: {size}, {engine.mode} time, seed {engine.seed}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for header in others:
        table.add_column(header, justify="left" if header == "DROPS" else "right", no_wrap=True)
    return table


def _with_rest(table: Table, left_out: int) -> Table:
    if left_out > 0:
        table.add_row(Text(f"… {left_out:,} more", style="dim"), *[""] * (len(table.columns) - 1))
    return table
