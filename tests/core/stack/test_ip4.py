"""IPv4 into, through and out of a node (RFC 791, RFC 1122, RFC 1812)."""

import random

import pytest
from lab import (
    BROADCAST,
    DONT_FRAGMENT,
    ECHO_REPLY,
    MORE_FRAGMENTS,
    SECOND,
    TYPE_IP4,
    UNREACHABLE,
    Lab,
    Packet,
    Wire,
    checksum,
    echo,
    ether,
    icmp,
    ip,
    ip4,
    read_ip4,
    udp,
)

from manystack.core import _switch as core

pytestmark = pytest.mark.engine

A, B = "10.0.0.2", "10.0.1.2"


class Path:
    """A router between two wires, whose stations know each other."""

    def __init__(self, lab: Lab, mtu_left: int = 1500, mtu_right: int = 1500) -> None:
        self.lab = lab
        self.router = lab.switch.add_node(core.ROUTER)
        self.left = lab.interface(self.router, "10.0.0.1/24", mtu=mtu_left)
        self.right = lab.interface(self.router, "10.0.1.1/24", mtu=mtu_right)
        self.a, self.b = lab.wire(self.left, A), lab.wire(self.right, B)
        lab.quiet()
        self.a.introduce("10.0.0.1")
        self.b.introduce("10.0.1.1")

    def drops(self) -> dict[str, int]:
        return self.lab.drops(self.router)

    def pass_on(self, packet: bytes) -> list[Packet]:
        """What leaves on the right for a packet from the left."""
        self.a.send_ip(packet)
        self.lab.run(0)
        return self.b.take_ip()


@pytest.fixture
def path(lab: Lab) -> Path:
    return Path(lab)


# The checks at the door, in their order


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "ip4_truncated"),
        (ip4(A, B)[:19], "ip4_truncated"),
        (ip4(A, B, version=6), "ip4_version"),
        (ip4(A, B, version=0), "ip4_version"),
        (ip4(A, B, version=5), "ip4_version"),
        (ip4(A, B, header_words=4), "ip4_header_length"),
        (ip4(A, B, header_words=0), "ip4_header_length"),
        (ip4(A, B, header_words=6), "ip4_header_length"),
        (ip4(A, B, bytes(39), header_words=15), "ip4_header_length"),
        (ip4(A, B, total_length=19), "ip4_total_length"),
        (ip4(A, B, total_length=0), "ip4_total_length"),
        (ip4(A, B, total_length=21), "ip4_total_length"),
        (ip4(A, B, bytes(30), total_length=51), "ip4_total_length"),
        (ip4(A, B, bytes(30), total_length=65535), "ip4_total_length"),
        (ip4(A, B, options=b"\1\1\1\1", total_length=20), "ip4_total_length"),
        (ip4(A, B, header_checksum=0), "ip4_checksum"),
        (ip4(A, B, header_checksum=checksum(ip4(A, B, header_checksum=0)) ^ 1), "ip4_checksum"),
        (ip4(A, B, header_checksum=checksum(ip4(A, B, header_checksum=0)) ^ 0x8000), "ip4_checksum"),
        (ip4("0.0.0.0", B), "ip4_source_martian"),
        (ip4("0.1.2.3", B), "ip4_source_martian"),
        (ip4("127.0.0.1", B), "ip4_source_martian"),
        (ip4("224.0.0.1", B), "ip4_source_martian"),
        (ip4("240.0.0.1", B), "ip4_source_martian"),
        (ip4("255.255.255.255", B), "ip4_source_martian"),
        (ip4(A, "0.0.0.0"), "ip4_destination_martian"),
        (ip4(A, "0.255.0.1"), "ip4_destination_martian"),
        (ip4(A, "127.0.0.1"), "ip4_destination_martian"),
        (ip4(A, "240.0.0.1"), "ip4_destination_martian"),
        (ip4(A, "255.255.255.254"), "ip4_destination_martian"),
        (ip4(A, "224.0.0.5"), "ip4_multicast"),
        (ip4(A, "239.255.255.255"), "ip4_multicast"),
    ],
)
def test_a_bad_header_is_dropped_without_a_word(path: Path, packet: bytes, reason: str) -> None:
    assert path.pass_on(packet) == []
    assert path.a.take() == []
    assert path.drops() == {reason: 1}


