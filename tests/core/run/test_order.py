"""Order: the same run whether nodes run ahead or not and however a run is cut up; rounds; ties."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from lab import Lab, ether, ip4, read_ip4
from lab import Wire as LabWire
from timeline import MILLISECOND, SECOND, Shape, Wire, is_in_balance, mac, numbered, shape_pipe

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

END_NS = 900 * MILLISECOND
WARMUP = 3
"""Packets, after which routers know their neighbors, and where to go on to."""


@dataclass
class Net:
    """A random network: routers and hosts on shared segments (switches, hubs, single links), and traffic."""

    switch: Switch
    nodes: list[int] = field(default_factory=list)
    interfaces: int = 0
    pipes: list[int] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    flows: list[int] = field(default_factory=list)
    events: list[tuple[int, int, int]] = field(default_factory=list)
    changes: list[tuple[int, int, Shape]] = field(default_factory=list)
    ideal: float = 0.5

    def node(self, kind: int) -> int:
        self.nodes.append(self.switch.add_node(kind))
        return self.nodes[-1]

    def interface(self, node: int) -> int:
        self.interfaces += 1
        return self.switch.add_interface(node, mac(self.interfaces))


SHAPINGS: "list[core.Shaping]" = [
    {"discipline": "codel"},
    {"discipline": "drr", "flows": 4, "quantum_bytes": 300},
    {"discipline": "wfq", "flows": 4},
    {"discipline": "each", "flows": 4, "rate_bps": 8_000_000},
    {"drops_head": True},
    {"jitter": ([0, 1], [-500_000, 500_000]), "jitter_overtakes": True},
    {"jitter": ([0, 1], [0, 300_000])},
    {"reorder": 0.2},
    {"slots": ([0, 1], [1000, 2 * MILLISECOND]), "slots_packets": 2},
    {"duplicate": 0.1, "corrupt": 0.05, "bit_error": 1e-5},
]


def random_shape(rng: random.Random, ideal: float) -> Shape:
    """Some of the pipes are ideal; the others have round numbers, so that ties are frequent."""
    if rng.random() < ideal:
        return Shape()
    return Shape(
        bandwidth_bps=rng.choice([0, 0, 8_000_000, 80_000_000, 976_000_000, 400 * SECOND]),
        overhead_bytes=rng.choice([0, 24]),
        delay_ns=rng.choice([0, 1, 1000, MILLISECOND, MILLISECOND, 20 * MILLISECOND]),
        loss=rng.choice([0, 0, 0.05]),
        queue_limit_packets=rng.choice([None, 3, 50]),
        shaping=rng.choice([None, None, *SHAPINGS]),
    )


def random_net(seed: int, switch: Switch | None = None) -> Net:
    rng = random.Random(seed)
    switch = switch or Switch(proof=True)
    net = Net(switch, ideal=rng.choice([0.0, 0.1, 0.5, 0.9]))
    router_count = rng.randint(1, 5)
    routers = [net.node(core.ROUTER) for _ in range(router_count)]
    hosts: list[tuple[int, int]] = []
    # Segments: pairs of routers (a tree, and some more that close rings), and one or two for hosts of each.
    segments = [[routers[i], routers[rng.randrange(i)]] for i in range(1, router_count)]
    segments += [rng.sample(routers, 2) for _ in range(rng.randint(0, 3)) if router_count > 1]
    segments += [[router] for router in routers for _ in range(rng.randint(1, 2))]
    members: list[list[tuple[int, int]]] = []
    for number, routers_here in enumerate(segments):
        network = (10 << 24) + (number << 8)
        stations = [(router, network + 1 + i) for i, router in enumerate(routers_here)]
        if len(routers_here) == 1:
            for i in range(rng.randint(1, 3)):
                hosts.append((net.node(core.HOST), network + 100 + i))
                stations.append(hosts[-1])
        members.append(stations)
        ends = []
        for node, address in stations:
            ends.append(net.interface(node))
            switch.add_address(ends[-1], address, 24)
        if len(ends) == 2 and rng.random() < 0.5:
            join(net, rng, *ends)
            continue
        middle = net.node(rng.choice([core.SWITCH, core.HUB]))
        net.ports.append(net.node(core.PORT))
        ends.append(net.interface(net.ports[-1]))
        rng.shuffle(ends)
        for end in ends:
            if rng.random() < 0.2:  # one more hub on the way
                hub = net.node(core.HUB)
                join(net, rng, end, net.interface(hub))
                end = net.interface(hub)
            join(net, rng, end, net.interface(middle))
    for node, _ in hosts:
        gateway = next(stations[0][1] for stations in members if any(node == one for one, _ in stations))
        switch.add_route(node, 0, 0, gateway)
    for router in routers:
        add_routes(switch, router, members, routers)
    add_traffic(net, rng, hosts, routers)
    return net


def join(net: Net, rng: random.Random, a: int, b: int) -> None:
    pipes = net.switch.add_link(a, b, rng.getrandbits(64), rng.getrandbits(64))
    for pipe in pipes:
        shape_pipe(net.switch, pipe, random_shape(rng, net.ideal))
    net.pipes += pipes


def add_routes(switch: Switch, router: int, members: list[list[tuple[int, int]]], routers: list[int]) -> None:
    """Shortest paths from one router to all segments, breadth first."""
    reached: dict[int, int | None] = {router: None}
    queue = [router]
    for here in queue:
        for stations in members:
            if here not in [node for node, _ in stations]:
                continue
            for node, address in stations:
                if node in routers and node not in reached:
                    reached[node] = address if reached[here] is None else reached[here]
                    queue.append(node)
    for number, stations in enumerate(members):
        near = [node for node, _ in stations]
        via = next((reached[node] for node in queue if node in near), None)
        if router not in near and via is not None:
            switch.add_route(router, (10 << 24) + (number << 8), 24, via)


def add_traffic(net: Net, rng: random.Random, hosts: list[tuple[int, int]], routers: list[int]) -> None:
    for _ in range(12):
        node, _ = rng.choice([*hosts, (rng.choice(routers), 0)])
        sink, destination = rng.choice(hosts)
        start_ns = rng.choice([0, 0, MILLISECOND, 5 * MILLISECOND, 100 * MILLISECOND])
        if rng.random() < 0.5:
            flow = net.switch.add_ping(
                node,
                rng.choice([destination, destination, (10 << 24) + 77]),
                interval_ns=rng.choice([1000, MILLISECOND, 10 * MILLISECOND]),
                count=rng.choice([1, 3, 20]),
                size_bytes=rng.choice([0, 56, 1400, 3000]),
                start_ns=start_ns,
                timeout_ns=rng.choice([1, 50]) * MILLISECOND,
                keep_replies=True,
            )
        else:
            flow = net.switch.add_udp(
                node,
                destination,
                rate_bps=rng.choice([80_000, 2_000_000, 8_000_000]),
                size_bytes=rng.choice([16, 100, 1000]),
                start_ns=start_ns,
                stop_ns=start_ns + rng.choice([1, 60]) * MILLISECOND,
                sink=sink,
            )
        net.flows.append(flow)


def at_once(net: Net, until_ns: int) -> None:
    net.switch.run(until_ns)


def stopping_at_events(net: Net, until_ns: int) -> None:
    while not net.switch.run(until_ns, stop_on_event=True):
        pass


def in_slices(net: Net, until_ns: int) -> None:
    rng = random.Random(until_ns)
    while net.switch.now_ns < until_ns:
        step_ns = rng.choice([1, 1000, MILLISECOND, 7 * MILLISECOND])
        net.switch.run(min(until_ns, net.switch.now_ns + step_ns), stop_on_event=rng.random() < 0.3)


def in_slices_of_real_time(net: Net, until_ns: int) -> None:
    """As the engine's loop does, with looks at what is going on in between."""
    while not net.switch.run(until_ns, stop_on_event=True, wall_limit_ns=1):
        net.switch.pipe_statistics(net.pipes[0])
        net.switch.statistics()


