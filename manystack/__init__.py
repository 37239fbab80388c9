"""Manystack: many network stacks in one process, an exact and repeatable network emulator.

Here is what a user holds: a topology, the engine that runs it, what that records and reports, the commands.
Which of them may use which is in `tests/test_floors.py`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manystack.engine import Engine
    from manystack.topology import Topology

__all__ = ["Engine", "Topology"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that commands that need no engine start without it.
    if name == "Engine":
        from manystack.engine import Engine

        return Engine
    if name == "Topology":
        from manystack.topology import Topology

        return Topology
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