@pytest.mark.parametrize("bit", range(20 * 8))
def test_no_single_bit_error_in_a_header_goes_through(path: Path, bit: int) -> None:
    packet = bytearray(ip4(A, B, bytes(26), identification=0x1234))
    packet[bit // 8] ^= 1 << bit % 8
    assert path.pass_on(bytes(packet)) == []
    assert sum(path.drops().values()) == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (b"\x83\x07\x04\x0a\x00\x01\x02\x00", "loose"),
        (b"\x89\x07\x04\x0a\x00\x01\x02\x00", "strict"),
        (b"\x01\x01\x89\x03\x04\x00\x00\x00", "after no-operations"),
        (b"\x44\x04\x05\x00\x83\x03\x04\x00", "after a timestamp"),
    ],
)
def test_source_routes_are_refused(path: Path, options: bytes, kind: str) -> None:
    assert path.pass_on(ip4(A, B, options=options)) == []
    (error,) = path.a.take_icmp()
    assert (error.icmp_type, error.code) == (UNREACHABLE, 5), kind
    assert path.drops() == {"ip4_source_route": 1}


@pytest.mark.parametrize(
    "options",
    [
        b"\x01\x01\x01\x00",
        b"\x00\x83\x03\x04",  # behind the end of the list
        b"\x07\x07\x04\x00\x00\x00\x00\x00",  # record route
        b"\x94\x04\x00\x00",  # router alert
        b"\x44\x00\x05\x00",  # a length that makes no sense: nothing behind it is read
        b"\x44\x01\x83\x04",
        b"\x01\x01\x01\x44",  # no length
        b"\x44\xff\x83\x04",  # a length beyond the header
        b"\x01" * 40,
    ],
)
def test_other_options_pass(path: Path, options: bytes) -> None:
    (packet,) = path.pass_on(ip4(A, B, b"payload!", options=options, tos=0xB8, identification=77))
    assert (packet.options, packet.payload, packet.ttl, packet.tos, packet.identification) == (
        options,
        b"payload!",
        63,
        0xB8,
        77,
    )
    assert path.drops() == {}


def test_the_padding_of_the_link_is_cut_off(path: Path) -> None:
    packet = ip4(A, B, b"x")
    path.a.send_ip(packet + b"\xee" * 25)
    path.lab.run(0)
    (frame,) = path.b.take()
    assert len(frame) == 14 + 21
    assert read_ip4(frame).payload == b"x"


def test_a_packet_in_a_broadcast_frame_is_not_forwarded(path: Path) -> None:
    """RFC 1812, section 5.3.4, and RFC 1122, section 3.2.2: no error about it either."""
    for group in (BROADCAST, b"\x01\x00\x5e\x00\x00\x01"):
        path.a.send_ip(ip4(A, B), group)
        path.a.send_ip(ip4(A, B, ttl=1), group)
        path.a.send_ip(ip4(A, "99.0.0.1"), group)
        path.a.send_ip(ip4(A, "10.0.0.1", echo(), protocol=1), group)
        path.a.send_ip(ip4(A, "10.0.0.1", protocol=99), group)
        path.a.send_ip(ip4(A, "10.0.0.1", udp(A, "10.0.0.1", b"")), group)
    path.lab.run(0)
    assert path.a.take() == [] and path.b.take() == []
    assert path.drops() == {"ip4_broadcast": 8, "ip4_protocol_unknown": 2, "udp_port_unreachable": 2}


# TTL and checksum