def from_event_to_event(net: Net, until_ns: int) -> None:
    """Halts at the moments that something happens, as a program does that follows the engine's steps."""
    for _ in range(1000):
        next_ns = net.switch.next_event_ns
        if next_ns is None or next_ns > until_ns:
            break
        net.switch.run(next_ns)
        assert net.switch.now_ns == next_ns
    net.switch.run(until_ns)


def react(net: Net) -> None:
    """What a program may do on an event: change something at once."""
    for event in sorted(net.switch.take_events()):
        net.events.append(event)
        time_ns, kind, _ = event
        if kind != core.LINK_CHANGED:
            assert time_ns == net.switch.now_ns
            rng = random.Random(repr(event))
            shape_pipe(net.switch, rng.choice(net.pipes), random_shape(rng, net.ideal))


def reacting(net: Net, until_ns: int) -> None:
    while not net.switch.run(until_ns, stop_on_event=True, wall_limit_ns=1):
        react(net)
    react(net)


def reacting_step_by_step(net: Net, until_ns: int) -> None:
    while (next_ns := net.switch.next_event_ns) is not None and next_ns <= until_ns:
        net.switch.run(next_ns)
        react(net)
    net.switch.run(until_ns)


def changing_between_slices(net: Net, until_ns: int) -> None:
    rng = random.Random(until_ns)
    while not net.switch.run(until_ns, stop_on_event=True, wall_limit_ns=1):
        pipe, shape = rng.choice(net.pipes), random_shape(rng, net.ideal)
        if len(net.changes) < 200 and rng.random() < 0.5:
            shape_pipe(net.switch, pipe, shape)
            net.changes.append((net.switch.now_ns, pipe, shape))


