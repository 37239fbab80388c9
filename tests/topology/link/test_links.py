"""Links: what each key of a direction becomes, what is wrong with one, and what a change leaves as it was."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manystack.core import _switch as core
from manystack.topology import PipeParameters, Topology, TopologyError, changed_parameters
from manystack.topology.link.changes import change_texts, nested
from manystack.topology.link.disciplines import ALL_BITS, DISCIPLINES, KNOWN, keys_of
from manystack.topology.link.values import (
    DEFAULT_QUEUE_PACKETS,
    Airtime,
    Chance,
    GilbertElliott,
    Jitter,
    Markov,
    Mask,
    Queue,
    Reorder,
    Slots,
    Variation,
)
from manystack.topology.link.writing import write_pipe

MS = 10**6
NODES: dict[str, Any] = {
    name: {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{number}/24"]}}}
    for number, name in enumerate(("a", "b"), 1)
}


def document(link: dict[str, Any]) -> dict[str, Any]:
    return {"manystack": 1, "nodes": NODES, "links": [{"ends": ["a.eth0", "b.eth0"]} | link]}


def read(link: dict[str, Any], folder: Path | None = None) -> tuple[PipeParameters, PipeParameters]:
    """Both directions of a link, whose topology is the same again when it is written and read."""
    topology = Topology.parse(document(link), folder)
    for defaults in (False, True):
        assert Topology.parse(topology.dump(defaults=defaults)) == topology
        assert Topology.parse(topology.dump(defaults=defaults, folder=folder), folder) == topology
    return topology.links[0].forward, topology.links[0].reverse


def mistakes(link: dict[str, Any], folder: Path | None = None) -> dict[str, str]:
    with pytest.raises(TopologyError) as caught:
        Topology.parse(document(link), folder)
    places = [error.place for error in caught.value.errors]
    assert len(places) == len(set(places))
    return {error.place.removeprefix("links[0]."): error.message for error in caught.value.errors}


def only(**fields: Any) -> PipeParameters:
    return PipeParameters(**fields)


def jitter(distribution: str, spread_ns: int = 2 * MS, **fields: Any) -> Jitter:
    return Jitter(variation=Variation(distribution=distribution, spread_ns=spread_ns), **fields)


AIRTIME = Variation(distribution="cdf", points=((0.0, MS), (1.0, 9 * MS)))


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("{overhead: ethernet}", only(overhead_bytes=24)),
        ("{overhead: hdlc}", only(overhead_bytes=10)),
        ("{overhead: -14B}", only(overhead_bytes=-14)),
        ("{cell: atm}", only(cell_bytes=48, cell_overhead_bytes=5)),
        ("{cell: atm, cell_overhead: 0B}", only(cell_bytes=48)),
        ("{cell: 53B, cell_overhead: 4B}", only(cell_bytes=53, cell_overhead_bytes=4)),
        ("{bandwidth: {rate: 1Mbit/s}}", only(bandwidth_bps=MS, queue_limit_packets=1000)),
        (
            "{bandwidth: 1Mbit/s, burst: 64KiB, queue: unlimited}",
            only(bandwidth_bps=MS, burst_bytes=65536),
        ),
        ("{jitter: 2ms}", only(jitter=jitter("uniform"))),
        ("{jitter: 0ms}", only()),
        ("{jitter: {spread: 2ms, distribution: pareto}}", only(jitter=jitter("pareto"))),
        (
            "{delay: 5ms, jitter: {spread: 2ms, distribution: normal, correlation: 25%, reorder: true}}",
            only(delay_ns=5 * MS, jitter=jitter("normal", correlation=0.25, reorders=True)),
        ),
        (
            "{jitter: {cdf: [[0, 1ms], [50%, 1ms], [1, 9ms]]}}",
            only(
                jitter=Jitter(
                    variation=Variation(distribution="cdf", points=((0.0, MS), (0.5, MS), (1.0, 9 * MS)))
                )
            ),
        ),
        (
            "{airtime: [[0, 1ms], [1, 9ms]]}",
            only(
                airtime=Airtime(variation=AIRTIME),
                queue_limit_packets=DEFAULT_QUEUE_PACKETS,
            ),
        ),
        (
            "{airtime: {cdf: [[0, 1ms], [1, 9ms]], loss_above: 86%}, queue: unlimited}",
            only(airtime=Airtime(variation=AIRTIME, loss_above=0.86)),
        ),
        ("{airtime: 0ms}", only()),
        ("{slots: 10ms}", only(slots=Slots(from_ns=10 * MS, to_ns=10 * MS))),
        (
            "{slots: {interval: {from: 5ms, to: 15ms}, packets: 8, bytes: 12KiB}}",
            only(slots=Slots(from_ns=5 * MS, to_ns=15 * MS, packets=8, bytes=12288)),
        ),
        (
            "{slots: {interval: {mean: 10ms, spread: 2ms, distribution: normal}}}",
            only(
                slots=Slots(
                    from_ns=10 * MS,
                    to_ns=10 * MS,
                    variation=Variation(distribution="normal", spread_ns=2 * MS),
                )
            ),
        ),
        (
            "{loss: {rate: 1%, correlation: 25%, ecn: true}}",
            only(loss=0.01, loss_correlation=0.25, loss_marks=True),
        ),
        (
            "{loss: {gilbert_elliott: {p: 1%, r: 10%, bad: 70%, good: 0.1%}}}",
            only(gilbert_elliott=GilbertElliott(p=0.01, r=0.1, bad=0.7, good=0.001)),
        ),
        (
            "{loss: {gilbert_elliott: {p: 1%, r: 10%}, ecn: true}}",
            only(gilbert_elliott=GilbertElliott(p=0.01, r=0.1, bad=1.0, good=0.0), loss_marks=True),
        ),
        (
            "{loss: {markov: {p13: 1%, p31: 70%, p32: 30%, p23: 40%, p14: 0.5%}}}",
            only(markov=Markov(p13=0.01, p31=0.7, p32=0.3, p23=0.4, p14=0.005)),
        ),
        ("{ber: 1e-7}", only(bit_error=1e-7)),
        ("{duplicate: 1%}", only(duplicate=Chance(rate=0.01))),
        ("{corrupt: {rate: 0.1%, correlation: 50%}}", only(corrupt=Chance(rate=0.001, correlation=0.5))),
        ("{delay: 5ms, reorder: 25%}", only(delay_ns=5 * MS, reorder=Reorder(rate=0.25))),
        (
            "{jitter: 2ms, reorder: {rate: 1, correlation: 50%, gap: 5}}",
            only(jitter=jitter("uniform"), reorder=Reorder(rate=1.0, correlation=0.5, gap=5)),
        ),
        ("{queue: {drop: head, limit: 64KiB}}", only(queue_limit_bytes=65536, queue=Queue(drop="head"))),
        (
            "{bandwidth: 1Mbit/s, queue: {discipline: codel, target: 20ms, ecn: true}}",
            only(
                bandwidth_bps=MS,
                queue_limit_packets=DEFAULT_QUEUE_PACKETS,
                queue=Queue(discipline="codel", ecn=True, target_ns=20 * MS, interval_ns=100 * MS),
            ),
        ),
    ],
)
def test_what_a_key_becomes(text: str, parameters: PipeParameters) -> None:
    assert read(yaml.safe_load(text)) == (parameters, parameters)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("{overhead: 24}", "overhead", "24 has no unit: write 24B"),
        ("{overhead: -70000B}", "overhead", "too small: at least -65535B"),
        ("{overhead: fddi}", "overhead", "not a size"),
        ("{cell: 70000B}", "cell", "allowed are 0B to 65535B"),
        ("{cell: 48}", "cell", "write 48B"),
        ("{cell: 48B, cell_overhead: 256B}", "cell_overhead", "allowed are 0B to 255B"),
        ("{cell_overhead: 5B}", "cell_overhead", "there are no cells: write cell: 48B"),
        ("{burst: 64KiB}", "burst", "goes with a constant bandwidth"),
        ("{bandwidth: 1Mbit/s, burst: 2GiB}", "burst", "allowed are 0B to 1073741824B"),
        ("{bandwidth: {rate: 1Mbit/s, trace: x}}", "bandwidth", "two rate models: choose one"),
        ("{bandwidth: {repeat: true}}", "bandwidth.trace", "is missing: name the file"),
        ("{bandwidth: {trace: nowhere.csv}}", "bandwidth.trace", "No such file"),
        ("{bandwidth: {trace: x, format: pcap}}", "bandwidth.format", "allowed: 'csv' or 'mahimahi'"),
        ("{bandwidth: {trace: x, repeat: 1}}", "bandwidth.repeat", "must be true or false, not 1"),
        ("{bandwidth: {trace: 5}}", "bandwidth.trace", "must be the name of a file, not 5"),
        ("{bandwidth: {tracee: x}}", "bandwidth.tracee", "did you mean trace?"),
        ("{jitter: 2}", "jitter", "write 2ms"),
        ("{jitter: {spread: 2}}", "jitter.spread", "write 2ms"),
        ("{jitter: 1001s}", "jitter", "at most 1000s"),
        (
            "{jitter: {spread: 2ms, distribution: cauchy}}",
            "jitter.distribution",
            "allowed: 'uniform', 'normal'",
        ),
        ("{jitter: {distribution: normal}}", "jitter.distribution", "there is no spread"),
        ("{jitter: {correlation: 25%}}", "jitter.correlation", "there is no jitter"),
        ("{jitter: {spread: 2ms, correlation: 125%}}", "jitter.correlation", "not between 0% and 100%"),
        (
            "{jitter: {spread: 2ms, distribution: normal, table: x}}",
            "jitter",
            "distribution and table are two ways",
        ),
        ("{jitter: {spread: 2ms, cdf: [[0, 1ms], [1, 2ms]]}}", "jitter.spread", "says itself how far"),
        (
            "{jitter: {cdf: [[0, 1ms], [50%, 2ms], [40%, 3ms], [1, 4ms]]}}",
            "jitter.cdf",
            "point 3: a CDF rises: the probability 0.4",
        ),
        ("{jitter: {cdf: [[0, 2ms], [1, 1ms]]}}", "jitter.cdf", "point 2: a CDF rises: the delay 1000000ns"),
        ("{jitter: {cdf: [[0, 2ms], [50%, 3ms]]}}", "jitter.cdf", "ends with the probability 1, not 0.5"),
        ("{jitter: {cdf: [[10%, 2ms], [1, 3ms]]}}", "jitter.cdf", "begins with the probability 0, not 0.1"),
        ("{jitter: {cdf: [[0, 2ms], [1, 3]]}}", "jitter.cdf", "point 2: 3 has no unit: write 3ms"),
        ("{jitter: {cdf: [[0, 2ms], 7]}}", "jitter.cdf", "point 2 is no pair"),
        ("{jitter: {cdf: []}}", "jitter.cdf", "at least one point"),
        ("{slots: {packets: 5}}", "slots.packets", "there are no slots"),
        ("{slots: {interval: {from: 5ms, to: 1ms}}}", "slots.interval.to", "is less than from"),
        ("{slots: {interval: {from: 5ms, mean: 1ms}}}", "slots.interval", "two ways to say one thing"),
        (
            "{slots: {interval: {mean: 1ms, distribution: normal}}}",
            "slots.interval.distribution",
            "there is no spread",
        ),
        ("{slots: {interval: 10}}", "slots.interval", "write 10ms"),
        ("{slots: {interval: 10ms, bytes: 5}}", "slots.bytes", "write 5B"),
        ("{loss: {rate: 101%}}", "loss.rate", "between 0% and 100%"),
        (
            "{loss: {rate: 1%, gilbert_elliott: {p: 1%, r: 1%}}}",
            "loss",
            "rate and gilbert_elliott are two ways",
        ),
        ("{loss: {markov: {p13: 1%, p31: 1%}, trace: x}}", "loss", "markov and trace are two ways"),
        ("{loss: {gilbert_elliott: {p: 1%}}}", "loss.gilbert_elliott.r", "is missing"),
        (
            "{loss: {gilbert_elliott: {p: 1%, r: 1%, h: 1%}}}",
            "loss.gilbert_elliott.h",
            "allowed: p, r, bad, good",
        ),
        ("{loss: {markov: {p13: 60%, p31: 1%, p14: 50%}}}", "loss.markov", "p13 + p14 are more than 100%"),
        ("{loss: {markov: {p13: 1%}}}", "loss.markov.p31", "is missing"),
        ("{loss: {ecn: true}}", "loss.ecn", "there is no loss"),
        ("{loss: {correlation: 25%}}", "loss.correlation", "goes with a rate"),
        ("{loss: {trace: nowhere}}", "loss.trace", "No such file"),
        ("{ber: 1000000}", "ber", "one wrong bit in 1000000 is 1e-06"),
        ("{ber: 1}", "ber", "would lose every frame"),
        ("{ber: -0.1}", "ber", "not between 0% and 100%"),
        ("{airtime: {loss_above: 86%}}", "airtime.loss_above", "there is no airtime"),
        ("{airtime: {cdf: [[0, 2ms], [1, 1ms]]}}", "airtime.cdf", "point 2"),
        ("{airtime: nowhere}", "airtime.cdf", "nowhere"),
        ("{airtime: 5ms}", "airtime", "write [[0, 5ms], [1, 5ms]]"),
        ("{airtime: {cdf: [[0, 0ms], [1, 5ms]], loss_above: 101%}}", "airtime.loss_above", "0% and 100%"),
        (
            "{bandwidth: 1Mbit/s, burst: 64KiB, airtime: [[0, 0ms], [1, 5ms]]}",
            "airtime",
            "an occupied link saves nothing up",
        ),
        ("{duplicate: 5}", "duplicate", "write 5%"),
        ("{duplicate: {correlation: 5%}}", "duplicate.correlation", "there is no rate"),
        ("{corrupt: {rate: 5%, gap: 2}}", "corrupt.gap", "allowed: rate, correlation"),
        ("{reorder: 25%}", "reorder", "without delay or jitter there is nobody to overtake"),
        ("{delay: 5ms, reorder: {gap: 5}}", "reorder.gap", "there is no rate"),
        ("{delay: 5ms, reorder: {rate: 5%, gap: 0}}", "reorder.gap", "0 is too small: at least 1"),
        (
            "{queue: {discipline: fifo}}",
            "queue.discipline",
            "'fifo' is not known here; allowed: droptail, ",
        ),
        (
            "{queue: {target: 5ms}}",
            "queue.target",
            "droptail has no target (allowed: limit, discipline, drop)",
        ),
        (
            "{queue: {discipline: codel, drop: head}}",
            "queue.drop",
            "codel has no drop (allowed: limit, discipline, ecn, target, interval)",
        ),
        ("{queue: {discipline: codel, target: 5}}", "queue.target", "write 5ms"),
        ("{queue: {discipline: codel, target: 0ms}}", "queue.target", "too short"),
        ("{queue: {discipline: pie, alpha: 0.125}}", "queue.alpha", "write 0.125Hz"),
        ("{queue: {discipline: pie, beta: 8Hz}}", "queue.beta", "too large: at most 7Hz"),
        (
            "{queue: {discipline: pie, onoff: true}}",
            "queue.onoff",
            "there is no limit to be filled to a third",
        ),
        ("{queue: {discipline: fq_pie, capdrop: 2%}}", "queue.capdrop", "must be true or false"),
        ("{queue: {drop: middle}}", "queue.drop", "allowed: 'tail' or 'head'"),
        ("{queue: {ecn: maybe}}", "queue.ecn", "must be true or false"),
        ("{queue: {flows: 0}}", "queue.flows", "at least 1"),
        ("{queue: {quantum: 0B}}", "queue.quantum", "allowed are 1B to"),
        ("{queue: {discipline: each}}", "queue.rate", "is missing: each needs a bandwidth such as 1Mbit/s"),
        ("{queue: {discipline: each, rate: 10}}", "queue.rate", "write 10Mbit/s"),
        ("{queue: {discipline: each, rate: 99bit/s}}", "queue.rate", "too slow"),
        (
            "{queue: {discipline: each, rate: unlimited}}",
            "queue.rate",
            "no rate for a flow: allowed are 100bit/s to 1Tbit/s",
        ),
        ("{queue: {averaging: 500packets}}", "queue.averaging", "no power of 2 up to 2^31: write 256packets"),
        ("{queue: {averaging: 512}}", "queue.averaging", "write 512packets"),
        ("{queue: {weights: [1, 2]}}", "queue.weights", "eight whole numbers from 1 to 1000"),
        ("{queue: {mask: {src_ip: /33}}}", "queue.mask.src_ip", "no mask of 32 bits: write /16, all"),
        ("{queue: {mask: {dst_port: 70000}}}", "queue.mask.dst_port", "no mask of 16 bits"),
        ("{queue: {mask: some}}", "queue.mask", "must be a mapping"),
        ("{colour: red}", "colour", "unknown key 'colour'"),
    ],
)
def test_one_mistake(text: str, place: str, said: str) -> None:
    link = yaml.safe_load(text)
    found = mistakes(link)
    assert list(found) == [place]
    assert said in found[place]
    # The same in one direction, under its name.
    found = mistakes({"reverse": link})
    assert list(found) == [f"reverse.{place}"]
    assert said in found[f"reverse.{place}"]
    # And live, where what was set stays as it was.
    with pytest.raises(TopologyError) as caught:
        changed_pipe(PipeParameters(), link)
    assert [error.place for error in caught.value.errors] == [place]
    with pytest.raises(TopologyError) as caught:
        changed_pipe(PipeParameters(), {"reverse": link})
    assert [error.place for error in caught.value.errors] == [f"reverse.{place}"]


def test_every_discipline_of_the_engine_can_be_asked_for() -> None:
    assert set(KNOWN) == set(core.DISCIPLINES)


@pytest.mark.parametrize("discipline", KNOWN)
def test_a_discipline_has_its_own_settings_only(discipline: str) -> None:
    needed = {"red": {"min": "5KiB", "max": "50KiB"}, "each": {"rate": "1Mbit/s"}}.get(discipline, {})
    forward, _ = read({"bandwidth": "1Mbit/s", "queue": {"discipline": discipline, **needed}})
    has = {field for field in Queue.model_fields if getattr(forward.queue, field) is not None}
    assert has == {"discipline", *DISCIPLINES[discipline]}
    foreign = {"drop": "tail", "target": "5ms", "flows": 8, "weights": [1] * 8, "min": "1KiB"}
    foreign |= {"rate": "1Mbit/s"}
    for key, value in foreign.items():
        if key not in keys_of(discipline):
            found = mistakes({"queue": {"discipline": discipline, **needed, key: value}})
            assert f"{discipline} has no {key} (allowed: limit, discipline" in found[f"queue.{key}"]


def test_several_mistakes_of_one_link_in_one_go() -> None:
    link = {
        "burst": "1KiB",
        "loss": {"ecn": True},
        "forward": {"reorder": "1%"},
        "reverse": {"burst": "2KiB"},
    }
    assert sorted(mistakes(link)) == ["burst", "forward.reorder", "loss.ecn", "reverse.burst"]


def test_a_direction_changes_what_it_names() -> None:
    queue = {"limit": "50packets", "discipline": "codel", "target": "20ms"}
    forward, reverse = read(
        {
            "bandwidth": "1Mbit/s",
            "delay": "5ms",
            "jitter": "2ms",
            "loss": {"rate": "1%", "correlation": "25%"},
            "queue": queue,
            "forward": {"jitter": {"correlation": "50%"}, "loss": "2%", "queue": {"ecn": True}},
            "reverse": {
                "jitter": "0ms",
                "loss": {"gilbert_elliott": {"p": "1%", "r": "5%"}},
                "queue": "9packets",
            },
        }
    )
    assert forward.jitter == jitter("uniform", correlation=0.5)
    assert (forward.loss, forward.loss_correlation) == (0.02, 0.25)
    assert forward.queue == Queue(discipline="codel", ecn=True, target_ns=20 * MS, interval_ns=100 * MS)
    assert forward.queue_limit_packets == 50
    assert reverse.jitter is None
    assert (reverse.loss, reverse.loss_correlation) == (0.0, 0.0)
    assert reverse.gilbert_elliott == GilbertElliott(p=0.01, r=0.05)
    assert (reverse.queue_limit_packets, reverse.queue.target_ns) == (9, 20 * MS)


# Changes.


def changed_pipe(base: PipeParameters, change: dict[str, Any]) -> PipeParameters:
    """What a change of both directions makes of one of them."""
    return changed_parameters((base, base), change)[0]


def changed(base: PipeParameters, *settings: str) -> PipeParameters:
    """What `emu link set` makes of settings such as `loss.rate=1%`."""
    return changed_pipe(base, nested(dict(setting.split("=", 1) for setting in settings)))


def test_what_is_not_named_stays() -> None:
    pipe = changed(
        PipeParameters(), "delay=5ms", "jitter={spread: 2ms, distribution: normal}", "loss.rate=1%"
    )
    pipe = changed(
        pipe, "jitter.correlation=25%", "loss.ecn=true", "duplicate=1%", "reorder.rate=1%", "reorder.gap=3"
    )
    assert pipe == only(
        delay_ns=5 * MS,
        jitter=jitter("normal", correlation=0.25),
        loss=0.01,
        loss_marks=True,
        duplicate=Chance(rate=0.01),
        reorder=Reorder(rate=0.01, gap=3),
    )
    pipe = changed(pipe, "jitter=4ms", "delay=1ms")
    assert pipe.jitter == jitter("normal", 4 * MS, correlation=0.25)
    assert (
        changed(pipe, "jitter=0ms", "loss=0%", "duplicate=0%", "reorder=0%", "delay=0ms") == PipeParameters()
    )


@pytest.mark.parametrize(
    ("before", "after", "parameters"),
    [
        (
            "loss=1%",
            "loss.gilbert_elliott={p: 1%, r: 10%}",
            only(gilbert_elliott=GilbertElliott(p=0.01, r=0.1)),
        ),
        (
            "loss.gilbert_elliott={p: 1%, r: 10%}",
            "loss.gilbert_elliott.bad=50%",
            only(gilbert_elliott=GilbertElliott(p=0.01, r=0.1, bad=0.5)),
        ),
        (
            "loss={gilbert_elliott: {p: 1%, r: 10%}, ecn: true}",
            "loss.rate=2%",
            only(loss=0.02, loss_marks=True),
        ),
        ("loss={gilbert_elliott: {p: 1%, r: 10%}, ecn: true}", "loss=0%", only()),
        ("jitter.cdf=[[0, 1ms], [1, 2ms]]", "jitter=2ms", only(jitter=jitter("uniform"))),
        (
            "slots.interval={from: 5ms, to: 9ms}",
            "slots.interval=7ms",
            only(slots=Slots(from_ns=7 * MS, to_ns=7 * MS)),
        ),
        (
            "slots.interval={from: 5ms, to: 9ms}",
            "slots.packets=3",
            only(slots=Slots(from_ns=5 * MS, to_ns=9 * MS, packets=3)),
        ),
        ("slots={interval: 5ms, packets: 3}", "slots=0ms", only()),
        (
            "airtime={cdf: [[0, 1ms], [1, 9ms]], loss_above: 86%}",
            "airtime.loss_above=90%",
            only(
                airtime=Airtime(variation=AIRTIME, loss_above=0.9), queue_limit_packets=DEFAULT_QUEUE_PACKETS
            ),
        ),
        ("airtime={cdf: [[0, 1ms], [1, 9ms]], loss_above: 86%}", "airtime=0ms", only()),
        ("cell=atm", "cell=0B", None),
        ("cell=atm", "cell=53B", only(cell_bytes=53, cell_overhead_bytes=5)),
        ("cell=53B", "cell=atm", only(cell_bytes=48, cell_overhead_bytes=5)),
        (
            "queue={limit: 9packets, discipline: codel, target: 9ms}",
            "queue.discipline=droptail",
            only(queue_limit_packets=9),
        ),
        (
            "queue={limit: 9packets, drop: head}",
            "queue.discipline=droptail",
            only(queue_limit_packets=9, queue=Queue(drop="head")),
        ),
        (
            "queue={limit: 9packets, drop: head}",
            "queue=64KiB",
            only(queue_limit_bytes=65536, queue=Queue(drop="head")),
        ),
    ],
)
def test_one_way_to_say_a_thing_takes_the_place_of_another(
    before: str, after: str, parameters: PipeParameters | None
) -> None:
    pipe = changed(PipeParameters(), before)
    if parameters is None:
        with pytest.raises(TopologyError, match="cell_overhead: there are no cells"):
            changed(pipe, after)
    else:
        assert changed(pipe, after) == parameters


def test_the_queue_of_a_bandwidth_goes_with_it() -> None:
    limited = changed(PipeParameters(), "bandwidth=1Mbit/s", "queue.discipline=codel")
    assert limited.queue_limit_packets == DEFAULT_QUEUE_PACKETS
    assert changed(limited, "bandwidth=unlimited").queue_limit_packets is None
    paced = changed(PipeParameters(), "queue.discipline=each", "queue.rate=1Mbit/s")
    assert paced.queue_limit_packets == DEFAULT_QUEUE_PACKETS
    assert changed(paced, "queue.discipline=droptail").queue_limit_packets is None


def test_changes_as_text() -> None:
    settings = {"loss": {"rate": "1%", "ecn": "true"}, "queue.limit": "9packets", "ber": "1e-7"}
    document = {"loss": {"rate": "1%", "ecn": True}, "queue": {"limit": "9packets"}, "ber": 1e-7}
    assert nested(settings) == document
    assert list(change_texts("forward.", settings)) == [
        "forward.loss.rate=1%",
        "forward.loss.ecn=true",
        "forward.queue.limit=9packets",
        "forward.ber=1e-7",
    ]
    assert nested({"loss": "1%", "loss.ecn": "true"}) == {"loss": {"rate": "1%", "ecn": True}}
    with pytest.raises(TopologyError, match=r"^reverse\.jitter\.cdf: not YAML"):
        nested({"jitter.cdf": "[[0, 1ms]"}, "reverse.")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["loss.rate=5%", "loss.gilbert_elliott={p: 1%, r: 5%}"],
            "loss: rate and gilbert_elliott are two ways",
        ),
        (["bandwidth.trace=x", "bandwidth=5Mbit/s"], "bandwidth: a rate and a trace are two rate models"),
        (["jitter=2ms", "jitter.spread=3ms"], "jitter.spread: is there twice"),
        (["jitter={spread: 2ms}", "jitter.spread=3ms"], "jitter.spread: is there twice"),
        (["queue.mask=all", "queue.mask.src_ip=all"], "queue.mask: is there twice"),
        (["delay={a: 1}", "delay.b=2"], "delay: must be a duration"),
    ],
)
def test_settings_of_one_change_that_exclude_each_other(settings: list[str], said: str) -> None:
    """One of a later change takes the other's place."""
    for order in (settings, settings[::-1]):
        with pytest.raises(TopologyError) as caught:
            changed(PipeParameters(), *order)
        assert str(caught.value).startswith(said)


