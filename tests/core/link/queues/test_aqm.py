"""Disciplines that judge packets, against models by their papers and RFCs: each departure, drop and mark."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from flows import ip6
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import (
    CE,
    ECT,
    NOT_ECT,
    WORST,
    Bench,
    Codel,
    Discipline,
    Draws,
    Fair,
    Fifo,
    Link,
    Pie,
    Red,
    Sent,
    number_of,
)
from lab import TYPE_IP4, TYPE_IP6, checksum, ether, ip4
from timeline import MILLISECOND, SECOND, mac

pytestmark = pytest.mark.engine

SEED = 0x5EED
RATE = 10_000_000


@dataclass(frozen=True)
class Case:
    """A discipline's settings, for both."""

    shaping: dict[str, object]
    limit: int | None = None

    def model(self, draws: Draws | None = None) -> Discipline:
        """A model that begins; its draws are the first of the pipe's, or go on from those that are given."""
        limit = WORST if self.limit is None else self.limit
        given = dict(self.shaping)
        name, ecn = given.pop("discipline"), bool(given.pop("ecn", False))
        draws = draws or Draws.of(SEED)
        if name == "droptail":
            return Fifo(limit)
        if name == "red":
            return Red(
                limit,
                ecn,
                draws=draws,
                least=given["least_bytes"],
                most=given["most_bytes"],
                probability=given["probability"],
                weight=0.5 ** given["average_shift"],
                gentle=given["gentle"],
            )
        flows, quantum = given.pop("flows", 1), given.pop("quantum_bytes", 1514)
        judges = [
            Codel(WORST if flows > 1 else limit, ecn, **given)
            if "codel" in name
            else Pie(WORST if flows > 1 else limit, ecn, draws=draws, share=Fraction(limit, flows), **given)
            for _ in range(flows)
        ]
        return Fair(judges, SEED, quantum, limit) if name.startswith("fq_") else judges[0]


LIMITS = st.sampled_from([None, None, 1, 7, 40])
ECN = st.booleans()
CODELS = st.fixed_dictionaries(
    {
        "ecn": ECN,
        "target_ns": st.sampled_from([1, 200_000, 5 * MILLISECOND, 50 * MILLISECOND]),
        "interval_ns": st.sampled_from([1, 7, 1_000_003, 20 * MILLISECOND, 100 * MILLISECOND, 10**12]),
    }
)
PIES = st.fixed_dictionaries(
    {
        "ecn": ECN,
        "target_ns": st.sampled_from([2, 300_000, 15 * MILLISECOND, 100 * MILLISECOND]),
        "interval_ns": st.sampled_from([999_983, 15 * MILLISECOND, 40 * MILLISECOND]),
        "burst_ns": st.sampled_from([0, 0, 30 * MILLISECOND, 150 * MILLISECOND]),
        "alpha_microhertz": st.sampled_from([125_000, 125_000, 0, 1, 250_000, 7_000_000]),
        "beta_microhertz": st.sampled_from([1_250_000, 1_250_000, 0, 2_500_000, 7_000_000]),
        "caps": st.booleans(),
        "derandomizes": st.booleans(),
        "turns_off": st.booleans(),
    }
)
FLOWS = st.fixed_dictionaries(
    {"flows": st.sampled_from([2, 3, 16, 1024]), "quantum_bytes": st.sampled_from([100, 300, 1514, 5000])}
)
CASES = {
    "codel": CODELS,
    "pie": PIES,
    "fq_codel": st.tuples(CODELS, FLOWS).map(lambda parts: parts[0] | parts[1]),
    "fq_pie": st.tuples(PIES, FLOWS).map(lambda parts: parts[0] | parts[1]),
    "red": st.fixed_dictionaries(
        {
            "ecn": ECN,
            "gentle": st.booleans(),
            "least_bytes": st.sampled_from([1, 1500, 5000]),
            "most_bytes": st.sampled_from([5001, 15_000, 30_000]),
            "probability": st.sampled_from([0.02, 0.1, 0.5, 1.0]),
            "average_shift": st.sampled_from([1, 2, 4, 9]),
        }
    ),
}


def traffic(random: Random, bandwidth_bps: int) -> list[tuple[int, list[Sent]]]:
    """Stretches of steady load, bursts and silence: (time, frames that come together)."""
    sent: list[tuple[int, list[Sent]]] = []
    now_ns = number = 0
    for _ in range(random.randint(1, 12)):
        kind = random.choice(["load", "load", "load", "burst", "silence"])
        if kind == "silence":
            now_ns += random.choice([10**6, 10**8, 10**9, 10**11])
            continue
        flows = random.choice([1, 1, 3, 8])
        factor = random.choice([0.5, 1.0, 1.1, 2.0, 8.0])
        lengths = random.choice([[1514], [600, 1514, 38], [64]])
        for _ in range(random.randint(1, 150)):
            packets = []
            for _ in range(random.randint(5, 40) if kind == "burst" else 1):
                ecn = random.choice([NOT_ECT, ECT, 1, 3])
                packets.append(Sent(number, random.choice(lengths), random.randrange(flows), ecn))
                number += 1
            sent.append((now_ns, packets))
            if kind == "burst":
                break
            now_ns += int(
                packets[0].length * 8 * SECOND / bandwidth_bps / factor * random.choice([0.5, 1.5, 1.0])
            )
    return sent