@pytest.mark.parametrize("destination", [B, "10.7.7.7"])
def test_the_checksum_is_right_after_a_hop_whatever_it_was(lab: Lab, destination: str) -> None:
    """Headers that differ in identification run through all checksums; each must equal a full sum."""
    path = Path(lab)
    lab.route(path.router, "10.7.0.0/16", B)
    before, after = set(), set()
    base = bytearray(ip4(A, destination, bytes(6), ttl=100))
    frame_head = ether(lab.macs[path.left], path.a.mac, TYPE_IP4, b"")
    residue = int.from_bytes(base[:10] + base[12:20], "big")
    for identification in range(65536):
        value = 65535 - (residue + identification - 1) % 65535 - 1
        base[4:6] = identification.to_bytes(2, "big")
        base[10:12] = value.to_bytes(2, "big")
        before.add(value)
        path.a.send(frame_head + base)
    lab.run(0)
    packets = path.b.take_ip()
    for number, packet in enumerate(packets):
        assert (packet.identification, packet.ttl) == (number, 99)
        found = packet.raw[10:12]
        assert int.from_bytes(found, "big") == checksum(packet.raw[:10] + b"\0\0" + packet.raw[12:20])
        after.add(found)
    assert len(packets) == 65536
    assert len(before) >= 65535 and len(after) >= 65535
    assert path.drops() == {}


def test_a_checksum_of_minus_zero_is_taken_and_not_passed_on(path: Path) -> None:
    """RFC 1624, section 3: 0xFFFF and 0 are the same number, and only one of them is what a sum gives."""
    header = next(
        packet for number in range(65536) if (packet := ip4(A, B, identification=number))[10:12] == b"\0\0"
    )
    (packet,) = path.pass_on(header[:10] + b"\xff\xff" + header[12:])
    assert packet.raw[10:12] == b"\x01\x00"


@pytest.mark.parametrize("options", [b"", b"\x01\x01\x01\x01"])
def test_every_ttl(path: Path, options: bytes) -> None:
    """On the way for whole vectors, and (with options) on the one for single packets."""
    for ttl in range(256):
        path.a.send_ip(ip4(A, B, ttl=ttl, identification=ttl, options=options))
    path.lab.run(0)
    assert [(packet.identification, packet.ttl) for packet in path.b.take_ip()] == [
        (ttl, ttl - 1) for ttl in range(2, 256)
    ]
    assert path.drops() == {"ip4_ttl": 2}
    assert len(path.a.take_icmp()) == 2


def test_a_ttl_of_one_is_enough_to_arrive(path: Path) -> None:
    path.a.send_ip(ip4(A, "10.0.1.1", echo(), protocol=1, ttl=1))
    path.lab.run(0)
    (reply,) = path.a.take_icmp()
    assert reply.icmp_type == ECHO_REPLY


# Which way


@pytest.mark.parametrize("extra", [0, 50])
def test_packets_take_the_route_that_the_table_has_now(lab: Lab, extra: int) -> None:
    """Adjacencies that routes remember must not outlive a change of the route."""
    path = Path(lab)
    far = lab.interface(path.router, "10.0.2.1/24")
    c = lab.wire(far, "10.0.2.2")
    lab.run(0)
    c.introduce("10.0.2.1")
    for k in range(extra):
        lab.route(path.router, f"172.16.{k}.0/24", B)

    def takers() -> str:
        path.a.send_ip(ip4(A, "192.168.7.9"), None)
        lab.run(0)
        return "b" * len(path.b.take_ip()) + "c" * len(c.take_ip())

    assert takers() == ""
    lab.route(path.router, "0.0.0.0/0", B)
    assert takers() == "b"
    lab.route(path.router, "192.168.0.0/16", "10.0.2.2")
    assert takers() == "c"
    lab.route(path.router, "192.168.7.0/24", B)
    assert takers() == "b"
    lab.route(path.router, "192.168.7.0/24", "10.0.2.2")
    assert takers() == "c"
    lab.route(path.router, "192.168.7.9/32", None)
    assert takers() == ""
    assert lab.switch.delete_route(path.router, ip("192.168.7.9"), 32)
    assert lab.switch.delete_route(path.router, ip("192.168.7.0"), 24)
    assert lab.switch.delete_route(path.router, ip("192.168.0.0"), 16)
    assert takers() == "b"
    assert lab.switch.delete_route(path.router, 0, 0)
    assert takers() == ""


