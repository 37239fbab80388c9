"""A shaped pipe by its rules, in exact fractions: what the engine is held against.

The rules are those at the heads of core/link/shaper.pxd, core/link/transmitter.pxd, core/link/rate_trace.pxd,
core/machine/random.pxd and the rooms of core/link/impairments; nothing here is taken from their code.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from math import ceil, floor
from typing import Any

from timeline import SECOND, SPLITMIX_STEP, WORD, PipeModel, Shape, numbered

from manystack.core import Switch

PURPOSES = {
    "bit_error": 1,
    "duplicate": 2,
    "corrupt": 3,
    "corrupt_bit": 4,
    "reorder": 5,
    "jitter": 6,
    "slots": 7,
    "airtime": 10,
}
LONG_AGO = Fraction(-(10**40))
SLOTS_COUNTED = 1000


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


def threshold(probability: float) -> int:
    return min(floor(Fraction(probability) * (1 << 64)), WORD)


@dataclass
class Stream:
    """SplitMix64."""

    state: int

    def draw(self) -> int:
        self.state = (self.state + SPLITMIX_STEP) & WORD
        return mix(self.state)

    def happens(self, probability: float) -> bool:
        limit = threshold(probability)
        return limit != 0 and (self.draw() < limit or limit == WORD)


@dataclass
class Choice:
    """A draw that now and then is that of the time before."""

    stream: Stream
    last: int | None = None

    def draw(self, correlation: float) -> int:
        if self.last is None or not self.stream.happens(correlation):
            self.last = self.stream.draw()
        return self.last

    def happens(self, probability: float, correlation: float) -> bool:
        limit = threshold(probability)
        return limit != 0 and (self.draw(correlation) < limit or limit == WORD)


def quantile(points: tuple[list[float], list[int]], draw: int) -> int:
    """The value at the probability draw / 2^64, on the straight line from the point before, rounded down."""
    places = [threshold(probability) for probability in points[0]]
    values = points[1]
    if len(values) == 1:
        return values[0]
    low = min(bisect_right(places, draw), len(places) - 1) - 1
    way = Fraction(draw - places[low], places[low + 1] - places[low]) * (values[low + 1] - values[low])
    return values[low] + floor(way)


@dataclass(frozen=True)
class Shaped:
    """All that set_pipe() takes; None: plain, unless the pipe has a shaper already."""

    shape: Shape = field(default_factory=Shape)
    shaping: Mapping[str, Any] | None = None

    def apply(self, switch: Switch, pipe: int) -> None:
        switch.set_pipe(
            pipe,
            bandwidth_bps=self.shape.bandwidth_bps,
            overhead_bytes=self.shape.overhead_bytes,
            delay_ns=self.shape.delay_ns,
            loss=self.shape.loss,
            queue_limit_packets=self.shape.queue_limit_packets,
            queue_limit_bytes=self.shape.queue_limit_bytes,
            shaping=self.shaping,
        )

    def get(self, key: str, default: Any = 0) -> Any:
        return default if self.shaping is None else self.shaping.get(key, default)

    def wire_bytes(self, length: int) -> int:
        bytes_ = max(0, length + self.shape.overhead_bytes)
        cell = self.get("cell_bytes")
        return ceil(Fraction(bytes_, cell)) * (cell + self.get("cell_overhead_bytes")) if cell else bytes_


@dataclass
class Opportunities:
    """Moments at which so many bytes may leave; the next one, and what it has left."""

    times: list[int]
    bytes_each: int
    period_ns: int
    place: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        self.left = self.bytes_each

    def time(self, place: int) -> int:
        lap, within = divmod(place, len(self.times))
        return lap * self.period_ns + self.times[within]

    def deliver(self, start: Fraction, length: int) -> Fraction:
        # Two laps before the start nothing is left to come, so what is skipped there is all before it.
        skip = (floor(start / self.period_ns) - 2) * len(self.times)
        if skip > self.place:
            self.place, self.left = skip, self.bytes_each
        while self.time(self.place) < start:
            self.place, self.left = self.place + 1, self.bytes_each
        while length > self.left:
            length -= self.left
            self.place, self.left = self.place + 1, self.bytes_each
        self.left -= length
        return Fraction(self.time(self.place))


def served_at_rates(rates: tuple[list[int], list[int], int], start: Fraction, bits: int) -> Fraction:
    """When the last of so many bits has left: the bandwidth's integral from the start on."""
    times, steps, period = rates
    left = Fraction(bits) * SECOND
    now = start
    per_lap = sum(
        rate * (end - begin) for begin, end, rate in zip(times, [*times[1:], period], steps, strict=True)
    )
    while left:
        lap = floor(now / period) if period else 0
        place = bisect_right(times, now - lap * period) - 1
        if period and now == lap * period and left > per_lap:
            laps = ceil(left / per_lap) - 1
            now += laps * period
            left -= laps * per_lap
            continue
        end = lap * period + times[place + 1] if place + 1 < len(times) else (lap + 1) * period
        last = not period and place + 1 == len(times)
        if last or left <= steps[place] * (end - now):
            return now + left / steps[place]
        left -= steps[place] * (end - now)
        now = Fraction(end)
    return now


