"""Nodes and links by name: what `Engine.node` and `Engine.link` return."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

from manystack.errors import ManystackError, UsageError
from manystack.network import Network
from manystack.ping import DEFAULT_PING, Ping, PingSettings
from manystack.probes import Probe, size_bytes, trace
from manystack.results import (
    InterfaceCounters,
    MacEntry,
    NeighborEntry,
    NodeStatistics,
    PingResult,
    RouteEntry,
    TracerouteResult,
    mac_text,
)
from manystack.shaping import pipe_settings
from manystack.topology import PipeParameters, changed_parameters
from manystack.topology.checks import fragmented
from manystack.topology.link.changes import change_texts, nested
from manystack.topology.model import STACK_KINDS, ipv4_address, ipv4_prefix
from manystack.wiring import LinkState

if TYPE_CHECKING:
    from manystack.core._switch import PipeStatistics

_T = TypeVar("_T")

TRACE_INTERVAL = "50ms"


class Runner(Protocol):
    """What runs a coroutine on the network's loop."""

    def run_until_complete(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run it, and with it the network, until it is done."""


@dataclass(frozen=True, slots=True)
class NodeHandle:
    """One node of a running network."""

    network: Network
    _runner: Runner
    name: str
    kind: str
    index: int

    @property
    def interfaces(self) -> list[str]:
        """The names of its interfaces, as `node.interface`."""
        return [f"{self.name}.{interface}" for interface in self.network.wiring.interfaces_of[self.name]]

    @property
    def addresses(self) -> list[IPv4Interface]:
        """Its addresses, those of a tap being the host's."""
        return [address for _, address in self.network.topology.nodes[self.name].addressed()]

    def ping(
        self,
        destination: str | IPv4Address,
        count: int = DEFAULT_PING.count,
        **settings: Unpack[PingSettings],
    ) -> PingResult:
        """Send `count` echo requests to an address or a node, and wait for the answers.

        `interval`, `timeout`, `size` and `ttl` are as in ping.Ping. True if the destination answered at all.
        """
        return self._runner.run_until_complete(self.async_ping(destination, count, **settings))

    async def async_ping(
        self,
        destination: str | IPv4Address,
        count: int = DEFAULT_PING.count,
        **settings: Unpack[PingSettings],
    ) -> PingResult:
        """As ping(), for a coroutine on the engine's loop."""
        if count < 1:
            raise UsageError("count: must be at least 1")
        with self.start_ping(destination, count, **settings) as probe:
            await probe.finish()
            return probe.result()

    def start_ping(
        self, destination: str | IPv4Address, count: int = 0, **settings: Unpack[PingSettings]
    ) -> Probe:
        """Begin a ping whose answers a coroutine takes as they come; count 0: without end."""
        self._require_stack()
        address = self.network.resolve(destination)
        asked = Ping(count, **settings)
        nodes = self.network.topology.nodes
        receiver = nodes.get(self.network.wiring.owners.get(address, ""))
        mistake = fragmented("ping", size_bytes(asked.size, "size"), self.name, nodes[self.name], receiver)
        if mistake:
            raise UsageError(f"size: {mistake}")
        return Probe(self.network, self.index, address, asked)

    def traceroute(
        self, destination: str | IPv4Address, max_hops: int = 30, probes: int = 3, timeout: str | int = "5s"
    ) -> TracerouteResult:
        """Find the routers on the way, by `probes` echo requests for each TTL up to `max_hops`."""
        return self._runner.run_until_complete(self.async_traceroute(destination, max_hops, probes, timeout))

    async def async_traceroute(
        self, destination: str | IPv4Address, max_hops: int = 30, probes: int = 3, timeout: str | int = "5s"
    ) -> TracerouteResult:
        """As traceroute(), for a coroutine on the engine's loop."""
        self._require_stack()
        if not 1 <= max_hops <= 255:
            raise UsageError("max_hops: must be 1 to 255")
        if not 1 <= probes <= 10:
            raise UsageError("probes: must be 1 to 10")
        address = self.network.resolve(destination)
        asked = Ping(max_hops * probes, interval=TRACE_INTERVAL, timeout=timeout, ttl=max_hops)
        with Probe(self.network, self.index, address, asked, probes_per_ttl=probes) as probe:
            await probe.finish()
            return trace(address, probe.statistics()["sent_packets"], probe.replies, probes)

    def routes(self) -> list[RouteEntry]:
        """Return its route table, in the order of prefixes."""
        self._require_stack()
        wiring = self.network.wiring
        return [
            RouteEntry(
                IPv4Network((prefix, length)),
                kind,
                None if gateway is None else IPv4Address(gateway),
                None if interface is None else wiring.interface_name(interface),
            )
            for prefix, length, kind, gateway, interface in self.network.switch.routes(self.index)
        ]

    def add_route(self, prefix: str | IPv4Network, via: str | IPv4Address | None = None) -> None:
        """Add a route, or replace the one to the same prefix ("default": all); without `via`: unreachable."""
        self._require_stack()
        to = _prefix(prefix)
        gateway = None if via is None else int(_address(via, "via"))
        try:
            self.network.switch.add_route(self.index, int(to.network_address), to.prefixlen, gateway)
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}") from None
        self.network.publish("route-added", self.name, f"{to}" if via is None else f"{to} via {via}")

    def delete_route(self, prefix: str | IPv4Network) -> None:
        """Remove the route to exactly this prefix."""
        self._require_stack()
        to = _prefix(prefix)
        if not self.network.switch.delete_route(self.index, int(to.network_address), to.prefixlen):
            raise UsageError(f"{self.name} has no route to {to}")
        self.network.publish("route-deleted", self.name, str(to))

    def neighbors(self) -> list[NeighborEntry]:
        """Return its neighbour table: whose MAC addresses it knows or asks for."""
        self._require_stack()
        names = self.network.wiring.interface_names
        return [
            NeighborEntry(
                IPv4Address(address), names[interface], None if mac is None else mac_text(mac), state, waiting
            )
            for interface, address, mac, state, waiting in self.network.switch.neighbors(self.index)
        ]

    def mac_table(self) -> list[MacEntry]:
        """Return what a switch has learnt: which MAC address is behind which port."""
        if self.kind != "switch":
            raise UsageError(f"{self.name} is a {self.kind}: only a switch learns MAC addresses")
        names = self.network.wiring.interface_names
        table = self.network.switch.mac_table(self.index)
        return [MacEntry(mac_text(mac), names[interface], seen) for mac, interface, seen in table]

    def statistics(self) -> NodeStatistics:
        """Return its interfaces' counters, and its drops by reason."""
        switch = self.network.switch
        interfaces = []
        for name in self.interfaces:
            counters = switch.interface_statistics(self.network.wiring.interfaces[name])
            interfaces.append(InterfaceCounters(name=name, **counters))
        drops = {reason: count for reason, count in switch.node_drops(self.index).items() if count}
        return NodeStatistics(self.name, tuple(interfaces), drops, switch.memory_bytes(self.index))

    def _require_stack(self) -> None:
        if self.kind not in STACK_KINDS:
            raise UsageError(f"{self.name} is a {self.kind}: only hosts and routers have an IP stack")


