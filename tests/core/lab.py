"""A workbench for the engine's tests: frames built and read by hand, and wires to put them on.

Nothing here is taken from the engine; checksums are residues modulo 65535, another way than adding words.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from manystack.core import Switch
from manystack.core import _switch as core

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
BROADCAST = b"\xff" * 6
TYPE_IP4 = 0x0800
TYPE_ARP = 0x0806
TYPE_IP6 = 0x86DD
PROTOCOL_ICMP = 1
PROTOCOL_UDP = 17
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
ECHO_REPLY = 0
UNREACHABLE = 3
REDIRECT = 5
ECHO = 8
TIME_EXCEEDED = 11
ARP_REQUEST = 1
ARP_REPLY = 2


def mac(number: int) -> bytes:
    """A locally administered station address."""
    return b"\x02" + number.to_bytes(5, "big")


def ip(text: str) -> int:
    return int(IPv4Address(text))


def checksum(data: bytes) -> int:
    """The Internet checksum. A one's complement sum of 16-bit words is the residue modulo 2^16 - 1."""
    if len(data) % 2:
        data += b"\0"
    residue = int.from_bytes(data, "big") % 65535
    if residue == 0 and any(data):
        residue = 65535
    return 65535 - residue


def ether(destination: bytes, source: bytes, ether_type: int, payload: bytes) -> bytes:
    return destination + source + ether_type.to_bytes(2, "big") + payload


def arp(operation: int, sender_mac: bytes, sender: str, target_mac: bytes, target: str) -> bytes:
    return (
        struct.pack(">HHBBH", 1, TYPE_IP4, 6, 4, operation)
        + sender_mac
        + IPv4Address(sender).packed
        + target_mac
        + IPv4Address(target).packed
    )


