"""A transmitter for each flow in front of the link's, by the rules at the head of core/link/queues/each.pxd.

Exact fractions, and each event at its own time: nothing is put off.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor

from flows import queue_index
from timeline import SECOND


@dataclass(frozen=True)
class Pacing:
    """What is told to the engine; packets are a pipe's limit, and so are bytes."""

    rate_bps: int
    flows: int = 65536
    drops_head: bool = False
    bandwidth_bps: int = 0
    overhead_bytes: int = 0
    cells: bool = False
    packets: int | None = None
    bytes: int | None = None

    def shaping(self) -> dict[str, object]:
        cells = {"cell_bytes": 48, "cell_overhead_bytes": 5} if self.cells else {}
        return cells | {
            "discipline": "each",
            "rate_bps": self.rate_bps,
            "flows": self.flows,
            "drops_head": self.drops_head,
        }

    def arguments(self) -> dict[str, object]:
        return {
            "bandwidth_bps": self.bandwidth_bps,
            "overhead_bytes": self.overhead_bytes,
            "queue_limit_packets": self.packets,
            "queue_limit_bytes": self.bytes,
            "shaping": self.shaping(),
        }

    def wire_bytes(self, frame: bytes) -> int:
        bytes_ = max(0, len(frame) + self.overhead_bytes)
        return ceil(Fraction(bytes_, 48)) * 53 if self.cells else bytes_

    def service(self, frame: bytes, rate_bps: int) -> Fraction:
        return Fraction(8 * SECOND * self.wire_bytes(frame), rate_bps) if rate_bps else Fraction(0)

    def is_over(self, frames: list[bytes]) -> bool:
        return (self.packets is not None and len(frames) > self.packets) or (
            self.bytes is not None and sum(map(len, frames)) > self.bytes
        )


@dataclass
class Line:
    """A queue and its transmitter: the packet in service is not in the queue."""

    queue: list[tuple[int, bytes]] = field(default_factory=list)
    served: tuple[int, bytes] | None = None
    end_ns: int = 0
    free: Fraction = Fraction(0)


@dataclass
class PacedModel:
    seed: int
    now: Pacing
    flows: dict[int, Line] = field(default_factory=dict)
    link: Line = field(default_factory=Line)
    ready_ns: int = 0
    done: list[tuple[int, bytes]] = field(default_factory=list)
    drops: int = 0

    def send(self, now_ns: int, frame: bytes) -> None:
        self.advance(now_ns, inclusive=False)
        # As with all disciplines, who finds nobody and an idle link does not wait for what else comes now.
        is_alone = self.waiting() == 0 and self.link.free <= now_ns
        line = self.line_of(frame)
        self.enqueue(line, (now_ns, frame), line.served is not None)
        self.begin(line, now_ns)
        self.advance(now_ns, inclusive=is_alone)

    def line_of(self, frame: bytes) -> Line:
        return self.flows.setdefault(queue_index(frame, self.now.flows, self.seed), Line())

    def enqueue(self, line: Line, packet: tuple[int, bytes], waits: bool) -> None:
        frames = [frame for _, frame in line.queue]
        if waits and not self.now.drops_head and self.now.is_over([*frames, packet[1]]):
            self.drops += 1
            return
        line.queue.append(packet)
        while waits and line.queue and self.now.is_over([frame for _, frame in line.queue]):
            line.queue.pop(0)
            self.drops += 1

    def begin(self, line: Line, now_ns: int) -> None:
        if line.served is None and line.queue:
            line.served = line.queue.pop(0)
            line.free = max(line.free, Fraction(now_ns)) + self.now.service(line.served[1], self.now.rate_bps)
            line.end_ns = floor(line.free)

    def advance(self, until_ns: int, *, inclusive: bool) -> None:
        """Let all happen that does by then; of the link's services only those before, unless inclusive."""
        while True:
            ends = [(line.end_ns, index) for index, line in self.flows.items() if line.served]
            end_ns, index = min(ends, default=(until_ns + 1, 0))
            start = max(self.link.free, Fraction(self.ready_ns))
            if self.link.queue and start < end_ns:
                if start > until_ns or (start == until_ns and not inclusive):
                    return
                _, frame = self.link.queue.pop(0)
                self.link.free = start + self.now.service(frame, self.now.bandwidth_bps)
                self.done.append((max(floor(self.link.free), ceil(start)), frame))
            elif end_ns <= until_ns:
                line = self.flows[index]
                assert line.served is not None
                if not self.link.queue:
                    self.ready_ns = end_ns
                self.enqueue(self.link, line.served, bool(self.link.queue) or self.link.free > end_ns)
                line.served = None
                self.begin(line, end_ns)
            else:
                return

    def change(self, now_ns: int, wanted: Pacing) -> None:
        self.advance(now_ns, inclusive=True)
        if wanted.bandwidth_bps != self.now.bandwidth_bps:
            self.link.free = Fraction(ceil(self.link.free))
        if wanted.flows == self.now.flows:
            if wanted.rate_bps != self.now.rate_bps:
                for line in self.flows.values():
                    line.free = Fraction(ceil(line.free))
            self.now = wanted
            return
        # Begun anew, with what had waited longest first; the overhead and the cells are still the old ones.
        lines = [self.link, *(self.flows[index] for index in sorted(self.flows))]
        waiting = [
            (packet[0], place, packet)
            for place, line in enumerate(lines)
            for packet in ([line.served] if line.served else []) + line.queue
        ]
        self.now = replace(wanted, overhead_bytes=self.now.overhead_bytes, cells=self.now.cells)
        self.flows, self.link.queue = {}, []
        for _, _, packet in sorted(waiting, key=lambda entry: entry[:2]):
            line = self.line_of(packet[1])
            self.enqueue(line, packet, False)
            self.begin(line, now_ns)
        self.now = wanted

    def run(self, until_ns: int) -> list[tuple[int, bytes]]:
        self.advance(until_ns, inclusive=True)
        due = [entry for entry in self.done if entry[0] <= until_ns]
        self.done = self.done[len(due) :]
        return due

    def waiting(self) -> int:
        flows = sum(len(line.queue) + (line.served is not None) for line in self.flows.values())
        return flows + len(self.link.queue)
