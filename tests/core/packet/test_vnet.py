"""What a device says of its frames, and what it is told: bad headers, checksums left to do, joined segments.

A socket pair stands in for a device: one message is a virtio header and a frame. What is written before the
engine starts is read in one turn, so that what can be joined is joined every time.
"""

import contextlib
import random
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import (
    BROADCAST,
    MILLISECOND,
    MORE_FRAGMENTS,
    TYPE_ARP,
    TYPE_IP4,
    Lab,
    checksum,
    echo,
    ether,
    ip4,
    mac,
    udp,
)
from segments import (
    ACK,
    CWR,
    DESTINATION,
    ECE,
    FIN,
    FRAGMENT,
    GSO_ECN,
    GSO_NONE,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP,
    GSO_UDP_FRAGMENTS,
    NEEDS_CHECKSUM,
    PLAIN,
    PSH,
    SYN,
    TCP,
    UDP,
    VNET_HEADER,
    Stream,
    cut,
    cut_all,
)

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

TCP4 = Stream(5000, 1000)
UDP4 = Stream(5000, 1000, protocol=UDP)
TCP6 = Stream(5000, 1000, source="2001:db8::1", destination="2001:db8::2")
UDP6 = Stream(5000, 1000, protocol=UDP, source="2001:db8::1", destination="2001:db8::2")
FIELDS = ["flags", "gso", "hdr_len", "segment_size", "start", "place", "buffers"]


def header_of(stream: Stream, **changes: int) -> bytes:
    fields = dict(zip(FIELDS, VNET_HEADER.unpack(stream.super_frame()[0]), strict=True))
    return VNET_HEADER.pack(*(fields | changes).values())


def changed(stream: Stream, place: int, value: bytes, *, repair: bool = False) -> bytes:
    """The super-frame with other bytes in its IP packet; the IP header's checksum repaired if told to."""
    frame = bytearray(stream.super_frame()[1])
    frame[14 + place : 14 + place + len(value)] = value
    if repair:
        frame[24:26] = b"\0\0"
        frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
    return bytes(frame)


def bad_headers() -> Iterator[tuple[str, bytes, bytes]]:
    for stream in (TCP4, UDP4, TCP6, UDP6):
        name = f"{'TCP' if stream.protocol == TCP else 'UDP'}{stream.version}"
        frame = stream.super_frame()[1]
        own = VNET_HEADER.unpack(stream.super_frame()[0])[1]
        start = stream.transport_offset
        changes: dict[str, dict[str, int]] = {
            "checksum start behind the frame": {"start": len(frame)},
            "checksum start at the last byte": {"start": len(frame) - 1},
            "checksum start far away": {"start": 65535, "place": 65535},
            "checksum behind the frame": {"place": len(frame) - start - 1},
            "checksum start 0": {"start": 0},
            "checksum start in the IP header": {"start": 33},
            "checksum start four bytes late": {"start": start + 4},
            "checksum at another place": {"place": 10},
            "segments of 0 bytes": {"segment_size": 0},
            "segments without a checksum to do": {"flags": 0},
            "segments of a checked frame": {"flags": 2},
        }
        for wrong in {GSO_TCP4, GSO_UDP_FRAGMENTS, GSO_TCP6, GSO_UDP, 2, 6, 0x7F, 0x20 | own} - {own}:
            changes[f"segmentation type {wrong}"] = {"gso": wrong}
        for what, change in changes.items():
            yield f"{name}: {what}", header_of(stream, **change), frame
        header = header_of(stream)
        for length in (stream.header_length, stream.header_length - 1, start + 2, 20, 14, 1):
            yield f"{name}: {length} bytes", header, frame[:length]
        only_headers = replace(stream, size=0).super_frame()[1]
        yield f"{name}: no payload", header, only_headers
        yield f"{name}: longer than IP says", header, frame + b"\0"
        yield f"{name}: shorter than IP says", header, frame[:-1]
        yield f"{name}: no IP", header, frame[:12] + b"\x08\x06" + frame[14:]
        yield f"{name}: another version", header, changed(stream, 0, b"\x55")
    yield "TCP4: another protocol", header_of(TCP4), changed(TCP4, 9, b"\x2f", repair=True)
    yield "UDP4: another protocol", header_of(UDP4), changed(UDP4, 9, b"\x06", repair=True)
    yield "TCP4: a fragment", header_of(TCP4), changed(TCP4, 6, b"\x20\0", repair=True)
    yield "TCP4: a later fragment", header_of(TCP4), changed(TCP4, 6, b"\x00\1", repair=True)
    yield "TCP4: a wrong header checksum", header_of(TCP4), changed(TCP4, 10, b"\x12\x34")
    yield "TCP4: header of 24 bytes", header_of(TCP4), changed(TCP4, 0, b"\x46", repair=True)
    yield "TCP4: TCP header of 16 bytes", header_of(TCP4), changed(TCP4, 32, b"\x40")
    yield (
        "TCP4: TCP header behind the frame",
        header_of(replace(TCP4, size=30), gso=1, segment_size=9),
        (changed(replace(TCP4, size=30), 32, b"\xf0")),
    )
    yield "UDP4: a wrong length", header_of(UDP4), changed(UDP4, 24, b"\x00\x09")
    yield "UDP6: a wrong length", header_of(UDP6), changed(UDP6, 44, b"\xff\xff")
    yield "TCP6: another protocol", header_of(TCP6), changed(TCP6, 6, b"\x11")
    yield "TCP6: an extension header that is none", header_of(TCP6, start=62), changed(TCP6, 6, b"\x3c\0")
    for kind, body in ((FRAGMENT, bytes(6)), (51, bytes(6)), (DESTINATION, bytes(6))):
        stream = replace(TCP6, extensions=((kind, body),))
        frame = bytearray(stream.super_frame()[1])
        if kind == DESTINATION:
            frame[55] = 7  # it says that it is longer
        yield f"TCP6: extension header {kind}", header_of(stream), bytes(frame)
    tagged = replace(TCP4, vlan=(0x8100, 1))
    frame = tagged.super_frame()[1]
    yield (
        "TCP4: a header of 16 bytes behind a tag",
        header_of(tagged, start=34),
        frame[:18] + b"\x44" + frame[19:],
    )
    yield "TCP4: three tags", header_of(tagged, start=46), frame[:12] + b"\x81\0\0\2" * 2 + frame[12:]


