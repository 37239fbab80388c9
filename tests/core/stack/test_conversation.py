"""Conversations over links that take no time: they neither end early nor keep time from moving on.

Two echo endpoints answer each other without Python, all at the instant at which the first datagram was sent.
After 64 sends in a row the next is a nanosecond later, however far the two are apart; fewer are all at one
time.
"""

import select

import pytest
from lab import MILLISECOND, SECOND, Lab, ip, ip4, udp

from manystack.core import Switch
from manystack.core import _switch as core

TURNS = 64
ANSWERS = 500_000
"""By each of two endpoints: a million in all."""


def chain(lab: Lab, routers: int) -> tuple[int, int, str]:
    """Two hosts with so many routers between them, all on ideal links, and the address of the second."""
    first, end = lab.host("10.0.0.1/24")
    for number in range(routers):
        router, (left, right) = lab.router(f"10.0.{number}.254/24", f"10.0.{number + 1}.253/24")
        lab.link(end, left)
        end = right
        lab.route(router, f"10.0.{routers}.0/24", f"10.0.{number + 1}.254") if number + 1 < routers else None
        lab.route(router, "10.0.0.0/24", f"10.0.{number}.253") if number else None
    address = f"10.0.{routers}.2"
    last, interface = lab.host(f"{address}/24")
    lab.link(end, interface)
    if routers:
        lab.route(first, "0.0.0.0/0", "10.0.0.254")
        lab.route(last, "0.0.0.0/0", f"10.0.{routers}.253")
    return first, last, address


def answered(lab: Lab, *nodes: int) -> int:
    return sum(lab.switch.echo_counts(node, 7)[1] for node in nodes)


def acquainted(lab: Lab, first: int, address: str) -> None:
    """Let ARP be over, so that it takes no turn of what follows."""
    flow = lab.switch.add_ping(first, ip(address), interval_ns=MILLISECOND, count=1)
    lab.run(SECOND)
    assert lab.switch.flow(flow)["received_packets"] == 1


