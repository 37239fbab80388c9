"""Generated topologies: their shape, their addresses, and that size is no matter."""

from cProfile import Profile
from pathlib import Path

import pytest

from manystack.errors import UsageError
from manystack.topology import Topology, generate, shortest_routes
from manystack.topology.document.files import encode


@pytest.mark.parametrize(
    ("kind", "sizes", "hosts", "routers", "links"),
    [
        ("chain", [1], 2, 1, 2),
        ("chain", [300], 2, 300, 301),
        ("ring", [3], 2, 3, 5),
        ("ring", [10], 2, 10, 12),
        ("star", [2], 2, 1, 2),
        ("star", [400], 400, 1, 400),
        ("grid", [1, 1], 2, 1, 2),
        ("grid", [4, 3], 2, 12, 19),
        ("tree", [1, 2], 2, 1, 2),
        ("tree", [3, 4], 64, 21, 84),
    ],
    ids=str,
)
def test_shapes(kind: str, sizes: list[int], hosts: int, routers: int, links: int) -> None:
    topology = Topology.parse(generate(kind, sizes, {"bandwidth": "1Gbit/s", "delay": "1ms"}))
    kinds = [node.kind for node in topology.nodes.values()]
    assert (kinds.count("host"), kinds.count("router"), len(topology.links)) == (hosts, routers, links)
    assert topology.routes == "shortest"
    assert {link.forward.delay_ns for link in topology.links} == {10**6}
    addresses = [address for node in topology.nodes.values() for _, address in node.addressed()]
    assert len(set(addresses)) == len(addresses) == 2 * links
    assert {address.network.prefixlen for address in addresses} == {30}
    (ping,) = topology.traffic
    assert topology.nodes[ping.from_].kind == "host"
    assert ping.destination in {address.ip for address in addresses}


def test_a_ping_goes_no_farther_than_it_can() -> None:
    near = Topology.parse(generate("chain", [63])).traffic[0]
    far = Topology.parse(generate("chain", [254])).traffic[0]
    beyond = Topology.parse(generate("chain", [1000])).traffic[0]
    assert [(ping.to, ping.ttl) for ping in (near, far, beyond)] == [("h2", 64), ("h2", 255), ("r255", 255)]


@pytest.mark.parametrize(
    ("kind", "sizes", "said"),
    [
        ("chian", [3], "unknown kind 'chian'"),
        ("chain", [], "emu generate chain ROUTERS"),
        ("grid", [3], "emu generate grid WIDTH HEIGHT"),
        ("chain", [0], "chain ROUTERS: at least 1, not 0"),
        ("ring", [2], "at least 3"),
        ("star", [1], "at least 2"),
        ("tree", [3, 1], "at least 2"),
        ("tree", [10**9, 10**9], "more than 100,000 nodes"),
        ("grid", [1000, 1000], "more than 100,000 nodes"),
    ],
    ids=str,
)
def test_impossible_sizes(kind: str, sizes: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        generate(kind, sizes)


def read_from_file(folder: Path, kind: str, sizes: list[int]) -> Topology:
    file = folder / "large.msgpack"
    file.write_bytes(encode(generate(kind, sizes), "msgpack"))
    return Topology.load(file)


@pytest.mark.parametrize(
    ("kind", "sizes"), [("chain", [10_000]), ("star", [10_000]), ("tree", [4, 9])], ids=str
)
def test_ten_thousand_nodes_find_their_ways(tmp_path: Path, kind: str, sizes: list[int]) -> None:
    topology = read_from_file(tmp_path, kind, sizes)
    assert len(shortest_routes(topology)) == len(topology.nodes)


@pytest.mark.parametrize(
    ("kind", "small", "large"),
    [("chain", [200], [800]), ("star", [200], [800]), ("tree", [2, 13], [2, 27])],
    ids=str,
)
def test_the_work_grows_with_the_nodes(tmp_path: Path, kind: str, small: list[int], large: list[int]) -> None:
    """Counted in calls, which are the same on every machine: four times the nodes take four times as many."""
    calls = []
    for sizes in (small, small, large):  # what is made once is made the first time
        with Profile(builtins=True) as profile:
            topology = read_from_file(tmp_path, kind, sizes)
            shortest_routes(topology)
        calls.append(sum(entry.callcount for entry in profile.getstats()) / len(topology.nodes))
    assert calls[2] < 1.2 * calls[1]
