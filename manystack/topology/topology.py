"""A topology: the whole of a document, checked and with everything resolved."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from manystack.topology.checks import (
    Nodes,
    check_devices,
    check_macs,
    check_node,
    check_segments,
    check_sizes,
    node_place,
    resolve_links,
    resolve_traffic,
)
from manystack.topology.errors import Problems, TopologyError
from manystack.topology.files import read_document
from manystack.topology.model import (
    BRIDGE_MTU,
    Document,
    Interface,
    Link,
    Node,
    Part,
    PipeParameters,
    TimeMode,
    Traffic,
)
from manystack.topology.schema import (
    LATER_TRAFFIC_KINDS,
    NODE_KINDS,
    NODE_NAME,
    SCHEMA_VERSION,
    TRAFFIC_KINDS,
    Header,
    WrittenBridge,
    WrittenLink,
    WrittenNic,
    WrittenPing,
    WrittenStack,
    WrittenTap,
    pipe_parameters,
    read_kind,
    read_part,
)
from manystack.topology.writing import chosen, write_link, write_node, write_traffic


class Topology(Part):
    """A network as it was described: nodes, links and traffic, in the order of the document.

    `routes` "shortest" asks for `shortest_routes`; None leaves every node to its own routes.
    """

    name: str = "network"
    time: TimeMode = TimeMode()
    seed: int = 0
    routes: Literal["shortest"] | None = None
    nodes: dict[str, Node]
    links: list[Link] = Field(default_factory=list)
    traffic: list[Traffic] = Field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> "Topology":
        """Read a file: .msgpack, .yaml, .yml or .json. Raises TopologyError with everything that is wrong."""
        problems = Problems()
        try:
            return cls._parse(read_document(Path(path), problems), problems)
        except TopologyError as error:
            raise TopologyError(error.errors, Path(path)) from None

    @classmethod
    def parse(cls, document: Document) -> "Topology":
        """Return what a document describes. Raises TopologyError with everything that is wrong."""
        return cls._parse(document, Problems())

    @classmethod
    def _parse(cls, document: object, problems: Problems) -> "Topology":
        header = read_part(problems, Header, document, "") or Header()
        known = document if isinstance(document, dict) else dict.fromkeys(Header.required)
        for key, hint in Header.required.items():
            if key not in known:
                problems.add(key, f"is missing: {hint}")
        nodes = {name: _read_node(problems, name, node) for name, node in _mapping(known, "nodes").items()}
        links = _read_links(problems, nodes, _list(known, "links"))
        traffic = [
            _read_traffic(problems, nodes, f"traffic[{number}]", item)
            for number, item in enumerate(_list(known, "traffic"))
        ]
        check_macs(problems, nodes)
        check_devices(problems, nodes, header.time)
        check_segments(problems, nodes, links)
        check_sizes(problems, nodes, traffic)
        problems.check()
        return cls(
            name=header.name,
            time=header.time,
            seed=header.seed,
            routes=header.routes,
            nodes={name: node for name, node in nodes.items() if node},
            links=links,
            traffic=[item for item in traffic if item],
        )

    def with_time(self, time: TimeMode) -> "Topology":
        """Return the same network under another clock. Raises TopologyError: tap or nic in virtual time."""
        problems = Problems()
        check_devices(problems, self.nodes, time)
        problems.check()
        return self.model_copy(update={"time": time})

    def dump(self, *, defaults: bool = False) -> Document:
        """Return a document that is parsed to this topology again; with all defaults written out if asked."""
        header: Document = {"manystack": SCHEMA_VERSION}
        header |= chosen(
            {"name": self.name, "time": str(self.time), "seed": self.seed, "routes": self.routes},
            {"time": "real", "seed": 0, "routes": None},
            defaults,
        )
        parts = {
            "nodes": {name: write_node(node, defaults) for name, node in self.nodes.items()},
            "links": [write_link(link, self.nodes, defaults) for link in self.links],
            "traffic": [write_traffic(traffic, defaults) for traffic in self.traffic],
        }
        return header | chosen(parts, {"links": [], "traffic": []}, defaults)


def _mapping(document: Document, key: str) -> Document:
    value = document.get(key)
    return {str(name): part for name, part in value.items()} if isinstance(value, dict) else {}


def _list(document: Document, key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _read_node(problems: Problems, name: str, document: object) -> Node | None:
    place = node_place(name)
    if not NODE_NAME.fullmatch(name):
        problems.add(place, "a node's name is letters, digits, - and _")
    written = read_kind(problems, NODE_KINDS, document, place)
    match written:
        case None:
            return None
        case WrittenStack():
            node = Node(kind=written.kind, interfaces=written.interfaces, routes=written.routes)
        case WrittenTap():
            node = Node(
                kind=written.kind,
                interfaces={written.device: Interface(mtu=written.mtu)},
                routes=written.routes,
                device=written.device,
                namespace=written.namespace,
                addresses=written.addresses,
                mtu=written.mtu,
            )
        case WrittenNic():
            return Node(
                kind=written.kind,
                interfaces={written.device: Interface(mtu=BRIDGE_MTU)},
                device=written.device,
                namespace=written.namespace,
            )
        case WrittenBridge():
            return Node(kind=written.kind)
    check_node(problems, name, node)
    return node


def _read_links(problems: Problems, nodes: dict[str, Node | None], documents: list[Any]) -> list[Link]:
    """Return the links, and give each switch and hub the ports that they take."""
    written = {
        number: link
        for number, document in enumerate(documents)
        if (link := read_part(problems, WrittenLink, document, f"links[{number}]"))
    }
    ends, ports = resolve_links(problems, nodes, written)
    for name, names in ports.items():
        bridge = nodes[name]
        if bridge:
            interfaces = dict.fromkeys(names, Interface(mtu=BRIDGE_MTU))
            nodes[name] = bridge.model_copy(update={"interfaces": interfaces})
    return [
        Link(
            ends=ends[number],
            forward=pipe_parameters(link, link.forward, base=PipeParameters()),
            reverse=pipe_parameters(link, link.reverse, base=PipeParameters()),
        )
        for number, link in written.items()
        if number in ends
    ]


def _read_traffic(problems: Problems, nodes: Nodes, place: str, document: object) -> Traffic | None:
    written = read_kind(problems, TRAFFIC_KINDS, document, place, later=LATER_TRAFFIC_KINDS)
    destination = resolve_traffic(problems, nodes, place, written) if written else None
    if written is None or destination is None:
        return None
    traffic = Traffic(
        kind=written.kind,
        from_=written.from_,
        to=written.to,
        destination=destination,
        size_bytes=written.size,
        start_ns=written.start,
        stop_ns=written.stop,
    )
    if isinstance(written, WrittenPing):
        return traffic.model_copy(
            update={"interval_ns": written.interval, "count": written.count, "ttl": written.ttl}
        )
    return traffic.model_copy(update={"rate_bps": written.rate})
