"""Captures: what is recorded where and when, with which bytes, and that packets do not notice."""

from collections.abc import Iterator

import pytest
from lab import (
    MILLISECOND,
    PROTOCOL_ICMP,
    SECOND,
    TYPE_ARP,
    TYPE_IP4,
    Lab,
    echo,
    ip4,
    read_ip4,
    udp,
)
from records import INBOUND, OUTBOUND, SNAP, Record, take
from segments import Stream

from manystack.core import _switch as core

pytestmark = pytest.mark.engine

HERE, THERE = "10.0.0.2", "10.0.1.2"


class Path:
    """near = r1 = r2 = far, all of it captured; between the routers a link that can be shaped."""

    def __init__(self, lab: Lab, snap: int = SNAP) -> None:
        self.lab = lab
        self.switch = lab.switch
        self.r1, (self.in1, self.out1) = lab.router("10.0.0.1/24", "10.1.0.1/24")
        self.r2, (self.in2, self.out2) = lab.router("10.1.0.2/24", "10.0.1.1/24")
        self.near = lab.wire(self.in1, HERE)
        self.far = lab.wire(self.out2, THERE)
        self.pipe, self.back = lab.link(self.out1, self.in2)
        lab.route(self.r1, "10.0.1.0/24", "10.1.0.2")
        lab.route(self.r2, "10.0.0.0/24", "10.1.0.1")
        lab.quiet()
        self.near.introduce("10.0.0.1")
        self.far.introduce("10.0.1.1")
        self.near.send_ip(ip4(HERE, THERE, udp(HERE, THERE, b"learn the way")))
        lab.run(SECOND)
        self.far.take()
        for interface in (self.near.interface, self.in1, self.out1, self.in2, self.out2, self.far.interface):
            self.switch.capture(interface, snap)

    def send(self, size: int = 100, ttl: int = 64, destination: str = THERE, flags: int = 0) -> bytes:
        packet = ip4(HERE, destination, udp(HERE, destination, bytes(size)), ttl=ttl, flags=flags)
        self.near.send_ip(packet)
        return packet

    def records(self, ether_type: int = TYPE_IP4) -> list[Record]:
        return [r for r in take(self.switch) if r.frame[12:14] == ether_type.to_bytes(2, "big")]


@pytest.fixture
def path(lab: Lab) -> Iterator[Path]:
    yield Path(lab)


def test_a_packet_has_one_id_and_the_times_of_the_rules_wherever_it_is_seen(path: Path) -> None:
    path.switch.set_pipe(path.pipe, bandwidth_bps=8_000_000, overhead_bytes=24, delay_ns=5 * MILLISECOND)
    path.switch.set_pipe(path.far.pipe_out, delay_ns=7)
    start = path.switch.now_ns
    path.send(1000)
    path.send(2)
    path.lab.run(SECOND)
    records = path.records()
    long, short = 14 + 20 + 8 + 1000, 14 + 20 + 8 + 2
    first = start + (long + 24) * 1000 + 5 * MILLISECOND  # a byte takes a microsecond
    second = first + (short + 24) * 1000
    seen = [
        (path.near.interface, OUTBOUND, start, start),
        (path.in1, INBOUND, start, start),
        (path.out1, OUTBOUND, start, start),
        (path.in2, INBOUND, first, second),
        (path.out2, OUTBOUND, first, second),
        (path.far.interface, INBOUND, first + 7, second + 7),
    ]
    ids = sorted({record.packet_id for record in records})
    assert len(ids) == 2
    for k, packet_id in enumerate(ids):
        mine = [r for r in records if r.packet_id == packet_id]
        assert [(r.interface, r.direction, r.time_ns) for r in mine] == [(s[0], s[1], s[2 + k]) for s in seen]
        assert {r.reason for r in mine} == {""}
        assert {r.wire_bytes for r in mine} == {(long, short)[k]}
    assert [r.time_ns for r in records] == sorted(r.time_ns for r in records)


def test_the_bytes_are_those_of_each_wire(path: Path) -> None:
    packet = path.send(1)
    path.lab.run(0)
    records = path.records()
    assert records[0].frame[14:] == packet
    assert [read_ip4(record.frame).ttl for record in records] == [64, 64, 63, 63, 62, 62]
    assert records[-1].frame == path.far.take()[0]
    assert path.switch.statistics()["copied_bytes"] == 0
    assert path.switch.statistics()["captured_bytes"] == 6 * len(records[0].frame)


