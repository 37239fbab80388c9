"""ICMP (RFC 792): echo, and errors by the rules of RFC 1812, section 4.3."""

import random

import pytest
from lab import (
    BROADCAST,
    DONT_FRAGMENT,
    ECHO,
    ECHO_REPLY,
    MILLISECOND,
    MORE_FRAGMENTS,
    REDIRECT,
    SECOND,
    TIME_EXCEEDED,
    TYPE_IP4,
    UNREACHABLE,
    Lab,
    Message,
    Wire,
    echo,
    ether,
    icmp,
    ip,
    ip4,
    mac,
    read_icmp,
    udp,
)

from manystack.core import _switch as core

pytestmark = pytest.mark.engine

US, PEER, FAR = "10.0.0.1", "10.0.0.2", "10.0.1.2"


class Path:
    """A router between two wires, whose stations know each other."""

    def __init__(self, lab: Lab, mtu: int = 1500) -> None:
        self.lab = lab
        self.node, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/24", mtu=mtu)
        self.a, self.b = lab.wire(left, PEER), lab.wire(right, FAR)
        lab.quiet()
        self.a.introduce(US)
        self.b.introduce("10.0.1.1")

    def answers(self, packet: bytes) -> list[Message]:
        self.a.send_ip(packet)
        self.lab.run(0)
        return self.a.take_icmp()


@pytest.fixture
def path(lab: Lab) -> Path:
    return Path(lab)


# Echo


