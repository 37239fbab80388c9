"""Event files: every packet that arrived by every pipe, at what time, and what it was.

A file is `SIGNATURE` and then records: payload length (4 bytes, little-endian), kind (4), payload, zeros up
to a multiple of 8. The first one is the header, a msgpack map. An arrival is its time in ns (8 bytes), the
hash of the packet (8), the index of the pipe in the header's `pipes` (4), the packet's length (4), and up to
128 of its first bytes. Arrivals stand in the order of each pipe; a mark is a time (8 bytes) before which
nothing comes any more. The last record is a msgpack map that says how many were lost; a file without it was
cut off.
"""

import errno
import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from manystack.core import _switch as core
from manystack.errors import ManystackError, UsageError
from manystack.network import Network
from manystack.record.sinks import open_sink
from manystack.topology import Topology
from manystack.wiring import Wiring, direction_name, loopback_name

SIGNATURE = b"emu-evts"
VERSION = 2
HEADER, ARRIVAL, MARK, END = 0, 1, 2, 3
"""Kinds of records; that of an arrival is the engine's own."""
RECORD = struct.Struct("<II")
ARRIVAL_HEAD = struct.Struct("<qQII")
TIME = struct.Struct("<q")
LONGEST_ARRIVAL = ARRIVAL_HEAD.size + 128
LONGEST_RECORD = 1 << 28
BLOCK_BYTES = 1 << 20
HEADER_TYPES = {"version": int, "time": str, "seed": int, "topology": str, "pipes": list, "nodes": list}
BESIDE_THE_NETWORK = {"name", "time", "seed", "capture"}
"""What a topology says beside it: the first three a run may have of its own, and a capture only observes."""


class UnreadableError(UsageError):
    """A file that is no event file, or a damaged one."""