def story(net: Net, run: Callable[[Net, int], None]) -> dict[str, object]:
    """All that can be seen of a run.

    But for copied_bytes and packets_in_use: of two holders of the same bytes, either may be first to copy.
    """
    switch = net.switch
    rng = random.Random(len(net.pipes))
    for until_ns in (3 * MILLISECOND, 20 * MILLISECOND, 21 * MILLISECOND, END_NS):
        run(net, until_ns)
        for pipe in rng.sample(net.pipes, 2):
            shape_pipe(switch, pipe, random_shape(rng, net.ideal))
        switch.set_link_up(rng.choice(net.pipes), rng.random() < 0.5)
    assert all(is_in_balance(switch, pipe) for pipe in net.pipes)
    result = {
        "frames": [switch.take_frames(port) for port in net.ports],
        "flows": [switch.flow(flow) for flow in net.flows],
        "replies": [switch.take_replies(flow) for flow in net.flows],
        "pipes": [switch.pipe_statistics(pipe) for pipe in net.pipes],
        "drops": [switch.node_drops(node) for node in net.nodes],
        "neighbors": [switch.neighbors(node) for node in net.nodes],
        "macs": [switch.mac_table(node) for node in net.nodes],
        "routes": [switch.routes(node) for node in net.nodes],
        "events": sorted(net.events + switch.take_events()),
        "proofs": [switch.pipe_proof(pipe) for pipe in net.pipes],
        "hop_packets": switch.statistics()["hop_packets"],
    }
    switch.close()
    return result


@pytest.mark.parametrize("seed", range(40))
def test_a_run_is_the_same_however_it_is_cut_up(seed: int) -> None:
    once = story(random_net(seed), at_once)
    assert sum(flow["received_packets"] for flow in once["flows"]) > 0
    for run in (at_once, stopping_at_events, in_slices, in_slices_of_real_time, from_event_to_event):
        must_be_alike(story(random_net(seed), run), once)


@pytest.mark.parametrize("seed", range(100, 120))
def test_events_find_every_node_at_their_instant(seed: int) -> None:
    must_be_alike(story(random_net(seed), reacting), story(random_net(seed), reacting_step_by_step))


@pytest.mark.parametrize("seed", range(200, 220))
def test_a_change_between_slices_finds_every_node_at_one_time(seed: int) -> None:
    net = random_net(seed)
    changed = story(net, changing_between_slices)

    def with_the_same_changes(again: Net, until_ns: int) -> None:
        while again.changes and again.changes[0][0] <= until_ns:
            time_ns, pipe, shape = again.changes.pop(0)
            again.switch.run(time_ns)
            shape_pipe(again.switch, pipe, shape)
        again.switch.run(until_ns)

    again = random_net(seed)
    again.changes = net.changes.copy()
    must_be_alike(story(again, with_the_same_changes), changed)


@pytest.mark.parametrize("seed", range(300, 340))
def test_what_else_happens_at_an_instant_changes_nothing(seed: int) -> None:
    """A lone packet passes routers without a turn for each; beside a twin of its network none is alone."""
    alone = story(random_net(seed), at_once)
    switch = Switch(proof=True)
    accompanied = random_net(seed, switch)
    random_net(seed, switch)
    of_both = ("events", "hop_packets")
    must_be_alike(
        story(accompanied, at_once), {key: value for key, value in alone.items() if key not in of_both}
    )


