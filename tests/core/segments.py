"""Super-frames and their wire segments, built by hand: what the engine's are compared with.

A Stream is one write of a TCP or UDP sender. `super_frame()` is what a kernel with segmentation offload hands
over for it, `segments()` what one without would send. `cut()` makes the second of the first.
"""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address

from lab import TYPE_IP4, TYPE_IP6, checksum, mac

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
NEEDS_CHECKSUM = 1
GSO_NONE, GSO_TCP4, GSO_UDP_FRAGMENTS, GSO_TCP6, GSO_UDP, GSO_ECN = 0, 1, 3, 4, 5, 0x80
VNET_HEADER = struct.Struct("<BBHHHHH")
PLAIN = bytes(VNET_HEADER.size)
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


@cache
def pseudo_random(seed: int) -> bytes:
    return random.Random(seed).randbytes(1 << 17)


@dataclass(frozen=True)
class Stream:
    """One write: addresses, header fields, payload, and how many bytes of it go into a segment."""

    size: int
    segment_size: int
    offset: int = 0
    """Where in the seed's bytes the payload begins."""
    seed: int = 0
    protocol: int = TCP
    destination_mac: bytes = mac(2)
    source_mac: bytes = mac(1)
    vlan: tuple[int, ...] = ()
    """Type and tag, and again for a second tag."""
    source: str = "10.0.0.2"
    destination: str = "10.0.1.2"
    ttl: int = 64
    tos: int = 0
    identification: int = 0
    dont_fragment: bool = True
    options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    """IPv6 extension headers: type, and what follows the first two bytes."""
    final_destination: str | None = None
    """Of a routing header: the pseudo header's destination."""
    source_port: int = 5000
    destination_port: int = 5001
    sequence: int = 1
    acknowledgment: int = 1
    tcp_flags: int = ACK
    window: int = 1000
    urgent: int = 0
    tcp_options: bytes = b""
    hdr_len: int = 0
    """What the virtio header says of the headers' length: not to be believed."""

    @property
    def payload(self) -> bytes:
        return pseudo_random(self.seed)[self.offset : self.offset + self.size]

    @property
    def version(self) -> int:
        return ip_address(self.source).version

    @property
    def transport_offset(self) -> int:
        network = 14 + 2 * len(self.vlan)
        if self.version == 4:
            return network + 20 + len(self.options)
        return network + 40 + sum(2 + len(body) for _, body in self.extensions)

    @property
    def header_length(self) -> int:
        return self.transport_offset + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    def _pseudo_header(self, length: int) -> bytes:
        destination = self.final_destination or self.destination
        addresses = ip_address(self.source).packed + ip_address(destination).packed
        if self.version == 4:
            return addresses + struct.pack(">BBH", 0, self.protocol, length)
        return addresses + struct.pack(">II", length, self.protocol)

    def _transport(self, finished: bool) -> bytes:
        if self.protocol == TCP:
            header = struct.pack(
                ">HHIIBBHHH",
                self.source_port,
                self.destination_port,
                self.sequence,
                self.acknowledgment,
                (20 + len(self.tcp_options)) // 4 << 4,
                self.tcp_flags,
                self.window,
                0,
                self.urgent,
            )
            header += self.tcp_options
            place = 16
        else:
            header = struct.pack(">HHHH", self.source_port, self.destination_port, 8 + len(self.payload), 0)
            place = 6
        pseudo_header = self._pseudo_header(len(header) + len(self.payload))
        if finished:
            value = checksum(pseudo_header + header + self.payload)
            if value == 0 and self.protocol == UDP:
                value = 0xFFFF
        else:
            value = 0xFFFF - checksum(pseudo_header)
        return header[:place] + value.to_bytes(2, "big") + header[place + 2 :] + self.payload

    def frame(self, *, finished: bool = True) -> bytes:
        """All of it in one frame, however long."""
        body = self._transport(finished)
        if self.version == 4:
            header = bytearray(
                struct.pack(
                    ">BBHHHBBH",
                    0x45 + len(self.options) // 4,
                    self.tos,
                    20 + len(self.options) + len(body),
                    self.identification,
                    0x4000 if self.dont_fragment else 0,
                    self.ttl,
                    self.protocol,
                    0,
                )
                + ip_address(self.source).packed
                + ip_address(self.destination).packed
                + self.options
            )
            header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
            packet, ether_type = bytes(header) + body, TYPE_IP4
        else:
            types = [kind for kind, _ in self.extensions] + [self.protocol]
            extensions = b"".join(
                bytes([following, (2 + len(content)) // 8 - 1]) + content
                for following, (_, content) in zip(types[1:], self.extensions, strict=True)
            )
            packet = (
                struct.pack(
                    ">IHBB", 6 << 28 | self.tos << 20, len(extensions) + len(body), types[0], self.ttl
                )
                + ip_address(self.source).packed
                + ip_address(self.destination).packed
                + extensions
                + body
            )
            ether_type = TYPE_IP6
        tag = struct.pack(f">{len(self.vlan)}H", *self.vlan)
        return self.destination_mac + self.source_mac + tag + ether_type.to_bytes(2, "big") + packet

    def parts(self) -> list["Stream"]:
        """Each segment as a stream of its own."""
        parts = []
        for number, offset in enumerate(range(0, self.size, self.segment_size)):
            flags = self.tcp_flags
            if offset + self.segment_size < self.size:
                flags &= ~(FIN | PSH)
            if number:
                flags &= ~CWR
            parts.append(
                replace(
                    self,
                    size=min(self.segment_size, self.size - offset),
                    offset=self.offset + offset,
                    sequence=(self.sequence + offset) % 2**32,
                    identification=(self.identification + number) % 2**16,
                    tcp_flags=flags,
                )
            )
        return parts

    def segments(self) -> list[bytes]:
        """The frames on the wire."""
        return [part.frame() for part in self.parts()]

    def partial_segments(self) -> list[tuple[bytes, bytes]]:
        """The frames on the wire with checksums left to do, each with its virtio header."""
        return [part.super_frame() for part in self.parts()]

    def super_frame(self) -> tuple[bytes, bytes]:
        """The virtio header and the one frame of a kernel that leaves segments and checksums to do."""
        gso = GSO_NONE
        if self.size > self.segment_size:
            gso = GSO_UDP if self.protocol == UDP else (GSO_TCP4 if self.version == 4 else GSO_TCP6)
        header = VNET_HEADER.pack(
            NEEDS_CHECKSUM,
            gso,
            self.hdr_len,
            self.segment_size if gso else 0,
            self.transport_offset,
            16 if self.protocol == TCP else 6,
            0,
        )
        return header, self.frame(finished=False)


def cut(header: bytes, frame: bytes) -> list[bytes]:
    """The frames that a network card would put on the wire, checksums done."""
    flags, gso, _, segment_size, start, place, _ = VNET_HEADER.unpack(header)
    gso &= ~GSO_ECN
    if not flags & NEEDS_CHECKSUM:
        assert gso == GSO_NONE
        return [frame]
    if gso == GSO_NONE:
        return [_finish(frame, start, place)]
    network = 14
    while frame[network - 2 : network] in (b"\x81\x00", b"\x88\xa8"):
        network += 4
    assert frame[network] >> 4 == (6 if gso == GSO_TCP6 or frame[network - 2 : network] == b"\x86\xdd" else 4)
    body = start + (8 if gso == GSO_UDP else (frame[start + 12] >> 4) * 4)
    frames = []
    total = len(frame) - start
    for number, offset in enumerate(range(body, len(frame), segment_size)):
        part = frame[offset : offset + segment_size]
        segment = bytearray(frame[:body] + part)
        transport_length = body - start + len(part)
        if segment[network] >> 4 == 4:
            header_length = start - network
            identification = int.from_bytes(segment[network + 4 : network + 6], "big") + number
            segment[network + 2 : network + 4] = (header_length + transport_length).to_bytes(2, "big")
            segment[network + 4 : network + 6] = (identification % 2**16).to_bytes(2, "big")
            segment[network + 10 : network + 12] = b"\0\0"
            segment[network + 10 : network + 12] = checksum(bytes(segment[network:start])).to_bytes(2, "big")
        else:
            segment[network + 4 : network + 6] = (len(segment) - network - 40).to_bytes(2, "big")
        if gso == GSO_UDP:
            segment[start + 4 : start + 6] = transport_length.to_bytes(2, "big")
        else:
            sequence = int.from_bytes(segment[start + 4 : start + 8], "big") + offset - body
            segment[start + 4 : start + 8] = (sequence % 2**32).to_bytes(4, "big")
            if offset + len(part) < len(frame):
                segment[start + 13] &= ~(FIN | PSH) & 0xFF
            if number:
                segment[start + 13] &= ~CWR & 0xFF
        # The field holds the pseudo header's sum, and in it the length of the whole.
        field = int.from_bytes(segment[start + place : start + place + 2], "big")
        field = (field - total + transport_length) % 65535 or 65535
        segment[start + place : start + place + 2] = field.to_bytes(2, "big")
        frames.append(_finish(bytes(segment), start, place))
    return frames


def cut_all(messages: Sequence[bytes]) -> list[bytes]:
    """The wire frames of what was written to a device: virtio header and frame in one message."""
    return [
        frame
        for message in messages
        for frame in cut(message[: VNET_HEADER.size], message[VNET_HEADER.size :])
    ]


def _finish(frame: bytes, start: int, place: int) -> bytes:
    value = checksum(frame[start:])
    if value == 0 and place == 6:
        value = 0xFFFF  # RFC 768: zero says that there is none
    return frame[: start + place] + value.to_bytes(2, "big") + frame[start + place + 2 :]
