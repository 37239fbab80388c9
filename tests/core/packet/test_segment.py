"""A super-frame meets the fate of its segments: each byte, each nanosecond, each counter.

Two equal networks get the same traffic at the same times: one as super-frames with checksums left to do, the
other as the segments that a sender without offloads would send, built by the test.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import (
    ARP_REPLY,
    BROADCAST,
    MILLISECOND,
    REDIRECT,
    SECOND,
    TIME_EXCEEDED,
    TYPE_ARP,
    TYPE_IP4,
    UNREACHABLE,
    Lab,
    arp,
    ether,
    ip,
    mac,
    of_type,
    read_icmp,
)
from records import payloads
from segments import ACK, CWR, DESTINATION, ECE, FIN, HOP_BY_HOP, PSH, ROUTING, TCP, UDP, Stream, cut
from timeline import is_in_balance

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

EVENT = struct.Struct("<qQII")
SINK_PORT = 49152  # of the town's first flow
SINK_SIZE = 200


class Town:
    """Everything that a frame can meet, with `entry` where frames come in.

    entry = switch = hub = r1 = r2 = far. Beside the switch: an IPv6 station; beside the hub: a host and a
    listener; beside r2: a link with a small MTU, and a host with a sink. Every link can be shaped.
    """

    def __init__(self) -> None:
        self.lab = lab = Lab()
        switch = lab.switch
        _, at_switch = lab.bridge(core.SWITCH, 3)
        _, at_hub = lab.bridge(core.HUB, 4)
        self.r1, r1 = lab.router("10.0.0.1/24", "10.0.1.1/24")
        self.r2, r2 = lab.router("10.0.1.2/24", "10.0.3.1/24", "10.0.4.1/24")
        narrow = lab.interface(self.r2, "10.0.2.1/24", mtu=576)
        self.inn, inn = lab.host("10.0.4.2/24")
        self.pub, pub = lab.host("10.0.0.5/24")
        self.entry = lab.wire(at_switch[0], "10.0.0.2")
        self.station = lab.wire(at_switch[2])
        self.listener = lab.wire(at_hub[2], "10.0.0.8")
        self.far = lab.wire(r2[1], "10.0.3.2")
        self.narrow = lab.wire(narrow, "10.0.2.2")
        links = [
            (at_switch[1], at_hub[0]),
            (at_hub[1], r1[0]),
            (at_hub[3], pub),
            (r1[1], r2[0]),
            (r2[2], inn),
        ]
        self.pipes = [wire.pipe_in for wire in lab.wires] + [wire.pipe_out for wire in lab.wires]
        for number, (a, b) in enumerate(links):
            self.pipes += switch.add_link(a, b, 100 + number, 200 + number)
        self.gateway = lab.macs[r1[0]]
        self.far_gateway = lab.macs[r2[1]]
        lab.route(self.r1, "0.0.0.0/0", "10.0.1.2")
        lab.route(self.r1, "10.66.0.0/16", None)
        lab.route(self.r1, "10.7.0.0/16", "10.0.0.8")
        switch.delete_route(self.r1, 0, 0)
        for prefix in ("10.0.2.0/24", "10.0.3.0/24", "10.0.4.0/24", "10.55.0.0/16"):
            lab.route(self.r1, prefix, "10.0.1.2")
        lab.route(self.r2, "10.0.0.0/24", "10.0.1.1")
        lab.route(self.inn, "0.0.0.0/0", "10.0.4.1")
        lab.route(self.pub, "0.0.0.0/0", "10.0.0.1")
        lab.quiet()
        self.entry.introduce("10.0.0.1")
        self.listener.introduce("10.0.0.1")
        self.far.introduce("10.0.3.1")
        self.narrow.introduce("10.0.2.1")
        self.station.send(ether(self.entry.mac, self.station.mac, 0x1234, bytes(50)))
        self.flow = switch.add_udp(
            self.pub,
            ip("10.0.4.2"),
            rate_bps=5_000_000,
            size_bytes=SINK_SIZE,
            stop_ns=40 * MILLISECOND,
            sink=self.inn,
        )
        lab.run(MILLISECOND)
        for wire in lab.wires:
            wire.take()

    def send(self, stream: Stream, how: str) -> None:
        """Put a stream on the wire now: `whole`, in `parts`, or in `partial` ones with checksums to do."""
        switch, node = self.lab.switch, self.entry.node
        if how == "whole":
            header, frame = stream.super_frame()
            assert switch.inject(node, frame, vnet_header=header) == 1
        elif how == "partial":
            for header, frame in stream.partial_segments():
                assert switch.inject(node, frame, vnet_header=header) == 1
        else:
            for frame in stream.segments():
                assert switch.inject(node, frame) == 1

    def observe(self) -> dict[str, Any]:
        """All that can be seen of the network from outside, and what it says of itself."""
        switch = self.lab.switch
        seen: dict[str, Any] = {
            "frames": [wire.take_timed() for wire in self.lab.wires],
            "drops": [switch.node_drops(node) for node in range(max(self.lab.interfaces) + 1)],
            "interfaces": [switch.interface_statistics(index) for index in self.lab.macs],
            "pipes": [switch.pipe_statistics(pipe) for pipe in self.pipes],
            "flow": switch.flow(self.flow),
            "neighbors": [switch.neighbors(node) for node in (self.r1, self.r2)],
            "events": switch.take_events(),
        }
        for pipe in seen["pipes"]:
            assert pipe["sent_packets"] == (
                pipe["delivered_packets"]
                + pipe["queue_drop_packets"]
                + pipe["loss_packets"]
                + pipe["down_drop_packets"]
                + pipe["loop_drop_packets"]
                + pipe["in_flight_packets"]
            )
        return seen


DESTINATIONS = {
    "far": "10.0.3.2",
    "silent": "10.0.3.77",
    "late": "10.0.3.78",
    "narrow": "10.0.2.2",
    "no route at r1": "99.0.0.1",
    "no route at r2": "10.55.0.1",
    "unreachable": "10.66.0.1",
    "redirect": "10.7.0.1",
    "r1": "10.0.0.1",
    "r2": "10.0.1.2",
    "inn": "10.0.4.2",
    "multicast": "224.0.0.9",
    "directed broadcast": "10.0.3.255",
    "own broadcast": "10.0.0.255",
    "broadcast": "255.255.255.255",
}

OPTIONS = [
    b"",
    b"\x01\x01\x01\x00",
    b"\x94\x04\x00\x00",  # router alert, copied into fragments
    b"\x44\x0c\x05\x00" + bytes(8),  # time stamp, not copied
    b"\x83\x07\x04\x0a\x00\x00\x01\x00",  # a source route
    b"\x07\x27\x04" + bytes(36) + b"\x00",  # as long as they get
]

TCP_OPTIONS = [b"", b"\x01\x01\x08\x0a" + bytes(range(8)), b"\x01\x01\x05\x0a" + bytes(8) + b"\x01" * 16]

VIA = "2001:db8::77"
SEGMENT_ROUTING = (ROUTING, b"\x04\x01\0\0\0\0" + ip_address(VIA).packed)
"""One more hop to go: the checksum is that of the last one's address."""

