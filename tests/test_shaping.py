"""From a link's parameters to what the engine is told, and changes to a link that runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from manystack import Engine, Topology
from manystack.errors import UsageError
from manystack.report.summary import pipe_table
from manystack.shaping import shaping_of
from manystack.topology import PipeParameters, TopologyError, changed_parameters
from manystack.topology.document import quantity
from manystack.topology.link.changes import nested
from manystack.topology.link.disciplines import KNOWN

HOSTS: dict[str, Any] = {
    name: {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{number}/24"]}}}
    for number, name in enumerate(("a", "b"), 1)
}


def network(traffic: dict[str, Any] | None = None, **link: Any) -> Topology:
    document: dict[str, Any] = {
        "manystack": 1,
        "nodes": HOSTS,
        "links": [{"ends": ["a.eth0", "b.eth0"]} | link],
        "traffic": [{"kind": "udp", "from": "a", "to": "b"} | traffic] if traffic else [],
    }
    return Topology.parse(document)


def told(**link: Any) -> Any:
    return shaping_of(network(**link).links[0].forward)


def test_what_a_plain_pipe_can_do_makes_no_shaper() -> None:
    assert told() is None
    assert told(bandwidth="1Mbit/s", overhead="ethernet", delay="5ms", loss="1%", queue="64KiB") is None
    assert told(queue={"discipline": "droptail", "drop": "tail"}, jitter="0ms", ber=0, reorder="0%") is None
    assert told(airtime="0ms") is None


@pytest.mark.parametrize(
    ("link", "settings"),
    [
        ({"cell": "atm"}, {"cell_bytes": 48, "cell_overhead_bytes": 5}),
        ({"bandwidth": "1Mbit/s", "burst": "2KiB"}, {"burst_bytes": 2048}),
        ({"ber": 1e-7}, {"bit_error": 1e-7}),
        ({"loss": {"rate": "1%", "ecn": True}}, {"loss_marks": True}),
        ({"loss": {"rate": "1%", "correlation": "5%"}}, {"loss_correlation": 0.05}),
        (
            {"loss": {"gilbert_elliott": {"p": "1%", "r": "5%"}}},
            {"loss_model": "gilbert_elliott", "loss_chain": (0.01, 0.05, 1.0, 0.0)},
        ),
        (
            {"loss": {"markov": {"p13": 0.1, "p31": 0.2, "p32": 0.3, "p23": 0.4, "p14": 0.5}}},
            {"loss_model": "markov", "loss_chain": (0.1, 0.2, 0.3, 0.4, 0.5)},
        ),
        (
            {"duplicate": {"rate": "1%", "correlation": "5%"}},
            {"duplicate": 0.01, "duplicate_correlation": 0.05},
        ),
        ({"corrupt": "1%"}, {"corrupt": 0.01}),
        ({"delay": "1ms", "reorder": {"rate": 1, "gap": 3}}, {"reorder": 1.0, "reorder_gap": 3}),
        (
            {"jitter": {"spread": "2ms", "correlation": "5%", "reorder": True}},
            {
                "jitter": ((0.0, 1.0), (-2_000_000, 2_000_000)),
                "jitter_correlation": 0.05,
                "jitter_overtakes": True,
            },
        ),
        (
            {"slots": {"interval": {"from": "1ms", "to": "3ms"}, "packets": 2, "bytes": "4KiB"}},
            {
                "slots": ((0.0, 1.0), (1_000_000, 3_000_000)),
                "slots_packets": 2,
                "slots_bytes": 4096,
            },
        ),
        (
            {"airtime": {"cdf": [[0, "1ms"], [1, "3ms"]], "loss_above": "86%"}},
            {"airtime": ((0.0, 1.0), (1_000_000, 3_000_000)), "airtime_loss_above": 0.86},
        ),
        ({"queue": {"drop": "head"}}, {"discipline": "droptail", "drops_head": True}),
        (
            {"queue": {"discipline": "codel", "target": "9ms"}},
            {
                "discipline": "codel",
                "drops_head": False,
                "ecn": False,
                "target_ns": 9_000_000,
                "interval_ns": 100_000_000,
            },
        ),
    ],
)
def test_what_the_engine_is_told(link: dict[str, Any], settings: dict[str, Any]) -> None:
    assert told(**link) == settings


def test_what_pie_can_do_is_told() -> None:
    queue = {"discipline": "pie", "alpha": "0.25Hz", "beta": "2500mHz", "capdrop": False}
    settings = told(bandwidth="1Mbit/s", queue=queue | {"derandomize": False, "onoff": True})
    assert (settings["alpha_microhertz"], settings["beta_microhertz"]) == (250_000, 2_500_000)
    assert (settings["caps"], settings["derandomizes"], settings["turns_off"]) == (False, False, True)


def test_recordings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("steps").write_text("0s,1Mbit/s\n1s,0\n")
    Path("chances").write_text("3\n3\n7\n")
    Path("fates").write_text("011")
    assert told(bandwidth={"trace": "steps", "repeat": True}) == {
        "rates": ((0, 10**9), (10**6, 0), 2 * 10**9)
    }
    assert told(bandwidth={"trace": "chances"}) == {
        "opportunities": ((3_000_000, 3_000_000, 7_000_000), 1500, 7_000_000)
    }
    assert told(loss={"trace": "fates"}) == {"loss_model": "recorded", "loss_fates": bytes([0, 1, 1])}


def test_a_mask_is_told() -> None:
    with_flows = [
        name for name in KNOWN if name in ("round_robin", "drr", "wfq", "qfq", "fq_codel", "fq_pie", "each")
    ]
    for discipline in with_flows:
        settings = told(
            queue={"discipline": discipline, "flows": 8, "mask": {"src_ip": "/24", "proto": "all"}}
            | ({"rate": "1Mbit/s"} if discipline == "each" else {})
        )
        assert settings["flows"] == 8
        assert settings["mask"] == (bytes(16), bytes(16), 0xFFFFFF00, 0, 0, 0, 0xFF)
    assert with_flows


@pytest.mark.parametrize("discipline", KNOWN)
def test_the_engine_takes_every_discipline(discipline: str) -> None:
    needed = {"red": {"min": "5KiB", "max": "50KiB"}, "each": {"rate": "1Mbit/s"}}.get(discipline, {})
    traffic = {"rate": "2Mbit/s", "size": "972B", "stop": "1s"}
    queue = {"discipline": discipline, "limit": "20packets", **needed}
    with Engine(network(traffic, bandwidth="1Mbit/s", queue=queue), time="virtual", seed=1) as engine:
        engine.run("2s")
        counters = engine.summary().links[0].counters
    assert counters["queue_drop_packets"] + counters["early_drop_packets"] > 0
    # A second of 2 Mbit/s through half of that, but for the rest of the queue.
    assert 100 < counters["delivered_packets"] < 150


def test_flows_that_have_a_link_each_change_live() -> None:
    traffic = {"rate": "8Mbit/s", "size": "972B", "stop": "1s"}
    queue = {"discipline": "each", "rate": "1Mbit/s"}
    with Engine(network(traffic, queue=queue), time="virtual", seed=1) as engine:
        link = engine.link("a.eth0", "b.eth0")
        engine.run("500ms")
        link.set(**{"queue.rate": "4Mbit/s"})
        assert link.parameters[0].queue.rate_bps == 4_000_000
        engine.run("500ms")
        counters = engine.summary().links[0].counters
    # A datagram of 972 bytes is a frame of 1014: 123 a second of 1 Mbit/s, 493 of 4.
    assert counters["delivered_packets"] in range(300, 312)


def test_counters_are_shown_where_something_happened() -> None:
    traffic = {"rate": "8Mbit/s", "size": "1000B", "stop": "1s"}
    link = {"delay": "5ms", "forward": {"duplicate": "10%", "corrupt": "10%", "reorder": "10%"}}
    with Engine(network(traffic, **link), time="virtual", seed=1) as engine:
        engine.run("2s")
        summary = engine.summary()
    head = pipe_table(summary.links)[0]
    assert head.split()[4:] == ["DUPLICATED", "CORRUPTED", "REORDERED"]
    with Engine(network(traffic, delay="5ms"), time="virtual", seed=1) as engine:
        engine.run("2s")
        assert pipe_table(engine.summary().links)[0].split() == ["LINK", "STATE", "SENT", "DELIVERED"]


# Live.


def test_airtime_changes_live() -> None:
    traffic = {"rate": "8Mbit/s", "size": "1000B", "stop": "1s"}
    with Engine(network(traffic), time="virtual", seed=1) as engine:
        link = engine.link("a.eth0", "b.eth0")
        link.set(airtime={"cdf": [[0, "10ms"], [1, "10ms"]]}, queue="5packets")
        engine.run("500ms")
        link.set(forward={"airtime.loss_above": "0%"})
        engine.run("250ms")
        link.set(airtime="0ms")
        assert link.parameters[0].airtime is None
        engine.run("1s")
        counters = engine.summary().links[0].counters
    # One each 10 ms arrives for 500 ms, and uses the link in vain for 250 ms; then all 1000 a second arrive.
    assert counters["loss_packets"] in range(24, 27)
    assert counters["delivered_packets"] in range(295, 310)


def test_a_link_is_set_by_text_and_by_mappings() -> None:
    with Engine(network(bandwidth="1Mbit/s"), time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        heard: list[str] = []
        engine.subscribe(lambda event: heard.append(event.detail))
        link.set(delay="5ms", jitter={"spread": "2ms"}, forward={"queue.discipline": "codel", "loss": "1%"})
        link.set(**{"jitter.correlation": "25%"}, reverse={"loss": {"rate": "2%"}})
        forward, reverse = link.parameters
        set_at_once, _ = changed_parameters(
            (PipeParameters(), PipeParameters()),
            nested(
                {
                    "bandwidth": "1Mbit/s",
                    "delay": "5ms",
                    "jitter": "{spread: 2ms, correlation: 25%}",
                    "queue": {"discipline": "codel"},
                    "loss": "1%",
                }
            ),
        )
        assert forward == set_at_once
        assert (reverse.queue.discipline, reverse.loss) == ("droptail", 0.02)
        assert heard[0].split() == [
            "delay=5ms",
            "jitter.spread=2ms",
            "forward.queue.discipline=codel",
            "forward.loss=1%",
        ]
        swapped = engine.link("b.eth0", "a.eth0")
        assert swapped.parameters == (reverse, forward)
        swapped.set(forward={"loss": "3%"})
        assert link.parameters[1].loss == 0.03


def test_a_text_is_read_once_where_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many directions and links it holds for; a change reads only what it names."""
    read: Counter[object] = Counter()
    parse = quantity._Quantity.parse

    def counted(kind: quantity._Quantity, value: object) -> int:
        read[value] += 1
        return parse(kind, value)

    monkeypatch.setattr(quantity._Quantity, "parse", counted)
    parameters = {"delay": "5ms", "queue": {"limit": "64KiB"}, "jitter": "1ms", "reverse": {"delay": "7ms"}}
    ends = [[f"{node}.eth{number}" for node in "ab"] for number in range(3)]
    nodes = {name: {"kind": "host", "interfaces": {f"eth{n}": {} for n in range(3)}} for name in "ab"}
    links = [{"ends": pair, **parameters} for pair in ends]
    links[2] |= {"bandwidth": "1Mbit/s"}
    topology = Topology.parse({"manystack": 1, "nodes": nodes, "links": links})
    # The third link is written in another way than the two before it.
    assert read == {"5ms": 2, "64KiB": 2, "1ms": 2, "7ms": 2, "1Mbit/s": 1}
    with Engine(topology, time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        read.clear()
        link.set(**{"jitter.spread": "2ms"}, delay="20ms", forward={"delay": "30ms"})
        assert read == {"2ms": 1, "20ms": 1, "30ms": 1}
        assert [pipe.delay_ns for pipe in link.parameters] == [30_000_000, 20_000_000]
        assert {pipe.queue_limit_bytes for pipe in link.parameters} == {65536}


def test_a_direction_is_set_by_its_own_mapping() -> None:
    with Engine(network(), time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        with pytest.raises(UsageError, match=r"^forward: give what is for one direction as forward=\{…\}$"):
            link.set(**{"forward.delay": "5ms"})
        assert link.parameters == (PipeParameters(), PipeParameters())


def test_mistakes_of_both_directions_are_told_at_once() -> None:
    with Engine(network(), time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        with pytest.raises(TopologyError) as caught:
            link.set(loss={"ecn": True}, forward={"burst": "1KiB"}, reverse={"reorder": "1%"})
        assert [error.place for error in caught.value.errors] == [
            "forward.burst",
            "loss.ecn",
            "reverse.reorder",
        ]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"forward": {"delay": "9ms"}, "reverse": {"delay": "9"}}, "reverse.delay"),
        ({"delay": "9ms", "loss": {"ecn": True}}, "loss.ecn"),
        ({"delay": "9ms", "reverse": {"queue.target": "5ms"}}, "reverse.queue.target"),
        ({"delay": "9ms", "reverse": {"jitter.table": "nowhere"}}, "reverse.jitter.table"),
        ({"delay": "9ms", "jitter.cdf": "[[0, 9ms], [1, 1ms]]"}, "jitter.cdf"),
        ({"delay": "9ms", "colour": "red"}, "colour"),
        ({"delay": "0ms"}, "reorder"),
    ],
)
def test_a_mistake_leaves_everything_as_it_was(changes: dict[str, Any], place: str) -> None:
    with Engine(network(delay="5ms", reorder=1e-12), time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        before = link.parameters
        with pytest.raises(TopologyError) as caught:
            link.set(**changes)
        assert place in {error.place for error in caught.value.errors}
        assert link.parameters == before
        assert engine.node("a").ping("b").rtt_ns == 15_000_000


def test_what_the_engine_does_not_take_leaves_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(network(delay="5ms"), time="virtual") as engine:
        link = engine.link("a.eth0", "b.eth0")
        engine.node("a").ping("b")
        set_pipe = engine.switch.set_pipe
        calls = []

        class Refusing:
            def set_pipe(self, pipe: int, **settings: Any) -> None:
                calls.append((pipe, settings["delay_ns"]))
                if len(calls) == 2:
                    raise ValueError("not this")
                set_pipe(pipe, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(engine.network, "switch", Refusing())
            with pytest.raises(UsageError, match="not this"):
                link.set(delay="9ms")
        assert [delay_ns for _, delay_ns in calls] == [9_000_000, 9_000_000, 5_000_000]
        assert link.parameters[0].delay_ns == 5_000_000
        assert engine.node("a").ping("b").rtt_ns == 10_000_000


def test_a_change_loses_nothing_that_waits_or_is_under_way() -> None:
    traffic = {"rate": "8Mbit/s", "size": "972B", "stop": "1s"}
    with Engine(
        network(traffic, bandwidth="9Mbit/s", delay="50ms", jitter="5ms"), time="virtual", seed=3
    ) as engine:
        link = engine.link("a.eth0", "b.eth0")
        engine.run("300ms")
        link.set(bandwidth="8.5Mbit/s", jitter="0ms", duplicate="5%")
        engine.run("300ms")
        link.set(queue={"discipline": "codel"}, delay="10ms", duplicate="0%")
        engine.run("2s")
        counters = engine.summary().links[0].counters
    arrived = counters["delivered_packets"] + counters["early_drop_packets"]
    assert counters["sent_packets"] + counters["duplicate_packets"] == arrived
    assert counters["duplicate_packets"] > 0
