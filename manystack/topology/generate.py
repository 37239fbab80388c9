"""Topologies of a known shape and any size, as documents.

Links get /30s out of 10.0.0.0/8 in order, so that what lies behind a link is few ranges of addresses and
routing tables stay small. Routes are shortest paths, and the first host pings the last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Final

from manystack.errors import UsageError
from manystack.topology.document.part import Document
from manystack.topology.schema import SCHEMA_VERSION

_FIRST_ADDRESS: Final = int(IPv4Address("10.0.0.0"))
MOST_NODES: Final = 100_000
# A TTL is 255 at most; each router on the way takes one, and one must be left.
_MOST_ROUTERS: Final = 254
_DEFAULT_TTL: Final = 64


@dataclass
class _Plan:
    """A document that is being written."""

    parameters: dict[str, str]
    nodes: dict[str, Document] = field(default_factory=dict)
    links: list[Document] = field(default_factory=list)

    def add(self, name: str, kind: str) -> str:
        self.nodes[name] = {"kind": kind, "interfaces": {}}
        return name

    def link(self, a: str, b: str) -> None:
        """Link two nodes: a new interface and one address of the next /30 for each."""
        network = _FIRST_ADDRESS + 4 * len(self.links)
        ends = []
        for name, address in ((a, network + 1), (b, network + 2)):
            interfaces = self.nodes[name]["interfaces"]
            interface = f"eth{len(interfaces)}"
            interfaces[interface] = {"addresses": [f"{IPv4Address(address)}/30"]}
            ends.append(f"{name}.{interface}")
        self.links.append({"ends": ends, **self.parameters})

    def document(self, name: str, source: str, path: list[str]) -> Document:
        """Return the document; `source` pings the end of a path, or the farthest on it within reach."""
        routers = min(len(path) - 1, _MOST_ROUTERS)
        ping = {"kind": "ping", "from": source, "to": path[routers], "interval": "100ms", "count": 50}
        if routers >= _DEFAULT_TTL:
            ping["ttl"] = 255
        return {
            "manystack": SCHEMA_VERSION,
            "name": name,
            "routes": "shortest",
            "nodes": self.nodes,
            "links": self.links,
            "traffic": [ping],
        }


def _chain(plan: _Plan, routers: int) -> list[str]:
    """h1 - r1 - r2 - … - h2."""
    path = ["h1", *(f"r{number}" for number in range(1, routers + 1)), "h2"]
    for name in path:
        plan.add(name, "host" if name.startswith("h") else "router")
    for a, b in pairwise(path):
        plan.link(a, b)
    return path


def _ring(plan: _Plan, routers: int) -> list[str]:
    """r1, r2, … in a circle, with h1 at r1 and h2 at the router opposite to it."""
    names = [plan.add(f"r{number}", "router") for number in range(1, routers + 1)]
    half = names[: routers // 2 + 1]
    plan.link(plan.add("h1", "host"), half[0])
    for a, b in pairwise([*names, names[0]]):
        plan.link(a, b)
    plan.link(plan.add("h2", "host"), half[-1])
    return ["h1", *half, "h2"]


def _star(plan: _Plan, hosts: int) -> list[str]:
    """Router r1 with h1, h2, … around it."""
    center = plan.add("r1", "router")
    names = [plan.add(f"h{number}", "host") for number in range(1, hosts + 1)]
    for name in names:
        plan.link(center, name)
    return [names[0], center, names[-1]]


def _grid(plan: _Plan, width: int, height: int) -> list[str]:
    """Routers rX-Y, X across and Y down, linked to those beside them, and h1 and h2 at opposite corners."""
    columns, rows = range(1, width + 1), range(1, height + 1)
    for y in rows:
        for x in columns:
            plan.add(f"r{x}-{y}", "router")
    plan.link(plan.add("h1", "host"), "r1-1")
    for y in rows:
        for x in columns:
            if x < width:
                plan.link(f"r{x}-{y}", f"r{x + 1}-{y}")
            if y < height:
                plan.link(f"r{x}-{y}", f"r{x}-{y + 1}")
    plan.link(plan.add("h2", "host"), f"r{width}-{height}")
    return ["h1", *(f"r{x}-1" for x in columns), *(f"r{width}-{y}" for y in rows[1:]), "h2"]


def _tree(plan: _Plan, depth: int, fanout: int) -> list[str]:
    """A root router r1, `fanout` nodes below each router, `depth` levels of links, the lowest to hosts."""
    numbers = {"router": 0, "host": 0}

    def grow(level: int) -> str:
        kind = "host" if level == depth else "router"
        numbers[kind] += 1
        name = plan.add(f"{kind[0]}{numbers[kind]}", kind)
        if kind == "router":
            for _ in range(fanout):
                # Whole branches after each other, so that the addresses below a router are one range.
                plan.link(name, grow(level + 1))
        return name

    grow(0)
    return ["h1", *["r1"] * (2 * depth - 1), f"h{numbers['host']}"]


@dataclass(frozen=True)
class Shape:
    """A kind of topology: its sizes with the least of each, the nodes that makes, and who makes them."""

    sizes: dict[str, int]
    node_count: Callable[..., int]
    build: Callable[..., list[str]]


SHAPES: Final = {
    "chain": Shape({"routers": 1}, lambda routers: routers + 2, _chain),
    "ring": Shape({"routers": 3}, lambda routers: routers + 2, _ring),
    "star": Shape({"hosts": 2}, lambda hosts: hosts + 1, _star),
    "grid": Shape({"width": 1, "height": 1}, lambda width, height: width * height + 2, _grid),
    "tree": Shape(
        {"depth": 1, "fanout": 2},
        lambda depth, fanout: (fanout ** (min(depth, 32) + 1) - 1) // (fanout - 1),
        _tree,
    ),
}


def generate(kind: str, sizes: Sequence[int], link: Mapping[str, str] | None = None) -> Document:
    """Return the document of a topology of a known shape; every link has the keys and values of `link`.

    generate("chain", [3]), generate("grid", [4, 5], {"delay": "5ms"}); the shapes are those of SHAPES. Raises
    UsageError for a shape or a number of nodes that is not possible.
    """
    if kind not in SHAPES:
        raise UsageError(f"unknown kind {kind!r} (allowed: {', '.join(SHAPES)})")
    shape = SHAPES[kind]
    if len(sizes) != len(shape.sizes):
        raise UsageError(f"a {kind} takes {' and '.join(shape.sizes)}: emu generate {_usage(kind)}")
    for size, (name, least) in zip(sizes, shape.sizes.items(), strict=True):
        if size < least:
            raise UsageError(f"{kind} {name.upper()}: at least {least}, not {size}")
    if shape.node_count(*sizes) > MOST_NODES:
        raise UsageError(f"that is more than {MOST_NODES:,} nodes")
    plan = _Plan(dict(link or {}))
    path = shape.build(plan, *sizes)
    return plan.document("-".join([kind, *map(str, sizes)]), path[0], path[1:])


def _usage(kind: str) -> str:
    return " ".join([kind, *(name.upper() for name in SHAPES[kind].sizes)])
