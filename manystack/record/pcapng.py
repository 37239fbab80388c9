"""Writes pcapng (draft-ietf-opsawg-pcapng): times in ns, directions, packet ids, comments, statistics.

A file is head(), then packets and statistics in any number. Interfaces are numbered in the order of head().
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SECTION_HEADER, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
"""Types of blocks."""
LINKTYPE_ETHERNET = 1
COMMENT = 1
"""Numbers of options: this one any block may have; the others are named after their block and the draft."""
SHB_USERAPPL = 4
IF_NAME, IF_DESCRIPTION, IF_MACADDR, IF_TSRESOL = 2, 3, 6, 9
EPB_FLAGS, EPB_PACKETID = 2, 5
ISB_STARTTIME, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP = 2, 3, 4, 5
NANOSECONDS = b"\x09"

_BLOCK = struct.Struct("<II")
_PACKET = struct.Struct("<IIIIIII")
_PACKET_OPTIONS = struct.Struct("<HHIHHQ")
_PACKET_END = struct.Struct("<HHIHHQII")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Interface(NamedTuple):
    """What a file says of one interface; no `mac` where the interface has none of its own."""

    name: str
    description: str
    snap_length: int
    mac: bytes | None = None


class Packet(NamedTuple):
    """One packet at one interface: ns since 1970, direction 1 (in) or 2 (out), the frame's first bytes."""

    time_ns: int
    interface: int
    packet_id: int
    wire_bytes: int
    direction: int
    comment: str
    frame: bytes


def option(code: int, value: bytes) -> bytes:
    """Return an option, padded."""
    return struct.pack("<HH", code, len(value)) + value + _PADDING[len(value) & 3]


def block(kind: int, body: bytes) -> bytes:
    """Return a block around a body that is a multiple of 4 bytes long."""
    length = len(body) + 12
    return _BLOCK.pack(kind, length) + body + length.to_bytes(4, "little")


def head(application: str, interfaces: Iterable[Interface]) -> bytes:
    """Return the start of a file: who wrote it, and the interfaces."""
    options = option(SHB_USERAPPL, application.encode()) + option(0, b"")
    blocks = [block(SECTION_HEADER, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options)]
    for interface in interfaces:
        body = struct.pack("<HHI", LINKTYPE_ETHERNET, 0, interface.snap_length)
        body += option(IF_NAME, interface.name.encode())
        body += option(IF_DESCRIPTION, interface.description.encode())
        if interface.mac is not None:
            body += option(IF_MACADDR, interface.mac)
        blocks.append(block(INTERFACE, body + option(IF_TSRESOL, NANOSECONDS) + option(0, b"")))
    return b"".join(blocks)


def packets(found: Sequence[Packet]) -> bytes:
    """Return the blocks of packets."""
    parts: list[bytes] = []
    comments = {"": b""}
    for time_ns, interface, packet_id, wire_bytes, direction, comment, frame in found:
        length = len(frame)
        told = comments.get(comment)
        if told is None:
            told = comments[comment] = option(COMMENT, comment.encode())
        total = 56 + (length + 3 & ~3) + len(told)
        parts.append(
            _PACKET.pack(PACKET, total, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, length, wire_bytes)
        )
        parts.append(frame)
        if length & 3:
            parts.append(_PADDING[length & 3])
        if told:
            parts.append(_PACKET_OPTIONS.pack(EPB_FLAGS, 4, direction, EPB_PACKETID, 8, packet_id))
            parts.append(told)
            parts.append(struct.pack("<II", 0, total))
        else:
            parts.append(_PACKET_END.pack(EPB_FLAGS, 4, direction, EPB_PACKETID, 8, packet_id, 0, total))
    return b"".join(parts)


def statistics(interface: int, start_ns: int, end_ns: int, received: int, lost: int) -> bytes:
    """Return what an interface saw in all, and how much of that is not in the file."""
    body = struct.pack("<III", interface, end_ns >> 32, end_ns & 0xFFFFFFFF)
    body += option(ISB_STARTTIME, struct.pack("<II", start_ns >> 32, start_ns & 0xFFFFFFFF))
    body += option(ISB_ENDTIME, struct.pack("<II", end_ns >> 32, end_ns & 0xFFFFFFFF))
    body += option(ISB_IFRECV, struct.pack("<Q", received))
    body += option(ISB_IFDROP, struct.pack("<Q", lost))
    return block(STATISTICS, body + option(0, b""))
