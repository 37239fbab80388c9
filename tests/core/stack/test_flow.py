"""Flows: pings and UDP at a constant rate, their counts, delays, rates and ends, exact in virtual time."""

import random
from collections.abc import Iterator
from fractions import Fraction
from math import floor

import pytest
from timeline import MILLISECOND, SECOND, Shape, mac, shape_pipe

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

HOUR = 3600 * SECOND
NEAR, FAR = 0x0A000001, 0x0A000002
NOBODY = 0x0A000063
ETHERNET, IP, ICMP, UDP = 14, 20, 8, 8


class Pair:
    """Two hosts and the link between them."""

    def __init__(self, there: Shape | None = None, back: Shape | None = None) -> None:
        self.switch = Switch()
        self.near, self.far = self.switch.add_node(core.HOST), self.switch.add_node(core.HOST)
        ends = self.switch.add_interface(self.near, mac(1)), self.switch.add_interface(self.far, mac(2))
        for end, address in zip(ends, (NEAR, FAR), strict=True):
            self.switch.add_address(end, address, 24)
        self.there, self.back = self.switch.add_link(*ends, 20_260_201, 20_260_202)
        self.shape(there or Shape(), back or there or Shape())

    def shape(self, there: Shape, back: Shape) -> None:
        shape_pipe(self.switch, self.there, there)
        shape_pipe(self.switch, self.back, back)

    def meet(self, until_ns: int) -> None:
        """Let both learn the other's station address, so that nothing else disturbs what follows."""
        self.switch.add_ping(self.near, FAR, interval_ns=1, count=1)
        self.switch.run(until_ns)
        self.switch.take_events()

    def done(self) -> list[tuple[int, int]]:
        return sorted((t, index) for t, kind, index in self.switch.take_events() if kind == core.FLOW_DONE)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ways: 8 Mbit/s, so a byte takes a microsecond; 10 ms there and 3 ms back."""
    pair = Pair(
        Shape(bandwidth_bps=8_000_000, delay_ns=10 * MILLISECOND),
        Shape(bandwidth_bps=8_000_000, delay_ns=3 * MILLISECOND),
    )
    pair.meet(SECOND)
    yield pair
    pair.switch.close()


def test_a_ping_measures_the_path_to_the_nanosecond(pair: Pair) -> None:
    ping = pair.switch.add_ping(
        pair.near, FAR, interval_ns=100 * MILLISECOND, count=5, start_ns=2 * SECOND, keep_replies=True
    )
    pair.switch.run(10 * SECOND)
    frame = ETHERNET + IP + ICMP + 56
    rtt_ns = 13 * MILLISECOND + 2 * frame * 1000
    last_ns = 2 * SECOND + 400 * MILLISECOND
    assert pair.switch.flow(ping) == {
        "kind": "ping",
        "done": True,
        "sent_packets": 5,
        "sent_bytes": 5 * 56,
        "received_packets": 5,
        "received_bytes": 5 * 56,
        "reordered_packets": 0,
        "unreachable_packets": 0,
        "first_sent_ns": 2 * SECOND,
        "last_sent_ns": last_ns,
        "first_received_ns": 2 * SECOND + rtt_ns,
        "last_received_ns": last_ns + rtt_ns,
        "delay_min_ns": rtt_ns,
        "delay_median_ns": rtt_ns,
        "delay_p99_ns": rtt_ns,
        "delay_max_ns": rtt_ns,
    }
    assert pair.done() == [(last_ns + rtt_ns, ping)]
    replies = pair.switch.take_replies(ping)
    assert [(r["sequence"], r["responder"], r["icmp_type"], r["rtt_ns"]) for r in replies] == [
        (sequence, FAR, 0, rtt_ns) for sequence in range(5)
    ]
    assert pair.switch.take_replies(ping) == []


def test_a_udp_flow_measures_one_way(pair: Pair) -> None:
    flow = pair.switch.add_udp(
        pair.near,
        FAR,
        rate_bps=800_000,
        size_bytes=1000,
        start_ns=2 * SECOND,
        stop_ns=3 * SECOND,
        sink=pair.far,
    )
    pair.switch.run(10 * SECOND)
    delay_ns = 10 * MILLISECOND + (ETHERNET + IP + UDP + 1000) * 1000
    statistics = pair.switch.flow(flow)
    assert statistics["kind"] == "udp"
    assert statistics["sent_packets"] == statistics["received_packets"] == 100
    assert statistics["received_bytes"] == 100_000
    assert (statistics["first_sent_ns"], statistics["last_sent_ns"]) == (2 * SECOND, 2_990 * MILLISECOND)
    assert {statistics[f"delay_{which}_ns"] for which in ("min", "median", "p99", "max")} == {delay_ns}
    assert pair.done() == [(2_990 * MILLISECOND + delay_ns, flow)]


@pytest.mark.parametrize(("rate_bps", "size_bytes"), [(7, 16), (1_000_003, 997), (333_333, 1000)])
def test_a_rate_is_exact_over_an_hour(rate_bps: int, size_bytes: int) -> None:
    pair = Pair()
    pair.meet(SECOND)
    flow = pair.switch.add_udp(
        pair.near,
        FAR,
        rate_bps=rate_bps,
        size_bytes=size_bytes,
        start_ns=SECOND,
        stop_ns=SECOND + HOUR,
        sink=pair.far,
    )
    pair.switch.run(2 * HOUR)
    interval = Fraction(size_bytes * 8 * SECOND, rate_bps)
    # Packet k leaves at floor(k x interval), if that is before the hour is over.
    sent = -floor(-HOUR / interval)
    statistics = pair.switch.flow(flow)
    assert statistics["sent_packets"] == statistics["received_packets"] == sent
    assert statistics["last_sent_ns"] == SECOND + floor((sent - 1) * interval)
    assert statistics["delay_max_ns"] == 0
    pair.switch.close()


def test_a_ping_without_a_count_ends_at_its_stop(pair: Pair) -> None:
    ping = pair.switch.add_ping(
        pair.near, FAR, interval_ns=SECOND, count=0, start_ns=2 * SECOND, stop_ns=7 * SECOND
    )
    pair.switch.run(20 * SECOND)
    assert pair.switch.flow(ping)["sent_packets"] == 5  # not at the stop itself
    assert pair.switch.flow(ping)["done"]


def test_a_start_in_the_past_means_now(pair: Pair) -> None:
    ping = pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1, start_ns=-5)
    pair.switch.run(2 * SECOND)
    assert pair.switch.flow(ping)["first_sent_ns"] == SECOND


@pytest.mark.parametrize(("start_ns", "stop_ns"), [(0, 0), (5 * SECOND, 4 * SECOND), (0, SECOND)])
def test_a_flow_that_ends_before_it_starts_is_done_at_once(pair: Pair, start_ns: int, stop_ns: int) -> None:
    flows = [
        pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=0, start_ns=start_ns, stop_ns=stop_ns),
        pair.switch.add_udp(
            pair.near, FAR, rate_bps=8, size_bytes=16, start_ns=start_ns, stop_ns=stop_ns, sink=pair.far
        ),
        pair.switch.add_udp(pair.near, FAR, rate_bps=8, size_bytes=16, start_ns=start_ns, stop_ns=stop_ns),
    ]
    pair.switch.run(20 * SECOND)
    assert pair.done() == [(SECOND, flow) for flow in flows]
    assert [pair.switch.flow(flow)["sent_packets"] for flow in flows] == [0, 0, 0]


def test_stop_flow_ends_it_and_counts_what_still_arrives(pair: Pair) -> None:
    ping = pair.switch.add_ping(pair.near, FAR, interval_ns=MILLISECOND, count=0)
    udp = pair.switch.add_udp(pair.near, FAR, rate_bps=128_000, size_bytes=16, sink=pair.far)
    pair.switch.run(SECOND + 5 * MILLISECOND)
    for flow in (ping, udp):
        pair.switch.stop_flow(flow)
        assert pair.switch.flow(flow)["done"]
        assert pair.switch.flow(flow)["received_packets"] == 0
    pair.switch.run(3 * SECOND)
    for flow in (ping, udp):
        assert pair.switch.flow(flow)["sent_packets"] == pair.switch.flow(flow)["received_packets"] == 6
    assert pair.switch.next_event_ns is None or pair.switch.next_event_ns > 3 * SECOND


def test_a_removed_flow_is_gone_and_its_late_answers_count_for_nobody(pair: Pair) -> None:
    ping = pair.switch.add_ping(pair.near, FAR, interval_ns=MILLISECOND, count=3)
    udp = pair.switch.add_udp(pair.near, FAR, rate_bps=128_000, size_bytes=16, sink=pair.far)
    pair.switch.run(SECOND + 5 * MILLISECOND)
    for flow in (ping, udp):
        pair.switch.remove_flow(flow)
        with pytest.raises(ValueError, match="there is no flow"):
            pair.switch.flow(flow)
        with pytest.raises(ValueError, match="there is no flow"):
            pair.switch.remove_flow(flow)
    again = pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1, start_ns=5 * SECOND)
    other = pair.switch.add_udp(
        pair.near, FAR, rate_bps=8, size_bytes=16, start_ns=5 * SECOND, stop_ns=6 * SECOND, sink=pair.far
    )
    pair.switch.run(4 * SECOND)
    assert pair.switch.flow(again)["received_packets"] == pair.switch.flow(other)["received_packets"] == 0
    assert pair.switch.node_drops(pair.near)["icmp_no_listener"] >= 3
    assert pair.switch.node_drops(pair.far)["udp_port_unreachable"] == 6
    pair.switch.run(20 * SECOND)
    assert pair.switch.flow(again)["received_packets"] == pair.switch.flow(other)["received_packets"] == 1
    assert len(pair.done()) == 2


def test_places_of_removed_flows_are_used_again() -> None:
    pair = Pair()
    pair.meet(SECOND)
    for _ in range(40_000):
        flow = pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1)
        pair.switch.remove_flow(flow)
    assert flow < 1 << 14
    flow = pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1)
    pair.switch.run(2 * SECOND)
    assert pair.switch.flow(flow)["received_packets"] == 1
    pair.switch.close()


def test_an_engine_holds_so_many_flows_and_says_so() -> None:
    pair = Pair()
    flows = [pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1) for _ in range(1 << 14)]
    with pytest.raises(ValueError, match="at most 16384 flows"):
        pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1)
    pair.switch.remove_flow(flows[77])
    assert pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=1) == flows[77]
    pair.switch.close()


def test_a_sink_that_does_not_hear_ends_the_flow_by_its_patience(pair: Pair) -> None:
    pair.switch.set_link_up(pair.there, False)
    ping = pair.switch.add_ping(pair.near, FAR, interval_ns=1, count=2, timeout_ns=MILLISECOND)
    flow = pair.switch.add_udp(
        pair.near, FAR, rate_bps=8000, size_bytes=100, stop_ns=2 * SECOND, sink=pair.far
    )
    pair.switch.run(20 * SECOND)
    statistics = pair.switch.flow(flow)
    assert (statistics["sent_packets"], statistics["received_packets"]) == (10, 0)
    for key in ("first_received_ns", "delay_min_ns", "delay_median_ns", "delay_p99_ns", "delay_max_ns"):
        assert statistics[key] is None
    assert pair.done() == [(SECOND + 1 + MILLISECOND, ping), (1_900 * MILLISECOND + SECOND, flow)]
    assert pair.switch.pipe_statistics(pair.there)["down_drop_packets"] == 12


def test_a_lost_last_packet_ends_the_flow_by_its_timeout(pair: Pair) -> None:
    ping = pair.switch.add_ping(
        pair.near, FAR, interval_ns=100 * MILLISECOND, count=5, timeout_ns=300 * MILLISECOND
    )
    flow = pair.switch.add_udp(
        pair.near, FAR, rate_bps=8000, size_bytes=100, stop_ns=2 * SECOND, sink=pair.far
    )
    pair.switch.run(SECOND + 350 * MILLISECOND)
    pair.switch.set_link_up(pair.there, False)
    pair.switch.run(20 * SECOND)
    assert pair.switch.flow(ping)["received_packets"] == pair.switch.flow(flow)["received_packets"] == 4
    done_ns = [SECOND + 700 * MILLISECOND, SECOND + 900 * MILLISECOND + SECOND]
    assert pair.done() == list(zip(done_ns, [ping, flow], strict=True))


@pytest.mark.parametrize("stop_on_event", [False, True])
def test_a_lossy_flow_ends_at_the_same_time_however_it_is_run(stop_on_event: bool) -> None:
    """The sender could run 100 ms ahead, but must not judge by what its sink has not heard yet."""
    pair = Pair(Shape(delay_ns=10 * MILLISECOND), Shape(delay_ns=100 * MILLISECOND))
    pair.meet(SECOND)
    pair.shape(Shape(delay_ns=10 * MILLISECOND, loss=0.5), Shape(delay_ns=100 * MILLISECOND))
    flow = pair.switch.add_udp(
        pair.near, FAR, rate_bps=8_000_000, size_bytes=1000, stop_ns=SECOND + 50 * MILLISECOND, sink=pair.far
    )
    pair.switch.take_events()
    while not pair.switch.run(20 * SECOND, stop_on_event=stop_on_event):
        pass
    assert 0 < pair.switch.flow(flow)["received_packets"] < pair.switch.flow(flow)["sent_packets"] == 50
    assert pair.done() == [(SECOND + 49 * MILLISECOND + SECOND, flow)]
    pair.switch.close()


def test_nobody_at_the_address(pair: Pair) -> None:
    """Three requests a second apart, then the host itself says that the other is unreachable."""
    ping = pair.switch.add_ping(pair.near, NOBODY, interval_ns=1, count=2, keep_replies=True)
    pair.switch.run(20 * SECOND)
    assert pair.switch.flow(ping)["unreachable_packets"] == 2
    assert (SECOND + 3 * SECOND, ping) in pair.done()
    replies = pair.switch.take_replies(ping)
    assert [(r["icmp_type"], r["icmp_code"], r["responder"]) for r in replies] == [(3, 1, NEAR)] * 2


def test_no_route(pair: Pair) -> None:
    ping = pair.switch.add_ping(pair.near, 0xC0000201, interval_ns=1, count=3)
    pair.switch.run(20 * SECOND)
    assert pair.switch.flow(ping)["unreachable_packets"] == 3
    assert pair.done() == [(SECOND + 2, ping)]
    assert pair.switch.node_drops(pair.near)["ip4_no_route"] == 3


def test_two_flows_share_a_sink(pair: Pair) -> None:
    flows = [
        pair.switch.add_udp(
            pair.near, FAR, rate_bps=rate_bps, size_bytes=100, stop_ns=2 * SECOND, sink=pair.far
        )
        for rate_bps in (8_000, 16_000, 80_000)
    ]
    pair.switch.run(20 * SECOND)
    assert [pair.switch.flow(flow)["received_packets"] for flow in flows] == [10, 20, 100]
    assert [pair.switch.flow(flow)["reordered_packets"] for flow in flows] == [0, 0, 0]


def test_a_real_host_as_the_destination_is_not_waited_for(pair: Pair) -> None:
    flow = pair.switch.add_udp(pair.near, FAR, rate_bps=8000, size_bytes=100, stop_ns=2 * SECOND)
    pair.switch.run(20 * SECOND)
    statistics = pair.switch.flow(flow)
    assert (statistics["sent_packets"], statistics["received_packets"]) == (10, 0)
    # The engine's own host has no such port and says so, which counts.
    assert statistics["unreachable_packets"] == 10
    assert pair.done()[0][1] == flow


def test_answers_out_of_order_are_counted() -> None:
    """Two ways of different delay behind a router that is told to take the other one under way."""
    switch = Switch()
    a, router, b = switch.add_node(core.HOST), switch.add_node(core.ROUTER), switch.add_node(core.HOST)
    number = 0

    def join(x: int, y: int, network: int, delay_ns: int) -> None:
        nonlocal number
        ends = []
        for node, host in ((x, 1), (y, 2)):
            number += 1
            ends.append(switch.add_interface(node, mac(number)))
            switch.add_address(ends[-1], network + host, 24)
        for pipe in switch.add_link(*ends):
            switch.set_pipe(pipe, delay_ns=delay_ns)

    join(a, router, 0x0A000000, 0)
    join(router, b, 0x0A000100, 50 * MILLISECOND)
    join(router, b, 0x0A000200, MILLISECOND)
    switch.add_route(a, 0, 0, 0x0A000002)
    switch.add_route(b, 0, 0, 0x0A000201)
    # The destination is reached directly by the slow way, and by a host route over the quick one later.
    switch.add_ping(a, 0x0A000202, interval_ns=1, count=1)
    switch.add_ping(a, 0x0A000102, interval_ns=1, count=1)
    switch.run(SECOND)
    flow = switch.add_udp(
        a, 0x0A000102, rate_bps=800_000, size_bytes=1000, stop_ns=SECOND + 100 * MILLISECOND, sink=b
    )
    switch.run(SECOND + 45 * MILLISECOND)
    switch.add_route(router, 0x0A000102, 32, 0x0A000202)
    switch.run(5 * SECOND)
    statistics = switch.flow(flow)
    assert statistics["sent_packets"] == statistics["received_packets"] == 10
    # 0 to 4 take 50 ms and arrive at 50 to 90 ms; 5 to 9 take 1 ms and arrive at 51 to 91 ms.
    assert statistics["reordered_packets"] == 4
    assert (statistics["delay_min_ns"], statistics["delay_max_ns"]) == (MILLISECOND, 50 * MILLISECOND)
    switch.close()


def test_quantiles_are_samples_by_nearest_rank() -> None:
    pair = Pair()
    pair.meet(SECOND)
    delays = list(range(1, 201))
    random.Random(20_260_203).shuffle(delays)
    ping = pair.switch.add_ping(pair.near, FAR, interval_ns=MILLISECOND, count=200, start_ns=2 * SECOND)
    for k, delay_ns in enumerate(delays):
        pair.switch.run(2 * SECOND + k * MILLISECOND - 1)
        pair.shape(Shape(delay_ns=delay_ns), Shape())
    pair.switch.run(10 * SECOND)
    statistics = pair.switch.flow(ping)
    assert (statistics["delay_min_ns"], statistics["delay_max_ns"]) == (1, 200)
    assert (statistics["delay_median_ns"], statistics["delay_p99_ns"]) == (100, 198)
    pair.switch.close()


def test_more_than_a_million_samples_are_thinned() -> None:
    """Three million, of which every fourth is kept in the end: quantiles hold, extremes are exact."""
    pair = Pair()
    pair.meet(SECOND)
    count = 3_000_000
    flow = pair.switch.add_udp(
        pair.near,
        FAR,
        rate_bps=16 * 8 * 1_000_000,
        size_bytes=16,
        stop_ns=SECOND + count * 1000,
        sink=pair.far,
    )
    # The first is there at once; the first three quarters of the time take 5 ns, the last 9 ns.
    for until_ns, delay_ns in ((1, 5), (count * 750, 9)):
        pair.switch.run(SECOND + until_ns)
        pair.shape(Shape(delay_ns=delay_ns), Shape())
    pair.switch.run(10 * SECOND)
    statistics = pair.switch.flow(flow)
    assert statistics["received_packets"] == count
    assert (statistics["delay_min_ns"], statistics["delay_max_ns"]) == (0, 9)
    assert (statistics["delay_median_ns"], statistics["delay_p99_ns"]) == (5, 9)
    pair.switch.close()


def hour_of_pings() -> tuple[dict[str, object], list[object]]:
    """Pings once a second over three routers and lossy, jammed links; everything that came of it."""
    switch = Switch()
    kinds = [core.HOST, core.ROUTER, core.ROUTER, core.ROUTER, core.HOST]
    nodes = [switch.add_node(kind) for kind in kinds]
    pipes = []
    for i in range(4):
        ends = []
        for node, host in ((nodes[i], 1), (nodes[i + 1], 2)):
            ends.append(switch.add_interface(node, mac(10 * i + host)))
            switch.add_address(ends[-1], 0x0A000000 + 256 * i + host, 24)
        pipes += switch.add_link(*ends, 100 + i, 200 + i)
    for i, node in enumerate(nodes):
        if i < 4:
            switch.add_route(node, 0x0A000300, 24, 0x0A000000 + 256 * i + 2) if i < 3 else None
        if i > 1:
            switch.add_route(node, 0x0A000000, 24, 0x0A000000 + 256 * (i - 1) + 1)
    for i, pipe in enumerate(pipes):
        switch.set_pipe(
            pipe,
            bandwidth_bps=10_000_000 + i,
            delay_ns=(i + 1) * MILLISECOND + i,
            loss=0.001,
            overhead_bytes=24,
        )
    ping = switch.add_ping(nodes[0], 0x0A000302, interval_ns=SECOND, count=3600, keep_replies=True)
    switch.add_udp(
        nodes[4], 0x0A000001, rate_bps=100_000, size_bytes=1000, stop_ns=HOUR, sink=nodes[0], start_ns=7
    )
    switch.run(HOUR + 10 * SECOND)
    flows = [switch.flow(flow) for flow in (ping, ping + 1)]
    result = (
        flows[0],
        [
            flows[1],
            switch.take_replies(ping),
            switch.take_events(),
            [switch.pipe_statistics(pipe) for pipe in pipes],
            [switch.neighbors(node) for node in nodes],
        ],
    )
    switch.close()
    return result


def test_an_hour_of_pings_twice() -> None:
    ping, rest = hour_of_pings()
    assert ping["sent_packets"] == 3600
    # A binomial number of 3600 with p = 0.999^8: 28.7 lost on average, and 0 to 60 except once in a million.
    assert 3600 - 60 < ping["received_packets"] < 3600
    lengths = (ETHERNET + IP + ICMP + 56 + 24) * 8 * SECOND
    quickest = sum((i + 1) * MILLISECOND + i + lengths // (10_000_000 + i) for i in range(8))
    assert quickest <= ping["delay_min_ns"] <= quickest + 8
    assert hour_of_pings() == (ping, rest)
