"""Ethernet at a stack's door, and ARP (RFC 826, RFC 1122 section 2.3.2, RFC 5227)."""

import pytest
from lab import (
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST,
    ECHO_REPLY,
    MILLISECOND,
    SECOND,
    TYPE_ARP,
    TYPE_IP4,
    UNREACHABLE,
    Lab,
    Wire,
    arp,
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

STRANGER = mac(0x9999)


@pytest.fixture
def host(lab: Lab) -> int:
    return lab.host("10.0.0.1/24")[0]


@pytest.fixture
def wire(lab: Lab, host: int) -> Wire:
    wire = lab.wire(0, "10.0.0.2")
    lab.quiet()
    return wire


@pytest.fixture
def station(lab: Lab) -> bytes:
    """The MAC address of the host under test, which is always the first interface."""
    return mac(1)


def ping_frame(destination_mac: bytes, source_mac: bytes) -> bytes:
    return ether(destination_mac, source_mac, TYPE_IP4, ip4("10.0.0.2", "10.0.0.1", echo(), protocol=1))


def asked(frames: list[bytes]) -> list[tuple[bytes, int, str]]:
    """Destination MAC, operation, and who is looked for, for each ARP frame."""
    return [
        (frame[:6], int.from_bytes(frame[20:22], "big"), ".".join(map(str, frame[38:42])))
        for frame in frames
        if frame[12:14] == b"\x08\x06"
    ]


# Ethernet


def test_a_frame_shorter_than_its_header_is_dropped(lab: Lab, host: int, wire: Wire) -> None:
    for length in range(1, 14):
        wire.send(ping_frame(mac(1), wire.mac)[:length])
    lab.run(0)
    assert lab.drops(host) == {"ether_truncated": 13}


def test_a_frame_longer_than_the_mtu_and_a_tag_is_dropped(
    lab: Lab, host: int, wire: Wire, station: bytes
) -> None:
    wire.send(ether(station, wire.mac, 0x9000, bytes(1505)))
    lab.run(0)
    assert lab.drops(host) == {"ether_too_long": 1}
    wire.send(ether(station, wire.mac, 0x9000, bytes(1504)))
    lab.run(0)
    assert lab.drops(host) == {"ether_too_long": 1, "ether_type_unknown": 1}


@pytest.mark.parametrize("source", [BROADCAST, b"\x01\x00\x5e\x00\x00\x01", b"\x03\0\0\0\0\1"])
def test_a_group_is_no_source(lab: Lab, host: int, wire: Wire, station: bytes, source: bytes) -> None:
    wire.send(ping_frame(station, source))
    lab.run(0)
    assert lab.drops(host) == {"ether_source_multicast": 1}


@pytest.mark.parametrize("bit", range(1, 48))
def test_a_frame_for_another_station_is_dropped(
    lab: Lab, host: int, wire: Wire, station: bytes, bit: int
) -> None:
    """Whichever bit of the address differs; bit 0 of the first byte would make it a group."""
    other = bytearray(station)
    other[bit // 8] ^= 1 << bit % 8
    wire.send(ping_frame(bytes(other), wire.mac))
    lab.run(0)
    assert lab.drops(host) == {"ether_other_host": 1}
    assert wire.take() == []


@pytest.mark.parametrize("ether_type", [0x0000, 0x05DC, 0x0008, 0x0801, 0x8100, 0x86DD, 0xFFFF])
def test_an_unknown_type_is_dropped(lab: Lab, host: int, wire: Wire, station: bytes, ether_type: int) -> None:
    wire.send(ether(station, wire.mac, ether_type, bytes(46)))
    lab.run(0)
    assert lab.drops(host) == {"ether_type_unknown": 1}


def test_a_station_without_a_link_counts_what_it_cannot_send(lab: Lab) -> None:
    host, _ = lab.host("10.0.0.1/24")
    lab.switch.add_ping(host, ip("10.0.0.2"), interval_ns=SECOND, count=1)
    lab.run(10 * SECOND)
    assert lab.drops(host) == {"no_link": 3, "neighbor_unreachable": 1}


# Requests and replies


def test_a_request_is_answered_to_who_asked(lab: Lab, host: int, wire: Wire, station: bytes) -> None:
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, wire.mac, "10.0.0.2", bytes(6), "10.0.0.1"))
    )
    lab.run(0)
    assert wire.take() == [
        ether(wire.mac, station, TYPE_ARP, arp(ARP_REPLY, station, "10.0.0.1", wire.mac, "10.0.0.2"))
    ]
    assert lab.switch.neighbors(host) == [(0, ip("10.0.0.2"), wire.mac, "reachable", 0)]


