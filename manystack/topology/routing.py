"""Static shortest paths, with as few routes as say the same.

Every link costs 1 and only routers pass on what is not theirs; switches and hubs are not seen. Where two
neighbors are equally near to a destination, the one whose name comes first is taken. A set of prefixes is
one integer, a bit a prefix in the order of addresses, so that a step of the search handles all of them.

What keeps tables small, without changing where any packet goes:

- A node with one way out, a router, has a default route to it, and routes only to what lies behind itself.
  This is repeated for what is then left with one way out, so that of a chain or a tree nothing else remains.
  Default routes lead towards the inside, and inside there is none: what exists nowhere is unreachable there,
  and does not run in circles.
- Prefixes with the same next hop that follow each other without a gap are joined, to exactly these addresses.
- Prefixes that contain one another are excepted from both: each has a route of its own, everywhere.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from manystack.topology.model import BRIDGE_KINDS, EVERYWHERE, STACK_KINDS, Route
from manystack.topology.segments import segments

if TYPE_CHECKING:
    import networkx as nx

    from manystack.topology.topology import Topology

# A network as two integers, first address and prefix length: they sort and hash faster than IPv4Network.
Prefix = tuple[int, int]
# The nodes that hear each other and agree on a subnet: each with its address there.
Lans = dict[tuple[object, Prefix], list[tuple[str, int]]]


@dataclass(slots=True)
class _Hop:
    """A node as the search sees it. Every set of prefixes is an integer."""

    is_router: bool
    # The prefixes it is connected to; those that others reach through it; those it reaches at all.
    own: int = 0
    offered: int = 0
    reached: int = 0
    # The neighbors that offer anything, by name and in that order, with their addresses on the common subnet.
    gateways: dict[str, int] = field(default_factory=dict)
    # For which prefixes a gateway is the next hop, and the one that all else goes to.
    table: dict[str, int] = field(default_factory=dict)
    default: str | None = None


def shortest_routes(topology: "Topology") -> dict[str, list[Route]]:
    """Return routes for every router and host that has none of its own, whatever `topology.routes` says."""
    lans = _lans(topology)
    prefixes = sorted({prefix for _, prefix in lans})
    bits = {prefix: 1 << number for number, prefix in enumerate(prefixes)}
    hops = _hops(topology, lans, bits)
    ways = _ways(hops)
    counts = Counter(prefix for _, prefix in lans)
    outside = _strip(hops, ways, sum(bits[prefix] for prefix, count in counts.items() if count > 1))
    _search({name: hops[name] for name in ways})
    ranges = _Ranges(prefixes)
    for name in reversed(outside):
        _except_overlapping(hops, name, ranges.overlapping)
    return {
        name: list(_routes(hops[name], ranges))
        for name, node in topology.nodes.items()
        if node.kind in STACK_KINDS and not node.routes
    }


def _lans(topology: "Topology") -> Lans:
    segment_of = segments(topology.nodes, topology.links)
    lans: Lans = {}
    for name, node in topology.nodes.items():
        for interface, address in node.addressed():
            prefix = int(address.network.network_address), address.network.prefixlen
            segment = segment_of.get((name, interface), (name, interface))
            lans.setdefault((segment, prefix), []).append((name, int(address)))
    return lans


def _hops(topology: "Topology", lans: Lans, bits: dict[Prefix, int]) -> dict[str, _Hop]:
    hops = {
        name: _Hop(is_router=node.kind == "router")
        for name, node in topology.nodes.items()
        if node.kind not in BRIDGE_KINDS
    }
    for (_, prefix), members in lans.items():
        for name, _ in members:
            hops[name].own |= bits[prefix]
            # A host passes nothing on, but where nobody else is, only it can be meant.
            if hops[name].is_router or all(member == name for member, _ in members):
                hops[name].offered |= bits[prefix]
    for members in lans.values():
        gateways = sorted(member for member in members if hops[member[0]].offered)
        for name, _ in members:
            for gateway, address in gateways:
                if gateway != name:
                    hops[name].gateways.setdefault(gateway, address)
    for hop in hops.values():
        hop.gateways = dict(sorted(hop.gateways.items()))
    return hops


def _ways(hops: dict[str, _Hop]) -> "nx.Graph[str]":
    """Return the graph of who is next to whom, if either can be the other's gateway."""
    import networkx as nx  # costs 0.1 s: only for those who want routes

    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(hops)
    graph.add_edges_from((name, gateway) for name, hop in hops.items() for gateway in hop.gateways)
    return graph


