"""Switches and hubs: learning, flooding by reference, loops."""

import random
from itertools import pairwise

import pytest
from lab import (
    BROADCAST,
    MILLISECOND,
    SECOND,
    TYPE_IP4,
    TYPE_IP6,
    Lab,
    Wire,
    echo,
    ether,
    ip4,
    mac,
    read_icmp,
)

from manystack.core import _switch as core

pytestmark = pytest.mark.engine

BOTH = pytest.mark.parametrize("kind", [core.SWITCH, core.HUB])


def star(lab: Lab, kind: int, ports: int) -> tuple[int, list[Wire]]:
    node, interfaces = lab.bridge(kind, ports)
    return node, [lab.wire(interface) for interface in interfaces]


def frame(destination: bytes, source: bytes, payload: bytes = b"payload") -> bytes:
    return ether(destination, source, 0x88B5, payload)


def heard(lab: Lab, wires: list[Wire]) -> list[int]:
    """How many frames each wire got."""
    lab.run(0)
    return [len(wire.take()) for wire in wires]


# Learning


def test_an_unknown_station_is_looked_for_everywhere_else(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 4)
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 1, 1, 1]
    assert lab.switch.mac_table(node) == [(mac(100), wires[0].peer, 0)]


def test_a_known_station_is_sent_to_alone(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 4)
    wires[2].send(frame(BROADCAST, mac(200)))
    assert heard(lab, wires) == [1, 1, 0, 1]
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 0, 1, 0]
    wires[2].send(frame(mac(100), mac(200)))
    assert heard(lab, wires) == [1, 0, 0, 0]
    assert lab.drops(node) == {}


def test_a_station_behind_the_same_port_is_left_alone(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 3)
    wires[0].send(frame(mac(200), mac(100)))
    wires[0].send(frame(mac(100), mac(200)))
    assert heard(lab, wires) == [0, 1, 1]
    assert lab.drops(node) == {"bridge_same_port": 1}


def test_a_moving_station_is_followed(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 4)
    for place in (1, 3, 2, 1):
        wires[place].send(frame(BROADCAST, mac(200)))
        heard(lab, wires)
        wires[0].send(frame(mac(200), mac(100)))
        assert heard(lab, wires) == [int(port == place) for port in range(4)]
    assert [row[0] for row in lab.switch.mac_table(node)] == sorted([mac(100), mac(200)])


def test_stations_are_forgotten_after_300_seconds(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 3)
    wires[1].send(frame(BROADCAST, mac(200)))
    heard(lab, wires)
    lab.run(300 * SECOND)
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 1, 0]
    lab.run(1)
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 1, 1]
    wires[1].send(frame(BROADCAST, mac(200)))
    heard(lab, wires)
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 1, 0]
    assert lab.drops(node) == {}


def test_frames_keep_a_station_fresh(lab: Lab) -> None:
    _, wires = star(lab, core.SWITCH, 3)
    for _ in range(5):
        wires[1].send(frame(BROADCAST, mac(200)))
        heard(lab, wires)
        lab.run(250 * SECOND)
    wires[0].send(frame(mac(200), mac(100)))
    assert heard(lab, wires) == [0, 1, 0]


def test_many_stations_are_all_known_and_the_table_is_bounded(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 3)
    for k in range(40000):
        wires[k & 1].send(frame(mac(1), mac(0x10000 + k)))
        lab.run(0)
    heard(lab, wires)
    assert len(lab.switch.mac_table(node)) == 32768
    for k in random.Random(1).sample(range(32768), 500):
        wires[2].send(frame(mac(0x10000 + k), mac(0x20000)))
        assert heard(lab, wires) == [1 - (k & 1), k & 1, 0]
    wires[2].send(frame(mac(0x10000 + 39999), mac(0x20000)))
    assert heard(lab, wires) == [1, 1, 0]


def test_a_full_table_has_room_again_when_stations_have_aged(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 2)
    for k in range(33000):
        wires[0].send(frame(mac(1), mac(0x10000 + k)))
    heard(lab, wires)
    lab.run(301 * SECOND)
    wires[1].send(frame(BROADCAST, mac(5)))
    heard(lab, wires)
    assert [row[0] for row in lab.switch.mac_table(node)] == [mac(5)]