def must_be_alike(one: dict[str, object], other: dict[str, object]) -> None:
    for key, value in other.items():
        assert one[key] == value, key


def hub_of(switch: Switch, count: int) -> tuple[int, list[int], list[int]]:
    """A hub with PORT nodes at its ports 0, 1, …: the hub, the PORTs, the pipes towards the hub."""
    hub = switch.add_node(core.HUB)
    ports = [switch.add_node(core.PORT) for _ in range(count)]
    pipes = [
        switch.add_link(
            switch.add_interface(port, mac(2 * i + 1)), switch.add_interface(hub, mac(2 * i + 2)), i, i
        )[0]
        for i, port in enumerate(ports)
    ]
    return hub, ports, pipes


@pytest.mark.parametrize("delay_ns", [0, 1, 1000])
@pytest.mark.parametrize("stop_on_event", [False, True])
def test_ties_are_broken_by_ingress_port_then_sequence(delay_ns: int, stop_on_event: bool) -> None:
    switch = Switch()
    _, ports, pipes = hub_of(switch, 6)
    for pipe in pipes:
        switch.set_pipe(pipe, delay_ns=delay_ns)
    for k in (4, 2, 5, 1, 3):
        for sequence in range(3):
            switch.inject(ports[k], numbered(10 * k + sequence, 60))
    switch.run(1000, stop_on_event=stop_on_event)
    expected = [(delay_ns, numbered(10 * k + i, 60)) for k in (1, 2, 3, 4, 5) for i in range(3)]
    assert switch.take_frames(ports[0]) == expected
    switch.close()


def test_time_goes_before_port() -> None:
    switch = Switch()
    _, ports, pipes = hub_of(switch, 4)
    for pipe, delay_ns in zip(pipes[1:], (30, 20, 10), strict=True):
        switch.set_pipe(pipe, delay_ns=delay_ns)
    for step in range(3):
        for k in (1, 2, 3):
            switch.inject(ports[k], numbered(10 * k + step, 60))
        switch.run(switch.now_ns + 5)
    switch.run(100)
    arrivals = sorted(((4 - k) * 10 + 5 * step, k, step) for k in (1, 2, 3) for step in range(3))
    assert switch.take_frames(ports[0]) == [(t, numbered(10 * k + step, 60)) for t, k, step in arrivals]
    switch.close()


def chain(switch: Switch, length: int, ends: tuple[int, int], first_mac: int) -> list[int]:
    """Join two interfaces by `length` hubs and ideal links."""
    pipes = []
    here = ends[0]
    for i in range(length):
        hub = switch.add_node(core.HUB)
        pipes.append(switch.add_link(here, switch.add_interface(hub, mac(first_mac + 2 * i)))[0])
        here = switch.add_interface(hub, mac(first_mac + 2 * i + 1))
    pipes.append(switch.add_link(here, ends[1])[0])
    return pipes


@pytest.mark.parametrize("length", [0, 1, 2, 300, 4000])
def test_a_frame_crosses_ideal_links_in_no_time(length: int) -> None:
    switch = Switch()
    near, far = switch.add_node(core.PORT), switch.add_node(core.PORT)
    chain(switch, length, (switch.add_interface(near, mac(1)), switch.add_interface(far, mac(2))), 10)
    switch.run(12345)
    switch.inject(near, b"frame")
    assert switch.next_event_ns == 12345
    assert switch.run(12345)
    assert switch.take_frames(far) == [(12345, b"frame")]
    assert switch.next_event_ns is None
    switch.close()


