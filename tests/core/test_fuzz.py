"""A million frames that no network should send, into stacks, a switch and a hub.

What matters is that the engine lives (the sanitized build looks harder), that it can say where every frame
went, and that nothing wrong leaves a router. All is repeatable: the seeds are fixed, and time is virtual.
"""

import random
from collections.abc import Callable, Iterator

import pytest
from lab import (
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST,
    DONT_FRAGMENT,
    ECHO_REPLY,
    MILLISECOND,
    MORE_FRAGMENTS,
    REDIRECT,
    SECOND,
    TIME_EXCEEDED,
    TYPE_ARP,
    TYPE_IP4,
    TYPE_IP6,
    UNREACHABLE,
    Lab,
    Wire,
    arp,
    checksum,
    echo,
    ether,
    icmp,
    ip,
    ip4,
    mac,
    read_ip4,
    udp,
)

from manystack.core import _switch as core

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FRAMES_EACH = 260_000
BATCH = 100
INTERESTING = [
    b"\0\0",
    b"\xff\xff",
    b"\0\1",
    b"\x7f\xff",
    b"\x80\0",
    b"\x1f\xff",
    b"\x3f\xff",
    b"\0\x13",
    b"\0\x14",
    b"\x45\0",
]

TARGETS = [
    "10.0.5.1",
    "10.0.5.9",
    "10.0.0.1",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.255",
    "10.0.1.1",
    "10.0.1.2",
    "10.0.2.2",
    "10.0.2.3",
    "10.0.2.77",
    "10.0.3.1",
    "10.0.3.2",
    "10.66.0.1",
    "11.1.1.1",
    "12.1.1.1",
    "13.1.1.1",
    "99.0.0.1",
    "224.0.0.5",
    "255.255.255.255",
]

Mutation = Callable[[random.Random, bytearray], bytearray]


