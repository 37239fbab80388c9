"""The engine as a user holds it: a topology, a clock, and names instead of indices.

Every call that waits for emulated time exists twice: `name(...)` runs the engine's loop until it is done,
`async_name(...)` is for coroutines that run on that loop already. `docs/python.md` lists both.
"""

import asyncio
import difflib
import os
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from manystack.core import _switch as core
from manystack.errors import ManystackError, UsageError
from manystack.handles import LinkHandle, NodeHandle
from manystack.host.nic import HostNic, open_nic
from manystack.host.runtime import Runtime
from manystack.host.tap import HostTap, open_tap
from manystack.loop import SECOND_NS, EngineLoop, Progress
from manystack.probes import duration_ns
from manystack.record.capture import WHOLE_FRAMES, Capture, Captures, open_file
from manystack.record.eventfile import EventFile
from manystack.report.summary import Summary, summarize
from manystack.report.verdict import Verdict, Watch
from manystack.topology import PlacedError, TimeMode, Topology, TopologyError
from manystack.topology.model import DEVICE_KINDS
from manystack.wiring import wire

if TYPE_CHECKING:
    from manystack.control.server import ControlServer

_T = TypeVar("_T")

SLICE_NS = 10_000_000
"""Real time that the data path may take before Python looks at signals and sockets again."""

FAR_NS = 3600 * SECOND_NS
"""How far a run without a moment in mind may look ahead while flows are running: their end is an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the network: when (ns), what, and to whom."""

    time_ns: int
    kind: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.detail}".rstrip()