def test_padding_behind_a_request_does_not_matter(lab: Lab, host: int, wire: Wire) -> None:
    request = arp(ARP_REQUEST, wire.mac, "10.0.0.2", bytes(6), "10.0.0.1")
    wire.send(ether(BROADCAST, wire.mac, TYPE_ARP, request + b"\xaa" * 18))
    lab.run(0)
    assert [len(frame) for frame in wire.take()] == [42]


def test_the_answer_goes_to_the_hardware_address_in_the_request(lab: Lab, host: int, wire: Wire) -> None:
    """RFC 826 speaks of the addresses in the packet, not of the frame's."""
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, STRANGER, "10.0.0.2", bytes(6), "10.0.0.1"))
    )
    lab.run(0)
    assert [frame[:6] for frame in wire.take()] == [STRANGER]
    assert lab.switch.neighbors(host)[0][2] == STRANGER


def test_a_probe_is_answered_and_teaches_nothing(lab: Lab, host: int, wire: Wire, station: bytes) -> None:
    """RFC 5227, section 2.1.1: the sender of a probe has no address yet."""
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, wire.mac, "0.0.0.0", bytes(6), "10.0.0.1"))
    )
    lab.run(0)
    assert wire.take() == [
        ether(wire.mac, station, TYPE_ARP, arp(ARP_REPLY, station, "10.0.0.1", wire.mac, "0.0.0.0"))
    ]
    assert lab.switch.neighbors(host) == []


def test_a_sender_off_the_subnet_is_answered_and_not_learned(lab: Lab, host: int, wire: Wire) -> None:
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, wire.mac, "172.16.0.2", bytes(6), "10.0.0.1"))
    )
    lab.run(0)
    assert len(wire.take()) == 1
    assert lab.switch.neighbors(host) == []


def test_a_request_for_somebody_else_teaches_nothing(lab: Lab, host: int, wire: Wire) -> None:
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, wire.mac, "10.0.0.2", bytes(6), "10.0.0.7"))
    )
    lab.run(0)
    assert wire.take() == []
    assert lab.switch.neighbors(host) == []
    assert lab.drops(host) == {"arp_not_for_us": 1}


def test_a_request_for_somebody_else_updates_who_is_known(lab: Lab, host: int, wire: Wire) -> None:
    """RFC 826's merge flag: whoever is in the table is updated before the question who is meant."""
    wire.introduce("10.0.0.1")
    lab.run(5 * SECOND)
    wire.send(
        ether(BROADCAST, STRANGER, TYPE_ARP, arp(ARP_REQUEST, STRANGER, "10.0.0.2", bytes(6), "10.0.0.7"))
    )
    lab.run(0)
    assert wire.take() == []
    assert lab.switch.neighbors(host) == [(0, ip("10.0.0.2"), STRANGER, "reachable", 0)]
    assert lab.drops(host) == {}


def test_a_reply_for_us_is_learned(lab: Lab, host: int, wire: Wire, station: bytes) -> None:
    wire.send(ether(station, wire.mac, TYPE_ARP, arp(ARP_REPLY, wire.mac, "10.0.0.2", station, "10.0.0.1")))
    lab.run(0)
    assert wire.take() == []
    assert lab.switch.neighbors(host) == [(0, ip("10.0.0.2"), wire.mac, "reachable", 0)]


def test_each_interface_answers_for_its_own_addresses_only(lab: Lab) -> None:
    router, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    a, b = lab.wire(left, "10.0.0.2"), lab.wire(right, "10.0.1.2")
    lab.quiet()
    a.send(ether(BROADCAST, a.mac, TYPE_ARP, arp(ARP_REQUEST, a.mac, "10.0.0.2", bytes(6), "10.0.1.1")))
    lab.run(0)
    assert a.take() == [] and b.take() == []
    assert lab.drops(router) == {"arp_not_for_us": 1}


# Gratuitous announcements


def test_every_address_is_announced_once_at_the_start(lab: Lab) -> None:
    node = lab.switch.add_node(core.HOST)
    wire = lab.wire(lab.interface(node, "10.0.0.1/24", "10.0.5.1/24"))
    lab.run(SECOND)
    station = lab.macs[0]
    assert wire.take_timed() == [
        (0, ether(BROADCAST, station, TYPE_ARP, arp(ARP_REQUEST, station, address, bytes(6), address)))
        for address in ("10.0.0.1", "10.0.5.1")
    ]


