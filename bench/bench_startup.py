"""Seconds from a loaded topology of a thousand routers to the first packet that one of them has forwarded."""

from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from bench.figures import Figure, Figures
from manystack import Engine, Topology

ROUTERS = 1000
ROUNDS = 5


def chain_document(routers: int) -> dict[str, Any]:
    """`h1 - r1 - … - rK - h2`, a /30 for each link, and static routes to both ends."""

    def address(link: int, end: int) -> str:
        return f"10.{link // 64}.{link % 64 * 4}.{end}"

    def interfaces(**addresses: str) -> dict[str, Any]:
        return {name: {"addresses": [f"{text}/30"]} for name, text in addresses.items()}

    first, last = f"{address(0, 0)}/30", f"{address(routers, 0)}/30"
    nodes: dict[str, Any] = {
        "h1": {
            "kind": "host",
            "interfaces": interfaces(eth0=address(0, 1)),
            "routes": [{"to": "default", "via": address(0, 2)}],
        },
        "h2": {
            "kind": "host",
            "interfaces": interfaces(eth0=address(routers, 2)),
            "routes": [{"to": "default", "via": address(routers, 1)}],
        },
    }
    for index in range(routers):
        routes = []
        if index > 0:
            routes.append({"to": first, "via": address(index, 1)})
        if index < routers - 1:
            routes.append({"to": last, "via": address(index + 1, 2)})
        nodes[f"r{index + 1}"] = {
            "kind": "router",
            "interfaces": interfaces(left=address(index, 2), right=address(index + 1, 1)),
            "routes": routes,
        }
    starts = ["h1.eth0", *(f"r{index + 1}.right" for index in range(routers))]
    ends = [*(f"r{index + 1}.left" for index in range(routers)), "h2.eth0"]
    links = [{"ends": [start, end]} for start, end in zip(starts, ends, strict=True)]
    return {"manystack": 1, "name": "chain", "time": "virtual", "nodes": nodes, "links": links}


def test_startup(benchmark: BenchmarkFixture, figures: Figures) -> None:
    topology = Topology.parse(chain_document(ROUTERS))
    beyond_the_first = str(topology.nodes["r2"].interfaces["left"].addresses[0].ip)
    engines: list[Engine] = []

    def start() -> None:
        engines.append(Engine(topology))
        assert engines[-1].node("h1").ping(beyond_the_first)

    benchmark.pedantic(start, teardown=lambda: engines.pop().close(), rounds=ROUNDS, warmup_rounds=1)
    assert benchmark.stats is not None
    figures.record(Figure("start-up", f"{ROUTERS} routers", benchmark.stats["median"], "s"))