def test_a_group_is_no_source(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 2)
    wires[0].send(frame(mac(1), BROADCAST))
    wires[0].send(frame(mac(1), b"\x01\0\0\0\0\0"))
    assert heard(lab, wires) == [0, 0]
    assert lab.drops(node) == {"ether_source_multicast": 2}
    assert lab.switch.mac_table(node) == []


def test_nobody_is_not_learned_and_passes(lab: Lab) -> None:
    node, wires = star(lab, core.SWITCH, 2)
    wires[0].send(frame(mac(9), bytes(6)))
    assert heard(lab, wires) == [0, 1]
    assert lab.switch.mac_table(node) == []


def test_short_frames_end_at_a_switch_and_cross_a_hub(lab: Lab) -> None:
    switch, at_switch = star(lab, core.SWITCH, 2)
    hub, at_hub = star(lab, core.HUB, 2)
    for length in range(1, 15):
        at_switch[0].send(frame(mac(9), mac(8))[:length])
        at_hub[0].send(frame(mac(9), mac(8))[:length])
    assert heard(lab, at_switch) == [0, 1]
    assert [len(found) for found in at_hub[1].take()] == list(range(1, 15))
    assert lab.drops(switch) == {"ether_truncated": 13}
    assert lab.drops(hub) == {}


@pytest.mark.parametrize("last", range(0x21))
def test_reserved_groups_stay_on_their_link(lab: Lab, last: int) -> None:
    """IEEE 802.1D, section 7.12.6: 01-80-C2-00-00-00 to 0F."""
    node, wires = star(lab, core.SWITCH, 3)
    wires[0].send(frame(b"\x01\x80\xc2\0\0" + bytes([last]), mac(100)))
    assert heard(lab, wires) == ([0, 0, 0] if last < 16 else [0, 1, 1])
    assert lab.drops(node) == ({"ether_reserved_group": 1} if last < 16 else {})


def test_neighbours_of_the_reserved_groups_pass(lab: Lab) -> None:
    _, wires = star(lab, core.SWITCH, 2)
    for group in (
        b"\x03\x80\xc2\0\0\0",
        b"\x01\x81\xc2\0\0\0",
        b"\x01\x80\xc3\0\0\0",
        b"\x01\x80\xc2\1\0\0",
        b"\x01\x80\xc2\0\1\0",
    ):
        wires[0].send(frame(group, mac(100)))
        assert heard(lab, wires) == [0, 1]


# Flooding


@BOTH
@pytest.mark.parametrize("payload", [b"", b"x", bytes(46), bytes(1500), bytes(65000)])
def test_a_flood_reaches_all_and_copies_nothing(lab: Lab, kind: int, payload: bytes) -> None:
    _, wires = star(lab, kind, 20)
    sent = frame(BROADCAST, mac(100), payload)
    for _ in range(5):
        wires[3].send(sent)
    lab.run(0)
    assert [wire.take() for wire in wires] == [[] if wire is wires[3] else [sent] * 5 for wire in wires]
    assert lab.switch.statistics()["copied_bytes"] == 0


@BOTH
def test_a_flood_leaves_out_ports_without_a_link(lab: Lab, kind: int) -> None:
    node, interfaces = lab.bridge(kind, 4)
    wires = [lab.wire(interfaces[0]), lab.wire(interfaces[2])]
    wires[0].send(frame(BROADCAST, mac(100)))
    assert heard(lab, wires) == [0, 1]
    assert lab.drops(node) == {}


@BOTH
def test_a_lone_port_has_nowhere_to_send(lab: Lab, kind: int) -> None:
    node, (wire,) = star(lab, kind, 1)
    wire.send(frame(BROADCAST, mac(100)))
    assert heard(lab, [wire]) == [0]
    assert lab.drops(node) == {"no_link": 1}


@BOTH
def test_ipv6_frames_cross_untouched(lab: Lab, kind: int) -> None:
    """Groups of IPv6 are flooded; nothing in the frame changes, nothing answers."""
    node, wires = star(lab, kind, 3)
    packet = b"\x60" + random.Random(6).randbytes(1499)
    solicitation = ether(b"\x33\x33\xff\0\0\1", mac(100), TYPE_IP6, packet)
    wires[0].send(solicitation)
    lab.run(0)
    assert [wire.take() for wire in wires] == [[], [solicitation], [solicitation]]
    unicast = ether(mac(100), mac(101), TYPE_IP6, packet[:100])
    wires[1].send(unicast)
    lab.run(0)
    assert [wire.take() for wire in wires] == [[unicast], [], [unicast] if kind == core.HUB else []]
    assert lab.drops(node) == {}


