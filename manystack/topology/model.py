"""The network as the engine reads it: names resolved, quantities as whole numbers of their smallest unit.

Interfaces and routes are read from a document as they stand here. All else has a written form of its own,
in `schema`, because it changes when defaults are filled in and names are looked up.
"""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from manystack.core import _switch as core
from manystack.topology.document.errors import NOT_YET, short
from manystack.topology.document.part import Part
from manystack.topology.link.values import PipeParameters

STACK_KINDS: Final = frozenset({"host", "router"})
BRIDGE_KINDS: Final = frozenset({"switch", "hub"})
LOOPBACK: Final = "lo"
"""The name of the loopback interface."""
DEVICE_KINDS: Final = frozenset({"tap", "nic"})
# A switch or hub passes on what fits into an IPv4 packet; its neighbors' MTUs decide.
BRIDGE_MTU: Final = 65535
# Of what a link carries.
LONGEST_FRAME: Final = core.LONGEST_FRAME
EVERYWHERE: Final = IPv4Network("0.0.0.0/0")


def not_ipv6(text: str) -> None:
    """Raise ValueError if a text is an IPv6 address or prefix: right, but too early."""
    try:
        IPv6Interface(text)
    except ValueError:
        return
    raise ValueError(f"IPv6 is {NOT_YET}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be {what} as text, not {short(value)}")
    not_ipv6(value)
    return value


def _address(value: object) -> IPv4Interface:
    if isinstance(value, IPv4Interface):
        return value
    text = _text(value, "an address with its prefix length, such as 10.0.0.1/24,")
    if "/" not in text:
        raise ValueError(
            f"{short(text)} lacks its prefix length: write {text[:20]}/24 or what its subnet has"
        )
    host = _without_length(text)
    try:
        address = IPv4Interface(text)
    except ValueError:
        raise ValueError(f"{short(host)} is not an IPv4 address") from None
    unicast(address.ip)
    network = address.network
    if network.prefixlen < 31 and address.ip in (network.network_address, network.broadcast_address):
        which = "network" if address.ip == network.network_address else "broadcast"
        raise ValueError(f"{address.ip} is the {which} address of {network}, not a host's")
    return address


def _without_length(text: str) -> str:
    host, slash, length = text.partition("/")
    if slash and (not re.fullmatch("[0-9]{1,2}", length) or int(length) > 32):
        raise ValueError(f"prefix length {short(length)} is impossible: an IPv4 prefix length is 0 to 32")
    return host


def unicast(address: IPv4Address) -> IPv4Address:
    """Return the address; raise ValueError if no single node on a network can have it."""
    if address.is_multicast or address.is_reserved or address.is_loopback or int(address) >> 24 == 0:
        raise ValueError(f"{address} cannot be the address of a node")
    return address


def ipv4_prefix(value: object) -> IPv4Network:
    """Return a prefix given as text, `default` being all; raises ValueError."""
    if isinstance(value, IPv4Network):
        return value
    text = _text(value, "a prefix such as 10.0.0.0/8, or default,")
    if text == "default":
        return EVERYWHERE
    host = _without_length(text)
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{short(text)} is not a prefix: write one such as 10.0.0.0/8, or default") from None
    if str(network.network_address) != host:
        raise ValueError(f"{short(text)} has bits set behind its prefix length: write {network}")
    return network


def ipv4_address(value: object) -> IPv4Address:
    """Return an address given as text; raises ValueError."""
    if isinstance(value, IPv4Address):
        return value
    text = _text(value, "an IPv4 address")
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise ValueError(f"{short(text)} is not an IPv4 address") from None


def _mac(value: object) -> bytes:
    if isinstance(value, bytes) and len(value) == 6:
        mac = value
    elif isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        mac = bytes.fromhex(value.replace(":", ""))
    else:
        raise ValueError(f'{short(value)} is not a MAC address: write text such as "02:00:00:00:00:01"')
    if mac[0] & 1 or mac == bytes(6):
        raise ValueError(
            f"{format_mac(mac)} cannot be the address of an interface: it is a group's or nobody's"
        )
    return mac


