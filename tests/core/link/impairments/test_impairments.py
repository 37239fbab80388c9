"""What a wire does to the bytes of a packet: marks, bits turned over, copies; and what is left in memory."""

from collections.abc import Iterator
from typing import Any

import pytest
from lab import TYPE_IP4, TYPE_IP6, Lab, checksum, ether, ip4, mac, udp
from segments import FIN, PSH, TCP, UDP, Stream
from shaped import Shaped
from timeline import MILLISECOND, SECOND, Shape, Wire, numbered

from manystack.core import Switch

pytestmark = pytest.mark.engine

NOT_ECT, ECT_1, ECT_0, CE = range(4)
ALL_MARKED = Shaped(Shape(loss=1.0), {"loss_marks": True})


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire that must have given back every packet when the test is over."""
    wire = Wire(3)
    yield wire
    wire.switch.run(wire.switch.now_ns + 100 * SECOND)
    wire.switch.take_frames(wire.far)
    statistics = wire.switch.statistics()
    balanced = wire.in_balance()
    wire.switch.close()
    assert statistics["packets_in_use"] == 0
    assert balanced


def through(wire: Wire, frame: bytes, header: bytes | None = None) -> list[bytes]:
    wire.switch.inject(wire.near, frame, 1, header)
    return [frame for _, frame in wire.arrivals(wire.switch.now_ns + MILLISECOND)]


def frames_with(ecn: int, dscp: int = 0x2E) -> list[bytes]:
    """IPv4 and IPv6, under no, one and two VLAN tags, with options and without."""
    streams: list[dict[str, Any]] = [
        {"vlan": (0x8100, 5)},
        {"vlan": (0x88A8, 7, 0x8100, 5)},
        {"options": b"\x94\x04\0\0"},
        {"protocol": UDP},
        {},
    ]
    version6 = {"source": "fd00::1", "destination": "fd00::2"}
    streams += [stream | version6 for stream in streams if "options" not in stream]
    return [Stream(size=100, segment_size=1000, tos=dscp << 2 | ecn, **stream).frame() for stream in streams]


@pytest.mark.parametrize("ecn", [ECT_1, ECT_0, CE])
def test_what_can_be_marked_is_marked_in_place_of_being_lost(wire: Wire, ecn: int) -> None:
    """The mark changes two bits and the header's checksum, in every header that can be found."""
    ALL_MARKED.apply(wire.switch, wire.pipe)
    before, after = frames_with(ecn), frames_with(CE)
    assert [through(wire, frame) for frame in before] == [[frame] for frame in after]
    statistics = wire.switch.pipe_statistics(wire.pipe)
    assert statistics["marked_packets"] == len(before)
    assert statistics["loss_packets"] == 0


def test_every_checksum_is_right_after_a_mark(wire: Wire) -> None:
    """The incremental sum meets its corners: sums of 0 and 65535 among all identifications."""
    ALL_MARKED.apply(wire.switch, wire.pipe)
    packets = [
        ip4("10.0.0.1", "10.0.0.2", identification=number, tos=ECT_1) for number in range(0, 65536, 13)
    ]
    for packet in packets:
        wire.switch.inject(wire.near, ether(mac(2), mac(1), TYPE_IP4, packet))
    arrived = [frame[14:] for _, frame in wire.arrivals(MILLISECOND)]
    assert len(arrived) == len(packets)
    for before, after in zip(packets, arrived, strict=True):
        assert checksum(after) == 0
        assert after[1] == CE and after[2:10] + after[12:] == before[2:10] + before[12:]


def test_what_cannot_be_marked_is_lost(wire: Wire) -> None:
    ALL_MARKED.apply(wire.switch, wire.pipe)
    ect = frames_with(ECT_0)[4]
    others = [
        *frames_with(NOT_ECT),
        numbered(0, 60),
        ether(mac(2), mac(1), 0x0806, bytes([0x45, ECT_0]) + bytes(40)),
        ether(mac(2), mac(1), TYPE_IP4, bytes([0x65, ECT_0]) + bytes(40)),
        ether(mac(2), mac(1), TYPE_IP6, ect[14:]),
        mac(2) + mac(1) + bytes.fromhex("8100000588a800058100000508004502") + bytes(40),
        *[ect[:length] for length in range(1, 34)],
        *[frames_with(ECT_0)[1][:length] for length in range(1, 42)],
    ]
    assert [through(wire, frame) for frame in others] == [[]] * len(others)
    assert wire.switch.pipe_statistics(wire.pipe)["loss_packets"] == len(others)
    assert wire.switch.pipe_statistics(wire.pipe)["marked_packets"] == 0


