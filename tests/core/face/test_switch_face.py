"""The engine's face: what it refuses, two engines in one process, closing, leaks, and real time."""

import os
import re
import resource
import select
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from timeline import MILLISECOND, SECOND, Shape, Wire, mac, numbered, shape_pipe

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

NEAR, FAR = 0x0A000001, 0x0A000002
OUT = [-1, 1 << 32, 1 << 64, 7, 12345]
Call = Callable[[Switch], object]


def two_hosts(switch: Switch, delay_ns: int = 0) -> tuple[int, int, int, int]:
    """The nodes, and the pipes there and back."""
    nodes = switch.add_node(core.HOST), switch.add_node(core.HOST)
    ends = [switch.add_interface(node, mac(i + 1)) for i, node in enumerate(nodes)]
    for end, address in zip(ends, (NEAR, FAR), strict=True):
        switch.add_address(end, address, 24)
    pipes = switch.add_link(ends[0], ends[1])
    for pipe in pipes:
        switch.set_pipe(pipe, delay_ns=delay_ns)
    return *nodes, *pipes


@pytest.fixture
def switch() -> Switch:
    """Hosts 0 and 1 and their link, PORT 2 with interface 2, switch 3, TAP 4 without an interface."""
    switch = Switch()
    two_hosts(switch)
    switch.add_interface(switch.add_node(core.PORT), mac(3))
    switch.add_node(core.SWITCH)
    switch.add_node(core.TAP)
    return switch


BY_NODE: list[Callable[[Switch, int], object]] = [
    lambda s, i: s.add_interface(i, mac(9)),
    lambda s, i: s.attach_tap(i, 0),
    lambda s, i: s.attach_nic(i, 0),
    lambda s, i: s.add_route(i, 0, 0, None),
    lambda s, i: s.delete_route(i, 0, 0),
    lambda s, i: s.routes(i),
    lambda s, i: s.lookup(i, NEAR),
    lambda s, i: s.neighbors(i),
    lambda s, i: s.mac_table(i),
    lambda s, i: s.add_ping(i, NEAR, interval_ns=1, count=1),
    lambda s, i: s.add_udp(i, NEAR, rate_bps=1, size_bytes=16),
    lambda s, i: s.add_udp(0, NEAR, rate_bps=1, size_bytes=16, sink=i),
    lambda s, i: s.inject(i, b"frame"),
    lambda s, i: s.take_frames(i),
    lambda s, i: s.discard_frames(i, True),
    lambda s, i: s.node_drops(i),
    lambda s, i: s.memory_bytes(i),
    lambda s, i: s.loopback(i),
    lambda s, i: s.open_echo(i, 7),
    lambda s, i: s.begin_echo(i, 7, NEAR, 7),
    lambda s, i: s.echo_counts(i, 7),
]
BY_INTERFACE: list[Callable[[Switch, int], object]] = [
    lambda s, i: s.capture(i, 0),
    lambda s, i: s.add_address(i, NEAR, 24),
    lambda s, i: s.add_link(i, 2),
    lambda s, i: s.add_link(2, i),
    lambda s, i: s.interface_statistics(i),
]
BY_PIPE: list[Callable[[Switch, int], object]] = [
    lambda s, i: s.set_pipe(i),
    lambda s, i: s.set_link_up(i, True),
    lambda s, i: s.pipe_statistics(i),
]
BY_FLOW: list[Callable[[Switch, int], object]] = [
    lambda s, i: s.flow(i),
    lambda s, i: s.take_replies(i),
    lambda s, i: s.stop_flow(i),
    lambda s, i: s.remove_flow(i),
]


