"""The packet pool: references, its limit, and what it gives back."""

import random

import pytest
from lab import (
    BROADCAST,
    MILLISECOND,
    SECOND,
    TYPE_IP4,
    Lab,
    Wire,
    echo,
    ether,
    ip,
    ip4,
    mac,
    udp,
)

from manystack.core import _switch as core

pytestmark = pytest.mark.engine

KILOBYTE = 1024


def chain(lab: Lab, length: int) -> tuple[Wire, Wire]:
    """Routers in a row, with a wire that is known at either end."""
    nodes = [lab.switch.add_node(core.ROUTER) for _ in range(length)]
    left = lab.wire(lab.interface(nodes[0], "10.0.0.1/24"), "10.0.0.2")
    for k in range(length - 1):
        near = lab.interface(nodes[k], f"10.0.{k + 1}.1/24")
        lab.link(near, lab.interface(nodes[k + 1], f"10.0.{k + 1}.2/24"))
        lab.route(nodes[k], "10.99.0.0/16", f"10.0.{k + 1}.2")
        lab.route(nodes[k + 1], "10.0.0.0/24", f"10.0.{k + 1}.1")
    right = lab.wire(lab.interface(nodes[-1], "10.99.0.1/16"), "10.99.0.2")
    lab.quiet()
    left.introduce("10.0.0.1")
    right.introduce("10.99.0.1")
    return left, right


def pair(lab: Lab) -> tuple[Wire, Wire]:
    """Two wires on a hub, which passes whatever comes."""
    _, (a, b) = lab.bridge(core.HUB, 2)
    wires = lab.wire(a), lab.wire(b)
    lab.quiet()
    return wires


@pytest.mark.parametrize("options", [b"", b"\x01\x01\x01\x00"])
def test_fifty_hops_copy_nothing(lab: Lab, options: bytes) -> None:
    """And the buffers that leave are those that came: none is taken on the way."""
    left, right = chain(lab, 50)
    payload = random.Random(1).randbytes(1400)
    left.send_ip(ip4("10.0.0.2", "10.99.0.2", payload, options=options))  # for ARP on the way
    lab.run(SECOND)
    right.take()
    for number in range(300):
        left.send_ip(ip4("10.0.0.2", "10.99.0.2", payload, identification=number, options=options))
    assert lab.switch.statistics()["packets_in_use"] == 300
    lab.run(0)
    statistics = lab.switch.statistics()
    assert statistics["copied_bytes"] == 0
    assert statistics["packets_in_use"] == 300
    assert [
        (packet.identification, packet.ttl, packet.payload, packet.options) for packet in right.take_ip()
    ] == [(number, 14, payload, options) for number in range(300)]
    assert lab.switch.statistics()["packets_in_use"] == 0