def test_only_what_would_be_lost_is_marked() -> None:
    marked = []
    for marks in (False, True):
        wire = Wire(11)
        Shaped(Shape(loss=0.3), {"loss_marks": marks}).apply(wire.switch, wire.pipe)
        for number in range(1000):
            packet = ip4("10.0.0.1", "10.0.0.2", identification=number, tos=ECT_0)
            wire.switch.inject(wire.near, ether(mac(2), mac(1), TYPE_IP4, packet))
        frames = [frame for _, frame in wire.arrivals(0)]
        marked.append({int.from_bytes(frame[18:20], "big") for frame in frames if frame[15] & 3 == CE})
        if not marks:
            kept = {int.from_bytes(frame[18:20], "big") for frame in frames}
        wire.switch.close()
    assert marked[0] == set()
    assert marked[1] == set(range(1000)) - kept


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("version6", [False, True])
def test_segments_of_a_super_frame_are_marked_one_by_one(wire: Wire, protocol: int, version6: bool) -> None:
    addresses = {"source": "fd00::1", "destination": "fd00::2"} if version6 else {}
    stream = Stream(10_000, 1000, protocol=protocol, tos=ECT_0, tcp_flags=FIN | PSH | 16, **addresses)
    marked = Stream(10_000, 1000, protocol=protocol, tos=CE, tcp_flags=FIN | PSH | 16, **addresses)
    ALL_MARKED.apply(wire.switch, wire.pipe)
    header, frame = stream.super_frame()
    assert through(wire, frame, header) == marked.segments()


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("source", ["10.0.0.2", "fd00::2"])
def test_checksums_are_finished_before_a_bit_is_turned_over(wire: Wire, protocol: int, source: str) -> None:
    """A bit of the frame as the wire carries it; so its checksums tell, or the bit lies where none looks."""
    destination = "10.0.1.2" if source == "10.0.0.2" else "fd00::1"
    stream = Stream(30_000, 700, protocol=protocol, source=source, destination=destination)
    Shaped(Shape(), {"corrupt": 1.0}).apply(wire.switch, wire.pipe)
    header, frame = stream.super_frame()
    arrived = through(wire, frame, header)
    expected = stream.segments()
    assert len(arrived) == len(expected)
    bits = set()
    for found, sent in zip(arrived, expected, strict=True):
        difference = int.from_bytes(found, "big") ^ int.from_bytes(sent, "big")
        assert len(found) == len(sent) and difference.bit_count() == 1
        bits.add(difference.bit_length())
    assert len(bits) > 20
    assert wire.switch.pipe_statistics(wire.pipe)["corrupted_packets"] == len(expected)


@pytest.mark.parametrize("routers_before", [0, 1])
def test_a_router_drops_a_corrupted_header_and_passes_on_a_corrupted_payload(routers_before: int) -> None:
    """That the header was valid once, or found so by a router, is not believed after a corruption."""
    lab = Lab()
    _, (inside, outside) = lab.router("10.0.1.1/24", "10.0.2.1/24")
    second = lab.wire(outside, "10.0.2.9")
    if routers_before:
        before, (near, far) = lab.router("10.0.0.1/24", "10.0.1.9/24")
        lab.route(before, "10.0.2.0/24", "10.0.1.1")
        corrupted = lab.link(far, inside)[0]
        first = lab.wire(near, "10.0.0.9")
    else:
        first = lab.wire(inside, "10.0.1.9")
        corrupted = first.pipe_in
    lab.quiet()
    second.introduce("10.0.2.1")
    if routers_before:  # the two find each other
        first.send_ip(ip4("10.0.1.9", "10.0.2.9"))
        lab.run(0)
        assert len(second.take(TYPE_IP4)) == 1
    lab.switch.set_pipe(corrupted, shaping={"corrupt": 1.0})
    payload = udp("10.0.1.9", "10.0.2.9", bytes(60))
    for number in range(300):
        first.send_ip(ip4("10.0.1.9", "10.0.2.9", payload, identification=number))
    lab.run(MILLISECOND)
    arrived = [frame[34:] for frame in second.take(TYPE_IP4)]
    assert 150 < len(arrived) < 299
    # Of 102 bytes, six hold a source address, which nobody minds.
    assert sum(part == payload for part in arrived) < 60
    drops = lab.drops(0)
    assert drops["ip4_checksum"] > 20
    assert sum(drops.values()) + len(arrived) == 300
    lab.close()


def test_what_others_hold_stays_as_it_was() -> None:
    """A hub's three ports share a frame: one link corrupts it, one marks it, one delivers it twice."""
    lab = Lab()
    _, ports = lab.bridge(3, 4)
    wires = [lab.wire(port) for port in ports]
    lab.quiet()
    lab.switch.set_pipe(wires[1].pipe_out, shaping={"corrupt": 1.0})
    lab.switch.set_pipe(wires[2].pipe_out, loss=1.0, shaping={"loss_marks": True})
    lab.switch.set_pipe(wires[3].pipe_out, shaping={"duplicate": 1.0})
    stream = Stream(1000, 2000, tos=ECT_0)
    for _ in range(50):
        wires[0].send(stream.frame())
        lab.run(1)
        corrupted, marked, doubled = (wire.take() for wire in wires[1:])
        assert len(corrupted) == 1 and corrupted[0] != stream.frame()
        assert marked == [Stream(1000, 2000, tos=CE).frame()]
        assert doubled == [stream.frame()] * 2
    lab.close()


