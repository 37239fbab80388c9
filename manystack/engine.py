"""The engine as a user holds it: a topology, a clock, and names instead of indices.

Every call that waits for emulated time exists twice: `name(...)` runs the engine's loop until it is done,
`async_name(...)` is for coroutines that run on that loop already. `docs/python.md` lists both.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from manystack.core import _switch as core
from manystack.errors import ManystackError, UsageError
from manystack.handles import LinkHandle, NodeHandle
from manystack.host.nic import open_nic
from manystack.host.runtime import Runtime
from manystack.host.tap import open_tap
from manystack.loop import SECOND_NS, Progress
from manystack.network import Event, Network
from manystack.probes import duration_ns
from manystack.record.capture import WHOLE_FRAMES, Capture, Captures, open_file
from manystack.record.eventfile import EventFile
from manystack.report.summary import Summary, summarize
from manystack.report.verdict import Verdict, Watch
from manystack.topology import PlacedError, TimeMode, Topology, TopologyError
from manystack.topology.model import DEVICE_KINDS

if TYPE_CHECKING:
    from manystack.control.server import ControlServer

_T = TypeVar("_T")

SLICE_NS = 10_000_000
"""Real time that the data path may take before Python looks at signals and sockets again."""

FAR_NS = 3600 * SECOND_NS
"""How far a run without a moment in mind may look ahead while flows are running: their end is an event."""


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
        self._events_path = None if events is None else Path(events)
        self._cleanup = ExitStack()
        self._state = "built"
        self._runs: dict[asyncio.Future[str], int | None] = {}
        self._stop_reason: str | None = None
        self._server: ControlServer | None = None
        mode = _time_mode(topology, time)
        if mode.kind == "virtual":
            _refuse_devices(topology)
        self.network = Network(
            topology,
            mode,
            topology.seed if seed is None else seed,
            topology.name if name is None else name,
            self,
            has_run_hash=run_hash and mode.kind == "virtual",
            tells_arrivals=events is not None,
        )
        """What runs here, as it is now."""
        self._cleanup.callback(self._close_network)
        self._is_public = name is not None or bool(self.network.device_nodes)
        self.topology = topology
        self.mode = mode
        self.seed = self.network.seed
        self.name = self.network.name
        self.switch = self.network.switch
        """The compiled engine itself, for what has no name here."""
        self.wiring = self.network.wiring
        self.loop = self.network.loop
        """The asyncio loop on this engine's clock."""
        self.network.flows_changed = self._check_traffic_done
        self.event_file: EventFile | None = None
        self._watch = Watch(self.network)
        self.captures = Captures(self.network)
        """What is being captured: see capture()."""
        self._drains: list[Callable[[], object]] = [self.captures.drain]
        self.switch.drain = self._drain

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
            self.network.begin()
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
        self.network.end()
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
        return self.network.is_virtual

    @property
    def dilation(self) -> int:
        """Real seconds for one emulated second; 1 unless time is dilated."""
        return self.mode.factor

    @property
    def now_ns(self) -> int:
        """Emulated nanoseconds since the start."""
        return self.network.now_ns

    @property
    def wall_ns(self) -> int:
        """Real nanoseconds since the start."""
        return self.network.wall_ns

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
        until_ns = timer = None
        if self._stop_reason is not None:
            reason, self._stop_reason = self._stop_reason, None
            return reason
        if duration is not None:
            until_ns = self.now_ns + duration_ns(duration, "duration")
            if not self.is_virtual:
                timer = self.loop.call_at(until_ns / SECOND_NS, _resolve, over, "duration")
        self._runs[over] = until_ns
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
            raise UsageError(self.network.no_node(name))
        return NodeHandle(self.network, self, name, model.kind, self.wiring.nodes[name])

    def nodes(self) -> list[NodeHandle]:
        """Return every node, in the order of the topology."""
        return [self.node(name) for name in self.wiring.nodes]

    def link(self, a: str, b: str) -> LinkHandle:
        """Return the link between two interfaces (`node.interface`; the node alone where it has only one)."""
        a, b = self.network.interface(a), self.network.interface(b)
        index = self.wiring.link_of.get(a)
        if index is None or self.wiring.link_of.get(b) != index or a == b:
            state = None if index is None else self.wiring.links[index]
            peer = "nothing" if state is None else state.ends[state.ends[0] == a]
            raise UsageError(f"no link between {a} and {b}: {a} is linked to {peer}")
        state = self.wiring.links[index]
        return LinkHandle(self.network, state, state.ends[0] != a)

    def links(self) -> list[LinkHandle]:
        """Return every link, in the order of the topology."""
        return [LinkHandle(self.network, state, False) for state in self.wiring.links]

    def capture(self, file: str | Path, *interfaces: str, snap_length: int = WHOLE_FRAMES) -> Capture:
        """Write what passes interfaces to a pcapng file until the capture or the engine is closed.

        A node alone is all of its interfaces, none at all is every one. Of each frame the first
        `snap_length` bytes are written. Raises UsageError for an unknown interface and for a file that
        cannot be made. A file that cannot be written to any more ends the capture: Capture.error says why.
        """
        self.start()
        return open_file(self.captures, Path(file), interfaces, snap_length)

    # Events and results.

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every event from now on; call what is returned to end that."""
        return self.network.subscribe(listener)

    def summary(self) -> Summary:
        """Return what the network has done so far: traffic, links, drops, the engine's own losses, times."""
        self._require_open()
        self.switch.settle()
        return summarize(self.network, self.verdict())

    def verdict(self) -> Verdict:
        """Return whether the run so far can be relied on; where not, when and by how much."""
        self._require_open()
        return self._watch.verdict()

    @property
    def is_degraded(self) -> bool:
        """Whether the last whole second was degraded; it is looked at while the engine's loop runs."""
        return self.network.is_degraded

    # The loop's side: see loop.Timeline.

    def advance(self, until_ns: int | None) -> Progress:
        """Move virtual time: see loop.Timeline."""
        switch = self.switch
        over_ns = min((end_ns for end_ns in self._runs.values() if end_ns is not None), default=None)
        if over_ns is not None:
            over_ns = max(over_ns, self.now_ns)  # bringing all nodes to one time may have gone beyond it
        if until_ns is None:
            following = switch.next_event_ns
            if following is not None:
                until_ns = following + FAR_NS if self.network.running_flows else following
        if over_ns is not None and (until_ns is None or over_ns < until_ns):
            until_ns = over_ns
        if until_ns is None:
            return Progress.EVENT if self.network.take_events() else Progress.IDLE
        reached = switch.run(until_ns, stop_on_event=True, wall_limit_ns=SLICE_NS)
        self.captures.drain()
        told = self.network.take_events()
        if reached and until_ns == over_ns:
            for future, end_ns in self._runs.items():
                if end_ns is not None and end_ns <= over_ns:
                    _resolve(future, "duration")
            told = True
        if told:
            return Progress.EVENT
        return Progress.REACHED if reached else Progress.SLICE

    def idle(self) -> bool:
        """End the runs that wait for nothing in particular: nothing is left to do."""
        return self._finish_runs("idle", open_only=True)

    # Inside.

    def _open_nics(self) -> None:
        nodes: dict[object, str] = {}
        for name, kind in self.network.device_nodes.items():
            if kind != "nic":
                continue
            node = self.topology.nodes[name]
            nic = open_nic(node.device, node.namespace)
            self.network.nics[name] = self._cleanup.enter_context(closing(nic))
            other = nodes.setdefault(nic.identity, name)
            if other != name:
                raise UsageError(f"nic {node.device}: the nodes {other} and {name} share this device")
            self.switch.attach_nic(self.wiring.nodes[name], nic.fd)

    def _open_taps(self, runtime: Runtime) -> None:
        for name, kind in self.network.device_nodes.items():
            if kind != "tap":
                continue
            node = self.topology.nodes[name]
            tap = open_tap(node.device, node.namespace, node.addresses, node.routes, node.mtu, runtime)
            self.network.taps[name] = self._cleanup.enter_context(closing(tap))
        for name, tap in self.network.taps.items():
            self.switch.attach_tap(self.wiring.nodes[name], tap.fd, takes_udp="uso4" in tap.offloads)

    def _open_event_file(self, path: Path) -> None:
        self.event_file = EventFile(self.network, path)
        self._cleanup.callback(self.event_file.close)
        self._drains.append(self.event_file.drain)
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
        for drain in self._drains:
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
        self.network.take_events()

    def _check_traffic_done(self) -> None:
        network = self.network
        if network.wiring.flows and not (network.is_virtual or network.running_flows or network.device_nodes):
            self._finish_runs("traffic done", open_only=True)

    def _stop_runs(self, reason: str) -> None:
        if not self._finish_runs(reason, open_only=False):
            self._stop_reason = reason

    def _finish_runs(self, reason: str, *, open_only: bool) -> bool:
        over = [future for future, until_ns in self._runs.items() if until_ns is None or not open_only]
        for future in over:
            _resolve(future, reason)
        return bool(over)

    def _require_open(self) -> None:
        if self._state == "closed":
            raise RuntimeError("the engine is closed")

    def _close_network(self) -> None:
        self._state = "closed"
        self.network.close()

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


def _refuse_devices(topology: Topology) -> None:
    """Raise TopologyError for each tap and nic: there are none in virtual time."""
    errors = [
        PlacedError(
            f"nodes.{name}", f"a {node.kind} lives in real time; run with time real or xN, or remove it"
        )
        for name, node in topology.nodes.items()
        if node.kind in DEVICE_KINDS
    ]
    if errors:
        raise TopologyError(errors)


def _time_mode(topology: Topology, time: str | TimeMode | None) -> TimeMode:
    if time is None:
        return topology.time
    if isinstance(time, TimeMode):
        return time
    try:
        return TimeMode.parse(time)
    except ValueError as error:
        raise UsageError(f"time: {error}") from None