BAD_HEADERS = {what: (header, frame) for what, header, frame in bad_headers()}


@pytest.fixture
def wires(lab: Lab) -> tuple[int, int]:
    """Two PORT nodes joined by a link."""
    nodes = lab.switch.add_node(core.PORT), lab.switch.add_node(core.PORT)
    lab.link(*(lab.interface(node) for node in nodes))
    return nodes


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_a_header_that_does_not_fit_its_frame_is_counted_and_dropped(
    lab: Lab, wires: tuple[int, int], what: str
) -> None:
    header, frame = BAD_HEADERS[what]
    assert lab.switch.inject(wires[0], frame, vnet_header=header) == 1
    lab.run(0)
    assert lab.drops(wires[0]) == {"vnet_header": 1}
    assert lab.switch.take_frames(wires[1]) == []


def odd_frames() -> Iterator[tuple[str, bytes, bytes]]:
    """Frames whose checksums cannot be carried half-done, but can be finished."""
    one = replace(TCP4, size=100, segment_size=100)
    datagram = replace(UDP4, size=101, segment_size=101)
    for stream in (one, datagram, replace(one, vlan=(0x8100, 5)), replace(datagram, vlan=(0x88A8, 5))):
        header, frame = stream.super_frame()
        yield f"{stream.protocol}, {stream.vlan}: padded", header, frame + b"\x11\x22\x33"
        yield f"{stream.protocol}, {stream.vlan}: cut off", header, frame[:-3]
        yield f"{stream.protocol}, {stream.vlan}: bad IP checksum", header, frame[:20] + b"\3" + frame[21:]
        tags = b"\x88\xa8\0\1" * 3
        start = stream.transport_offset + 12
        yield (
            f"{stream.protocol}, {stream.vlan}: tags",
            header_of(stream, start=start),
            frame[:12] + tags + frame[12:],
        )
    yield "a short TCP header", header_of(one), changed(one, 32, b"\x10")
    yield "a UDP length that is wrong", header_of(datagram), changed(datagram, 24, b"\0\x10")
    request = ether(mac(2), mac(1), TYPE_IP4, ip4("10.0.0.1", "10.0.0.2", echo(payload=b"abc"), protocol=1))
    partial_request = request[:36] + b"\0\0" + request[38:]
    yield "ICMP", VNET_HEADER.pack(NEEDS_CHECKSUM, GSO_NONE, 0, 0, 34, 2, 0), partial_request
    fragment = ether(mac(2), mac(1), TYPE_IP4, ip4("10.0.0.1", "10.0.0.2", bytes(64), flags=MORE_FRAGMENTS))
    yield "a fragment", VNET_HEADER.pack(NEEDS_CHECKSUM, GSO_NONE, 0, 0, 34, 6, 0), fragment
    yield (
        "no IP",
        VNET_HEADER.pack(NEEDS_CHECKSUM, 0, 0, 0, 40, 1, 0),
        ether(mac(2), mac(1), TYPE_ARP, bytes(60)),
    )
    yield "nothing to do", PLAIN, request
    yield "checked", VNET_HEADER.pack(2, GSO_NONE, 9, 9, 9, 9, 9), request
    yield (
        "ECN",
        header_of(replace(TCP4, tcp_flags=ACK | CWR), gso=GSO_TCP4 | GSO_ECN),
        (replace(TCP4, tcp_flags=ACK | CWR).super_frame()[1]),
    )
    # A sum that comes to nothing: 0 would say that there is none.
    zero = ether(mac(2), mac(1), TYPE_IP4, ip4("10.0.0.1", "10.0.0.2", bytes(40), flags=MORE_FRAGMENTS))
    zero = zero[:34] + b"\xff\xff" + zero[36:]
    yield "UDP zero", VNET_HEADER.pack(NEEDS_CHECKSUM, GSO_NONE, 0, 0, 34, 6, 0), zero


