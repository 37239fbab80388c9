"""Hop-packets per second on one core, beside a chain of Linux namespaces of the same length in the same run.

A hop-packet is one packet taken in, routed and handed on by one router. Every round first measures the peer,
then the engine, on the same CPU; the medians are compared. The peer's links are never shaped.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.chain import VECTOR, Chain, open_chain
from bench.figures import Figure, Figures
from bench.peers.namespaces import NamespaceChain

ROUNDS = 5
PEER_SECONDS = 0.3
HOP_PACKETS = {False: 5_000_000, True: 2_000_000}
"""What one round forwards, without and with shaping: some tenths of a second."""


@pytest.fixture(scope="module", params=[1, 5, 10, 50])
def peer(request: pytest.FixtureRequest, generator: Path) -> Iterator[NamespaceChain]:
    with NamespaceChain(request.param, generator) as chain:
        yield chain


@pytest.mark.parametrize("shaped", [False, True], ids=["unshaped", "shaped"])
def test_forwarding(
    benchmark: BenchmarkFixture, figures: Figures, peer: NamespaceChain, one_cpu: int, shaped: bool
) -> None:
    routers = peer.routers
    vectors = -(-HOP_PACKETS[shaped] // (VECTOR * routers))
    peer_rates: list[float] = []

    with open_chain(routers, shaped=shaped) as chain:

        def measure_peer() -> tuple[tuple[Chain], dict[str, int]]:
            peer_rates.append(peer.measure(PEER_SECONDS, one_cpu).packets_per_second * routers)
            return (chain,), {"vectors": vectors}

        before = chain.delivered_packets
        benchmark.pedantic(Chain.forward, setup=measure_peer, rounds=ROUNDS, warmup_rounds=1)
        assert chain.delivered_packets - before == (ROUNDS + 1) * vectors * VECTOR
        assert chain.switch.statistics()["copied_bytes"] == 0

    assert benchmark.stats is not None
    rate = vectors * VECTOR * routers / benchmark.stats["median"]
    suite = f"forwarding, {'shaped' if shaped else 'unshaped'}"
    case = f"{routers} router{'s' if routers > 1 else ''}"
    figures.record(Figure(suite, case, rate, "hop-packets/s", peer=median(peer_rates[1:])))
