"""A network as it is now: the switch that carries it, the names of what is there, its clock, what happens.

Whoever asks a running network, changes it, records it or reports on it holds one of these. The engine makes
it, and moves it: `engine.py`.
"""

import asyncio
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from time import monotonic_ns

from manystack.core import _switch as core
from manystack.errors import UsageError
from manystack.host.nic import HostNic
from manystack.host.tap import HostTap
from manystack.loop import EngineLoop, Timeline
from manystack.topology import TimeMode, Topology
from manystack.topology.model import DEVICE_KINDS
from manystack.wiring import wire


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the network: when (ns), what, and to whom."""

    time_ns: int
    kind: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.detail}".rstrip()


class Network:
    """The state of one network, built from its topology.

    `timeline` is what moves its time, for its loop. `has_run_hash` says whether all that arrives by a link is
    hashed, `tells_arrivals` whether the switch is to be able to tell of each.

    Raises TopologyError for what only the engine can see to be impossible.
    """

    def __init__(
        self,
        topology: Topology,
        mode: TimeMode,
        seed: int,
        name: str,
        timeline: Timeline,
        *,
        has_run_hash: bool,
        tells_arrivals: bool,
    ) -> None:
        self.topology = topology
        self.mode = mode
        self.seed = seed
        self.name = name
        self.has_run_hash = has_run_hash
        """Whether all that arrives by a link is hashed: see Summary.run_hash."""
        self.switch = core.Switch(
            real_time=not self.is_virtual,
            dilation=mode.factor,
            proof=has_run_hash or tells_arrivals,
        )
        """The compiled engine itself, for what has no name here."""
        try:
            self.wiring = wire(topology, self.switch, seed)
        except BaseException:
            self.switch.close()
            raise
        self.loop = EngineLoop(timeline)
        """The asyncio loop on this network's clock."""
        self.device_nodes = {
            node: model.kind for node, model in topology.nodes.items() if model.kind in DEVICE_KINDS
        }
        """The kind of each node that stands for a device of this machine."""
        self.taps: dict[str, HostTap] = {}
        self.nics: dict[str, HostNic] = {}
        self.lost_devices: set[str] = set()
        """The taps and nics whose device is down or has been deleted; their links are down."""
        self.outside_changes: list[str] = []
        self.is_degraded = False
        """Whether the last whole second that the watch looked at was degraded: see verdict.Watch."""
        self.running_flows = {state.flow for state in self.wiring.flows}
        """The flows that are not done."""
        self.flows_changed: Callable[[], object] = lambda: None
        """Called when a flow may be done, or is gone."""
        self._subscribers: list[Callable[[Event], None]] = []
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._senders = {state.flow: state.traffic.from_ for state in self.wiring.flows}
        self._lost_events = 0
        self._closed_ns: int | None = None
        self._began_wall_ns: int | None = None
        self._ended_wall_ns: int | None = None

    # Time.

    @property
    def is_virtual(self) -> bool:
        """Whether time runs as fast as it can, and only while a call waits for it."""
        return self.mode.kind == "virtual"

    @property
    def now_ns(self) -> int:
        """Emulated nanoseconds since the start."""
        return self.switch.now_ns if self._closed_ns is None else self._closed_ns

    @property
    def wall_ns(self) -> int:
        """Real nanoseconds since the start."""
        if self._began_wall_ns is None:
            return 0
        ended_ns = monotonic_ns() if self._ended_wall_ns is None else self._ended_wall_ns
        return ended_ns - self._began_wall_ns

    def begin(self) -> None:
        """Count real time from now."""
        self._began_wall_ns = monotonic_ns()

    def end(self) -> None:
        """Count real time until now."""
        self._ended_wall_ns = monotonic_ns()

    def close(self) -> None:
        """Close the switch. Of all that is here, names and times can be asked for after that."""
        self._closed_ns = self.switch.now_ns
        self.switch.close()

    # Names.

    def interface(self, name: str) -> str:
        """Return the interface that is meant: `node.interface`, or the node alone where it has only one."""
        if name in self.wiring.interfaces or self.wiring.loopback_node(name) is not None:
            return name
        only = self.wiring.interfaces_of.get(name)
        if only is not None and len(only) == 1:
            return f"{name}.{only[0]}"
        if only:
            names = ", ".join(f"{name}.{interface}" for interface in only)
            raise UsageError(f"{name} has more than one interface: name one of {names}")
        raise UsageError(self.no_interface(name))

    def no_interface(self, name: str) -> str:
        """Say that there is no such interface, and what may have been meant."""
        return f"no interface {name!r} in {self.name}{_similar(name, self.wiring.interfaces)}"

    def no_node(self, name: str) -> str:
        """Say that there is no such node, and what may have been meant."""
        return f"no node {name!r} in {self.name}{_similar(name, self.topology.nodes)}"

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

    # Events.

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

    @property
    def unrepeatable(self) -> tuple[str, ...]:
        """What makes it impossible to repeat a virtual run."""
        calls = self.switch.unsettled_calls
        amid = [f"{calls} calls amid an instant that did not end"] if calls else []
        return (*self.outside_changes, *amid)

    def take_events(self) -> bool:
        """Take what has happened from the switch, and tell it; whether there was any."""
        events = self.switch.take_events()
        lost_events = self.switch.lost_events
        if lost_events != self._lost_events:
            self._lost_events = lost_events
            events += self._looked_up()
        if self.is_virtual:
            events.sort(key=self._rank)
        for time_ns, kind, index in events:
            if kind == core.FLOW_DONE:
                if index not in self.running_flows or not self._is_done(index):
                    continue
                self.running_flows.remove(index)
                waiter = self._waiters.get(index)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif kind == core.DEVICE_GONE:
                if self.wiring.node_names[index] in self.lost_devices:
                    continue
                self._device_is_gone(self.wiring.node_names[index])
            event = self._named(time_ns, kind, index)
            if event is not None:
                self._tell(event)
        if events:
            self.flows_changed()
        return bool(events)

    # Flows that somebody waits for.

    def watch_flow(self, flow: int, sender: str) -> "asyncio.Future[None]":
        """Return a future that is done when the flow is. `sender` is the node that sends it."""
        self._senders[flow] = sender
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters[flow] = waiter
        self.running_flows.add(flow)
        return waiter

    def remove_flow(self, flow: int) -> None:
        """End a flow that watch_flow() was called for."""
        self._waiters.pop(flow, None)
        self._senders.pop(flow, None)
        self.running_flows.discard(flow)
        if self._closed_ns is None:
            self.switch.remove_flow(flow)
            self.flows_changed()

    # Inside.

    def _looked_up(self) -> list[tuple[int, int, int]]:
        """Return events for what cannot be left untold, because somebody waits for it or it lasts.

        Some of it may have been told, or be about to be.
        """
        switch, now_ns = self.switch, self.now_ns
        done = [(now_ns, core.FLOW_DONE, flow) for flow in sorted(self.running_flows) if self._is_done(flow)]
        devices = (self.wiring.nodes[name] for name in self.device_nodes)
        gone = [(now_ns, core.DEVICE_GONE, node) for node in devices if switch.is_device_gone(node)]
        return done + gone

    def _rank(self, event: tuple[int, int, int]) -> tuple[int, str, int, int]:
        """Return the place of an event of virtual time: by time, then by the name of the node that it is of.

        In which order the engine came upon the events of one instant depends on the order of building.
        """
        time_ns, kind, index = event
        if kind == core.FLOW_DONE:
            name = self._senders.get(index, "")
        elif kind == core.LINK_CHANGED:
            name = self.wiring.pipe_name(index)
        else:
            name = self.wiring.node_names[index]
        return time_ns, name, kind, index

    def _is_done(self, flow: int) -> bool:
        # The event may be about an earlier flow of the same number, which was removed before it was read.
        return self.switch.flow(flow, quantiles=False)["done"]

    def _named(self, time_ns: int, kind: int, index: int) -> Event | None:
        if kind == core.FLOW_DONE:
            for number, flow in enumerate(self.wiring.flows):
                if flow.flow == index:
                    return Event(time_ns, "traffic-done", f"traffic[{number}]", flow.label)
        elif kind == core.NEIGHBOR_FAILED:
            return Event(time_ns, "neighbor-failed", self.wiring.node_names[index])
        elif kind == core.DEVICE_GONE:
            name = self.wiring.node_names[index]
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


def _similar(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
