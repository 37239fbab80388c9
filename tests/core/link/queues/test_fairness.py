"""What the papers promise of fair queues, held against what the engine sends at one byte a nanosecond."""

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from flows import flow_frame, precedence
from schedulers import Discipline
from timeline import SECOND, Wire

pytestmark = pytest.mark.engine

SEED = 0x5EED
LONGEST = 1514
WEIGHTS = (1, 2, 3, 5, 10, 30, 100, 1000)
SHARING = ["round_robin", "drr", "wfq", "qfq"]
SEEDS = range(10)


@dataclass(frozen=True)
class Sent:
    flow: int
    length: int
    band: int
    sent_ns: int
    start_ns: int
    end_ns: int


def carry(discipline: Discipline, sends: list[tuple[int, int, int, int]]) -> list[Sent]:
    """Send (time, flow, length, precedence), the times rising; what left, in its order."""
    wire = Wire(SEED)
    try:
        wire.switch.set_pipe(wire.pipe, bandwidth_bps=8 * SECOND, shaping=discipline.shaping())
        for number, (time_ns, flow, length, band) in enumerate(sends):
            wire.switch.run(time_ns)
            wire.switch.inject(wire.near, flow_frame(flow, number, length, band))
        arrived = wire.arrivals(sends[-1][0] + SECOND)
        assert wire.in_balance() and len(arrived) == len(sends)
    finally:
        wire.switch.close()
    left = []
    for time_ns, frame in arrived:
        sent_ns, flow, length, band = sends[int.from_bytes(frame[42:46], "big")]
        assert (length, band) == (len(frame), precedence(frame))
        left.append(Sent(flow, length, band, sent_ns, time_ns - length, time_ns))
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(left))
    return left


def standing(seed: int, flows: int = 8, packets: int = 150) -> list[tuple[int, int, int, int]]:
    """Every flow has much to send from the start; flow f has precedence f."""
    random = Random(seed)
    lengths = {flow: random.choice([(64, 64), (64, LONGEST), (LONGEST, LONGEST)]) for flow in range(flows)}
    return [(0, flow, random.randint(*lengths[flow]), flow) for _ in range(packets) for flow in range(flows)]


def mixed(seed: int) -> list[tuple[int, int, int, int]]:
    """Flow 0 always has much to send; the others come in bursts."""
    random = Random(seed)
    sends = [(0, 0, random.choice([64, 700, LONGEST]), 3) for _ in range(800)]
    time_ns = 0
    while time_ns < 400_000:
        time_ns += random.randint(0, 6000)
        flow = random.randint(1, 7)
        length = random.choice([64, 64, 500, LONGEST])
        sends += [(time_ns, flow, length, flow)] * random.choice([1, 1, 1, 2, 10])
    return sends


def weight_of(sends: list[tuple[int, int, int, int]]) -> dict[int, int]:
    return {flow: WEIGHTS[band] for _, flow, _, band in sends}


def while_all_wait(left: list[Sent]) -> list[Sent]:
    """Up to where the first flow has nothing left."""
    lasts = {sent.flow: i for i, sent in enumerate(left)}
    return left[: min(lasts.values())]


def widest(values: list[Fraction]) -> Fraction:
    """The most that a later value is above an earlier one."""
    rise = lowest = Fraction(0)
    for value in values:
        rise = max(rise, value - lowest)
        lowest = min(lowest, value)
    return rise


@pytest.mark.parametrize("quantum_bytes", [300, LONGEST, 4000])
def test_drr_keeps_any_two_flows_within_a_quantum_and_two_packets(quantum_bytes: int) -> None:
    """Shreedhar and Varghese, theorem 2: over any time in which both always wait."""
    for seed in SEEDS:
        weights = (1, 1, 2, 3, 1, 4, 2, 1)
        left = while_all_wait(
            carry(Discipline("drr", quantum_bytes=quantum_bytes, weights=weights), standing(seed))
        )
        for a in range(8):
            for b in range(a):
                ahead, steps = Fraction(0), [Fraction(0)]
                for sent in left:
                    if sent.flow in (a, b):
                        ahead += Fraction(sent.length, weights[sent.flow]) * (1 if sent.flow == a else -1)
                        steps.append(ahead)
                assert max(widest(steps), widest([-step for step in steps])) < quantum_bytes + 2 * LONGEST


def missing_service(left: list[Sent], flow: int, share: Fraction) -> Fraction:
    """The most bytes that a flow is behind its share, from any time to the end of one of its packets."""
    behind = lowest = worst = Fraction(0)
    for sent in left:
        behind += share * sent.length
        if sent.flow == flow:
            behind -= sent.length
            worst = max(worst, behind - lowest)
        lowest = min(lowest, behind)
    return worst