def test_addresses_are_announced_when_the_link_comes_back(lab: Lab, host: int, wire: Wire) -> None:
    lab.switch.set_link_up(wire.pipe_in, False)
    lab.run(SECOND)
    assert wire.take() == []
    lab.switch.set_link_up(wire.pipe_in, True)
    lab.run(0)
    assert asked(wire.take()) == [(BROADCAST, ARP_REQUEST, "10.0.0.1")]


@pytest.mark.parametrize("operation", [ARP_REQUEST, ARP_REPLY])
def test_an_announcement_makes_no_entry(lab: Lab, host: int, wire: Wire, operation: int) -> None:
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(operation, wire.mac, "10.0.0.2", bytes(6), "10.0.0.2"))
    )
    lab.run(0)
    assert lab.switch.neighbors(host) == []
    assert wire.take() == []


@pytest.mark.parametrize("operation", [ARP_REQUEST, ARP_REPLY])
def test_an_announcement_updates_an_entry(lab: Lab, host: int, wire: Wire, operation: int) -> None:
    wire.introduce("10.0.0.1")
    wire.send(
        ether(BROADCAST, STRANGER, TYPE_ARP, arp(operation, STRANGER, "10.0.0.2", bytes(6), "10.0.0.2"))
    )
    lab.run(0)
    assert lab.switch.neighbors(host) == [(0, ip("10.0.0.2"), STRANGER, "reachable", 0)]
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    assert [frame[:6] for frame in wire.take()] == [STRANGER]


def test_our_own_address_is_not_taken_from_us(lab: Lab, host: int, wire: Wire) -> None:
    wire.send(
        ether(BROADCAST, wire.mac, TYPE_ARP, arp(ARP_REQUEST, wire.mac, "10.0.0.1", bytes(6), "10.0.0.1"))
    )
    lab.run(0)
    assert lab.switch.neighbors(host) == []
    assert [frame[20:22] for frame in wire.take()] == [b"\0\2"]  # it is defended: RFC 5227, section 2.4 (b)


# Malformed and truncated


def test_a_truncated_packet_is_dropped(lab: Lab, host: int, wire: Wire) -> None:
    request = arp(ARP_REQUEST, wire.mac, "10.0.0.2", bytes(6), "10.0.0.1")
    for length in range(28):
        wire.send(ether(BROADCAST, wire.mac, TYPE_ARP, request[:length]))
    lab.run(0)
    assert lab.drops(host) == {"arp_truncated": 28}
    assert wire.take() == []


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\0\6"),  # hardware: IEEE 802 instead of Ethernet
        (2, b"\x86\xdd"),  # protocol
        (4, b"\x08"),  # length of a hardware address
        (5, b"\x10"),  # length of a protocol address
        (6, b"\0\0"),  # operations
        (6, b"\0\3"),
        (6, b"\1\1"),
        (8, BROADCAST),  # a sender that is a group
        (8, bytes(6)),  # and one that is nobody
    ],
)
def test_a_malformed_packet_is_dropped(lab: Lab, host: int, wire: Wire, offset: int, value: bytes) -> None:
    wire.introduce("10.0.0.1")
    before = lab.switch.neighbors(host)
    request = bytearray(arp(ARP_REQUEST, wire.mac, "10.0.0.2", bytes(6), "10.0.0.1"))
    request[offset : offset + len(value)] = value
    wire.send(ether(BROADCAST, wire.mac, TYPE_ARP, bytes(request)))
    lab.run(0)
    assert lab.drops(host) == {"arp_malformed": 1}
    assert wire.take() == []
    assert lab.switch.neighbors(host) == before


# Waiting for an answer


@pytest.fixture
def forwarding(lab: Lab) -> tuple[int, Wire, Wire]:
    """A router between a known station on the left and an unknown one on the right."""
    router, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    a, b = lab.wire(left, "10.0.0.2"), lab.wire(right, "10.0.1.2")
    lab.quiet()
    a.introduce("10.0.0.1")
    return router, a, b


def numbered(number: int, destination: str = "10.0.1.2") -> bytes:
    payload = udp("10.0.0.2", destination, number.to_bytes(4, "big"))
    return ip4("10.0.0.2", destination, payload, identification=number)


