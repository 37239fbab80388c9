"""Topologies: what a user describes, checked, and as the engine reads it.

Uses `core`, `errors`.
"""

from manystack.topology.errors import PlacedError, TopologyError
from manystack.topology.generate import generate
from manystack.topology.merging import changed_parameters
from manystack.topology.model import (
    End,
    Interface,
    Link,
    Node,
    Route,
    TimeMode,
    Traffic,
)
from manystack.topology.pipe import PipeParameters
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