def _strip(hops: dict[str, _Hop], ways: "nx.Graph[str]", doubled: int) -> list[str]:
    """Give a default route to what has one way out, a router, and take it out of the graph; again and again.

    Returns those nodes from the outside in. What offers a prefix that is elsewhere as well stays, because
    which of the two is nearer is for the search to find.
    """
    outside = []
    queue = deque(name for name in ways if ways.degree(name) == 1)
    while queue:
        name = queue.popleft()
        if ways.degree(name) != 1:
            continue
        parent = next(iter(ways[name]))
        offered = hops[name].offered
        if not hops[parent].is_router or offered & doubled:
            continue
        outside.append(name)
        hops[name].default = parent
        behind = offered & ~hops[parent].own
        if behind:
            hops[parent].table[name] = behind
            hops[parent].offered |= behind
        ways.remove_node(name)
        if ways.degree(parent) == 1:
            queue.append(parent)
    return outside


def _search(hops: dict[str, _Hop]) -> None:
    """Find the next hops of what has more ways than one: all prefixes at once, a link further a round."""
    gateways = {name: [gateway for gateway in hop.gateways if gateway in hops] for name, hop in hops.items()}
    fresh = {name: hop.offered for name, hop in hops.items()}
    for hop in hops.values():
        hop.reached = hop.own | hop.offered
    while any(fresh.values()):
        found = {}
        for name, hop in hops.items():
            before = hop.reached
            for gateway in gateways[name]:
                new = fresh[gateway] & ~hop.reached
                if new:
                    hop.table[gateway] = hop.table.get(gateway, 0) | new
                    hop.reached |= new
            found[name] = hop.reached & ~before if hop.is_router else 0
        fresh = found


def _except_overlapping(hops: dict[str, _Hop], name: str, overlapping: int) -> None:
    """Add a route for each overlapping prefix beside a default route: what contains it may go elsewhere."""
    hop = hops[name]
    parent = hop.default
    assert parent is not None
    hop.reached = hops[parent].reached
    known = hop.own
    for behind in hop.table.values():
        known |= behind
    through_parent = overlapping & hop.reached & ~known
    if through_parent:
        hop.table[parent] = through_parent


def _routes(hop: _Hop, ranges: "_Ranges") -> Iterator[Route]:
    for gateway, mask in hop.table.items():
        via = IPv4Address(hop.gateways[gateway])
        for network in ranges.networks(mask):
            yield Route(to=network, via=via)
    if hop.default is not None:
        yield Route(to=EVERYWHERE, via=IPv4Address(hop.gateways[hop.default]))


class _Ranges:
    """Turns sets of prefixes into the fewest networks that are exactly these addresses."""

    def __init__(self, prefixes: list[Prefix]) -> None:
        self._first = [first for first, _ in prefixes]
        self._last = [first + (1 << 32 - length) - 1 for first, length in prefixes]
        self._covers: dict[tuple[int, int], list[IPv4Network]] = {}
        # Bits of the prefixes that contain one another; of those that begin where the one before ends.
        self.overlapping = 0
        self._consecutive = 0
        around: list[int] = []
        for number, first in enumerate(self._first):
            while around and self._last[around[-1]] < first:
                around.pop()
            if around:
                self.overlapping |= 1 << number | 1 << around[-1]
            around.append(number)
            if number and self._last[number - 1] + 1 == first:
                self._consecutive |= 1 << number
        self._consecutive &= ~(self.overlapping | self.overlapping << 1)

    def networks(self, mask: int) -> Iterator[IPv4Network]:
        """Yield the networks of the prefixes in `mask`."""
        joined = mask & mask << 1 & self._consecutive
        starts = mask & ~joined
        while starts:
            start = (starts & -starts).bit_length() - 1
            starts &= starts - 1
            # The run goes on for as many bits as are joined without a break: up to the first zero.
            behind = joined >> start + 1
            run = (~behind & behind + 1).bit_length() - 1
            yield from self._cover(start, start + run)

    def _cover(self, start: int, end: int) -> list[IPv4Network]:
        cover = self._covers.get((start, end))
        if cover is None:
            cover = self._covers[start, end] = list(_networks(self._first[start], self._last[end]))
        return cover


def _networks(first: int, last: int) -> Iterator[IPv4Network]:
    while first <= last:
        # The largest block that begins here: as aligned as `first` is, and not beyond `last`.
        size_bits = (last - first + 1).bit_length() - 1
        if first:
            size_bits = min(size_bits, (first & -first).bit_length() - 1)
        yield IPv4Network((first, 32 - size_bits))
        first += 1 << size_bits
