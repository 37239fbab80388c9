"""Topologies: what a user describes, checked, and as the engine reads it."""

from manystack.topology.errors import PlacedError, TopologyError
from manystack.topology.generate import generate
from manystack.topology.model import (
    End,
    Interface,
    Link,
    Node,
    PipeParameters,
    Route,
    TimeMode,
    Traffic,
)
from manystack.topology.routing import shortest_routes
from manystack.topology.schema import pipe_parameters_from_text
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
    "generate",
    "pipe_parameters_from_text",
    "shortest_routes",
]
