"""Captures: what passes interfaces of a network, as pcapng, to files and to the clients that asked for it.

The engine copies packets into one ring for all captures. In real time a thread reads it, so that slow Python
makes no packet late; in virtual time it is read between two slices of the run. The records are put into the
order of time and handed to each capture that wants them. A capture that cannot take what there is loses it,
and says how much; the network does not notice.
"""

import errno
import os
import select
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

from manystack.core import _switch as core
from manystack.errors import ManystackError, UsageError
from manystack.network import Network
from manystack.record import pcapng
from manystack.record.sinks import Sink, open_sink
from manystack.text import plural
from manystack.topology.model import LONGEST_FRAME, STACK_KINDS

WHOLE_FRAMES = LONGEST_FRAME
"""The snap length that cuts nothing."""
PART_BYTES = 1 << 18
"""About how much of frames is written at once."""
GATHER_S = 0.002
"""What comes within this time is handed on together."""
HELD_S = 0.05
"""How often records that are still to be put in order are looked at again."""
_RECORD = struct.Struct("<IIqIIIBB2x")
_HEADER_BYTES = _RECORD.size - 8
_COMMENTS = ("", *(f"dropped: {reason}" for reason in core.CAPTURE_REASONS))


class Capture:
    """One capture: some interfaces, a snap length, and where it goes. close() ends it."""

    def __init__(
        self, captures: "Captures", name: str, interfaces: Sequence[str], snap_length: int, sink: Sink
    ) -> None:
        self.name = name
        """What it is called in messages: its file, as a rule."""
        self.interfaces = tuple(interfaces)
        self.snap_length = snap_length
        self.packets = 0
        """How many it has told of."""
        self.error: str | None = None
        """Why it ended before its time."""
        self.is_cut_off = False
        """Whether that was a failure, and not a reader that has left."""
        self.indices = [captures.index_of(interface) for interface in interfaces]
        self._captures = captures
        self._sink = sink
        self._numbers = {index: number for number, index in enumerate(self.indices)}
        self._counts = [0] * len(self.indices)
        self._left_out = [0] * len(self.indices)
        self._start_ns = captures.network.switch.now_ns
        self._lost_before = captures.lost(self.indices)
        self._lost_at_end: list[int] | None = None

    @property
    def lost_packets(self) -> int:
        """How many came too fast for it; 0 in virtual time, unless a client does not read at all."""
        return sum(self._lost())

    def close(self) -> None:
        """Write what there is, and the statistics. Harmless when called again."""
        self._captures.remove(self)

    def begin(self) -> None:
        """Write the head."""
        topology, wiring = self._captures.network.topology, self._captures.network.wiring
        described = []
        for name, index in zip(self.interfaces, self.indices, strict=True):
            node = name.partition(".")[0]
            kind = topology.nodes[node].kind
            link = wiring.link_of.get(name)
            ends = () if link is None else wiring.links[link].ends
            peer = next((end for end in ends if end != name), None)
            description = f"{kind} {node}" + (f", linked to {peer}" if peer else "")
            mac = wiring.interface_mac(index) if kind in STACK_KINDS else None
            described.append(pcapng.Interface(name, description, self.snap_length, mac))
        self._write(pcapng.head(f"manystack {version('manystack')}", described))

    def take(self, records: Sequence["Record"]) -> None:
        """Write what is for this capture."""
        if self.error is not None:
            return
        numbers, snap, epoch_ns = self._numbers, self.snap_length, self._captures.epoch_ns
        full = self._sink.is_full
        found: list[pcapng.Packet] = []
        size = 0
        for time_ns, index, packet_id, wire_bytes, direction, reason, frame in records:
            number = numbers.get(index)
            if number is None or time_ns < self._start_ns:
                continue
            if full:
                self._left_out[number] += 1
                continue
            self._counts[number] += 1
            comment = _COMMENTS[reason]
            found.append(
                pcapng.Packet(
                    time_ns + epoch_ns, number, packet_id, wire_bytes, direction, comment, frame[:snap]
                )
            )
            size += len(frame)
            if size > PART_BYTES:
                self._write_packets(found)
                found, size = [], 0
        self._write_packets(found)

    def _write_packets(self, found: Sequence[pcapng.Packet]) -> None:
        if found and self.error is None and self._write(pcapng.packets(found)):
            self.packets += len(found)

    def end(self) -> None:
        """Write the statistics and close. Nobody may call take() after that."""
        epoch_ns = self._captures.epoch_ns
        start_ns, end_ns = self._start_ns + epoch_ns, self._captures.network.switch.now_ns + epoch_ns
        lost = self._lost_at_end = self._lost()
        if self.error is None:
            blocks = [
                pcapng.statistics(number, start_ns, end_ns, self._counts[number] + lost[number], lost[number])
                for number in range(len(self.indices))
            ]
            self._write(b"".join(blocks))
        if self.error is None:
            try:
                self._sink.close()
            except OSError as error:
                self._give_up(error)

    def _lost(self) -> list[int]:
        if self._lost_at_end is not None:
            return self._lost_at_end
        now = self._captures.lost(self.indices)
        return [
            after - before + left_out
            for after, before, left_out in zip(now, self._lost_before, self._left_out, strict=True)
        ]

    def _write(self, data: bytes) -> bool:
        try:
            self._sink.write(data)
        except OSError as error:
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: OSError) -> None:
        self.error = error.strerror or str(error)
        self.is_cut_off = error.errno != errno.EPIPE
        with suppress(OSError):  # why it ended is known
            self._sink.close()
        self._captures.failed(self)