def test_packets_wait_for_the_answer_and_leave_in_order(lab: Lab, forwarding: tuple[int, Wire, Wire]) -> None:
    router, a, b = forwarding
    for number in range(10):
        a.send_ip(numbered(number))
    lab.run(300 * MILLISECOND)
    assert asked(b.take()) == [(BROADCAST, ARP_REQUEST, "10.0.1.2")]
    b.send(ether(lab.macs[1], b.mac, TYPE_ARP, arp(ARP_REPLY, b.mac, "10.0.1.2", lab.macs[1], "10.0.1.1")))
    lab.run(0)
    packets = b.take_ip()
    assert [packet.identification for packet in packets] == list(range(10))
    assert {(packet.destination_mac, packet.source_mac, packet.ttl) for packet in packets} == {
        (b.mac, lab.macs[1], 63)
    }
    assert lab.drops(router) == {}


def test_the_queue_keeps_the_latest_64(lab: Lab, forwarding: tuple[int, Wire, Wire]) -> None:
    router, a, b = forwarding
    for number in range(100):
        a.send_ip(numbered(number))
        lab.run(1)
    b.take()
    b.send(ether(lab.macs[1], b.mac, TYPE_ARP, arp(ARP_REPLY, b.mac, "10.0.1.2", lab.macs[1], "10.0.1.1")))
    lab.run(0)
    assert [packet.identification for packet in b.take_ip()] == list(range(36, 100))
    assert lab.drops(router) == {"neighbor_queue_full": 36}


def test_any_word_from_the_neighbour_ends_the_wait(lab: Lab, forwarding: tuple[int, Wire, Wire]) -> None:
    _router, a, b = forwarding
    a.send_ip(numbered(1))
    lab.run(0)
    b.take()
    b.send(ether(BROADCAST, b.mac, TYPE_ARP, arp(ARP_REQUEST, b.mac, "10.0.1.2", bytes(6), "10.0.1.77")))
    lab.run(0)
    assert [packet.identification for packet in b.take_ip()] == [1]


def test_three_requests_a_second_apart_then_host_unreachable_for_each(
    lab: Lab, forwarding: tuple[int, Wire, Wire]
) -> None:
    router, a, b = forwarding
    start = lab.switch.now_ns
    for number in range(5):
        a.send_ip(numbered(number))
    lab.run(3 * SECOND - 1)
    assert a.take() == []
    assert [(time_ns - start, frame[:6]) for time_ns, frame in b.take_timed()] == [
        (k * SECOND, BROADCAST) for k in range(3)
    ]
    assert lab.switch.neighbors(router)[1][3] == "incomplete"
    lab.run(1)
    errors = a.take_icmp()
    assert [(error.icmp_type, error.code, error.rest) for error in errors] == [(UNREACHABLE, 1, 0)] * 5
    assert [int.from_bytes(error.body[4:6], "big") for error in errors] == list(range(5))
    assert {error.packet.source for error in errors} == {"10.0.0.1"}
    assert lab.drops(router) == {"neighbor_unreachable": 5}
    assert lab.events(core.NEIGHBOR_FAILED) == [(start + 3 * SECOND, router)]
    assert [row[1] for row in lab.switch.neighbors(router)] == [ip("10.0.0.2")]
    lab.run(10 * SECOND)
    assert b.take() == []


def test_neighbours_fail_one_by_one(lab: Lab, forwarding: tuple[int, Wire, Wire]) -> None:
    """Each has its own clock, and one that fails does not disturb another."""
    router, a, b = forwarding
    start = lab.switch.now_ns
    for k in range(20):
        a.send_ip(numbered(k, f"10.0.1.{100 + k}"))
        lab.run(10 * MILLISECOND)
    lab.run(10 * SECOND)
    assert lab.events(core.NEIGHBOR_FAILED) == [
        (start + 3 * SECOND + k * 10 * MILLISECOND, router) for k in range(20)
    ]
    requests = [(time_ns, int(frame[41])) for time_ns, frame in b.take_timed()]
    assert requests == sorted(
        (start + attempt * SECOND + k * 10 * MILLISECOND, 100 + k) for attempt in range(3) for k in range(20)
    )
    assert [int.from_bytes(error.body[4:6], "big") for error in a.take_icmp()] == list(range(20))