class Engine:
    """A running network. Use it as a context manager, or call start() and close().

    time: "real", "virtual" or "xN" (one emulated second in N real ones); default: as the topology says.
    seed: of every random choice; default: as the topology says. name: what other programs know the
    network by; with a name (or a tap or nic) it gets a control socket that the `emu` commands use.
    run_hash: whether a virtual run is hashed, which costs some nanoseconds for each packet and link.
    events: a file to write every arrival of a packet to, for `emu diff`.

    Raises TopologyError for a topology that cannot run like this. One thread at a time may use an engine.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        time: str | TimeMode | None = None,
        seed: int | None = None,
        name: str | None = None,
        run_hash: bool = True,
        events: str | Path | None = None,
    ) -> None:
        self.topology = topology
        self.mode = _time_mode(topology, time)
        self.seed = topology.seed if seed is None else seed
        self.name = topology.name if name is None else name
        self._device_nodes = {
            node: model.kind for node, model in topology.nodes.items() if model.kind in DEVICE_KINDS
        }
        if self.is_virtual and self._device_nodes:
            raise TopologyError(
                [
                    PlacedError(
                        f"nodes.{node}",
                        f"a {kind} lives in real time; run with time real or xN, or remove it",
                    )
                    for node, kind in self._device_nodes.items()
                ]
            )
        self._is_public = name is not None or bool(self._device_nodes)
        self.has_run_hash = run_hash and self.is_virtual
        """Whether all that arrives by a link is hashed: see Summary.run_hash."""
        self.switch = core.Switch(
            real_time=not self.is_virtual,
            dilation=self.mode.factor,
            proof=self.has_run_hash or events is not None,
        )
        """The compiled engine itself, for what has no name here."""
        self.taps: dict[str, HostTap] = {}
        self.nics: dict[str, HostNic] = {}
        self.lost_devices: set[str] = set()
        """The taps and nics whose device is down or has been deleted; their links are down."""
        self.outside_changes: list[str] = []
        self.event_file: EventFile | None = None
        self._events_path = None if events is None else Path(events)
        self.drains: list[Callable[[], object]] = []
        """Called when a ring of the switch is half full, to read those that they are for: Switch.drain."""
        self.switch.drain = self._drain
        self._cleanup = ExitStack()
        self._cleanup.callback(self._close_switch)
        self._state = "built"
        self._closed_ns = 0
        self._began_wall_ns = self._ended_wall_ns = 0
        self._subscribers: list[Callable[[Event], None]] = []
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._lost_events = 0
        self._runs: dict[asyncio.Future[str], bool] = {}
        self._stop_reason: str | None = None
        self._server: ControlServer | None = None
        try:
            self.wiring = wire(topology, self.switch, self.seed)
        except BaseException:
            self._cleanup.close()
            raise
        self._running = {state.flow for state in self.wiring.flows}
        self._index_names = list(self.wiring.nodes)
        self.loop = EngineLoop(self)
        """The asyncio loop on this engine's clock."""
        self._watch = Watch(self)
        self.captures = Captures(self)
        """What is being captured: see capture()."""
        self.drains.append(self.captures.drain)

    def start(self) -> None:
        """Open devices and the control socket, all or none; then, in real time, let time begin."""
        if self._state == "started":
            return
        self._require_open()
        try:
            if self._is_public:
                runtime = self._cleanup.enter_context(Runtime(self.name))
                self._open_nics()
                self._open_taps(runtime)
                self._serve(runtime)
            if self._events_path is not None:
                self._open_event_file(self._events_path)
            self._open_captures()
            self._began_wall_ns = monotonic_ns()
            if not self.is_virtual:
                self.switch.start()
                self._cleanup.callback(self.switch.stop)
                self.loop.add_reader(self.switch.event_fd, self._events_arrived, self.switch.event_fd)
        except BaseException:
            self.close()
            raise
        self._watch.begin()
        self._state = "started"

    def close(self) -> None:
        """End everything and leave nothing behind. Harmless when called again."""
        if self._state == "closed":
            return
        if self.loop.is_running():
            raise RuntimeError(
                "close() inside the engine's own loop would cut it off; call stop() and leave the loop"
            )
        self._ended_wall_ns = monotonic_ns()
        try:
            # First what runs on the loop, while time still moves; then the data path; then what it used.
            if self._server is not None:
                self._complete(self.loop.create_task(self._server.close()))
            self._close_loop()
        finally:
            self._cleanup.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Time.

    @property
    def is_virtual(self) -> bool:
        """Whether time runs as fast as it can, and only while a call waits for it."""
        return self.mode.kind == "virtual"

    @property
    def dilation(self) -> int:
        """Real seconds for one emulated second; 1 unless time is dilated."""
        return self.mode.factor

    @property
    def now_ns(self) -> int:
        """Emulated nanoseconds since the start."""
        return self._closed_ns if self._state == "closed" else self.switch.now_ns

    @property
    def wall_ns(self) -> int:
        """Real nanoseconds since the start."""
        if self._state == "built":
            return 0
        return (self._ended_wall_ns or monotonic_ns()) - self._began_wall_ns

    def run(self, duration: str | int | None = None) -> str:
        """Let the network run for a while ("10s", or ns), or until it is over; say why it ended.

        Without a duration a virtual run is over when nothing is left to do ("idle"), and a real one when its
        traffic is done and it has neither tap nor nic ("traffic done"). "duration": the time is up;
        "stopped": stop().
        """
        return self.run_until_complete(self.async_run(duration))

    async def async_run(self, duration: str | int | None = None) -> str:
        """As run(), for a coroutine on the engine's loop."""
        over: asyncio.Future[str] = self.loop.create_future()
        timer = None
        if self._stop_reason is not None:
            reason, self._stop_reason = self._stop_reason, None
            return reason
        if duration is not None:
            until = (self.now_ns + duration_ns(duration, "duration")) / SECOND_NS
            timer = self.loop.call_at(until, _resolve, over, "duration")
        self._runs[over] = duration is None
        self._check_traffic_done()
        try:
            return await over
        finally:
            del self._runs[over]
            if timer is not None:
                timer.cancel()

    def stop(self, reason: str = "stopped") -> None:
        """End every run() in progress, or else the next one, for this reason. Any thread may call it."""
        self.loop.call_soon_threadsafe(self._stop_runs, reason)

    def run_until_complete(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the engine's loop, and with it the network, until it is done."""
        if self.loop.is_running():
            coroutine.close()
            raise RuntimeError(
                "the engine's loop is running already; inside it, await the async_ form of this call"
            )
        try:
            self.start()
        except BaseException:
            coroutine.close()
            raise
        if asyncio._get_running_loop() is None:
            return self._complete(self.loop.create_task(coroutine))
        # Another loop runs in this thread and has to wait, as for any call that blocks: ours gets a thread.
        task = self.loop.create_task(coroutine)
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(self._complete, task)
            try:
                return outcome.result()
            except KeyboardInterrupt:
                self.loop.call_soon_threadsafe(task.cancel)
                raise

    # Names.

    def node(self, name: str) -> NodeHandle:
        """Return a node by its name."""
        model = self.topology.nodes.get(name)
        if model is None:
            raise UsageError(f"no node {name!r} in {self.name}{_similar(name, self.topology.nodes)}")
        return NodeHandle(self, name, model.kind, self.wiring.nodes[name])

    def nodes(self) -> list[NodeHandle]:
        """Return every node, in the order of the topology."""
        return [self.node(name) for name in self.wiring.nodes]

    def link(self, a: str, b: str) -> LinkHandle:
        """Return the link between two interfaces (`node.interface`; the node alone where it has only one)."""
        a, b = self._interface(a), self._interface(b)
        index = self.wiring.link_of.get(a)
        if index is None or self.wiring.link_of.get(b) != index or a == b:
            state = None if index is None else self.wiring.links[index]
            peer = "nothing" if state is None else state.ends[state.ends[0] == a]
            raise UsageError(f"no link between {a} and {b}: {a} is linked to {peer}")
        state = self.wiring.links[index]
        return LinkHandle(self, state, state.ends[0] != a)

    def links(self) -> list[LinkHandle]:
        """Return every link, in the order of the topology."""
        return [LinkHandle(self, state, False) for state in self.wiring.links]

    def capture(self, file: str | Path, *interfaces: str, snap_length: int = WHOLE_FRAMES) -> Capture:
        """Write what passes interfaces to a pcapng file until the capture or the engine is closed.

        A node alone is all of its interfaces, none at all is every one. Of each frame the first
        `snap_length` bytes are written. Raises UsageError for an unknown interface and for a file that
        cannot be made. A file that cannot be written to any more ends the capture: Capture.error says why.
        """
        self.start()
        return open_file(self.captures, Path(file), interfaces, snap_length)

    def no_interface(self, name: str) -> str:
        """Say that there is no such interface, and what may have been meant."""
        return f"no interface {name!r} in {self.name}{_similar(name, self.wiring.interfaces)}"

    def resolve(self, destination: str | IPv4Address) -> IPv4Address:
        """Return the address that is meant: an address as it is, a node's name as its first one."""
        if isinstance(destination, IPv4Address):
            return destination
        model = self.topology.nodes.get(destination)
        if model is not None:
            for _, address in model.addressed():
                return address.ip
            raise UsageError(f"node {destination} has no address")
        try:
            return IPv4Address(destination)
        except AddressValueError:
            hint = _similar(destination, self.topology.nodes)
            raise UsageError(f"{destination!r} is neither an IPv4 address nor a node{hint}") from None

    # Events and results.

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every event from now on; call what is returned to end that."""
        self._subscribers.append(listener)
        return lambda: self._subscribers.remove(listener)

    def publish(self, kind: str, subject: str, detail: str = "") -> None:
        """Tell every subscriber of an event that happens now."""
        self._tell(Event(self.now_ns, kind, subject, detail))

    def note_outside_change(self, what: str) -> None:
        """Remember that somebody outside changed a virtual run, which therefore cannot be repeated."""
        if self.is_virtual:
            self.outside_changes.append(what)

    def summary(self) -> Summary:
        """Return what the network has done so far: traffic, links, drops, the engine's own losses, times."""
        self._require_open()
        self.switch.settle()
        return summarize(self)

    def verdict(self) -> Verdict:
        """Return whether the run so far can be relied on; where not, when and by how much."""
        self._require_open()
        return self._watch.verdict()

    @property
    def is_degraded(self) -> bool:
        """Whether the last whole second was degraded; it is looked at while the engine's loop runs."""
        return self._watch.is_degraded

    # Flows: for handles and probes.

    def watch_flow(self, flow: int) -> "asyncio.Future[None]":
        """Return a future that is done when the flow is."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters[flow] = waiter
        self._running.add(flow)
        return waiter

    def remove_flow(self, flow: int) -> None:
        """End a flow that watch_flow() was called for."""
        self._waiters.pop(flow, None)
        self._running.discard(flow)
        if self._state == "started":
            self.switch.remove_flow(flow)
            self._check_traffic_done()

    # The loop's side: see loop.Timeline.

    def advance(self, until_ns: int | None) -> Progress:
        """Move virtual time: see loop.Timeline."""
        switch = self.switch
        if until_ns is None:
            following = switch.next_event_ns
            if following is None:
                return Progress.EVENT if self._dispatch() else Progress.IDLE
            until_ns = following + FAR_NS if self._running else following
        reached = switch.run(until_ns, stop_on_event=True, wall_limit_ns=SLICE_NS)
        self.captures.drain()
        if self._dispatch():
            return Progress.EVENT
        return Progress.REACHED if reached else Progress.SLICE

    def idle(self) -> bool:
        """End the runs that wait for nothing in particular: nothing is left to do."""
        return self._finish_runs("idle", open_only=True)

    # Inside.

    def _open_nics(self) -> None:
        nodes: dict[object, str] = {}
        for name, kind in self._device_nodes.items():
            if kind != "nic":
                continue
            node = self.topology.nodes[name]
            nic = open_nic(node.device, node.namespace)
            self.nics[name] = self._cleanup.enter_context(closing(nic))
            other = nodes.setdefault(nic.identity, name)
            if other != name:
                raise UsageError(f"nic {node.device}: the nodes {other} and {name} share this device")
            self.switch.attach_nic(self.wiring.nodes[name], nic.fd)

    def _open_taps(self, runtime: Runtime) -> None:
        for name, kind in self._device_nodes.items():
            if kind != "tap":
                continue
            node = self.topology.nodes[name]
            tap = open_tap(node.device, node.namespace, node.addresses, node.routes, node.mtu, runtime)
            self.taps[name] = self._cleanup.enter_context(closing(tap))
        for name, tap in self.taps.items():
            self.switch.attach_tap(self.wiring.nodes[name], tap.fd, takes_udp="uso4" in tap.offloads)

    def _open_event_file(self, path: Path) -> None:
        self.event_file = EventFile(self, path)
        self._cleanup.callback(self.event_file.close)
        self.drains.append(self.event_file.drain)
        if not self.is_virtual:
            ring_fd = self.switch.ring_fd(core.EVENT_RING)
            self.loop.add_reader(ring_fd, self._arrivals_told, ring_fd)
            self._write_arrivals()

    def _arrivals_told(self, ring_fd: int) -> None:
        os.eventfd_read(ring_fd)  # before taking records, so that none can come unnoticed in between
        self._write_arrivals()

    def _write_arrivals(self) -> None:
        assert self.event_file is not None
        if self.event_file.drain():
            self.loop.call_soon(self._write_arrivals)  # others have their turn in between

    def _open_captures(self) -> None:
        self._cleanup.callback(self.captures.close)
        for number, capture in enumerate(self.topology.capture):
            try:
                open_file(self.captures, Path(capture.file), capture.interfaces, capture.snap_bytes)
            except ManystackError as error:
                raise TopologyError([PlacedError(f"capture[{number}]", str(error))]) from None

    def _drain(self) -> None:
        for drain in self.drains:
            drain()

    def _serve(self, runtime: Runtime) -> None:
        # Imported here: networks without a name need no ZeroMQ.
        from manystack.control.server import ControlServer

        self._server = ControlServer(self, runtime.control_endpoint)
        self._complete(self.loop.create_task(self._server.start()))

    def _complete(self, task: asyncio.Task[_T]) -> _T:
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task]))
            raise

    def _events_arrived(self, event_fd: int) -> None:
        os.eventfd_read(event_fd)  # before taking events, so that none can come unnoticed in between
        self._dispatch()

    def _dispatch(self) -> bool:
        events = self.switch.take_events()
        lost_events = self.switch.lost_events
        if lost_events != self._lost_events:
            self._lost_events = lost_events
            events += self._looked_up()
        for time_ns, kind, index in events:
            if kind == core.FLOW_DONE:
                if index not in self._running or not self._is_done(index):
                    continue
                self._running.remove(index)
                waiter = self._waiters.get(index)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif kind == core.DEVICE_GONE:
                if self._index_names[index] in self.lost_devices:
                    continue
                self._device_is_gone(self._index_names[index])
            event = self._named(time_ns, kind, index)
            if event is not None:
                self._tell(event)
        if events:
            self._check_traffic_done()
        return bool(events)

    def _looked_up(self) -> list[tuple[int, int, int]]:
        """Return events for what cannot be left untold, because somebody waits for it or it lasts.

        Some of it may have been told, or be about to be.
        """
        switch, now_ns = self.switch, self.now_ns
        done = [(now_ns, core.FLOW_DONE, flow) for flow in sorted(self._running) if self._is_done(flow)]
        devices = (self.wiring.nodes[name] for name in self._device_nodes)
        gone = [(now_ns, core.DEVICE_GONE, node) for node in devices if switch.is_device_gone(node)]
        return done + gone

    def _is_done(self, flow: int) -> bool:
        # The event may be about an earlier flow of the same number, which was removed before it was read.
        return self.switch.flow(flow, quantiles=False)["done"]

    def _named(self, time_ns: int, kind: int, index: int) -> Event | None:
        if kind == core.FLOW_DONE:
            for number, flow in enumerate(self.wiring.flows):
                if flow.flow == index:
                    return Event(time_ns, "traffic-done", f"traffic[{number}]", flow.label)
        elif kind == core.NEIGHBOR_FAILED:
            return Event(time_ns, "neighbor-failed", self._index_names[index])
        elif kind == core.DEVICE_GONE:
            name = self._index_names[index]
            return Event(time_ns, "device-gone", name, self.topology.nodes[name].device)
        return None

    def _device_is_gone(self, name: str) -> None:
        self.lost_devices.add(name)
        link = self.wiring.link_of.get(f"{name}.{self.topology.nodes[name].device}")
        if link is not None:
            self.wiring.links[link].up = False

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._subscribers):
            listener(event)

    def _check_traffic_done(self) -> None:
        if not self.is_virtual and self.wiring.flows and not self._running and not self._device_nodes:
            self._finish_runs("traffic done", open_only=True)

    def _stop_runs(self, reason: str) -> None:
        if not self._finish_runs(reason, open_only=False):
            self._stop_reason = reason

    def _finish_runs(self, reason: str, *, open_only: bool) -> bool:
        over = [future for future, is_open in self._runs.items() if is_open or not open_only]
        for future in over:
            _resolve(future, reason)
        return bool(over)

    def _interface(self, name: str) -> str:
        if name in self.wiring.interfaces:
            return name
        only = self.wiring.interfaces_of.get(name)
        if only is not None and len(only) == 1:
            return f"{name}.{only[0]}"
        if only:
            names = ", ".join(f"{name}.{interface}" for interface in only)
            raise UsageError(f"{name} has more than one interface: name one of {names}")
        raise UsageError(self.no_interface(name))

    def _require_open(self) -> None:
        if self._state == "closed":
            raise RuntimeError("the engine is closed")

    def _close_switch(self) -> None:
        self._closed_ns = self.switch.now_ns
        self._state = "closed"
        self.switch.close()

    def _close_loop(self) -> None:
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _resolve(future: "asyncio.Future[str]", reason: str) -> None:
    if not future.done():
        future.set_result(reason)


def _similar(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _time_mode(topology: Topology, time: str | TimeMode | None) -> TimeMode:
    if time is None:
        return topology.time
    if isinstance(time, TimeMode):
        return time
    try:
        return TimeMode.parse(time)
    except ValueError as error:
        raise UsageError(f"time: {error}") from None
