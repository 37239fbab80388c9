"""The loopback interface: what a node sends to itself is handled by that node alone, in its order."""

import pytest
import records
from lab import MILLISECOND, SECOND, Lab, echo, ip, ip4, udp

from manystack.core import Switch

pytestmark = pytest.mark.engine


def ping(lab: Lab, node: int, address: str) -> dict[str, object]:
    flow = lab.switch.add_ping(node, ip(address), interval_ns=MILLISECOND, count=3)
    lab.run(SECOND)
    return dict(lab.switch.flow(flow))


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "127.255.255.254"])
def test_a_node_answers_itself_at_once(lab: Lab, address: str) -> None:
    host, _ = lab.host("10.0.0.1/24")
    flow = ping(lab, host, address)
    assert (flow["received_packets"], flow["delay_max_ns"]) == (3, 0)
    assert lab.drops(host) == {}


def test_it_is_made_on_first_use(lab: Lab) -> None:
    host, _ = lab.host("10.0.0.1/24")
    other, _ = lab.host("10.0.0.1/24")
    before = lab.switch.memory_bytes(other)
    assert lab.switch.loopbacks() == []
    ping(lab, host, "10.0.0.1")
    assert lab.switch.loopbacks() == [lab.switch.loopback(host)]
    assert lab.switch.memory_bytes(other) == before < lab.switch.memory_bytes(host)
    with pytest.raises(ValueError, match="no loopback interface yet"):
        lab.switch.interface_statistics(lab.switch.loopback(host) + other - host)


def test_it_counts_and_is_captured(lab: Lab) -> None:
    host, _ = lab.host("10.0.0.1/24")
    loopback = lab.switch.loopback(host)
    lab.switch.capture(loopback, records.SNAP)
    ping(lab, host, "127.0.0.1")
    counts = lab.switch.interface_statistics(loopback)
    assert counts["rx_packets"] == counts["tx_packets"] == 6
    told = records.take(lab.switch)
    assert [record.direction for record in told] == [records.OUTBOUND, records.INBOUND] * 6
    assert {record.interface for record in told} == {loopback}
    assert all(record.frame[:14] == bytes(12) + b"\x08\x00" for record in told)
    assert told[0].frame[26:34] == bytes([127, 0, 0, 1] * 2)


def test_what_it_drops_is_captured_there(lab: Lab) -> None:
    host, _ = lab.host("10.0.0.1/24")
    loopback = lab.switch.loopback(host)
    lab.switch.capture(loopback, records.SNAP)
    lab.switch.open_echo(host, 7)
    lab.switch.begin_echo(host, 7, ip("127.0.0.1"), 8)
    lab.run(0)
    assert [record.reason for record in records.take(lab.switch) if record.reason] == ["udp_port_unreachable"]
    assert lab.drops(host)["udp_port_unreachable"] == 1


def test_what_is_sent_outside_a_turn_comes_to_no_other_node(lab: Lab) -> None:
    host, interface = lab.host("10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    others = [lab.host("10.0.0.1/24")[0] for _ in range(2)]
    lab.quiet()
    for node in (host, *others):
        lab.switch.open_echo(node, 7, limit_packets=0)
    lab.switch.open_echo(host, 8)
    wire.introduce("10.0.0.1")
    lab.switch.begin_echo(host, 8, ip("10.0.0.1"), 7)
    lab.run(MILLISECOND)
    assert [lab.switch.echo_counts(node, 7)[0] for node in (host, *others)] == [1, 0, 0]


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        ("127.0.0.1", "10.0.0.1", "ip4_source_martian"),
        ("10.0.0.2", "127.0.0.1", "ip4_destination_martian"),
    ],
)
def test_its_addresses_do_not_come_from_a_link(lab: Lab, source: str, destination: str, reason: str) -> None:
    host, interface = lab.host("10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    lab.quiet()
    wire.send_ip(ip4(source, destination, echo(), protocol=1))
    lab.run(0)
    assert lab.drops(host) == {reason: 1}


def test_an_address_of_its_own_is_reached_from_elsewhere(lab: Lab) -> None:
    router, (interface,) = lab.router("10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    lab.switch.add_address(lab.switch.loopback(router), ip("192.0.2.1"), 32)
    lab.quiet()
    wire.introduce("10.0.0.1")
    wire.send_ip(ip4("10.0.0.2", "192.0.2.1", echo(), protocol=1))
    lab.run(0)
    (reply,) = wire.take_ip()
    assert reply.source == "192.0.2.1"
    with pytest.raises(ValueError, match="prefix length is 32"):
        lab.switch.add_address(lab.switch.loopback(router), ip("192.0.2.9"), 24)


def test_nothing_from_a_link_makes_a_node_talk_to_itself(lab: Lab) -> None:
    router, (interface, _) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    lab.switch.open_echo(router, 7)
    lab.quiet()
    wire.send_ip(ip4("10.0.0.1", "10.0.0.1", echo(), protocol=1))
    wire.send_ip(ip4("10.0.0.1", "10.0.0.1", udp("10.0.0.1", "10.0.0.1", b"", 8, 7)))
    wire.send_ip(ip4("10.0.0.1", "10.0.0.1", udp("10.0.0.1", "10.0.0.1", b"", 8, 9)))
    wire.send_ip(ip4("10.0.0.1", "10.0.1.2", echo(), protocol=1, ttl=1))
    lab.run(0)
    assert lab.switch.loopbacks() == []
    assert lab.drops(router) == {"ip4_source_martian": 2, "udp_port_unreachable": 1, "ip4_ttl": 1}


def endings(step_ns: int | None) -> tuple[object, ...]:
    """What becomes of a host that answers by a delayed link and talks to itself, run at once or in steps."""
    lab = Lab()
    lab.switch.close()
    switch = lab.switch = Switch(proof=True)
    host, interface = lab.host("10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    switch.open_echo(host, 7)
    switch.open_echo(host, 8, limit_packets=300)
    lab.quiet()
    wire.introduce("10.0.0.1")
    switch.set_pipe(wire.pipe_in, delay_ns=100_000, bandwidth_bps=10**11)
    pings = switch.add_ping(host, ip("10.0.0.1"), interval_ns=777, count=300)
    for number in range(200):
        wire.send_ip(ip4("10.0.0.2", "10.0.0.1", udp("10.0.0.2", "10.0.0.1", bytes(number), 9, 7)))
    switch.begin_echo(host, 8, ip("127.0.0.1"), 7)
    if step_ns is None:
        lab.run(SECOND)
    else:
        until_ns = switch.now_ns + SECOND
        while (following := switch.next_event_ns) is not None and following < until_ns:
            switch.run(min(following + step_ns, until_ns))
        switch.run(until_ns)
    frames = wire.take_timed()
    counts = [switch.echo_counts(host, port) for port in (7, 8)]
    proofs = [switch.pipe_proof(pipe) for pipe in (0, 1, *switch.loopbacks())]
    counters = switch.interface_statistics(interface), switch.node_drops(host), switch.flow(pings)
    lab.close()
    return frames, counts, proofs, counters


def test_it_is_the_same_run_however_far_the_node_runs_ahead() -> None:
    at_once = endings(None)
    assert at_once[1] == [(500, 500), (300, 300)] or at_once[1] == [(501, 501), (301, 300)]
    assert len(at_once[0]) == 200  # type: ignore[arg-type]
    assert endings(0) == at_once
    assert endings(7) == at_once
