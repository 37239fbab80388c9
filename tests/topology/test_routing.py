"""Shortest routes: every packet is walked through the tables, and compared with a plain search."""

import random
from collections import deque
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from time import perf_counter
from typing import Any

import pytest

from manystack.topology import Route, Topology, generate, shortest_routes
from manystack.topology.segments import segments

NOWHERE = IPv4Address("203.0.113.1")


class Network:
    """A topology as a packet meets it, with the routes that were found for it."""

    def __init__(self, topology: Topology) -> None:
        self.kinds = {
            name: node.kind for name, node in topology.nodes.items() if node.kind not in ("switch", "hub")
        }
        self.routes = shortest_routes(topology)
        self.addresses = [address for node in topology.nodes.values() for _, address in node.addressed()]
        segment_of = segments(topology.nodes, topology.links)
        # What a node is connected to: networks and where they are. Who has which address in such a place.
        self.connected: dict[str, list[tuple[IPv4Network, Any]]] = {}
        self.members: dict[tuple[IPv4Network, Any], dict[IPv4Address, str]] = {}
        for name in self.kinds:
            self.connected[name] = []
            for interface, address in topology.nodes[name].addressed():
                place = address.network, segment_of.get((name, interface), (name, interface))
                self.connected[name].append(place)
                self.members.setdefault(place, {})[address.ip] = name

    def next_node(self, name: str, address: IPv4Address, *, passes: bool = True) -> str | IPv4Network | None:
        """Return the longest match: the network if it is connected, else the next node; None without any.

        A node that passes nothing on looks no further than itself.
        """
        matches: list[tuple[int, Route | IPv4Network]] = []
        matches += [(network.prefixlen, network) for network, _ in self.connected[name] if address in network]
        if passes:
            matches += [
                (route.to.prefixlen, route) for route in self.routes.get(name, ()) if address in route.to
            ]
        if not matches:
            return None
        best = max(matches, key=lambda match: match[0])[1]
        if isinstance(best, IPv4Network):
            return best
        assert best.via is not None
        (place,) = (place for place in self.connected[name] if best.via in place[0])
        return self.members[place][best.via]

    def walk(self, source: str, address: IPv4Address) -> tuple[IPv4Network, int] | None:
        """Return in which network a packet ends, and after how many links; None where nobody knows a way."""
        at = source
        for steps in range(len(self.kinds) + 1):
            following = self.next_node(at, address, passes=at == source or self.kinds[at] == "router")
            if following is None:
                return None
            if isinstance(following, IPv4Network):
                return following, steps
            at = following
        raise AssertionError(f"a packet from {source} to {address} goes in circles")

    def distances(self, source: str) -> dict[IPv4Network, int]:
        """Return over how many links each network is reached, by a plain search."""
        distances: dict[IPv4Network, int] = {}
        steps = {source: 0}
        queue = deque([source])
        while queue:
            name = queue.popleft()
            passes = name == source or self.kinds[name] == "router"
            for place in self.connected[name]:
                if passes or len(self.members[place]) == 1:
                    distances.setdefault(place[0], steps[name])
                for neighbor in self.members[place].values() if passes else ():
                    if neighbor not in steps:
                        steps[neighbor] = steps[name] + 1
                        queue.append(neighbor)
        return distances

    def check(self) -> None:
        """Check the way from everywhere to every address: a shortest one to the longest match, or none."""
        for source in self.routes:
            distances = self.distances(source)
            for address in [address.ip for address in self.addresses] + [NOWHERE]:
                matches = [network for network in distances if address in network]
                best = max(matches, key=lambda network: network.prefixlen, default=None)
                assert self.walk(source, address) == (None if best is None else (best, distances[best]))


