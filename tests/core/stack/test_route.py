"""Routes: longest prefix match against a model in plain Python, in the array and in the trie."""

import random
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import (
    Lab,
    echo,
    ip,
    ip4,
)

from manystack.core import Switch
from manystack.core import _switch as core

pytestmark = pytest.mark.engine

A, B = "10.0.0.2", "10.0.1.2"


class Model:
    """Longest prefix match as one would explain it."""

    def __init__(self) -> None:
        self.routes: dict[IPv4Network, tuple[str, int | None]] = {
            IPv4Network("10.0.0.0/8"): ("connected", None),
            IPv4Network("10.0.0.1/32"): ("local", None),
        }

    def lookup(self, address: int) -> tuple[str, int | None]:
        best = None
        for network in self.routes:
            if int(network.network_address) == address & int(network.netmask) and (
                best is None or network.prefixlen > best.prefixlen
            ):
                best = network
        return ("none", None) if best is None else self.routes[best]


def networks(draw_bits: st.DrawFn) -> IPv4Network:
    """Networks that overlap often: few different bytes, any length."""
    octets = [draw_bits(st.sampled_from([0, 1, 127, 128, 255])) for _ in range(4)]
    return IPv4Network((bytes(octets), draw_bits(st.integers(0, 32))), strict=False)


Change = tuple[str, IPv4Network, int | None]


@st.composite
def changes(draw: st.DrawFn, size: int) -> list[Change]:
    steps: list[Change] = []
    for _ in range(draw(st.integers(1, size))):
        network = (
            draw(st.sampled_from([step[1] for step in steps]))
            if steps and draw(st.booleans())
            else networks(draw)
        )
        what = draw(st.sampled_from(["add", "add", "add", "delete"]))
        gateway = draw(st.sampled_from([None, ip("10.0.0.9"), ip("10.9.9.9")]))
        steps.append((what, network, gateway))
    return steps


def check_routes(steps: list[Change], probe_seed: int) -> None:
    switch = Switch()
    model = Model()
    node = switch.add_node(core.ROUTER)
    interface = switch.add_interface(node, b"\2\0\0\0\0\1")
    switch.add_address(interface, ip("10.0.0.1"), 8)
    random_bits = random.Random(probe_seed)
    for what, network, gateway in steps:
        prefix, length = int(network.network_address), network.prefixlen
        own = model.routes.get(network, ("", None))[0] in {"local", "connected"}
        if what == "delete":
            assert switch.delete_route(node, prefix, length) == (network in model.routes and not own)
            if not own:
                model.routes.pop(network, None)
        elif own:
            with pytest.raises(ValueError, match="own"):
                switch.add_route(node, prefix, length, gateway)
        else:
            switch.add_route(node, prefix, length, gateway)
            model.routes[network] = ("unreachable", None) if gateway is None else ("gateway", gateway)
        last = int(network.broadcast_address)
        probes = [prefix, last, max(prefix - 1, 0), min(last + 1, 0xFFFFFFFF), random_bits.getrandbits(32)]
        probes += [prefix + random_bits.randrange(last - prefix + 1) for _ in range(3)]
        for address in probes:
            kind, found_gateway, found_interface = switch.lookup(node, address)
            assert (kind, found_gateway) == model.lookup(address), IPv4Address(address)
            assert found_interface == (None if kind in {"none", "unreachable"} else interface)
        assert {(row[0], row[1]): (row[2], row[3]) for row in switch.routes(node)} == {
            (int(known.network_address), known.prefixlen): value for known, value in model.routes.items()
        }
    switch.close()


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(changes(6), st.integers(0, 1 << 30))
def test_longest_prefix_with_a_handful_of_routes(steps: list[Change], probe_seed: int) -> None:
    check_routes(steps, probe_seed)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(changes(60), st.integers(0, 1 << 30))
def test_longest_prefix_with_more_routes_and_across_the_limit(steps: list[Change], probe_seed: int) -> None:
    check_routes(steps, probe_seed)