@pytest.mark.parametrize("router_place", range(4))
@pytest.mark.parametrize("options", [b"", b"\x01\x01\x01\x00"])
@pytest.mark.parametrize("delay_ns", [0, 3])
def test_who_changes_a_shared_packet_takes_a_copy(
    lab: Lab, router_place: int, options: bytes, delay_ns: int
) -> None:
    """A router among the receivers of a flood rewrites its header; all others see what was sent."""
    _, ports = lab.bridge(core.HUB, 5)
    router, (near, far) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    listeners = []
    for place in range(4):
        if place == router_place:
            lab.link(near, ports[place + 1])
        else:
            listeners.append(lab.wire(ports[place + 1]))
    sender, beyond = lab.wire(ports[0], "10.0.0.2"), lab.wire(far, "10.0.1.2")
    for number, wire in enumerate(listeners):
        lab.switch.set_pipe(wire.pipe_out, delay_ns=delay_ns * number)
    lab.run(1000)
    beyond.introduce("10.0.1.1")
    packet = ip4("10.0.0.2", "10.0.1.2", bytes(range(200)), ttl=7, options=options)
    sent = ether(lab.macs[near], sender.mac, TYPE_IP4, packet)
    for wire in lab.wires:
        wire.take()
    before = lab.switch.statistics()["copied_bytes"]
    for _ in range(3):
        sender.send(sent)
    lab.run(1000)
    for wire in listeners:
        assert wire.take() == [sent] * 3
    arrived = beyond.take_ip()
    assert [(found.ttl, found.payload, found.options) for found in arrived] == [
        (6, bytes(range(200)), options)
    ] * 3
    header = 14 + 20 + len(options)
    assert lab.switch.statistics()["copied_bytes"] - before in (0, 3 * header)
    assert lab.drops(router) == {}


def test_trimming_one_view_leaves_the_others_whole(lab: Lab) -> None:
    """A host cuts off the link's padding of its view; the rest of the segment still sees it."""
    _, ports = lab.bridge(core.HUB, 4)
    for number in range(2):
        _, interface = lab.host(f"10.0.0.{number + 1}/24")
        lab.link(interface, ports[number])
    sender, listener = lab.wire(ports[2], "10.0.0.9"), lab.wire(ports[3])
    lab.quiet()
    sender.introduce("10.0.0.1")
    sender.introduce("10.0.0.2")
    listener.take()
    for number in range(2):
        packet = ip4("10.0.0.9", f"10.0.0.{number + 1}", echo(number, 1, b"abc"), protocol=1)
        sent = ether(lab.macs[4 + number], sender.mac, TYPE_IP4, packet + b"\xa5" * 40)
        sender.send(sent)
        lab.run(0)
        original, reply = listener.take()
        assert original == sent
        assert read_icmp(reply).body == b"abc"
        assert sender.take() == [reply]


def test_an_echo_answered_in_place_does_not_reach_back_into_the_segment(lab: Lab) -> None:
    """Two hosts with one MAC address on a hub answer the same request; the views stay apart."""
    _, ports = lab.bridge(core.HUB, 4)
    nodes = []
    for number in range(2):
        node = lab.switch.add_node(core.HOST)
        interface = lab.switch.add_interface(node, mac(0x777))
        lab.switch.add_address(interface, 0x0A000001, 24)
        lab.link(interface, ports[number])
        nodes.append(node)
    sender, listener = lab.wire(ports[2], "10.0.0.9"), lab.wire(ports[3])
    lab.run(0)
    sender.introduce("10.0.0.1")
    listener.take()
    request = ether(
        mac(0x777), sender.mac, TYPE_IP4, ip4("10.0.0.9", "10.0.0.1", echo(1, 1, b"?" * 300), protocol=1)
    )
    sender.send(request)
    lab.run(0)
    frames = listener.take()
    assert frames[0] == request
    assert [read_icmp(reply).icmp_type for reply in frames[1:]] == [0, 0]
    assert [lab.drops(node).get("ether_other_host") for node in nodes] == [2, 2]  # the other's replies