@pytest.mark.parametrize("traffic", [standing, mixed])
@pytest.mark.parametrize("name", ["wfq", "qfq"])
def test_worst_case_fairness(name: str, traffic: object) -> None:
    """B-WFI. WF2Q+: L + (Lmax - L) share (Bennett and Zhang, theorem 4); QFQ: 3 slots and 2 Lmax share."""
    for seed in SEEDS:
        sends = traffic(seed)
        weights = weight_of(sends)
        left = carry(Discipline(name, weights=WEIGHTS), sends)
        left = (
            while_all_wait(left)
            if traffic is standing
            else left[: max(i for i, s in enumerate(left) if s.flow == 0)]
        )
        for flow, weight in weights.items() if traffic is standing else [(0, weights[0])]:
            share = Fraction(weight, sum(weights.values()))
            longest = max(length for _, f, length, _ in sends if f == flow)
            slot = next(1 << i for i in range(18) if weight << i >= LONGEST)
            bound = (
                longest + (LONGEST - longest) * share
                if name == "wfq"
                else 3 * slot * weight + 2 * share * LONGEST
            )
            assert missing_service(left, flow, share) <= bound + 1, (seed, flow)


@pytest.mark.parametrize("name", ["wfq", "qfq"])
def test_no_packet_is_later_than_with_its_share_for_itself(name: str) -> None:
    """WF2Q+: by one longest packet at most; QFQ: by three slots of its group and two longest packets."""
    for seed in SEEDS:
        sends = mixed(seed)
        weights = weight_of(sends)
        total = sum(weights.values())
        alone: defaultdict[int, Fraction] = defaultdict(Fraction)
        for sent in carry(Discipline(name, weights=WEIGHTS), sends):
            weight = weights[sent.flow]
            alone[sent.flow] = max(Fraction(sent.sent_ns), alone[sent.flow]) + Fraction(
                sent.length * total, weight
            )
            slot = next(1 << i for i in range(18) if weight << i >= LONGEST)
            allowed = LONGEST if name == "wfq" else 3 * slot * total + 2 * LONGEST
            assert sent.end_ns <= alone[sent.flow] + allowed + 1, (seed, sent)


def test_a_heavy_flow_is_not_served_in_bursts() -> None:
    """Bennett and Zhang's example: half of the link for one flow, a twentieth for each of ten."""
    sends = [(0, 0, 1000, 1)] * 11 + [(0, flow, 1000, 0) for flow in range(1, 11)]
    left = carry(Discipline("wfq", weights=(1, 10, 1, 1, 1, 1, 1, 1)), sends)
    assert [sent.flow == 0 for sent in left] == [True, False] * 10 + [True]


@pytest.mark.parametrize("seed", SEEDS)
def test_round_robin_serves_no_other_twice_while_a_flow_waits(seed: int) -> None:
    left = carry(Discipline("round_robin"), mixed(seed))
    for flow in range(8):
        since: set[int] = set()
        own = [sent for sent in left if sent.flow == flow]
        waits_until = {id(sent): following.sent_ns < sent.end_ns for sent, following in pairwise(own)}
        waits = False
        for sent in left:
            if sent.flow == flow:
                since, waits = set(), waits_until.get(id(sent), False)
            elif waits:
                assert sent.flow not in since
                since.add(sent.flow)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_lower_precedence_is_served_while_a_higher_waits(seed: int) -> None:
    left = carry(Discipline("priority"), mixed(seed))
    for i, sent in enumerate(left):
        assert not any(later.band > sent.band and later.sent_ns < sent.start_ns for later in left[i + 1 :])


@pytest.mark.parametrize("name", [*SHARING, "priority"])
def test_two_runs_are_the_same(name: str) -> None:
    discipline = Discipline(name, flows=4, weights=WEIGHTS)
    assert carry(discipline, mixed(1)) == carry(discipline, mixed(1))


@pytest.mark.parametrize("name", ["drr", "wfq", "qfq"])
def test_shares_follow_the_weights(name: str) -> None:
    weights = (1, 2, 3, 10, 1, 1, 1, 1)
    sends = [(0, flow, 1000, flow) for _ in range(600) for flow in range(4)]
    sent = [0] * 4
    for packet in while_all_wait(carry(Discipline(name, quantum_bytes=1000, weights=weights), sends)):
        sent[packet.flow] += 1
    for flow in range(4):
        assert abs(Fraction(sent[flow], weights[flow]) - Fraction(sent[3], 10)) <= 4


def test_flows_of_one_queue_keep_their_order_and_share_it() -> None:
    sends = [(0, flow, 100, 0) for _ in range(20) for flow in range(6)]
    for name in SHARING:
        left = carry(Discipline(name, flows=1), sends)
        assert [sent.flow for sent in left] == [flow for _, flow, _, _ in sends]