@pytest.mark.parametrize("index", OUT)
@pytest.mark.parametrize(
    ("kind", "calls"),
    [("node", BY_NODE), ("interface", BY_INTERFACE), ("pipe", BY_PIPE), ("flow", BY_FLOW)],
)
def test_an_index_that_is_not_there(
    switch: Switch, kind: str, calls: list[Callable[[Switch, int], object]], index: int
) -> None:
    for call in calls:
        with pytest.raises(ValueError, match=f"there is no {kind} {index}"):
            call(switch, index)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_node(7), "there is no node kind 7"),
        (lambda s: s.add_node(-1), "there is no node kind -1"),
        (lambda s: s.add_interface(0, b"12345"), "6 bytes"),
        (lambda s: s.add_interface(0, b"\1" + bytes(5)), "single station"),
        (lambda s: s.add_interface(0, mac(9), 67), "68 to 65535"),
        (lambda s: s.add_interface(0, mac(9), 65536), "68 to 65535"),
        (lambda s: s.add_interface(2, mac(9)), "one interface"),
        (lambda s: s.add_address(0, FAR, 33), "0 to 32"),
        (lambda s: s.add_address(0, FAR, -1), "0 to 32"),
        (lambda s: s.add_address(0, 1 << 32, 24), "address"),
        (lambda s: s.add_address(0, -1, 24), "address"),
        (lambda s: s.add_address(0, NEAR, 24), "already"),
        (lambda s: s.add_address(0, 0x7F000001, 8), "one host"),
        (lambda s: s.add_address(0, 0xE0000001, 8), "one host"),
        (lambda s: s.add_address(0, 0, 8), "one host"),
        (lambda s: s.add_address(2, FAR, 24), "only hosts and routers"),
        (lambda s: s.add_link(2, 2), "one with itself"),
        (lambda s: s.add_link(0, 2), "one link at most"),
        (lambda s: s.add_link(2, 1), "one link at most"),
        (lambda s: s.add_link(2, s.add_interface(3, mac(9)), 1 << 64, 0), "seed"),
        (lambda s: s.add_link(2, s.add_interface(3, mac(9)), 0, -1), "seed"),
        (lambda s: s.attach_tap(0, 0), "TAP node"),
        (lambda s: s.attach_nic(4, 0), "NIC node"),
        (lambda s: s.attach_tap(4, 0), "has its interface"),
        (lambda s: (s.add_interface(4, mac(9)), s.attach_tap(4, 0)), "real time"),
        (lambda s: s.set_pipe(0, bandwidth_bps=99), "100 to"),
        (lambda s: s.set_pipe(0, bandwidth_bps=-1), "100 to"),
        (lambda s: s.set_pipe(0, bandwidth_bps=10**12 + 1), "100 to"),
        (lambda s: s.set_pipe(0, bandwidth_bps=1 << 64), "100 to"),
        (lambda s: s.set_pipe(0, overhead_bytes=65536), "65535"),
        (lambda s: s.set_pipe(0, overhead_bytes=-65536), "65535"),
        (lambda s: s.set_pipe(0, delay_ns=-1), "delay"),
        (lambda s: s.set_pipe(0, delay_ns=10**15 + 1), "delay"),
        (lambda s: s.set_pipe(0, delay_ns=1 << 63), "delay"),
        (lambda s: s.set_pipe(0, loss=-0.01), "0 to 1"),
        (lambda s: s.set_pipe(0, loss=1.01), "0 to 1"),
        (lambda s: s.set_pipe(0, loss=float("nan")), "0 to 1"),
        (lambda s: s.set_pipe(0, queue_limit_packets=-1), "packets"),
        (lambda s: s.set_pipe(0, queue_limit_bytes=1 << 64), "bytes"),
        (lambda s: s.add_route(0, 0x0B000001, 24, None), "bits set"),
        (lambda s: s.add_route(0, 0x0B000000, 33, None), "0 to 32"),
        (lambda s: s.add_route(0, 1 << 32, 32, None), "prefix"),
        (lambda s: s.add_route(0, 0x0B000000, 24, 0x0C000001), "none of the node's subnets"),
        (lambda s: s.add_route(0, 0x0B000000, 24, 1 << 32), "gateway"),
        (lambda s: s.add_route(0, 0x0A000000, 24, FAR), "own subnets"),
        (lambda s: s.add_route(0, NEAR, 32, FAR), "own subnets"),
        (lambda s: s.delete_route(0, -1, 24), "prefix"),
        (lambda s: s.delete_route(0, 0, 33), "0 to 32"),
        (lambda s: s.lookup(0, 1 << 32), "address"),
        (lambda s: s.add_ping(2, FAR, interval_ns=1, count=1), "only hosts and routers"),
        (lambda s: s.add_ping(0, 0xFFFFFFFF, interval_ns=1, count=1), "one host"),
        (lambda s: s.add_ping(0, -1, interval_ns=1, count=1), "destination"),
        (lambda s: s.add_ping(0, FAR, interval_ns=0, count=1), "interval"),
        (lambda s: s.add_ping(0, FAR, interval_ns=10**15 + 1, count=1), "interval"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=-1), "count"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, size_bytes=65508), "65507"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, size_bytes=-1), "65507"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, timeout_ns=0), "timeout"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, timeout_ns=core.NEVER), "timeout"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, ttl=0), "TTL"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, ttl=256), "TTL"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, probes_per_ttl=101), "probes"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, start_ns=1 << 63), "start"),
        (lambda s: s.add_ping(0, FAR, interval_ns=1, count=1, stop_ns=1 << 63), "stop"),
        (lambda s: s.add_udp(2, FAR, rate_bps=1, size_bytes=16), "only hosts and routers"),
        (lambda s: s.add_udp(0, 0xE0000001, rate_bps=1, size_bytes=16), "one host"),
        (lambda s: s.open_echo(0, 0), "port 0"),
        (lambda s: s.open_echo(0, 65536), "port 65536"),
        (lambda s: s.open_echo(3, 7), "only hosts and routers have ports"),
        (lambda s: s.open_echo(0, 7, limit_packets=-1), "limit"),
        (lambda s: s.begin_echo(0, 7, NEAR, 7), "no echo endpoint at port 7"),
        (lambda s: s.echo_counts(0, 7), "no echo endpoint at port 7"),
        (lambda s: s.loopback(3), "only hosts and routers have a loopback"),
        (lambda s: s.add_udp(0, FAR, rate_bps=0, size_bytes=16), "rate"),
        (lambda s: s.add_udp(0, FAR, rate_bps=10**12 + 1, size_bytes=16), "rate"),
        (lambda s: s.add_udp(0, FAR, rate_bps=1, size_bytes=15), "size"),
        (lambda s: s.add_udp(0, FAR, rate_bps=1, size_bytes=65508), "size"),
        (lambda s: s.inject(0, b"frame"), "PORT nodes"),
        (lambda s: s.inject(2, b""), "1 to 65664"),
        (lambda s: s.inject(2, bytes(65665)), "1 to 65664"),
        (lambda s: s.inject(2, b"frame", -1), "count"),
        (lambda s: s.inject(2, b"frame", 1 << 32), "count"),
        (lambda s: s.take_frames(3), "PORT nodes"),
        (lambda s: s.capture(0, -1), "snap length"),
        (lambda s: s.capture(0, 65665), "snap length"),
        (lambda s: s.take_records(2), "no ring 2"),
        (lambda s: s.ring_fd(-1), "no ring -1"),
        (lambda s: s.discard_frames(4, True), "PORT nodes"),
        (lambda s: s.run(-1), "does not go back"),
        (lambda s: (s.run(100), s.run(99)), "does not go back"),
        (lambda s: s.run(core.NEVER), "time"),
        (lambda s: s.run(1 << 64), "time"),
        (lambda s: Switch(dilation=0), "dilation"),
        (lambda s: Switch(dilation=-1), "dilation"),
        (lambda s: Switch(dilation=1 << 64), "dilation"),
        (lambda s: Switch(pool_limit_bytes=-1), "pool"),
    ],
)
def test_a_value_that_is_out_of_range(switch: Switch, call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(switch)
    # Nothing has come of it, and the engine works.
    flow = switch.add_ping(0, FAR, interval_ns=1, count=1)
    switch.run(switch.now_ns + SECOND)
    assert switch.flow(flow)["received_packets"] == 1
    switch.close()


def test_the_limits_themselves_are_allowed(switch: Switch) -> None:
    switch.set_pipe(0, bandwidth_bps=100, overhead_bytes=65535, delay_ns=10**15, loss=1.0)
    switch.set_pipe(0, bandwidth_bps=10**12, queue_limit_packets=0, queue_limit_bytes=0)
    switch.set_pipe(0, queue_limit_packets=(1 << 64) - 1, queue_limit_bytes=(1 << 64) - 1)
    switch.add_ping(0, FAR, interval_ns=10**15, count=(1 << 64) - 1, size_bytes=65507, timeout_ns=10**15)
    switch.add_udp(0, FAR, rate_bps=10**12, size_bytes=65507, start_ns=core.NEVER - 1, sink=1)
    switch.add_link(2, switch.add_interface(3, mac(9), 65535), (1 << 64) - 1, (1 << 64) - 1)
    switch.inject(2, bytes(65664))
    switch.run(4 * 10**18)
    assert switch.now_ns == 4 * 10**18
    assert switch.flow(0)["sent_packets"] == 4001
    switch.close()


CALLS: list[Call] = [
    *[lambda s, call=call: call(s, 0) for call in [*BY_NODE, *BY_INTERFACE, *BY_PIPE, *BY_FLOW]],
    lambda s: s.add_node(core.HOST),
    lambda s: s.now_ns,
    lambda s: s.next_event_ns,
    lambda s: s.run(1),
    lambda s: s.start(),
    lambda s: s.event_fd,
    lambda s: s.take_events(),
    lambda s: s.statistics(),
]


@pytest.mark.parametrize("real_time", [False, True])
def test_after_close(real_time: bool) -> None:
    switch = Switch(real_time=real_time)
    two_hosts(switch)
    switch.close()
    for call in CALLS:
        with pytest.raises(RuntimeError, match="has been closed"):
            call(switch)
    switch.stop()
    switch.close()


def test_the_two_kinds_of_time_do_not_mix() -> None:
    switch = Switch()
    with pytest.raises(RuntimeError, match="real time"):
        switch.start()
    switch.stop()
    switch.close()
    switch = Switch(real_time=True)
    with pytest.raises(RuntimeError, match="virtual time"):
        switch.run(1)
    switch.start()
    with pytest.raises(RuntimeError, match="runs already"):
        switch.start()
    building: list[Call] = [
        lambda s: s.add_node(core.HOST),
        lambda s: s.next_event_ns,
    ]
    for call in building:
        with pytest.raises(RuntimeError, match="while the engine runs"):
            call(switch)
    switch.stop()
    assert switch.add_node(core.HOST) == 0
    switch.close()


def test_what_is_built_while_it_runs_is_refused() -> None:
    switch = Switch(real_time=True)
    two_hosts(switch)
    switch.add_node(core.TAP)
    switch.start()
    building: list[Call] = [
        lambda s: s.add_interface(0, mac(9)),
        lambda s: s.add_address(0, 0x0B000001, 24),
        lambda s: s.add_link(0, 1),
        lambda s: s.attach_tap(2, 0),
    ]
    for call in building:
        with pytest.raises(RuntimeError, match="while the engine runs"):
            call(switch)
    switch.close()


@pytest.mark.parametrize("until_ns", [0, 1, 999, 1000, 1234, 5000])
def test_close_at_any_time(until_ns: int, capfd: pytest.CaptureFixture[str]) -> None:
    """With packets in queues, delay lines, neighbours' queues and PORTs. It prints what it lost track of."""
    switch = Switch()
    near, _, there, _ = two_hosts(switch)
    wire = Wire(1, 2, switch)
    wire.shape(Shape(bandwidth_bps=SECOND, delay_ns=1000, loss=0.3))
    switch.set_pipe(there, delay_ns=1000)
    switch.add_ping(near, FAR, interval_ns=1, count=500)
    switch.add_ping(near, 0x0A000063, interval_ns=1, count=500)
    switch.inject(wire.near, bytes(100), 50)
    switch.run(until_ns)
    assert switch.statistics()["packets_in_use"] > 0
    switch.close()
    assert capfd.readouterr().out == ""


def transfer(wire: Wire, first: int) -> Callable[[int], list[tuple[int, bytes]]]:
    """One step of a run of 200 frames over a shaped, lossy pipe."""

    def step(k: int) -> list[tuple[int, bytes]]:
        wire.switch.inject(wire.near, numbered(first + k, 60 + k))
        return wire.arrivals((k + 1) * 500)

    return step


def test_two_engines_side_by_side() -> None:
    """Alone, in turns, and from two threads at once: each delivers the same."""
    shape = Shape(bandwidth_bps=SECOND, delay_ns=5000, loss=0.2)

    def engines() -> list[Wire]:
        wires = [Wire(5, 6), Wire(7, 8)]
        for wire in wires:
            wire.shape(shape)
        return wires

    def close(wires: list[Wire]) -> None:
        for wire in wires:
            wire.switch.close()

    alone: list[list[tuple[int, bytes]]] = []
    wires = engines()
    for i, wire in enumerate(wires):
        step = transfer(wire, 1000 * i)
        alone.append([frame for k in range(200) for frame in step(k)])
    close(wires)
    assert alone[0] != alone[1]

    wires = engines()
    steps = [transfer(wire, 1000 * i) for i, wire in enumerate(wires)]
    in_turns: list[list[tuple[int, bytes]]] = [[], []]
    for k in range(200):
        for i in (1, 0):
            in_turns[i] += steps[i](k)
    close(wires)
    assert in_turns == alone

    wires = engines()
    at_once: list[list[tuple[int, bytes]]] = [[], []]
    both_ready = threading.Barrier(2)

    def work(i: int) -> None:
        step = transfer(wires[i], 1000 * i)
        both_ready.wait()
        for k in range(200):
            at_once[i] += step(k)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(wires)
    assert at_once == alone


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.parametrize("real_time", [False, True])
def test_nothing_leaks_over_200_engines(real_time: bool) -> None:
    def cycle() -> None:
        switch = Switch(real_time=real_time)
        near, _, there, _ = two_hosts(switch, 1000)
        wire = Wire(1, 2, switch)
        wire.shape(Shape(bandwidth_bps=SECOND, delay_ns=1000, loss=0.3))
        switch.set_pipe(there, bandwidth_bps=SECOND, delay_ns=1000)
        switch.add_udp(near, FAR, rate_bps=SECOND // 10, size_bytes=1000, stop_ns=MILLISECOND, sink=1)
        switch.add_ping(near, 0x0A000063, interval_ns=1, count=50, keep_replies=True)
        switch.inject(wire.near, bytes(1000), 50)
        if real_time:
            switch.start()
        else:
            switch.run(MILLISECOND // 2)
        switch.statistics()
        switch.close()

    for _ in range(10):
        cycle()
    files, resident, mapped = open_files(), resident_bytes(), mapped_bytes()
    threads = threading.active_count()
    for _ in range(200):
        cycle()
    assert open_files() == files
    assert threading.active_count() == threads
    # Two slabs of 200 engines are 100 MB; the address sanitizer keeps half of that to watch it.
    assert resident_bytes() - resident < 80 << 20
    # Each engine reserves some 600 MB of addresses.
    assert mapped_bytes() - mapped < 500 << 20


def wait_for(switch: Switch, kind: int, index: int) -> int:
    """Wait on the event descriptor, as an event loop does, until something happened; its time."""
    while True:
        ready, _, _ = select.select([switch.event_fd], [], [], 20)
        assert ready, "the engine did not tell"
        os.read(switch.event_fd, 8)
        for time_ns, event, which in switch.take_events():
            if (event, which) == (kind, index):
                return time_ns


def test_real_time_is_changed_and_watched_while_it_runs() -> None:
    switch = Switch(real_time=True)
    near, _, there, back = two_hosts(switch, MILLISECOND)
    assert switch.now_ns == 0
    switch.start()
    ping = switch.add_ping(near, FAR, interval_ns=10 * MILLISECOND, count=30, keep_replies=True)
    last_ns = 0
    for k in range(200):
        shape_pipe(switch, there, Shape(delay_ns=MILLISECOND + k))
        switch.add_route(near, 0x0B000000 + (k << 8), 24, FAR)
        statistics = switch.pipe_statistics(there)
        assert statistics["sent_packets"] == statistics["delivered_packets"] + statistics["in_flight_packets"]
        assert len(switch.routes(near)) == 3 + k
        assert switch.now_ns >= last_ns
        last_ns = switch.now_ns
    done_ns = wait_for(switch, core.FLOW_DONE, ping)
    statistics = switch.flow(ping)
    assert statistics["done"]
    assert statistics["sent_packets"] == statistics["received_packets"] == 30
    # Logical time: exact, however late the thread was. The first exchange waits for two more of ARP.
    assert done_ns == statistics["last_received_ns"]
    assert statistics["last_sent_ns"] - statistics["first_sent_ns"] == 290 * MILLISECOND
    assert [reply["rtt_ns"] for reply in switch.take_replies(ping)][-1] == 2 * MILLISECOND + 199
    switch.stop()
    now_ns = switch.now_ns
    # Stopped, it answers at once, and what is asked of it then is done after the next start.
    shape_pipe(switch, back, Shape(delay_ns=5 * MILLISECOND))
    again = switch.add_ping(near, FAR, interval_ns=MILLISECOND, count=3)
    assert switch.flow(again)["sent_packets"] == 0
    switch.start()
    assert wait_for(switch, core.FLOW_DONE, again) > now_ns
    assert switch.flow(again)["delay_max_ns"] == 6 * MILLISECOND + 199
    switch.close()


@pytest.mark.parametrize("real_time", [False, True])
def test_events_are_lost_only_while_the_engine_runs(real_time: bool) -> None:
    """Before that, and in virtual time, nobody could have fetched them."""
    switch = Switch(real_time=real_time)
    _, _, there, _ = two_hosts(switch)
    switch.take_events()
    for _ in range(5000):
        switch.set_pipe(there, delay_ns=1)
    assert len(switch.take_events()) == 5000
    for _ in range(20_000):
        switch.set_pipe(there, delay_ns=1)
    assert len(switch.take_events()) == 20_000
    assert switch.statistics()["lost_events"] == 0
    if real_time:
        switch.start()
        for _ in range(33_000):  # the room that there is by now, and some more
            switch.set_pipe(there, delay_ns=1)
        assert switch.statistics()["lost_events"] == switch.lost_events == 33_000 - 32_768
        # Whoever had just read all would have to look up what is lost now.
        os.read(switch.event_fd, 8)
        switch.set_pipe(there, delay_ns=1)
        assert select.select([switch.event_fd], [], [], 20)[0]
        assert switch.lost_events == 33_001 - 32_768
        assert len(switch.take_events()) == 32_768
        switch.set_pipe(there)
        assert [event[1:] for event in switch.take_events()] == [(core.LINK_CHANGED, there)]
    switch.close()


def test_what_was_posted_before_the_start_is_told_after_it() -> None:
    switch = Switch(real_time=True)
    _, _, there, _ = two_hosts(switch)
    switch.take_events()
    switch.set_pipe(there, delay_ns=1)
    switch.start()
    wait_for(switch, core.LINK_CHANGED, there)
    switch.close()


def test_frames_from_python_into_a_running_engine() -> None:
    switch = Switch(real_time=True)
    wire = Wire(1, 2, switch)
    wire.shape(Shape(bandwidth_bps=SECOND, delay_ns=MILLISECOND))
    switch.start()
    for number in range(500):
        switch.inject(wire.near, numbered(number, 100))
    frames: list[tuple[int, bytes]] = []
    while len(frames) < 500:
        frames += switch.take_frames(wire.far)
        assert switch.now_ns < 20 * SECOND
    assert [frame for _, frame in frames] == [numbered(number, 100) for number in range(500)]
    times = [time_ns for time_ns, _ in frames]
    assert all(later - earlier >= 800 for earlier, later in pairwise(times))
    switch.close()


def test_many_threads_may_ask_in_turn() -> None:
    """The commands of several threads meet at one lock; none is lost or mixed up."""
    switch = Switch(real_time=True)
    wire = Wire(1, 2, switch)
    switch.start()
    failures: list[str] = []

    def work(i: int) -> None:
        for k in range(300):
            switch.inject(wire.near, numbered(1000 * i + k, 60 + i))
            if switch.pipe_statistics(wire.pipe)["sent_packets"] <= k:
                failures.append(f"thread {i}, frame {k}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    switch.stop()
    assert not failures
    frames = (
        switch.take_frames(wire.far) + [(0, b"")] * switch.pipe_statistics(wire.pipe)["in_flight_packets"]
    )
    assert len(frames) == 1200
    switch.close()


def test_dilated_time_is_as_exact_and_slower() -> None:
    switch = Switch(real_time=True, dilation=10)
    near, *_ = two_hosts(switch, MILLISECOND)
    switch.start()
    ping = switch.add_ping(near, FAR, interval_ns=5 * MILLISECOND, count=4)
    done_ns = wait_for(switch, core.FLOW_DONE, ping)
    statistics = switch.flow(ping)
    assert statistics["received_packets"] == 4
    assert statistics["delay_min_ns"] == 2 * MILLISECOND
    assert done_ns == statistics["last_received_ns"] <= switch.now_ns
    switch.close()


def test_a_storm_can_be_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    """Four hubs, each joined to each: frames double in every round of one instant, up to the limit."""
    switch = Switch(real_time=True, pool_limit_bytes=1 << 28)
    hubs = [switch.add_node(core.HUB) for _ in range(4)]
    port = switch.add_node(core.PORT)
    switch.add_link(switch.add_interface(port, mac(1)), switch.add_interface(hubs[0], mac(2)))
    for i, a in enumerate(hubs):
        for k, b in enumerate(hubs[:i]):
            ends = (10 * i + k, a), (100 + 10 * i + k, b)
            switch.add_link(*(switch.add_interface(hub, mac(number)) for number, hub in ends))
    switch.start()
    switch.inject(port, b"frame")
    switch.stop()
    switch.start()
    switch.stop()
    switch.close()
    assert capfd.readouterr().out == ""


def test_the_stub_names_what_there_is() -> None:
    stub = Path(core.__file__).with_name("_switch.pyi").read_text()
    names = set(re.findall(r"^    def (\w+)\(", stub, re.MULTILINE)) - {"__init__"}
    assert names == {name for name in dir(Switch) if not name.startswith("_")}