class Town:
    """All kinds of nodes: hubs that make views, small MTUs that make fragments, traffic of their own."""

    def __init__(self) -> None:
        self.lab = lab = Lab(pool_limit_bytes=1 << 27)
        switch = lab.switch
        self.host, host = lab.host("10.0.5.1/24")
        self.at_host = lab.wire(host, "10.0.5.2")

        self.hub, hub_ports = lab.bridge(core.HUB, 5)
        self.switch, switch_ports = lab.bridge(core.SWITCH, 4)
        self.first = switch.add_node(core.ROUTER)
        self.second = switch.add_node(core.ROUTER)
        self.near = lab.interface(self.first, "10.0.0.1/24")
        side = lab.interface(self.first, "10.0.1.1/24")
        narrow_left = lab.interface(self.first, "10.0.2.1/24", mtu=120)
        narrow_right = lab.interface(self.second, "10.0.2.2/24", mtu=120)
        end = lab.interface(self.second, "10.0.3.1/24", mtu=68)
        stations = [lab.host(address) for address in ("10.0.0.3/24", "10.0.0.4/24")]
        third = lab.host("10.0.2.3/24", mtu=120)
        self.small_hub, small_ports = lab.bridge(core.HUB, 3)

        self.at_hub = lab.wire(hub_ports[0], "10.0.0.8")
        lab.link(stations[0][1], hub_ports[1])
        lab.link(self.near, hub_ports[2])
        lab.link(switch_ports[0], hub_ports[3])
        hub_listener = lab.wire(hub_ports[4])
        self.at_switch = lab.wire(switch_ports[1], "10.0.0.9")
        lab.link(stations[1][1], switch_ports[2])
        switch_listener = lab.wire(switch_ports[3])
        self.at_router = lab.wire(side, "10.0.1.2")
        lab.link(narrow_left, small_ports[0])
        lab.link(narrow_right, small_ports[1])
        lab.link(third[1], small_ports[2])
        self.at_end = lab.wire(end, "10.0.3.2")
        for listener in (hub_listener, switch_listener):
            switch.discard_frames(listener.node, True)

        lab.route(self.first, "10.0.3.0/24", "10.0.2.2")
        lab.route(self.first, "10.66.0.0/16", None)
        lab.route(self.first, "11.0.0.0/8", "10.0.2.2")
        lab.route(self.first, "12.0.0.0/8", "10.0.0.3")  # back where it came from, or to a host
        lab.route(self.first, "13.0.0.0/8", "10.0.1.99")  # a gateway that is not there
        lab.route(self.second, "0.0.0.0/0", "10.0.2.1")  # with 11/8 a loop
        for node, _ in stations:
            lab.route(node, "0.0.0.0/0", "10.0.0.1")
        lab.route(third[0], "0.0.0.0/0", "10.0.2.2")
        lab.route(self.host, "0.0.0.0/0", "10.0.5.2")
        self.stacks = [self.host, self.first, self.second, stations[0][0], stations[1][0], third[0]]
        lab.quiet()
        self.introduce()
        self.flows = [
            switch.add_ping(
                stations[0][0], ip("10.0.3.1"), interval_ns=7 * MILLISECOND, count=0, size_bytes=64
            ),
            switch.add_udp(stations[1][0], ip("10.0.2.3"), rate_bps=40_000, size_bytes=60, sink=third[0]),
            switch.add_ping(
                self.host, ip("10.0.5.2"), interval_ns=90 * MILLISECOND, count=0, keep_replies=True
            ),
        ]

    def introduce(self) -> None:
        """Let the stacks know the fuzzer's stations: what they send to others waits and fails."""
        for wire, target in (
            (self.at_host, "10.0.5.1"),
            (self.at_hub, "10.0.0.1"),
            (self.at_hub, "10.0.0.3"),
            (self.at_switch, "10.0.0.1"),
            (self.at_switch, "10.0.0.4"),
            (self.at_router, "10.0.1.1"),
            (self.at_end, "10.0.3.1"),
        ):
            request = arp(ARP_REQUEST, wire.mac, wire.address, bytes(6), target)
            wire.send(ether(BROADCAST, wire.mac, TYPE_ARP, request))
        self.lab.run(0)

    def close(self) -> None:
        """Stop what sends by itself, let the rest come to its end, and balance the books."""
        lab, switch = self.lab, self.lab.switch
        for flow in self.flows:
            switch.remove_flow(flow)
        for wire in lab.wires:
            switch.discard_frames(wire.node, True)
            wire.take()
        lab.run(10 * SECOND)
        for pipe in range(2 * 13):
            counts = switch.pipe_statistics(pipe)
            assert counts["in_flight_packets"] == 0
            assert counts["sent_packets"] == counts["delivered_packets"], counts
            assert counts["sent_bytes"] == counts["delivered_bytes"], counts
        for node, ports in ((self.hub, 5), (self.small_hub, 3)):
            received, sent = self.traffic(node)
            assert lab.drops(node) == {}
            assert sent == (ports - 1) * received
        received, sent = self.traffic(self.switch)
        passed = received - sum(lab.drops(self.switch).values())
        assert passed <= sent <= 3 * passed
        for node in (
            self.stacks
        ):  # nothing is dropped twice: each drop is of what came, or of what the node made itself
            assert lab.drops(node).get("pool_empty", 0) == 0
        lab.close()

    def traffic(self, node: int) -> tuple[int, int]:
        counts = [self.lab.switch.interface_statistics(interface) for interface in self.lab.interfaces[node]]
        return sum(count["rx_packets"] for count in counts), sum(count["tx_packets"] for count in counts)