def test_a_failed_neighbour_is_looked_for_again(lab: Lab, forwarding: tuple[int, Wire, Wire]) -> None:
    _router, a, b = forwarding
    a.send_ip(numbered(1))
    lab.run(5 * SECOND)
    b.take()
    a.send_ip(numbered(2))
    lab.run(0)
    assert asked(b.take()) == [(BROADCAST, ARP_REQUEST, "10.0.1.2")]
    b.send(ether(lab.macs[1], b.mac, TYPE_ARP, arp(ARP_REPLY, b.mac, "10.0.1.2", lab.macs[1], "10.0.1.1")))
    lab.run(0)
    assert [packet.identification for packet in b.take_ip()] == [2]


def test_a_gateway_that_fails_is_forgotten_by_its_routes(
    lab: Lab, forwarding: tuple[int, Wire, Wire]
) -> None:
    """Routes keep a pointer to their gateway's entry, which must not outlive it."""
    router, a, b = forwarding
    for prefix in ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"):
        lab.route(router, prefix, "10.0.1.2")
    for attempt in range(3):
        for prefix in (1, 2, 3):
            a.send_ip(numbered(prefix, f"10.{prefix}.0.9"))
        lab.run(4 * SECOND)
        assert asked(b.take()) == [(BROADCAST, ARP_REQUEST, "10.0.1.2")] * 3, attempt
        assert len(a.take_icmp()) == 3
    b.introduce("10.0.1.1")
    for prefix in (1, 2, 3):
        a.send_ip(numbered(prefix, f"10.{prefix}.0.9"))
    lab.run(0)
    assert [packet.identification for packet in b.take_ip()] == [1, 2, 3]


def test_a_host_learns_that_its_own_ping_has_nowhere_to_go(lab: Lab, host: int, wire: Wire) -> None:
    flow = lab.switch.add_ping(host, ip("10.0.0.66"), interval_ns=10 * SECOND, count=1, keep_replies=True)
    lab.run(4 * SECOND)
    replies = lab.switch.take_replies(flow)
    assert [(r["responder"], r["icmp_type"], r["icmp_code"], r["rtt_ns"]) for r in replies] == [
        (ip("10.0.0.1"), UNREACHABLE, 1, 3 * SECOND)
    ]
    assert lab.drops(host) == {"neighbor_unreachable": 1}
    assert lab.switch.flow(flow)["unreachable_packets"] == 1
    assert lab.switch.flow(flow)["done"]


def test_the_table_has_a_limit(lab: Lab) -> None:
    router, (left, right) = lab.router("10.0.0.1/24", "10.8.0.1/16")
    a, _ = lab.wire(left, "10.0.0.2"), lab.wire(right)
    lab.quiet()
    a.introduce("10.0.0.1")
    for k in range(4200):
        a.send_ip(numbered(k & 0xFFFF, f"10.8.{1 + k // 250}.{1 + k % 250}"))
    lab.run(0)
    assert len(lab.switch.neighbors(router)) == 4096
    assert lab.drops(router) == {"neighbor_table_full": 105}
    lab.run(5 * SECOND)
    assert len(lab.switch.neighbors(router)) == 1
    drops = lab.drops(router)
    assert drops["neighbor_unreachable"] == 4095
    assert drops["icmp_rate_limited"] + len(a.take_icmp()) == 4095


def test_a_redirect_that_takes_the_next_hops_place_in_a_full_table(lab: Lab) -> None:
    """To answer the source, the router forgets who was confirmed longest ago: the packet's next hop."""
    router, (inside,) = lab.router("10.0.0.1/16")
    wire = lab.wire(inside)
    lab.route(router, "20.0.0.0/8", "10.0.1.1")
    lab.quiet()
    for k in range(4096):
        wire.introduce("10.0.0.1", f"10.0.{1 + k // 250}.{1 + k % 250}", mac(0x10000 + k))
        lab.run(1)
    lab.run(61 * SECOND)
    assert len(lab.switch.neighbors(router)) == 4096
    wire.send_ip(ip4("10.0.200.1", "20.0.0.1", bytes(8)))
    lab.run(0)
    assert asked(wire.take()) == [
        (BROADCAST, ARP_REQUEST, "10.0.200.1"),
        (BROADCAST, ARP_REQUEST, "10.0.1.1"),
    ]
    for address, station in (("10.0.200.1", mac(0x30000)), ("10.0.1.1", mac(0x10000))):
        wire.send(
            ether(
                lab.macs[inside],
                station,
                TYPE_ARP,
                arp(ARP_REPLY, station, address, lab.macs[inside], "10.0.0.1"),
            )
        )
    lab.run(0)
    sent = wire.take_ip()
    assert [(packet.destination, packet.destination_mac) for packet in sent] == [
        ("10.0.200.1", mac(0x30000)),
        ("20.0.0.1", mac(0x10000)),
    ]