ODD_FRAMES = {what: (header, frame) for what, header, frame in odd_frames()}


@pytest.mark.parametrize("what", ODD_FRAMES)
def test_what_cannot_be_carried_half_done_is_finished_at_the_door(
    lab: Lab, wires: tuple[int, int], what: str
) -> None:
    header, frame = ODD_FRAMES[what]
    assert lab.switch.inject(wires[0], frame, vnet_header=header) == 1
    lab.run(0)
    assert [frame for _, frame in lab.switch.take_frames(wires[1])] == cut(header, frame)
    assert lab.drops(wires[0]) == {}


def test_a_udp_checksum_that_comes_to_zero_is_sent_as_ones(lab: Lab, wires: tuple[int, int]) -> None:
    stream = Stream(2, 2, protocol=UDP)
    plain = ether(
        mac(2),
        mac(1),
        TYPE_IP4,
        ip4("10.0.0.2", "10.0.1.2", udp("10.0.0.2", "10.0.1.2", b"\0\0"), flags=0x4000),
    )
    payload = plain[40:42]  # the checksum that is right without it
    wanted = plain[:40] + b"\xff\xff" + payload
    header, partial = stream.super_frame()
    lab.switch.inject(wires[0], partial[:42] + payload, vnet_header=header)
    lab.run(0)
    assert lab.switch.take_frames(wires[1])[0][1] == wanted


def test_what_a_header_says_of_the_headers_length_is_not_believed(lab: Lab, wires: tuple[int, int]) -> None:
    for hdr_len in (0, 1, 54, 55, 65535):
        stream = replace(TCP4, hdr_len=hdr_len)
        header, frame = stream.super_frame()
        lab.switch.inject(wires[0], frame, vnet_header=header)
    lab.run(0)
    assert [frame for _, frame in lab.switch.take_frames(wires[1])] == TCP4.segments() * 5


# Fuzz.

STREAMS = [
    replace(stream, **fields)
    for stream in (TCP4, UDP4, TCP6, UDP6)
    for fields in (
        {},
        {"vlan": (0x8100, 9)},
        {"vlan": (0x88A8, 9), "size": 100, "segment_size": 33},
        {"size": 64, "segment_size": 1},
        {"size": 1448, "segment_size": 1448},
        {"size": 0, "segment_size": 100},
        {"options": bytes(8)} if stream.version == 4 else {"extensions": ((DESTINATION, bytes(14)),)},
        {"tcp_options": bytes(20), "size": 3000, "segment_size": 1448}
        if stream.protocol == TCP
        else {"size": 2999},
    )
]
WORDS = [0, 1, 6, 8, 13, 14, 16, 33, 34, 38, 54, 58, 1448, 1664, 32767, 65534, 65535]