def run_both(cases: list[Case], bandwidth_bps: int, random: Random) -> tuple[Bench, list[Discipline]]:
    """Put the same traffic through the engine and the models; bandwidth and case change on the way.

    Returns the models, the last one last.
    """
    bench = Bench(SEED)
    draws = Draws.of(SEED)
    case, *later = cases
    model = case.model(draws)
    models = [model]
    link = Link(bandwidth_bps, model)
    bench.shape(bandwidth_bps, case.limit, **case.shaping)
    now_ns = 0
    for now_ns, packets in traffic(random, bandwidth_bps):
        bench.send(now_ns, packets)
        for packet in packets:
            link.send(now_ns, packet)
        if random.random() < 0.01:
            bandwidth_bps = random.choice([bandwidth_bps, bandwidth_bps // 3, bandwidth_bps * 2])
            bench.shape(bandwidth_bps, case.limit, **case.shaping)
            link.change(now_ns, bandwidth_bps)
        if later and model.packets and random.random() < 0.1:
            case, *later = later
            model = case.model(draws)
            bench.shape(bandwidth_bps, case.limit, **case.shaping)
            link.change_discipline(now_ns, model)
            models.append(model)
        assert bench.take(now_ns) == link.take(now_ns)
        statistics = bench.switch.pipe_statistics(bench.pipe)
        assert statistics["queue_drop_packets"] == sum(len(one.dropped) for one in models)
        punished = sum(len(one.punished) for one in models)
        assert statistics["early_drop_packets"] + statistics["marked_packets"] == punished
        assert statistics["waiting_packets"] == model.packets
        if isinstance(model, Red | Pie):
            chance = model.chance() if isinstance(model, Red) else model.drop_prob
            if isinstance(model, Pie) and model.update_ns is not None:
                model.catch_up(now_ns)
                chance = model.drop_prob
            # RED's average is in 1/2^32 bytes here, of which each packet may lose one.
            near = 1e-6 / (model.most - model.least) if isinstance(model, Red) else 1e-12
            assert statistics["drop_probability"] == pytest.approx(chance, rel=1e-9, abs=near)
        if isinstance(model, Red):
            assert statistics["average_bytes"] == pytest.approx(model.average, abs=1.01)
    assert bench.take(now_ns + 10**13) == link.take(now_ns + 10**13)
    return bench, models


@pytest.mark.parametrize("discipline", CASES)
def test_a_discipline_does_what_its_source_says(discipline: str) -> None:
    judged = dropped = 0

    @settings(derandomize=True, deadline=None, max_examples=60, database=None)
    @given(
        CASES[discipline],
        LIMITS,
        st.sampled_from([100_000, 1_000_000, 10_000_000, 976_000_000]),
        st.integers(0, 1 << 32),
    )
    def compare(shaping: dict[str, object], limit: int | None, bandwidth_bps: int, seed: int) -> None:
        nonlocal judged, dropped
        case = Case({"discipline": discipline, **shaping}, limit)
        bench, models = run_both([case], bandwidth_bps, Random(seed))
        bench.close()
        judged += len(models[-1].punished)
        dropped += len(models[-1].dropped)

    compare()
    assert judged > 100 and dropped > 100


NAMES = [*CASES, "droptail"]


@pytest.mark.parametrize("discipline", CASES)
def test_what_waits_goes_over_to_another_discipline(discipline: str) -> None:
    """To this one from each of the others, and from it: what waits is queued anew, the oldest first."""
    pairs: set[tuple[str, str]] = set()

    @settings(derandomize=True, deadline=None, max_examples=12, database=None)
    @given(st.data(), LIMITS, st.sampled_from([1_000_000, 10_000_000]), st.integers(0, 1 << 32))
    def compare(data: st.DataObject, limit: int | None, bandwidth_bps: int, seed: int) -> None:
        others = data.draw(st.permutations([name for name in NAMES if name != discipline]))
        names = [name for other in others for name in (other, discipline)]
        cases = [
            Case({"discipline": name, **(data.draw(CASES[name]) if name in CASES else {})}, limit)
            for name in names
        ]
        bench, models = run_both(cases, bandwidth_bps, Random(seed))
        bench.close()
        pairs.update(pairwise(names[: len(models)]))

    compare()
    assert len(pairs) == 2 * (len(NAMES) - 1)


def test_codel_drops_at_the_very_nanosecond() -> None:
    """A frame a nanosecond, so that each drop comes exactly when interval / sqrt(count) is over."""
    bench = Bench(SEED, mtu=68)
    shaping = {"target_ns": 5, "interval_ns": 10_007}
    bench.shape(480 * SECOND, discipline="codel", **shaping)
    model = Codel(mtu=68, **shaping)
    link = Link(480 * SECOND, model)
    packets = [Sent(number, 60) for number in range(60_000)]
    bench.send(0, packets)
    for packet in packets:
        link.send(0, packet)
    assert bench.take(SECOND) == link.take(SECOND)
    times = [time_ns for time_ns, _ in model.punished]
    assert times[:4] == [10_012, 20_019, 27_095, 32_872] and len(times) == 10
    bench.close()


@pytest.mark.parametrize("pause", [15.5, 16.5])
def test_codel_remembers_its_rate_for_sixteen_intervals(pause: float) -> None:
    """Section 5.5: it begins near the rate that controlled the queue before, if that is not long ago."""
    interval_ns = 2 * MILLISECOND
    case = Case({"discipline": "codel", "target_ns": 50_000, "interval_ns": interval_ns})
    bench, model = Bench(SEED), case.model()
    assert isinstance(model, Codel)
    link = Link(100_000_000, model)
    bench.shape(100_000_000, **case.shaping)
    begin_ns = 0
    for episode in range(2):
        for k in range(400):
            packet = Sent(400 * episode + k, 1514)
            bench.send(begin_ns + k * 60_000, [packet])
            link.send(begin_ns + k * 60_000, packet)
        until_ns = begin_ns + 60 * MILLISECOND
        assert bench.take(until_ns) == link.take(until_ns)
        if episode == 0:
            assert model.count > 10 and model.last_count == 1
            begin_ns = model.drop_next_ns + int((pause - 1) * interval_ns)
    assert (model.last_count > 1) == (pause < 16)
    bench.close()


def test_pie_drops_for_sure_what_chance_has_spared_too_long() -> None:
    """Section 5.4: once in two thousand drops it comes at 8.5; with this seed before the run is over."""
    bench, model = Bench(seed=3), Pie(draws=Draws.of(3))
    link = Link(100_000_000, model)
    bench.shape(100_000_000, discipline="pie")
    for number in range(20_000):
        packet = Sent(number, 1514)
        bench.send(number * 105_000, [packet])
        link.send(number * 105_000, packet)
    assert bench.take(100 * SECOND) == link.take(100 * SECOND)
    assert model.certain == 1
    assert bench.counted("early_drop_packets") == len(model.punished)
    bench.close()


@pytest.mark.parametrize("frequency", ["alpha_microhertz", "beta_microhertz"])
def test_pie_has_frequencies_in_a_range(frequency: str) -> None:
    bench = Bench()
    for value in (-1, 7_000_001):
        with pytest.raises(ValueError, match=f"{frequency} {value}: allowed are 0 to 7000000"):
            bench.shape(RATE, discipline="pie", **{frequency: value})
    bench.close()


def test_pie_that_turns_off_judges_nothing_before_a_third_is_filled() -> None:
    """Thirty frames wait for seconds, of ninety-three; one more, and it begins, by its rules."""
    dropped = []
    for waiting in (30, 31, 32):
        bench = Bench(SEED)
        bench.shape(1_000_000, 93, discipline="pie", burst_ns=0, turns_off=True)
        bench.send(0, [Sent(number, 1514) for number in range(waiting + 1)])
        now_ns = number = 0
        while number < 1000:
            number += 1
            now_ns += 1514 * 8000
            bench.send(now_ns, [Sent(number, 1514)])
        dropped.append(bench.counted("early_drop_packets"))
        bench.take(now_ns + 10 * SECOND)
        bench.close()
    assert dropped[0] == 0
    assert dropped[2] > 10


@pytest.mark.parametrize("target_ns", [2, 15 * MILLISECOND, 121 * SECOND, 300 * SECOND, 10**12])
def test_pie_makes_up_for_long_silence(target_ns: int) -> None:
    """A frame takes two minutes here: thousands of updates between two departures, none of them seen."""
    case = Case({"discipline": "pie", "target_ns": target_ns, "burst_ns": 0}, 30)
    bench, model = Bench(SEED), case.model()
    assert isinstance(model, Pie)
    link = Link(100, model)
    bench.shape(100, case.limit, **case.shaping)
    random = Random(SEED)
    now_ns = number = 0
    for _ in range(40):
        now_ns += random.choice([10**6, 15 * MILLISECOND, SECOND, 60 * SECOND, 300 * SECOND])
        packets = [Sent(number + k, random.choice([60, 1514])) for k in range(random.choice([1, 2, 12]))]
        number += len(packets)
        bench.send(now_ns, packets)
        for packet in packets:
            link.send(now_ns, packet)
        model.catch_up(now_ns)
        assert bench.counted("drop_probability") == pytest.approx(model.drop_prob, rel=1e-9, abs=1e-12)
    assert bench.take(10**15) == link.take(10**15)
    bench.close()


def mixed(number: int) -> bytes:
    """In turn: IPv4 and IPv6 that can be marked, IPv4 that cannot; some IPv4 with two VLAN tags."""
    payload = number.to_bytes(4, "big").ljust(960, b"\0")
    if number % 3 == 1:
        packet = ip6("fd00::1", "fd00::2", payload, protocol=253, traffic_class=0xB8 | 1)
        return ether(mac(2), mac(1), TYPE_IP6, packet)
    packet = ip4(
        "10.0.0.1", "10.0.0.2", payload, protocol=253, tos=0xB8 | (ECT if number % 3 == 0 else NOT_ECT)
    )
    if number % 2:
        return ether(mac(2), mac(1), 0x88A8, b"\0\5\x81\0\0\6" + TYPE_IP4.to_bytes(2, "big") + packet)
    return ether(mac(2), mac(1), TYPE_IP4, packet)


@pytest.mark.parametrize("discipline", ["red", "codel", "pie", "fq_codel", "fq_pie"])
def test_what_can_be_marked_is_marked_and_the_rest_dropped(discipline: str) -> None:
    bench = Bench(SEED)
    bench.shape(
        RATE,
        discipline=discipline,
        flows=1,
        ecn=True,
        probability=1.0,
        least_bytes=1000,
        most_bytes=1_000_000,
    )
    frames = [mixed(number) for number in range(6000)]
    arrived = []
    for number, frame in enumerate(frames):
        bench.switch.run(number * 770_000)
        bench.switch.inject(bench.near, frame)
        arrived += bench.take(number * 770_000)
    arrived += bench.take(60 * SECOND)
    marked = {4: 0, 6: 0}
    left = set(range(6000))
    for _, frame in arrived:
        place = 22 if frame[12:14] == b"\x88\xa8" else 14
        version = frame[place] >> 4
        number = int.from_bytes(frame[place + (20 if version == 4 else 40) :][:4], "big")
        left.remove(number)
        assert len(frame) == len(frames[number])
        if frame == frames[number]:
            continue
        marked[version] += 1
        assert number % 3 != 2
        if version == 6:
            assert frame == frames[number][:15] + bytes([frames[number][15] | 0x30]) + frames[number][16:]
        else:
            assert frame[place + 1] == 0xB8 | CE and checksum(frame[place : place + 20]) == 0
            assert frame[place + 2 : place + 10] == frames[number][place + 2 : place + 10]
            assert frame[place + 12 :] == frames[number][place + 12 :]
    assert all(number % 3 == 2 for number in left)
    assert len(left) == bench.counted("early_drop_packets") > 10
    assert sum(marked.values()) == bench.counted("marked_packets") and min(marked.values()) > 10
    bench.close()


def test_a_change_keeps_what_a_discipline_has_learned() -> None:
    bench = Bench(SEED)
    red = {"discipline": "red", "least_bytes": 5000, "most_bytes": 50_000, "average_shift": 2}
    bench.shape(RATE, **red)
    bench.send(0, [Sent(number, 1000) for number in range(20)])
    average_bytes = bench.counted("average_bytes")
    assert average_bytes > 5000
    bench.shape(2 * RATE, **(red | {"most_bytes": 60_000}), duplicate=0.0)
    assert bench.counted("average_bytes") == average_bytes
    bench.shape(2 * RATE, discipline="fq_codel")
    assert bench.counted("average_bytes") == 0
    bench.shape(2 * RATE, **red)
    assert bench.counted("average_bytes") == 0
    kept = [number_of(frame) for _, frame in bench.take(SECOND)]
    assert kept == sorted(kept) and len(kept) + bench.counted("early_drop_packets") == 20
    bench.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"least_bytes": 5000, "most_bytes": 5000},
        {"least_bytes": 1, "most_bytes": 1 << 31},
        {"probability": 1.5},
    ],
)
def test_settings_that_cannot_be_leave_the_old_ones_in_force(wrong: dict[str, object]) -> None:
    bench = Bench(SEED)
    red = {"discipline": "red", "least_bytes": 1, "most_bytes": 2, "average_shift": 0}
    bench.shape(RATE, **red)
    with pytest.raises(ValueError, match=r"bytes|probability"):
        bench.shape(RATE, **(red | wrong))
    bench.send(0, [Sent(number, 1000) for number in range(4)])
    assert bench.counted("early_drop_packets") == len(bench.take(SECOND)) == 2
    bench.close()
