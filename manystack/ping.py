"""What a ping asks for: in Python, over the control socket and by `emu ping`, with the same defaults."""

from dataclasses import dataclass
from typing import TypedDict

MOST_REQUESTS = 1_000_000
"""How many a client of the control socket may ask for at once."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Echo requests, as whoever wants them writes it.

    Durations and sizes are text with a unit; a bare number is ns or bytes.
    """

    count: int = 1
    """How many; 0: without end."""
    interval: str | int = "1s"
    """From one request to the next."""
    timeout: str | int = "5s"
    """How long the answer to the last one is waited for."""
    size: str | int = "56B"
    """The data in each."""
    ttl: int = 64


DEFAULT_PING = Ping()


class PingSettings(TypedDict, total=False):
    """The fields of Ping behind its count, as a call takes them by name."""

    interval: str | int
    timeout: str | int
    size: str | int
    ttl: int
