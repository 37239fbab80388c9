"""Drops are counted by the reasons that a node has met, and a reason keeps its number."""

import pytest
from lab import TYPE_IP4, TYPE_IP6, Lab, ether, ip4

from manystack.core import _switch as core


def test_reasons_keep_their_numbers() -> None:
    numbers = {"no_link": 0, "ether_truncated": 2, "arp_truncated": 9, "neighbor_queue_full": 12}
    numbers |= {
        "ip4_truncated": 15,
        "ip4_ttl": 23,
        "icmp_truncated": 32,
        "udp_truncated": 37,
        "vnet_header": 42,
    }
    assert {name: core.DROP_REASONS.index(name) for name in numbers} == numbers
    assert core.CAPTURE_REASONS[: len(core.DROP_REASONS)] == core.DROP_REASONS
    of_links = ("queue_full", "early_drop", "loss", "link_down", "link_loop")
    assert core.CAPTURE_REASONS[250:] == of_links
    assert set(core.CAPTURE_REASONS[len(core.DROP_REASONS) : 250]) == {"unknown"}


@pytest.mark.engine
def test_a_node_has_room_for_the_reasons_that_it_met(lab: Lab) -> None:
    host, interface = lab.host("10.0.0.1/24")
    wire = lab.wire(interface, "10.0.0.2")
    lab.quiet()
    mac = lab.macs[interface]
    plain = lab.switch.memory_bytes(host)

    def sent(destination: bytes, ether_type: int, payload: bytes) -> int:
        wire.send(ether(destination, wire.mac, ether_type, payload))
        lab.run(0)
        return lab.switch.memory_bytes(host) - plain

    assert sent(mac, TYPE_IP6, bytes(46)) == 40
    assert sent(mac, TYPE_IP6, bytes(46)) == 40
    assert sent(bytes.fromhex("020000000077"), TYPE_IP4, bytes(46)) == 40
    assert sent(mac, TYPE_IP4, bytes(46)) == 72
    assert sent(mac, TYPE_IP4, ip4("127.0.0.1", "10.0.0.1", bytes(8))) == 72
    assert sent(mac, TYPE_IP4, ip4("10.0.0.2", "10.0.0.1", bytes(8), ttl=0, header_checksum=1)) == 136
    assert lab.drops(host) == {
        "ether_type_unknown": 2,
        "ether_other_host": 1,
        "ip4_version": 1,
        "ip4_source_martian": 1,
        "ip4_checksum": 1,
    }