def test_a_path_of_hubs_and_routers(lab: Lab) -> None:
    """Each router behind a hub copies the header of a packet of which others hold the rest."""
    hops = 12
    nodes = [lab.switch.add_node(core.ROUTER) for _ in range(hops + 1)]
    source = lab.wire(lab.interface(nodes[0], "10.0.0.1/24"), "10.0.0.2")
    listeners = []
    for k, (left, right) in enumerate(pairwise(nodes), 1):
        _, ports = lab.bridge(core.HUB, 3)
        lab.link(lab.interface(left, f"10.0.{k}.1/24"), ports[0])
        lab.link(lab.interface(right, f"10.0.{k}.2/24"), ports[1])
        lab.route(left, "10.99.0.0/16", f"10.0.{k}.2")
        listeners.append(lab.wire(ports[2]))
    end = lab.wire(lab.interface(nodes[-1], "10.99.0.1/16"), "10.99.0.2")
    lab.quiet()
    source.introduce("10.0.0.1")
    end.introduce("10.99.0.1")
    payload = random.Random(2).randbytes(1000)
    for number in range(4):
        source.send_ip(ip4("10.0.0.2", "10.99.0.2", payload, identification=number))
    lab.run(SECOND)
    assert [(packet.identification, packet.ttl, packet.payload) for packet in end.take_ip()] == [
        (number, 64 - hops - 1, payload) for number in range(4)
    ]
    for k, listener in enumerate(listeners):
        assert [(packet.ttl, packet.payload) for packet in listener.take_ip()] == [(63 - k, payload)] * 4


# Loops


def ring(lab: Lab, kind: int, size: int) -> tuple[list[int], Wire, list[int]]:
    nodes, ports = [], []
    for _ in range(size):
        node, interfaces = lab.bridge(kind, 3)
        nodes.append(node)
        ports.append(interfaces)
    pipes = []
    for k in range(size):
        pipes += lab.link(ports[k][0], ports[(k + 1) % size][1])
    return nodes, lab.wire(ports[0][2]), pipes


@BOTH
@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_loop_of_undelayed_links_ends(lab: Lab, kind: int, size: int) -> None:
    """Both copies go round until they have crossed 4,096 links at one instant; then the loop is counted."""
    _, wire, pipes = ring(lab, kind, size)
    wire.send(frame(BROADCAST, mac(100)))
    lab.run(0)
    loop_drops = sum(lab.switch.pipe_statistics(pipe)["loop_drop_packets"] for pipe in pipes)
    assert loop_drops == 2
    statistics = lab.switch.statistics()
    assert statistics["hop_packets"] < 2 * 4097
    assert statistics["copied_bytes"] == 0
    assert len(wire.take()) <= 2 * 4097 // size + 1
    assert lab.switch.next_event_ns is None


def test_a_loop_with_a_slow_link_goes_round_at_its_pace(lab: Lab) -> None:
    """Time passes in such a loop, so it is the user's to break; run() comes back."""
    _, wire, pipes = ring(lab, core.HUB, 3)
    for pipe in pipes[:2]:
        lab.switch.set_pipe(pipe, delay_ns=MILLISECOND)
    wire.send(frame(BROADCAST, mac(100)))
    lab.run(100 * MILLISECOND)
    assert len(wire.take()) == 200
    assert 2 <= lab.switch.statistics()["packets_in_use"] <= 4  # two frames; views keep their owner
    lab.switch.set_link_up(pipes[0], False)
    assert lab.switch.statistics()["packets_in_use"] == 0


def test_a_routing_loop_ends_by_ttl(lab: Lab) -> None:
    one, (a, left) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    two, (right,) = lab.router("10.0.1.2/24")
    lab.link(left, right)
    lab.route(one, "10.9.0.0/16", "10.0.1.2")
    lab.route(two, "0.0.0.0/0", "10.0.1.1")
    wire = lab.wire(a, "10.0.0.2")
    lab.quiet()
    wire.introduce("10.0.0.1")
    wire.send_ip(ip4("10.0.0.2", "10.9.0.1", bytes(8), ttl=255))
    lab.run(0)
    (error,) = wire.take_icmp()
    assert error.body[8] == 1
    assert lab.drops(one).get("ip4_ttl", 0) + lab.drops(two).get("ip4_ttl", 0) == 1


def test_only_a_switch_has_learnt_anything(lab: Lab) -> None:
    host, interface = lab.host("10.0.0.1/24")
    wire = lab.wire(interface)
    lab.run(0)
    hub, _ = lab.bridge(core.HUB, 2)
    assert [lab.switch.mac_table(node) for node in (host, wire.node, hub)] == [[], [], []]