@pytest.mark.parametrize("delay_ns", [0, 500])
def test_of_two_ways_the_one_over_fewer_links_comes_first(delay_ns: int) -> None:
    """Diamonds of ideal links: a frame goes ways of many lengths, and all arrive at one instant."""
    switch = Switch()
    source, sink = switch.add_node(core.PORT), switch.add_node(core.PORT)
    split, merge = switch.add_node(core.HUB), switch.add_node(core.HUB)
    pipe = switch.add_link(switch.add_interface(source, mac(1)), switch.add_interface(split, mac(2)))[0]
    out = switch.add_link(switch.add_interface(merge, mac(3)), switch.add_interface(sink, mac(4)))[0]
    switch.set_pipe(pipe, delay_ns=delay_ns)
    lengths = [7, 3, 5, 0, 2]
    last = []
    for i, length in enumerate(lengths):
        ends = (switch.add_interface(split, mac(100 + i)), switch.add_interface(merge, mac(200 + i)))
        last.append(chain(switch, length, ends, 1000 * (i + 1))[-1])
        # What comes back over the other ways must not come again.
        switch.set_pipe(last[-1] + 1, loss=1.0)
    frames = [numbered(number, 60) for number in range(3)]
    for frame in frames:
        switch.inject(source, frame)
    switch.run(1000)
    # Each way's frames come in the round that it is long, three at a time, in their own order.
    assert switch.take_frames(sink) == [(delay_ns, frame) for _ in lengths for frame in frames]
    assert switch.pipe_statistics(out)["sent_packets"] == 15
    assert [switch.pipe_statistics(p)["delivered_packets"] for p in last] == [3] * 5
    switch.close()


def test_the_order_of_rounds() -> None:
    """At one instant, what has crossed fewer ideal links goes before what has crossed more."""
    switch = Switch()
    _, ports, _ = hub_of(switch, 2)
    hub = 0
    sources = []
    for i, length in enumerate([5, 1, 3, 1, 0]):
        source = switch.add_node(core.PORT)
        ends = (switch.add_interface(source, mac(100 + i)), switch.add_interface(hub, mac(200 + i)))
        chain(switch, length, ends, 1000 * (i + 1))
        sources.append((length, i, source))
    for _, i, source in sources:
        switch.inject(source, numbered(i, 60))
    switch.run(0)
    expected = [(0, numbered(i, 60)) for _, i, _ in sorted(sources)]
    assert switch.take_frames(ports[0]) == expected
    switch.close()


class Ways:
    """Ways of routers and ideal links from wires of the test's own to one router, and on to a sink."""

    def __init__(self, lab: Lab, lengths: Sequence[int]) -> None:
        self.lab = lab
        self.merge, (gate,) = lab.router("10.99.0.1/24")
        self.sink = lab.wire(gate, "10.99.0.2")
        self.sources = [self.way(number, length) for number, length in enumerate(lengths)]
        lab.quiet()
        self.sink.introduce("10.99.0.1")
        for _ in range(WARMUP):
            for number in range(len(lengths)):
                self.send(number)
            lab.run(SECOND)
        assert len(self.sink.take()) == WARMUP * len(lengths)

    def way(self, number: int, length: int) -> LabWire:
        ends = []
        for hop in range(length):
            node, (near, far) = self.lab.router(f"10.{number}.{hop}.2/24", f"10.{number}.{hop + 1}.1/24")
            self.lab.route(node, "10.99.0.0/24", f"10.{number}.{hop + 1}.2")
            ends += [near, far]
        ends.append(self.lab.interface(self.merge, f"10.{number}.{length}.2/24"))
        source = self.lab.wire(ends[0], f"10.{number}.0.1")
        for far, near in zip(ends[1::2], ends[2::2], strict=True):
            self.lab.link(far, near)
        return source

    def send(self, number: int) -> None:
        source = self.sources[number]
        source.send_ip(ip4(source.address, self.sink.address, identification=number))

    def arrivals(self, nanoseconds: int) -> list[tuple[int, int]]:
        """Of what reaches the sink within so long: when, and who sent it."""
        start_ns = self.lab.switch.now_ns
        self.lab.run(nanoseconds)
        return [
            (time_ns - start_ns, read_ip4(frame).identification) for time_ns, frame in self.sink.take_timed()
        ]


@pytest.mark.parametrize("delay_ns", [0, 500])
def test_of_packets_over_routers_at_one_instant_the_shorter_way_comes_first(delay_ns: int) -> None:
    lab = Lab()
    lengths = [5, 1, 3, 1, 0, 9]
    ways = Ways(lab, lengths)
    for source in ways.sources:
        lab.switch.set_pipe(source.pipe_in, delay_ns=delay_ns)
    for number in reversed(range(len(lengths))):
        ways.send(number)
    expected = sorted(range(len(lengths)), key=lambda number: (lengths[number], number))
    assert ways.arrivals(1000) == [(delay_ns, number) for number in expected]
    lab.close()


