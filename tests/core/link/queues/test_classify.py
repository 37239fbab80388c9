"""Flows and precedences of frames: which packets share a queue, told by the order in which they leave."""

import struct
from dataclasses import replace

import pytest
from flows import FAR, NEAR, Mask, ether, flow_frame, fragment, ip6, precedence, queue_index
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lab import TYPE_ARP, TYPE_IP4, TYPE_IP6, ip4
from timeline import Wire

pytestmark = pytest.mark.engine

SEED = 0x5EED
MANY = 65536
FIRST = b"\x01"


def leaves(frames: list[bytes], shaping: dict[str, object]) -> list[bytes]:
    """The order in which frames leave that wait together."""
    wire = Wire(SEED)
    try:
        wire.switch.set_pipe(wire.pipe, bandwidth_bps=1_000_000, shaping=shaping)
        for frame in [FIRST, *frames]:
            wire.switch.inject(wire.near, frame)
        return [frame for _, frame in wire.arrivals(10**12)][1:]
    finally:
        wire.switch.close()


def share_a_queue(a: bytes, b: bytes, flows: int = MANY, mask: Mask | None = None) -> bool:
    shaping = {"discipline": "round_robin", "flows": flows, "mask": (mask or Mask()).setting()}
    return leaves([a, a, b], shaping)[1] == a


ADDRESSES4 = st.sampled_from(["10.0.0.1", "10.0.0.2", "11.0.0.1", "255.255.255.255"])
ADDRESSES6 = st.sampled_from(["fd00::1", "fd00::2", "fd00:0:0:1::1", "fe00::1"])
PORTS = st.binary(min_size=4, max_size=4).map(lambda b: bytes([0, b[1] & 3, 0, b[3] & 3])) | st.binary(
    max_size=12
)
PROTOCOLS = st.sampled_from([1, 6, 17, 33, 58, 132, 136])


@st.composite
def packets4(draw: st.DrawFn) -> tuple[int, bytes]:
    packet = ip4(
        draw(ADDRESSES4),
        draw(ADDRESSES4),
        draw(PORTS),
        protocol=draw(PROTOCOLS),
        options=draw(st.sampled_from([b"", b"", bytes(4), bytes(40)])),
        flags=draw(st.sampled_from([0, 0, 0x4000, 0x2000, 0x8000])),
        offset=draw(st.sampled_from([0, 0, 0, 8, 0xFFF8])),
        tos=draw(st.integers(0, 255)),
        header_words=draw(st.sampled_from([None, None, None, 0, 4])),
        version=draw(st.sampled_from([4, 4, 4, 4, 6])),
    )
    return TYPE_IP4, packet


@st.composite
def packets6(draw: st.DrawFn) -> tuple[int, bytes]:
    protocol, payload = draw(PROTOCOLS), draw(PORTS)
    for kind in draw(st.lists(st.sampled_from([0, 43, 44, 51, 60, 135]), max_size=9)):
        if kind == 44:
            header = (
                bytes([protocol, 0])
                + draw(st.sampled_from([b"\0\0", b"\0\0", b"\0\1", b"\1\0", b"\0\6"]))
                + bytes(4)
            )
        else:
            size = draw(st.integers(0, 2))
            header = bytes([protocol, size * (2 if kind == 51 else 1)]) + bytes(6 + 8 * size)
        protocol, payload = kind, header + payload
    traffic_class = draw(st.integers(0, 255))
    packet = ip6(draw(ADDRESSES6), draw(ADDRESSES6), payload, protocol=protocol, traffic_class=traffic_class)
    return TYPE_IP6, packet[: draw(st.sampled_from([1000, 1000, 1000, 39, 45, 1]))]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    ether_type, packet = draw(
        packets4() | packets6() | st.tuples(st.sampled_from([TYPE_ARP, 0x8100]), st.binary(max_size=30))
    )
    for tag in draw(st.lists(st.sampled_from([0x8100, 0x88A8]), max_size=3)):
        ether_type, packet = tag, struct.pack(">HH", 5, ether_type) + packet
    frame = ether(FAR, NEAR, ether_type, packet)
    return frame[: draw(st.sampled_from([2000, 2000, 2000, 2000, 33, 14, 9]))]


MASKS = st.builds(
    Mask,
    source6=st.sampled_from([0, 1, (1 << 128) - 1, ((1 << 64) - 1) << 64]),
    destination6=st.sampled_from([0, (1 << 128) - 1]),
    source4=st.sampled_from([0, 0xFFFFFFFF, 0xFF000000]),
    destination4=st.sampled_from([0, 0xFFFFFFFF]),
    source_port=st.sampled_from([0, 1, 0xFFFF]),
    destination_port=st.sampled_from([0, 0xFFFF]),
    protocol=st.sampled_from([0, 0xFF]),
)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(frames(), frames(), MASKS, st.sampled_from([1, 2, 3, 1024, MANY, MANY]))
def test_frames_share_a_queue_as_the_rules_say(a: bytes, b: bytes, mask: Mask, flows: int) -> None:
    assume(a != b)
    together = queue_index(a, flows, SEED, mask) == queue_index(b, flows, SEED, mask)
    assert share_a_queue(a, b, flows, mask) == together


@settings(derandomize=True, deadline=None, max_examples=100)
@given(frames(), frames())
def test_precedence_is_that_of_the_ip_header(a: bytes, b: bytes) -> None:
    assume(a != b)
    expected = [a, b] if precedence(a) >= precedence(b) else [b, a]
    assert leaves([a, b], {"discipline": "priority"}) == expected


def test_fragments_of_a_packet_stay_together() -> None:
    first, middle, last = fragment(1, 0, True, b"\1\2\3\4"), fragment(1, 24, True), fragment(1, 48, False)
    assert share_a_queue(first, middle) and share_a_queue(middle, last)
    assert not share_a_queue(first, fragment(2, 24, True))


def test_a_mask_joins_what_it_does_not_look_at() -> None:
    a, b = flow_frame(1, 0, 100), flow_frame(2, 1, 100)
    assert not share_a_queue(a, b)
    addresses = Mask(source_port=0, destination_port=0)
    assert not share_a_queue(a, b, mask=addresses)
    assert share_a_queue(a, b, mask=replace(addresses, destination4=0xFFFF0000))


def test_flows_spread_evenly_over_the_queues() -> None:
    """Chi-square of 10,000 flows over 64 queues, 63 degrees of freedom: above 128 one time in a million."""
    counts = [0] * 64
    for flow in range(10_000):
        counts[queue_index(flow_frame(flow, 0, 100), 64, SEED)] += 1
    expected = 10_000 / 64
    assert sum((count - expected) ** 2 / expected for count in counts) < 128


def test_flows_that_share_a_queue_part_with_another_seed() -> None:
    frames = [flow_frame(flow, 0, 100) for flow in range(40)]
    pairs = [(a, b) for a in range(40) for b in range(a) if together(frames[a], frames[b], 1)]
    assert len(pairs) > 20
    assert sum(together(frames[a], frames[b], 2) for a, b in pairs) < len(pairs) / 4


def together(a: bytes, b: bytes, seed: int) -> bool:
    return queue_index(a, 16, seed) == queue_index(b, 16, seed)
