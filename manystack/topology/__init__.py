"""Topologies: what a user describes, checked, and as the engine reads it.

Here is the document as a whole: nodes, traffic, captures, routes. What is of a link alone is in `link`, and
what any document has in `document`.

Uses `core`, `errors`, `topology/document`, `topology/link`.
"""

from manystack.topology.document.errors import PlacedError, TopologyError
from manystack.topology.generate import generate
from manystack.topology.link.merging import changed_parameters
from manystack.topology.link.values import PipeParameters
from manystack.topology.model import (
    End,
    Interface,
    Link,
    Node,
    Route,
    TimeMode,
    Traffic,
)
from manystack.topology.routing import shortest_routes
from manystack.topology.topology import Topology

__all__ = [
    "End",
    "Interface",
    "Link",
    "Node",
    "PipeParameters",
    "PlacedError",
    "Route",
    "TimeMode",
    "Topology",
    "TopologyError",
    "Traffic",
    "changed_parameters",
    "generate",
    "shortest_routes",
]