def damage(chance: random.Random, header: bytes, frame: bytes) -> tuple[bytes, bytes]:
    fields = list(VNET_HEADER.unpack(header))
    damaged = bytearray(frame)
    for _ in range(1 + chance.getrandbits(1)):
        kind = chance.randrange(8)
        if kind == 0:
            fields[0] = chance.choice([0, 1, 1, 2, 3, chance.getrandbits(8)])
        elif kind == 1:
            fields[1] = chance.choice([0, 1, 2, 3, 4, 5, 0x81, 0x84, chance.getrandbits(8)])
        elif kind == 2:
            fields[chance.choice([2, 3, 4, 5, 6])] = chance.choice([*WORDS, chance.getrandbits(16)])
        elif kind == 3:
            field = chance.choice([3, 4, 5])
            fields[field] = (fields[field] + chance.randrange(-20, 21)) % 65536
        elif kind == 4:
            del damaged[max(1, chance.randrange(len(damaged))) :]
        elif kind == 5:
            damaged[chance.randrange(min(len(damaged), 80))] = chance.getrandbits(8)
        elif kind == 6:
            place = chance.randrange(min(len(damaged), 80))
            damaged[place : place + 2] = chance.choice(WORDS).to_bytes(2, "big")
        else:
            return chance.randbytes(12), bytes(damaged)
    return VNET_HEADER.pack(*fields), bytes(damaged)


def damaged_frames(seed: str, count: int) -> Iterator[tuple[bytes, bytes]]:
    chance = random.Random(seed)
    pristine = [stream.super_frame() for stream in STREAMS]
    for _ in range(count):
        header, frame = damage(chance, *chance.choice(pristine))
        if len(frame) >= 38 and frame[12:14] == b"\x08\0" and chance.getrandbits(1):
            end = 14 + max(20, (frame[14] & 15) * 4)  # past the check of the IP header
            frame = frame[:24] + b"\0\0" + frame[26:]
            frame = frame[:24] + checksum(frame[14:end]).to_bytes(2, "big") + frame[26:]
        yield header, frame


@pytest.mark.slow
def test_damaged_frames_are_dropped_or_come_out_as_a_network_card_would_cut_them(
    lab: Lab, wires: tuple[int, int]
) -> None:
    switch = lab.switch
    accepted = 0
    for number, (header, frame) in enumerate(damaged_frames("wire", 120_000)):
        assert switch.inject(wires[0], frame, vnet_header=header) == 1
        lab.run(0)
        arrived = [frame for _, frame in switch.take_frames(wires[1])]
        if arrived:
            accepted += 1
            assert arrived == cut(header, frame)
        if number % 1000 == 999:
            assert lab.drops(wires[0])["vnet_header"] == number + 1 - accepted
    assert 40_000 < accepted < 80_000


@pytest.mark.slow
def test_damaged_frames_do_no_harm_in_a_network(lab: Lab) -> None:
    """Through a switch and a hub into a router and a host behind it, with a small MTU on the way."""
    switch = lab.switch
    _, at_switch = lab.bridge(core.SWITCH, 2)
    _, at_hub = lab.bridge(core.HUB, 4)
    router, ports = lab.router("10.0.0.1/24", "10.0.1.1/24")
    small = lab.interface(router, "10.0.2.1/24", mtu=68)
    host, at_host = lab.host("10.0.1.2/24")
    lab.route(host, "0.0.0.0/0", "10.0.1.1")
    entry = lab.wire(at_switch[0], "10.0.0.2")
    listener = lab.wire(at_hub[2])
    far = lab.wire(small, "10.0.2.2")
    lab.link(at_switch[1], at_hub[0])
    shaped = [*lab.link(at_hub[1], ports[0]), *lab.link(ports[1], at_host)]
    lab.quiet()
    entry.introduce("10.0.0.1")
    chance = random.Random("network")
    destinations = [
        b"\x0a\0\1\2",
        b"\x0a\0\2\2",
        b"\x0a\0\0\1",
        b"\x0a\0\1\x63",
        b"\xff\xff\xff\xff",
        b"\x63\0\0\1",
    ]
    gateway = lab.macs[ports[0]]
    for number, (header, frame) in enumerate(damaged_frames("network", 80_000)):
        frame = chance.choice([gateway, gateway, BROADCAST, mac(77)])[: len(frame)] + frame[6:]
        if len(frame) >= 38 and frame[12:14] == b"\x08\0" and frame[14] & 15 >= 5:
            frame = frame[:24] + b"\0\0" + frame[26:30] + chance.choice(destinations) + frame[34:]
            end = 14 + (frame[14] & 15) * 4
            frame = frame[:24] + checksum(frame[14:end]).to_bytes(2, "big") + frame[26:]
        switch.inject(entry.node, frame, vnet_header=header)
        if number % 50 == 0:
            lab.run(MILLISECOND)
        if number % 1000 == 0:
            for wire in (entry, listener, far):
                wire.take()
            bandwidth = chance.choice([0, 0, 10**8])
            loss = chance.choice([0.0, 0.1])
            switch.set_pipe(chance.choice(shaped), bandwidth_bps=bandwidth, loss=loss, queue_limit_packets=50)
    lab.run(MILLISECOND)
    assert lab.drops(entry.node)["vnet_header"] > 20_000
    assert lab.drops(host)["ip4_protocol_unknown"] > 1000
    assert switch.statistics()["pool_drop_packets"] == 0


