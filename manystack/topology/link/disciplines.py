"""Queue disciplines as a document knows them: which settings each has, and what they are if not given.

Which disciplines there are is the engine's to say; a room of `core/link/queues` tells what a discipline does.
"""

from typing import Any, Final

from manystack.core import _switch as core
from manystack.topology.link.values import Mask

ALL_BITS: Final = Mask(
    src_ip=2**32 - 1,
    dst_ip=2**32 - 1,
    src_ip6=2**128 - 1,
    dst_ip6=2**128 - 1,
    src_port=2**16 - 1,
    dst_port=2**16 - 1,
    proto=2**8 - 1,
)
"""Every five-tuple is a flow of its own."""

_DROP: Final = {"drop": "tail"}
_FLOWS: Final = {"flows": 1024, "mask": ALL_BITS}
_SHARES: Final = {"weights": (1,) * 8}
_QUANTUM: Final = {"quantum_bytes": 1514}
_CODEL: Final = {"ecn": False, "target_ns": 5 * 10**6, "interval_ns": 100 * 10**6}
_PIE: Final = {
    "ecn": False,
    "target_ns": 15 * 10**6,
    "interval_ns": 15 * 10**6,
    "burst_ns": 150 * 10**6,
    "mark_below": 0.1,
    "alpha_microhertz": 125_000,
    "beta_microhertz": 1_250_000,
    "capdrop": True,
    "derandomize": True,
    "onoff": False,
}
_RED: Final = {
    "ecn": False,
    "min_bytes": None,
    "max_bytes": None,
    "probability": 0.1,
    "gentle": False,
    "averaging_packets": 512,
}

DISCIPLINES: Final[dict[str, dict[str, Any]]] = {
    "droptail": _DROP,
    "red": _RED,
    "codel": _CODEL,
    "pie": _PIE,
    "fq_codel": _CODEL | _QUANTUM | _FLOWS,
    "fq_pie": _PIE | _QUANTUM | _FLOWS,
    "round_robin": _DROP | _FLOWS,
    "drr": _DROP | _QUANTUM | _SHARES | _FLOWS,
    "wfq": _DROP | _SHARES | _FLOWS,
    "qfq": _DROP | _SHARES | _FLOWS,
    "priority": _DROP,
    "each": {"rate_bps": None} | _DROP | _FLOWS,
}
"""The settings of each discipline, as fields of a `Queue`, with their defaults; None has to be given."""

KNOWN: Final = tuple(name for name in core.DISCIPLINES if name in DISCIPLINES)
"""The disciplines that can be asked for."""

KEYS: Final = {
    "drop": "drop",
    "ecn": "ecn",
    "target": "target_ns",
    "interval": "interval_ns",
    "burst": "burst_ns",
    "min": "min_bytes",
    "max": "max_bytes",
    "probability": "probability",
    "mark_below": "mark_below",
    "alpha": "alpha_microhertz",
    "beta": "beta_microhertz",
    "capdrop": "capdrop",
    "derandomize": "derandomize",
    "onoff": "onoff",
    "gentle": "gentle",
    "averaging": "averaging_packets",
    "quantum": "quantum_bytes",
    "rate": "rate_bps",
    "flows": "flows",
    "weights": "weights",
    "mask": "mask",
}
"""What a document calls each setting."""


def keys_of(discipline: str) -> list[str]:
    """Return what may stand in the queue of a discipline."""
    return ["limit", "discipline", *(key for key, field in KEYS.items() if field in DISCIPLINES[discipline])]
