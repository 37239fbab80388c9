"""The run's hash: by its definition, however the bytes lie, and changed by each bit and nanosecond."""

import random
import struct
from collections.abc import Iterable, Sequence

import pytest
from segments import TCP, UDP, Stream
from timeline import SECOND, SPLITMIX_STEP, WORD, Shape, Wire, numbered

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

BLOCK = 256


def splitmix(count: int) -> list[int]:
    draws = []
    for step in range(1, count + 1):
        z = SPLITMIX_STEP * step & WORD
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
        draws.append(z ^ (z >> 31))
    return draws


KEYS = splitmix(BLOCK // 8 + 3)


def fold(a: int, b: int) -> int:
    return (a * b & WORD) ^ (a * b >> 64)


def frame_hash(frame: bytes) -> int:
    """NH over blocks, chained: the head of core/observe/proof.pxd in plain Python."""
    state = len(frame) << 32
    for start in range(0, len(frame), BLOCK):
        block = frame[start : start + BLOCK]
        words = struct.unpack(
            f"<{(len(block) + 15) // 16 * 2}Q", block.ljust((len(block) + 15) // 16 * 16, b"\0")
        )
        keyed = [(word + key) & WORD for word, key in zip(words, KEYS, strict=False)]
        total = sum(a * b for a, b in zip(keyed[::2], keyed[1::2], strict=True))
        state = fold(state ^ (total & WORD) ^ KEYS[-3], (total >> 64 & WORD) ^ KEYS[-2])
    return state


def chain(arrivals: Iterable[tuple[int, bytes]]) -> int:
    state = 0
    for time_ns, frame in arrivals:
        state = fold(state ^ frame_hash(frame), (time_ns + KEYS[-1]) & WORD)
    return state


def test_a_chain_is_what_its_definition_says() -> None:
    rng = random.Random(20261124)
    wire = Wire(switch=Switch(proof=True))
    wire.shape(Shape(delay_ns=777))
    for length in [*range(1, 2 * BLOCK + 34), 1500, 4095, 4096, 9000, 65535]:
        wire.switch.inject(wire.near, rng.randbytes(length))
        wire.switch.run(wire.switch.now_ns + rng.randrange(3))
    arrivals = wire.arrivals(wire.switch.now_ns + 777)
    assert wire.switch.pipe_proof(wire.pipe) == (chain(arrivals), len(arrivals))
    assert wire.switch.pipe_proof(wire.back) == (0, 0)
    wire.switch.close()


def chains_of(frames: Sequence[bytes], delays_ns: Sequence[int]) -> list[int]:
    """The chain of a link of its own for each frame."""
    switch = Switch(proof=True)
    wires = [Wire(switch=switch) for _ in frames]
    for wire, frame, delay_ns in zip(wires, frames, delays_ns, strict=True):
        wire.shape(Shape(delay_ns=delay_ns))
        switch.inject(wire.near, frame)
    switch.run(max(delays_ns))
    chains = [switch.pipe_proof(wire.pipe)[0] for wire in wires]
    assert all(switch.pipe_proof(wire.pipe)[1] == 1 for wire in wires)
    switch.close()
    return chains


@pytest.mark.parametrize("length", [1, 14, 60, 300])
def test_every_bit_and_every_nanosecond_count(length: int) -> None:
    frame = random.Random(length).randbytes(length)
    flipped = [(int.from_bytes(frame) ^ 1 << bit).to_bytes(length) for bit in range(8 * length)]
    frames = [frame, *flipped, *[frame] * 60]
    delays_ns = [1] * (1 + len(flipped)) + [1 + (1 << bit) for bit in range(60)]
    delays_ns = [min(delay_ns, 10**15 - bit) for bit, delay_ns in enumerate(delays_ns)]
    chains = chains_of(frames, delays_ns)
    assert len(set(chains)) == len(frames)


def test_zeros_at_the_end_count() -> None:
    frames = [bytes(length) for length in range(1, 600)]
    assert len(set(chains_of(frames, [0] * len(frames)))) == len(frames)


def test_order_counts() -> None:
    chains = []
    for order in ([1, 2, 3], [1, 3, 2], [2, 1, 3], [3, 2, 1]):
        wire = Wire(switch=Switch(proof=True))
        for number in order:
            wire.switch.inject(wire.near, numbered(number, 60))
        wire.switch.run(0)
        chains.append(wire.switch.pipe_proof(wire.pipe)[0])
        wire.switch.close()
    assert len(set(chains)) == len(chains)


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("segment_size", [1, 202, 1000, 6000])
def test_how_the_bytes_lie_does_not_matter(protocol: int, segment_size: int) -> None:
    """Segments of a super-frame are heads before views of it; those that come alone are in one piece."""
    stream = Stream(size=10 * segment_size, segment_size=segment_size, protocol=protocol)
    proofs = []
    for messages in ([stream.super_frame()], stream.partial_segments()):
        wire = Wire(switch=Switch(proof=True))
        wire.shape(Shape(bandwidth_bps=SECOND))
        for header, frame in messages:
            wire.switch.inject(wire.near, frame, 1, header)
        assert len(wire.arrivals(SECOND)) == 10
        proofs.append(wire.switch.pipe_proof(wire.pipe))
        wire.switch.close()
    assert proofs[0] == proofs[1]
    assert proofs[0][1] == 10


def test_a_super_frame_counts_once_where_it_crosses_whole() -> None:
    header, frame = Stream(size=10_000, segment_size=1000).super_frame()
    wire = Wire(switch=Switch(proof=True))
    wire.switch.inject(wire.near, frame, 1, header)
    assert len(wire.arrivals(0)) == 10
    (whole, count) = wire.switch.pipe_proof(wire.pipe)
    assert count == 1
    assert whole not in (0, chain([(0, frame)]))  # how it is to be cut counts too
    wire.switch.close()


def records(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, payload) of each record."""
    found = []
    while data:
        length, kind = struct.unpack_from("<II", data)
        found.append((kind, data[8 : 8 + length]))
        data = data[8 + (length + 7) // 8 * 8 :]
    return found


def test_every_arrival_is_told_with_its_hash_and_first_bytes() -> None:
    rng = random.Random(11)
    wire = Wire(switch=Switch(proof=True, ring_bytes=4096))
    switch = wire.switch
    told = bytearray()

    def drain() -> None:
        told.extend(switch.take_records(core.EVENT_RING))

    switch.drain = drain
    wire.shape(Shape(delay_ns=5))
    switch.tell_arrivals()
    for length in range(1, 300):
        switch.inject(wire.near, rng.randbytes(length))
        switch.run(switch.now_ns + 1)
    arrivals = wire.arrivals(switch.now_ns + 5)
    assert told  # the ring was more than half full before the end
    drain()
    expected = [
        (1, struct.pack("<qQII", time_ns, frame_hash(frame), wire.pipe, len(frame)) + frame[:128])
        for time_ns, frame in arrivals
    ]
    assert records(bytes(told)) == expected
    assert switch.lost_records(core.EVENT_RING) == 0
    switch.close()


def test_arrivals_are_told_only_where_they_are_hashed() -> None:
    switch = Switch()
    with pytest.raises(ValueError, match="proof=True"):
        switch.tell_arrivals()
    switch.close()
