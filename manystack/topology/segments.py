"""Which interfaces hear each other: those that one link, or links and switches and hubs, join."""

from collections.abc import Iterable, Mapping

from manystack.topology.model import BRIDGE_KINDS, End, Link, Node


def segments(nodes: Mapping[str, Node], links: Iterable[Link]) -> dict[tuple[str, str], int]:
    """Return the number of its segment for each linked interface (node, name) of a host, router, tap or nic.

    Interfaces with the same number are on one link or behind the same switches and hubs.
    """

    import networkx as nx  # costs 0.1 s: only for those who read a topology

    def attachment(end: End) -> tuple[str, str]:
        # All ports of a switch or hub are one place.
        return end.node, "" if nodes[end.node].kind in BRIDGE_KINDS else end.interface

    graph: nx.Graph[tuple[str, str]] = nx.Graph()
    graph.add_edges_from((attachment(link.ends[0]), attachment(link.ends[1])) for link in links)
    return {
        place: number
        for number, places in enumerate(nx.connected_components(graph))
        for place in places
        if place[1]
    }