# Any of them, written and read again.

RATIOS = st.floats(0, 1, allow_subnormal=False)
RATES = st.floats(1e-12, 1, allow_subnormal=False)
TIMES = st.integers(1, 10**12)
COUNTS = st.integers(0, 2**30)
VARIATIONS = st.builds(
    Variation,
    distribution=st.sampled_from(["uniform", "normal", "pareto", "paretonormal"]),
    spread_ns=TIMES,
)
CDFS = st.lists(st.tuples(RATIOS, TIMES), max_size=5).map(
    lambda points: Variation(
        distribution="cdf",
        points=tuple(
            zip(
                [0.0, *sorted(share for share, _ in points), 1.0],
                [0, *sorted(delay for _, delay in points), 10**12],
                strict=True,
            )
        ),
    )
)
SLOTS = st.builds(
    lambda bounds, variation, packets, size: Slots(
        from_ns=min(bounds),
        to_ns=min(bounds) if variation else max(bounds),
        variation=variation,
        packets=packets,
        bytes=size,
    ),
    st.tuples(TIMES, TIMES),
    st.none() | VARIATIONS | CDFS,
    COUNTS,
    COUNTS,
)
CHANCES = st.just(Chance()) | st.builds(Chance, rate=RATES, correlation=RATIOS)
REORDERS = st.just(Reorder()) | st.builds(Reorder, rate=RATES, correlation=RATIOS, gap=st.integers(1, 2**30))
LOSSES: Any = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"loss": RATES, "loss_correlation": RATIOS, "loss_marks": st.booleans()}),
    st.fixed_dictionaries(
        {
            "gilbert_elliott": st.builds(GilbertElliott, p=RATIOS, r=RATIOS, bad=RATIOS, good=RATIOS),
            "loss_marks": st.booleans(),
        }
    ),
    st.builds(
        lambda p13, p31: {"markov": Markov(p13=p13, p31=p31, p32=1 - p31, p23=p13, p14=1 - p13)},
        RATIOS,
        RATIOS,
    ),
)
SETTINGS: dict[str, Any] = {
    "drop": st.sampled_from(["tail", "head"]),
    "ecn": st.booleans(),
    "gentle": st.booleans(),
    "target_ns": TIMES,
    "interval_ns": TIMES,
    "burst_ns": TIMES,
    "min_bytes": st.integers(0, 1000),
    "max_bytes": st.integers(1001, 2**30),
    "probability": RATIOS,
    "mark_below": RATIOS,
    "alpha_microhertz": st.integers(0, 7 * 10**6),
    "beta_microhertz": st.integers(0, 7 * 10**6),
    "capdrop": st.booleans(),
    "derandomize": st.booleans(),
    "onoff": st.booleans(),
    "averaging_packets": st.integers(0, 31).map(lambda shift: 1 << shift),
    "quantum_bytes": st.integers(1, 2**30),
    "rate_bps": st.integers(100, 10**12),
    "flows": st.integers(1, 65536),
    "weights": st.tuples(*[st.integers(1, 1000)] * 8),
    "mask": st.just(ALL_BITS)
    | st.builds(
        Mask,
        src_ip=st.integers(0, 2**32 - 1),
        dst_ip6=st.integers(0, 2**128 - 1),
        src_port=st.integers(0, 2**16 - 1),
        proto=st.integers(0, 2**8 - 1),
    ),
}
QUEUES = st.sampled_from(KNOWN).flatmap(
    lambda discipline: st.builds(
        Queue, discipline=st.just(discipline), **{field: SETTINGS[field] for field in DISCIPLINES[discipline]}
    )
)
# A third of no limit is never filled, and an occupied link saves nothing up.
PIPES = st.builds(
    lambda losses, fields: PipeParameters(
        **fields
        | ({"queue_limit_packets": 50} if fields["queue"].onoff else {})
        | ({"burst_bytes": 0} if fields["airtime"] else {}),
        **losses,
    ),
    LOSSES,
    st.fixed_dictionaries(
        {
            "bandwidth_bps": st.integers(100, 10**12),
            "overhead_bytes": st.integers(-65535, 65535),
            "cell_bytes": st.integers(1, 65535),
            "cell_overhead_bytes": st.integers(0, 255),
            "burst_bytes": COUNTS,
            "delay_ns": st.integers(1, 10**15),
            "airtime": st.none() | st.builds(Airtime, variation=CDFS, loss_above=RATIOS),
            "jitter": st.none()
            | st.builds(Jitter, variation=VARIATIONS | CDFS, correlation=RATIOS, reorders=st.booleans()),
            "slots": st.none() | SLOTS,
            "bit_error": st.floats(0, 0.999, allow_subnormal=False),
            "duplicate": CHANCES,
            "corrupt": CHANCES,
            "reorder": REORDERS,
            "queue_limit_packets": st.none() | st.integers(1, 2**31 - 1),
            "queue": QUEUES,
        }
    ),
)