@pytest.mark.engine
def test_a_million_exchanges_lose_nothing_and_time_moves_on(lab: Lab) -> None:
    first, last, address = chain(lab, 0)
    for node in (first, last):
        lab.switch.open_echo(node, 7, limit_packets=ANSWERS)
    acquainted(lab, first, address)
    lab.switch.begin_echo(first, 7, ip(address), 7)
    lab.run(2 * ANSWERS // TURNS - 2)  # what is sent as number n, from 0, is sent n // 64 ns after the first
    assert answered(lab, first, last) == 2 * ANSWERS - TURNS
    lab.run(1)
    assert answered(lab, first, last) == 2 * ANSWERS
    lab.run(1)
    assert sum(lab.switch.echo_counts(node, 7)[0] for node in (first, last)) == 2 * ANSWERS + 1
    assert lab.drops(first) == lab.drops(last) == {}
    assert lab.switch.pipe_statistics(0)["loop_drop_packets"] == 0


@pytest.mark.engine
@pytest.mark.parametrize("routers", [1, 10, 50])
def test_being_passed_on_is_no_turn(lab: Lab, routers: int) -> None:
    first, last, address = chain(lab, routers)
    for node in (first, last):
        lab.switch.open_echo(node, 7, limit_packets=5000)
    acquainted(lab, first, address)
    lab.switch.begin_echo(first, 7, ip(address), 7)
    for nanosecond in range(1, 20):
        lab.run(0 if nanosecond == 1 else 1)
        assert answered(lab, first, last) == nanosecond * TURNS
    lab.run(1000)
    assert answered(lab, first, last) == 10_000


@pytest.mark.engine
def test_fewer_turns_are_all_at_one_time_however_many_converse(lab: Lab) -> None:
    server, peer = lab.host("10.0.0.1/24")
    wire = lab.wire(peer)
    lab.switch.open_echo(server, 7)
    lab.quiet()
    clients = [f"10.0.0.{number}" for number in range(2, 202)]
    for client in clients:
        wire.introduce("10.0.0.1", client)
    now_ns = lab.switch.now_ns
    for turn in range(TURNS // 2):  # the wire's answers are new to the engine, so that each is a first turn
        for client in clients:
            wire.send_ip(ip4(client, "10.0.0.1", udp(client, "10.0.0.1", bytes(turn), 9, 7)))
    lab.run(0)
    assert lab.switch.now_ns == now_ns
    assert len(wire.take()) == len(clients) * TURNS // 2


@pytest.mark.engine
def test_a_delay_begins_the_count_anew(lab: Lab) -> None:
    first, last, address = chain(lab, 0)
    for node in (first, last):
        lab.switch.open_echo(node, 7, limit_packets=1000)
    lab.switch.set_pipe(0, delay_ns=10)
    acquainted(lab, first, address)
    lab.switch.begin_echo(first, 7, ip(address), 7)
    for exchange in range(1, 500):
        lab.run(9 if exchange == 1 else 10)
        assert answered(lab, first, last) == 2 * exchange - 2


@pytest.mark.engine
def test_what_an_endpoint_sends_meanwhile_waits_with_what_came_before(lab: Lab) -> None:
    server, peer = lab.host("10.0.0.1/24")
    wire = lab.wire(peer, "10.0.0.2")
    lab.switch.open_echo(server, 7)
    lab.switch.open_echo(server, 8, limit_packets=200)
    lab.quiet()
    wire.introduce("10.0.0.1")
    lab.switch.begin_echo(server, 8, ip("10.0.0.1"), 7)
    lab.run(0)
    now_ns = lab.switch.now_ns
    wire.send_ip(ip4("10.0.0.2", "10.0.0.1", udp("10.0.0.2", "10.0.0.1", b"!", 9, 7)))
    lab.run(1)
    assert [time_ns - now_ns for time_ns, _ in wire.take_timed()] in ([0], [1])
    lab.run(100)
    assert lab.switch.echo_counts(server, 8) == (201, 200)


@pytest.mark.engine
def test_bridges_that_pass_on_to_each_other_still_come_to_an_end(lab: Lab) -> None:
    first, last, address = chain(lab, 0)
    _, one_ports = lab.bridge(core.HUB, 3)
    _, two_ports = lab.bridge(core.HUB, 2)
    loops = [lab.link(a, b) for a, b in zip(one_ports, two_ports, strict=False)]
    wire = lab.wire(one_ports[2])
    for node in (first, last):
        lab.switch.open_echo(node, 7, limit_packets=5000)
    lab.quiet()
    wire.send(bytes.fromhex("ffffffffffff 020000000099 88b5") + bytes(46))
    lab.switch.begin_echo(first, 7, ip(address), 7)
    lab.run(1000)
    drops = [lab.switch.pipe_statistics(pipe)["loop_drop_packets"] for loop in loops for pipe in loop]
    assert sum(drops) == 2  # it goes round both ways
    assert answered(lab, first, last) == 10_000
    wire.take()


def test_a_conversation_in_real_time_leaves_time_to_all_else() -> None:
    switch = Switch(real_time=True)
    nodes, interfaces = [], []
    for number in range(4):
        nodes.append(switch.add_node(core.HOST))
        interfaces.append(switch.add_interface(nodes[-1], bytes([2, 0, 0, 0, 0, number])))
        switch.add_address(interfaces[-1], ip("10.0.0.1") + number, 24)
    pipes = [switch.add_link(*interfaces[:2]), switch.add_link(*interfaces[2:])]
    for node in nodes[:2]:
        switch.open_echo(node, 7, limit_packets=ANSWERS)
    switch.start()
    try:
        switch.begin_echo(nodes[0], 7, ip("10.0.0.2"), 7)
        flow = switch.add_ping(nodes[2], ip("10.0.0.4"), interval_ns=10 * MILLISECOND, count=20)
        rounds = 0
        while rounds < 500 and sum(switch.echo_counts(node, 7)[1] for node in nodes[:2]) < 2 * ANSWERS:
            assert select.select([switch.event_fd], [], [], 60)[0]
            switch.take_events()
            if switch.flow(flow)["done"]:
                assert switch.flow(flow)["received_packets"] == 20
                switch.remove_flow(flow)
                flow = switch.add_ping(nodes[2], ip("10.0.0.4"), interval_ns=10 * MILLISECOND, count=20)
                rounds += 1
        assert [switch.echo_counts(node, 7)[1] for node in nodes[:2]] == [ANSWERS, ANSWERS]
        assert all(switch.node_drops(node) == {} for node in nodes)
        assert switch.pipe_statistics(pipes[0][0])["loop_drop_packets"] == 0
    finally:
        switch.close()