@dataclass
class Arriving:
    arrival_ns: int
    round: int
    frame: bytes


class Spared(bytes):
    """A frame whose loss was drawn when it came, while the pipe was plain."""


@dataclass
class ShapedModel:
    """Queue, transmitter, wire, delay line. It is plain until it is asked for more."""

    seed: int
    now: Shaped = field(default_factory=Shaped)
    plain: PipeModel | None = None
    up: bool = True
    ready_ns: int = 0
    free: Fraction = Fraction(-1)
    queue: list[bytes] = field(default_factory=list)
    line: list[Arriving] = field(default_factory=list)
    last_arrival_ns: int = 0
    opportunities: Opportunities | None = None
    loss_state: int = 0
    fate: int = 0
    passed: int = 0
    in_vain: bool = False
    slot_ns: int = 0
    slot_packets: int = 0
    slot_bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plain = PipeModel(self.seed)

    # What the engine is asked to do.

    def send(self, now_ns: int, frame: bytes, number: int, round_: int = 0) -> None:
        """A frame; its number is for the plain pipe's model, which knows frames by that and their length."""
        if self.plain is not None:
            self.plain.send(now_ns, number, len(frame))
            return
        self._count("sent")
        if not self.up:
            self._count("down_drop")
            return
        self.serve(now_ns, inclusive=False, round_=round_)
        if not self.queue:
            self.ready_ns = now_ns
        waits = bool(self.queue) or self.free > now_ns
        if waits and not self.get("drops_head", False) and self._is_over(1, len(frame)):
            self._count("queue_drop")
            return
        self.queue.append(frame)
        while waits and self.queue and self._is_over(0, 0):
            self.queue.pop(0)
            self._count("queue_drop")
        if not waits:
            self.serve(now_ns, inclusive=True, round_=round_)

    def change(self, now_ns: int, wanted: Shaped) -> None:
        if self.plain is not None:
            if wanted.shaping is None:
                self.plain.change(now_ns, wanted.shape)
                return
            self._begin_shaping(now_ns)
        self.serve(now_ns, inclusive=True)
        old, self.now = self.now, wanted
        if (
            wanted.shape.bandwidth_bps != old.shape.bandwidth_bps
            or wanted.get("rates") != old.get("rates")
            or wanted.get("opportunities") != old.get("opportunities")
        ):
            self.free = Fraction(ceil(self.free))
        if wanted.get("burst_bytes") and not old.get("burst_bytes") and self.free <= now_ns:
            self.free = LONG_AGO
        if wanted.get("opportunities") != old.get("opportunities"):
            self.opportunities = None
            if wanted.get("opportunities"):
                self.opportunities = Opportunities(*wanted.get("opportunities"))
        if wanted.get("loss_model", "random") != old.get("loss_model", "random"):
            self.loss_state = self.fate = 0
        if self.fate >= len(wanted.get("loss_fates", b"x")):
            self.fate = 0
        if wanted.get("slots_packets") != old.get("slots_packets"):
            self.slot_packets = wanted.get("slots_packets")
        if wanted.get("slots_bytes") != old.get("slots_bytes"):
            self.slot_bytes = wanted.get("slots_bytes")

    def set_up(self, now_ns: int, up: bool) -> None:
        if self.plain is not None:
            self.plain.set_up(now_ns, up)
        elif self.up and not up:
            self._count("down_drop", len(self.line) + len(self.queue))
            self.line, self.queue = [], []
            if self.opportunities is not None and self.free > now_ns:
                self.opportunities = Opportunities(*self.get("opportunities"))
            self.free = min(self.free, Fraction(now_ns))
            if self.slot_ns > now_ns:
                self._begin_slots(now_ns)
            self.last_arrival_ns = now_ns
        self.up = up

    def run(self, until_ns: int) -> list[tuple[int, bytes]]:
        """What arrives by then."""
        if self.plain is not None:
            return self.plain.run(until_ns)
        self.serve(until_ns, inclusive=True)
        due = [(one.arrival_ns, one.frame) for one in self.line if one.arrival_ns <= until_ns]
        self.line = self.line[len(due) :]
        self._count("delivered", len(due))
        return due

    def last_ns(self) -> int:
        """When all has arrived, if nothing more comes: the queue is served for that."""
        if self.plain is not None:
            return max([0, *(frame.arrival_ns for frame in self.plain.line)])
        last_ns = 0
        while self.queue:
            last_ns = ceil(self.next_start())
            self.serve(last_ns, inclusive=True)
        return max([last_ns, *(one.arrival_ns for one in self.line)])

    def statistics(self) -> dict[str, int]:
        if self.plain is not None:
            return self.plain.statistics()
        kinds = (
            "sent",
            "delivered",
            "queue_drop",
            "loss",
            "down_drop",
            "loop_drop",
            "early_drop",
            "marked",
            "duplicate",
            "corrupted",
            "reordered",
        )
        return {f"{kind}_packets": self.counts.get(kind, 0) for kind in kinds} | {
            "in_flight_packets": len(self.line) + len(self.queue),
            "waiting_packets": len(self.queue),
            "waiting_bytes": sum(map(len, self.queue)),
        }

    # The transmitter.

    def next_start(self) -> Fraction:
        return max(Fraction(self.ready_ns), self.free)

    def serve(self, until_ns: int, *, inclusive: bool, round_: int = 0) -> None:
        while self.queue:
            start = self.next_start()
            if start > until_ns or (start == until_ns and not inclusive):
                return
            frame = self.queue.pop(0)
            self._carry(frame, ceil(start), floor(self._transmit(start, len(frame))), round_)

    def _transmit(self, start: Fraction, length: int) -> Fraction:
        """The departure; the transmitter is free from then on, or was before where a burst is left."""
        rate, bytes_ = self.now.shape.bandwidth_bps, self.now.wire_bytes(length)
        if self.opportunities is not None:
            self.free = self.opportunities.deliver(start, bytes_)
        elif self.get("rates"):
            self.free = served_at_rates(self.get("rates"), start, 8 * bytes_)
        elif rate and self.get("burst_bytes"):
            full = start - Fraction(8 * SECOND * self.get("burst_bytes"), rate)
            self.free = max(self.free, full) + Fraction(8 * SECOND * bytes_, rate)
        else:
            self.free = start + (Fraction(8 * SECOND * bytes_, rate) if rate else 0)
        self.in_vain = False
        if self.get("airtime"):
            draw = self.airtime.draw()
            if self.get("rates"):
                self.free = Fraction(ceil(self.free))
            self.free += quantile(self.get("airtime"), draw)
            limit = threshold(self.get("airtime_loss_above", 1.0))
            self.in_vain = limit != WORD and draw >= limit
        return max(start, self.free)

    def _is_over(self, more_packets: int, more_bytes: int) -> bool:
        packets, bytes_ = self.now.shape.queue_limit_packets, self.now.shape.queue_limit_bytes
        return (packets is not None and len(self.queue) + more_packets > packets) or (
            bytes_ is not None and sum(map(len, self.queue)) + more_bytes > bytes_
        )

    # The wire.

    def _carry(self, frame: bytes, now_ns: int, departure_ns: int, round_: int) -> None:
        spared = isinstance(frame, Spared)
        if self.in_vain or (not spared and self._loses()) or self._breaks(len(frame)):
            self._count("loss")
            return
        if self.corrupt.happens(self.get("corrupt"), self.get("corrupt_correlation")):
            bit = self.corrupt_bit.draw() * 8 * len(frame) >> 64
            frame = frame[: bit // 8] + bytes([frame[bit // 8] ^ 1 << bit % 8]) + frame[bit // 8 + 1 :]
            self._count("corrupted")
        twice = self.duplicate.happens(self.get("duplicate"), self.get("duplicate_correlation"))
        self._count("duplicate", twice)
        for _ in range(1 + twice):
            self._put(frame, now_ns, departure_ns, round_)

    def _put(self, frame: bytes, now_ns: int, departure_ns: int, round_: int) -> None:
        overtakes = self.get("jitter_overtakes", False)
        arrival_ns = departure_ns
        if self._reorders():
            overtakes = True
        else:
            delay_ns = self.now.shape.delay_ns
            if self.get("jitter"):
                delay_ns += quantile(self.get("jitter"), self.jitter.draw(self.get("jitter_correlation")))
            arrival_ns += max(0, delay_ns)
        if self.get("slots"):
            arrival_ns = self._slot(arrival_ns, len(frame))
        if not overtakes:
            arrival_ns = max(arrival_ns, self.last_arrival_ns)
        arrival_ns = max(arrival_ns, now_ns)
        self.last_arrival_ns = max(arrival_ns, self.last_arrival_ns)
        place = bisect_right(self.line, arrival_ns, key=lambda one: one.arrival_ns)
        self.line.insert(place, Arriving(arrival_ns, round_ + 1 if arrival_ns == now_ns else 0, frame))

    def _loses(self) -> bool:
        model = self.get("loss_model", "random")
        if model == "random":
            return self.loss.happens(self.now.shape.loss, self.get("loss_correlation"))
        if model == "recorded":
            fates = self.get("loss_fates")
            self.fate += 1
            lost = fates[self.fate - 1] != 0
            self.fate %= len(fates)
            return lost
        if model == "gilbert_elliott":
            p, r, lost_bad, lost_good = self.get("loss_chain")
            self.loss_state ^= self.loss.stream.happens(r if self.loss_state else p)
            return self.loss.stream.happens(lost_bad if self.loss_state else lost_good)
        p13, p31, p32, p23, p14 = map(threshold, self.get("loss_chain"))
        draw = self.loss.stream.draw()
        # The paper's states less one: 0 received, 1 received in a burst, 2 lost in a burst, 3 lost alone.
        steps = [[(p13, 2), (p14, 3)], [(p23, 2)], [(p31, 0), (p32, 1)], [(1 << 64, 0)]]
        for chance, state in steps[self.loss_state]:
            if draw < chance:
                self.loss_state = state
                break
            draw -= chance
        return self.loss_state >= 2

    def _breaks(self, length: int) -> bool:
        """Bit errors. The power is that of fixed point, by squaring."""
        if not self.get("bit_error"):
            return False
        survival = max(1, WORD - threshold(self.get("bit_error")))
        bits = 8 * self.now.wire_bytes(length)
        power = WORD
        while bits:
            if bits & 1:
                power = power * survival >> 64
            survival = survival * survival >> 64
            bits >>= 1
        limit = WORD - power
        return limit != 0 and (self.bit_error.draw() < limit or limit == WORD)

    def _reorders(self) -> bool:
        if threshold(self.get("reorder")) == 0:
            return False
        self.passed += 1
        if self.passed < self.get("reorder_gap") or not self.reorder.happens(
            self.get("reorder"), self.get("reorder_correlation")
        ):
            return False
        self.passed = 0
        self._count("reordered")
        return True

    def _slot(self, ready_ns: int, length: int) -> int:
        packets, bytes_ = self.get("slots_packets"), self.get("slots_bytes")
        for counted in count():
            if self.slot_ns >= ready_ns:
                break
            if counted == SLOTS_COUNTED:
                self.slot_ns = ready_ns - 1
            self._open_slot()
        if (packets and self.slot_packets == 0) or (bytes_ and self.slot_bytes < min(length, bytes_)):
            self._open_slot()
        if packets:
            self.slot_packets -= 1
        if bytes_:
            self.slot_bytes = max(0, self.slot_bytes - length)
        return self.slot_ns

    def _open_slot(self) -> None:
        self._begin_slots(self.slot_ns + max(1, quantile(self.get("slots"), self.slots.draw())))

    def _begin_slots(self, open_ns: int) -> None:
        self.slot_ns = open_ns
        self.slot_packets, self.slot_bytes = self.get("slots_packets"), self.get("slots_bytes")

    # Becoming a shaper.

    def _begin_shaping(self, now_ns: int) -> None:
        plain, self.plain = self.plain, None
        assert plain is not None
        plain.serve(now_ns)
        waiting = {frame.number for frame in plain.waiting}
        started = [frame for frame in plain.line if frame.number not in waiting]
        self.now = Shaped(plain.shape)
        self.free = plain.waiting[0].start if waiting else plain.transmitter_free
        self.last_arrival_ns = plain.last_arrival_ns
        if waiting:
            self.last_arrival_ns = started[-1].arrival_ns if started else now_ns
        self.line = [Arriving(one.arrival_ns, 0, numbered(one.number, one.length)) for one in started]
        self.queue = [
            Spared(numbered(one.number, one.length))
            for one in plain.waiting
            if not one.lost and not one.arrived
        ]
        self.counts = {
            "sent": plain.sent,
            "delivered": plain.delivered,
            "queue_drop": plain.queue_drops,
            "loss": plain.losses,
            "down_drop": plain.down_drops,
        }
        streams = {
            what: Stream(mix(self._started(plain.seed, purpose))) for what, purpose in PURPOSES.items()
        }
        self.loss = Choice(Stream(plain.seed))
        self.bit_error, self.slots, self.corrupt_bit, self.airtime = (
            streams[what] for what in ("bit_error", "slots", "corrupt_bit", "airtime")
        )
        self.duplicate, self.corrupt, self.reorder, self.jitter = (
            Choice(streams[what]) for what in ("duplicate", "corrupt", "reorder", "jitter")
        )

    @staticmethod
    def _started(seed: int, purpose: int) -> int:
        return ((seed ^ purpose * 0xD1342543DE82EF95 & WORD) + SPLITMIX_STEP) & WORD

    def get(self, key: str, default: Any = 0) -> Any:
        return self.now.get(key, default)

    def _count(self, kind: str, number: int = 1) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + number
