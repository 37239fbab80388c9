"""The compiled engine: node contexts, pipes, timers and the loop that moves packets between them."""

from manystack.core._switch import Switch

__all__ = ["Switch"]