def test_errors_and_fragments_copy_nothing_either(lab: Lab) -> None:
    left, right = chain(lab, 5)
    for ttl in range(1, 6):
        left.send_ip(ip4("10.0.0.2", "10.99.0.2", udp("10.0.0.2", "10.99.0.2", bytes(900)), ttl=ttl))
    lab.run(SECOND)
    assert len(left.take_icmp()) == 5
    assert right.take(TYPE_IP4) == []
    statistics = lab.switch.statistics()
    assert (statistics["copied_bytes"], statistics["packets_in_use"]) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_every_length_passes_a_link_unchanged(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    a, b = pair(lab)
    data = chance.randbytes(65664)
    edges = [
        k + d for k in (14, 42, 64, 128, 256, 320, 1500, 1514, 1664, 1728, 4096, 65536) for d in (-1, 0, 1)
    ]
    lengths = [*range(1, 130), *edges, *(chance.randrange(1, 65001) for _ in range(200)), 65000, 65664]
    for length in lengths:
        assert a.send(data[:length]) == 1
    lab.run(0)
    frames = b.take()
    assert [len(frame) for frame in frames] == lengths
    assert all(frame == data[: len(frame)] for frame in frames)
    assert lab.switch.statistics()["packets_in_use"] == 0


@pytest.mark.parametrize("length", [0, 65665, 1 << 20])
def test_other_lengths_are_refused(lab: Lab, length: int) -> None:
    a, _ = pair(lab)
    with pytest.raises(ValueError, match="65664"):
        a.send(bytes(length))


@pytest.mark.parametrize("length", [60, 1514, 60000])
def test_the_limit_holds_and_the_engine_goes_on(length: int) -> None:
    limit = 4 << 20
    lab = Lab(pool_limit_bytes=limit)
    a, b = pair(lab)
    taken = a.send(bytes(length), 100_000)
    assert 10 <= taken < 100_000
    statistics = lab.switch.statistics()
    assert statistics["pool_bytes"] <= limit
    assert statistics["pool_drop_packets"] == 1
    assert statistics["packets_in_use"] == taken
    lab.run(0)
    assert len(b.take()) == taken
    for _ in range(3):
        assert a.send(bytes(length), taken) == taken
        lab.run(0)
        assert [len(frame) for frame in b.take()] == [length] * taken
    lab.close()


@pytest.mark.parametrize("kind", [core.HUB, core.SWITCH])
def test_a_flood_beyond_the_limit_is_counted_where_it_happens(kind: int) -> None:
    lab = Lab(pool_limit_bytes=1 << 20)
    node, ports = lab.bridge(kind, 12)
    wires = [lab.wire(port) for port in ports]
    lab.quiet()
    sent = wires[0].send(ether(BROADCAST, mac(1), 0x88B5, bytes(186)), 1500)
    lab.run(0)
    arrived = sum(len(wire.take()) for wire in wires)
    dropped = lab.drops(node)["pool_empty"]
    assert arrived + dropped == sent * 11
    assert dropped > 0
    assert lab.switch.statistics()["pool_drop_packets"] == dropped + (sent < 1500)
    wires[0].send(ether(BROADCAST, mac(1), 0x88B5, b"again"))
    lab.run(0)
    assert [len(wire.take()) for wire in wires] == [0] + [1] * 11
    lab.close()


@pytest.mark.parametrize("limit", [300_000, 600_000, 900_000, 1_500_000])
def test_whatever_needs_memory_does_without(limit: int) -> None:
    """Fragments, errors, replies, copies behind a hub, ARP and flows at a pool that is full all the time."""
    lab = Lab(pool_limit_bytes=limit)
    _, ports = lab.bridge(core.HUB, 4)
    router, (near, far) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    host, interface = lab.host("10.0.0.3/24")
    lab.link(near, ports[0])
    lab.link(interface, ports[1])
    a, listener = lab.wire(ports[2], "10.0.0.2"), lab.wire(ports[3])
    small = lab.wire(lab.interface(router, "10.0.2.1/24", mtu=68), "10.0.2.2")
    b = lab.wire(far, "10.0.1.2")
    lab.quiet()
    a.introduce("10.0.0.1")
    a.introduce("10.0.0.3")
    b.introduce("10.0.1.1")
    small.introduce("10.0.2.1")
    lab.switch.add_ping(host, ip("10.0.0.1"), interval_ns=MILLISECOND, count=0, stop_ns=SECOND)
    lab.route(host, "0.0.0.0/0", "10.0.0.1")
    lab.switch.add_udp(host, ip("10.0.2.2"), rate_bps=10**7, size_bytes=1400, stop_ns=SECOND)
    head = ether(lab.macs[near], a.mac, TYPE_IP4, b"")
    frames = [
        head + ip4("10.0.0.2", "10.0.1.2", bytes(900)),
        head + ip4("10.0.0.2", "10.0.2.2", bytes(900)),
        head + ip4("10.0.0.2", "10.0.1.2", bytes(900), ttl=1),
        head + ip4("10.0.0.2", "10.0.0.1", echo(payload=bytes(900)), protocol=1),
        head + ip4("10.0.0.2", "10.0.1.77", bytes(900)),
        ether(
            lab.macs[interface],
            a.mac,
            TYPE_IP4,
            ip4("10.0.0.2", "10.0.0.3", echo(payload=bytes(300)), protocol=1),
        ),
    ]
    chance = random.Random(limit)
    for _ in range(400):
        for _ in range(chance.randrange(1, 20)):
            a.send(chance.choice(frames), chance.choice([1, 3, 50, 400]))
        lab.run(chance.choice([0, 1, MILLISECOND]))
        if chance.random() < 0.2:
            for wire in (a, b, small, listener):
                wire.take()
        assert lab.switch.statistics()["pool_bytes"] <= limit
    assert lab.switch.statistics()["pool_drop_packets"] > 0
    lab.close()


@pytest.mark.parametrize("length", [60, 1514, 60000])
def test_memory_is_given_back(lab: Lab, length: int) -> None:
    a, b = pair(lab)
    count = 100_000_000 // (length + 500)
    a.send(bytes(length), count)
    high = lab.switch.statistics()["pool_bytes"]
    assert high >= count * length
    lab.switch.discard_frames(b.node, True)
    lab.run(0)
    assert lab.switch.statistics()["pool_bytes"] <= high // 10


def test_memory_is_given_back_when_little_of_it_stays_in_use(lab: Lab) -> None:
    """What stays pins its own slab, no more; and the freed rooms are used again."""
    a, b = pair(lab)
    lab.switch.set_pipe(b.pipe_out, delay_ns=SECOND)
    a.send(bytes(1000), 10)
    lab.run(1)
    lab.switch.set_pipe(b.pipe_out)
    a.send(bytes(1000), 50_000)
    lab.run(2 * SECOND)
    assert len(b.take()) == 50_010
    assert lab.switch.statistics()["pool_bytes"] < 5 << 20


def test_no_kind_of_packet_starves_another() -> None:
    """Each size of packet has its own rooms; empty ones make way for another size at the limit."""
    lab = Lab(pool_limit_bytes=2 << 20)
    a, b = pair(lab)
    lab.switch.discard_frames(b.node, True)
    for _ in range(3):
        for length in (60, 60000, 1500):
            assert a.send(bytes(length), 100_000) >= 20
            lab.run(0)
    lab.close()


def test_a_steady_load_does_not_grow_the_pool(lab: Lab) -> None:
    left, right = chain(lab, 3)
    packet = ip4("10.0.0.2", "10.99.0.2", bytes(1000))
    frame = ether(lab.macs[left.peer], left.mac, TYPE_IP4, packet)
    left.send(frame)
    lab.run(SECOND)
    lab.switch.discard_frames(right.node, True)
    sizes = set()
    for _ in range(200):
        left.send(frame, 200)
        lab.run(1)
        sizes.add(lab.switch.statistics()["pool_bytes"])
    assert max(sizes) < 4 << 20
    assert len(sizes) <= 2


def test_a_closed_engine_has_no_packets_to_lose(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is under way, in a queue, waiting for ARP, or in Python's hands."""
    lab = Lab()
    left, right = chain(lab, 3)
    _, ports = lab.bridge(core.HUB, 3)
    wires = [lab.wire(port) for port in ports]
    lab.quiet()
    lab.switch.set_pipe(right.pipe_out, bandwidth_bps=1000, delay_ns=SECOND, loss=0.3)
    left.send(ether(lab.macs[left.peer], left.mac, TYPE_IP4, ip4("10.0.0.2", "10.99.0.2", bytes(99))), 300)
    left.send_ip(ip4("10.0.0.2", "10.99.0.77"))
    for wire in wires:
        wire.send(b"frame", 5)
    lab.run(0)
    wires[0].send(b"never handled", 10)
    assert lab.switch.statistics()["packets_in_use"] > 80
    lab.switch.close()
    assert capsys.readouterr().out == ""
    lab.switch.close()
    for use in (lambda: lab.run(0), lambda: lab.switch.add_node(core.HOST), lambda: wires[0].take()):
        with pytest.raises(RuntimeError, match="closed"):
            use()


# What nodes cost


def test_a_host_within_a_kilobyte(lab: Lab) -> None:
    host, interface = lab.host("10.0.0.1/24")
    lab.wire(interface)
    lab.route(host, "0.0.0.0/0", "10.0.0.2")
    assert lab.switch.memory_bytes(host) <= KILOBYTE
    lab.quiet()
    assert lab.switch.memory_bytes(host) <= KILOBYTE


def test_a_router_of_four_interfaces_and_eight_routes_within_two_kilobytes(lab: Lab) -> None:
    router, interfaces = lab.router("10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24", "10.0.3.1/24")
    for interface in interfaces:
        lab.wire(interface)
    for k in range(8):
        lab.route(router, f"10.{k + 1}.0.0/16", "10.0.1.9")
    assert lab.switch.memory_bytes(router) <= 2 * KILOBYTE


def test_packets_need_no_memory_of_a_node(lab: Lab) -> None:
    left, right = chain(lab, 2)
    frame = ether(lab.macs[left.peer], left.mac, TYPE_IP4, ip4("10.0.0.2", "10.99.0.2", bytes(20)))
    for _ in range(50):  # few of the vectors wait in the line between the routers: one of them does by then
        left.send(frame, 100)
        lab.run(SECOND)
    right.take()
    before = lab.switch.memory_bytes(0)
    for _ in range(50):
        left.send(frame, 100)
        lab.run(1)
    assert lab.switch.memory_bytes(0) == before
