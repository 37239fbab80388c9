"""Where two runs part: the first arrival, over all pipes, that is not the same in both event files.

Each pipe's arrivals are compared in their own order, so that it does not matter how those of different pipes
follow each other. Both files are read once, side by side; what one of them is ahead of the other is kept.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from manystack.record.eventfile import Arrival, EventReader
from manystack.record.packets import packet_text

NEVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run has in this place."""

    time_ns: int
    total_bytes: int
    packet_hash: str
    packet: str
    head: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference. `number` counts the packets of the link from 1.

    differs: "time" (the same packet at another time), "bytes" (another packet at the same time), "both", or
    "missing" (a run has no more on this link). A run that has nothing in this place has None.
    """

    time_ns: int
    link: str
    number: int
    differs: Literal["time", "bytes", "both", "missing"]
    runs: tuple[Seen | None, Seen | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two event files: what they say of themselves, how many arrivals are the same, where they part."""

    headers: tuple[dict[str, Any], dict[str, Any]]
    notes: tuple[str, ...]
    equal_arrivals: int
    difference: Difference | None


@dataclass(slots=True)
class _Pipe:
    """What is known of one pipe: what one file has and the other has not yet, and how much was the same."""

    waiting: tuple[deque[Arrival], deque[Arrival]] = field(default_factory=lambda: (deque(), deque()))
    equal: int = 0
    parted: bool = False


@dataclass(slots=True)
class _Side:
    """One file while it is read."""

    reader: EventReader
    arrivals: Iterator[Arrival]
    last_ns: int = -1
    is_over: bool = False

    @property
    def floor_ns(self) -> int:
        return NEVER if self.is_over else self.reader.floor_ns


def compare(first: Path, second: Path) -> Comparison:
    """Compare two event files. Raises UnreadableError if one of them cannot be read."""
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(EventReader(path))) for path in (first, second)]
        return _Comparer(readers).compare()


class _Comparer:
    def __init__(self, readers: list[EventReader]) -> None:
        self._sides = [_Side(reader, reader.arrivals()) for reader in readers]
        self._pipes: defaultdict[str, _Pipe] = defaultdict(_Pipe)
        self._best: tuple[int, str] | None = None
        """The earliest difference so far: its time and pipe."""

    def compare(self) -> Comparison:
        sides = self._sides
        floors = [0, 0]
        while not self._is_found():
            number = self._next()
            if number is None:
                break
            side = sides[number]
            arrival = next(side.arrivals, None)
            if arrival is None:
                side.is_over = True
            else:
                side.last_ns = arrival.time_ns
                self._take(number, arrival)
            if side.floor_ns > floors[number]:
                floors[number] = side.floor_ns
                self._miss(number)
        return Comparison(
            headers=(sides[0].reader.header, sides[1].reader.header),
            notes=tuple(self._notes()),
            equal_arrivals=sum(pipe.equal for pipe in self._pipes.values()),
            difference=self._difference(),
        )

    def _next(self) -> int | None:
        """Which file to read from: the one that has come less far."""
        open_sides = [number for number in (0, 1) if not self._sides[number].is_over]
        return min(open_sides, key=lambda number: self._sides[number].last_ns, default=None)

    def _take(self, number: int, arrival: Arrival) -> None:
        pipe = self._pipes[arrival.pipe]
        own, other = pipe.waiting[number], pipe.waiting[1 - number]
        if pipe.parted:
            if not own:
                own.append(arrival)
        elif not other:
            # Beyond the difference only the first is of interest, as what stands beside an earlier one.
            if self._best is None or not own or own[-1].time_ns <= self._best[0]:
                own.append(arrival)
                if own[0].time_ns < self._sides[1 - number].floor_ns:
                    self._part(arrival.pipe, pipe)
        elif _same(other[0], arrival):
            other.popleft()
            pipe.equal += 1
        else:
            own.append(arrival)
            self._part(arrival.pipe, pipe)

    def _miss(self, number: int) -> None:
        """Find what this file will not have any more, because all that is to come is later."""
        floor_ns = self._sides[number].floor_ns
        for name, pipe in self._pipes.items():
            own, other = pipe.waiting[number], pipe.waiting[1 - number]
            if not pipe.parted and not own and other and other[0].time_ns < floor_ns:
                self._part(name, pipe)

    def _part(self, name: str, pipe: _Pipe) -> None:
        pipe.parted = True
        time_ns = min(waiting[0].time_ns for waiting in pipe.waiting if waiting)
        if self._best is None or (time_ns, name) < self._best:
            self._best = time_ns, name
        for waiting in pipe.waiting:
            while len(waiting) > 1:
                waiting.pop()

    def _is_found(self) -> bool:
        """Whether nothing earlier can come, and what stands beside the difference is known."""
        if self._best is None:
            return False
        time_ns, name = self._best
        waiting = self._pipes[name].waiting
        return all(
            side.floor_ns > time_ns and (side.is_over or bool(waiting[number]))
            for number, side in enumerate(self._sides)
        )

    def _difference(self) -> Difference | None:
        if self._best is None:
            return None
        time_ns, name = self._best
        pipe = self._pipes[name]
        found = [waiting[0] if waiting else None for waiting in pipe.waiting]
        return Difference(
            time_ns=time_ns,
            link=name,
            number=pipe.equal + 1,
            differs=_what_differs(*found),
            runs=(self._seen(0, found[0]), self._seen(1, found[1])),
        )

    def _seen(self, number: int, arrival: Arrival | None) -> Seen | None:
        if arrival is None:
            return None
        head = self._sides[number].reader.head(arrival)
        text = packet_text(head, arrival.total_bytes)
        return Seen(arrival.time_ns, arrival.total_bytes, f"{arrival.packet_hash:016x}", text, head)

    def _notes(self) -> Iterator[str]:
        first, second = (side.reader.header for side in self._sides)
        if first["topology"] != second["topology"]:
            yield "the topologies differ"
        for key, what in (("time", "the clocks"), ("seed", "the seeds")):
            if first[key] != second[key]:
                yield f"{what} differ: {first[key]} and {second[key]}"
        for number, side in enumerate(self._sides, 1):
            end = side.reader.end
            if side.is_over and end is None:
                yield f"run {number} was cut off: its file has no end"
            elif end is not None and end["lost"]:
                yield f"run {number} is not complete: {end['lost']:,} arrivals came too fast to be written"


def _same(one: Arrival, other: Arrival) -> bool:
    return one.time_ns == other.time_ns and one.packet_hash == other.packet_hash


def _what_differs(
    first: Arrival | None, second: Arrival | None
) -> Literal["time", "bytes", "both", "missing"]:
    if first is None or second is None:
        return "missing"
    if first.packet_hash == second.packet_hash:
        return "time"
    return "bytes" if first.time_ns == second.time_ns else "both"