@dataclass(frozen=True, slots=True)
class LinkHandle:
    """One link of a running network, seen from one of its ends: forward leads away from `ends[0]`."""

    network: Network
    _state: LinkState
    _swapped: bool

    @property
    def ends(self) -> tuple[str, str]:
        """Its two interfaces, as `node.interface`."""
        a, b = self._state.ends
        return (b, a) if self._swapped else (a, b)

    @property
    def is_up(self) -> bool:
        """Whether it carries anything."""
        return self._state.up

    @property
    def parameters(self) -> tuple[PipeParameters, PipeParameters]:
        """What its two directions are set to: forward, reverse."""
        forward, reverse = self._state.parameters
        return (reverse, forward) if self._swapped else (forward, reverse)

    def statistics(self) -> "tuple[PipeStatistics, PipeStatistics]":
        """Return the counters of its two directions: forward, reverse."""
        forward, reverse = (self.network.switch.pipe_statistics(pipe) for pipe in self._state.pipes)
        return (reverse, forward) if self._swapped else (forward, reverse)

    def set(
        self,
        /,
        *,
        forward: Mapping[str, Any] | None = None,
        reverse: Mapping[str, Any] | None = None,
        **both: Any,
    ) -> None:
        """Change parameters from the next packet on: `delay="20ms", loss={"rate": "1%"}` as in a topology.

        What is not named stays, also within a mapping, into which a dot leads too: `**{"loss.rate": "1%"}`.
        `forward` and `reverse` change one direction only. All or nothing.
        """
        change = nested(both)
        for direction, own in (("forward", forward), ("reverse", reverse)):
            if direction in change:
                raise UsageError(f"{direction}: give what is for one direction as {direction}={{…}}")
            change[direction] = nested(own or {}, f"{direction}.")
        wanted = changed_parameters(self.parameters, change)
        self._set_pipes(wanted[::-1] if self._swapped else wanted)
        texts = [
            *change_texts("", both),
            *change_texts("forward.", forward or {}),
            *change_texts("reverse.", reverse or {}),
        ]
        self.network.publish("link-set", " ".join(self.ends), " ".join(texts))

    def _set_pipes(self, wanted: tuple[PipeParameters, PipeParameters]) -> None:
        current = self._state.parameters
        for number, (pipe, parameters) in enumerate(zip(self._state.pipes, wanted, strict=True)):
            if parameters == current[number]:
                continue
            try:
                self.network.switch.set_pipe(pipe, **pipe_settings(parameters))
            except ValueError as error:
                if number:
                    self.network.switch.set_pipe(self._state.pipes[0], **pipe_settings(current[0]))
                raise UsageError(str(error)) from None
        current[:] = wanted

    def up(self) -> None:
        """Let it carry packets again; a real host behind it sees its cable plugged in."""
        self._set_up(True)

    def down(self) -> None:
        """Cut it: what is in flight is lost and counted; a real host behind it sees its cable unplugged."""
        self._set_up(False)

    def _set_up(self, up: bool) -> None:
        nodes = [end.split(".", 1)[0] for end in self._state.ends]
        lost = [node for node in nodes if node in self.network.lost_devices]
        if up and lost:
            raise ManystackError(
                f"the link stays down: the device of {' and '.join(lost)} is down or was deleted"
            )
        self._state.up = up
        self.network.switch.set_link_up(self._state.pipes[0], up)
        for node in nodes:
            tap = self.network.taps.get(node)
            if tap is not None and node not in self.network.lost_devices:
                tap.set_carrier(up)
        self.network.publish("link-up" if up else "link-down", " ".join(self._state.ends))


def _prefix(text: str | IPv4Network) -> IPv4Network:
    try:
        return ipv4_prefix(text)
    except ValueError as error:
        raise UsageError(f"prefix: {error}") from None


def _address(text: str | IPv4Address, place: str) -> IPv4Address:
    try:
        return ipv4_address(text)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from None
