"""What the engine's calls give back: plain values with units in their names."""

import dataclasses
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

ECHO_REPLY = 0
TIME_EXCEEDED = 11

ICMP_TEXT = {
    (3, 0): "Destination Net Unreachable",
    (3, 1): "Destination Host Unreachable",
    (3, 2): "Destination Protocol Unreachable",
    (3, 3): "Destination Port Unreachable",
    (3, 4): "Fragmentation needed",
    (3, 13): "Packet filtered",
    (5, 0): "Redirect Network",
    (5, 1): "Redirect Host",
    (11, 0): "Time to live exceeded",
    (11, 1): "Fragment reassembly time exceeded",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to an echo request (counted from 0): the echo reply, or an ICMP error about the request."""

    sequence: int
    responder: IPv4Address
    icmp_type: int
    icmp_code: int
    ttl: int
    rtt_ns: int

    @property
    def is_echo(self) -> bool:
        """Whether the destination answered, rather than somebody on the way."""
        return self.icmp_type == ECHO_REPLY

    @property
    def meaning(self) -> str:
        """The ICMP type and code in words."""
        if self.is_echo:
            return "echo reply"
        return ICMP_TEXT.get(
            (self.icmp_type, self.icmp_code), f"ICMP type {self.icmp_type} code {self.icmp_code}"
        )


@dataclass(frozen=True, slots=True)
class PingResult:
    """What became of the echo requests of one ping. Times are round trips in ns, None without an answer."""

    destination: IPv4Address
    sent_packets: int
    received_packets: int
    replies: tuple[Reply, ...]
    elapsed_ns: int

    def __bool__(self) -> bool:
        """Whether the destination answered at all."""
        return self.received_packets > 0

    @property
    def rtts_ns(self) -> list[int]:
        """The round trips of the answered requests, in the order of their arrival."""
        return [reply.rtt_ns for reply in self.replies if reply.is_echo]

    @property
    def rtt_ns(self) -> int | None:
        """The first round trip: the only one of a ping with count 1."""
        rtts = self.rtts_ns
        return rtts[0] if rtts else None


@dataclass(frozen=True, slots=True)
class Hop:
    """Who answered the probes of one TTL; a probe without an answer is None."""

    ttl: int
    probes: tuple[Reply | None, ...]


@dataclass(frozen=True, slots=True)
class TracerouteResult:
    """The routers on the way to a destination, as far as they answered."""

    destination: IPv4Address
    hops: tuple[Hop, ...]

    @property
    def reached(self) -> bool:
        """Whether the destination itself answered."""
        return bool(self.hops) and any(probe is not None and probe.is_echo for probe in self.hops[-1].probes)


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One entry of a node's route table. Without gateway and interface it is an unreachable route."""

    prefix: IPv4Network
    kind: str
    gateway: IPv4Address | None
    interface: str | None


@dataclass(frozen=True, slots=True)
class NeighborEntry:
    """One entry of a node's neighbour (ARP) table; `packets_waiting` wait for its MAC address."""

    address: IPv4Address
    interface: str
    mac: str | None
    state: str
    packets_waiting: int


@dataclass(frozen=True, slots=True)
class MacEntry:
    """Where a switch last saw a MAC address, and when (ns of emulated time)."""

    mac: str
    interface: str
    seen_ns: int


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """What one interface took from its link (rx) and gave to it (tx), and what captures had no room for."""

    name: str
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    capture_lost_packets: int


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """The counters of one node; `drops` has only the reasons that happened.

    `memory_bytes` is what the node itself takes, with the pipes that it sends over: their lines, queues,
    shapers and tables, a table that pipes share in full with each. Packets are not counted.
    """

    node: str
    interfaces: tuple[InterfaceCounters, ...]
    drops: dict[str, int]
    memory_bytes: int


def mac_text(mac: bytes) -> str:
    """Six bytes as `02:00:00:00:00:01`."""
    return mac.hex(":")


def plain(value: Any) -> Any:
    """The same value of dicts, lists, text and numbers alone, as JSON and msgpack want it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