@pytest.mark.parametrize("snap", [1, 13, 14, 60, 142, 143])
def test_a_snap_length_cuts_the_copy_alone(lab: Lab, snap: int) -> None:
    path = Path(lab, snap)
    path.send(100)
    lab.run(0)
    records = take(path.switch)
    whole = path.far.take()[0]
    assert len(records) == 6
    assert {(len(r.frame), r.wire_bytes) for r in records} == {(min(snap, len(whole)), len(whole))}
    assert records[-1].frame == whole[:snap]


def test_an_interface_alone(path: Path) -> None:
    for interface in (path.near.interface, path.in1, path.out1, path.in2, path.far.interface):
        path.switch.capture(interface, 0)
    path.send()
    path.lab.run(0)
    assert [(r.interface, r.direction) for r in path.records()] == [(path.out2, OUTBOUND)]
    path.switch.capture(path.out2, 0)
    path.send()
    path.lab.run(0)
    assert take(path.switch) == []


def test_an_answer_is_a_packet_of_its_own(path: Path) -> None:
    path.near.send_ip(ip4(HERE, "10.0.0.1", echo(), protocol=PROTOCOL_ICMP))
    path.lab.run(0)
    sent, received, answer, back = path.records()
    assert sent.packet_id == received.packet_id != answer.packet_id == back.packet_id
    assert (answer.interface, answer.direction) == (path.in1, OUTBOUND)


def test_what_is_flooded_is_one_packet_at_every_port(lab: Lab) -> None:
    _, ports = lab.bridge(core.HUB, 4)
    wires = [lab.wire(port) for port in ports]
    for wire in wires:
        lab.switch.capture(wire.interface, SNAP)
    wires[0].send(b"frame for everybody")
    lab.run(0)
    records = take(lab.switch)
    assert (records[0].interface, records[0].direction) == (wires[0].interface, OUTBOUND)
    assert {(r.interface, r.direction) for r in records[1:]} == {(w.interface, INBOUND) for w in wires[1:]}
    assert len(records) == 4
    assert len({r.packet_id for r in records}) == 1


def test_what_a_node_drops_is_seen_once_more_with_the_reason(path: Path) -> None:
    path.switch.capture(path.near.interface, 0)
    lost = {
        "ip4_ttl": {"ttl": 1},
        "ip4_no_route": {"destination": "10.9.9.9"},
        "ip4_multicast": {"destination": "224.0.0.9"},
    }
    for reason, packet in lost.items():
        path.send(**packet)  # type: ignore[arg-type]
        path.lab.run(MILLISECOND)
        records = path.records()
        arrived, dropped = (r for r in records if r.packet_id == records[0].packet_id)
        assert arrived.reason == "" and dropped.reason == reason
        assert (dropped.interface, dropped.direction) == (path.in1, INBOUND)
        assert (dropped.packet_id, dropped.time_ns, dropped.frame) == (
            arrived.packet_id,
            arrived.time_ns,
            arrived.frame,
        )


def test_what_nobody_answers_for_is_dropped_when_the_node_gives_up(path: Path) -> None:
    start = path.switch.now_ns
    path.send(destination="10.0.1.77")
    path.lab.run(10 * SECOND)
    records = [r for r in path.records() if read_ip4(r.frame).destination == "10.0.1.77"]
    assert [(r.interface, r.direction) for r in records[-2:]] == [(path.in2, INBOUND)] * 2
    assert records[-1].reason == "neighbor_unreachable"
    assert records[-1].time_ns == start + 3 * SECOND
    assert {r.packet_id for r in records} == {records[0].packet_id}


def test_a_node_s_own_packets_and_an_unknown_port(path: Path) -> None:
    path.near.send_ip(ip4(HERE, "10.0.0.1", udp(HERE, "10.0.0.1", b"who is there")))
    path.lab.run(0)
    _, arrived, answer, dropped, _ = path.records()
    assert (dropped.packet_id, dropped.reason) == (arrived.packet_id, "udp_port_unreachable")
    assert (answer.interface, answer.direction, answer.reason) == (path.in1, OUTBOUND, "")