def _mtu(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a number of bytes, such as 1500, not {short(value)}")
    if not 68 <= value <= 65535:
        raise ValueError(f"MTU {value} is impossible: 68 to 65535 bytes are allowed")
    return value


def format_mac(mac: bytes) -> str:
    """Write a MAC address as documents have it: 02:00:00:00:00:01."""
    return mac.hex(":")


Address = Annotated[IPv4Interface, BeforeValidator(_address)]
Prefix = Annotated[IPv4Network, BeforeValidator(ipv4_prefix)]
Gateway = Annotated[IPv4Address, BeforeValidator(ipv4_address)]
Mac = Annotated[bytes, BeforeValidator(_mac)]
Mtu = Annotated[int, BeforeValidator(_mtu)]


class TimeMode(Part):
    """Which clock a run has. Dilated: one emulated second takes `factor` real ones."""

    kind: Literal["real", "virtual", "dilated"] = "real"
    factor: int = Field(default=1, ge=1, le=1_000_000)

    @classmethod
    def parse(cls, text: object) -> "TimeMode":
        """Return the mode that is written `real`, `virtual` or `x10`; raises ValueError."""
        match text:
            case "real" | "virtual":
                return cls(kind=text)
            case str() if re.fullmatch("x[1-9][0-9]{0,6}", text) and int(text[1:]) <= 1_000_000:
                return cls(kind="dilated", factor=int(text[1:]))
        raise ValueError(
            f"{short(text)} is no time mode: write real, virtual, or x10 (one emulated second in 10 real, "
            "up to x1000000)"
        )

    def __str__(self) -> str:
        return f"x{self.factor}" if self.kind == "dilated" else self.kind


class Route(Part):
    """A static route. Without `via`, what goes there is unreachable."""

    to: Prefix
    via: Gateway | None = None


class Interface(Part):
    """One interface of a node. Without a `mac` it gets one that depends on its name alone."""

    addresses: list[Address] = Field(default_factory=list)
    mtu: Mtu = 1500
    mac: Mac | None = None


class Node(Part):
    """A node. Hosts and routers have interfaces and routes of their own.

    A switch or hub has the ports its links take (`port0`, `port1`, …). A tap has one port, named after its
    device; `addresses` and `routes` are set on the real host's side of the device, in `namespace`. A nic has
    one port too, and nothing of its device, which is there already, is set.
    """

    kind: Literal["host", "router", "switch", "hub", "tap", "nic"]
    interfaces: dict[str, Interface] = Field(default_factory=dict)
    routes: list[Route] = Field(default_factory=list)
    device: str = ""
    namespace: str | None = None
    addresses: list[IPv4Interface] = Field(default_factory=list)
    mtu: int = 1500

    def addressed(self) -> Iterator[tuple[str, IPv4Interface]]:
        """Yield each address with the interface that has it; a tap's are those of the real host behind it."""
        if self.kind == "tap":
            yield from ((self.device, address) for address in self.addresses)
        for name, interface in self.interfaces.items():
            yield from ((name, address) for address in interface.addresses)


class End(Part):
    """One end of a link."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}.{self.interface}"


class Link(Part):
    """Two interfaces and the pipes between them; `forward` leads from the first end to the second."""

    ends: tuple[End, End]
    forward: PipeParameters = PipeParameters()
    reverse: PipeParameters = PipeParameters()


class Traffic(Part):
    """What the network itself sends, from `start_ns` on, until `count` or `stop_ns`, whichever comes first.

    A ping sends `count` echo requests (None: no limit), one each `interval_ns`, with `ttl`. UDP sends
    `rate_bps`. `size_bytes` and `rate_bps` count payload: of the echo request, of the UDP datagram.
    """

    kind: Literal["ping", "udp"]
    from_: str
    to: str
    destination: IPv4Address
    size_bytes: int
    start_ns: int = 0
    stop_ns: int | None = None
    interval_ns: int = 0
    count: int | None = None
    ttl: int = 64
    rate_bps: int = 0


class Capture(Part):
    """A pcapng file of what passes some interfaces; a node alone is all of its own, none at all is every one.

    Of each frame the first `snap_bytes` are written.
    """

    file: str
    interfaces: list[str] = Field(default_factory=list)
    snap_bytes: int = LONGEST_FRAME
