"""The Engine: names, exact times, live changes, and nothing left behind."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from manystack import Engine, Topology
from manystack.errors import UsageError
from manystack.record.eventfile import EventReader
from manystack.results import PingResult
from manystack.topology import TopologyError
from manystack.wiring import derived_mac, pipe_seed

MS = 1_000_000
SECOND_NS = 1_000_000_000


def host(address: str, gateway: str) -> dict[str, Any]:
    return {
        "kind": "host",
        "interfaces": {"eth0": {"addresses": [address]}},
        "routes": [{"to": "default", "via": gateway}],
    }


def document(**extra: Any) -> dict[str, Any]:
    """h1 - r1 - r2 - h2, with 1, 10 and 4 ms of delay."""
    return {
        "manystack": 1,
        "name": "two-routers",
        "seed": 7,
        "time": "virtual",
        "nodes": {
            "h1": host("10.0.1.2/24", "10.0.1.1"),
            "r1": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["10.0.1.1/24"]},
                    "eth1": {"addresses": ["10.0.0.1/30"]},
                },
                "routes": [{"to": "10.0.2.0/24", "via": "10.0.0.2"}],
            },
            "r2": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["10.0.0.2/30"]},
                    "eth1": {"addresses": ["10.0.2.1/24"]},
                },
                "routes": [{"to": "10.0.1.0/24", "via": "10.0.0.1"}],
            },
            "h2": host("10.0.2.2/24", "10.0.2.1"),
        },
        "links": [
            {"ends": ["h1.eth0", "r1.eth0"], "delay": "1ms"},
            {"ends": ["r1.eth1", "r2.eth0"], "delay": "10ms"},
            {"ends": ["r2.eth1", "h2.eth0"], "delay": "4ms"},
        ],
        **extra,
    }


def network(**extra: Any) -> Topology:
    return Topology.parse(document(**extra))


@pytest.fixture
def emu() -> Iterator[Engine]:
    with Engine(network()) as engine:
        engine.node("h1").ping("h2")  # ARP is resolved now
        yield engine


def test_a_ping_takes_the_sum_of_the_delays(emu: Engine) -> None:
    result = emu.node("h1").ping("10.0.2.2")
    assert result
    assert result.rtt_ns == 30 * MS
    assert result.replies[0].responder == IPv4Address("10.0.2.2")
    assert result.replies[0].ttl == 253


def test_a_series_of_pings_counts_and_waits(emu: Engine) -> None:
    began = emu.now_ns
    result = emu.node("h1").ping("h2", count=5, interval="200ms")
    assert (result.sent_packets, result.received_packets) == (5, 5)
    assert result.rtts_ns == [30 * MS] * 5
    assert emu.now_ns - began == result.elapsed_ns == 830 * MS


def test_a_ping_longer_than_the_engine_keeps_replies_keeps_them_all(emu: Engine) -> None:
    result = emu.node("h1").ping("h2", count=70_000, interval="1ms")
    assert [reply.sequence for reply in result.replies] == list(range(70_000))


def test_an_hour_of_pings_is_the_same_to_the_nanosecond() -> None:
    lossy = document()
    lossy["links"][1]["loss"] = "10%"

    def one_run() -> PingResult:
        with Engine(Topology.parse(lossy)) as emu:
            return emu.node("h1").ping("h2", count=3600)

    first = one_run()
    assert first.elapsed_ns >= 3599 * SECOND_NS
    assert 2700 < first.received_packets < 3100  # expected 2,916, standard deviation 24
    assert one_run() == first


def test_another_seed_loses_other_packets() -> None:
    lossy = document()
    lossy["links"][1]["loss"] = "10%"

    def lost(seed: int) -> set[int]:
        with Engine(Topology.parse(lossy), seed=seed) as emu:
            result = emu.node("h1").ping("h2", count=300, interval="100ms")
        return set(range(300)) - {reply.sequence for reply in result.replies}

    assert lost(1) != lost(2)


def test_adding_a_node_changes_nothing_elsewhere() -> None:
    small = document(traffic=[{"kind": "ping", "from": "h1", "to": "h2", "interval": "10ms", "count": 500}])
    small["links"][1]["loss"] = "10%"
    large = document(traffic=small["traffic"])
    large["links"][1]["loss"] = "10%"
    large["nodes"] = {
        "first": host("10.9.0.1/24", "10.9.0.2"),
        **large["nodes"],
        "last": host("10.9.0.2/24", "10.9.0.1"),
    }
    large["links"].insert(0, {"ends": ["first.eth0", "last.eth0"], "loss": "50%"})

    def traffic(of: dict[str, Any]) -> Any:
        with Engine(Topology.parse(of)) as emu:
            emu.run()
            return emu.summary().traffic

    assert traffic(small) == traffic(large)


def test_derived_macs_come_from_names_and_never_collide() -> None:
    taken: set[bytes] = set()
    first = derived_mac("h1.eth0", taken)
    second = derived_mac("h1.eth0", taken)
    assert first[0] == second[0] == 2
    assert first != second
    assert derived_mac("h1.eth0", {first}) == second
    assert derived_mac("h1.eth0", set()) == first


def test_pipe_seeds_depend_on_seed_names_and_direction() -> None:
    assert pipe_seed(7, "a.eth0", "b.eth0", "loss") == pipe_seed(7, "a.eth0", "b.eth0", "loss")
    seeds = {
        pipe_seed(*of, "loss")
        for of in [(7, "a.eth0", "b.eth0"), (7, "b.eth0", "a.eth0"), (8, "a.eth0", "b.eth0")]
    }
    assert len(seeds) == 3


def test_a_traceroute_finds_the_routers(emu: Engine) -> None:
    result = emu.node("h1").traceroute("h2")
    assert result.reached
    responders = [{str(probe.responder) for probe in hop.probes if probe} for hop in result.hops]
    assert responders == [{"10.0.1.1"}, {"10.0.0.2"}, {"10.0.2.2"}]
    assert [hop.ttl for hop in result.hops] == [1, 2, 3]
    assert all(probe is not None for hop in result.hops for probe in hop.probes)


def test_a_changed_delay_shows_in_the_next_ping(emu: Engine) -> None:
    link = emu.link("r2.eth0", "r1.eth1")
    link.set(delay="20ms")
    assert emu.node("h1").ping("h2").rtt_ns == 50 * MS
    link.set(forward={"delay": "1ms"})  # from r2 to r1
    assert emu.node("h1").ping("h2").rtt_ns == 31 * MS
    assert [pipe.delay_ns for pipe in link.parameters] == [1 * MS, 20 * MS]
    assert [pipe.delay_ns for pipe in emu.link("r1.eth1", "r2.eth0").parameters] == [20 * MS, 1 * MS]


def test_a_changed_delay_shows_under_a_running_ping(emu: Engine) -> None:
    async def program() -> PingResult:
        ping = asyncio.create_task(emu.node("h1").async_ping("h2", count=10, interval="100ms"))
        await asyncio.sleep(0.45)
        emu.link("r1.eth1", "r2.eth0").set(delay="20ms")
        return await ping

    assert emu.run_until_complete(program()).rtts_ns == [30 * MS] * 5 + [50 * MS] * 5


def test_a_link_that_is_down_carries_nothing_until_it_is_up(emu: Engine) -> None:
    link = emu.link("r1.eth1", "r2.eth0")
    events = []
    unsubscribe = emu.subscribe(lambda event: events.append((event.kind, event.subject)))
    link.down()
    assert not link.is_up
    assert not emu.node("h1").ping("h2")
    assert link.statistics()[0]["down_drop_packets"] == 1
    link.up()
    assert emu.node("h1").ping("h2").rtt_ns == 30 * MS
    assert events == [("link-down", "r1.eth1 r2.eth0"), ("link-up", "r1.eth1 r2.eth0")]
    unsubscribe()


def test_what_is_in_flight_on_a_cut_link_is_lost(emu: Engine) -> None:
    async def program() -> PingResult:
        ping = asyncio.create_task(emu.node("h1").async_ping("h2"))
        await asyncio.sleep(0.005)
        emu.link("r1.eth1", "r2.eth0").down()
        emu.link("r1.eth1", "r2.eth0").up()
        return await ping

    assert emu.run_until_complete(program()).received_packets == 0
    assert emu.link("r1.eth1", "r2.eth0").statistics()[0]["down_drop_packets"] == 1


def test_routes_come_and_go(emu: Engine) -> None:
    r1 = emu.node("r1")
    r1.delete_route("10.0.2.0/24")
    result = emu.node("h1").ping("h2")
    assert not result
    assert result.replies[0].meaning == "Destination Net Unreachable"
    r1.add_route("default", via="10.0.0.2")
    assert emu.node("h1").ping("h2")
    prefixes = {str(route.prefix): route for route in r1.routes()}
    assert prefixes["0.0.0.0/0"].gateway == IPv4Address("10.0.0.2")
    assert prefixes["0.0.0.0/0"].interface == "r1.eth1"
    r1.add_route("10.0.2.2/32")
    assert emu.node("h1").ping("h2").replies[0].meaning == "Destination Host Unreachable"


def test_neighbors_and_statistics_have_names(emu: Engine) -> None:
    neighbors = {str(entry.address): entry for entry in emu.node("r1").neighbors()}
    assert neighbors["10.0.1.2"].interface == "r1.eth0"
    assert neighbors["10.0.1.2"].mac == emu.wiring.macs[emu.wiring.interfaces["h1.eth0"]].hex(":")
    statistics = emu.node("r1").statistics()
    assert [interface.name for interface in statistics.interfaces] == ["r1.eth0", "r1.eth1"]
    assert statistics.interfaces[0].rx_packets >= 2


def test_a_run_without_duration_ends_when_nothing_is_left() -> None:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "100ms", "count": 50, "start": "1s"}]
    with Engine(network(traffic=traffic)) as emu:
        assert emu.run() == "idle"
        assert emu.now_ns >= 5900 * MS + 30 * MS
        (flow,) = emu.summary().traffic
        assert flow.done
        assert (flow.sent_packets, flow.received_packets, flow.lost_packets) == (50, 50, 0)
        assert flow.delay_median_ns == 30 * MS


def test_a_run_with_a_duration_ends_exactly_then(emu: Engine) -> None:
    began = emu.now_ns
    assert emu.run("10s") == "duration"
    assert emu.now_ns - began == 10 * SECOND_NS


def test_a_run_ends_though_a_call_has_gone_beyond_its_end(emu: Engine) -> None:
    async def short_one() -> str:
        run = emu.loop.create_task(emu.async_run("1ns"))
        await asyncio.sleep(0)
        emu.switch.run(emu.now_ns + 5)  # as bringing all nodes to one time does after a slice of a run
        return await run

    assert emu.run_until_complete(short_one()) == "duration"


def test_a_run_can_be_stopped_from_a_program(emu: Engine) -> None:
    emu.loop.call_later(3, emu.stop)
    began = emu.now_ns
    assert emu.run("10s") == "stopped"
    assert emu.now_ns - began == 3 * SECOND_NS


def test_waiting_in_real_time_costs_no_processor_time() -> None:
    with Engine(network(), time="real") as emu:
        emu.node("h1").ping("h2")
        emu.link("h1", "r1.eth0").down()
        emu.link("h1", "r1.eth0").up()
        before = time.process_time()
        emu.run("300ms")
        assert time.process_time() - before < 0.03


def test_ctrl_c_ends_a_plain_call_and_nothing_else(emu: Engine) -> None:
    emu.loop.call_later(1, signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        emu.node("h1").ping("h2", count=10)
    assert emu.node("h1").ping("h2").rtt_ns == 30 * MS
    assert emu.run("1s") == "duration"


def test_real_traffic_without_a_tap_ends_by_itself() -> None:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "5ms", "count": 5}]
    with Engine(network(traffic=traffic), time="real") as emu:
        assert emu.run() == "traffic done"
        assert emu.summary().traffic[0].received_packets == 5


def test_whoever_waits_for_a_flow_is_woken_when_the_event_was_lost() -> None:
    traffic = [{"kind": "ping", "from": "h1", "to": "h2", "interval": "5ms"}]
    told: list[str] = []
    with Engine(network(traffic=traffic), time="real") as emu:
        emu.subscribe(lambda event: told.append(str(event)))
        while not emu.switch.lost_events:
            emu.switch.set_pipe(emu.wiring.links[0].pipes[0], delay_ns=MS)
        emu.switch.stop_flow(emu.wiring.flows[0].flow)
        with emu.node("h1").start_ping("h2", count=1) as probe:
            while not probe.statistics()["done"]:
                pass  # the loop, which would read events, does not run
            emu.run_until_complete(asyncio.wait_for(probe.finish(), 20))
        assert emu.run_until_complete(asyncio.wait_for(emu.async_run(), 20)) == "traffic done"
    # Whether the machine kept up while this test let nobody else run is not the question.
    told = [event for event in told if not event.startswith(("degraded", "valid"))]
    assert told == [f"traffic-done traffic[0] {emu.wiring.flows[0].label}"]


def test_real_pings_take_at_least_their_delay() -> None:
    with Engine(network(), time="real") as emu:
        emu.node("h1").ping("h2")
        rtt_ns = emu.node("h1").ping("h2").rtt_ns
        assert rtt_ns is not None
        assert rtt_ns >= 30 * MS


def test_two_engines_side_by_side_are_both_correct() -> None:
    slow = document()
    slow["links"][1]["delay"] = "100ms"
    with Engine(network()) as fast, Engine(Topology.parse(slow)) as second:
        for engine in (fast, second):
            engine.node("h1").ping("h2")
        for _ in range(20):
            assert fast.node("h1").ping("h2").rtt_ns == 30 * MS
            assert second.node("h1").ping("h2").rtt_ns == 210 * MS
        second.link("r1.eth1", "r2.eth0").down()
        assert fast.node("h1").ping("h2")
        assert not second.node("h1").ping("h2")


def test_closing_is_safe_at_any_time_and_leaves_nothing() -> None:
    with Engine(network(), time="real"):
        pass  # what Python opens once and keeps is open now
    before = descriptors()
    never_started = Engine(network())
    never_started.close()
    never_started.close()
    with Engine(network(), time="real", name=f"closing-{os.getpid()}") as emu:
        emu.loop.create_task(emu.node("h1").async_ping("h2", count=1000))
        emu.loop.create_task(asyncio.sleep(1000))
        emu.run("1ms")
    with Engine(network()) as emu:
        emu.loop.create_task(patient(emu))
        emu.run("1s")
    assert emu.now_ns == 61 * SECOND_NS  # time went on for those who had to say good-bye
    assert descriptors() == before
    with pytest.raises(RuntimeError, match="closed"):
        emu.run("1s")


async def patient(emu: Engine) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(60)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_impossible_route_is_an_error_with_its_place() -> None:
    broken = document()
    broken["nodes"]["h1"]["routes"][0]["via"] = "172.16.0.1"
    with pytest.raises(TopologyError) as caught:
        Engine(Topology.parse(broken))
    assert [error.place for error in caught.value.errors] == ["nodes.h1.routes[0].via"]


def test_a_tap_in_virtual_time_is_refused_with_its_place() -> None:
    with_tap = document(time="real")
    with_tap["nodes"]["site"] = {"kind": "tap", "device": "emu0", "addresses": ["10.0.3.2/24"]}
    with_tap["nodes"]["r2"]["interfaces"]["eth2"] = {"addresses": ["10.0.3.1/24"]}
    with_tap["links"].append({"ends": ["r2.eth2", "site"]})
    with pytest.raises(TopologyError) as caught:
        Engine(Topology.parse(with_tap), time="virtual")
    assert [error.place for error in caught.value.errors] == ["nodes.site"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda emu: emu.node("rr1"), "no node 'rr1'.*did you mean"),
        (lambda emu: emu.link("h1.eth0", "r2.eth0"), "h1.eth0 is linked to r1.eth0"),
        (lambda emu: emu.link("h1.eth7", "r1.eth0"), "no interface 'h1.eth7'"),
        (lambda emu: emu.link("h1", "r1.eth0").set(delay="20"), "delay"),
        (lambda emu: emu.link("h1", "r1.eth0").set(bandwith="1Mbit/s"), "bandwith"),
        (lambda emu: emu.node("h1").ping("nowhere"), "neither an IPv4 address nor a node"),
        (lambda emu: emu.node("h1").ping("h2", count=0), "count"),
        (lambda emu: emu.node("h1").ping("h2", interval="1"), "interval"),
        (lambda emu: emu.node("h1").ping("h2", size="1MiB"), "at most 1472B"),
        (lambda emu: emu.node("h1").add_route("10.0.0.0/33", "10.0.1.1"), "prefix"),
        (lambda emu: emu.node("h1").add_route("10.7.0.0/16", "172.16.0.1"), "h1: "),
        (lambda emu: emu.node("h1").delete_route("10.7.0.0/16"), "no route to 10.7.0.0/16"),
        (lambda emu: emu.run("fast"), "duration"),
    ],
)
def test_wrong_use_is_a_sentence(emu: Engine, call: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(emu)


def test_a_failed_change_changes_nothing(emu: Engine) -> None:
    link = emu.link("r1.eth1", "r2.eth0")
    before = link.parameters
    with pytest.raises(UsageError):
        link.set(delay="1ms", reverse={"loss": "200%"})
    assert link.parameters == before
    assert emu.node("h1").ping("h2").rtt_ns == 30 * MS


def test_a_ping_crosses_254_routers() -> None:
    routers = 254
    nodes: dict[str, Any] = {
        "h1": host("10.0.0.1/24", "10.0.0.2"),
        "h2": host(f"10.{routers}.0.2/24", f"10.{routers}.0.1"),
    }
    links = [{"ends": ["h1.eth0", "r0.left"]}]
    for i in range(routers):
        nodes[f"r{i}"] = {
            "kind": "router",
            "interfaces": {
                "left": {"addresses": [f"10.{i}.0.2/24"]},
                "right": {"addresses": [f"10.{i + 1}.0.1/24"]},
            },
            "routes": [
                {"to": f"10.{routers}.0.0/24", "via": f"10.{i + 1}.0.2"},
                {"to": "10.0.0.0/24", "via": f"10.{i}.0.1"},
            ][i == routers - 1 : 2 - (i == 0)],
        }
        links.append({"ends": [f"r{i}.right", f"r{i + 1}.left" if i + 1 < routers else "h2.eth0"]})
    with Engine(
        Topology.parse({"manystack": 1, "name": "chain", "time": "virtual", "nodes": nodes, "links": links})
    ) as emu:
        assert emu.node("h1").ping("h2", ttl=255)
        assert emu.link("r7.right", "r8.left").ends == ("r7.right", "r8.left")


def test_the_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```python\n")[1:]]
    assert len(blocks) >= 3
    import yaml

    (tmp_path / "office.yaml").write_text(yaml.safe_dump(document()))
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (3, 0, 5, 1, 4, 2)])
def test_events_of_one_instant_come_in_the_order_of_names(order: tuple[int, ...]) -> None:
    names = ["e", "a", "d", "b", "f", "c"]
    nodes = {
        name: {
            "kind": "host",
            "interfaces": {"eth0": {"addresses": [f"10.0.{index // 2}.{index % 2 + 1}/24"]}},
        }
        for index, name in enumerate(names)
    }
    document = {
        "manystack": 1,
        "name": "absent",
        "nodes": {names[index]: nodes[names[index]] for index in order},
        "links": [{"ends": [f"{a}.eth0", f"{b}.eth0"]} for a, b in zip(names[::2], names[1::2], strict=True)],
        "traffic": [
            {"kind": "ping", "from": names[index], "to": f"10.0.{index // 2}.9", "interval": "1s", "count": 1}
            for index in order
        ],
    }
    with Engine(Topology.parse(document), time="virtual") as emu:
        told = []
        emu.subscribe(lambda event: told.append((event.kind, event.subject)))
        emu.run("20s")
        failed = [subject for kind, subject in told if kind == "neighbor-failed"]
        assert failed == sorted(names)
        done = [subject for kind, subject in told if kind == "traffic-done"]
        senders = [names[order[int(subject.removeprefix("traffic[").removesuffix("]"))]] for subject in done]
        assert senders == sorted(names)


def test_a_loopback_interface_has_its_name_everywhere(tmp_path: Path) -> None:
    document = {
        "manystack": 1,
        "name": "own",
        "nodes": {
            "r1": {
                "kind": "router",
                "interfaces": {"lo": {"addresses": ["192.0.2.1/32"]}, "eth0": {"addresses": ["10.0.0.1/24"]}},
            },
            "h1": {
                "kind": "host",
                "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}},
                "routes": [{"to": "default", "via": "10.0.0.1"}],
            },
        },
        "links": [{"ends": ["h1.eth0", "r1.eth0"], "delay": "1ms"}],
    }
    arrivals = tmp_path / "arrivals"
    with Engine(Topology.parse(document), time="virtual", events=arrivals) as emu:
        assert emu.node("h1").ping("192.0.2.1", count=2).replies[1].rtt_ns == 2_000_000
        capture = emu.capture(tmp_path / "lo.pcapng", "h1.lo", "r1.lo")
        plain = emu.summary().run_hash
        assert emu.node("h1").ping("127.0.0.1").rtt_ns == 0
        assert emu.node("r1").ping("192.0.2.1").rtt_ns == 0
        assert emu.summary().run_hash != plain
        assert [
            route.interface for route in emu.node("r1").routes() if str(route.prefix) == "192.0.2.1/32"
        ] == ["r1.lo"]
        counted = {counters.name: counters for counters in emu.node("r1").statistics().interfaces}
        assert counted["r1.lo"].rx_packets == 2
    assert capture.packets == 8  # each ping: a request and its reply, going out and coming in
    told = {arrival.pipe for arrival in EventReader(arrivals).arrivals()}
    assert told >= {"h1.lo", "r1.lo", "h1.eth0 → r1.eth0"}


def test_a_host_takes_a_kibibyte_and_a_router_two() -> None:
    document = {
        "manystack": 1,
        "name": "small",
        "routes": "shortest",
        "nodes": {
            "h1": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
            "r1": {
                "kind": "router",
                "interfaces": {f"eth{k}": {"addresses": [f"10.0.{k}.1/24"]} for k in range(4)},
                "routes": [{"to": f"10.9.{k}.0/24", "via": f"10.0.{k % 4}.2"} for k in range(8)],
            },
        },
        "links": [{"ends": ["h1.eth0", "r1.eth0"], "delay": "1ms"}],
    }
    with Engine(Topology.parse(document), time="virtual") as emu:
        assert emu.node("h1").statistics().memory_bytes <= 1024
        assert emu.node("r1").statistics().memory_bytes <= 2048
