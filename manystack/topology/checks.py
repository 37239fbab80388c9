"""What a topology's parts must agree on: names, ends, addresses, devices, clock.

Everything here works with what could be read, so that one mistake does not hide the others. A node of which
nothing could be read stands in `nodes` as None: its name is known.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import islice
from typing import Final

from manystack.topology.document.errors import NOT_YET, Problems, below, short
from manystack.topology.link.written import WrittenLink
from manystack.topology.model import (
    BRIDGE_KINDS,
    DEVICE_KINDS,
    LOOPBACK,
    STACK_KINDS,
    Capture,
    End,
    Interface,
    Link,
    Node,
    Route,
    TimeMode,
    Traffic,
    format_mac,
)
from manystack.topology.schema import INTERFACE_NAME, WrittenTraffic
from manystack.topology.segments import segments

Nodes = Mapping[str, Node | None]

# IPv4, and ICMP or UDP, in front of a payload.
HEADER_BYTES: Final = 20 + 8


def node_place(name: str) -> str:
    """Return the place of a node in its document."""
    return below("nodes", name)


def check_node(problems: Problems, name: str, node: Node) -> None:
    """Check what one node says about itself: names, addresses, gateways."""
    place = node_place(name)
    for interface in node.interfaces:
        if not INTERFACE_NAME.fullmatch(interface):
            problems.add(
                below(f"{place}.interfaces", interface), "an interface's name is letters, digits, -, _ and ."
            )
    loopback = node.interfaces.get(LOOPBACK)
    if loopback is not None and node.kind in STACK_KINDS:
        _check_loopback(problems, below(f"{place}.interfaces", LOOPBACK), loopback)
    interface_of: dict[IPv4Network, str] = {}
    own: dict[IPv4Address, str] = {}
    for interface, address_place, address in _placed_addresses(name, node):
        other = own.setdefault(address.ip, address_place)
        if other is not address_place:
            problems.add(address_place, f"{address.ip} is there already, at {other}")
        elif interface_of.setdefault(address.network, interface) != interface:
            problems.add(address_place, f"{address.network} is on {interface_of[address.network]} already")
    _check_routes(problems, name, node.routes, own, interface_of)


def _check_loopback(problems: Problems, place: str, loopback: Interface) -> None:
    for number, address in enumerate(loopback.addresses):
        if address.network.prefixlen != 32:
            problems.add(
                f"{place}.addresses[{number}]",
                f"an address of a loopback interface stands alone: write {address.ip}/32",
            )
    plain = Interface()
    for key in ("mac", "mtu"):
        if getattr(loopback, key) != getattr(plain, key):  # a document with all defaults names them, too
            problems.add(f"{place}.{key}", f"a loopback interface has no {key} to set: leave it out")


def _check_routes(
    problems: Problems,
    name: str,
    routes: Iterable[Route],
    own: Collection[IPv4Address],
    networks: Collection[IPv4Network],
) -> None:
    place = node_place(name)
    lengths = {network.prefixlen for network in networks}
    prefixes = set()
    for number, (to, via) in enumerate((route.to, route.via) for route in routes):
        if to in prefixes:
            problems.add(f"{place}.routes[{number}].to", f"a route to {to} is there already")
        prefixes.add(to)
        if to in networks or (to.prefixlen == 32 and to.network_address in own):
            what = "subnet" if to in networks else "address"
            problems.add(f"{place}.routes[{number}].to", f"{to} is the node's own {what}: it needs no route")
        if via is None or any(
            IPv4Network((int(via), length), strict=False) in networks for length in lengths
        ):
            mistake = f"{via} is the node's own address" if via in own else ""
        else:
            subnets = ", ".join(map(str, islice(networks, 8))) or "none"
            mistake = f"{via} is on no subnet of the node (its subnets: {subnets})"
        if mistake and _addresses_are_whole(problems, name):
            problems.add(f"{place}.routes[{number}].via", mistake)


def _placed_addresses(name: str, node: Node) -> Iterator[tuple[str, str, IPv4Interface]]:
    """Yield each address of a node with the interface that has it and the place where it is written."""
    place = node_place(name)
    for number, address in enumerate(node.addresses):
        yield node.device, f"{place}.addresses[{number}]", address
    for interface_name, interface in node.interfaces.items():
        for number, address in enumerate(interface.addresses):
            yield (
                interface_name,
                f"{below(f'{place}.interfaces', interface_name)}.addresses[{number}]",
                address,
            )


def _addresses_are_whole(problems: Problems, name: str) -> bool:
    """Return whether all addresses of a node could be read: from one that is missing, nothing follows."""
    place = f"{node_place(name)}."
    return not any(error.place.startswith(place) and "addresses" in error.place for error in problems.errors)


def check_macs(problems: Problems, nodes: Nodes) -> None:
    """Check that no MAC address was given twice."""
    seen: dict[bytes, str] = {}
    for name, node in nodes.items():
        for interface_name, interface in node.interfaces.items() if node else ():
            if interface.mac is None:
                continue
            place = f"{below(f'{node_place(name)}.interfaces', interface_name)}.mac"
            other = seen.setdefault(interface.mac, place)
            if other is not place:
                problems.add(place, f"{format_mac(interface.mac)} is there already, at {other}")


def check_devices(problems: Problems, nodes: Nodes, time: TimeMode) -> None:
    """Check devices and clock of taps and nics: a device is used once, and real hosts need real time."""
    seen: dict[tuple[str | None, str], str] = {}
    for name, node in nodes.items():
        if node is None or node.kind not in DEVICE_KINDS:
            continue
        place = node_place(name)
        other = seen.setdefault((node.namespace, node.device), name)
        if other != name:
            problems.add(f"{place}.device", f"{other} has a device {node.device} in the same namespace")
        if time.kind == "virtual":
            problems.add(
                f"{place}.kind",
                f"a {node.kind} cannot be in virtual time: "
                "what is behind it lives in real time (real or x10)",
            )


def resolve_links(
    problems: Problems, nodes: Nodes, written: Mapping[int, WrittenLink]
) -> tuple[dict[int, tuple[End, End]], dict[str, list[str]]]:
    """Return the ends of each link that has two, and the ports in use of each switch and hub."""
    resolved = {
        (number, side): _resolve_end(problems, nodes, f"links[{number}].ends[{side}]", text)
        for number, link in written.items()
        for side, text in enumerate(link.ends)
    }
    used: dict[tuple[str, str], int] = {}
    for (number, side), end in resolved.items():
        if end is None or not end.interface:
            continue
        other = used.setdefault((end.node, end.interface), number)
        if other != number:
            problems.add(f"links[{number}].ends[{side}]", f"{end} is an end of links[{other}] already")
    # A free port is one that no link names, so that where a link stands in the document does not matter.
    ends: dict[int, tuple[End, End]] = {}
    ports: dict[str, list[str]] = {}
    next_port: dict[str, int] = {}
    for number in written:
        pair = []
        for side in (0, 1):
            end = resolved[number, side]
            if end is None:
                continue
            if not end.interface:
                end = End(node=end.node, interface=_free_port(used, next_port, end.node))
            node = nodes[end.node]
            if node is not None and node.kind in BRIDGE_KINDS:
                ports.setdefault(end.node, []).append(end.interface)
            pair.append(end)
        if len(pair) == 2:
            if pair[0].node == pair[1].node:
                problems.add(
                    f"links[{number}].ends", f"both ends are on {pair[0].node}: a link joins two nodes"
                )
            ends[number] = pair[0], pair[1]
    return ends, ports


def _free_port(used: Mapping[tuple[str, str], int], next_port: dict[str, int], node: str) -> str:
    port = next_port.get(node, 0)
    while (node, f"port{port}") in used:
        port += 1
    next_port[node] = port + 1
    return f"port{port}"


def _resolve_end(problems: Problems, nodes: Nodes, place: str, text: str) -> End | None:
    """Return an end by name; the interface is empty where a switch or hub shall choose a port."""
    name, _, interface = text.partition(".")
    if name not in nodes:
        problems.add(place, _no_node(problems, nodes, name))
        return None
    node = nodes[name]
    if node is None:
        return None
    if node.kind in BRIDGE_KINDS:
        if interface and not re.fullmatch("port(0|[1-9][0-9]{0,4})", interface):
            problems.add(
                place, f"a {node.kind}'s ports are port0, port1, …: write {name} alone for the next free one"
            )
            return None
    elif node.kind in DEVICE_KINDS:
        if interface not in ("", node.device):
            problems.add(place, f"a {node.kind} has one port: write {name} alone")
            return None
        interface = node.device
    elif interface == LOOPBACK:
        problems.add(place, f"{text} is the loopback interface of {name}, which has no link")
        return None
    elif interface not in node.interfaces:
        if not interface:
            problems.add(
                place, f"name an interface of {name}, such as {name}.{next(iter(node.interfaces), 'eth0')}"
            )
        else:
            hint = problems.similar(interface, node.interfaces)
            problems.add(place, f"{name} has no interface {short(interface)}{hint}")
        return None
    return End(node=name, interface=interface)


def check_segments(problems: Problems, nodes: Nodes, links: Iterable[Link]) -> None:
    """Check that no two nodes have the same address where they hear each other."""
    known = {name: node for name, node in nodes.items() if node is not None}
    segment_of = segments(known, links)
    seen: dict[tuple[int, IPv4Address], str] = {}
    for name, node in known.items():
        for interface, place, address in _placed_addresses(name, node):
            segment = segment_of.get((name, interface))
            if segment is None:
                continue
            other = seen.setdefault((segment, address.ip), place)
            if other is not place:
                problems.add(place, f"{address.ip} is on the same link already, at {other}")


def resolve_traffic(
    problems: Problems, nodes: Nodes, place: str, traffic: WrittenTraffic
) -> IPv4Address | None:
    """Return where traffic goes; None, with what is wrong noted, if it cannot start or has no goal."""
    sender = nodes.get(traffic.from_)
    if traffic.from_ not in nodes:
        problems.add(f"{place}.from", _no_node(problems, nodes, traffic.from_))
    elif sender is not None and sender.kind not in STACK_KINDS:
        problems.add(f"{place}.from", f"a {sender.kind} sends nothing itself: name a host or a router")
    elif sender and next(sender.addressed(), None) is None and _addresses_are_whole(problems, traffic.from_):
        problems.add(f"{place}.from", f"{traffic.from_} has no address to send from")
    if traffic.stop is not None and traffic.stop <= traffic.start:
        problems.add(f"{place}.stop", "must be later than start")
    if "." in traffic.to:
        return IPv4Address(traffic.to)
    receiver = nodes.get(traffic.to)
    if traffic.to not in nodes:
        problems.add(f"{place}.to", _no_node(problems, nodes, traffic.to))
    elif receiver is not None:
        first = next(receiver.addressed(), None)
        if first is not None:
            return first[1].ip
        if _addresses_are_whole(problems, traffic.to):
            problems.add(f"{place}.to", f"{traffic.to} has no address")
    return None


def check_sizes(problems: Problems, nodes: Nodes, traffic: Sequence[Traffic | None]) -> None:
    """Check that no traffic goes out in fragments that nobody puts together again."""
    owners: dict[IPv4Address, Node] = {}
    for node in filter(None, nodes.values()):
        for _, address in node.addressed():
            owners.setdefault(address.ip, node)
    for number, item in enumerate(traffic):
        sender = nodes.get(item.from_) if item else None
        if item and sender:
            receiver = nodes.get(item.to) or owners.get(item.destination)
            mistake = fragmented(item.kind, item.size_bytes, item.from_, sender, receiver)
            if mistake:
                problems.add(f"traffic[{number}].size", mistake)


def fragmented(kind: str, size_bytes: int, name: str, sender: Node, receiver: Node | None) -> str:
    """Return what is wrong with a payload that the node `name` cannot send whole; nothing if all is well.

    A real host puts fragments together, but what it answers in fragments an emulated host does not.
    """
    if receiver is None or receiver is sender or (receiver.kind not in STACK_KINDS and kind == "udp"):
        return ""
    # Which interface it leaves by is for the routes to say; the largest MTU leaves no doubt.
    mtus = [interface.mtu for interface in sender.interfaces.values()]
    mtu = max([*mtus, 0 if receiver.kind in STACK_KINDS else receiver.mtu])
    packet_bytes = size_bytes + HEADER_BYTES
    if packet_bytes <= mtu:
        return ""
    return (
        f"{size_bytes}B make a packet of {packet_bytes} bytes, and the MTU at {name} is {mtu}: write at most "
        f"{mtu - HEADER_BYTES}B (putting fragments together is {NOT_YET})"
    )


def _no_node(problems: Problems, nodes: Nodes, name: str) -> str:
    return f"there is no node {short(name)}{problems.similar(name, nodes)}"


def check_captures(
    problems: Problems, nodes: Nodes, links: Iterable[Link], captures: Sequence[Capture | None]
) -> None:
    """Check that what is to be captured is there, and that no file is written twice."""
    names = set(nodes)
    names |= {str(end) for link in links for end in link.ends}
    names |= {f"{name}.{interface}" for name, node in nodes.items() if node for interface in node.interfaces}
    seen: dict[str, str] = {}
    for number, capture in enumerate(captures):
        if capture is None:
            continue
        place = f"capture[{number}]"
        other = seen.setdefault(capture.file, place)
        if other is not place:
            problems.add(f"{place}.file", f"{capture.file} is written already, by {other}")
        for k, interface in enumerate(capture.interfaces):
            if interface not in names and nodes.get(interface.partition(".")[0], ()) is not None:
                problems.add(
                    f"{place}.interfaces[{k}]",
                    f"no node or interface {short(interface)}{problems.similar(interface, names)}",
                )