def ip4(
    source: str,
    destination: str,
    payload: bytes = b"",
    *,
    protocol: int = PROTOCOL_UDP,
    ttl: int = 64,
    identification: int = 0,
    flags: int = 0,
    offset: int = 0,
    options: bytes = b"",
    tos: int = 0,
    version: int = 4,
    header_words: int | None = None,
    total_length: int | None = None,
    header_checksum: int | None = None,
) -> bytes:
    """An IPv4 packet; `offset` is in bytes. What is given explicitly may be wrong, that is what it is for."""
    header = bytearray(
        struct.pack(
            ">BBHHHBBH4s4s",
            version << 4 | (5 + len(options) // 4 if header_words is None else header_words),
            tos,
            20 + len(options) + len(payload) if total_length is None else total_length,
            identification,
            flags | offset // 8,
            ttl,
            protocol,
            0,
            IPv4Address(source).packed,
            IPv4Address(destination).packed,
        )
        + options
    )
    if header_checksum is None:
        header_checksum = checksum(bytes(header[: max(20, (header[0] & 15) * 4)]))
    header[10:12] = header_checksum.to_bytes(2, "big")
    return bytes(header) + payload


def icmp(icmp_type: int, code: int = 0, rest: int = 0, payload: bytes = b"") -> bytes:
    message = struct.pack(">BBHI", icmp_type, code, 0, rest) + payload
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def echo(identifier: int = 7, sequence: int = 1, payload: bytes = b"") -> bytes:
    return icmp(ECHO, 0, identifier << 16 | sequence, payload)


def udp(
    source: str,
    destination: str,
    payload: bytes,
    source_port: int = 5000,
    destination_port: int = 5001,
    with_checksum: bool = True,
) -> bytes:
    length = 8 + len(payload)
    header = struct.pack(">HHHH", source_port, destination_port, length, 0)
    if not with_checksum:
        return header + payload
    pseudo = (
        IPv4Address(source).packed
        + IPv4Address(destination).packed
        + struct.pack(">BBH", 0, PROTOCOL_UDP, length)
    )
    value = checksum(pseudo + header + payload) or 0xFFFF
    return header[:6] + value.to_bytes(2, "big") + payload


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet as it was found in a frame; its header's checksum has been verified."""

    destination_mac: bytes
    source_mac: bytes
    source: str
    destination: str
    protocol: int
    ttl: int
    tos: int
    identification: int
    flags: int
    offset: int
    options: bytes
    payload: bytes
    raw: bytes


def read_ip4(frame: bytes) -> Packet:
    packet = frame[14:]
    assert frame[12:14] == b"\x08\x00"
    header_length = (packet[0] & 15) * 4
    assert packet[0] >> 4 == 4 and header_length >= 20
    total_length, identification, flags_and_offset, ttl, protocol = struct.unpack_from(">HHHBB", packet, 2)
    assert total_length == len(packet)
    assert checksum(packet[:header_length]) == 0
    return Packet(
        frame[:6],
        frame[6:12],
        str(IPv4Address(packet[12:16])),
        str(IPv4Address(packet[16:20])),
        protocol,
        ttl,
        packet[1],
        identification,
        flags_and_offset & 0xE000,
        (flags_and_offset & 0x1FFF) * 8,
        packet[20:header_length],
        packet[header_length:],
        packet,
    )


@dataclass(frozen=True)
class Message:
    """An ICMP message; its checksum has been verified."""

    icmp_type: int
    code: int
    rest: int
    body: bytes
    packet: Packet


def read_icmp(frame: bytes) -> Message:
    packet = read_ip4(frame)
    assert packet.protocol == PROTOCOL_ICMP
    assert checksum(packet.payload) == 0
    icmp_type, code, _, rest = struct.unpack_from(">BBHI", packet.payload)
    return Message(icmp_type, code, rest, packet.payload[8:], packet)


def of_type(frames: Iterable[bytes], ether_type: int) -> list[bytes]:
    return [frame for frame in frames if frame[12:14] == ether_type.to_bytes(2, "big")]


@dataclass
class Wire:
    """A PORT node: the far end of a link, held by the test."""

    lab: "Lab"
    node: int
    interface: int
    peer: int
    pipe_in: int
    pipe_out: int
    mac: bytes
    address: str = ""

    def send(self, frame: bytes, count: int = 1) -> int:
        return self.lab.switch.inject(self.node, frame, count)

    def send_ip(self, packet: bytes, destination_mac: bytes | None = None) -> None:
        """Send an IP packet to the station at the link's other end."""
        assert self.send(ether(destination_mac or self.lab.macs[self.peer], self.mac, TYPE_IP4, packet)) == 1

    def take_timed(self) -> list[tuple[int, bytes]]:
        return self.lab.switch.take_frames(self.node)

    def take(self, ether_type: int | None = None) -> list[bytes]:
        frames = [frame for _, frame in self.take_timed()]
        return frames if ether_type is None else of_type(frames, ether_type)

    def take_ip(self) -> list[Packet]:
        return [read_ip4(frame) for frame in self.take(TYPE_IP4)]

    def take_icmp(self) -> list[Message]:
        return [message for message in map(read_icmp, self.take(TYPE_IP4))]

    def introduce(self, target: str, address: str | None = None, station: bytes | None = None) -> None:
        """Make the stack at the other end know this station, by asking it for its own address."""
        station = station or self.mac
        self.send(
            ether(
                BROADCAST,
                station,
                TYPE_ARP,
                arp(ARP_REQUEST, station, address or self.address, bytes(6), target),
            )
        )
        self.lab.run(0)
        assert any(frame[20:22] == b"\0\2" for frame in self.take(TYPE_ARP))


@dataclass
class Lab:
    """An engine in virtual time, and what has been built in it."""

    pool_limit_bytes: int = 1 << 28
    switch: Switch = field(init=False)
    macs: dict[int, bytes] = field(default_factory=dict)
    interfaces: dict[int, list[int]] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.switch = Switch(pool_limit_bytes=self.pool_limit_bytes)

    def interface(self, node: int, *addresses: str, mtu: int = 1500) -> int:
        station = mac(len(self.macs) + 1)
        index = self.switch.add_interface(node, station, mtu)
        self.macs[index] = station
        self.interfaces.setdefault(node, []).append(index)
        for text in addresses:
            address = IPv4Interface(text)
            self.switch.add_address(index, int(address.ip), address.network.prefixlen)
        return index

    def host(self, address: str, mtu: int = 1500) -> tuple[int, int]:
        node = self.switch.add_node(core.HOST)
        return node, self.interface(node, address, mtu=mtu)

    def router(self, *addresses: str, mtu: int = 1500) -> tuple[int, list[int]]:
        """A router with one interface for each address."""
        node = self.switch.add_node(core.ROUTER)
        return node, [self.interface(node, address, mtu=mtu) for address in addresses]

    def bridge(self, kind: int, ports: int) -> tuple[int, list[int]]:
        node = self.switch.add_node(kind)
        return node, [self.interface(node) for _ in range(ports)]

    def wire(self, peer: int, address: str = "", mtu: int = 65535) -> Wire:
        """Hang a wire of the test's own on an interface."""
        node = self.switch.add_node(core.PORT)
        interface = self.interface(node, mtu=mtu)
        pipe_in, pipe_out = self.switch.add_link(interface, peer)
        wire = Wire(self, node, interface, peer, pipe_in, pipe_out, self.macs[interface], address)
        self.wires.append(wire)
        return wire

    def link(self, a: int, b: int) -> tuple[int, int]:
        return self.switch.add_link(a, b)

    def route(self, node: int, prefix: str, gateway: str | None) -> None:
        network = IPv4Network(prefix)
        self.switch.add_route(
            node, int(network.network_address), network.prefixlen, None if gateway is None else ip(gateway)
        )

    def run(self, nanoseconds: int) -> None:
        assert self.switch.run(self.switch.now_ns + nanoseconds)

    def drops(self, node: int) -> dict[str, int]:
        return self.switch.node_drops(node)

    def quiet(self) -> None:
        """Start: let the first announcements pass."""
        self.run(0)
        for wire in self.wires:
            wire.take()

    def events(self, kind: int) -> list[tuple[int, int]]:
        return [(time_ns, index) for time_ns, event, index in self.switch.take_events() if event == kind]

    def close(self) -> None:
        """Let everything end that has an end; no packet may be left."""
        for wire in self.wires:
            self.switch.discard_frames(wire.node, True)
            wire.take()
        self.run(10 * SECOND)
        statistics = self.switch.statistics()
        self.switch.close()
        assert statistics["packets_in_use"] == 0
