"""Rings of records: whole and in order, complete in virtual time, counted losses in real time."""

import os
import select
import threading

import pytest
from records import SNAP, frames
from timeline import SECOND, mac, numbered

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine


class Wire:
    """Two PORTs and the wire between them; what arrives at the second is captured."""

    def __init__(self, *, real_time: bool, ring_bytes: int) -> None:
        self.switch = Switch(real_time=real_time, ring_bytes=ring_bytes)
        self.near, self.far = self.switch.add_node(core.PORT), self.switch.add_node(core.PORT)
        interfaces = [self.switch.add_interface(node, mac(node + 1), 65535) for node in (self.near, self.far)]
        self.pipe, _ = self.switch.add_link(interfaces[0], interfaces[1])
        self.switch.discard_frames(self.far, True)
        self.switch.capture(interfaces[1], SNAP)

    def send(self, number: int, length: int) -> None:
        assert self.switch.inject(self.near, numbered(number, length)) == 1

    def close(self) -> None:
        self.switch.close()


@pytest.mark.parametrize("length", range(14, 23))
def test_records_of_any_length_pass_the_end_of_the_ring(length: int) -> None:
    wire = Wire(real_time=False, ring_bytes=4096)
    for number in range(300):
        wire.send(number, length)
        wire.switch.run(number)
        assert frames(wire.switch.take_records(core.CAPTURE_RING)) == [numbered(number, length)]
    assert wire.switch.take_records(core.CAPTURE_RING) == b""
    assert wire.switch.take_records(core.EVENT_RING) == b""
    wire.close()


def test_a_virtual_run_makes_a_pause_for_a_half_full_ring() -> None:
    wire = Wire(real_time=False, ring_bytes=65536)
    taken: list[bytes] = []

    def drain() -> None:
        records = wire.switch.take_records(core.CAPTURE_RING)
        assert len(records) > 32768
        taken.extend(frames(records))

    wire.switch.drain = drain
    sent = [numbered(number, 100 + number % 1000) for number in range(2000)]
    wire.switch.set_pipe(wire.pipe, bandwidth_bps=SECOND)
    for frame in sent:
        wire.switch.inject(wire.near, frame)
    assert wire.switch.run(SECOND)
    assert len(taken) > 1000
    assert taken + frames(wire.switch.take_records(core.CAPTURE_RING)) == sent
    assert wire.switch.lost_records(core.CAPTURE_RING) == 0
    wire.close()


def test_a_virtual_run_loses_nothing_that_nobody_reads() -> None:
    wire = Wire(real_time=False, ring_bytes=4096)
    sent = [numbered(number, 65000 - number) for number in range(100)]
    for frame in sent:
        wire.switch.inject(wire.near, frame)
    assert wire.switch.run(0)
    assert frames(wire.switch.take_records(core.CAPTURE_RING)) == sent
    assert wire.switch.lost_records(core.CAPTURE_RING) == 0
    wire.close()


def test_what_the_drain_raises_ends_the_run_and_loses_nothing() -> None:
    wire = Wire(real_time=False, ring_bytes=4096)

    def fail() -> None:
        raise OSError("no room")

    wire.switch.drain = fail
    wire.switch.set_pipe(wire.pipe, bandwidth_bps=SECOND)
    for number in range(100):
        wire.send(number, 100)
    with pytest.raises(OSError, match="no room"):
        wire.switch.run(SECOND)
    wire.switch.drain = None
    assert wire.switch.run(SECOND)
    assert frames(wire.switch.take_records(core.CAPTURE_RING)) == [
        numbered(number, 100) for number in range(100)
    ]
    wire.close()


def test_a_full_ring_in_real_time_loses_records_and_no_packet() -> None:
    wire = Wire(real_time=True, ring_bytes=4096)
    wire.switch.start()
    for number in range(100):
        wire.send(number, 500)
    while wire.switch.pipe_statistics(wire.pipe)["delivered_packets"] < 100:
        pass
    taken = frames(wire.switch.take_records(core.CAPTURE_RING))
    assert taken == [numbered(number, 500) for number in range(7)]
    assert wire.switch.lost_records(core.CAPTURE_RING) == 93
    wire.send(100, 500)
    while wire.switch.pipe_statistics(wire.pipe)["delivered_packets"] < 101:
        pass
    assert frames(wire.switch.take_records(core.CAPTURE_RING)) == [numbered(100, 500)]
    wire.close()


def test_a_thread_is_woken_for_each_record_that_it_waits_for() -> None:
    wire = Wire(real_time=True, ring_bytes=1 << 20)  # has room for all of them, however late the reader runs
    taken: list[bytes] = []
    count = 2000

    def read() -> None:
        ring_fd = wire.switch.ring_fd(core.CAPTURE_RING)
        while len(taken) < count:
            records = wire.switch.take_records(core.CAPTURE_RING)
            taken.extend(frames(records))
            if not records:
                ready, _, _ = select.select([ring_fd], [], [], 30)
                assert ready, "never woken"
                os.eventfd_read(ring_fd)

    reader = threading.Thread(target=read)
    wire.switch.start()
    reader.start()
    for number in range(count):
        wire.send(number, 60)
    reader.join(60)
    assert taken == [numbered(number, 60) for number in range(count)]
    wire.close()


@pytest.mark.parametrize("ring_bytes", [0, 1, 2048, 4097, 1 << 41])
def test_what_is_no_size_of_a_ring_is_refused(ring_bytes: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        Switch(ring_bytes=ring_bytes)
