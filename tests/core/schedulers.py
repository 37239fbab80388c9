"""Disciplines that share a link among flows, by the rules at the heads of their rooms, and a transmitter.

Exact fractions, lists and loops over all flows: slow, and nothing of the engine's.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor

from flows import precedence, queue_index
from timeline import SECOND

VIRTUAL_UNIT = 1 << 30
UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Discipline:
    name: str
    flows: int = 65536
    quantum_bytes: int = 1514
    weights: tuple[int, ...] = (1,) * 8
    drops_head: bool = False

    def shaping(self) -> dict[str, object]:
        return {
            "discipline": self.name,
            "flows": self.flows,
            "quantum_bytes": self.quantum_bytes,
            "weights": self.weights,
            "drops_head": self.drops_head,
        }


@dataclass
class Item:
    frame: bytes
    time_ns: int
    band: int

    @property
    def length(self) -> int:
        return len(self.frame)


@dataclass
class Scheduler:
    """Queues of one discipline; first in, first out: one queue."""

    discipline: Discipline
    seed: int
    limit_packets: int = UNLIMITED
    limit_bytes: int = UNLIMITED
    queues: defaultdict[int, list[Item]] = field(default_factory=lambda: defaultdict(list))
    drops: int = 0

    def enqueue(self, item: Item, waits: bool) -> None:
        index = self.queue_of(item)
        if not waits and not self.packets():
            self.rest()
        self.queues[index].append(item)
        if len(self.queues[index]) == 1:
            self.begins(index, item)
        while waits and self.is_over():
            self.drop()

    def dequeue(self) -> Item:
        return self.take(0)

    def queue_of(self, item: Item) -> int:
        return queue_index(item.frame, self.discipline.flows, self.seed)

    def rest(self) -> None:
        """The link has been idle."""

    def begins(self, index: int, item: Item) -> None:
        """A queue that was empty has a packet."""

    def dropped(self, index: int) -> None:
        """A queue has lost a packet."""

    def take(self, index: int) -> Item:
        return self.queues[index].pop(0)

    def packets(self) -> int:
        return sum(len(queue) for queue in self.queues.values())

    def bytes(self, index: int) -> int:
        return sum(item.length for item in self.queues[index])

    def is_over(self) -> bool:
        waiting_bytes = sum(self.bytes(index) for index in list(self.queues))
        return self.packets() > 0 and (
            self.packets() > self.limit_packets or waiting_bytes > self.limit_bytes
        )

    def drop(self) -> None:
        longest = max(sorted(self.queues), key=self.bytes)
        self.queues[longest].pop(0 if self.discipline.drops_head else -1)
        self.drops += 1
        self.dropped(longest)

    def weight(self, item: Item) -> int:
        return self.discipline.weights[item.band]

    def items(self) -> list[Item]:
        """All that waits, by time, then by the order of the queues."""
        waiting = [
            (item.time_ns, index, item) for index, queue in sorted(self.queues.items()) for item in queue
        ]
        return [item for _, _, item in sorted(waiting, key=lambda entry: entry[:2])]


class DropTail(Scheduler):
    def queue_of(self, item: Item) -> int:
        return 0

    def enqueue(self, item: Item, waits: bool) -> None:
        if waits and not self.discipline.drops_head:
            full = self.bytes(0) + item.length > self.limit_bytes
            if self.packets() >= self.limit_packets or full:
                self.drops += 1
                return
        super().enqueue(item, waits)


class Priority(Scheduler):
    def queue_of(self, item: Item) -> int:
        return item.band

    def dequeue(self) -> Item:
        return self.take(max(index for index, queue in self.queues.items() if queue))


@dataclass
class RoundRobin(Scheduler):
    turns: list[int] = field(default_factory=list)

    def begins(self, index: int, item: Item) -> None:
        if index not in self.turns:
            self.turns.append(index)

    def dequeue(self) -> Item:
        while not self.queues[self.turns[0]]:
            self.turns.pop(0)
        index = self.turns.pop(0)
        item = self.take(index)
        if self.queues[index]:
            self.turns.append(index)
        return item


@dataclass
class DeficitRoundRobin(RoundRobin):
    deficits: dict[int, int] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)
    in_turn: bool = False

    def begins(self, index: int, item: Item) -> None:
        self.weights[index] = self.weight(item)
        if index not in self.turns:
            self.deficits[index] = 0
        super().begins(index, item)

    def dequeue(self) -> Item:
        while True:
            index = self.turns[0]
            if self.queues[index] and not self.in_turn:
                self.deficits[index] += self.discipline.quantum_bytes * self.weights[index]
                self.in_turn = True
            if self.queues[index] and self.queues[index][0].length <= self.deficits[index]:
                break
            self.in_turn = False
            self.turns.pop(0)
            if self.queues[index]:
                self.turns.append(index)
        item = self.take(index)
        self.deficits[index] -= item.length
        if not self.queues[index]:
            self.turns.pop(0)
            self.in_turn = False
        return item


def cost(length: int, weight: int) -> Fraction:
    """Rounded as the rules say."""
    return Fraction(length * VIRTUAL_UNIT // weight, VIRTUAL_UNIT)


@dataclass
class FairQueueing(Scheduler):
    """WF2Q+."""

    now: Fraction = Fraction(0)
    served: int = 0
    starts: dict[int, Fraction] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)

    def rest(self) -> None:
        self.starts, self.weights, self.served = {}, {}, 0

    def begins(self, index: int, item: Item) -> None:
        if index not in self.starts:
            self.weights[index] = self.weight(item)
            self.starts[index] = self.now

    def dropped(self, index: int) -> None:
        self.let_go()

    def finish(self, index: int) -> Fraction:
        return self.starts[index] + cost(self.queues[index][0].length, self.weights[index])

    def let_go(self) -> None:
        for index in [i for i in self.starts if not self.queues[i] and self.starts[i] <= self.now]:
            del self.starts[index], self.weights[index]

    def dequeue(self) -> Item:
        self.now += cost(self.served, sum(self.weights.values()))
        waiting = [index for index in sorted(self.starts) if self.queues[index]]
        self.now = max(self.now, min(self.starts[index] for index in waiting))
        self.let_go()
        eligible = [index for index in waiting if self.starts[index] <= self.now]
        index = min(eligible, key=self.finish)
        self.starts[index] = self.finish(index)
        item = self.take(index)
        self.served = item.length
        self.let_go()
        return item


@dataclass
class QuickFairQueueing(Scheduler):
    """QFQ, by what its sets of groups stand for: of the eligible groups, the one that finishes first."""

    now: Fraction = Fraction(0)
    served: int = 0
    longest: int = 1514
    starts: dict[int, Fraction] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)
    standing: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)

    def rest(self) -> None:
        self.starts, self.weights, self.standing, self.idle, self.served = {}, {}, [], [], 0

    def enqueue(self, item: Item, waits: bool) -> None:
        if not waits and not self.packets():
            self.rest()
        if item.length > self.longest:
            self.standing.sort(key=lambda index: (self.group(index), self.slot(index)))
            self.longest = item.length
        super().enqueue(item, waits)

    def begins(self, index: int, item: Item) -> None:
        if index not in self.starts:
            self.weights[index] = self.weight(item)
            self.starts[index] = self.now
        if index not in self.standing:
            self.starts[index] = max(self.starts[index], self.now)
            self.standing.append(index)

    def group(self, index: int) -> int:
        return next(i for i in range(18) if self.weights[index] << i >= self.longest)

    def slot(self, index: int) -> int:
        return self.starts[index] // (1 << self.group(index))

    def group_start(self, group: int) -> int:
        return min(self.slot(index) for index in self.standing if self.group(index) == group) << group

    def dequeue(self) -> Item:
        self.now += cost(self.served, sum(self.weights.values()))
        self.look_at_idle()
        while True:
            starts = {group: self.group_start(group) for group in {self.group(i) for i in self.standing}}
            self.now = max(self.now, Fraction(min(starts.values())))
            eligible = [group for group in sorted(starts) if starts[group] <= self.now]
            group = min(eligible, key=lambda g: starts[g] + (2 << g))
            index = min((i for i in self.standing if self.group(i) == group), key=self.slot)
            self.standing.remove(index)
            if self.queues[index]:
                break
            self.becomes_idle(index)
        item = self.take(index)
        self.starts[index] += cost(item.length, self.weights[index])
        self.served = item.length
        if self.queues[index]:
            self.standing.append(index)
        else:
            self.becomes_idle(index)
        return item

    def becomes_idle(self, index: int) -> None:
        if index not in self.idle:
            self.idle.append(index)

    def look_at_idle(self) -> None:
        for _ in range(min(2, len(self.idle))):
            index = self.idle.pop(0)
            if index in self.standing:
                continue
            if self.starts[index] > self.now:
                self.idle.append(index)
            else:
                del self.starts[index], self.weights[index]


MODELS = {
    "droptail": DropTail,
    "round_robin": RoundRobin,
    "drr": DeficitRoundRobin,
    "wfq": FairQueueing,
    "qfq": QuickFairQueueing,
    "priority": Priority,
}


@dataclass
class Service:
    """A packet's way through the transmitter."""

    item: Item
    start: Fraction
    end: Fraction