def test_a_full_queue_and_a_lossy_wire_tell_in_the_one_record(path: Path) -> None:
    path.switch.set_pipe(path.pipe, bandwidth_bps=SECOND, queue_limit_packets=1)
    for _ in range(4):
        path.send()
    path.lab.run(MILLISECOND)
    sent = [r for r in path.records() if r.interface == path.out1]
    assert [(r.direction, r.reason) for r in sent] == [
        (OUTBOUND, ""),
        (OUTBOUND, ""),
        (OUTBOUND, "queue_full"),
        (OUTBOUND, "queue_full"),
    ]
    path.switch.set_pipe(path.pipe, bandwidth_bps=SECOND, loss=1.0)
    path.send()
    path.lab.run(MILLISECOND)
    assert [r.reason for r in path.records() if r.interface == path.out1] == ["loss"]


def test_what_a_discipline_drops_later_is_seen_once_more(path: Path) -> None:
    """A full queue that drops its oldest: the second packet, when the fourth comes."""
    path.switch.set_pipe(
        path.pipe, bandwidth_bps=8_000_000, queue_limit_packets=2, shaping={"drops_head": True}
    )
    for _ in range(4):
        path.send()
        path.lab.run(10)
    path.lab.run(SECOND)
    first, second, third, fourth, dropped = (r for r in path.records() if r.interface == path.out1)
    assert {r.reason for r in (first, second, third, fourth)} == {""}
    assert (dropped.packet_id, dropped.reason) == (second.packet_id, "queue_full")
    assert dropped.time_ns == fourth.time_ns == second.time_ns + 20


def test_a_cut_wire_tells_of_what_it_had_and_of_what_comes(path: Path) -> None:
    path.switch.set_pipe(path.pipe, delay_ns=MILLISECOND)
    path.send()
    path.lab.run(10)
    path.switch.set_link_up(path.pipe, False)
    path.send()
    path.lab.run(MILLISECOND)
    under_way, cut, refused = (r for r in path.records() if r.interface == path.out1)
    assert (under_way.reason, cut.reason, refused.reason) == ("", "link_down", "link_down")
    assert under_way.packet_id == cut.packet_id != refused.packet_id
    assert cut.time_ns == under_way.time_ns + 10


def test_a_loop_tells_that_it_is_one(lab: Lab) -> None:
    _, left = lab.bridge(core.HUB, 3)
    _, right = lab.bridge(core.HUB, 2)
    wire = lab.wire(left[0])
    lab.link(left[1], right[0])
    lab.link(right[1], left[2])
    lab.switch.discard_frames(wire.node, True)
    for interface in (*left[1:], *right):
        lab.switch.capture(interface, SNAP)
    wire.send(b"round and round")
    lab.run(0)
    records = take(lab.switch)
    assert {r.packet_id for r in records} == {records[0].packet_id}
    assert [r.reason for r in records if r.reason] == ["link_loop"] * 2  # it goes round both ways


@pytest.mark.parametrize("vlan", [(), (0x8100, 5)])
def test_a_super_frame_is_captured_as_the_segments_that_it_is_on_the_wire(
    path: Path, vlan: tuple[int, ...]
) -> None:
    """Each has an id of its own, the same at each interface, and a finished checksum."""
    stream = Stream(
        10_000, 1448, destination_mac=path.lab.macs[path.in1], source_mac=path.near.mac, vlan=vlan
    )
    header, frame = stream.super_frame()
    path.switch.inject(path.near.node, frame, 1, header)
    path.lab.run(0)
    segments = stream.segments()
    records = take(path.switch)
    at_the_start = [r for r in records if r.interface == path.near.interface]
    assert [r.frame for r in at_the_start] == segments
    first = at_the_start[0].packet_id
    assert [r.packet_id for r in at_the_start] == list(range(first, first + len(segments)))
    if not vlan:
        at_the_end = [r for r in records if r.interface == path.far.interface]
        assert [r.frame for r in at_the_end] == path.far.take()
        assert [r.packet_id for r in at_the_end] == [r.packet_id for r in at_the_start]


def test_a_super_frame_has_the_same_ids_wherever_it_is_cut(path: Path) -> None:
    """It crosses the first links whole, and is cut where the capture is."""
    for interface in (path.near.interface, path.in1, path.out1, path.in2):
        path.switch.capture(interface, 0)
    stream = Stream(10_000, 1448, destination_mac=path.lab.macs[path.in1], source_mac=path.near.mac)
    header, frame = stream.super_frame()
    path.switch.inject(path.near.node, frame, 2, header)
    path.lab.run(0)
    ids = [r.packet_id for r in take(path.switch) if r.interface == path.out2]
    count = len(stream.segments())
    assert ids == [*range(ids[0], ids[0] + count), *range(ids[count], ids[count] + count)]
    assert len(set(ids)) == 2 * count


