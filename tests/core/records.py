"""The records of a capture ring, read by hand."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from manystack.core import Switch
from manystack.core import _switch as core

HEADER = struct.Struct("<qIIIBB2x")
INBOUND, OUTBOUND = 1, 2
SNAP = 65664


@dataclass(frozen=True)
class Record:
    time_ns: int
    interface: int
    packet_id: int
    wire_bytes: int
    direction: int
    reason: str
    frame: bytes


def payloads(records: bytes) -> Iterator[bytes]:
    """The payload of each record; all of it is whole, and padded with zeros."""
    place = 0
    while place < len(records):
        length, kind = struct.unpack_from("<II", records, place)
        assert kind == 1
        end = place + 8 + length
        yield records[place + 8 : end]
        place = (end + 7) // 8 * 8
        assert records[end:place] == bytes(place - end)
    assert place == len(records)


def frames(records: bytes) -> list[bytes]:
    return [payload[HEADER.size :] for payload in payloads(records)]


def take(switch: Switch) -> list[Record]:
    """What has been captured since the last call."""
    found = []
    for payload in payloads(switch.take_records(core.CAPTURE_RING)):
        *numbers, reason = HEADER.unpack_from(payload)
        name = core.CAPTURE_REASONS[reason - 1] if reason else ""
        found.append(Record(*numbers, name, payload[HEADER.size :]))
    return found