# Who does not forward


def test_a_host_does_not_forward(lab: Lab) -> None:
    node = lab.switch.add_node(core.HOST)
    a = lab.wire(lab.interface(node, "10.0.0.1/24"), A)
    b = lab.wire(lab.interface(node, "10.0.1.1/24"), B)
    lab.quiet()
    a.introduce("10.0.0.1")
    b.introduce("10.0.1.1")
    for destination in (B, "10.0.0.77", "99.0.0.1"):
        a.send_ip(ip4(A, destination))
        a.send_ip(ip4(A, destination, ttl=1))
    lab.run(0)
    assert a.take() == [] and b.take() == []
    assert lab.drops(node) == {"ip4_not_forwarding": 6}
    a.send_ip(ip4(A, "10.0.1.1", echo(), protocol=1))
    lab.run(0)
    assert len(a.take_icmp()) == 1


def test_addresses_may_overlap_in_different_nodes(lab: Lab) -> None:
    """Two networks of the same addresses side by side; a third node joins none of them."""
    wires = []
    for _ in range(3):
        path = Path(lab)
        wires.append((path.a, path.b))
    for number, (a, _) in enumerate(wires):
        a.send_ip(ip4(A, B, identification=number))
        a.send_ip(ip4(A, "10.0.0.1", echo(number), protocol=1))
    lab.run(0)
    for number, (a, b) in enumerate(wires):
        assert [packet.identification for packet in b.take_ip()] == [number]
        assert [reply.rest >> 16 for reply in a.take_icmp()] == [number]


def test_two_engines_in_one_process_do_not_meet(lab: Lab) -> None:
    other = Lab()
    ours, theirs = Path(lab), Path(other)
    ours.a.send_ip(ip4(A, B, identification=1))
    theirs.a.send_ip(ip4(A, B, identification=2))
    other.run(SECOND)
    assert ours.b.take() == []
    assert [packet.identification for packet in theirs.b.take_ip()] == [2]
    assert lab.switch.now_ns == 0
    other.close()
    lab.run(0)
    assert [packet.identification for packet in ours.b.take_ip()] == [1]


# Broadcast


def test_broadcasts_for_the_own_subnet_are_taken_and_not_forwarded(path: Path) -> None:
    """RFC 1122, section 3.2.1.3; RFC 2644. Delivery shows in the drop of a datagram that nobody waits for."""
    for destination in ("255.255.255.255", "10.0.0.255", "10.0.0.0"):
        for group in (BROADCAST, None):
            path.a.send_ip(ip4(A, destination, udp(A, destination, b"hello")), group)
    path.lab.run(0)
    assert path.drops() == {"udp_port_unreachable": 6}
    assert path.a.take() == [] and path.b.take() == []


def test_broadcasts_for_another_subnet_go_nowhere(path: Path) -> None:
    for destination in ("10.0.1.255", "10.0.1.0"):
        path.a.send_ip(ip4(A, destination, udp(A, destination, b"hello")))
    path.lab.run(0)
    assert path.drops() == {"ip4_broadcast": 2}
    assert path.a.take() == [] and path.b.take() == []


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.0.0.255"])
def test_a_broadcast_ping_is_not_amplified(path: Path, destination: str) -> None:
    path.a.send_ip(ip4(A, destination, echo(), protocol=1), BROADCAST)
    path.lab.run(0)
    assert path.a.take() == []
    assert path.drops() == {"ip4_broadcast": 1}


# Fragments