def test_a_partial_checksum_is_finished_in_the_copy_alone(path: Path) -> None:
    stream = Stream(100, 1448, destination_mac=path.lab.macs[path.in1], source_mac=path.near.mac)
    header, frame = stream.super_frame()
    path.switch.inject(path.near.node, frame, 1, header)
    path.lab.run(0)
    records = path.records()
    assert records[0].frame == stream.segments()[0]
    assert records[-1].frame == path.far.take()[0]
    assert path.switch.statistics()["copied_bytes"] == 0


def test_fragments_are_packets_of_their_own(lab: Lab) -> None:
    router, (entry,) = lab.router("10.0.0.1/24")
    narrow = lab.interface(router, "10.0.1.1/24", mtu=576)
    wire, far = lab.wire(entry, HERE), lab.wire(narrow, THERE)
    lab.quiet()
    wire.introduce("10.0.0.1")
    far.introduce("10.0.1.1")
    for interface in (entry, narrow):
        lab.switch.capture(interface, SNAP)
    wire.send_ip(ip4(HERE, THERE, bytes(1400)))
    lab.run(0)
    whole, *fragments = take(lab.switch)
    assert whole.interface == entry and [r.frame for r in fragments] == far.take()
    assert len({r.packet_id for r in (whole, *fragments)}) == 4


def test_capturing_changes_no_packet() -> None:
    """The same traffic with and without: every arrival, every counter."""
    outcomes = []
    for captured in (False, True):
        lab = Lab()
        path = Path(lab)
        if not captured:
            for interface in lab.macs:
                lab.switch.capture(interface, 0)
        lab.switch.set_pipe(path.pipe, bandwidth_bps=10**7, delay_ns=3, loss=0.2, queue_limit_packets=5)
        for k in range(200):
            path.send(k * 7)
            path.near.send_ip(ip4(HERE, "10.0.0.1", echo(sequence=k), protocol=PROTOCOL_ICMP))
            lab.run(k * 4999)
        lab.run(SECOND)
        statistics = lab.switch.statistics()
        assert (statistics.pop("captured_bytes") > 0) == captured  # type: ignore[misc]
        outcomes.append(
            (
                path.far.take_timed(),
                path.near.take_timed(),
                statistics,
                [lab.switch.pipe_statistics(pipe) for pipe in (path.pipe, path.back)],
                [lab.drops(node) for node in (path.r1, path.r2)],
            )
        )
        lab.close()
    assert outcomes[0] == outcomes[1]


def test_arp_is_captured_too(path: Path) -> None:
    path.near.introduce("10.0.0.1")
    records = path.records(TYPE_ARP)
    assert [(r.interface, r.direction) for r in records] == [
        (path.near.interface, OUTBOUND),
        (path.in1, INBOUND),
        (path.in1, OUTBOUND),
        (path.near.interface, INBOUND),
    ]
    assert records[0].packet_id != records[2].packet_id


def test_losses_are_counted_at_the_interface() -> None:
    """A ring that must grow and cannot is not to be had here; in real time a full one loses."""
    switch = core.Switch(real_time=True, ring_bytes=4096)
    nodes = [switch.add_node(core.PORT) for _ in range(2)]
    interfaces = [switch.add_interface(node, bytes([2, 0, 0, 0, 0, node])) for node in nodes]
    switch.add_link(*interfaces)
    switch.discard_frames(nodes[1], True)
    for interface in interfaces:
        switch.capture(interface, SNAP)
    switch.start()
    switch.inject(nodes[0], bytes(1000), 10)
    while switch.interface_statistics(interfaces[1])["rx_packets"] < 10:
        pass
    switch.stop()
    lost = [switch.interface_statistics(interface)["capture_lost_packets"] for interface in interfaces]
    kept = take(switch)
    assert len(kept) == 3 and all(len(record.frame) == 1000 for record in kept)
    assert sum(lost) == 20 - len(kept) == switch.lost_records(core.CAPTURE_RING)
    switch.close()