def corpus(town: Town, wire: Wire) -> list[bytes]:
    """Good frames from one place: to each station that there is, of every kind that it knows."""
    lab = town.lab
    own, source = wire.mac, wire.address
    gateway = lab.macs[wire.peer] if wire in (town.at_host, town.at_router) else lab.macs[town.near]
    stations = [BROADCAST, gateway, *(station for index, station in lab.macs.items() if index < 40)]
    frames = []
    for target in TARGETS:
        quoted = [
            ip4(target, source, udp(target, source, bytes(20), 49153, 49153)),
            ip4(target, "10.0.3.1", echo(1, 3, bytes(20)), protocol=1),
            ip4(target, source, echo(3, 1, bytes(9)), protocol=1, options=b"\x01" * 12),
        ]
        packets = [
            ip4(source, target, echo(5, 1, bytes(range(56))), protocol=1),
            ip4(source, target, echo(5, 2, bytes(700)), protocol=1, ttl=3),
            ip4(source, target, echo(5, 2, bytes(90)), protocol=1, flags=DONT_FRAGMENT),
            ip4(source, target, icmp(ECHO_REPLY, 0, 0x00030001, bytes(56)), protocol=1),
            ip4(source, target, udp(source, target, bytes(33), 1024, 49153)),
            ip4(source, target, udp(source, target, b"", 1024, 33434, with_checksum=False), ttl=2),
            ip4(
                source, target, udp(source, target, bytes(1400)), options=b"\x82\x04\1\2\x44\x08\5\0\0\0\0\0"
            ),
            ip4(source, target, bytes(64), protocol=6, ttl=1),
            ip4(source, target, bytes(200), flags=MORE_FRAGMENTS, identification=9),
            ip4(source, target, bytes(100), offset=200, identification=9),
            ip4(source, target, bytes(16), options=b"\x83\x07\4\x0a\0\0\1\0"),
            ip4(source, target, icmp(UNREACHABLE, 1, 0, quoted[0]), protocol=1),
            ip4(source, target, icmp(UNREACHABLE, 4, 576, quoted[1]), protocol=1),
            ip4(source, target, icmp(TIME_EXCEEDED, 0, 0, quoted[2]), protocol=1, ttl=9),
            ip4(source, target, icmp(REDIRECT, 1, ip("10.0.0.8"), quoted[0]), protocol=1),
            ip4("10.0.0.1", target, icmp(REDIRECT, 1, ip("10.0.0.8"), quoted[1]), protocol=1),
            ip4(source, target, icmp(12, 0, 0, quoted[1]), protocol=1),
            ip4(source, target, icmp(13, 0, 0, bytes(12)), protocol=1),
        ]
        frames += [ether(gateway, own, TYPE_IP4, packet) for packet in packets]
        frames += [
            ether(stations[len(frames) % len(stations)], own, TYPE_IP4, packet) for packet in packets[::3]
        ]
        frames += [
            ether(BROADCAST, own, TYPE_ARP, arp(ARP_REQUEST, own, source, bytes(6), target)),
            ether(BROADCAST, own, TYPE_ARP, arp(ARP_REQUEST, own, target, bytes(6), target)),
            ether(gateway, own, TYPE_ARP, arp(ARP_REPLY, own, target, gateway, "10.0.0.1")),
            ether(BROADCAST, own, TYPE_ARP, arp(ARP_REQUEST, mac(77), "0.0.0.0", bytes(6), target))
            + bytes(18),
        ]
    frames += [
        ether(b"\x33\x33\0\0\0\1", own, TYPE_IP6, b"\x60" + bytes(60)),
        ether(b"\x01\x80\xc2\0\0\0", own, 0x0026, bytes(38)),
        ether(gateway, own, 0x8100, b"\0\1\x08\0" + ip4(source, "10.0.0.1")),
    ]
    return frames


def flip(chance: random.Random, frame: bytearray) -> bytearray:
    bits = len(frame) * 8
    for _ in range(1 + chance.getrandbits(2)):
        bit = int(chance.random() * bits)
        frame[bit >> 3] ^= 1 << (bit & 7)
    return frame


def scribble_header(chance: random.Random, frame: bytearray) -> bytearray:
    frame[int(chance.random() * min(len(frame), 62))] = chance.getrandbits(8)
    return frame


