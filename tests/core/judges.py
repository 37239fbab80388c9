"""What the tests of queue disciplines that judge packets share: a link and its disciplines by their sources.

The models know the papers and RFCs, and which choices the heads of core/link/queues/*.pxd name; none of the
code. Times are whole nanoseconds, the transmitter's exact fractions, probabilities and averages
floating-point.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from ipaddress import IPv4Address
from math import ceil, floor, isqrt

from flows import queue_index, splitmix
from lab import TYPE_IP4, ether, ip4
from timeline import MILLISECOND, SECOND, SPLITMIX_STEP, WORD, mac

from manystack.core import Switch
from manystack.core import _switch as core

NOT_ECT, ECT, CE = 0, 2, 3
STREAM_STEP = 0xD1342543DE82EF95
STREAM_DISCIPLINE = 8
MTU = 1500
WORST = 1 << 63


@dataclass(frozen=True)
class Sent:
    """A frame of a flow. It says which one it is."""

    number: int
    length: int
    flow: int = 0
    ecn: int = NOT_ECT
    time_ns: int = 0

    @property
    def frame(self) -> bytes:
        packet = ip4(
            "10.0.0.1",
            str(IPv4Address("10.1.0.0") + self.flow),
            self.number.to_bytes(4, "big").ljust(self.length - 34, b"\0"),
            protocol=253,
            tos=self.ecn,
        )
        return ether(mac(2), mac(1), TYPE_IP4, packet)


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[34:38], "big")


@dataclass
class Draws:
    """The stream that a pipe of this seed has for its discipline."""

    state: int

    @classmethod
    def of(cls, seed: int) -> "Draws":
        return cls(splitmix(seed ^ (STREAM_DISCIPLINE * STREAM_STEP & WORD)))

    def next(self) -> int:
        value = splitmix(self.state)
        self.state = (self.state + SPLITMIX_STEP) & WORD
        return value


@dataclass
class Fifo:
    """First in, first out, up to a limit of packets."""

    limit: int = WORST
    ecn: bool = False
    waiting: deque[Sent] = field(default_factory=deque)
    packets: int = 0
    bytes: int = 0
    dropped: list[int] = field(default_factory=list)
    punished: list[tuple[int, int]] = field(default_factory=list)

    def push(self, packet: Sent) -> None:
        self.waiting.append(packet)
        self.packets += 1
        self.bytes += packet.length

    def pop(self) -> Sent | None:
        if not self.waiting:
            return None
        packet = self.waiting.popleft()
        self.packets -= 1
        self.bytes -= packet.length
        return packet

    def punish(self, now_ns: int, packet: Sent, may_mark: bool) -> Sent | None:
        self.punished.append((now_ns, packet.number))
        return replace(packet, ecn=CE) if may_mark and packet.ecn else None

    def enqueue(self, now_ns: int, packet: Sent, waits: bool) -> None:
        if waits and self.packets >= self.limit:
            self.dropped.append(packet.number)
        else:
            self.push(packet)

    def dequeue(self, now_ns: int) -> Sent | None:
        return self.pop()

    def oldest_first(self) -> list[Sent]:
        return list(self.waiting)

    def take_over(self, packets: Iterable[Sent]) -> None:
        """Queue what has waited under another discipline: the limit does not count."""
        for packet in packets:
            self.push(packet)


@dataclass
class Codel(Fifo):
    """RFC 8289, sections 5.5 and 5.6, with marks as RFC 8290's authors have them."""

    target_ns: int = 5 * MILLISECOND
    interval_ns: int = 100 * MILLISECOND
    mtu: int = MTU
    first_above_ns: int = 0
    drop_next_ns: int = 0
    count: int = 0
    last_count: int = 0
    dropping: bool = False

    def control_law(self, time_ns: int, count: int) -> int:
        return time_ns + isqrt(self.interval_ns**2 // count)

    def do_dequeue(self, now_ns: int) -> tuple[Sent | None, bool]:
        packet = self.pop()
        if packet is None or now_ns - packet.time_ns < self.target_ns or self.bytes <= self.mtu + 14:
            self.first_above_ns = 0
            return packet, False
        if self.first_above_ns == 0:
            self.first_above_ns = now_ns + self.interval_ns
            return packet, False
        return packet, now_ns >= self.first_above_ns

    def dequeue(self, now_ns: int) -> Sent | None:
        packet, ok_to_drop = self.do_dequeue(now_ns)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while self.dropping and now_ns >= self.drop_next_ns:
                self.count += 1
                marked = self.punish(now_ns, packet, self.ecn)
                if marked:
                    self.drop_next_ns = self.control_law(self.drop_next_ns, self.count)
                    return marked
                packet, ok_to_drop = self.do_dequeue(now_ns)
                if ok_to_drop:
                    self.drop_next_ns = self.control_law(self.drop_next_ns, self.count)
                else:
                    self.dropping = False
        elif ok_to_drop:
            packet = self.punish(now_ns, packet, self.ecn) or self.do_dequeue(now_ns)[0]
            self.dropping = True
            delta = self.count - self.last_count
            recent = now_ns - self.drop_next_ns < 16 * self.interval_ns
            self.count = delta if delta > 1 and recent else 1
            self.drop_next_ns = self.control_law(now_ns, self.count)
            self.last_count = self.count
        return packet


@dataclass
class Red(Fifo):
    """Floyd and Jacobson 1993, figure 2, with the queue in bytes; gentle as Floyd's note of 2000 has it."""

    draws: Draws = field(default_factory=lambda: Draws(0))
    least: int = 5000
    most: int = 15000
    probability: float = 0.1
    weight: float = 1 / 512
    gentle: bool = False
    average: float = 0.0
    count: int = -1
    free_ns: int = 0
    typical_ns: Fraction = Fraction(1)

    def chance(self) -> float:
        if self.average < self.least:
            return 0.0
        if self.average < self.most:
            return self.probability * (self.average - self.least) / (self.most - self.least)
        if self.gentle and self.average < 2 * self.most:
            return self.probability + (1 - self.probability) * (self.average - self.most) / self.most
        return 1.0

    def enqueue(self, now_ns: int, packet: Sent, waits: bool) -> None:
        if waits:
            self.average += self.weight * (self.bytes - self.average)
        else:
            self.average *= (1 - self.weight) ** ((now_ns - self.free_ns) // self.typical_ns)
        if waits and self.packets >= self.limit:
            self.dropped.append(packet.number)
        elif judged := self.judge(now_ns, packet):
            self.push(judged)

    def judge(self, now_ns: int, packet: Sent) -> Sent | None:
        if self.average < self.least:
            self.count = -1
            return packet
        self.count += 1
        chance = self.chance()
        if chance == 0.0:
            return packet
        chance = chance / (1 - self.count * chance) if self.count * chance < 1 else 1.0
        if self.draws.next() >= chance * 2.0**64:
            return packet
        self.count = 0
        return self.punish(now_ns, packet, self.ecn and self.average < self.most)


TUNINGS = ((1e-6, 2048), (1e-5, 512), (1e-4, 128), (1e-3, 32), (1e-2, 8), (1e-1, 2))


@dataclass
class Pie(Fifo):
    """RFC 8033, appendix A, with time stamps; each update by itself, when its time has come."""

    draws: Draws = field(default_factory=lambda: Draws(0))
    target_ns: int = 15 * MILLISECOND
    interval_ns: int = 15 * MILLISECOND
    burst_ns: int = 150 * MILLISECOND
    mark_below: float = 0.1
    alpha_microhertz: int = 125_000
    beta_microhertz: int = 1_250_000
    caps: bool = True
    derandomizes: bool = True
    turns_off: bool = False
    share: Fraction = Fraction(WORST)
    drop_prob: float = 0.0
    accu_prob: float = 0.0
    qdelay_ns: int = 0
    qdelay_old_ns: int = 0
    allowance_ns: int = 0
    update_ns: int | None = None
    certain: int = 0

    def update(self) -> None:
        calm = self.qdelay_ns < self.target_ns // 2 and self.qdelay_old_ns < self.target_ns // 2
        p = self.alpha_microhertz * (self.qdelay_ns - self.target_ns) / 1e15
        p += self.beta_microhertz * (self.qdelay_ns - self.qdelay_old_ns) / 1e15
        p /= next((divisor for bound, divisor in TUNINGS if self.drop_prob < bound), 1)
        if self.caps and self.drop_prob >= 0.1:
            p = min(p, 0.02)
        self.drop_prob += p
        if calm:
            self.drop_prob *= 1 - 1 / 64
        self.drop_prob = min(1.0, max(0.0, self.drop_prob))
        self.qdelay_old_ns = self.qdelay_ns
        self.allowance_ns = max(0, self.allowance_ns - self.interval_ns)

    def catch_up(self, now_ns: int) -> None:
        while self.update_ns is not None and self.update_ns <= now_ns:
            self.update()
            self.update_ns += self.interval_ns

    def drop_early(self) -> bool:
        if (self.qdelay_old_ns < self.target_ns // 2 and self.drop_prob < 0.2) or self.bytes <= 2 * 1024:
            return False
        if self.drop_prob == 0:
            self.accu_prob = 0.0
        if self.derandomizes:
            self.accu_prob += self.drop_prob
            if self.accu_prob < 0.85:
                return False
        if self.accu_prob < 8.5 and self.draws.next() >= self.drop_prob * 2.0**64:
            return False
        self.certain += self.accu_prob >= 8.5
        self.accu_prob = 0.0
        return True

    def admit(self, now_ns: int, packet: Sent) -> Sent | None:
        if self.update_ns is None:
            if self.turns_off and 3 * self.packets < self.share:
                return packet
            self.drop_prob = self.accu_prob = 0.0
            self.qdelay_old_ns, self.allowance_ns = 0, self.burst_ns
            self.update_ns = now_ns + self.interval_ns
            if self.turns_off:
                return packet
        self.catch_up(now_ns)
        admitted: Sent | None = packet
        if self.allowance_ns == 0 and self.drop_early():
            admitted = self.punish(now_ns, packet, self.ecn and self.drop_prob < self.mark_below)
        if self.drop_prob == 0 and max(self.qdelay_ns, self.qdelay_old_ns) < self.target_ns // 2:
            self.allowance_ns = self.burst_ns
            if self.turns_off and not self.packets:
                self.update_ns = None
        return admitted

    def enqueue(self, now_ns: int, packet: Sent, waits: bool) -> None:
        if waits and self.packets >= self.limit:
            self.dropped.append(packet.number)
        elif admitted := self.admit(now_ns, packet):
            self.push(admitted)

    def take_over(self, packets: Iterable[Sent]) -> None:
        """As if each came anew when it came, to a queue that no packet has left yet."""
        for packet in packets:
            if admitted := self.admit(packet.time_ns, packet):
                self.push(admitted)

    def dequeue(self, now_ns: int) -> Sent | None:
        self.catch_up(now_ns)
        packet = self.pop()
        if packet:
            self.qdelay_ns = now_ns - packet.time_ns if self.waiting else 0
        return packet


@dataclass
class Fair:
    """RFC 8290, section 4: the scheduler of FQ-CoDel, over one judge for each of its queues."""

    judges: list[Codel] | list[Pie]
    seed: int
    quantum: int = 1514
    limit: int = WORST
    new: deque[int] = field(default_factory=deque)
    old: deque[int] = field(default_factory=deque)
    credits: dict[int, int] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)

    @property
    def packets(self) -> int:
        return sum(judge.packets for judge in (self.judges[i] for i in (*self.new, *self.old)))

    @property
    def punished(self) -> list[tuple[int, int]]:
        return sorted(entry for judge in self.judges for entry in judge.punished)

    def enqueue(self, now_ns: int, packet: Sent, waits: bool) -> None:
        if not waits:
            self.new.clear()
            self.old.clear()
        self.admit(now_ns, packet)
        while waits and self.packets > self.limit:
            fattest = max((*self.new, *self.old), key=lambda i: self.judges[i].bytes)
            dropped = self.judges[fattest].pop()
            assert dropped
            self.dropped.append(dropped.number)

    def admit(self, now_ns: int, packet: Sent) -> None:
        index = queue_index(packet.frame, len(self.judges), self.seed)
        judge = self.judges[index]
        admitted = judge.admit(now_ns, packet) if isinstance(judge, Pie) else packet
        if admitted is None:
            return
        judge.push(admitted)
        if index not in self.new and index not in self.old:
            self.new.append(index)
            self.credits[index] = self.quantum

    def oldest_first(self) -> list[Sent]:
        """Of those that came together, those of the first queues first."""
        return sorted(
            (packet for judge in self.judges for packet in judge.waiting), key=lambda one: one.time_ns
        )

    def take_over(self, packets: Iterable[Sent]) -> None:
        for packet in packets:
            self.admit(packet.time_ns, packet)

    def dequeue(self, now_ns: int) -> Sent | None:
        while turns := self.new or self.old:
            index = turns[0]
            if self.credits[index] <= 0:
                self.credits[index] += self.quantum
                self.old.append(turns.popleft())
                continue
            packet = self.judges[index].dequeue(now_ns)
            if packet:
                self.credits[index] -= packet.length
                return packet
            turns.popleft()
            if turns is self.new:
                self.old.append(index)
        return None


Discipline = Fifo | Fair


@dataclass
class Link:
    """A transmitter and the discipline before it. Services that start at a frame's arrival come first."""

    bandwidth_bps: int
    discipline: Discipline
    free: Fraction = Fraction(0)
    ready_ns: int = 0
    arrivals: list[tuple[int, Sent]] = field(default_factory=list)

    def send(self, now_ns: int, packet: Sent) -> None:
        self.run(now_ns)
        if isinstance(self.discipline, Red):
            self.discipline.free_ns = floor(self.free)
            self.discipline.typical_ns = Fraction(512 * 8 * SECOND, self.bandwidth_bps)
        if self.discipline.packets == 0:
            self.ready_ns = now_ns
        waits = self.discipline.packets > 0 or self.free > now_ns
        self.discipline.enqueue(now_ns, replace(packet, time_ns=now_ns), waits)
        if not waits:
            self.run(now_ns)

    def change(self, now_ns: int, bandwidth_bps: int) -> None:
        self.run(now_ns)
        if bandwidth_bps != self.bandwidth_bps:
            self.free = Fraction(ceil(self.free))
        self.bandwidth_bps = bandwidth_bps

    def change_discipline(self, now_ns: int, discipline: Discipline) -> None:
        self.run(now_ns)
        discipline.take_over(self.discipline.oldest_first())
        self.discipline = discipline

    def run(self, until_ns: int) -> None:
        while self.discipline.packets:
            start = max(self.free, Fraction(self.ready_ns))
            if start > until_ns:
                return
            packet = self.discipline.dequeue(floor(start))
            if packet is None:
                return
            self.free = start + Fraction(packet.length * 8 * SECOND, self.bandwidth_bps)
            self.arrivals.append((floor(self.free), packet))

    def take(self, until_ns: int) -> list[tuple[int, bytes]]:
        self.run(until_ns)
        due = [(time_ns, packet.frame) for time_ns, packet in self.arrivals if time_ns <= until_ns]
        self.arrivals = [entry for entry in self.arrivals if entry[0] > until_ns]
        return due


class Bench:
    """The engine's link: two PORTs with the MTU of Ethernet, and what is between them."""

    def __init__(self, seed: int = 1, mtu: int = MTU) -> None:
        self.switch = Switch(pool_limit_bytes=1 << 31)
        self.near = self.switch.add_node(core.PORT)
        self.far = self.switch.add_node(core.PORT)
        self.pipe, _ = self.switch.add_link(
            self.switch.add_interface(self.near, mac(1), mtu),
            self.switch.add_interface(self.far, mac(2), mtu),
            seed,
            0,
        )

    def shape(self, bandwidth_bps: int, limit: int | None = None, **shaping: object) -> None:
        self.switch.set_pipe(
            self.pipe, bandwidth_bps=bandwidth_bps, queue_limit_packets=limit, shaping=dict(shaping)
        )

    def send(self, now_ns: int, packets: Iterable[Sent]) -> None:
        self.switch.run(now_ns)
        for packet in packets:
            self.switch.inject(self.near, packet.frame)

    def take(self, until_ns: int) -> list[tuple[int, bytes]]:
        self.switch.run(until_ns)
        return self.switch.take_frames(self.far)

    def counted(self, counter: str) -> int:
        return self.switch.pipe_statistics(self.pipe)[counter]

    def close(self) -> None:
        assert self.switch.statistics()["packets_in_use"] == 0
        self.switch.close()
