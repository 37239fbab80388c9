"""A topology: the whole of a document, checked and with everything resolved."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from manystack.topology.checks import (
    Nodes,
    check_captures,
    check_devices,
    check_macs,
    check_node,
    check_segments,
    check_sizes,
    node_place,
    resolve_links,
    resolve_traffic,
)
from manystack.topology.document.errors import Problems, TopologyError
from manystack.topology.document.files import read_document
from manystack.topology.document.part import Document, Part
from manystack.topology.document.reading import read_kind, read_part
from manystack.topology.link.merging import LinkReader
from manystack.topology.link.traces import Files
from manystack.topology.link.values import PipeParameters
from manystack.topology.model import (
    BRIDGE_MTU,
    Capture,
    Interface,
    Link,
    Node,
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
    WrittenCapture,
    WrittenNic,
    WrittenPing,
    WrittenStack,
    WrittenTap,
)
from manystack.topology.writing import chosen, write_capture, write_link, write_node, write_traffic


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
    capture: list[Capture] = Field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> "Topology":
        """Read a file: .msgpack, .yaml, .yml or .json. Raises TopologyError with everything that is wrong.

        Files that it names are looked for beside it.
        """
        problems = Problems()
        try:
            return cls._parse(
                read_document(Path(path), problems), problems, Files(Path(path).absolute().parent)
            )
        except TopologyError as error:
            raise TopologyError(error.errors, Path(path)) from None

    @classmethod
    def parse(cls, document: Document, folder: Path | None = None) -> "Topology":
        """Return what a document describes. Raises TopologyError with everything that is wrong.

        Files that it names are looked for in `folder`, or in the working directory.
        """
        return cls._parse(document, Problems(), Files((folder or Path()).absolute()))

    @classmethod
    def _parse(cls, document: object, problems: Problems, files: Files) -> "Topology":
        header = read_part(problems, Header, document, "") or Header()
        known = document if isinstance(document, dict) else dict.fromkeys(Header.required)
        for key, hint in Header.required.items():
            if key not in known:
                problems.add(key, f"is missing: {hint}")
        nodes = {name: _read_node(problems, name, node) for name, node in _mapping(known, "nodes").items()}
        links = _read_links(problems, nodes, _list(known, "links"), files)
        traffic = [
            _read_traffic(problems, nodes, f"traffic[{number}]", item)
            for number, item in enumerate(_list(known, "traffic"))
        ]
        captures = [
            _read_capture(problems, f"capture[{number}]", item)
            for number, item in enumerate(_list(known, "capture"))
        ]
        check_macs(problems, nodes)
        check_devices(problems, nodes, header.time)
        check_segments(problems, nodes, links)
        check_sizes(problems, nodes, traffic)
        check_captures(problems, nodes, links, captures)
        problems.check()
        return cls(
            name=header.name,
            time=header.time,
            seed=header.seed,
            routes=header.routes,
            nodes={name: node for name, node in nodes.items() if node},
            links=links,
            traffic=[item for item in traffic if item],
            capture=[item for item in captures if item],
        )

    def with_time(self, time: TimeMode) -> "Topology":
        """Return the same network under another clock. Raises TopologyError: tap or nic in virtual time."""
        problems = Problems()
        check_devices(problems, self.nodes, time)
        problems.check()
        return self.model_copy(update={"time": time})

    def dump(self, *, defaults: bool = False, folder: Path | None = None) -> Document:
        """Return a document that is parsed to this topology again; with all defaults written out if asked.

        Files are named by their whole path, but those in `folder` as seen from there.
        """
        header: Document = {"manystack": SCHEMA_VERSION}
        header |= chosen(
            {"name": self.name, "time": str(self.time), "seed": self.seed, "routes": self.routes},
            {"time": "real", "seed": 0, "routes": None},
            defaults,
        )
        parts = {
            "nodes": {name: write_node(node, defaults) for name, node in self.nodes.items()},
            "links": [write_link(link, self.nodes, defaults, folder) for link in self.links],
            "traffic": [write_traffic(traffic, defaults) for traffic in self.traffic],
            "capture": [write_capture(capture, defaults) for capture in self.capture],
        }
        return header | chosen(parts, {"links": [], "traffic": [], "capture": []}, defaults)


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


def _read_links(
    problems: Problems, nodes: dict[str, Node | None], documents: list[Any], files: Files
) -> list[Link]:
    """Return the links, and give each switch and hub the ports that they take."""
    reader = LinkReader(files)
    written = {}
    parameters = {}
    for number, document in enumerate(documents):
        link, directions = reader.read(problems, document, f"links[{number}]")
        if link:
            written[number] = link
        if directions:
            parameters[number] = directions
    ends, ports = resolve_links(problems, nodes, written)
    for name, names in ports.items():
        bridge = nodes[name]
        if bridge:
            interfaces = dict.fromkeys(names, Interface(mtu=BRIDGE_MTU))
            nodes[name] = bridge.model_copy(update={"interfaces": interfaces})
    ideal = PipeParameters(), PipeParameters()
    return [
        Link(ends=ends[number], forward=forward, reverse=reverse)
        for number in written
        if number in ends
        for forward, reverse in [parameters.get(number, ideal)]
    ]


def _read_capture(problems: Problems, place: str, document: object) -> Capture | None:
    written = read_part(problems, WrittenCapture, document, place)
    if written is None:
        return None
    return Capture(file=written.file, interfaces=written.interfaces, snap_bytes=written.snap_length)


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