class LinkModel:
    """A discipline, a transmitter and a constant delay."""

    def __init__(self, discipline: Discipline, seed: int, bandwidth_bps: int, **limits: int) -> None:
        self.seed, self.bandwidth_bps, self.limits = seed, bandwidth_bps, limits
        self.scheduler = MODELS[discipline.name](discipline, seed, **limits)
        self.free = Fraction(0)
        self.services: list[Service] = []
        self.ready_ns = self.sent = self.drops = 0

    def send(self, now_ns: int, frame: bytes) -> None:
        self.sent += 1
        if not self.scheduler.packets():
            self.ready_ns = now_ns
        waits = self.scheduler.packets() > 0 or self.free > now_ns
        self.scheduler.enqueue(Item(frame, now_ns, precedence(frame)), waits)
        if not waits:
            self.serve(now_ns)

    def change(self, discipline: Discipline) -> None:
        before = self.scheduler
        if replace(before.discipline, drops_head=discipline.drops_head) == discipline:
            before.discipline = discipline
            return
        self.drops += before.drops
        self.scheduler = MODELS[discipline.name](discipline, self.seed, **self.limits)
        for item in before.items():
            self.scheduler.enqueue(item, False)

    def serve(self, until_ns: int) -> None:
        """Start every service that starts by then."""
        while self.scheduler.packets() and max(self.free, self.ready_ns) <= until_ns:
            start = max(self.free, Fraction(self.ready_ns))
            item = self.scheduler.dequeue()
            self.free = start + Fraction(item.length * 8 * SECOND, self.bandwidth_bps)
            self.services.append(Service(item, start, self.free))

    def arrivals(self, until_ns: int) -> list[tuple[int, bytes]]:
        """What has left by then, and when: in a whole nanosecond, but not before its start."""
        done = [s for s in self.services if max(floor(s.end), ceil(s.start)) <= until_ns]
        self.services = self.services[len(done) :]
        return [(max(floor(s.end), ceil(s.start)), s.item.frame) for s in done]

    def queue_drops(self) -> int:
        return self.drops + self.scheduler.drops