@pytest.mark.parametrize("detour", [0, 1])
def test_a_router_handles_all_that_comes_in_one_round_before_any_of_it_goes_further(detour: int) -> None:
    """Two packets come to it at once by two links. The one that has further to go is overtaken."""
    lab = Lab()
    _, (gate, short, long) = lab.router("10.99.0.1/24", "10.1.0.2/24", "10.2.1.2/24")
    first, (near, far, *doors) = lab.router("10.1.0.1/24", "10.2.0.1/24", "10.3.0.1/24", "10.4.0.1/24")
    middle, (here, there) = lab.router("10.2.0.2/24", "10.2.1.1/24")
    for a, b in ((near, short), (far, here), (there, long)):
        lab.link(a, b)
    lab.route(middle, "10.99.0.0/24", "10.2.1.2")
    for number in range(2):
        lab.route(first, f"10.99.0.{10 + number}/32", "10.2.0.2" if number == detour else "10.1.0.2")
    sink = lab.wire(gate)
    sources = [lab.wire(door, f"10.{3 + number}.0.2") for number, door in enumerate(doors)]
    lab.quiet()

    def send_both() -> None:
        for number, source in enumerate(sources):
            source.send_ip(ip4(source.address, f"10.99.0.{10 + number}"))

    for number in range(2):
        sink.introduce("10.99.0.1", f"10.99.0.{10 + number}")
    for _ in range(WARMUP):
        send_both()
        lab.run(SECOND)
    sink.take()
    for source in sources:
        lab.switch.set_pipe(source.pipe_in, delay_ns=500)
    send_both()
    lab.run(1000)
    assert [packet.destination for packet in sink.take_ip()] == [
        f"10.99.0.{10 + (1 - detour)}",
        f"10.99.0.{10 + detour}",
    ]
    lab.close()


def test_a_router_that_runs_ahead_takes_nobody_with_it() -> None:
    """It may, since all that leads to it takes time; what it sends then meets what is earlier."""
    lab = Lab()
    _, (gate, side, back) = lab.router("10.99.0.1/24", "10.5.0.1/24", "10.1.0.2/24")
    ahead, (forth, *doors) = lab.router("10.1.0.1/24", "10.3.0.1/24", "10.4.0.1/24")
    _, backward = lab.link(forth, back)
    lab.route(ahead, "10.99.0.0/24", "10.1.0.2")
    sink = lab.wire(gate, "10.99.0.2")
    first, second, other = (
        lab.wire(door, f"10.{3 + number}.0.2") for number, door in enumerate((*doors, side))
    )
    lab.quiet()
    sink.introduce("10.99.0.1")

    def send(*sources: LabWire) -> None:
        for source in sources:
            source.send_ip(ip4(source.address, sink.address))

    for _ in range(WARMUP):
        send(second, other)
        lab.run(SECOND)
    sink.take()
    lab.switch.set_pipe(backward, delay_ns=5000)
    for source, delay_ns in zip((first, second, other), (500, 520, 510), strict=True):
        lab.switch.set_pipe(source.pipe_in, delay_ns=delay_ns)
    start_ns = lab.switch.now_ns
    first.send(ether(lab.macs[first.peer], first.mac, 0x88B5, bytes(46)))  # of no use but to wake it up
    send(second, other)
    lab.run(1000)
    arrivals = [(time_ns - start_ns, read_ip4(frame).source) for time_ns, frame in sink.take_timed()]
    assert arrivals == [(510, other.address), (520, second.address)]
    lab.close()


def test_a_loop_of_ideal_links_ends_and_is_counted() -> None:
    switch = Switch()
    hubs = [switch.add_node(core.HUB) for _ in range(3)]
    port = switch.add_node(core.PORT)
    pipes = list(switch.add_link(switch.add_interface(port, mac(1)), switch.add_interface(hubs[0], mac(2))))
    for i in range(3):
        ends = (
            switch.add_interface(hubs[i], mac(10 + i)),
            switch.add_interface(hubs[(i + 1) % 3], mac(20 + i)),
        )
        pipes += switch.add_link(*ends)
    switch.discard_frames(port, True)
    switch.inject(port, b"round and round")
    assert switch.run(5)
    assert sum(switch.pipe_statistics(pipe)["loop_drop_packets"] for pipe in pipes) >= 2
    assert all(is_in_balance(switch, pipe) for pipe in pipes)
    assert switch.statistics()["packets_in_use"] == 0
    switch.inject(port, b"again")
    assert switch.run(6)
    assert switch.statistics()["packets_in_use"] == 0
    switch.close()