def test_copies_share_bytes_and_what_is_copied_is_counted(wire: Wire) -> None:
    Shaped(Shape(delay_ns=SECOND), {"duplicate": 1.0}).apply(wire.switch, wire.pipe)
    wire.switch.inject(wire.near, bytes(1500), 1000)
    statistics = wire.switch.statistics()
    assert statistics["copied_bytes"] == 0
    assert statistics["packets_in_use"] == 2000
    one = wire.switch.pipe_statistics(wire.pipe)
    assert (one["duplicate_packets"], one["in_flight_packets"]) == (1000, 2000)
    frames = wire.arrivals(SECOND)
    assert frames == [(SECOND, bytes(1500))] * 2000


def test_a_mark_copies_no_more_than_the_headers(wire: Wire) -> None:
    """What nobody else holds is changed in place; of what is shared, the headers are copied."""
    ALL_MARKED.apply(wire.switch, wire.pipe)
    frame = Stream(1000, 2000, tos=ECT_0).frame()
    through(wire, frame)
    assert wire.switch.statistics()["copied_bytes"] == 0
    lab = Lab()
    _, ports = lab.bridge(3, 3)
    wires = [lab.wire(port) for port in ports]
    for one in wires[1:]:
        lab.switch.set_pipe(one.pipe_out, delay_ns=1, loss=1.0, shaping={"loss_marks": True})
    lab.quiet()
    wires[0].send(frame)
    lab.run(1)
    assert wires[1].take() == wires[2].take() == [Stream(1000, 2000, tos=CE).frame()]
    assert lab.switch.statistics()["copied_bytes"] <= 2 * 34
    lab.close()


@pytest.mark.parametrize("limit", [0, 1 << 10, 1 << 20])
def test_a_pool_without_memory_drops_and_counts(limit: int) -> None:
    """Whatever a wire needs memory for, its absence costs packets and never more."""
    switch = Switch(pool_limit_bytes=limit)
    wire = Wire(5, switch=switch)
    shaping = {"duplicate": 0.5, "corrupt": 0.5, "loss_marks": True, "jitter": ([0.0, 1.0], [0, 1000])}
    Shaped(Shape(delay_ns=100, loss=0.5), shaping).apply(switch, wire.pipe)
    header, frame = Stream(20_000, 1000, tos=ECT_0).super_frame()
    sent = 0
    for step in range(50):
        sent += switch.inject(wire.near, frame, 3, header)
        sent += switch.inject(wire.near, bytes(100), 30)
        switch.run(50 * (step + 1))
    frames = wire.arrivals(SECOND)
    assert sent or not frames
    assert switch.statistics()["packets_in_use"] == 0
    switch.close()


@pytest.mark.parametrize("how", ["close", "down"])
def test_nothing_leaks_however_it_ends(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    wire = Wire(9)
    shaping = {
        "airtime": ([0.0], [1]),
        "jitter": ([0.0, 1.0], [0, MILLISECOND]),
        "jitter_overtakes": True,
        "duplicate": 0.5,
        "corrupt": 0.5,
        "slots": ([0.0], [1000]),
        "slots_packets": 1,
        "loss_model": "recorded",
        "loss_fates": bytes(7) + b"\1",
        "rates": ([0], [SECOND], 0),
    }
    Shaped(Shape(queue_limit_packets=300), shaping).apply(wire.switch, wire.pipe)
    wire.switch.inject(wire.near, bytes(200), 500)
    wire.switch.run(100_000)
    one = wire.switch.pipe_statistics(wire.pipe)
    assert one["waiting_packets"] > 100 and one["in_flight_packets"] > one["waiting_packets"]
    if how == "down":
        wire.switch.set_link_up(wire.pipe, False)
        assert wire.switch.statistics()["packets_in_use"] == len(wire.switch.take_frames(wire.far))
        assert wire.in_balance()
    wire.switch.close()
    assert "lost track of" not in capfd.readouterr().out


@pytest.mark.parametrize("least_ns", [-3_000_000, -1])
def test_slots_at_no_distance_are_a_nanosecond_apart(wire: Wire, least_ns: int) -> None:
    """A normal distribution that is wide beside its mean has distances of less than none."""
    wire.switch.set_pipe(wire.pipe, shaping={"slots": ([0.0, 1.0], [least_ns, 0]), "slots_packets": 1})
    wire.switch.inject(wire.near, bytes(60), 100)
    assert [time_ns for time_ns, _ in wire.arrivals(SECOND)] == list(range(100))


def test_slots_that_lost_packets_would_have_used_are_free(wire: Wire) -> None:
    """When the link is cut, nine slots a second apart are still to come."""
    wire.switch.set_pipe(wire.pipe, shaping={"slots": ([0.0], [SECOND]), "slots_packets": 1})
    wire.switch.inject(wire.near, bytes(60), 10)
    assert len(wire.arrivals(0)) == 1
    wire.switch.run(SECOND // 2)
    wire.switch.set_link_up(wire.pipe, False)
    wire.switch.set_link_up(wire.pipe, True)
    wire.switch.inject(wire.near, bytes(60), 2)
    assert [time_ns for time_ns, _ in wire.arrivals(10 * SECOND)] == [SECOND // 2, SECOND // 2 + SECOND]