EXTENSIONS: list[tuple[tuple[int, bytes], ...]] = [
    (),
    (),
    ((HOP_BY_HOP, b"\x05\x02\x00\x00\x01\x00"),),
    ((DESTINATION, bytes([1, 12]) + bytes(12)),),
    ((HOP_BY_HOP, bytes(6)), (ROUTING, bytes(22)), (DESTINATION, bytes(6))),
    (SEGMENT_ROUTING,),
]


def draw_size(draw: st.DrawFn, segment_size: int, limit: int) -> int:
    """Up to up to 60 segments, the last one full, short, or the only one."""
    segments = draw(st.integers(1, max(1, min(60, limit // segment_size))))
    rest = draw(st.sampled_from([0, 0, 1, segment_size // 2, segment_size - 1]))
    return min(limit, max(1, segments * segment_size - rest))


@st.composite
def tcp_and_udp(draw: st.DrawFn, version: int, station: bytes, gateway: bytes) -> Stream:
    protocol = draw(st.sampled_from([TCP, UDP]))
    segment_size = draw(
        st.one_of(st.sampled_from([1448, 1460, 1400, 536, 1000, 999, 1]), st.integers(1, 1600))
    )
    common = {
        "protocol": protocol,
        "seed": draw(st.integers(0, 9)),
        "segment_size": segment_size,
        "ttl": draw(st.sampled_from([64] * 9 + [255, 3, 2, 1, 0])),
        "tos": draw(st.sampled_from([0, 2, 0xB8])),
        "sequence": draw(st.sampled_from([0, 2**32 - 3000, 2**31 - 1])),
        "tcp_flags": draw(
            st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR | ECE, ACK | CWR | PSH | FIN])
        ),
        "tcp_options": draw(st.sampled_from(TCP_OPTIONS)) if protocol == TCP else b"",
        "hdr_len": draw(st.sampled_from([0, 54, 65535])),
        "destination_port": draw(st.sampled_from([SINK_PORT, SINK_PORT, 33434])),
        "source_port": draw(st.sampled_from([SINK_PORT, 5000])),
        "vlan": draw(
            st.sampled_from(
                [()] * (9 if version == 4 else 1) + [(0x8100, 7), (0x88A8, 0xE007), (0x88A8, 1, 0x8100, 2)]
            )
        ),
        "source_mac": mac(1),
    }
    if version == 6:
        extensions = draw(st.sampled_from(EXTENSIONS))
        stream = Stream(
            1,
            **common,
            source="2001:db8::1",
            destination="2001:db8::2",
            extensions=extensions,
            final_destination=VIA if extensions and extensions[-1] == SEGMENT_ROUTING else None,
            destination_mac=draw(st.sampled_from([station, station, BROADCAST, mac(99), gateway])),
        )
    else:
        destination = draw(
            st.sampled_from(["far"] * 9 + ["narrow", "inn", "late"] * 3 + sorted(DESTINATIONS))
        )
        group = destination in ("broadcast", "own broadcast", "multicast")
        stream = Stream(
            1,
            **common,
            source=draw(st.sampled_from(["10.0.0.2"] * 20 + ["127.0.0.1", "10.0.3.9"])),
            destination=DESTINATIONS[destination],
            identification=draw(st.sampled_from([0, 65530, 1234])),
            dont_fragment=draw(st.booleans()),
            options=draw(st.sampled_from(OPTIONS[:1] * 9 + OPTIONS)),
            destination_mac=draw(
                st.sampled_from([BROADCAST if group else gateway] * 20 + [BROADCAST, station])
            ),
        )
    if protocol == UDP and draw(st.booleans()):
        stream = replace(stream, segment_size=SINK_SIZE)
    limit = 65535 - (stream.header_length - stream.transport_offset) - len(stream.options) - 200
    return replace(stream, size=draw_size(draw, stream.segment_size, limit))


LIMITS = st.none() | st.integers(0, 70)
SHAPES = st.one_of(
    st.just({}),
    st.builds(dict, delay_ns=st.sampled_from([1, 1000, 1_234_567])),
    st.builds(
        dict,
        bandwidth_bps=st.sampled_from([1_000_000, 97_000_001, 10**9, 10**10]),
        overhead_bytes=st.sampled_from([0, 24]),
        delay_ns=st.sampled_from([0, 777_777]),
        loss=st.sampled_from([0.0, 0.0, 0.03, 0.5, 1.0]),
        queue_limit_packets=LIMITS,
        queue_limit_bytes=st.none() | st.integers(0, 70_000),
    ),
    st.builds(dict, loss=st.sampled_from([0.01, 0.3]), delay_ns=st.sampled_from([0, 5])),
)

PIPES = 20
BETWEEN = 16  # from r1 to r2
Step = tuple[Any, ...]


def scripts(version: int) -> st.SearchStrategy[list[Step]]:
    town = Town()
    station, gateway = town.station.mac, town.gateway
    town.lab.close()
    send = st.tuples(
        st.just("send"),
        tcp_and_udp(version, station, gateway),
        st.sampled_from(["whole", "whole", "partial"]),
    )
    run = st.tuples(
        st.just("run"), st.sampled_from([0, 1, 999, 50_000, 2 * MILLISECOND, 70 * MILLISECOND, 61 * SECOND])
    )
    shape = st.tuples(st.just("shape"), st.integers(0, PIPES - 1), SHAPES)
    up = st.tuples(st.just("up"), st.integers(0, PIPES - 1), st.booleans())
    return st.lists(
        st.one_of(send, send, send, run, run, shape, shape, up, st.just(("answer",))), min_size=1, max_size=16
    )


def play(town: Town, step: Step, whole: bool) -> None:
    kind, *arguments = step
    if kind == "send":
        stream, how = arguments
        town.send(stream, how if whole else "parts")
    elif kind == "run":
        town.lab.run(*arguments)
    elif kind == "shape":
        pipe, parameters = arguments
        town.lab.switch.set_pipe(town.pipes[pipe], **parameters)
    elif kind == "up":
        pipe, up = arguments
        town.lab.switch.set_link_up(town.pipes[pipe], up)
    else:
        answer = arp(ARP_REPLY, town.far.mac, "10.0.3.78", town.far_gateway, "10.0.3.1")
        town.far.send(ether(town.far_gateway, town.far.mac, TYPE_ARP, answer))


def compare(script: Sequence[Step]) -> list[dict[str, Any]]:
    """Play a script in both networks; after each step they must look the same. Returns how."""
    whole, parts = Town(), Town()
    seen = []
    for step in [*script, ("run", 5 * SECOND)]:
        play(whole, step, True)
        play(parts, step, False)
        seen.append(whole.observe())
        assert seen[-1] == parts.observe()
    whole.lab.close()
    parts.lab.close()
    return seen


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(scripts(4))
def test_an_ip4_super_frame_meets_the_fate_of_its_segments(script: list[Step]) -> None:
    compare(script)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(scripts(6))
def test_an_ip6_super_frame_meets_the_fate_of_its_segments(script: list[Step]) -> None:
    compare(script)


# What each of those fates is, said once in plain words.

SEGMENTS = 40


@pytest.fixture(scope="module")
def town() -> Town:
    """To look up numbers in: the networks of one script are all numbered alike."""
    return Town()


def stream_to(town: Town, destination: str, **fields: Any) -> Stream:
    fields.setdefault("destination_mac", town.gateway)
    fields.setdefault("source_mac", mac(1))
    return Stream(1000 * SEGMENTS - 1, 1000, destination=destination, seed=1, **fields)


def frames_at(seen: list[dict[str, Any]], wire: int, ether_type: int) -> list[bytes]:
    return of_type((frame for look in seen for _, frame in look["frames"][wire]), ether_type)


ENTRY, STATION, LISTENER, FAR, NARROW = range(5)


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("how", ["whole", "partial"])
def test_segments_reach_a_host_over_routers(town: Town, protocol: int, how: str) -> None:
    stream = stream_to(town, "10.0.3.2", protocol=protocol, tcp_flags=ACK | PSH)
    seen = compare([("send", stream, how), ("run", SECOND)])
    wanted = replace(stream, ttl=62, destination_mac=town.far.mac, source_mac=town.far_gateway)
    assert frames_at(seen, FAR, TYPE_IP4) == wanted.segments()


@pytest.mark.parametrize(
    ("fields", "place", "reason", "answer"),
    [
        ({"destination": "10.0.3.2", "ttl": 1}, "r1", "ip4_ttl", (TIME_EXCEEDED, 0, 0)),
        ({"destination": "10.0.3.2", "ttl": 2}, "r2", "ip4_ttl", (TIME_EXCEEDED, 0, 0)),
        ({"destination": "99.0.0.1"}, "r1", "ip4_no_route", (UNREACHABLE, 0, 0)),
        ({"destination": "10.55.0.1"}, "r2", "ip4_no_route", (UNREACHABLE, 0, 0)),
        ({"destination": "10.66.0.1"}, "r1", "ip4_route_unreachable", (UNREACHABLE, 1, 0)),
        ({"destination": "10.0.2.2"}, "r2", "ip4_fragmentation_needed", (UNREACHABLE, 4, 576)),
        ({"destination": "10.0.3.2", "options": OPTIONS[4]}, "r1", "ip4_source_route", (UNREACHABLE, 5, 0)),
        ({"destination": "10.0.0.1"}, "r1", "ip4_protocol_unknown", (UNREACHABLE, 2, 0)),
        ({"destination": "10.0.4.2"}, "inn", "ip4_protocol_unknown", (UNREACHABLE, 2, 0)),
        ({"destination": "10.0.4.2", "protocol": UDP}, "inn", "udp_port_unreachable", (UNREACHABLE, 3, 0)),
        ({"destination": "10.0.3.77"}, "r2", "neighbor_unreachable", (UNREACHABLE, 1, 0)),
        ({"destination": "10.0.3.2", "source": "127.0.0.1"}, "r1", "ip4_source_martian", None),
        ({"destination": "224.0.0.9"}, "r1", "ip4_multicast", None),
        ({"destination": "10.0.3.255"}, "r2", "ip4_broadcast", None),
        (
            {"destination": "255.255.255.255", "destination_mac": BROADCAST},
            "r1",
            "ip4_protocol_unknown",
            None,
        ),
        ({"destination": "10.0.3.2", "vlan": (0x8100, 1)}, "r1", "ether_type_unknown", None),
    ],
)
def test_every_segment_is_dropped_and_answered_by_itself(
    town: Town, fields: dict[str, Any], place: str, reason: str, answer: tuple[int, int, int] | None
) -> None:
    stream = stream_to(town, **fields)
    seen = compare([("send", stream, "whole"), ("run", 5 * SECOND)])
    assert seen[-1]["drops"][getattr(town, place)][reason] == SEGMENTS
    messages = [read_icmp(frame) for frame in frames_at(seen, ENTRY, TYPE_IP4) if frame[23] == 1]
    assert [(message.icmp_type, message.code, message.rest) for message in messages] == (
        [answer] * SEGMENTS if answer else []
    )
    for message, frame in zip(messages, stream.segments(), strict=bool(answer)):
        transport = stream.transport_offset
        assert message.body[transport - 14 :] == frame[transport : 14 + 548]  # its checksum is the wire's


def test_a_segment_size_above_the_mtu_is_cut_into_fragments_or_is_too_long(town: Town) -> None:
    stream = stream_to(town, "10.0.2.2", dont_fragment=False)
    seen = compare([("send", stream, "whole"), ("run", SECOND)])
    assert len(frames_at(seen, NARROW, TYPE_IP4)) == 2 * SEGMENTS
    long = replace(stream_to(town, "10.0.3.2"), size=16_100, segment_size=1600)
    seen = compare([("send", long, "whole"), ("run", SECOND)])
    assert seen[-1]["drops"][town.r1]["ether_too_long"] == 10
    assert len(frames_at(seen, FAR, TYPE_IP4)) == 1  # the last one is short


def test_a_redirect_is_sent_for_each_segment(town: Town) -> None:
    seen = compare([("send", stream_to(town, "10.7.0.1"), "whole"), ("run", SECOND)])
    messages = [read_icmp(frame) for frame in frames_at(seen, ENTRY, TYPE_IP4) if frame[23] == 1]
    assert [(message.icmp_type, message.rest) for message in messages] == [
        (REDIRECT, ip("10.0.0.8"))
    ] * SEGMENTS
    segments = [frame for frame in frames_at(seen, LISTENER, TYPE_IP4) if frame[:6] == town.listener.mac]
    assert len(segments) == SEGMENTS


def test_a_queue_for_a_neighbor_holds_64_segments(town: Town) -> None:
    stream = replace(stream_to(town, "10.0.3.78"), size=70 * 900, segment_size=900)
    seen = compare([("send", stream, "whole"), ("run", MILLISECOND), ("answer",), ("run", MILLISECOND)])
    assert seen[-1]["drops"][town.r2]["neighbor_queue_full"] == 6
    arrived = frames_at(seen, FAR, TYPE_IP4)
    wanted = replace(stream, ttl=62, destination_mac=town.far.mac, source_mac=town.far_gateway)
    assert arrived == wanted.segments()[6:]


def test_a_sink_counts_each_datagram(town: Town) -> None:
    ports = {"source_port": SINK_PORT, "destination_port": SINK_PORT}
    stream = stream_to(town, "10.0.4.2", protocol=UDP, **ports)
    stream = replace(stream, size=SINK_SIZE * SEGMENTS, segment_size=SINK_SIZE)
    plain = compare([("run", SECOND)])[-1]["flow"]
    with_stream = compare([("send", stream, "whole"), ("run", SECOND)])[-1]["flow"]
    assert with_stream["received_packets"] - plain["received_packets"] == SEGMENTS


@pytest.mark.parametrize("limit", [{"queue_limit_packets": 7}, {"queue_limit_bytes": 7 * 1054 + 5}])
def test_a_queue_limit_meets_each_segment(town: Town, limit: dict[str, int]) -> None:
    shape = ("shape", BETWEEN, {"bandwidth_bps": 10_000_000, "delay_ns": 3 * MILLISECOND, **limit})
    stream = stream_to(town, "10.0.3.2")
    seen = compare([("run", 50 * MILLISECOND), shape, ("send", stream, "whole"), ("run", SECOND)])
    assert seen[-1]["pipes"][BETWEEN]["queue_drop_packets"] == SEGMENTS - 8
    times = [time_ns for look in seen for time_ns, frame in look["frames"][FAR] if frame[12:14] == b"\x08\0"]
    assert times == [54 * MILLISECOND + (number + 1) * 1054 * 800 for number in range(8)]


def test_loss_takes_the_same_segments(town: Town) -> None:
    shape = ("shape", BETWEEN, {"loss": 0.3, "delay_ns": 5})
    seen = compare(
        [("run", 50 * MILLISECOND), shape, ("send", stream_to(town, "10.0.3.2"), "whole"), ("run", SECOND)]
    )
    lost = seen[-1]["pipes"][BETWEEN]["loss_packets"]
    assert 0 < lost < SEGMENTS
    assert len(frames_at(seen, FAR, TYPE_IP4)) == SEGMENTS - lost


def test_what_is_under_way_when_a_link_goes_down_is_counted_in_segments(town: Town) -> None:
    script = [
        ("run", 50 * MILLISECOND),
        ("shape", BETWEEN, {"delay_ns": MILLISECOND}),
        ("send", stream_to(town, "10.0.3.2"), "whole"),
        ("run", MILLISECOND // 2),
        ("up", BETWEEN, False),
        ("send", stream_to(town, "10.0.3.2"), "whole"),
        ("run", MILLISECOND),
    ]
    seen = compare(script)
    assert [look["pipes"][BETWEEN]["in_flight_packets"] for look in seen[3:5]] == [SEGMENTS, 0]
    assert [look["pipes"][BETWEEN]["down_drop_packets"] for look in seen[3:7]] == [
        0,
        SEGMENTS,
        SEGMENTS,
        2 * SEGMENTS,
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_cutting_a_super_frame_by_its_header_gives_the_segments(version: int) -> None:
    """The tests' own two ways of cutting agree."""
    town = Town()

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(tcp_and_udp(version, town.station.mac, town.gateway))
    def check(stream: Stream) -> None:
        assert cut(*stream.super_frame()) == stream.segments()

    check()
    town.lab.close()


# On a link to a device, a super-frame that takes no more than 60 us arrives whole, with its last segment.

WHOLE_NS = 60_000


class Access:
    """A link to a device, or to a wire in its place, with what arrives by it: when, and how many bytes."""

    def __init__(self, kind: int, pool_limit_bytes: int = 1 << 28) -> None:
        self.kind = kind
        self.switch = Switch(proof=True, pool_limit_bytes=pool_limit_bytes)
        self.near, self.far = self.switch.add_node(core.PORT), self.switch.add_node(kind)
        ends = [self.switch.add_interface(node, mac(node + 1), 65535) for node in (self.near, self.far)]
        self.pipe, _ = self.switch.add_link(*ends)
        self.switch.tell_arrivals()

    def send(self, stream: Stream) -> None:
        header, frame = stream.super_frame()
        assert self.switch.inject(self.near, frame, vnet_header=header) == 1

    def arrivals(self) -> list[tuple[int, int]]:
        told = payloads(self.switch.take_records(core.EVENT_RING))
        return [(time_ns, length) for time_ns, _, _, length in (EVENT.unpack_from(record) for record in told)]

    def close(self) -> dict[str, int]:
        """The link's counters, when all is over; no packet may be left."""
        if self.kind == core.PORT:
            self.switch.discard_frames(self.far, True)
            self.switch.take_frames(self.far)
        self.switch.run(self.switch.now_ns + SECOND)
        assert is_in_balance(self.switch, self.pipe)
        statistics = self.switch.pipe_statistics(self.pipe)
        assert self.switch.statistics()["packets_in_use"] == 0
        self.switch.close()
        return statistics


def segments_of(
    arrivals: Sequence[tuple[int, int]], sizes: Mapping[int, Stream]
) -> list[tuple[int, int, bool]]:
    """Time and bytes of each segment that arrived, and whether it came alone or as the last of its frame."""
    found = []
    for time_ns, length in arrivals:
        lengths = [len(frame) for frame in sizes[length].segments()] if length in sizes else [length]
        found += [(time_ns, segment, number == len(lengths)) for number, segment in enumerate(lengths, 1)]
    return found


Change = Callable[[Access], object]


def reshaped(**shape: Any) -> Change:
    return lambda access: access.switch.set_pipe(access.pipe, **shape)


def down_and_up(access: Access) -> None:
    access.switch.set_link_up(access.pipe, False)
    access.switch.set_link_up(access.pipe, True)


CHANGES: dict[str, Change] = {
    "slower": reshaped(bandwidth_bps=10**8, delay_ns=1000),
    "quicker": reshaped(bandwidth_bps=10**11, delay_ns=0),
    "no limit": reshaped(delay_ns=1000),
    "a shorter queue": reshaped(bandwidth_bps=10**10, delay_ns=10_000, queue_limit_packets=10),
    "loss": reshaped(bandwidth_bps=10**10, delay_ns=10_000, loss=0.2),
    "another queue": reshaped(bandwidth_bps=10**10, shaping={"discipline": "fq_codel"}),
    "down": lambda access: access.switch.set_link_up(access.pipe, False),
    "down and up": down_and_up,
    "captured": lambda access: access.switch.capture(access.far, 65535),
    "no longer captured": lambda access: access.switch.capture(access.far, 0),
}

Step = tuple[int, Stream | str]


def steps_together(shape: dict[str, Any], steps: Sequence[Step]) -> tuple[list[Any], list[Any]]:
    """What arrives at a device, and at a wire in its place, to which no super-frame is carried whole."""
    arrivals = []
    counters = []
    changes_ns = {0}
    for kind in (core.TAP, core.PORT):
        access = Access(kind)
        access.switch.set_pipe(access.pipe, **shape)
        for pause_ns, step in steps:
            access.switch.run(access.switch.now_ns + pause_ns)
            if isinstance(step, Stream):
                access.send(step)
            else:
                CHANGES[step](access)
                changes_ns.add(access.switch.now_ns)
        access.switch.run(access.switch.now_ns + SECOND)
        arrivals.append(access.arrivals())
        counters.append(access.close())
    sizes = {len(stream.super_frame()[1]): stream for _, stream in steps if isinstance(stream, Stream)}
    whole, cut_form = (segments_of(seen, sizes) for seen in arrivals)
    assert [length for _, length, _ in whole] == [length for _, length, _ in cut_form]
    for (time_ns, _, is_exact), (exact_ns, _, _) in zip(whole, cut_form, strict=True):
        assert exact_ns <= time_ns <= exact_ns + WHOLE_NS
        assert time_ns == exact_ns or not is_exact or time_ns in changes_ns
    assert counters[0] == counters[1]
    return arrivals[0], arrivals[1]


@st.composite
def access_links(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "bandwidth_bps": draw(st.sampled_from([10**9, 3 * 10**9, 10**10, 10**11, 7 * 10**11])),
        "delay_ns": draw(st.sampled_from([0, 1, 1000, MILLISECOND])),
        "overhead_bytes": draw(st.sampled_from([0, 24, -10])),
        "queue_limit_packets": draw(st.sampled_from([None, None, 1, 20, 60])),
        "queue_limit_bytes": draw(st.sampled_from([None, None, 20_000, 90_000])),
        "loss": draw(st.sampled_from([0.0, 0.0, 0.0, 0.1])),
    }


@st.composite
def steps_for_a_device(draw: st.DrawFn) -> list[Step]:
    """Pauses, and after each of them a super-frame that is known by its length, or a change of the link."""
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 8))):
        pause_ns = draw(st.sampled_from([0, 0, 1, 999, 7_000, 30_000, 200_000]))
        if draw(st.integers(0, 3)) == 0:
            steps.append((pause_ns, draw(st.sampled_from(list(CHANGES)))))
            continue
        segment_size = draw(st.sampled_from([536, 1448, 9000]))
        size = draw(st.integers(1, 45)) * segment_size - 10 * number - 1
        steps.append((pause_ns, Stream(size=min(size, 65_000 - number), segment_size=segment_size)))
    return steps


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(access_links(), steps_for_a_device())
def test_a_super_frame_for_a_device_uses_the_link_as_its_segments_do(
    shape: dict[str, Any], steps: list[Step]
) -> None:
    """To the nanosecond: the last segment, what is behind it, what is dropped, what meets a change."""
    steps_together(shape, steps)


def test_only_a_super_frame_that_is_soon_over_arrives_whole() -> None:
    stream = Stream(size=40 * 1448, segment_size=1448)
    for bandwidth_bps, frames in ((10**10, 1), (10**9, 40)):
        whole, cut_form = steps_together({"bandwidth_bps": bandwidth_bps}, [(0, stream)])
        assert len(whole) == frames
        assert len(cut_form) == 40


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after_ns", [0, 10_000, 48_000, 60_000, 101_000])
def test_a_change_of_the_link_meets_the_segments_of_what_is_carried_whole(change: str, after_ns: int) -> None:
    """While it waits, while it is sent, on its way."""
    streams = [Stream(size=40 * 1448 - number, segment_size=1448) for number in range(3)]
    shape = {"bandwidth_bps": 10**10, "delay_ns": 10_000}
    steps_together(shape, [(0, streams[0]), (0, streams[1]), (after_ns, change), (500, streams[2])])


@pytest.mark.parametrize("changes", [["slower"], ["slower", "down"], ["captured", "down"], ["down"]])
def test_segments_that_take_less_than_a_nanosecond(changes: list[str]) -> None:
    """Some arrive, to the whole nanosecond, before they have started to be sent."""
    stream = Stream(size=20, segment_size=1)
    steps = [(0, stream), (2, changes[0]), *((0, change) for change in changes[1:])]
    steps_together({"bandwidth_bps": 10**12}, steps)


def test_segments_for_which_there_is_no_memory_when_the_link_changes_are_counted() -> None:
    """They were never sent, and the sender has dropped them."""
    access = Access(core.TAP, pool_limit_bytes=1 << 20)
    access.switch.set_pipe(access.pipe, bandwidth_bps=10**11, delay_ns=MILLISECOND)
    for number in range(8):
        access.send(Stream(size=60_000 - number, segment_size=100))
    assert access.switch.node_drops(access.near) == {}
    access.switch.set_pipe(access.pipe, bandwidth_bps=10**11)
    access.switch.run(SECOND)
    arrived = len(access.arrivals())
    dropped = access.switch.node_drops(access.near)["pool_empty"]
    assert arrived > 0
    assert arrived + dropped == 8 * 600
    assert access.close()["sent_packets"] == arrived