def test_what_is_sent_to_oneself_over_a_link_comes_back() -> None:
    """Both ends of a link at one node: the frame is its own next event."""
    for delay_ns in (0, 3):
        switch = Switch()
        _, ports, _ = hub_of(switch, 2)
        there, back = switch.add_link(switch.add_interface(0, mac(50)), switch.add_interface(0, mac(51)))
        switch.set_pipe(there, delay_ns=delay_ns)
        switch.set_pipe(back, loss=1.0)
        switch.inject(ports[1], b"frame")
        switch.run(1, stop_on_event=True)
        switch.run(2)
        switch.run(1000)
        # By the hub at once; by the loop a second time, which is the last, as the loop's way back loses all.
        assert switch.take_frames(ports[0])[:2] == [(0, b"frame"), (delay_ns, b"frame")]
        switch.close()


@pytest.mark.parametrize("delay_ns", [0, 3])
def test_thousands_of_tiny_steps_lose_and_reorder_nothing(delay_ns: int) -> None:
    wire = Wire()
    wire.shape(Shape(delay_ns=delay_ns, bandwidth_bps=800 * SECOND))
    frames = []
    for now_ns in range(20_000):
        wire.switch.inject(wire.near, now_ns.to_bytes(4, "big").ljust(100))
        wire.switch.run(now_ns)
        if now_ns % 1000 == 0:
            frames += wire.switch.take_frames(wire.far)
    frames += wire.arrivals(30_000)
    assert [int.from_bytes(frame[:4], "big") for _, frame in frames] == list(range(20_000))
    assert [time_ns for time_ns, _ in frames] == [now_ns + 1 + delay_ns for now_ns in range(20_000)]
    wire.switch.close()


def test_a_run_that_stops_at_an_event_finishes_the_instant() -> None:
    switch = Switch()
    a, b = switch.add_node(core.HOST), switch.add_node(core.HOST)
    ends = switch.add_interface(a, mac(1)), switch.add_interface(b, mac(2))
    for end, address in zip(ends, (0x0A000001, 0x0A000002), strict=True):
        switch.add_address(end, address, 24)
    pipes = switch.add_link(*ends)
    for pipe in pipes:
        switch.set_pipe(pipe, delay_ns=MILLISECOND)
    switch.take_events()
    flows = [
        switch.add_ping(a, 0x0A000002, interval_ns=SECOND, count=1, start_ns=SECOND),
        switch.add_ping(b, 0x0A000001, interval_ns=SECOND, count=1, start_ns=SECOND),
    ]
    # The first exchange resolves addresses: its round trip is two.
    assert not switch.run(5 * SECOND, stop_on_event=True)
    done_ns = switch.now_ns
    assert sorted(switch.take_events()) == [(done_ns, core.FLOW_DONE, flow) for flow in flows]
    assert switch.next_event_ns is None or switch.next_event_ns > done_ns
    assert switch.run(5 * SECOND, stop_on_event=True)
    assert switch.now_ns == 5 * SECOND
    switch.close()


def arp_requests(cuts: list[int]) -> list[tuple[int, bytes]]:
    """What a router behind 5 s of delay asks for: frames for two absent stations come 1.2 s apart."""
    lab = Lab()
    _, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/24")
    near, far = lab.wire(left), lab.wire(right)
    lab.quiet()
    lab.switch.set_pipe(near.pipe_in, delay_ns=5 * SECOND)
    for last_byte in (8, 9):
        near.send_ip(ip4("10.0.0.2", f"10.0.1.{last_byte}"))
        lab.run(1200 * MILLISECOND)
    for until_ns in [*cuts, 20 * SECOND]:
        lab.switch.run(until_ns)
    requests = [(time_ns, frame[38:42]) for time_ns, frame in far.take_timed()]
    lab.close()
    return requests


def test_a_node_far_ahead_asks_again_in_time() -> None:
    """A timer that one packet of a vector begins fires before later packets of the same vector."""
    expected = sorted(
        (start_ns + second * SECOND, bytes((10, 0, 1, last_byte)))
        for start_ns, last_byte in ((5 * SECOND, 8), (6200 * MILLISECOND, 9))
        for second in range(3)
    )
    assert arp_requests([]) == expected
    assert arp_requests([5500 * MILLISECOND, 6100 * MILLISECOND, 7 * SECOND]) == expected
