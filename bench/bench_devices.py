"""Two real hosts over emulated routers, beside a forwarder that does nothing at all, in the same run.

All paths exist at once. Every round measures each of them in turn; the medians of the rounds are compared.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from bench.figures import Figure, Figures
from bench.hosts import Hosts
from bench.peers.forwarder import DEVICE, Forwarder
from bench.peers.namespaces import NamespaceChain
from manystack import Engine, Topology

HOPS = (1, 10, 50)
TCP_ROUNDS, TCP_SECONDS, TCP_WARMUP_SECONDS = 5, 3, 1
SMALL_PACKETS_ROUNDS, SMALL_PACKETS_SECONDS = 15, 0.2
PING_ROUNDS, PINGS = 15, 100

DATA_BYTES, FRAME_BYTES = 1448, 1514
"""TCP with time stamps: of each full frame, so much is data."""


def emulated_path(label: str, hops: int, link: Mapping[str, str] | None = None) -> tuple[Topology, Hosts]:
    """`a - r1 - … - rK - b`, the link behind r1 shaped if asked to; and the two hosts at its ends."""
    namespaces = [f"bench{os.getpid()}-{label}-{end}" for end in "ab"]

    def host(end: int, address: str, gateway: str) -> dict[str, Any]:
        return {
            "kind": "tap",
            "device": DEVICE,
            "namespace": namespaces[end],
            "addresses": [f"{address}/24"],
            "routes": [{"to": "default", "via": gateway}],
        }

    def router(number: int) -> dict[str, Any]:
        left, right = f"10.0.{number - 1}.2/24", f"10.0.{number}.1/24"
        return {
            "kind": "router",
            "interfaces": {"left": {"addresses": [left]}, "right": {"addresses": [right]}},
        }

    ends = ["a", *(f"r{number}.{side}" for number in range(1, hops + 1) for side in ("left", "right")), "b"]
    links: list[dict[str, Any]] = [{"ends": list(pair)} for pair in zip(ends[::2], ends[1::2], strict=True)]
    links[1].update(link or {})
    hosts = Hosts(namespaces[0], namespaces[1], DEVICE, "10.0.0.1", f"10.0.{hops}.2", gateway="10.0.0.2")
    topology = Topology.parse(
        {
            "manystack": 1,
            "name": namespaces[0],
            "routes": "shortest",
            "nodes": {
                "a": host(0, hosts.source, hosts.gateway),
                **{f"r{number}": router(number) for number in range(1, hops + 1)},
                "b": host(1, hosts.destination, f"10.0.{hops}.1"),
            },
            "links": links,
        }
    )
    return topology, hosts


@dataclass(frozen=True)
class Paths:
    """Everything that is measured in turn: the engine by hops, the raw forwarder, and the namespaces."""

    emulated: Mapping[int, Hosts]
    raw: Hosts
    namespaces: Hosts
    forwarder_process: int

    def all(self, *, namespaces: bool = False) -> dict[str, Hosts]:
        """The paths by name: by number of hops, "raw", and "namespaces" if wanted."""
        paths = {"raw": self.raw, **{str(hops): hosts for hops, hosts in self.emulated.items()}}
        return paths | ({"namespaces": self.namespaces} if namespaces else {})


def in_turn(
    paths: Mapping[str, Hosts], rounds: int, measure: Callable[[Hosts], float]
) -> list[dict[str, float]]:
    """What `measure` says of each path in each round."""
    return [{name: measure(hosts) for name, hosts in paths.items()} for _ in range(rounds)]


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each path, over all rounds."""
    return {name: median(values[name] for values in rounds) for name in rounds[0]}


@pytest.fixture(scope="module")
def paths(forwarder: Path, generator: Path) -> Iterator[Paths]:
    with ExitStack() as networks:
        raw = networks.enter_context(Forwarder(forwarder))
        emulated = {}
        for hops in HOPS:
            topology, emulated[hops] = emulated_path(str(hops), hops)
            networks.enter_context(Engine(topology, time="real"))
        chain = networks.enter_context(NamespaceChain(HOPS[-1], generator))
        result = Paths(emulated, raw.hosts, chain.hosts, raw.process_id)
        for hosts in (raw.hosts, chain.hosts, *emulated.values()):
            hosts.prepare()
        yield result


@contextmanager
def workers_on(cpu: int, forwarder_process: int) -> Iterator[None]:
    """Keep all threads of this process, the engines' among them, and the forwarder on one CPU meanwhile."""
    threads = [forwarder_process, *(int(task.name) for task in Path("/proc/self/task").iterdir())]
    allowed = {thread: os.sched_getaffinity(thread) for thread in threads}
    try:
        for thread in threads:
            os.sched_setaffinity(thread, {cpu})
        yield
    finally:
        for thread in threads:
            os.sched_setaffinity(thread, allowed[thread])