class EventFile:
    """Writes what arrives in one network; gives up, and says so once, when it cannot be written any more.

    Raises UsageError when it cannot be made.
    """

    def __init__(self, network: Network, path: Path) -> None:
        self._network = network
        self._switch = network.switch
        self.path = path
        self.error: str | None = None
        """Why it could not be written to the end."""
        self.is_cut_off = False
        """Whether that was a failure, and not a reader that has left."""
        self._left_out = 0
        self.lost_records = 0
        """Arrivals that came too fast to be told: 0 in virtual time, unless a pipe's reader does not read."""
        try:
            self._sink = open_sink(path, is_virtual=network.is_virtual)
        except OSError as error:
            raise UsageError(f"events cannot be written to {path}: {error.strerror}") from None
        self._write(SIGNATURE + _record(HEADER, msgpack.packb(header(network))))
        self._switch.tell_arrivals()

    @property
    def is_complete(self) -> bool:
        """Whether the file holds all that has arrived so far."""
        return self.error is None and self.lost_records == 0

    def drain(self) -> bool:
        """Write what has come since the last call; whether there was any."""
        # What comes later is no earlier: the mark is taken before what it stands behind.
        mark = _record(MARK, TIME.pack(self._switch.now_ns)) if self._network.is_virtual else b""
        records = self._switch.take_records(core.EVENT_RING)
        if records and self._sink.is_full:
            self._left_out += _count(records)
        elif records:
            self._write(records + mark)
        self.lost_records = self._switch.lost_records(core.EVENT_RING) + self._left_out
        return bool(records)

    def close(self) -> None:
        """Write the rest, and that it is all."""
        self.drain()
        self._write(_record(END, msgpack.packb({"ended_ns": self._switch.now_ns, "lost": self.lost_records})))
        if self.error is None:
            try:
                self._sink.close()
            except OSError as error:
                self._give_up(error)

    def _write(self, data: bytes) -> None:
        if self.error is not None:
            return
        try:
            self._sink.write(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = f"{self.path}: {error.strerror}"
        self.is_cut_off = error.errno != errno.EPIPE
        with suppress(OSError):  # that it cannot be written to is known
            self._sink.close()
        self._network.publish("events-lost", str(self.path), f"{error.strerror}; the network goes on")


def header(network: Network) -> dict[str, Any]:
    """Return what a file says of the run it is from."""
    return {
        "version": VERSION,
        "network": network.name,
        "time": str(network.mode),
        "seed": network.seed,
        "topology": digest(network.topology),
        "pipes": pipe_names(network.wiring),
        "nodes": network.wiring.node_names,
    }


def digest(topology: Topology) -> str:
    """Return a hash that two topologies have in common if they are the same network.

    Of files that they name the content counts, and not where they lie.
    """
    network = _without_places(topology.model_dump(exclude=BESIDE_THE_NETWORK))
    return sha256(json.dumps(network, sort_keys=True, default=str).encode()).hexdigest()


def _without_places(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _without_places(value) for key, value in part.items() if key != "file"}
    if isinstance(part, list | tuple):
        return [_without_places(value) for value in part]
    return part


def pipe_names(wiring: Wiring) -> list[str]:
    """Return the names of all pipes, by their index."""
    names = [""] * (2 * len(wiring.links))
    for link in wiring.links:
        for pipe, ends in zip(link.pipes, (link.ends, reversed(link.ends)), strict=True):
            names[pipe] = direction_name(*ends)
    return names


def _count(records: bytes) -> int:
    count = place = 0
    while place < len(records):
        length, _ = RECORD.unpack_from(records, place)
        place += RECORD.size + (length + 7 & ~7)
        count += 1
    return count


def _record(kind: int, payload: bytes) -> bytes:
    return RECORD.pack(len(payload), kind) + payload + bytes(-len(payload) % 8)


class Arrival(NamedTuple):
    """One record: when, by which pipe, which packet, and where in the file it stands."""

    time_ns: int
    packet_hash: int
    pipe: str
    total_bytes: int
    place: int


class EventReader:
    """Reads an event file, a block at a time. Raises UnreadableError for what is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UnreadableError(f"{path}: {error.strerror}") from None
        self.floor_ns = 0
        """What is still to come is no earlier."""
        self.end: dict[str, Any] | None = None
        """What the last record says; None before that, and in a file that was cut off."""
        self._records = self._read_records()
        first = next(self._records, None)
        if first is None or first[0] != HEADER:
            raise UnreadableError(f"{path}: not an event file")
        version = self._unpacked(first[2], {"version": int})["version"]
        if version != VERSION:
            raise UnreadableError(f"{path}: version {version}, not in this version")
        self.header = self._unpacked(first[2], HEADER_TYPES)
        self._pipes = dict(enumerate(str(name) for name in self.header["pipes"]))
        for number, name in enumerate(self.header["nodes"]):
            self._pipes[core.LOOPBACK + number] = loopback_name(str(name))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def arrivals(self) -> Iterator[Arrival]:
        """Give each arrival, those of one pipe in its order."""
        pipes = self._pipes
        for kind, place, payload in self._records:
            if kind == ARRIVAL:
                if len(payload) < ARRIVAL_HEAD.size:
                    raise self._damaged(place)
                time_ns, packet_hash, pipe, total_bytes = ARRIVAL_HEAD.unpack_from(payload)
                if pipe not in pipes:
                    raise self._damaged(place)
                yield Arrival(time_ns, packet_hash, pipes[pipe], total_bytes, place)
            elif kind == MARK and len(payload) == TIME.size:
                self.floor_ns = TIME.unpack(payload)[0]
            elif kind == END:
                self.end = self._unpacked(payload, {"ended_ns": int, "lost": int})
                return
            else:
                raise self._damaged(place)

    def head(self, arrival: Arrival) -> bytes:
        """Return the first bytes of a packet that has been read."""
        here = self._file.tell()
        self._file.seek(arrival.place)
        length, _ = RECORD.unpack(self._file.read(RECORD.size))
        payload = self._file.read(length)
        self._file.seek(here)
        return payload[ARRIVAL_HEAD.size :]

    def _read_records(self) -> Iterator[tuple[int, int, bytes]]:
        """Give (kind, place, payload) of each whole record."""
        if self._file.read(len(SIGNATURE)) != SIGNATURE:
            return
        place, start, block = len(SIGNATURE), 0, b""
        while True:
            while len(block) - start >= RECORD.size:
                length, kind = RECORD.unpack_from(block, start)
                if length > LONGEST_RECORD or (kind == ARRIVAL and length > LONGEST_ARRIVAL):
                    raise self._damaged(place)
                whole = RECORD.size + (length + 7 & ~7)
                if len(block) - start < whole:
                    break
                yield kind, place, block[start + RECORD.size : start + RECORD.size + length]
                start += whole
                place += whole
            more = self._file.read(BLOCK_BYTES)
            if not more:
                return
            block, start = block[start:] + more, 0

    def _unpacked(self, payload: bytes, types: dict[str, type]) -> dict[str, Any]:
        try:
            value = msgpack.unpackb(payload)
        except (ValueError, msgpack.UnpackException):
            value = None
        if not isinstance(value, dict) or not all(isinstance(value.get(key), types[key]) for key in types):
            raise UnreadableError(f"{self.path}: damaged")
        return value

    def _damaged(self, place: int) -> ManystackError:
        return UnreadableError(f"{self.path}: damaged at byte {place:,}")
