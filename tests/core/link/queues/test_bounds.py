"""The bounds that the papers and RFCs give, held by senders that slow down and senders that do not."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import sqrt
from statistics import NormalDist, fmean, quantiles

import pytest
from judges import CE, ECT, NOT_ECT, Bench, Sent, number_of
from timeline import MILLISECOND, SECOND, mac

from manystack.core import Switch
from manystack.core import _switch as core

SEED = 20260611
FALSE_ALARM = 1e-6
RATE = 10_000_000
LENGTH = 1514
SERVICE_NS = LENGTH * 8 * SECOND // RATE
RED = {"discipline": "red", "least_bytes": 20_000, "most_bytes": 60_000, "probability": 0.1}


@dataclass
class Sender:
    """A window that grows by one a round trip, and by each acknowledgement up to its threshold; a loss or a
    mark halves it, once a round trip, a second of silence begins anew (RFC 5681, without the details)."""

    flow: int
    ecn: int
    delay_ns: int
    window: float = 2.0
    threshold: float = 1e9
    in_flight: int = 0
    recovered_ns: int = 0
    heard_ns: int = 0

    def hears(self, now_ns: int, *, congestion: bool) -> None:
        self.in_flight -= 1
        self.heard_ns = now_ns
        if congestion:
            if now_ns >= self.recovered_ns:
                self.window = self.threshold = max(2.0, self.window / 2)
                self.recovered_ns = now_ns + self.delay_ns
        elif self.window < self.threshold:
            self.window += 1
        else:
            self.window += 1 / self.window


@dataclass
class Traffic:
    """Senders that share a link, and what became of their frames."""

    bench: Bench
    senders: list[Sender]
    sent: dict[int, Sent] = field(default_factory=dict)
    delays: list[tuple[int, int, Sent]] = field(default_factory=list)
    averages: list[int] = field(default_factory=list)

    def run(self, until_ns: int, extra: list[tuple[int, Sent]] | None = None) -> None:
        """Let the senders send until then, and others at fixed times beside them."""
        news: list[tuple[int, int, bool]] = []
        fixed = list(reversed(extra or []))
        waiting: dict[int, list[int]] = {sender.flow: [] for sender in self.senders}
        now_ns = number = 0
        while now_ns < until_ns:
            frames = []
            for sender in self.senders:
                if now_ns - sender.heard_ns > SECOND:
                    sender.window, sender.in_flight, sender.heard_ns = 2.0, 0, now_ns
                    waiting[sender.flow] = []
                while sender.in_flight < int(sender.window):
                    frames.append(Sent(number, LENGTH, sender.flow, sender.ecn, now_ns))
                    waiting[sender.flow].append(number)
                    sender.in_flight += 1
                    number += 1
            while fixed and fixed[-1][0] <= now_ns:
                frames.append(fixed.pop()[1])
            self.sent |= {frame.number: frame for frame in frames}
            self.bench.send(now_ns, frames)
            # A frame's fate is known when it or one behind it of its flow arrives; the news takes the delay.
            step_ns = now_ns + MILLISECOND
            for time_ns, frame in self.bench.take(step_ns):
                packet = self.sent[number_of(frame)]
                marked = frame[15] & 3 == CE
                self.delays.append((time_ns, time_ns - packet.time_ns, packet))
                for lost in waiting.get(packet.flow, ()):
                    if lost >= packet.number:
                        break
                    heappush(news, (time_ns, lost, True))
                if packet.flow in waiting:
                    waiting[packet.flow] = [n for n in waiting[packet.flow] if n > packet.number]
                    heappush(news, (time_ns, packet.number, marked))
            now_ns = step_ns
            if now_ns > 5 * SECOND:
                self.averages.append(self.bench.counted("average_bytes"))
            while news and news[0][0] + self.senders[0].delay_ns <= now_ns:
                _, number_heard, congestion = heappop(news)
                flow = self.sent[number_heard].flow
                next(s for s in self.senders if s.flow == flow).hears(now_ns, congestion=congestion)

    def waited(self, flow: int | None = None, after_ns: int = 5 * SECOND) -> list[float]:
        """Milliseconds in the queue, of the frames that arrived after the start was over."""
        return [
            (delay_ns - packet.length * 8 * SECOND / RATE) / 1e6
            for time_ns, delay_ns, packet in self.delays
            if time_ns > after_ns and flow in (None, packet.flow)
        ]

    def share(self, flow: int) -> float:
        """Of what the link can carry."""
        arrived = sum(packet.length for _, _, packet in self.delays if packet.flow == flow)
        return arrived * 8 * SECOND / RATE / self.delays[-1][0]


def senders(count: int, ecn: int = NOT_ECT, delay_ns: int = 50 * MILLISECOND) -> list[Sender]:
    return [Sender(flow, ecn, delay_ns) for flow in range(count)]


def crowd(shaping: dict[str, object], count: int, extra: list[tuple[int, Sent]] | None = None) -> Traffic:
    """Twelve seconds of so many senders over a 10 Mbit/s link with round trips of 50 ms."""
    bench = Bench(SEED)
    bench.shape(RATE, 1000, **shaping)
    traffic = Traffic(bench, senders(count, ECT if shaping.get("ecn") else NOT_ECT))
    traffic.run(12 * SECOND, extra)
    return traffic


def utilisation(traffic: Traffic, after_ns: int = 5 * SECOND) -> float:
    carried = [packet.length for time_ns, _, packet in traffic.delays if time_ns > after_ns]
    return sum(carried) * 8 * SECOND / RATE / (12 * SECOND - after_ns)


def test_without_a_judge_the_queue_stands() -> None:
    waited = crowd({"discipline": "droptail"}, 4).waited()
    assert quantiles(waited, n=20)[0] > 50 and fmean(waited) > 100


@pytest.mark.parametrize("ecn", [False, True])
@pytest.mark.parametrize("discipline", ["codel", "fq_codel"])
def test_codel_keeps_the_standing_delay_near_its_target(discipline: str, ecn: bool) -> None:
    """RFC 8289, section 3: what stands in the queue is its least; the rest is bursts. The link stays busy."""
    traffic = crowd({"discipline": discipline, "ecn": ecn}, 4)
    twentieths = quantiles(traffic.waited(), n=20)
    assert twentieths[0] < 5 and 2.5 < twentieths[9] < 10 and twentieths[-1] < 25
    assert utilisation(traffic) > 0.93
    assert (traffic.bench.counted("marked_packets") > 20) == ecn
    assert ecn == (traffic.bench.counted("early_drop_packets") == 0)


@pytest.mark.parametrize("ecn", [False, True])
@pytest.mark.parametrize(("discipline", "count"), [("pie", 4), ("pie", 10), ("fq_pie", 4)])
def test_pie_keeps_the_delay_near_its_target(discipline: str, count: int, ecn: bool) -> None:
    """RFC 8033, section 3: the mean near 15 ms, whatever the load, with the link busy."""
    traffic = crowd({"discipline": discipline, "ecn": ecn}, count)
    waited = traffic.waited()
    assert 12 < fmean(waited) < 22 and 12 < quantiles(waited, n=2)[0] < 20
    assert utilisation(traffic) > 0.97
    assert (traffic.bench.counted("marked_packets") > 20) == ecn


@pytest.mark.parametrize("gentle", [False, True])
def test_red_keeps_its_average_between_the_thresholds(gentle: bool) -> None:
    traffic = crowd(RED | {"gentle": gentle}, 10)
    assert min(traffic.averages) > 20_000 and max(traffic.averages) < 60_000
    assert utilisation(traffic) > 0.97


@pytest.mark.parametrize("discipline", ["fq_codel", "fq_pie"])
def test_a_sparse_flow_waits_a_round_at_most(discipline: str) -> None:
    """RFC 8290, section 3: a flow that sends less than a quantum a round goes first."""
    sparse = [
        (k * 20 * MILLISECOND, Sent(10**6 + k, 100, 77, NOT_ECT, k * 20 * MILLISECOND)) for k in range(590)
    ]
    traffic = crowd({"discipline": discipline}, 10, sparse)
    waited = traffic.waited(77)
    assert len(waited) > 300
    assert max(waited) < 11 * SERVICE_NS / 1e6 and quantiles(waited, n=2)[0] <= SERVICE_NS / 1e6


@pytest.mark.parametrize("discipline", ["fq_codel", "fq_pie"])
def test_flows_share_evenly_and_a_flood_hurts_only_itself(discipline: str) -> None:
    gap_ns = SERVICE_NS // 2
    flood = [
        (k * gap_ns, Sent(10**6 + k, LENGTH, 77, NOT_ECT, k * gap_ns)) for k in range(12 * SECOND // gap_ns)
    ]
    traffic = crowd({"discipline": discipline}, 4, flood)
    shares = [traffic.share(flow) for flow in range(4)]
    assert min(shares) > 0.9 / 5 and max(shares) < 1.02 / 5
    assert 0.98 / 5 < traffic.share(77) < 1.4 / 5
    assert all(quantiles(traffic.waited(flow), n=20)[-1] < 60 for flow in range(4))
    assert fmean(traffic.waited(77)) > 500


def test_red_spaces_its_drops_evenly() -> None:
    """A million judgements at one average: gaps are even over 1 to 1/p - 1 (figure 2 of the paper).

    A link of the same rate before it lets one frame come for each that leaves, and marks leave the queue as
    it is. So the average, of weight 1, stays in the middle of the thresholds, where p = 1/50.
    """
    switch = Switch()
    near, hub, far = (switch.add_node(kind) for kind in (core.PORT, core.HUB, core.PORT))
    before, _ = switch.add_link(switch.add_interface(near, mac(1)), switch.add_interface(hub, mac(2)))
    judged, _ = switch.add_link(switch.add_interface(hub, mac(3)), switch.add_interface(far, mac(4)), SEED)
    frame = Sent(0, 100, ecn=ECT).frame
    red = {"average_shift": 0, "probability": 0.04, "least_bytes": 3000, "most_bytes": 5000}
    switch.set_pipe(judged, bandwidth_bps=8 * SECOND, shaping={"discipline": "red", "ecn": True, **red})
    switch.inject(near, frame, 41)
    switch.run(0)
    switch.set_pipe(before, bandwidth_bps=8 * SECOND)
    fates = []
    for batch in range(1, 101):
        switch.inject(near, frame, 10_000)
        switch.run(batch * 1_000_000)
        assert switch.pipe_statistics(judged)["average_bytes"] == 4000
        fates += [arrived[15] & 3 == CE for _, arrived in switch.take_frames(far)]
    marks = [place for place, marked in enumerate(fates[41:]) if marked]
    counts = [0] * 49
    for one, next_one in pairwise(marks):
        counts[next_one - one - 1] += 1
    expected = sum(counts) / 49
    assert sum((count - expected) ** 2 / expected for count in counts) < chi_square_limit(48)
    deviation = sqrt(len(fates) * (49**2 - 1) / 12 / 25**3)
    assert abs(len(marks) - len(fates) / 25) < NormalDist().inv_cdf(1 - FALSE_ALARM / 2) * deviation + 2
    switch.close()


def chi_square_limit(freedom: int) -> float:
    """What one sample in a million exceeds (Wilson and Hilferty, 1931: a little high in this tail)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + NormalDist().inv_cdf(1 - FALSE_ALARM) * sqrt(spread)) ** 3
