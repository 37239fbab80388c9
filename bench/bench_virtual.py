"""Packet-hops per second of wall time in virtual time, run hash on, as a user runs a topology; beside ns-3.

A packet-hop is one packet that has crossed one link with a rate and a delay. Hosts send small UDP packets
over chains of 10 such links. ns-3 carries the same packets at the same rate over a chain of its own, on the
same CPU in turn.
"""

from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest

from bench.figures import Figure, Figures
from bench.peers.ns3 import Load, compile_chain, packet_hops_per_second
from manystack import Engine, Topology

ROUNDS = 3
LINKS = 10
PAYLOAD_BYTES = 18
"""Of a frame of 60 bytes, the smallest that Ethernet has without its checksum."""

NS3_PACKETS = 50_000
"""Some two seconds of work for it."""

CHAIN = Load(LINKS, bandwidth_bps=10**9, delay_ns=1_000_000, payload_bytes=PAYLOAD_BYTES, interval_ns=720)
"""0.94 of what the links carry in frames of 84 bytes on the wire."""

BUSY = Load(LINKS, bandwidth_bps=10**8, delay_ns=1_000_000, payload_bytes=PAYLOAD_BYTES, interval_ns=7200)
BUSY_CHAINS = 1000


def address(link: int, host: int) -> str:
    """Of one end (1 or 2) of a link, counted over all chains."""
    number = (10 << 24) + (link << 2) + host
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def add_chain(document: dict[str, Any], chain: int, load: Load) -> None:
    """Add a chain of links between two hosts, and the flow that crosses it."""
    first = chain * load.links
    names = [f"c{chain}-{number}" for number in range(load.links + 1)]
    for number, name in enumerate(names):
        interfaces = {}
        if number:
            interfaces["left"] = {"addresses": [f"{address(first + number - 1, 2)}/30"]}
        if number < load.links:
            interfaces["right"] = {"addresses": [f"{address(first + number, 1)}/30"]}
        onward = min(number, load.links - 1)
        gateway = address(first + onward, 2) if number < load.links else address(first + onward, 1)
        document["nodes"][name] = {
            "kind": "router" if 0 < number < load.links else "host",
            "interfaces": interfaces,
            "routes": [{"to": "default", "via": gateway}],
        }
    document["links"] += [
        {
            "ends": [f"{left}.right", f"{right}.left"],
            "bandwidth": f"{load.bandwidth_bps}bit/s",
            "overhead": "24B",
            "delay": f"{load.delay_ns}ns",
            "queue": "100packets",
        }
        for left, right in pairwise(names)
    ]
    rate_bps = load.payload_bytes * 8 * 1_000_000_000 // load.interval_ns
    flow = {"kind": "udp", "from": names[0], "to": names[-1], "size": f"{load.payload_bytes}B"}
    document["traffic"].append(flow | {"rate": f"{rate_bps}bit/s"})


def network(chains: int, load: Load) -> Topology:
    document: dict[str, Any] = {"manystack": 1, "name": "virtual", "nodes": {}, "links": [], "traffic": []}
    for chain in range(chains):
        add_chain(document, chain, load)
    return Topology.parse(document)


def delivered_packets(emu: Engine) -> int:
    return sum(counters["delivered_packets"] for link in emu.links() for counters in link.statistics())


def measure(emu: Engine, duration: str) -> float:
    """Packet-hops per second of wall time."""
    before = delivered_packets(emu)
    start = perf_counter()
    emu.run(duration)
    seconds = perf_counter() - start
    return (delivered_packets(emu) - before) / seconds


@pytest.fixture(scope="module")
def ns3_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_chain(tmp_path_factory.mktemp("ns3"))


def test_chain(figures: Figures, ns3_chain: Path, one_cpu: int) -> None:
    own, beside = [], []
    with Engine(network(1, CHAIN), time="virtual") as emu:
        emu.run("100ms")  # neighbors are known, and the links full
        for _ in range(ROUNDS):
            beside.append(packet_hops_per_second(ns3_chain, CHAIN, NS3_PACKETS))
            own.append(measure(emu, "1s"))
        assert emu.summary().run_hash is not None
    peer = median(beside)
    figures.record(Figure("virtual time", "10 links", median(own), "packet-hops/s", peer=peer))


def test_many_links(figures: Figures, one_cpu: int) -> None:
    with Engine(network(BUSY_CHAINS, BUSY), time="virtual") as emu:
        emu.run("60ms")
        rates = [measure(emu, "30ms") for _ in range(ROUNDS)]
        assert not emu.summary().own_loss_packets
    figures.record(Figure("virtual time", f"{BUSY_CHAINS * LINKS} links", median(rates), "packet-hops/s"))
