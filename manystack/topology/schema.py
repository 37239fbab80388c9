"""What a document may say, part by part: schema version 1 as it is written. Links are in `link.written`.

A key of type `Later` belongs to the schema, but not to this version.
"""

import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from manystack.topology.document.errors import NOT_YET, short
from manystack.topology.document.part import Part
from manystack.topology.document.quantity import parse_bandwidth, parse_duration, parse_size
from manystack.topology.link.kinds import parse_delay
from manystack.topology.model import (
    LONGEST_FRAME,
    Address,
    Interface,
    Mtu,
    Route,
    TimeMode,
    ipv4_address,
    not_ipv6,
    unicast,
)

SCHEMA_VERSION: Final = 1
NODE_NAME: Final = re.compile("[A-Za-z0-9_-]+")
INTERFACE_NAME: Final = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def _later(value: object) -> None:
    raise ValueError(NOT_YET)


def _version(value: object) -> int:
    if value is True or value != SCHEMA_VERSION:
        raise ValueError(f"this version reads schema version {SCHEMA_VERSION}, not {short(value)}")
    return SCHEMA_VERSION


def _node_name(value: object) -> str:
    if not isinstance(value, str) or not NODE_NAME.fullmatch(value):
        raise ValueError(f"{short(value)} is no name: a name is text of letters, digits, - and _")
    return value


def _device(value: object) -> str:
    if not isinstance(value, str) or not value or value in (".", ".."):
        raise ValueError(f"{short(value)} is no device name: write text such as emu0")
    if len(value.encode()) > 15:
        raise ValueError(f"device name {short(value)} is longer than 15 bytes")
    if re.search(r"[\s/:%\0]", value):
        raise ValueError(f"device name {short(value)} has a character that Linux does not allow in one")
    return value


def _namespace(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", value):
        raise ValueError(f"{short(value)} is no namespace: a name of letters, digits, -, _ and . is one")
    return value


def _destination(value: object) -> str:
    if isinstance(value, str):
        not_ipv6(value)
        if "." in value:
            unicast(ipv4_address(value))
            return value
    return _node_name(value)


def _payload(value: object) -> int:
    size_bytes = parse_size(value)
    if not 16 <= size_bytes <= 65507:
        raise ValueError(f"{value} is not possible: a payload is 16B to 65507B")
    return size_bytes


def _snap_length(value: object) -> int:
    snap_bytes = parse_size(value)
    if not 1 <= snap_bytes <= LONGEST_FRAME:
        raise ValueError(f"{value} is not possible: a snap length is 1B to {LONGEST_FRAME}B")
    return snap_bytes


def _interval(value: object) -> int:
    interval_ns = parse_delay(value)
    if interval_ns == 0:
        raise ValueError(f"{value} is too short: at least 1ns")
    return interval_ns


def _rate(value: object) -> int:
    rate_bps = parse_bandwidth(value)
    if rate_bps == 0:
        raise ValueError("traffic has a rate: write one such as 8Mbit/s")
    return rate_bps


Later = Annotated[None, BeforeValidator(_later)]
Duration = Annotated[int, BeforeValidator(parse_duration)]
NodeName = Annotated[str, BeforeValidator(_node_name)]
Payload = Annotated[int, BeforeValidator(_payload)]


class Header(Part):
    """The document itself; what it holds in nodes, links and traffic is read piece by piece."""

    required: ClassVar = {"manystack": f"write manystack: {SCHEMA_VERSION}", "nodes": "write what there is"}
    manystack: Annotated[int, BeforeValidator(_version)] = SCHEMA_VERSION
    name: NodeName = "network"
    time: Annotated[TimeMode, BeforeValidator(TimeMode.parse)] = TimeMode()
    seed: int = Field(default=0, ge=0, lt=2**64)
    routes: Literal["shortest"] | None = None
    nodes: dict[str, Any] = Field(default_factory=dict)
    links: list[Any] = Field(default_factory=list)
    traffic: list[Any] = Field(default_factory=list)
    capture: list[Any] = Field(default_factory=list)


class WrittenCapture(Part):
    """A file for what passes some interfaces."""

    file: str = Field(min_length=1, description="name the file to write, such as all.pcapng")
    interfaces: list[str] = Field(default_factory=list)
    snap_length: Annotated[int, BeforeValidator(_snap_length)] = LONGEST_FRAME


class WrittenStack(Part):
    """A host or a router."""

    parts: ClassVar = {"interfaces": Interface, "routes": Route}
    kind: Literal["host", "router"]
    interfaces: dict[str, Interface] = Field(default_factory=dict)
    routes: list[Route] = Field(default_factory=list)
    daemons: Later = None


class WrittenBridge(Part):
    """A switch or a hub."""

    kind: Literal["switch", "hub"]


class WrittenTap(Part):
    """A TAP device and the real host behind it."""

    parts: ClassVar = {"routes": Route}
    kind: Literal["tap"]
    device: Annotated[str, BeforeValidator(_device)] = Field(
        description="name the device to make, such as emu0"
    )
    namespace: Annotated[str, BeforeValidator(_namespace)] | None = None
    addresses: list[Address] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)
    mtu: Mtu = 1500


class WrittenNic(Part):
    """A network device that is there already."""

    kind: Literal["nic"]
    device: Annotated[str, BeforeValidator(_device)] = Field(
        description="name a device that exists, such as eth1"
    )
    namespace: Annotated[str, BeforeValidator(_namespace)] | None = None


WrittenNode = WrittenStack | WrittenBridge | WrittenTap | WrittenNic
NODE_KINDS: Final[dict[str, type[WrittenNode]]] = {
    "host": WrittenStack,
    "router": WrittenStack,
    "switch": WrittenBridge,
    "hub": WrittenBridge,
    "tap": WrittenTap,
    "nic": WrittenNic,
}


class _WrittenTraffic(Part):
    kind: Literal["ping", "udp"]
    from_: NodeName = Field(alias="from", description="name the node that sends")
    to: Annotated[str, BeforeValidator(_destination)] = Field(
        description="name a node or write an IPv4 address"
    )
    start: Duration = 0
    stop: Duration | None = None


class WrittenPing(_WrittenTraffic):
    """Echo requests."""

    interval: Annotated[int, BeforeValidator(_interval)] = 10**9
    count: int | None = Field(default=None, ge=1, lt=2**31)
    size: Payload = 56
    ttl: int = Field(default=64, ge=1, le=255)


class WrittenUdp(_WrittenTraffic):
    """UDP datagrams at a constant rate."""

    rate: Annotated[int, BeforeValidator(_rate)] = Field(description="write one such as 8Mbit/s")
    size: Payload = 1000


WrittenTraffic = WrittenPing | WrittenUdp
TRAFFIC_KINDS: Final[dict[str, type[WrittenTraffic]]] = {"ping": WrittenPing, "udp": WrittenUdp}
LATER_TRAFFIC_KINDS: Final = ("tcp",)