Record = tuple[int, int, int, int, int, int, bytes]
"""Time, interface, packet id, bytes on the wire, direction, reason, first bytes."""


class Captures:
    """All captures of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.epoch_ns = 0
        """What is added to emulated times: in real time the wall clock at 0, so that dates are true."""
        self.all: list[Capture] = []
        """Those that have begun, in that order, with those that have ended."""
        self._open: list[Capture] = []
        self._switch = network.switch
        self._pending: list[Record] = []
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop_fd = -1

    def index_of(self, interface: str) -> int:
        """Return the engine's index of an interface; a loopback interface is made for its capture."""
        wiring = self.network.wiring
        index = wiring.interfaces.get(interface)
        if index is not None:
            return index
        node = wiring.loopback_node(interface)
        assert node is not None
        return self._switch.loopback(wiring.nodes[node])

    def expand(self, names: Sequence[str]) -> list[str]:
        """Return the interfaces that are meant: a node alone is all of its own, nothing at all is every one.

        Raises UsageError for what is neither a node nor an interface.
        """
        wiring = self.network.wiring
        chosen: dict[str, None] = {}
        for name in names or wiring.interfaces_of:
            own = wiring.interfaces_of.get(name)
            if name in wiring.interfaces or wiring.loopback_node(name) is not None:
                chosen[name] = None
            elif own is not None:
                chosen.update(dict.fromkeys(f"{name}.{interface}" for interface in own))
            else:
                raise UsageError(self.network.no_interface(name))
        if not chosen:
            raise UsageError(f"there is no interface to capture at {', '.join(names) or 'all'}")
        return list(chosen)

    def add(self, name: str, interfaces: Sequence[str], snap_length: int, sink: Sink) -> Capture:
        """Begin a capture, from now on."""
        if not 1 <= snap_length <= WHOLE_FRAMES:
            raise UsageError(f"snap length {snap_length}B: allowed are 1B to {WHOLE_FRAMES}B")
        with self._lock:
            capture = Capture(self, name, interfaces, snap_length, sink)
            capture.begin()
            self._open.append(capture)
            self.all.append(capture)
            self._choose()
            if self._thread is None and not self.network.is_virtual:
                if not self.epoch_ns:
                    self.epoch_ns = time.time_ns() - self._switch.now_ns
                self._stop_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._thread = threading.Thread(target=self._read, name="manystack captures", daemon=True)
                self._thread.start()
        return capture

    def remove(self, capture: Capture) -> None:
        """End a capture, with what has passed until now."""
        with self._lock:
            if capture in self._open:
                self.drain()
                capture.take(self._pending)
                self._open.remove(capture)
                self._choose()
                capture.end()

    def close(self) -> None:
        """End all captures; the data path stands still."""
        if self._thread is not None:
            os.eventfd_write(self._stop_fd, 1)
            self._thread.join()
            os.close(self._stop_fd)
            self._thread = None
        for capture in tuple(self._open):
            self.remove(capture)

    def drain(self) -> bool:
        """Hand on what has been recorded, as far as its order is known; whether there was any."""
        with self._lock:
            if not self._open:
                return False
            done_ns = self._switch.recorded_ns
            data = self._switch.take_records(core.CAPTURE_RING)
            pending = self._pending
            pending.extend(_records(data))
            pending.sort(key=itemgetter(0))
            count = bisect_left(pending, done_ns, key=itemgetter(0))
            ready, self._pending = pending[:count], pending[count:]
            for capture in self._open:
                capture.take(ready)
            return bool(data)

    def lost(self, indices: Sequence[int]) -> list[int]:
        """Return for interfaces how many packets the ring had no room for."""
        return [self._switch.interface_statistics(index)["capture_lost_packets"] for index in indices]

    def failed(self, capture: Capture) -> None:
        """Let the network's subscribers know that one has ended, from any thread."""
        loop = self.network.loop
        if not loop.is_closed():
            detail = f"{capture.error}, after {plural(capture.packets, 'packet')}; the network goes on"
            loop.call_soon_threadsafe(self.network.publish, "capture-ended", capture.name, detail)
            loop.call_soon_threadsafe(self.remove, capture)

    def _choose(self) -> None:
        """Tell the switch which interfaces are wanted, with the longest snap length that anybody has."""
        wanted: dict[int, int] = {}
        for capture in self.all:
            wanted.update(dict.fromkeys(capture.indices, 0))
        for capture in self._open:
            for index in capture.indices:
                wanted[index] = max(wanted[index], capture.snap_length)
        for index, snap_length in wanted.items():
            self._switch.capture(index, snap_length)

    def _read(self) -> None:
        """Read the ring until told to stop: the thread of real time."""
        ring_fd = self._switch.ring_fd(core.CAPTURE_RING)
        while True:
            if self.drain():
                if select.select([self._stop_fd], [], [], GATHER_S)[0]:
                    return
                continue
            ready, _, _ = select.select([ring_fd, self._stop_fd], [], [], HELD_S if self._pending else None)
            if self._stop_fd in ready:
                return
            if ring_fd in ready:
                os.eventfd_read(
                    ring_fd
                )  # before records are taken, so that none can come unnoticed in between


def open_file(captures: Captures, path: Path, names: Sequence[str], snap_length: int) -> Capture:
    """Begin a capture to a file. Raises UsageError if an interface is unknown or the file cannot be made."""
    interfaces = captures.expand(names)
    try:
        sink = open_sink(path, is_virtual=captures.network.is_virtual)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    capture = captures.add(str(path), interfaces, snap_length, sink)
    if capture.error is not None:
        capture.close()
        raise ManystackError(f"cannot write {path}: {capture.error}")
    return capture


def _records(data: bytes) -> Iterator[Record]:
    unpack, header = _RECORD.unpack_from, _RECORD.size
    place, end = 0, len(data)
    while place < end:
        length, _, time_ns, interface, packet_id, wire_bytes, direction, reason = unpack(data, place)
        stop = place + 8 + length
        yield time_ns, interface, packet_id, wire_bytes, direction, reason, data[place + header : stop]
        place = stop + 7 & ~7