@contextmanager
def awake_cpus() -> Iterator[None]:
    """Keep every CPU from sleeping, by work that gives way to any other: to wake one up takes tens of us."""
    idlers: list[subprocess.Popen[bytes]] = []
    try:
        for cpu in os.sched_getaffinity(0):
            idlers.append(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
            os.sched_setaffinity(idlers[-1].pid, {cpu})
            os.sched_setscheduler(idlers[-1].pid, os.SCHED_IDLE, os.sched_param(0))
        yield
    finally:
        for idler in idlers:
            idler.kill()
            idler.wait()


def case(hops: int) -> str:
    return f"{hops} router{'s' if hops > 1 else ''}"


def tcp_bps(hosts: Hosts) -> float:
    return hosts.tcp_bps(TCP_SECONDS, TCP_WARMUP_SECONDS)


def test_tcp(figures: Figures, paths: Paths) -> None:
    bps = medians(in_turn(paths.all(namespaces=True), TCP_ROUNDS, tcp_bps))
    emulated = {hops: bps[str(hops)] for hops in HOPS}
    for hops in HOPS:
        figures.record(Figure("devices, TCP beside raw", case(hops), emulated[hops], "bit/s", bps["raw"]))
    longest = emulated[HOPS[-1]]
    figures.record(
        Figure("devices, TCP beside namespaces", case(HOPS[-1]), longest, "bit/s", bps["namespaces"])
    )
    figures.record(Figure("devices, TCP", "longest path", longest, "bit/s", peer=max(emulated.values())))


def test_small_packets(figures: Figures, paths: Paths, generator: Path) -> None:
    working, offering = sorted(os.sched_getaffinity(0))[:2]

    def rate(hosts: Hosts) -> float:
        return hosts.small_packets_per_second(generator, SMALL_PACKETS_SECONDS, offering)

    with workers_on(working, paths.forwarder_process):
        rates = medians(in_turn(paths.all(), SMALL_PACKETS_ROUNDS, rate))
    for hops in HOPS:
        figures.record(
            Figure("devices, small packets", case(hops), rates[str(hops)], "packets/s", rates["raw"])
        )


def test_ping(figures: Figures, paths: Paths) -> None:
    with awake_cpus():
        rounds = in_turn(paths.all(), PING_ROUNDS, lambda hosts: hosts.ping_us(PINGS))
    for hops in HOPS:
        above_us = median(us[str(hops)] - us["raw"] for us in rounds)
        figures.record(Figure("devices, ping above raw", case(hops), above_us, "us"))


@pytest.mark.parametrize("hops", HOPS)
def test_tcp_through_a_gigabit_link(figures: Figures, hops: int) -> None:
    link = {"bandwidth": "1Gbit/s", "delay": "1ms", "queue": queue(10**9)}
    topology, hosts = emulated_path("gigabit", hops, link)
    with Engine(topology, time="real"):
        hosts.prepare()
        share = tcp_bps(hosts) / (1e9 * DATA_BYTES / FRAME_BYTES)
    figures.record(Figure("devices, TCP over 1 Gbit/s and 1 ms", case(hops), share, "of the link"))


def test_tcp_through_ten_gigabits(figures: Figures, forwarder: Path) -> None:
    rate_bps, delay_ns = 10**10, 10**6
    topology, hosts = emulated_path(
        "shaped", 1, {"bandwidth": "10Gbit/s", "delay": "1ms", "queue": queue(rate_bps)}
    )
    shape = {"rate_bps": rate_bps, "delay_ns": delay_ns, "queue_bytes": queue_packets(rate_bps) * FRAME_BYTES}
    with Engine(topology, time="real"), Forwarder(forwarder, **shape) as shaper:
        hosts.prepare()
        shaper.hosts.prepare()
        bps = medians(in_turn({"engine": hosts, "shaper": shaper.hosts}, TCP_ROUNDS, tcp_bps))
    figures.record(
        Figure("devices, TCP over 10 Gbit/s and 1 ms", "1 router", bps["engine"], "bit/s", bps["shaper"])
    )


def queue_packets(rate_bps: int) -> int:
    """Full frames in twice what is under way on a link of 1 ms, there and back."""
    return ceil(2 * rate_bps * 0.002 / (8 * FRAME_BYTES))


def queue(rate_bps: int) -> str:
    return f"{queue_packets(rate_bps)}packets"