@given(PIPES, PIPES, st.booleans())
def test_any_link_is_the_same_again(forward: PipeParameters, reverse: PipeParameters, defaults: bool) -> None:
    link = {"forward": write_pipe(forward, defaults), "reverse": write_pipe(reverse, defaults)}
    assert read(link) == (forward, reverse)


@given(PIPES, PIPES)
def test_any_change_of_everything_leaves_nothing_behind(
    before: PipeParameters, after: PipeParameters
) -> None:
    everything = write_pipe(after, defaults=True)
    assert changed_pipe(before, everything) == after
    assert changed_pipe(before, {}) == before
    assert changed_parameters((before, after), {}) == (before, after)
    assert changed_parameters((before, after), {"forward": everything}) == (after, after)


def test_masks_may_be_addresses() -> None:
    mask = Mask(src_ip=int(IPv4Address("255.255.0.255")), dst_ip=2**32 - 2**8, dst_port=0xFF00)
    discipline = next((name for name in KNOWN if "mask" in DISCIPLINES[name]), None)
    if discipline is not None:
        written = {"src_ip": "255.255.0.255", "dst_ip": "/24", "dst_port": "0xff00"}
        forward, _ = read({"queue": {"discipline": discipline, "mask": written}})
        assert forward.queue.mask == mask