# Devices.


class Device:
    """The host's side of a device that a socket pair stands in for."""

    def __init__(self) -> None:
        self.engine, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.engine, self.host):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            assert self.host.send(message) == len(message)

    def receive(self, frames: int) -> list[bytes]:
        """Messages until there are this many wire frames in them."""
        messages: list[bytes] = []
        while frames > 0:
            assert select.select([self.host], [], [], 20)[0], f"{frames} frames are missing"
            messages.append(self.host.recv(1 << 17))
            frames -= len(cut(messages[-1][:12], messages[-1][12:]))
        with pytest.raises(BlockingIOError):
            self.host.recv(1 << 17)
        return messages

    def close(self) -> None:
        self.engine.close()
        self.host.close()


class Office:
    """Devices that are joined by a link, or by a hub where there are more than two; time is real."""

    def __init__(self, devices: int = 2, *, takes_udp: bool = True, **shape: Any) -> None:
        self.switch = Switch(real_time=True)
        self.devices = [Device() for _ in range(devices)]
        self.nodes = [self.switch.add_node(core.TAP) for _ in self.devices]
        interfaces = [self.switch.add_interface(node, mac(node)) for node in self.nodes]
        if devices == 2:
            self.pipes = list(self.switch.add_link(*interfaces))
        else:
            hub = self.switch.add_node(core.HUB)
            self.pipes = [
                self.switch.add_link(interface, self.switch.add_interface(hub, mac(100 + interface)))[0]
                for interface in interfaces
            ]
        for pipe in self.pipes if shape else []:
            self.switch.set_pipe(pipe, **shape)
        for node, device in zip(self.nodes, self.devices, strict=True):
            self.switch.attach_tap(node, device.engine.fileno(), takes_udp=takes_udp)

    def __enter__(self) -> "Office":
        return self

    def __exit__(self, *_: object) -> None:
        self.switch.close()
        for device in self.devices:
            device.close()

    def wait_for(self, kind: int) -> tuple[int, int, int]:
        while True:
            assert select.select([self.switch.event_fd], [], [], 20)[0]
            for event in self.switch.take_events():
                if event[1] == kind:
                    return event


def carried(messages: Sequence[bytes], **office: Any) -> list[list[bytes]]:
    """What comes out at the other devices of an office, in messages."""
    with Office(**office) as place:
        place.devices[0].send(messages)
        place.switch.start()
        frames = len(cut_all(messages))
        received = [device.receive(frames) for device in place.devices[1:]]
        statistics = place.switch.statistics()
        assert statistics["device_read_packets"] == frames
        assert statistics["device_write_packets"] == frames * len(received)
        assert statistics["device_write_drop_packets"] == 0
    return received


