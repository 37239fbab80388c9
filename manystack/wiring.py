"""Builds a topology into a compiled switch, and remembers which index is which name.

Nothing here depends on the order of anything but the document itself: a derived MAC address comes from the
name of its interface, a pipe's random stream from the seed and the names of its ends. Adding a node
therefore changes nothing elsewhere.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any

from manystack.core import _switch as core
from manystack.shaping import pipe_settings
from manystack.topology import (
    Node,
    PipeParameters,
    PlacedError,
    Topology,
    TopologyError,
    Traffic,
    shortest_routes,
)
from manystack.topology.document.quantity import format_bandwidth, format_duration
from manystack.topology.model import LOOPBACK, STACK_KINDS

KINDS = {
    "host": core.HOST,
    "router": core.ROUTER,
    "switch": core.SWITCH,
    "hub": core.HUB,
    "tap": core.TAP,
    "nic": core.NIC,
}


@dataclass(slots=True)
class LinkState:
    """One link as it is now: its ends as `node.interface`, its two pipes and what they are set to."""

    ends: tuple[str, str]
    pipes: tuple[int, int]
    parameters: list[PipeParameters]
    up: bool = True


@dataclass(slots=True)
class FlowState:
    """One entry of the topology's `traffic` and the flow that carries it out."""

    traffic: Traffic
    flow: int
    is_counted: bool
    """Whether what arrives is known: not at a real host, unless it answers."""

    @property
    def label(self) -> str:
        """What it is, in a few words: `udp h1 → h2, 8Mbit/s`."""
        traffic = self.traffic
        pace = format_bandwidth(traffic.rate_bps)
        if traffic.kind == "ping":
            pace = f"every {format_duration(traffic.interval_ns)}"
        return f"{traffic.kind} {traffic.from_} → {traffic.to}, {pace}"