# Ageing


def reply_from(lab: Lab, wire: Wire, station: bytes) -> None:
    own = lab.macs[wire.peer]
    wire.send(ether(own, station, TYPE_ARP, arp(ARP_REPLY, station, "10.0.0.2", own, "10.0.0.1")))


def test_a_used_entry_is_asked_again_unicast_after_60_seconds(lab: Lab, host: int, wire: Wire) -> None:
    wire.introduce("10.0.0.1")
    lab.run(60 * SECOND)
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    assert [read_icmp(frame).icmp_type for frame in wire.take()] == [ECHO_REPLY]
    lab.run(1)
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    frames = wire.take()
    assert asked(frames) == [(wire.mac, ARP_REQUEST, "10.0.0.2")]
    assert len(frames) == 2
    assert lab.switch.neighbors(host)[0][2:] == (wire.mac, "probe", 60 * SECOND + 1)
    reply_from(lab, wire, wire.mac)
    lab.run(5 * SECOND)
    assert lab.switch.neighbors(host) == [(0, ip("10.0.0.2"), wire.mac, "reachable", 5 * SECOND)]
    assert wire.take() == []


def test_an_unused_entry_is_left_alone(lab: Lab, host: int, wire: Wire) -> None:
    wire.introduce("10.0.0.1")
    lab.run(1000 * SECOND)
    assert wire.take() == []


def test_an_entry_stays_usable_while_it_is_asked_and_goes_when_nobody_answers(
    lab: Lab, host: int, wire: Wire
) -> None:
    wire.introduce("10.0.0.1")
    lab.run(61 * SECOND)
    start = lab.switch.now_ns
    for _ in range(29):
        wire.send(ping_frame(mac(1), wire.mac))
        lab.run(100 * MILLISECOND)
    frames = wire.take_timed()
    assert [(time_ns - start, frame[:6]) for time_ns, frame in frames if frame[12:14] == b"\x08\x06"] == [
        (k * SECOND, wire.mac) for k in range(3)
    ]
    assert len(frames) == 29 + 3
    lab.run(100 * MILLISECOND)
    assert lab.events(core.NEIGHBOR_FAILED) == [(start + 3 * SECOND, host)]
    assert lab.switch.neighbors(host) == []
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    assert asked(wire.take()) == [(BROADCAST, ARP_REQUEST, "10.0.0.2")]


def test_a_router_asks_anew_for_a_neighbor_that_failed_while_it_was_used(
    lab: Lab, forwarding: tuple[int, Wire, Wire]
) -> None:
    """What was looked up for the frame before must not outlive the neighbor's entry."""
    router, a, b = forwarding
    b.introduce("10.0.1.1")
    lab.run(61 * SECOND)
    for number in range(3):
        a.send_ip(numbered(number))
        lab.run(SECOND)
    assert [packet.identification for packet in b.take_ip()] == [0, 1, 2]
    assert lab.switch.neighbors(router)[0][1] == ip("10.0.0.2")
    assert len(lab.switch.neighbors(router)) == 1
    a.send_ip(numbered(3))
    lab.run(0)
    assert asked(b.take()) == [(BROADCAST, ARP_REQUEST, "10.0.1.2")]


def test_the_answer_to_a_probe_may_come_from_a_new_station(lab: Lab, host: int, wire: Wire) -> None:
    wire.introduce("10.0.0.1")
    lab.run(61 * SECOND)
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    wire.take()
    reply_from(lab, wire, STRANGER)
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    assert [frame[:6] for frame in wire.take()] == [STRANGER]


def test_unknown_stations_hear_of_nothing_but_requests(lab: Lab, host: int, wire: Wire) -> None:
    """An answer to a stranger waits for ARP; what it holds is intact afterwards."""
    wire.send(ping_frame(mac(1), wire.mac))
    lab.run(0)
    assert asked(wire.take()) == [(BROADCAST, ARP_REQUEST, "10.0.0.2")]
    reply_from(lab, wire, wire.mac)
    lab.run(0)
    (frame,) = wire.take()
    assert read_icmp(frame).packet.payload == icmp(ECHO_REPLY, 0, 7 << 16 | 1)
