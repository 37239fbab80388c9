"""How late packets are handled, measured where it is known: the engine is held up on purpose.

While its thread is stopped, engine time goes on. What falls due meanwhile is late by at least the rest of the
pause, and by at most the time until it is seen to have arrived.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
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
UNSEEN_NS = 5 * MILLISECOND
"""What goes unseen of a pause at most, while the engine sleeps and no frame has come for a while."""


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


class Device:
    """A TAP node in real time, linked to a PORT.

    The device is one end of a pair of sockets, which gives and takes a frame a call as a TAP does.
    """

    def __init__(self, *, delay_ns: int = 0, blocks: bool = False) -> None:
        self.switch = Switch(real_time=True, judged_ns=TIMEOUT_NS)  # all in one stretch
        self.tap, self.port = (self.switch.add_node(kind) for kind in (core.TAP, core.PORT))
        ends = (self.switch.add_interface(node, mac(node + 1)) for node in (self.tap, self.port))
        self.switch.set_pipe(self.switch.add_link(*ends)[0], delay_ns=delay_ns)
        self.device, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.device.setblocking(blocks)
        self.switch.attach_tap(self.tap, self.device.fileno())

    def start(self) -> None:
        """Let the engine run, and wait until it has looked at the device once."""
        self.switch.start()
        self.switch.statistics()

    def send(self, count: int, within_ns: int = 0) -> int:
        """Give the device frames, evenly within a while that is then over; when the last one was sent."""
        before_ns = sent_ns = self.switch.now_ns
        for number in range(1, count + 1):
            while self.switch.now_ns < before_ns + within_ns * number // count:
                pass
            sent_ns = self.switch.now_ns
            self.host.send(bytes(12) + FRAME)
        return sent_ns

    def await_frames(self, count: int) -> list[tuple[int, bytes]]:
        """What arrives at the PORT."""
        before_ns = self.switch.now_ns
        frames: list[tuple[int, bytes]] = []
        while len(frames) < count:
            assert self.switch.now_ns < before_ns + TIMEOUT_NS
            frames += self.switch.take_frames(self.port)
        return frames

    def lateness(self) -> "core.Lateness":
        lateness = self.switch.device_lateness(self.tap)
        assert lateness is not None
        return lateness

    def close(self) -> None:
        self.switch.close()
        self.device.close()
        self.host.close()


@contextmanager
def device(*, delay_ns: int = 0, blocks: bool = False) -> Iterator[Device]:
    opened = Device(delay_ns=delay_ns, blocks=blocks)
    try:
        yield opened
    finally:
        opened.close()


def test_frames_of_a_device_are_late_while_the_engine_does_not_look() -> None:
    with device() as opened:
        switch = opened.switch
        for pause_ns in (0, 20 * MILLISECOND):
            opened.start()
            switch.stop()
            sent_ns = opened.send(8)
            while switch.now_ns < sent_ns + pause_ns:
                pass
            switch.start()
            opened.await_frames(8)
            switch.stop()
        lateness = opened.lateness()
        assert sum(packets for _, packets in lateness["buckets"]) == 16
        assert 20 * MILLISECOND <= lateness["worst_ns"] < switch.now_ns
        assert lateness["late_packets"] >= 8
        [(pipe, node, from_ns, _, packets, late_packets, _)] = switch.late_stretches()
        assert (pipe, node) == (None, opened.tap)
        assert (packets, late_packets) == (16, lateness["late_packets"])
        assert from_ns < sent_ns
        assert switch.device_lateness(opened.port) is None


@pytest.mark.parametrize("count", [1, 3, 50, 200])
def test_what_came_while_the_engine_was_held_up_is_taken_to_have_come_evenly(count: int) -> None:
    """Its waits fall evenly from the whole pause to nothing; one alone has waited for half of it."""
    pause_ns = 100 * MILLISECOND
    with device() as opened:
        opened.start()
        opened.switch.stop()
        opened.send(count, pause_ns)
        opened.switch.start()
        opened.await_frames(count)
        opened.switch.stop()
        lateness = opened.lateness()
        worst_ns = lateness["worst_ns"]
        assert pause_ns <= worst_ns < opened.switch.now_ns
        waits_ns = [worst_ns * (2 * count - 2 * place - 1) // (2 * count) for place in range(count)]
        counted_ns = [least_ns for least_ns, packets in reversed(lateness["buckets"]) for _ in range(packets)]
        assert len(counted_ns) == count
        for wait_ns, least_ns in zip(waits_ns, counted_ns, strict=True):
            assert least_ns <= wait_ns + 1
            assert wait_ns < least_ns * 1.25 + 1
        assert lateness["late_packets"] == sum(wait_ns > LATE_NS for wait_ns in waits_ns)


def test_a_frame_is_not_earlier_than_it_was_read() -> None:
    """The engine is held up in the middle of a reading: by a device whose calls wait until there is a frame.

    A reading is over after 64 of them.
    """
    pause_ns = 20 * MILLISECOND
    with device(delay_ns=MILLISECOND, blocks=True) as opened:
        opened.start()
        opened.send(1)
        last_ns = opened.send(63, pause_ns)
        frames = opened.await_frames(64)
        assert min(time_ns for time_ns, _ in frames) >= last_ns + MILLISECOND
        lateness = opened.lateness()
        assert lateness["worst_ns"] > pause_ns - UNSEEN_NS
        assert lateness["late_packets"] > 50


# Its device is given; tells the lateness once so many frames have come.
SLEEPER = """
import json, socket, sys
from manystack.core import Switch, _switch as core
switch = Switch(real_time=True)
tap, port = switch.add_node(core.TAP), switch.add_node(core.PORT)
switch.add_link(*(switch.add_interface(node, bytes([2, 0, 0, 0, 0, node])) for node in (tap, port)))
device = socket.socket(fileno=int(sys.argv[1]))
device.setblocking(False)
switch.attach_tap(tap, device.fileno())
switch.start()
switch.statistics()  # so that it has looked once
print("ready", flush=True)
came = 0
for line in sys.stdin:
    while came < int(line):
        came += len(switch.take_frames(port))
    print(json.dumps(switch.device_lateness(tap)), flush=True)
switch.close()
"""


@pytest.mark.parametrize("count", [1, 40])
def test_what_comes_while_the_engine_sleeps_and_is_stopped_is_late(count: int) -> None:
    """A process that is stopped leaves no trace but that it wakes up too late."""
    pause_ns = 20 * MILLISECOND
    device, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    command = [sys.executable, "-c", SLEEPER, str(device.fileno())]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[device.fileno()]
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        stopped_ns = time.monotonic_ns()
        for number in range(count):
            while time.monotonic_ns() < stopped_ns + pause_ns * number // count:
                pass
            host.send(bytes(12) + FRAME)
        while time.monotonic_ns() < stopped_ns + pause_ns:
            pass
        process.send_signal(signal.SIGCONT)
        print(count, file=process.stdin, flush=True)
        lateness = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
        device.close()
        host.close()
    assert lateness["worst_ns"] > pause_ns - UNSEEN_NS
    assert lateness["late_packets"] >= count * 0.9


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
