"""What the tests of fair queues share: frames of many flows, and which queue each is hashed to.

The hash follows the head of core/link/queues/classify.pxd, by another parser.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lab import MORE_FRAGMENTS, PROTOCOL_UDP, TYPE_IP4, TYPE_IP6, ether, ip4
from timeline import SPLITMIX_STEP, WORD

STREAM_FLOWS = 9
STREAM_STEP = 0xD1342543DE82EF95
EXTENSIONS = {0: 8, 43: 8, 44: 0, 51: 4, 60: 8, 135: 8}
PORT_PROTOCOLS = {6, 17, 33, 132, 136}
NEAR, FAR = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


def splitmix(state: int) -> int:
    z = (state + SPLITMIX_STEP) & WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


def flow_seed(pipe_seed: int) -> int:
    return splitmix(pipe_seed ^ (STREAM_FLOWS * STREAM_STEP & WORD))


@dataclass(frozen=True)
class Mask:
    source6: int = (1 << 128) - 1
    destination6: int = (1 << 128) - 1
    source4: int = 0xFFFFFFFF
    destination4: int = 0xFFFFFFFF
    source_port: int = 0xFFFF
    destination_port: int = 0xFFFF
    protocol: int = 0xFF

    def setting(self) -> tuple[bytes, bytes, int, int, int, int, int]:
        return (
            self.source6.to_bytes(16, "big"),
            self.destination6.to_bytes(16, "big"),
            self.source4,
            self.destination4,
            self.source_port,
            self.destination_port,
            self.protocol,
        )


def untagged(frame: bytes) -> tuple[int, bytes]:
    """EtherType and payload, behind up to two VLAN tags; (0, b"") for what is no frame."""
    place = 12
    while frame[place : place + 2] in (b"\x81\x00", b"\x88\xa8") and place < 20 and len(frame) >= place + 6:
        place += 4
    return int.from_bytes(frame[place : place + 2], "big"), frame[place + 2 :]


def is_ip(frame: bytes, least4: int = 20, least6: int = 40) -> int:
    ether_type, packet = untagged(frame)
    if ether_type == TYPE_IP4 and len(packet) >= least4 and packet[0] >> 4 == 4:
        return 4
    return 6 if ether_type == TYPE_IP6 and len(packet) >= least6 and packet[0] >> 4 == 6 else 0


def transport6(packet: bytes) -> tuple[int, bytes]:
    """Protocol, and the transport header's bytes where they can be found."""
    protocol, rest = packet[6], packet[40:]
    for _ in range(8):
        if protocol not in EXTENSIONS:
            return protocol, rest
        if len(rest) < 8:
            return protocol, b""
        if protocol == 44:
            length = 8
            if rest[2:4] != bytes([rest[2], rest[3] & 6]) or rest[2]:
                return rest[0], b""
        else:
            length = (rest[1] + (2 if protocol == 51 else 1)) * EXTENSIONS[protocol]
        protocol, rest = rest[0], rest[length:]
    return protocol, b""


def flow_words(frame: bytes, mask: Mask) -> list[int]:
    version = is_ip(frame)
    packet = untagged(frame)[1]
    if version == 0:
        head = frame[:14].ljust(16, b"\0")
        return [int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")]
    if version == 4:
        source, destination = struct.unpack_from(">II", packet, 12)
        words = [(source & mask.source4) << 32 | destination & mask.destination4]
        header_length = (packet[0] & 15) * 4
        whole = header_length >= 20 and int.from_bytes(packet[6:8], "big") & 0x3FFF == 0
        protocol, transport = packet[9], packet[header_length:] if whole else b""
    else:
        words = []
        for place, bits in ((8, mask.source6), (24, mask.destination6)):
            address = int.from_bytes(packet[place : place + 16], "big") & bits
            halves = address.to_bytes(16, "big")
            words += [int.from_bytes(halves[:8], "little"), int.from_bytes(halves[8:], "little")]
        protocol, transport = transport6(packet)
    source_port = destination_port = 0
    if protocol in PORT_PROTOCOLS and len(transport) >= 4:
        source_port, destination_port = struct.unpack_from(">HH", transport)
    return [
        *words,
        version << 40
        | (protocol & mask.protocol) << 32
        | (source_port & mask.source_port) << 16
        | destination_port & mask.destination_port,
    ]


def queue_index(frame: bytes, flows: int, pipe_seed: int, mask: Mask | None = None) -> int:
    if flows == 1:
        return 0
    value = flow_seed(pipe_seed)
    for word in flow_words(frame, mask or Mask()):
        value = splitmix(value ^ word)
    return value % flows


def precedence(frame: bytes) -> int:
    version = is_ip(frame, 2, 2)
    packet = untagged(frame)[1]
    if version == 4:
        return packet[1] >> 5
    return (packet[0] & 15) >> 1 if version == 6 else 0


def ip6(
    source: str, destination: str, payload: bytes, *, protocol: int = PROTOCOL_UDP, traffic_class: int = 0
) -> bytes:
    """An IPv6 packet; extension headers are part of the payload, and `protocol` that of the first."""
    head = struct.pack(">IHBB", 6 << 28 | traffic_class << 20, len(payload), protocol, 64)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def flow_frame(flow: int, number: int, length: int, band: int = 0) -> bytes:
    """A UDP frame of a flow, that says which one it is."""
    payload = struct.pack(">HHHH", 5000 + flow, 9, length - 34, 0) + number.to_bytes(4, "big")
    packet = ip4(
        "10.0.0.1", str(IPv4Address("10.1.0.0") + flow), payload.ljust(length - 34, b"\0"), tos=band << 5
    )
    return ether(FAR, NEAR, TYPE_IP4, packet)


def fragment(flow: int, offset: int, more: bool, ports: bytes = b"") -> bytes:
    packet = ip4(
        "10.0.0.1",
        str(IPv4Address("10.1.0.0") + flow),
        ports.ljust(24, b"\0"),
        offset=offset,
        flags=MORE_FRAGMENTS if more else 0,
    )
    return ether(FAR, NEAR, TYPE_IP4, packet)