def put_interesting(chance: random.Random, frame: bytearray) -> bytearray:
    place = int(chance.random() * min(len(frame) // 2, 31)) * 2
    frame[place : place + 2] = INTERESTING[int(chance.random() * len(INTERESTING))]
    return frame


def truncate(chance: random.Random, frame: bytearray) -> bytearray:
    del frame[1 + int(chance.random() * len(frame)) :]
    return frame


def cut_in_header(chance: random.Random, frame: bytearray) -> bytearray:
    del frame[1 + chance.getrandbits(6) :]
    return frame


def extend(chance: random.Random, frame: bytearray) -> bytearray:
    frame += chance.randbytes(1 + chance.getrandbits(5))
    return frame


def drop_byte(chance: random.Random, frame: bytearray) -> bytearray:
    if len(frame) > 1:
        del frame[int(chance.random() * len(frame))]
    return frame


def keep(chance: random.Random, frame: bytearray) -> bytearray:
    return frame


MUTATIONS: list[Mutation] = [
    flip,
    scribble_header,
    scribble_header,
    put_interesting,
    put_interesting,
    truncate,
    cut_in_header,
    extend,
    drop_byte,
    keep,
]


def repair(frame: bytearray) -> None:
    """Make the IP header's checksum right, so that the damage gets past the first check."""
    end = 14 + (frame[14] & 15) * 4 if len(frame) > 14 else 0
    if 34 <= end <= len(frame):
        frame[24:26] = b"\0\0"
        frame[24:26] = checksum(bytes(frame[14:end])).to_bytes(2, "big")


def damaged(chance: random.Random, frames: list[bytes]) -> Iterator[bytes]:
    """Good frames with one or two faults, or none."""
    count = len(frames)
    kinds = len(MUTATIONS)
    while True:
        frame = bytearray(frames[int(chance.random() * count)])
        for _ in range(1 + (chance.random() < 0.3)):
            frame = MUTATIONS[int(chance.random() * kinds)](chance, frame)
        if chance.random() < 0.8 and frame[12:14] == b"\x08\x00":
            repair(frame)
        yield bytes(frame)


def noise(chance: random.Random, station: bytes) -> Iterator[bytes]:
    """Random bytes, some of which say that they are IPv4 or ARP for a station."""
    while True:
        length = 1 + int(chance.random() * (64 if chance.getrandbits(1) else 1600))
        frame = chance.randbytes(length)
        kind = chance.getrandbits(2)
        if kind == 1:
            frame = station + frame
        elif kind > 1:
            frame = ether(station, mac(5), TYPE_IP4 if kind == 2 else TYPE_ARP, frame)
        yield frame


def verify(frames: list[bytes], mtu: int) -> None:
    """What a router sends as IPv4 is IPv4: header, checksum, length, and within the link's MTU."""
    for frame in frames:
        if frame[12:14] == b"\x08\x00":
            packet = read_ip4(frame)
            assert packet.ttl >= 1
            assert len(packet.raw) <= mtu


@pytest.mark.parametrize("place", ["host", "router", "switch", "hub"])
def test_damaged_frames(place: str) -> None:
    town = Town()
    switch = town.lab.switch
    wire: Wire = {
        "host": town.at_host,
        "router": town.at_router,
        "switch": town.at_switch,
        "hub": town.at_hub,
    }[place]
    chance = random.Random(f"damaged frames into a {place}")
    stream = damaged(chance, corpus(town, wire))
    inject, node = switch.inject, wire.node
    injected = 0
    while injected < FRAMES_EACH:
        for _ in range(BATCH):
            injected += inject(node, next(stream))
        town.lab.run(int(chance.random() * 40 * MILLISECOND))
        if injected % 2000 == 0:
            verify(town.at_end.take(), 68)
            for other in (town.at_host, town.at_router, town.at_switch, town.at_hub):
                other.take()
            switch.take_events()
            town.introduce()
    assert injected == FRAMES_EACH
    assert switch.statistics()["pool_drop_packets"] == 0
    town.close()


@pytest.mark.parametrize("kind", [core.HOST, core.ROUTER])
def test_noise_is_dropped_by_reason_to_the_last_frame(lab: Lab, kind: int) -> None:
    """Nothing in it makes sense, so drops by reason must add up to what was sent, and nothing returns."""
    node = lab.switch.add_node(kind)
    interface = lab.interface(node, "10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    lab.quiet()
    stream = noise(random.Random(kind + 1000), lab.macs[interface])
    for _ in range(300):
        for _ in range(BATCH):
            wire.send(next(stream))
        lab.run(MILLISECOND)
    drops = lab.drops(node)
    assert sum(drops.values()) == 300 * BATCH
    assert set(drops) >= {
        "ether_truncated",
        "ether_other_host",
        "arp_truncated",
        "arp_malformed",
        "ip4_version",
    }
    assert wire.take() == []


@pytest.mark.parametrize("kind", [core.SWITCH, core.HUB])
def test_noise_crosses_bridges_or_is_counted(lab: Lab, kind: int) -> None:
    node, ports = lab.bridge(kind, 3)
    wires = [lab.wire(port) for port in ports]
    lab.quiet()
    chance = random.Random(kind + 2000)
    stream = noise(chance, mac(9))
    sent = 0
    for _ in range(200):
        for _ in range(BATCH):
            wires[int(chance.random() * 3)].send(next(stream))
            sent += 1
        lab.run(MILLISECOND)
    arrived = sum(len(wire.take()) for wire in wires)
    dropped = sum(lab.drops(node).values())
    if kind == core.HUB:
        assert (arrived, dropped) == (2 * sent, 0)
    else:
        assert sent - dropped <= arrived <= 2 * (sent - dropped)
        assert dropped > 0
