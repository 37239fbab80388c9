"""How late packets are handled, measured where it is known: the engine is held up on purpose.

While its thread is stopped, engine time goes on. What falls due meanwhile is late by at least the rest of the
pause, and by at most the time until it is seen to have arrived.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from lab import (
    ARP_REQUEST,
    BROADCAST,
    MILLISECOND,
    SECOND,
    TYPE_ARP,
    TYPE_IP4,
    arp,
    ether,
    ip,
    ip4,
    mac,
    of_type,
)

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

FRAME = b"\xff" * 6 + mac(1) + b"\x88\xb5" + bytes(46)
LATE_NS = core.LATE_ABOVE_NS
TIMEOUT_NS = 30 * SECOND


class Held:
    """Two PORTs in real time, with a pipe between them whose receiver can be held up."""

    def __init__(self, *, delay_ns: int = MILLISECOND, dilation: int = 1, judged_ns: int = SECOND) -> None:
        self.switch = Switch(real_time=True, dilation=dilation, judged_ns=judged_ns)
        self.nodes = [self.switch.add_node(core.PORT) for _ in range(2)]
        ends = [self.switch.add_interface(node, mac(node + 1)) for node in self.nodes]
        self.pipe, self.reverse = self.switch.add_link(*ends)
        self.switch.set_pipe(self.pipe, delay_ns=delay_ns)
        self.switch.start()
        self.arrived = 0

    def send(self, count: int, pause_ns: int) -> tuple[int, int, int]:
        """Send frames, hold them up for so long; when they arrive, and between when they are handled."""
        switch = self.switch
        switch.stop()
        switch.inject(self.nodes[0], FRAME, count)
        until_ns = switch.now_ns + pause_ns
        while switch.now_ns < until_ns:
            pass
        return self.deliver(count)

    def deliver(self, count: int) -> tuple[int, int, int]:
        """Let the engine go on until all has arrived."""
        switch = self.switch
        before_ns = switch.now_ns
        switch.start()
        frames: list[tuple[int, bytes]] = []
        while len(frames) < count:
            assert switch.now_ns < before_ns + TIMEOUT_NS
            frames += switch.take_frames(self.nodes[1])
        self.arrived += count
        assert frames[0][0] == frames[-1][0]
        return frames[0][0], before_ns, switch.now_ns


@contextmanager
def held(**options: int) -> Iterator[Held]:
    pair = Held(**options)
    try:
        yield pair
    finally:
        pair.switch.close()


@pytest.mark.parametrize("dilation", [1, 20])
def test_lateness_is_engine_time_between_arrival_and_handling(dilation: int) -> None:
    with held(dilation=dilation) as pair:
        arrival_ns, earliest_ns, latest_ns = pair.send(300, 20 * MILLISECOND)
        lateness = pair.switch.lateness(pair.pipe)
        assert lateness is not None
        assert earliest_ns - arrival_ns <= lateness["worst_ns"] <= latest_ns - arrival_ns
        assert sum(packets for _, packets in lateness["buckets"]) == lateness["late_packets"] == 300
        for least_ns, _ in lateness["buckets"]:
            assert (earliest_ns - arrival_ns) / 1.25 <= least_ns <= lateness["worst_ns"]
        assert pair.switch.lateness(pair.reverse) is None


def test_a_degraded_stretch_reaches_from_the_first_late_arrival_to_the_end_of_its_second() -> None:
    judged_ns = 100 * MILLISECOND
    with held(judged_ns=judged_ns) as pair:
        first_ns, _, _ = pair.send(1, 2 * judged_ns)
        _, _, handled_ns = pair.send(5, judged_ns)
        [(pipe, _, from_ns, until_ns, packets, late_packets, worst_ns)] = pair.switch.late_stretches()
        assert (pipe, packets, late_packets) == (pair.pipe, 6, 6)
        assert from_ns == first_ns
        assert handled_ns - judged_ns < until_ns <= pair.switch.now_ns
        assert worst_ns > 2 * judged_ns - 10 * MILLISECOND
        ends_ns = [row[3] for row in pair.switch.late_stretches(under_way=False)]
        assert all(end_ns % judged_ns == 0 for end_ns in ends_ns)
        assert pair.switch.late_stretches(until_ns + SECOND) == []


def test_one_percent_may_be_late() -> None:
    """Late is more than a millisecond: here, 50 real ones, so that nothing is late by chance."""
    with held(dilation=50) as pair:
        pair.send(198, 0)
        for _ in range(2):
            pair.send(1, 3 * MILLISECOND)
        assert pair.switch.late_stretches() == []
        pair.send(1, 3 * MILLISECOND)
        [(_, _, from_ns, until_ns, packets, late_packets, _)] = pair.switch.late_stretches()
        assert (from_ns, packets, late_packets) == (0, 201, 3)
        assert until_ns < SECOND


def test_stretches_are_bounded_and_none_is_forgotten() -> None:
    with held(delay_ns=10_000, judged_ns=10_000) as pair:
        arrivals_ns = [pair.send(1, 2 * LATE_NS)[0] for _ in range(90)]
        stretches = [row[2:] for row in pair.switch.late_stretches()]
        assert 32 <= len(stretches) <= 65
        assert sum(late_packets for _, _, _, late_packets, _ in stretches) == 90
        assert all(before[1] < after[0] for before, after in pairwise(stretches))
        for arrival_ns in arrivals_ns:
            assert any(from_ns <= arrival_ns <= until_ns for from_ns, until_ns, *_ in stretches)


def test_only_pipes_that_take_time_are_measured_and_live_changes_count() -> None:
    with held(delay_ns=0) as pair:
        switch = pair.switch
        memory_bytes = switch.memory_bytes(pair.nodes[0])
        pair.send(3, 0)
        assert switch.lateness(pair.pipe) is None
        switch.set_pipe(pair.pipe, bandwidth_bps=10**9)
        pair.send(1, 0)
        lateness = switch.lateness(pair.pipe)
        assert lateness is not None
        assert sum(packets for _, packets in lateness["buckets"]) == 1
        assert switch.memory_bytes(pair.nodes[0]) > memory_bytes


class Passage:
    """A router in real time between two PORTs; the link to it takes a while."""

    def __init__(self, delay_ns: int) -> None:
        self.switch = switch = Switch(real_time=True)
        router = switch.add_node(core.ROUTER)
        self.ports = [switch.add_node(core.PORT) for _ in range(2)]
        pipes = []
        for number, port in enumerate(self.ports):
            near = switch.add_interface(router, mac(10 + number))
            switch.add_address(near, ip(f"10.0.{number}.1"), 24)
            pipes.append(switch.add_link(switch.add_interface(port, mac(20 + number)), near)[0])
        self.pipe = pipes[0]
        switch.set_pipe(self.pipe, delay_ns=delay_ns)
        announced = arp(ARP_REQUEST, mac(21), "10.0.1.2", bytes(6), "10.0.1.1")
        switch.inject(self.ports[1], ether(BROADCAST, mac(21), TYPE_ARP, announced))

    def send(self) -> None:
        frame = ether(mac(10), mac(20), TYPE_IP4, ip4("10.0.0.2", "10.0.1.2"))
        assert self.switch.inject(self.ports[0], frame) == 1

    def await_packet(self) -> None:
        """Wait until one has come through."""
        frames: list[bytes] = []
        before_ns = self.switch.now_ns
        while not frames:
            assert self.switch.now_ns < before_ns + TIMEOUT_NS
            frames = of_type((frame for _, frame in self.switch.take_frames(self.ports[1])), TYPE_IP4)
        assert len(frames) == 1


@pytest.fixture
def passage(request: pytest.FixtureRequest) -> Iterator[Passage]:
    passage = Passage(request.param)
    yield passage
    passage.switch.close()


@pytest.mark.parametrize("passage", [MILLISECOND], indirect=True)
def test_a_packet_that_is_alone_is_measured_where_it_passes_a_router(passage: Passage) -> None:
    passage.switch.start()
    for count in (1, 2, 3):
        passage.send()
        passage.await_packet()
        lateness = passage.switch.lateness(passage.pipe)
        assert lateness is not None
        assert sum(packets for _, packets in lateness["buckets"]) == count


@pytest.mark.parametrize("passage", [0], indirect=True)
def test_what_is_ready_when_the_engine_is_stopped_goes_on_afterwards(passage: Passage) -> None:
    for _ in range(3):
        passage.send()
        passage.switch.statistics()  # the engine's time goes on meanwhile
        passage.switch.start()
        passage.await_packet()
        passage.switch.stop()


def test_frames_of_a_device_are_late_while_the_engine_does_not_look() -> None:
    """The device is one end of a pair of sockets, which gives and takes a frame a call as a TAP does."""
    switch = Switch(real_time=True, judged_ns=TIMEOUT_NS)  # both rounds in one stretch
    nodes = [switch.add_node(kind) for kind in (core.TAP, core.PORT)]
    switch.add_link(*(switch.add_interface(node, mac(node + 1)) for node in nodes))
    device, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    device.setblocking(False)
    switch.attach_tap(nodes[0], device.fileno())
    try:
        for pause_ns in (0, 20 * MILLISECOND):
            switch.start()
            switch.statistics()  # so that it has looked once
            switch.stop()
            before_ns = switch.now_ns
            for _ in range(8):
                host.send(bytes(12) + FRAME)
            sent_ns = switch.now_ns
            while switch.now_ns < sent_ns + pause_ns:
                pass
            switch.start()
            frames: list[tuple[int, bytes]] = []
            while len(frames) < 8:
                assert switch.now_ns < before_ns + TIMEOUT_NS
                frames += switch.take_frames(nodes[1])
            switch.stop()
        lateness = switch.device_lateness(nodes[0])
        assert lateness is not None
        assert sum(packets for _, packets in lateness["buckets"]) == 16
        assert 20 * MILLISECOND <= lateness["worst_ns"] < switch.now_ns
        assert lateness["late_packets"] >= 8
        [(pipe, node, from_ns, _, packets, late_packets, _)] = switch.late_stretches()
        assert (pipe, node) == (None, nodes[0])
        assert (packets, late_packets) == (16, lateness["late_packets"])
        assert from_ns < sent_ns
        assert switch.device_lateness(nodes[1]) is None
    finally:
        switch.close()
        device.close()
        host.close()


def test_virtual_time_measures_nothing() -> None:
    switch = Switch()
    nodes = [switch.add_node(core.PORT) for _ in range(2)]
    pipe, _ = switch.add_link(*(switch.add_interface(node, mac(node + 1)) for node in nodes))
    switch.set_pipe(pipe, delay_ns=MILLISECOND)
    switch.inject(nodes[0], FRAME)
    switch.run(SECOND)
    assert len(switch.take_frames(nodes[1])) == 1
    assert switch.lateness(pipe) is None
    assert switch.late_stretches() == []
    switch.close()