def random_document(seed: int, overlapping: bool) -> dict[str, Any]:
    """Return a network of routers, hosts and taps on links and switches, not all of it connected.

    With `overlapping`, networks contain one another and some are in two places, but never on one node.
    """
    generator = random.Random(seed)
    names = [f"r{number}" for number in range(generator.randint(1, 9))]
    names += [f"h{number}" for number in range(generator.randint(0, 5))]
    names += [f"t{number}" for number in range(generator.randint(0, 2))]
    nodes: dict[str, Any] = {}
    for name in names:
        kind = {"r": "router", "h": "host", "t": "tap"}[name[0]]
        nodes[name] = {"kind": kind, "interfaces": {}}
        if kind == "tap":
            nodes[name] = {"kind": kind, "device": name, "addresses": []}
    links: list[dict[str, Any]] = []
    networks_of: dict[str, list[IPv4Network]] = {name: [] for name in names}
    linked_taps = set()
    for number in range(generator.randint(0, 2 * len(names))):
        if overlapping:
            length = generator.choice([20, 24, 26, 29])
            network = IPv4Network(
                (int(IPv4Address("10.0.0.0")) + generator.randrange(4096), length), strict=False
            )
        else:
            network = IPv4Network((int(IPv4Address("10.0.0.0")) + 8 * number, 29))
        members = generator.sample(names, min(len(names), generator.choice([1, 2, 2, 2, 3, 4])))
        members = [
            name
            for name in members
            if name not in linked_taps and not any(network.overlaps(other) for other in networks_of[name])
        ]
        ends = []
        for index, name in enumerate(members):
            address = str(IPv4Interface((int(network.network_address) + index + 1, network.prefixlen)))
            networks_of[name].append(network)
            if nodes[name]["kind"] == "tap":
                linked_taps.add(name)
                nodes[name]["addresses"].append(address)
                ends.append(name)
            else:
                interface = f"eth{len(nodes[name]['interfaces'])}"
                nodes[name]["interfaces"][interface] = {"addresses": [address]}
                ends.append(f"{name}.{interface}")
        if len(ends) == 2:
            links.append({"ends": ends})
        elif len(ends) > 2:
            nodes[f"sw{number}"] = {"kind": generator.choice(["switch", "hub"])}
            links += [{"ends": [f"sw{number}", end]} for end in ends]
    return {"manystack": 1, "nodes": nodes, "links": links}


@pytest.mark.parametrize("overlapping", [False, True], ids=["plain", "overlapping"])
@pytest.mark.parametrize("seed", range(10))
def test_random_networks(seed: int, overlapping: bool) -> None:
    for part in range(40):
        Network(Topology.parse(random_document(seed * 1000 + part, overlapping))).check()


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("chain", [1]),
        ("chain", [30]),
        ("ring", [3]),
        ("ring", [12]),
        ("star", [9]),
        ("grid", [5, 4]),
        ("tree", [3, 3]),
    ],
    ids=str,
)
def test_generated_networks(kind: str, sizes: list[int]) -> None:
    Network(Topology.parse(generate(kind, sizes))).check()


def routes_as_text(topology: Topology) -> dict[str, list[str]]:
    return {
        name: [f"{route.to} via {route.via}" for route in routes]
        for name, routes in shortest_routes(topology).items()
    }


def test_the_routes_of_a_chain() -> None:
    assert routes_as_text(Topology.parse(generate("chain", [3]))) == {
        "h1": ["0.0.0.0/0 via 10.0.0.2"],
        "r1": ["0.0.0.0/0 via 10.0.0.6"],
        "r2": ["10.0.0.0/30 via 10.0.0.5", "10.0.0.12/30 via 10.0.0.10"],
        "r3": ["0.0.0.0/0 via 10.0.0.9"],
        "h2": ["0.0.0.0/0 via 10.0.0.13"],
    }


def test_equal_ways_are_taken_by_name() -> None:
    # r1-1 reaches the opposite corner of the square over r1-2 and over r2-1.
    topology = Topology.parse(generate("grid", [2, 2]))
    network = Network(topology)
    h2 = topology.nodes["h2"].interfaces["eth0"].addresses[0].ip
    assert network.next_node("r1-1", h2) == "r1-2"
    assert network.next_node("r2-2", topology.nodes["h1"].interfaces["eth0"].addresses[0].ip) == "r1-2"


def test_nodes_with_routes_of_their_own_are_left_alone() -> None:
    document = generate("chain", [3])
    document["nodes"]["r1"]["routes"] = [{"to": "10.0.0.12/30", "via": "10.0.0.6"}]
    assert set(shortest_routes(Topology.parse(document))) == {"h1", "r2", "r3", "h2"}


def test_a_taps_other_networks_are_behind_it() -> None:
    document = generate("chain", [2])
    document["nodes"]["h2"] = {
        "kind": "tap",
        "device": "emu0",
        "addresses": ["10.0.0.10/30", "172.16.0.1/16"],
    }
    document["links"][-1]["ends"][1] = "h2"
    assert routes_as_text(Topology.parse(document))["r2"][:1] == ["172.16.0.0/16 via 10.0.0.10"]


def test_a_thousand_routers_are_fast() -> None:
    topology = Topology.parse(generate("chain", [1000]))
    start = perf_counter()
    routes = shortest_routes(topology)
    # 0.05 s where this was written; the start of an emulation waits for it.
    assert perf_counter() - start < 1
    assert max(map(len, routes.values())) <= 16