def test_longest_prefix_with_thousands_of_routes() -> None:
    switch, model, chance = Switch(), Model(), random.Random(20)
    node = switch.add_node(core.ROUTER)
    interface = switch.add_interface(node, b"\2\0\0\0\0\1")
    switch.add_address(interface, ip("10.0.0.1"), 8)
    for k in range(3000):
        network = IPv4Network(
            (chance.getrandbits(32), chance.choice([0, 7, 8, 9, 15, 16, 17, 20, 24, 25, 31, 32])), False
        )
        if network not in model.routes:
            gateway = ip("10.1.0.0") + k
            switch.add_route(node, int(network.network_address), network.prefixlen, gateway)
            model.routes[network] = ("gateway", gateway)
    ordered = sorted(model.routes.items(), key=lambda item: -item[0].prefixlen)
    tables: list[tuple[int, dict[int, tuple[str, int | None]]]] = []
    for network, value in ordered:
        if not tables or tables[-1][0] != int(network.netmask):
            tables.append((int(network.netmask), {}))
        tables[-1][1][int(network.network_address)] = value
    starts = [int(network.network_address) for network in model.routes]
    for address in (
        starts
        + [(start - 1) & 0xFFFFFFFF for start in starts]
        + [chance.getrandbits(32) for _ in range(5000)]
    ):
        expected = next(
            (table[address & mask] for mask, table in tables if address & mask in table), ("none", None)
        )
        assert switch.lookup(node, address)[:2] == expected
    switch.close()


def test_a_router_without_any_route_knows_no_way(lab: Lab) -> None:
    router = lab.switch.add_node(core.ROUTER)
    wire = lab.wire(lab.interface(router))
    lab.quiet()
    for _ in range(3):
        wire.send_ip(ip4(A, B))
    lab.run(0)
    assert lab.drops(router) == {"ip4_no_route": 3}
    assert lab.switch.lookup(router, ip(B)) == ("none", None, None)


def test_the_prefix_lengths_at_the_face_are_checked(lab: Lab) -> None:
    router, (left,) = lab.router("10.0.0.1/24")
    for length in (33, 64, 255, 1 << 31):
        with pytest.raises(ValueError, match="0 to 32"):
            lab.switch.add_address(left, ip("10.1.0.1"), length)
        with pytest.raises(ValueError, match="0 to 32"):
            lab.switch.add_route(router, 0, length, None)
        with pytest.raises(ValueError, match="0 to 32"):
            lab.switch.delete_route(router, 0, length)
    with pytest.raises(ValueError, match="bits"):
        lab.switch.add_route(router, ip("10.0.0.1"), 24, None)
    with pytest.raises(ValueError, match="subnets"):
        lab.switch.add_route(router, ip("11.0.0.0"), 24, ip("12.0.0.1"))


def test_point_to_point_subnets_have_no_broadcast_address(lab: Lab) -> None:
    """RFC 3021: both addresses of a /31 are hosts."""
    router, (left, right) = lab.router("10.0.0.1/24", "10.0.1.1/31")
    a, b = lab.wire(left, A), lab.wire(right, "10.0.1.0")
    lab.quiet()
    a.introduce("10.0.0.1")
    b.introduce("10.0.1.1")
    a.send_ip(ip4(A, "10.0.1.0"))
    lab.run(0)
    assert [packet.destination for packet in b.take_ip()] == ["10.0.1.0"]
    assert lab.drops(router) == {}


def test_a_second_address_serves_its_own_subnet(lab: Lab) -> None:
    router = lab.switch.add_node(core.ROUTER)
    a = lab.wire(lab.interface(router, "10.0.0.1/24", "10.5.0.1/24"), A)
    b = lab.wire(lab.interface(router, "10.0.1.1/24", "10.6.0.1/24"), "10.6.0.2")
    lab.quiet()
    a.introduce("10.0.0.1")
    b.introduce("10.6.0.1")
    a.send_ip(ip4(A, "10.6.0.2"))
    a.send_ip(ip4(A, "10.6.0.1", echo(), protocol=1))
    a.send_ip(ip4(A, "10.5.0.1", echo(), protocol=1))
    lab.run(0)
    assert len(b.take_ip()) == 1
    assert [reply.packet.source for reply in a.take_icmp()] == ["10.6.0.1", "10.5.0.1"]