@pytest.mark.parametrize("size", [0, 1, 2, 3, 18, 55, 56, 57, 255, 256, 257, 1471, 1472])
def test_an_echo_brings_back_what_was_sent(path: Path, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    request = ip4(PEER, US, icmp(ECHO, 0, 0xABCD0102, payload), protocol=1, ttl=3, tos=0x10)
    (reply,) = path.answers(request)
    assert (reply.icmp_type, reply.code, reply.rest, reply.body) == (ECHO_REPLY, 0, 0xABCD0102, payload)
    packet = reply.packet
    assert (packet.source, packet.destination, packet.destination_mac) == (US, PEER, path.a.mac)
    assert packet.ttl >= 64 and packet.flags == 0 and packet.offset == 0
    assert path.lab.switch.statistics()["copied_bytes"] == 0


def test_a_reply_may_need_fragments_that_the_request_did_not(lab: Lab) -> None:
    node, interface = lab.host("10.0.0.1/24", mtu=1500)
    lab.wire(interface, PEER)
    other = lab.interface(node, "10.7.0.1/24", mtu=100)
    far = lab.wire(other, "10.7.0.2")
    lab.quiet()
    far.introduce("10.7.0.1")
    lab.wires[0].introduce(US)
    lab.wires[0].send_ip(ip4("10.7.0.2", US, echo(payload=bytes(500)), protocol=1))
    lab.run(0)
    packets = far.take_ip()
    assert len(packets) == 7
    assert sum(len(packet.payload) for packet in packets) == 508


@pytest.mark.parametrize("checksum_word", [0x0000, 0xF7FE, 0xF7FF, 0xF800, 0xFFFE])
def test_the_reply_checksum_at_the_edges_of_the_sum(path: Path, checksum_word: int) -> None:
    """The type falls from 8 to 0, which may carry around."""
    request = next(
        message
        for rest in range(0x20000)
        if (message := icmp(ECHO, 0, rest))[2:4] == checksum_word.to_bytes(2, "big")
    )
    (reply,) = path.answers(ip4(PEER, US, request, protocol=1))
    assert reply.rest.to_bytes(4, "big") == request[4:]


@pytest.mark.parametrize("options", [b"\x01\x01\x01\x00", b"\x07\x27\x04" + bytes(37)])
def test_an_echo_with_options(path: Path, options: bytes) -> None:
    (reply,) = path.answers(ip4(PEER, US, echo(payload=b"odd"), protocol=1, options=options))
    assert reply.body == b"odd" and reply.packet.options == options


def test_every_address_of_a_node_answers_on_every_interface(path: Path) -> None:
    for address in (US, "10.0.1.1"):
        (reply,) = path.answers(ip4(PEER, address, echo(), protocol=1))
        assert reply.packet.source == address


def test_an_echo_with_any_wrong_bit_is_not_answered(path: Path) -> None:
    message = echo(payload=b"abcde")
    for bit in range(len(message) * 8):
        broken = bytearray(message)
        broken[bit // 8] ^= 1 << bit % 8
        assert path.answers(ip4(PEER, US, bytes(broken), protocol=1)) == []
    assert path.lab.drops(path.node) == {"icmp_checksum": len(message) * 8}


# Errors, each with its cause


def far_udp(**options: object) -> bytes:
    return ip4(PEER, FAR, udp(PEER, FAR, b"data"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("packet", "icmp_type", "code", "rest", "reason"),
    [
        (ip4(PEER, "99.9.9.9", bytes(8)), UNREACHABLE, 0, 0, "ip4_no_route"),
        (ip4(PEER, "10.66.0.1", bytes(8)), UNREACHABLE, 1, 0, "ip4_route_unreachable"),
        (ip4(PEER, US, bytes(8), protocol=132), UNREACHABLE, 2, 0, "ip4_protocol_unknown"),
        (ip4(PEER, US, udp(PEER, US, b"x")), UNREACHABLE, 3, 0, "udp_port_unreachable"),
        (ip4(PEER, FAR, bytes(281), flags=DONT_FRAGMENT), UNREACHABLE, 4, 300, "ip4_fragmentation_needed"),
        (far_udp(options=b"\x83\x03\x04\x00"), UNREACHABLE, 5, 0, "ip4_source_route"),
        (far_udp(ttl=1), TIME_EXCEEDED, 0, 0, "ip4_ttl"),
        (far_udp(ttl=0), TIME_EXCEEDED, 0, 0, "ip4_ttl"),
    ],
)
def test_an_error_says_why_and_quotes_what(
    lab: Lab, packet: bytes, icmp_type: int, code: int, rest: int, reason: str
) -> None:
    node = lab.switch.add_node(core.ROUTER)
    a = lab.wire(lab.interface(node, "10.0.0.1/24"), PEER)
    b = lab.wire(lab.interface(node, "10.0.1.1/24", mtu=300), FAR)
    lab.route(node, "10.66.0.0/16", None)
    lab.quiet()
    a.introduce(US)
    a.send_ip(packet)
    lab.run(0)
    (error,) = a.take_icmp()
    assert (error.icmp_type, error.code, error.rest) == (icmp_type, code, rest)
    assert error.body == packet[:548]
    assert (error.packet.source, error.packet.destination) == (US, PEER)
    assert error.packet.options == b"" and error.packet.flags == 0
    assert lab.drops(node) == {reason: 1}
    assert b.take(TYPE_IP4) == []
    assert lab.switch.statistics()["copied_bytes"] == 0


@pytest.mark.parametrize("length", [20, 28, 29, 100, 547, 548, 549, 1000, 1500])
def test_as_much_is_quoted_as_fits_576_bytes(path: Path, length: int) -> None:
    """RFC 1812, section 4.3.2.3."""
    packet = ip4(PEER, FAR, random.Random(length).randbytes(length - 20), ttl=1, protocol=200)
    (error,) = path.answers(packet + b"padding of the link" if length < 40 else packet)
    assert error.body == packet[:548]
    assert len(error.packet.raw) == min(576, 28 + length)


def test_a_packet_with_options_is_quoted_whole(path: Path) -> None:
    packet = ip4(PEER, FAR, bytes(range(64)), ttl=1, options=b"\x01" * 40)
    (error,) = path.answers(packet)
    assert error.body == packet


def test_an_error_leaves_from_the_address_it_leaves_by(lab: Lab) -> None:
    """RFC 1812, section 4.3.2.4: not from the address that the packet was sent to or came by."""
    node, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    a, b = lab.wire(left, PEER), lab.wire(right, FAR)
    lab.route(node, "10.9.0.0/16", FAR)
    lab.quiet()
    b.introduce("10.0.1.1")
    a.send_ip(ip4("10.9.1.1", "10.0.1.77", bytes(8), ttl=1))
    lab.run(0)
    assert a.take(TYPE_IP4) == []
    (error,) = b.take_icmp()
    assert (error.packet.source, error.packet.destination) == ("10.0.1.1", "10.9.1.1")


# When there must be none


@pytest.mark.parametrize("error_type", [3, 4, 5, 11, 12])
def test_no_error_about_an_error(path: Path, error_type: int) -> None:
    message = icmp(error_type, 0, 0, ip4(US, PEER, bytes(8)))
    for destination, ttl in ((FAR, 1), ("99.9.9.9", 9), ("10.0.1.99", 9)):
        assert path.answers(ip4(PEER, destination, message, protocol=1, ttl=ttl)) == []
    path.lab.run(10 * SECOND)
    assert path.a.take() == []
    assert path.lab.drops(path.node) == {"ip4_ttl": 1, "ip4_no_route": 1, "neighbor_unreachable": 1}


@pytest.mark.parametrize("message_type", [0, 8, 9, 13, 17, 40])
def test_an_error_about_other_icmp(path: Path, message_type: int) -> None:
    packet = ip4(PEER, FAR, icmp(message_type), protocol=1, ttl=1)
    (error,) = path.answers(packet)
    assert error.body == packet


def test_no_error_about_icmp_without_a_type(path: Path) -> None:
    assert path.answers(ip4(PEER, FAR, b"", protocol=1, ttl=1)) == []


def test_no_error_about_a_later_fragment(path: Path) -> None:
    assert path.answers(far_udp(ttl=1, offset=8)) == []
    assert path.answers(far_udp(ttl=1, offset=65528, flags=MORE_FRAGMENTS)) == []
    (error,) = path.answers(far_udp(ttl=1, flags=MORE_FRAGMENTS))
    assert error.icmp_type == TIME_EXCEEDED


@pytest.mark.parametrize(
    "source", ["0.0.0.0", "0.0.0.9", "127.0.0.1", "224.0.0.1", "255.255.255.255", "250.1.1.1"]
)
def test_no_error_to_a_martian(path: Path, source: str) -> None:
    assert path.answers(ip4(source, FAR, bytes(8), ttl=1)) == []
    assert path.lab.drops(path.node) == {"ip4_source_martian": 1}


@pytest.mark.parametrize("source", ["10.0.0.255", "10.0.1.255", "10.0.0.0"])
def test_no_error_to_a_broadcast_address(path: Path, source: str) -> None:
    assert path.answers(ip4(source, FAR, bytes(8), ttl=1)) == []
    assert path.b.take(TYPE_IP4) == []


@pytest.mark.parametrize(
    "destination", ["224.0.0.9", "255.255.255.255", "10.0.0.255", "127.0.0.1", "240.0.0.9"]
)
def test_no_error_about_a_packet_to_a_group(path: Path, destination: str) -> None:
    assert path.answers(ip4(PEER, destination, bytes(8), ttl=1, protocol=99)) == []
    assert path.answers(ip4(PEER, destination, udp(PEER, destination, b""), ttl=9)) == []


def test_no_error_about_a_frame_to_a_group(path: Path) -> None:
    for group in (BROADCAST, b"\x01\x00\x5e\x00\x00\x09"):
        path.a.send_ip(ip4(PEER, US, udp(PEER, US, b"")), group)
        path.a.send_ip(far_udp(ttl=1), group)
        path.a.send_ip(far_udp(options=b"\x83\x03\x04\x00"), group)
    path.lab.run(10 * SECOND)
    assert path.a.take() == [] and path.b.take() == []


def test_no_error_without_a_way_back(lab: Lab) -> None:
    path = Path(lab)
    assert path.answers(ip4("77.7.7.7", FAR, bytes(8), ttl=1)) == []
    assert lab.drops(path.node) == {"ip4_ttl": 1}


def test_a_fragment_that_waited_in_vain_is_reported_by_how_it_came(lab: Lab) -> None:
    """The link header that the packet came with decides, not what a pool room held before."""
    node = lab.switch.add_node(core.ROUTER)
    a = lab.wire(lab.interface(node, "10.0.0.1/24"), PEER)
    lab.wire(lab.interface(node, "10.0.1.1/24", mtu=100), FAR)
    lab.quiet()
    a.introduce(US)
    for number in range(10):  # within the 60 s for which the sender is known
        a.send(ether(BROADCAST, a.mac, 0x88B5, b"\xff" * 200))  # what the pool's rooms are full of
        a.send_ip(ip4(PEER, FAR, bytes(300), identification=number))
        lab.run(4 * SECOND)
        (error,) = a.take_icmp()
        assert (error.icmp_type, error.code) == (UNREACHABLE, 1)
        assert error.body[4:8] == number.to_bytes(2, "big") + b"\x20\x00"
        assert len(error.body) == 100


# Rate


def test_errors_come_in_bursts_of_a_hundred_and_a_thousand_a_second(path: Path) -> None:
    """RFC 1812, section 4.3.2.8; what is held back is counted, and the packets are dropped all the same."""
    packet = ether(mac(1), path.a.mac, TYPE_IP4, far_udp(ttl=1))
    path.lab.run(SECOND)
    path.a.send(packet, 250)
    path.lab.run(0)
    assert len(path.a.take()) == 100
    assert path.lab.drops(path.node) == {"ip4_ttl": 250, "icmp_rate_limited": 150}
    for _ in range(50):
        path.lab.run(MILLISECOND)
        path.a.send(packet, 3)
        path.lab.run(0)
        assert len(path.a.take()) == 1
    path.lab.run(MILLISECOND - 1)
    path.a.send(packet)
    path.lab.run(0)
    assert path.a.take() == []
    path.lab.run(1)
    path.a.send(packet)
    path.lab.run(0)
    assert len(path.a.take()) == 1
    path.lab.run(30 * MILLISECOND)
    path.a.send(packet, 100)
    path.lab.run(0)
    assert len(path.a.take()) == 30
    path.lab.run(3600 * SECOND)
    path.a.send(packet, 1000)
    path.lab.run(0)
    assert len(path.a.take()) == 1 + 100  # and an ARP request, as an hour has passed


def test_the_rate_is_each_node_s_own_and_echoes_have_none(lab: Lab) -> None:
    one, two = Path(lab), Path(lab)
    for path in (one, two):
        path.a.send(ether(lab.macs[path.a.peer], path.a.mac, TYPE_IP4, far_udp(ttl=1)), 150)
        path.a.send(
            ether(lab.macs[path.a.peer], path.a.mac, TYPE_IP4, ip4(PEER, US, echo(), protocol=1)), 150
        )
    lab.run(0)
    for path in (one, two):
        types = [message.icmp_type for message in path.a.take_icmp()]
        assert types == [TIME_EXCEEDED] * 100 + [ECHO_REPLY] * 150


# Redirects


class Street(Lab):
    """One segment (a hub) with a host, two routers and a listening wire."""

    def __init__(self) -> None:
        super().__init__()
        hub, ports = self.bridge(core.HUB, 4)
        self.hub = hub
        self.host_node, host = self.host("10.0.0.10/24")
        self.first, (first,) = self.router("10.0.0.1/24")
        self.second, (second, beyond) = self.router("10.0.0.2/24", "10.5.0.1/24")
        for port, interface in zip(ports, (host, first, second), strict=False):
            self.link(port, interface)
        self.host_interface = host
        self.listener = self.wire(ports[3], "10.0.0.99")
        self.target = self.wire(beyond, "10.5.0.9")
        self.route(self.host_node, "0.0.0.0/0", "10.0.0.1")
        self.route(self.first, "10.5.0.0/16", "10.0.0.2")
        self.route(self.second, "0.0.0.0/0", "10.0.0.1")
        self.quiet()
        self.target.introduce("10.5.0.1")
        self.listener.take()

    def redirect_from(
        self, source: str, source_mac: bytes, gateway: str, target: str, inner: bytes = b""
    ) -> None:
        quoted = inner or ip4("10.0.0.10", target, bytes(8))
        packet = ip4(source, "10.0.0.10", icmp(REDIRECT, 1, ip(gateway), quoted), protocol=1)
        self.listener.send(ether(self.macs[self.host_interface], source_mac, TYPE_IP4, packet))
        self.run(0)

    def way_to(self, address: str) -> int | None:
        return self.switch.lookup(self.host_node, ip(address))[1]


@pytest.fixture
def street() -> object:
    street = Street()
    yield street
    street.close()


def test_a_router_redirects_and_the_host_follows(street: Street) -> None:
    """RFC 1812, section 5.2.7.2; RFC 1122, section 3.2.2.2."""
    street.switch.add_ping(street.host_node, ip("10.5.0.9"), interval_ns=SECOND, count=3)
    street.run(100 * MILLISECOND)
    redirects = [
        message for message in map(read_icmp, street.listener.take(TYPE_IP4)) if message.icmp_type == REDIRECT
    ]
    (redirect,) = redirects
    assert (redirect.code, redirect.rest) == (1, ip("10.0.0.2"))
    assert (redirect.packet.source, redirect.packet.destination) == ("10.0.0.1", "10.0.0.10")
    assert redirect.body[16:20] == b"\x0a\x05\x00\x09"
    assert street.way_to("10.5.0.9") == ip("10.0.0.2")
    assert street.way_to("10.5.0.8") == ip("10.0.0.1")
    street.run(2 * SECOND)
    later = [read_icmp(frame) for frame in street.listener.take(TYPE_IP4)]
    assert len(later) == 2 and {message.icmp_type for message in later} == {ECHO}
    assert {message.packet.destination_mac for message in later} == {street.macs[street.host_interface + 2]}
    assert len(street.target.take_ip()) == 3


def test_a_redirect_changes_a_copy_of_the_packet_that_it_quotes(street: Street) -> None:
    """The error quotes the packet as it came, by reference; the one that goes on has TTL - 1."""
    street.switch.add_ping(street.host_node, ip("10.5.0.9"), interval_ns=SECOND, count=1)
    street.run(100 * MILLISECOND)
    messages = [read_icmp(frame) for frame in street.listener.take(TYPE_IP4)]
    redirect = next(message for message in messages if message.icmp_type == REDIRECT)
    sent = next(message.packet for message in messages if message.icmp_type == ECHO)
    assert redirect.body == sent.raw
    (arrived,) = street.target.take_ip()
    assert arrived.ttl == sent.ttl - 2 and arrived.payload == sent.payload


@pytest.mark.parametrize(
    ("source", "gateway", "target"),
    [
        ("10.0.0.2", "10.0.0.2", "10.5.0.9"),  # not from the gateway in use
        ("10.0.0.1", "10.9.0.2", "10.5.0.9"),  # to a gateway off the link
        ("10.0.0.1", "10.0.0.10", "10.5.0.9"),  # to ourselves
        ("10.0.0.1", "10.0.0.2", "10.0.0.77"),  # about a neighbour
        ("10.0.0.1", "10.0.0.2", "10.0.0.10"),  # about our own address
    ],
)
def test_other_redirects_are_not_believed(street: Street, source: str, gateway: str, target: str) -> None:
    before = street.switch.routes(street.host_node)
    street.redirect_from(source, mac(0x51), gateway, target)
    assert street.switch.routes(street.host_node) == before


def test_a_truncated_redirect_is_dropped(street: Street) -> None:
    before = street.switch.routes(street.host_node)
    street.redirect_from(
        "10.0.0.1", mac(0x51), "10.0.0.2", "10.5.0.9", ip4("10.0.0.10", "10.5.0.9", bytes(7))
    )
    assert street.switch.routes(street.host_node) == before
    assert street.drops(street.host_node)["icmp_truncated"] == 1


def test_a_host_keeps_a_bounded_number_of_redirects(street: Street) -> None:
    for k in range(1100):
        street.redirect_from("10.0.0.1", mac(0x51), "10.0.0.2", f"10.77.{k // 250}.{k % 250}")
    assert len(street.switch.routes(street.host_node)) == 1024
    assert street.way_to("10.77.0.5") == ip("10.0.0.2")
    assert street.way_to("10.77.4.99") == ip("10.0.0.1")


def test_a_router_does_not_listen_to_redirects(lab: Lab) -> None:
    path = Path(lab)
    lab.route(path.node, "0.0.0.0/0", PEER)
    message = icmp(REDIRECT, 1, ip("10.0.0.3"), ip4(US, "99.9.9.9", bytes(8)))
    assert path.answers(ip4(PEER, US, message, protocol=1)) == []
    assert lab.switch.lookup(path.node, ip("99.9.9.9"))[1] == ip(PEER)


def test_no_redirect_for_who_is_not_on_the_link(street: Street) -> None:
    frame = ether(street.macs[street.host_interface + 1], street.listener.mac, TYPE_IP4, b"")
    for source, expected in (("10.0.0.99", 1), ("10.66.0.1", 0)):
        street.listener.introduce("10.0.0.1")
        street.listener.send(frame + ip4(source, "10.5.0.9", bytes(8)))
        street.run(100 * MILLISECOND)
        messages = [packet for packet in street.listener.take_ip() if packet.protocol == 1]
        assert len(messages) == expected
        assert len(street.target.take_ip()) == 1


# Flows hear of what became of their packets


def chain(
    lab: Lab, length: int, mtus: list[int] | None = None, hubs: bool = False
) -> tuple[int, int, list[str]]:
    """A host, routers, a host: the hosts, and the address of each router on the first host's side."""
    left, last = lab.host("10.1.0.1/24")
    routers = []
    responders = []
    for k in range(length):
        mtu = mtus[k] if mtus else 1500
        node = lab.switch.add_node(core.ROUTER)
        near = lab.interface(node, f"10.{k + 1}.0.2/24")
        far = lab.interface(node, f"10.{k + 2}.0.1/24", mtu=mtu)
        if hubs:
            _, ports = lab.bridge(core.HUB, 3)
            lab.link(last, ports[0])
            lab.link(ports[1], near)
            lab.wire(ports[2])
        else:
            lab.link(last, near)
        routers.append(node)
        responders.append(f"10.{k + 1}.0.2")
        last = far
    right, interface = lab.host(f"10.{length + 1}.0.2/24")
    lab.link(last, interface)
    lab.route(left, "0.0.0.0/0", "10.1.0.2")
    lab.route(right, "0.0.0.0/0", f"10.{length + 1}.0.1")
    for k, node in enumerate(routers):
        if k + 1 < length:
            lab.route(node, "0.0.0.0/0", f"10.{k + 2}.0.2")
        for j in range(k):
            lab.route(node, f"10.{j + 1}.0.0/24", f"10.{k + 1}.0.1")
    return left, right, responders


@pytest.mark.parametrize("hubs", [False, True])
@pytest.mark.parametrize("size", [0, 56, 1400])
def test_a_sweep_names_each_router_in_order(lab: Lab, size: int, hubs: bool) -> None:
    """Behind hubs too, where each router changes a copy of the header and the rest is a chain."""
    left, _, responders = chain(lab, 3, hubs=hubs)
    flow = lab.switch.add_ping(
        left,
        ip("10.4.0.2"),
        interval_ns=10 * MILLISECOND,
        count=0,
        size_bytes=size,
        ttl=30,
        probes_per_ttl=3,
        keep_replies=True,
    )
    lab.run(5 * SECOND)
    replies = lab.switch.take_replies(flow)
    assert [
        (reply["sequence"], reply["responder"], reply["icmp_type"], reply["icmp_code"]) for reply in replies
    ] == [
        (3 * k + probe, ip(address), TIME_EXCEEDED, 0)
        for k, address in enumerate(responders)
        for probe in range(3)
    ] + [(9 + probe, ip("10.4.0.2"), ECHO_REPLY, 0) for probe in range(3)]
    assert lab.switch.flow(flow)["done"]
    assert lab.switch.flow(flow)["sent_packets"] == 12


def test_an_expired_fragment_is_reported(lab: Lab) -> None:
    """The second router makes fragments, whose ICMP header is in another segment; the third reports."""
    left, _, responders = chain(lab, 3, mtus=[1500, 576, 1500])
    flow = lab.switch.add_ping(
        left, ip("10.4.0.2"), interval_ns=SECOND, count=1, size_bytes=1200, ttl=3, keep_replies=True
    )
    lab.run(SECOND)
    replies = lab.switch.take_replies(flow)
    assert [(reply["responder"], reply["icmp_type"]) for reply in replies] == [
        (ip(responders[2]), TIME_EXCEEDED)
    ]


@pytest.mark.parametrize(
    ("prefix", "gateway", "code"), [("10.4.0.0/24", None, 1), ("10.9.0.0/24", "10.3.0.2", 0)]
)
def test_a_ping_hears_why_it_fails(lab: Lab, prefix: str, gateway: str | None, code: int) -> None:
    left, _, responders = chain(lab, 3)
    second = left + 2
    if code == 0:
        assert lab.switch.delete_route(second, 0, 0)
    lab.route(second, prefix, gateway)
    flow = lab.switch.add_ping(left, ip("10.4.0.2"), interval_ns=SECOND, count=2, keep_replies=True)
    lab.run(5 * SECOND)
    assert [
        (reply["responder"], reply["icmp_type"], reply["icmp_code"])
        for reply in lab.switch.take_replies(flow)
    ] == [(ip(responders[1]), UNREACHABLE, code)] * 2
    result = lab.switch.flow(flow)
    assert (result["unreachable_packets"], result["received_packets"], result["done"]) == (2, 0, True)


def test_an_error_reaches_the_flow_that_caused_it_and_no_other(lab: Lab) -> None:
    left, right, _ = chain(lab, 2)
    good = lab.switch.add_ping(left, ip("10.3.0.2"), interval_ns=SECOND, count=5)
    bad = lab.switch.add_ping(left, ip("10.3.0.77"), interval_ns=SECOND, count=5)
    sink = lab.switch.add_udp(
        left, ip("10.3.0.2"), rate_bps=8000, size_bytes=100, stop_ns=4 * SECOND, sink=right
    )
    lost = lab.switch.add_udp(left, ip("10.3.0.2"), rate_bps=8000, size_bytes=100, stop_ns=4 * SECOND)
    lab.run(20 * SECOND)
    results = [lab.switch.flow(flow) for flow in (good, bad, sink, lost)]
    assert [(result["received_packets"], result["unreachable_packets"]) for result in results] == [
        (5, 0),
        (0, 5),
        (40, 0),
        (0, 40),
    ]


def test_a_forged_error_about_what_was_never_sent_is_dropped(lab: Lab) -> None:
    node, interface = lab.host("10.0.0.1/24")
    wire: Wire = lab.wire(interface, PEER)
    lab.quiet()
    wire.introduce(US)
    flow = lab.switch.add_ping(node, ip(PEER), interval_ns=SECOND, count=3)
    lab.run(SECOND)
    wire.take()
    for identifier, sequence in ((1, 50), (2, 0), (0xFFFF, 0xFFFF)):
        quoted = ip4(US, PEER, echo(identifier, sequence), protocol=1)
        wire.send_ip(ip4(PEER, US, icmp(UNREACHABLE, 1, 0, quoted), protocol=1))
        wire.send_ip(ip4(PEER, US, icmp(ECHO_REPLY, 0, identifier << 16 | sequence), protocol=1))
    lab.run(0)
    assert lab.drops(node) == {"icmp_no_listener": 6}
    assert lab.switch.flow(flow)["unreachable_packets"] == 0