def reassemble(packets: list[Packet]) -> bytes:
    """The payload that fragments of one packet make, which must fit exactly."""
    assert len({(p.source, p.destination, p.protocol, p.identification, p.ttl, p.tos) for p in packets}) == 1
    pieces = sorted(packets, key=lambda packet: packet.offset)
    payload = b""
    for number, piece in enumerate(pieces):
        assert piece.offset == len(payload)
        last = number == len(pieces) - 1
        assert piece.flags == (0 if last else MORE_FRAGMENTS)
        assert last or len(piece.payload) % 8 == 0
        payload += piece.payload
    return payload


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize("mtu", [68, 69, 75, 76, 77, 100, 296, 576, 1499, 1500])
@pytest.mark.parametrize("length", [0, 1, 8, 48, 49, 56, 57, 700, 1479, 1480])
def test_a_long_packet_is_cut_to_the_mtu(lab: Lab, mtu: int, length: int) -> None:
    path = Path(lab, mtu_right=mtu)
    payload = noise(length)
    packets = path.pass_on(ip4(A, B, payload, identification=0xBEEF, tos=0x28, ttl=9))
    assert reassemble(packets) == payload
    assert {(packet.ttl, packet.identification) for packet in packets} == {(8, 0xBEEF)}
    assert all(len(packet.raw) <= mtu for packet in packets)
    room = (mtu - 20) // 8 * 8
    assert len(packets) == (1 if length + 20 <= mtu else -(-length // room))
    assert path.lab.switch.statistics()["copied_bytes"] == 0
    assert path.drops() == {}


def test_the_largest_packet_in_the_smallest_pieces(lab: Lab) -> None:
    path = Path(lab, mtu_left=65535, mtu_right=68)
    payload = noise(65515)
    packets = path.pass_on(ip4(A, B, payload))
    assert len(packets) == 1365
    assert reassemble(packets) == payload


def test_options_follow_their_copy_flag(lab: Lab) -> None:
    """RFC 791, section 3.1: a security option (copied) is in each fragment, a timestamp in the first."""
    path = Path(lab, mtu_right=100)
    options = b"\x44\x08\x05\x00\x01\x02\x03\x04" + b"\x82\x03\xaa" + b"\x01" + b"\x07\x03\x04" + b"\x00"
    payload = noise(300)
    packets = path.pass_on(ip4(A, B, payload, options=options))
    assert reassemble(packets) == payload
    assert packets[0].options == options
    assert len(packets) > 2
    for packet in packets[1:]:
        assert packet.options == b"\x01" * 8 + b"\x82\x03\xaa" + b"\x01" + b"\x01\x01\x01" + b"\x00"


def test_the_longest_header_still_leaves_room(lab: Lab) -> None:
    path = Path(lab, mtu_right=68)
    payload = noise(100)
    packets = path.pass_on(ip4(A, B, payload, options=b"\x82\x28" + noise(38)))
    assert reassemble(packets) == payload
    assert len(packets) == 13


@pytest.mark.parametrize(
    "options", [b"\x44\x00\x00\x00", b"\x44\x01\x00\x00", b"\x44\x80\x00\x00", b"\x01\x01\x01\x44"]
)
def test_broken_options_do_not_break_fragments(lab: Lab, options: bytes) -> None:
    path = Path(lab, mtu_right=100)
    packets = path.pass_on(ip4(A, B, noise(300), options=options))
    assert reassemble(packets) == noise(300)
    assert {packet.options for packet in packets} == {options}


def test_fragments_are_cut_again(lab: Lab) -> None:
    """1500, 576, 100 bytes, after a cut by the sender: offsets add up, and only the last is last."""
    first = lab.switch.add_node(core.ROUTER)
    second = lab.switch.add_node(core.ROUTER)
    a = lab.wire(lab.interface(first, "10.0.0.1/24"), A)
    lab.link(lab.interface(first, "10.0.5.1/24", mtu=576), lab.interface(second, "10.0.5.2/24", mtu=576))
    b = lab.wire(lab.interface(second, "10.0.1.1/24", mtu=100), B)
    lab.route(first, "10.0.1.0/24", "10.0.5.2")
    lab.quiet()
    a.introduce("10.0.0.1")
    b.introduce("10.0.1.1")
    payload = noise(2000)
    a.send_ip(ip4(A, B, payload[:1200], identification=5, flags=MORE_FRAGMENTS))
    a.send_ip(ip4(A, B, payload[1200:], identification=5, offset=1200))
    lab.run(0)
    packets = b.take_ip()
    assert reassemble(packets) == payload
    assert all(len(packet.raw) <= 100 for packet in packets)
    assert lab.switch.statistics()["copied_bytes"] == 0


def test_a_packet_that_waits_for_arp_is_cut_already(lab: Lab) -> None:
    router = lab.switch.add_node(core.ROUTER)
    left, right = lab.interface(router, "10.0.0.1/24"), lab.interface(router, "10.0.1.1/24", mtu=100)
    a, b = lab.wire(left, A), lab.wire(right, B)
    lab.quiet()
    a.introduce("10.0.0.1")
    a.send_ip(ip4(A, B, noise(1000)))
    lab.run(0)
    assert b.take(TYPE_IP4) == []
    b.introduce("10.0.1.1")  # drains: what waited comes with the answer
    a.send_ip(ip4(A, B, noise(500), identification=2))
    lab.run(0)
    assert reassemble(b.take_ip()) == noise(500)


@pytest.mark.parametrize("mtu", [68, 576, 1499])
def test_dont_fragment_brings_back_the_mtu(lab: Lab, mtu: int) -> None:
    """RFC 1191, section 4."""
    path = Path(lab, mtu_right=mtu)
    fits = ip4(A, B, bytes(mtu - 20), flags=DONT_FRAGMENT)
    assert [packet.flags for packet in path.pass_on(fits)] == [DONT_FRAGMENT]
    assert path.pass_on(ip4(A, B, bytes(mtu - 19), flags=DONT_FRAGMENT)) == []
    (error,) = path.a.take_icmp()
    assert (error.icmp_type, error.code, error.rest) == (UNREACHABLE, 4, mtu)
    assert path.drops() == {"ip4_fragmentation_needed": 1}


def test_fragments_for_the_node_itself_are_counted(path: Path) -> None:
    """Reassembly is not in this version."""
    message = echo(payload=bytes(100))
    path.a.send_ip(ip4(A, "10.0.0.1", message[:64], protocol=1, flags=MORE_FRAGMENTS))
    path.a.send_ip(ip4(A, "10.0.0.1", message[64:], protocol=1, offset=64))
    path.lab.run(0)
    assert path.a.take() == []
    assert path.drops() == {"ip4_fragment_not_reassembled": 2}


# Delivery


@pytest.mark.parametrize(
    ("payload", "protocol", "reason"),
    [
        (b"\0" * 7, 17, "udp_truncated"),
        (b"\x13\x88\x13\x89\x00\x07\x00\x00", 17, "udp_length"),
        (b"\x13\x88\x13\x89\x00\x09\x00\x00", 17, "udp_length"),
        (b"\x13\x88\x13\x89\x00\x08\x12\x34", 17, "udp_checksum"),
        (udp(A, "10.0.0.1", b"odd"), 17, "udp_port_unreachable"),
        (udp(A, "10.0.0.1", b"none", with_checksum=False), 17, "udp_port_unreachable"),
        (udp(A, "10.0.0.1", b"short") + b"behind it", 17, "udp_port_unreachable"),
        (b"\0" * 7, 1, "icmp_truncated"),
        (echo()[:2] + b"\1\2" + echo()[4:], 1, "icmp_checksum"),
        (icmp(13, 0, 0, bytes(12)), 1, "icmp_type_unknown"),
        (icmp(ECHO_REPLY, 0, 0x12340001), 1, "icmp_no_listener"),
        (icmp(UNREACHABLE, 1, 0, ip4(A, B)[:19]), 1, "icmp_truncated"),
        (icmp(UNREACHABLE, 1, 0, ip4(A, B) + bytes(7)), 1, "icmp_truncated"),
        (icmp(UNREACHABLE, 1, 0, ip4(A, B, bytes(8), header_words=15)), 1, "icmp_truncated"),
        (icmp(UNREACHABLE, 1, 0, ip4(A, B, bytes(8), header_words=4)), 1, "icmp_truncated"),
        (icmp(UNREACHABLE, 1, 0, ip4(A, B, bytes(8))), 1, "icmp_no_listener"),
        (b"", 6, "ip4_protocol_unknown"),
    ],
)
def test_what_nobody_takes_is_counted(path: Path, payload: bytes, protocol: int, reason: str) -> None:
    path.a.send_ip(ip4(A, "10.0.0.1", payload, protocol=protocol))
    path.lab.run(0)
    assert path.drops() == {reason: 1}


def test_a_wrong_bit_anywhere_in_a_datagram_is_found(path: Path) -> None:
    datagram = udp(A, "10.0.0.1", b"checksummed")
    for bit in range(len(datagram) * 8):
        broken = bytearray(datagram)
        broken[bit // 8] ^= 1 << bit % 8
        path.a.send_ip(ip4(A, "10.0.0.1", bytes(broken)))
    path.lab.run(0)
    drops = path.drops()
    assert set(drops) <= {"udp_checksum", "udp_length"}
    assert sum(drops.values()) == len(datagram) * 8


def test_frames_of_other_lengths_than_packets_do_not_confuse_a_vector(lab: Lab) -> None:
    """Good and bad packets of two destinations, mixed in one vector, each meet their own fate in order."""
    path = Path(lab)
    lab.route(path.router, "10.7.0.0/16", B)
    good = 0
    chance = random.Random(4)
    for number in range(256):
        destination = chance.choice([B, "10.7.0.1", "10.7.9.9"])
        kind = chance.randrange(4)
        packet = ip4(A, destination, bytes(20), identification=number)
        if kind == 0:
            packet = ip4(A, destination, bytes(20), identification=number, header_checksum=1)
        elif kind == 1:
            packet = ip4(A, "10.0.0.1", echo(number), protocol=1)
        else:
            good += 1
        path.a.send(ether(lab.macs[path.left], path.a.mac, TYPE_IP4, packet))
    lab.run(0)
    packets = path.b.take_ip()
    assert len(packets) == good
    assert [packet.identification for packet in packets] == sorted(
        packet.identification for packet in packets
    )
    assert {packet.destination_mac for packet in packets} == {path.b.mac}
    assert path.drops()["ip4_checksum"] + len(path.a.take_icmp()) + good == 256


def test_a_node_pings_itself(lab: Lab, path: Path) -> None:
    switch = lab.switch
    flows = [
        switch.add_ping(path.router, ip(address), interval_ns=1000, count=50, size_bytes=size)
        for address, size in (("10.0.0.1", 56), ("10.0.1.1", 0), ("10.0.1.1", 65507))
    ]
    udp_flow = switch.add_udp(
        path.router, ip("10.0.0.1"), rate_bps=8_000_000, size_bytes=1000, stop_ns=SECOND, sink=path.router
    )
    lab.run(5 * SECOND)
    for flow in flows:
        result = switch.flow(flow)
        assert (result["sent_packets"], result["received_packets"], result["delay_max_ns"]) == (50, 50, 0)
        assert result["done"]
    result = switch.flow(udp_flow)
    assert (result["sent_packets"], result["received_packets"]) == (1000, 1000)
    assert lab.drops(path.router) == {}
    assert path.a.take() == [] and path.b.take() == []


def test_what_a_node_sends_is_cut_too(lab: Lab) -> None:
    host, interface = lab.host("10.0.0.1/24", mtu=576)
    wire: Wire = lab.wire(interface, A)
    lab.quiet()
    wire.introduce("10.0.0.1")
    lab.switch.add_ping(host, ip(A), interval_ns=SECOND, count=2, size_bytes=3000)
    lab.run(SECOND)
    packets = wire.take_ip()
    by_identification = sorted({packet.identification for packet in packets})
    assert len(by_identification) == 2
    for number, identification in enumerate(by_identification):
        message = reassemble([packet for packet in packets if packet.identification == identification])
        assert len(message) == 3008 and checksum(message) == 0
        assert int.from_bytes(message[6:8], "big") in (number, number + 1)
        assert message[8:] == bytes(k & 255 for k in range(3000))