@dataclass(slots=True)
class Wiring:
    """Names and indices of one built network."""

    topology: Topology
    seed: int
    nodes: dict[str, int] = field(default_factory=dict)
    interfaces: dict[str, int] = field(default_factory=dict)
    node_names: list[str] = field(default_factory=list)
    interface_names: list[str] = field(default_factory=list)
    macs: list[bytes] = field(default_factory=list)
    interfaces_of: dict[str, list[str]] = field(default_factory=dict)
    links: list[LinkState] = field(default_factory=list)
    link_of: dict[str, int] = field(default_factory=dict)
    flows: list[FlowState] = field(default_factory=list)
    owners: dict[IPv4Address, str] = field(default_factory=dict)

    def interface_name(self, index: int) -> str:
        """Return the name of an interface, that of a node's loopback interface included."""
        if index < core.LOOPBACK:
            return self.interface_names[index]
        return loopback_name(self.node_names[index - core.LOOPBACK])

    def interface_mac(self, index: int) -> bytes | None:
        """Return an interface's MAC address; None for a loopback interface, which has none."""
        return self.macs[index] if index < core.LOOPBACK else None

    def loopback_node(self, name: str) -> str | None:
        """Return whose loopback interface a name means; None where it is none."""
        node = name.removesuffix(f".{LOOPBACK}")
        known = node != name and node in self.nodes and self.topology.nodes[node].kind in STACK_KINDS
        return node if known else None

    def pipe_name(self, pipe: int) -> str:
        """Return one direction of a link by its ends."""
        link = self.links[pipe // 2]
        return direction_name(*link.ends) if pipe == link.pipes[0] else direction_name(*reversed(link.ends))


def loopback_name(node: str) -> str:
    """Return what the loopback interface of a node is called."""
    return f"{node}.{LOOPBACK}"


def direction_name(source: str, target: str) -> str:
    """Return what the direction of a link from one end to the other is called."""
    return f"{source} → {target}"


def wire(topology: Topology, switch: core.Switch, seed: int) -> Wiring:
    """Build nodes, links, addresses, routes and traffic, in that order.

    Raises TopologyError, with the place, for what only the engine can see to be impossible.
    """
    wiring = Wiring(topology, seed)
    _add_nodes(wiring, switch)
    _add_links(wiring, switch)
    _add_routes(wiring, switch)
    _add_traffic(wiring, switch)
    return wiring


def pipe_seed(seed: int, source: str, target: str, use: str) -> int:
    """Return the seed (64 bits) of one random stream of a pipe, named by its ends and its use."""
    return int.from_bytes(sha256(f"{seed}/{source}>{target}/{use}".encode()).digest()[:8], "big")


def derived_mac(name: str, taken: set[bytes]) -> bytes:
    """Return the locally administered MAC address of an interface that was given none, and take it.

    It depends on the interface's name alone, unless that address is taken already: then on the first
    of `name#1`, `name#2`, … that gives a free one.
    """
    attempt = 0
    text = name
    while True:
        mac = b"\x02" + sha256(text.encode()).digest()[:5]
        if mac not in taken:
            taken.add(mac)
            return mac
        attempt += 1
        text = f"{name}#{attempt}"


def _interfaces_with_ports(topology: Topology) -> dict[str, list[str]]:
    """Return each node's interfaces in order: those it lists, then the ports that only links name."""
    interfaces = {name: list(node.interfaces) for name, node in topology.nodes.items()}
    for link in topology.links:
        for end in link.ends:
            names = interfaces[end.node]
            if end.interface not in topology.nodes[end.node].interfaces and end.interface not in names:
                names.append(end.interface)
    return interfaces


def _add_nodes(wiring: Wiring, switch: core.Switch) -> None:
    nodes = wiring.topology.nodes
    taken = {
        interface.mac for node in nodes.values() for interface in node.interfaces.values() if interface.mac
    }
    wiring.interfaces_of = _interfaces_with_ports(wiring.topology)
    for name, node in nodes.items():
        index = wiring.nodes[name] = switch.add_node(KINDS[node.kind])
        wiring.node_names.append(name)
        for interface_name in wiring.interfaces_of[name]:
            _add_interface(wiring, switch, name, node, index, interface_name, taken)


def _add_interface(
    wiring: Wiring,
    switch: core.Switch,
    name: str,
    node: Node,
    node_index: int,
    interface_name: str,
    taken: set[bytes],
) -> None:
    full_name = f"{name}.{interface_name}"
    interface = node.interfaces.get(interface_name)
    if node.kind in STACK_KINDS and interface_name == LOOPBACK:
        index = switch.loopback(node_index)
    else:
        mac = (interface.mac if interface is not None else None) or derived_mac(full_name, taken)
        mtu = interface.mtu if interface is not None else node.mtu if node.kind == "tap" else 1500
        index = switch.add_interface(node_index, mac, mtu)
        wiring.interface_names.append(full_name)
        wiring.macs.append(mac)
    wiring.interfaces[full_name] = index
    if node.kind not in STACK_KINDS:
        for address in node.addresses if node.kind == "tap" else ():
            wiring.owners.setdefault(address.ip, name)
        return
    for address in interface.addresses if interface is not None else ():
        switch.add_address(index, int(address), address.network.prefixlen)
        wiring.owners.setdefault(address.ip, name)


def _add_links(wiring: Wiring, switch: core.Switch) -> None:
    errors = []
    known: dict[int, dict[str, Any]] = {}  # links that are written alike have the same object
    for number, link in enumerate(wiring.topology.links):
        a, b = (f"{end.node}.{end.interface}" for end in link.ends)
        seeds = pipe_seed(wiring.seed, a, b, "loss"), pipe_seed(wiring.seed, b, a, "loss")
        pipes = switch.add_link(wiring.interfaces[a], wiring.interfaces[b], *seeds)
        for pipe, parameters in zip(pipes, (link.forward, link.reverse), strict=True):
            settings = known.get(id(parameters))
            if settings is None:
                settings = known[id(parameters)] = pipe_settings(parameters)
            try:
                switch.set_pipe(pipe, **settings)
            except ValueError as error:
                errors.append(PlacedError(f"links[{number}]", str(error)))
        wiring.link_of[a] = wiring.link_of[b] = len(wiring.links)
        wiring.links.append(LinkState((a, b), pipes, [link.forward, link.reverse]))
    if errors:
        raise TopologyError(errors)


def _add_routes(wiring: Wiring, switch: core.Switch) -> None:
    topology = wiring.topology
    computed = shortest_routes(topology) if topology.routes == "shortest" else {}
    errors = []
    for name, node in topology.nodes.items():
        if node.kind not in STACK_KINDS:
            continue
        index = wiring.nodes[name]
        for number, route in enumerate(node.routes or computed.get(name, ())):
            gateway = None if route.via is None else int(route.via)
            try:
                switch.add_route(index, int(route.to.network_address), route.to.prefixlen, gateway)
            except ValueError as error:
                errors.append(PlacedError(f"nodes.{name}.routes[{number}]", str(error)))
    if errors:
        raise TopologyError(errors)


def _add_traffic(wiring: Wiring, switch: core.Switch) -> None:
    errors = []
    for number, traffic in enumerate(wiring.topology.traffic):
        try:
            wiring.flows.append(_add_flow(wiring, switch, traffic))
        except ValueError as error:
            errors.append(PlacedError(f"traffic[{number}]", str(error)))
    if errors:
        raise TopologyError(errors)


def _add_flow(wiring: Wiring, switch: core.Switch, traffic: Traffic) -> FlowState:
    source = wiring.nodes[traffic.from_]
    destination = int(traffic.destination)
    stop_ns = core.NEVER if traffic.stop_ns is None else traffic.stop_ns
    if traffic.kind == "ping":
        flow = switch.add_ping(
            source,
            destination,
            interval_ns=traffic.interval_ns,
            count=traffic.count or 0,
            size_bytes=traffic.size_bytes,
            ttl=traffic.ttl,
            start_ns=traffic.start_ns,
            stop_ns=stop_ns,
        )
        return FlowState(traffic, flow, True)
    owner = wiring.owners.get(traffic.destination)
    sink = None if owner is None or wiring.topology.nodes[owner].kind == "tap" else wiring.nodes[owner]
    flow = switch.add_udp(
        source,
        destination,
        rate_bps=traffic.rate_bps,
        size_bytes=traffic.size_bytes,
        start_ns=traffic.start_ns,
        stop_ns=stop_ns,
        sink=sink,
    )
    return FlowState(traffic, flow, sink is not None)