def in_messages(parts: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    return [header + frame for header, frame in parts]


def joined_message(stream: Stream) -> bytes:
    header, frame = replace(stream, hdr_len=stream.header_length).super_frame()
    return header + frame


JOINABLE = {
    "TCP4": replace(TCP4, size=40_000, identification=65530, tcp_flags=ACK | PSH, sequence=2**32 - 5000),
    "TCP4 FIN": replace(TCP4, size=39_999, tcp_flags=ACK | FIN | PSH),
    "TCP4 options": replace(TCP4, size=9000, options=b"\x94\4\0\0", tcp_options=b"\1\1\x08\x0a" + bytes(8)),
    "TCP4 tag": replace(TCP4, size=9001, vlan=(0x8100, 3)),
    "TCP4 service tag": replace(TCP4, size=9001, vlan=(0x88A8, 3)),
    "UDP4": replace(UDP4, size=40_001),
    "UDP4 tiny": replace(UDP4, size=64, segment_size=1),
    "TCP6": replace(TCP6, size=40_500, tcp_flags=ACK | PSH),
    "TCP6 extension": replace(TCP6, size=9000, extensions=((DESTINATION, bytes(6)),)),
    "TCP6 tags": replace(TCP6, size=9001, vlan=(0x88A8, 3, 0x8100, 4)),
    "UDP6 tag": replace(UDP6, size=40_500, vlan=(0x8100, 3)),
    "as long as IP gets": replace(TCP4, size=65_495, segment_size=1460),
    "as long as IPv6 gets": replace(TCP6, size=65_535 - 60, segment_size=1440),
}


@pytest.mark.parametrize("what", JOINABLE)
def test_segments_that_follow_each_other_leave_as_one_super_frame(what: str) -> None:
    stream = JOINABLE[what]
    assert carried(in_messages(stream.partial_segments())) == [[joined_message(stream)]]


@pytest.mark.parametrize("what", JOINABLE)
def test_a_super_frame_leaves_as_it_came(what: str) -> None:
    stream = JOINABLE[what]
    assert carried([joined_message(stream)]) == [[joined_message(stream)]]


def test_all_that_a_hub_repeats_is_joined() -> None:
    messages = in_messages(JOINABLE["TCP4"].partial_segments())
    assert carried(messages, devices=4) == [[joined_message(JOINABLE["TCP4"])]] * 3


@pytest.mark.parametrize("devices", [2, 3])
def test_segments_that_are_overdue_together_leave_as_one_super_frame(devices: int) -> None:
    """They come out of the link one by one, while the engine is held up, which then finds all of them."""
    stream = JOINABLE["TCP4"]
    segments = stream.partial_segments()
    with Office(devices, bandwidth_bps=1_000_000_000, delay_ns=500 * MILLISECOND) as place:
        place.devices[0].send(in_messages(segments))
        place.switch.start()
        while place.switch.statistics()["device_read_packets"] < len(segments):
            pass
        place.switch.stop()
        due_ns = place.switch.now_ns + 501 * MILLISECOND
        while place.switch.now_ns < due_ns:
            pass
        place.switch.start()
        for device in place.devices[1:]:
            assert device.receive(len(segments)) == [joined_message(stream)]
        lateness = place.switch.lateness(place.pipes[0])
        assert lateness is not None
        assert sum(packets for _, packets in lateness["buckets"]) == len(segments)


def test_a_super_frame_holds_64_segments_and_one_ip_packet() -> None:
    stream = replace(TCP4, size=6400, segment_size=100)
    longer = replace(stream, size=6500)
    (received,) = carried([*in_messages(longer.partial_segments())])
    assert received[0] == joined_message(stream)
    big = replace(TCP4, size=70_000, segment_size=1400, dont_fragment=True)
    (received,) = carried(in_messages(big.partial_segments()))
    assert len(received) == 2
    assert cut_all(received) == big.segments()


def test_a_device_whose_kernel_cannot_cut_datagrams_gets_them_one_by_one() -> None:
    messages = in_messages(UDP4.partial_segments())
    assert carried(messages, takes_udp=False) == [messages]
    stream = JOINABLE["TCP4"]
    assert carried(in_messages(stream.partial_segments()), takes_udp=False) == [[joined_message(stream)]]


def test_checksums_that_are_finished_are_left_alone() -> None:
    messages = [PLAIN + frame for frame in TCP4.segments()]
    assert carried(messages) == [messages]


Change = Callable[[Stream], Stream]
CHANGES: dict[str, Change] = {
    "sequence": lambda part: replace(part, sequence=(part.sequence + 1) % 2**32),
    "identification": lambda part: replace(part, identification=(part.identification + 1) % 2**16),
    "acknowledgment": lambda part: replace(part, acknowledgment=2),
    "window": lambda part: replace(part, window=2),
    "urgent": lambda part: replace(part, urgent=2),
    "no ACK": lambda part: replace(part, tcp_flags=0),
    "SYN": lambda part: replace(part, tcp_flags=part.tcp_flags | SYN),
    "ECE": lambda part: replace(part, tcp_flags=part.tcp_flags | ECE),
    "CWR": lambda part: replace(part, tcp_flags=part.tcp_flags | CWR),
    "PSH": lambda part: replace(part, tcp_flags=part.tcp_flags | PSH),
    "FIN": lambda part: replace(part, tcp_flags=part.tcp_flags | FIN),
    "port": lambda part: replace(part, source_port=9),
    "TTL": lambda part: replace(part, ttl=9),
    "TOS": lambda part: replace(part, tos=3),
    "station": lambda part: replace(part, destination_mac=mac(9)),
    "tag": lambda part: replace(part, vlan=(0x8100, 8)),
    "TCP options": lambda part: replace(part, tcp_options=b"\1\1\1\0") if part.protocol == TCP else part,
    "don't fragment": lambda part: replace(part, dont_fragment=not part.dont_fragment),
    "shorter": lambda part: replace(part, size=max(1, part.size - 1)),
    "longer": lambda part: replace(part, size=part.size + 1, segment_size=part.size + 1),
    "empty": lambda part: replace(part, size=0),
}


@pytest.mark.parametrize("stream", [TCP4, UDP4, TCP6, UDP6], ids=["TCP4", "UDP4", "TCP6", "UDP6"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_keeps_its_difference(stream: Stream, change: str) -> None:
    """One segment in the middle is not as the others: however they are joined, the wire's frames come out."""
    parts = replace(stream, size=9000).parts()
    parts[4] = CHANGES[change](parts[4])
    messages = in_messages([part.super_frame() for part in parts])
    (received,) = carried(messages)
    assert cut_all(received) == [part.frame() for part in parts]


@st.composite
def bursts(draw: st.DrawFn) -> list[bytes]:
    """Segments of up to three streams, some of them changed, left out, doubled, in disorder, or finished."""
    messages = []
    for _ in range(draw(st.integers(1, 3))):
        base = draw(st.sampled_from([TCP4, UDP4, TCP6, UDP6]))
        size = draw(st.integers(1, 1500))
        stream = replace(
            base,
            size=draw(st.integers(1, 18 * size)),
            segment_size=size,
            seed=draw(st.integers(0, 3)),
            tcp_flags=draw(st.sampled_from([ACK, ACK | PSH, ACK | FIN])),
        )
        if draw(st.integers(0, 4)) == 0:
            messages += in_messages([stream.super_frame()])
            continue
        parts = stream.parts()
        for name in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=2)):
            place = draw(st.integers(0, len(parts) - 1))
            parts[place] = CHANGES[name](parts[place])
        order = list(range(len(parts)))
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(order) - 1))
            order[place] = draw(st.sampled_from(order))
        for number in order:
            if draw(st.integers(0, 15)) == 0:
                messages.append(PLAIN + parts[number].frame())
            else:
                messages += in_messages([parts[number].super_frame()])
    return messages


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    bursts(),
    st.sampled_from(
        [
            {},
            {"devices": 3},
            {"takes_udp": False},
            {"delay_ns": 50_000},
            {"bandwidth_bps": 10**10, "delay_ns": 1000, "devices": 3},
        ]
    ),
)
def test_what_comes_out_is_what_went_in(messages: list[bytes], office: dict[str, Any]) -> None:
    for received in carried(messages, **office):
        assert cut_all(received) == cut_all(messages)


def test_bad_messages_are_counted_and_the_next_good_one_passes() -> None:
    with Office() as office:
        office.devices[0].send([b"short", PLAIN, *(header + frame for header, frame in BAD_HEADERS.values())])
        good = joined_message(TCP4)
        office.switch.start()
        office.devices[0].send([good])
        assert office.devices[1].receive(5) == [good]
        assert office.switch.node_drops(office.nodes[0]) == {"vnet_header": 2 + len(BAD_HEADERS)}


def test_a_device_that_vanishes_takes_its_link_down_and_nothing_else() -> None:
    with Office(devices=3) as office:
        switch = office.switch
        switch.start()
        office.devices[0].host.close()
        assert office.wait_for(core.DEVICE_GONE)[2] == office.nodes[0]
        office.devices[1].send([joined_message(TCP4)])
        assert office.devices[2].receive(5) == [joined_message(TCP4)]
        toward = switch.pipe_statistics(office.pipes[0] + 1)
        assert (toward["sent_packets"], toward["down_drop_packets"]) == (5, 5)
        assert switch.statistics()["device_write_drop_packets"] == 0
        with contextlib.suppress(BlockingIOError):
            assert all(kind != core.DEVICE_GONE for _, kind, _ in switch.take_events())
