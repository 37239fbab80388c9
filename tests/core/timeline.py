"""What the tests of time and order share: a pipe by its rules in exact fractions, and small networks.

The model knows the rules from the head of core/link/pipe.pxd, none of the code.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

from manystack.core import Switch
from manystack.core import _switch as core

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
SPLITMIX_STEP = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5, "big")


def numbered(number: int, length: int) -> bytes:
    """A frame that says which one it is, for PORT nodes and hubs, which do not look into it."""
    return number.to_bytes(4, "big").ljust(length, b"\x5a")[:length]


@dataclass(frozen=True)
class Shape:
    """Everything that set_pipe() takes."""

    bandwidth_bps: int = 0
    overhead_bytes: int = 0
    delay_ns: int = 0
    loss: float = 0.0
    queue_limit_packets: int | None = None
    queue_limit_bytes: int | None = None
    shaping: "core.Shaping | None" = None
    """What the model below does not know."""

    def service(self, length: int) -> Fraction:
        return Fraction(max(0, length + self.overhead_bytes) * 8 * SECOND, self.bandwidth_bps)


@dataclass
class Frame:
    number: int
    length: int
    start: Fraction
    arrival_ns: int
    lost: bool
    arrived: bool = False


@dataclass
class PipeModel:
    """Queue, transmitter, wire, delay line: what became of each frame, to the nanosecond."""

    seed: int
    shape: Shape = field(default_factory=Shape)
    up: bool = True
    transmitter_free: Fraction = Fraction(-1)
    waiting: list[Frame] = field(default_factory=list)
    line: list[Frame] = field(default_factory=list)
    last_arrival_ns: int = 0
    sent: int = 0
    delivered: int = 0
    queue_drops: int = 0
    losses: int = 0
    down_drops: int = 0

    def send(self, now_ns: int, number: int, length: int) -> None:
        self.sent += 1
        if not self.up:
            self.down_drops += 1
            return
        self.serve(now_ns)
        start = Fraction(now_ns)
        arrival_ns = now_ns
        if self.shape.bandwidth_bps:
            start = max(start, self.transmitter_free)
            if start > now_ns and not self.has_room(length):
                self.queue_drops += 1
                return
            self.transmitter_free = start + self.shape.service(length)
            arrival_ns = floor(self.transmitter_free)
        arrival_ns = max(arrival_ns + self.shape.delay_ns, self.last_arrival_ns)
        frame = Frame(number, length, start, arrival_ns, self.loses())
        if start > now_ns:
            self.waiting.append(frame)
        if frame.lost:
            self.losses += 1
        else:
            self.line.append(frame)
            self.last_arrival_ns = arrival_ns

    def change(self, now_ns: int, shape: Shape) -> None:
        """A live change: what has started service keeps its departure."""
        self.serve(now_ns)
        if self.waiting:
            self.transmitter_free = self.waiting[0].start
        if shape.bandwidth_bps != self.shape.bandwidth_bps:
            self.transmitter_free = Fraction(ceil(self.transmitter_free))
        self.shape = shape
        numbers = {frame.number for frame in self.waiting}
        started = [frame.arrival_ns for frame in self.line if frame.number not in numbers]
        self.last_arrival_ns = max([now_ns, *started])
        for frame in self.waiting:
            frame.start = self.transmitter_free
            if shape.bandwidth_bps:
                self.transmitter_free += shape.service(frame.length)
            if not frame.lost and not frame.arrived:
                arrival_ns = floor(self.transmitter_free) + shape.delay_ns
                frame.arrival_ns = self.last_arrival_ns = max(arrival_ns, self.last_arrival_ns)
        if shape.bandwidth_bps == 0:
            self.waiting = []

    def set_up(self, now_ns: int, up: bool) -> None:
        if self.up and not up:
            self.down_drops += len(self.line)
            self.line = []
            self.waiting = []
            self.transmitter_free = Fraction(now_ns)
            self.last_arrival_ns = now_ns
        self.up = up

    def run(self, until_ns: int) -> list[tuple[int, bytes]]:
        """What arrives by then."""
        due = [frame for frame in self.line if frame.arrival_ns <= until_ns]
        self.line = [frame for frame in self.line if frame.arrival_ns > until_ns]
        self.delivered += len(due)
        for frame in due:
            frame.arrived = True
        self.serve(until_ns)
        return [(frame.arrival_ns, numbered(frame.number, frame.length)) for frame in due]

    def serve(self, now_ns: int) -> None:
        """The queue is what has not started service."""
        self.waiting = [frame for frame in self.waiting if frame.start > now_ns]

    def has_room(self, length: int) -> bool:
        packets, bytes_ = self.shape.queue_limit_packets, self.shape.queue_limit_bytes
        waiting_bytes = sum(frame.length for frame in self.waiting)
        return (packets is None or len(self.waiting) < packets) and (
            bytes_ is None or waiting_bytes + length <= bytes_
        )

    def loses(self) -> bool:
        """One draw of SplitMix64 against the loss; none where nothing can be lost."""
        threshold = floor(Fraction(self.shape.loss) * (1 << 64))
        if threshold == 0:
            return False
        self.seed = (self.seed + SPLITMIX_STEP) & WORD
        z = self.seed
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
        return z ^ (z >> 31) < threshold

    def statistics(self) -> dict[str, int]:
        return {
            "sent_packets": self.sent,
            "delivered_packets": self.delivered,
            "queue_drop_packets": self.queue_drops,
            "loss_packets": self.losses,
            "down_drop_packets": self.down_drops,
            "loop_drop_packets": 0,
            "in_flight_packets": len(self.line),
            "waiting_packets": len(self.waiting),
            "waiting_bytes": sum(frame.length for frame in self.waiting),
            "early_drop_packets": 0,
            "marked_packets": 0,
            "duplicate_packets": 0,
            "corrupted_packets": 0,
            "reordered_packets": 0,
        }


class Wire:
    """Two PORTs and the link between them: what is put in at the one end comes out at the other."""

    def __init__(self, seed: int = 1, seed_back: int = 2, switch: Switch | None = None) -> None:
        self.switch = switch if switch is not None else Switch()
        self.near = self.switch.add_node(core.PORT)
        self.far = self.switch.add_node(core.PORT)
        self.pipe, self.back = self.switch.add_link(
            self.switch.add_interface(self.near, mac(1), 65535),
            self.switch.add_interface(self.far, mac(2), 65535),
            seed,
            seed_back,
        )

    def shape(self, shape: Shape, pipe: int | None = None) -> None:
        shape_pipe(self.switch, self.pipe if pipe is None else pipe, shape)

    def arrivals(self, until_ns: int) -> list[tuple[int, bytes]]:
        self.switch.run(until_ns)
        return self.switch.take_frames(self.far)

    def in_balance(self) -> bool:
        return is_in_balance(self.switch, self.pipe)


def shape_pipe(switch: Switch, pipe: int, shape: Shape) -> None:
    switch.set_pipe(
        pipe,
        bandwidth_bps=shape.bandwidth_bps,
        overhead_bytes=shape.overhead_bytes,
        delay_ns=shape.delay_ns,
        loss=shape.loss,
        queue_limit_packets=shape.queue_limit_packets,
        queue_limit_bytes=shape.queue_limit_bytes,
        shaping=shape.shaping,
    )


def is_in_balance(switch: Switch, pipe: int) -> bool:
    """Whether every frame that was sent is accounted for."""
    s = switch.pipe_statistics(pipe)
    dropped = sum(
        s[f"{what}_packets"] for what in ("queue_drop", "early_drop", "loss", "down_drop", "loop_drop")
    )
    made = s["sent_packets"] + s["duplicate_packets"]
    return made == s["delivered_packets"] + dropped + s["in_flight_packets"]
