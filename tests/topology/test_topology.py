"""The model: what a document becomes, and every mistake with its place."""

import copy
import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manystack.topology import (
    PipeParameters,
    TimeMode,
    Topology,
    TopologyError,
    changed_parameters,
    generate,
)
from manystack.topology.document.errors import below
from manystack.topology.document.files import encode
from manystack.topology.link.values import DEFAULT_QUEUE_PACKETS

OFFICE: dict[str, Any] = json.loads((Path(__file__).parent / "office.json").read_text())
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def mistakes(document: Any) -> dict[str, str]:
    with pytest.raises(TopologyError) as caught:
        Topology.parse(document)
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]
    return {error.place: error.message for error in caught.value.errors}


def changed(path: str, value: object) -> dict[str, Any]:
    """The office with something else at a path such as "links/1/delay"; None takes it out."""
    document = copy.deepcopy(OFFICE)
    part: Any = document
    *steps, last = path.split("/")
    for step in steps:
        part = part[int(step) if isinstance(part, list) else step]
    if isinstance(part, list):
        part[int(last)] = value
    elif value is None:
        del part[last]
    else:
        part[last] = value
    return document


def place_of(path: str) -> str:
    place = ""
    for step in path.split("/"):
        place = below(place, int(step) if step.isdecimal() else step)
    return place


def test_what_a_document_becomes() -> None:
    office = Topology.parse(OFFICE)
    assert (office.name, office.seed, office.routes) == ("office", 7, "shortest")
    assert office.time == TimeMode(kind="dilated", factor=10)
    assert list(office.nodes) == ["h1", "h2", "r1", "sw", "site"]

    h1 = office.nodes["h1"]
    assert h1.interfaces["eth0"].addresses == [IPv4Interface("10.0.0.10/24")]
    assert (h1.interfaces["eth0"].mtu, h1.interfaces["eth0"].mac) == (9000, bytes.fromhex("02000000000a"))
    assert [(route.to, route.via) for route in h1.routes] == [
        (IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.1")),
        (IPv4Network("10.9.0.0/16"), None),
    ]
    site = office.nodes["site"]
    assert (site.device, site.namespace, site.mtu) == ("emu0", "site", 1400)
    assert site.addresses == [IPv4Interface("192.168.0.2/24")]

    assert [tuple(map(str, link.ends)) for link in office.links] == [
        ("h1.eth0", "sw.port1"),
        ("sw.port2", "h2.eth0.10"),
        ("sw.port0", "r1.eth0"),
        ("r1.eth1", "site.emu0"),
    ]
    assert list(office.nodes["sw"].interfaces) == ["port1", "port2", "port0"]
    assert list(site.interfaces) == ["emu0"]

    ideal, fast, slow, wide = office.links
    assert ideal.forward == ideal.reverse == PipeParameters()
    assert fast.forward == PipeParameters(bandwidth_bps=10**9, overhead_bytes=24, queue_limit_bytes=65536)
    assert slow.reverse == PipeParameters(delay_ns=10**6, queue_limit_packets=10)
    assert wide.forward == PipeParameters(
        bandwidth_bps=10**7, delay_ns=5 * 10**6, loss=0.001, queue_limit_packets=DEFAULT_QUEUE_PACKETS
    )
    assert wide.reverse == PipeParameters(bandwidth_bps=10**6, delay_ns=15 * 10**6, loss=1e-7)

    ping, udp, endless = office.traffic
    assert (ping.kind, ping.from_, ping.to, ping.destination) == (
        "ping",
        "h1",
        "192.168.0.2",
        IPv4Address("192.168.0.2"),
    )
    assert (ping.interval_ns, ping.count, ping.size_bytes, ping.ttl) == (10**8, 50, 56, 3)
    assert (udp.destination, udp.rate_bps, udp.size_bytes) == (IPv4Address("192.168.0.2"), 8 * 10**6, 1200)
    assert (udp.start_ns, udp.stop_ns) == (10**9, 9 * 10**9)
    assert (endless.interval_ns, endless.count, endless.stop_ns) == (10**9, None, None)


@pytest.mark.parametrize("defaults", [False, True])
@pytest.mark.parametrize("path", [None, *EXAMPLES], ids=lambda path: path.stem if path else "office")
def test_a_dump_is_the_same_topology(tmp_path: Path, path: Path | None, defaults: bool) -> None:
    topology = Topology.load(path) if path else Topology.parse(OFFICE)
    document = topology.dump(defaults=defaults)
    assert Topology.parse(document) == topology
    for form in ("msgpack", "yaml", "json"):
        file = tmp_path / f"copy.{form}"
        file.write_bytes(encode(document, form))
        assert Topology.load(file) == topology


def test_all_defaults_are_written() -> None:
    document = Topology.parse(generate("chain", [1])).dump(defaults=True)
    assert document["time"] == "real"
    assert document["seed"] == 0
    assert document["nodes"]["h1"]["interfaces"]["eth0"]["mtu"] == 1500
    assert document["links"][0] == {
        "ends": ["h1.eth0", "r1.eth0"],
        "bandwidth": "unlimited",
        "overhead": "0B",
        "cell": "0B",
        "cell_overhead": "0B",
        "burst": "0B",
        "airtime": "0ns",
        "delay": "0ns",
        "jitter": "0ns",
        "slots": "0ns",
        "loss": "0%",
        "ber": 0.0,
        "duplicate": "0%",
        "corrupt": "0%",
        "reorder": "0%",
        "queue": {"limit": "unlimited", "discipline": "droptail", "drop": "tail"},
    }
    assert document["traffic"][0]["size"] == "56B"


ETH0 = "nodes/h1/interfaces/eth0"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("manystack", 2, "schema version 1, not 2"),
        ("manystack", True, "schema version 1"),
        ("manystack", None, "is missing: write manystack: 1"),
        ("links", {}, "must be a list, not a mapping"),
        ("name", "my office", "letters, digits, - and _"),
        ("name", 5, "letters, digits, - and _"),
        ("tine", "real", "did you mean time?"),
        ("time", "fast", "real, virtual, or x10"),
        ("time", "x0", "real, virtual, or x10"),
        ("seed", -1, "-1 is too small: at least 0"),
        ("seed", 2**64, f"is too large: at most {2**64 - 1}"),
        ("seed", "7", "whole number"),
        ("routes", "longest", "allowed: 'shortest'"),
        ("nodes/h 1", {"kind": "host"}, "letters, digits, - and _"),
        ("nodes/h1/kind", "hots", "unknown kind 'hots'; did you mean host? (allowed: host, router"),
        ("nodes/h1/kind", None, "is missing: write one of host, router, switch, hub, tap, nic"),
        ("nodes/h1/kind", ["host"], "unknown kind a list"),
        ("nodes/h1", "host", "must be a mapping with a kind, not 'host'"),
        ("nodes/h1/device", "emu0", "unknown key 'device'"),
        ("nodes/h1/daemons", [{"run": "rip"}], "not in this version"),
        ("nodes/sw/interfaces", {}, "unknown key"),
        ("nodes/h2/interfaces/spare", [], "must be a mapping, not a list"),
        ("nodes/h2/interfaces/e h", {}, "letters, digits, -, _ and ."),
        (ETH0 + "/mtu", 10, "68 to 65535"),
        (ETH0 + "/mtu", 65536, "68 to 65535"),
        (ETH0 + "/mtu", "1500B", "a number of bytes"),
        (ETH0 + "/mac", "02:00", "write text such as"),
        (ETH0 + "/mac", "03:00:00:00:00:01", "a group's"),
        (ETH0 + "/addres", [], "did you mean addresses?"),
        (ETH0 + "/addresses/0", "10.0.0.1/33", "0 to 32"),
        (ETH0 + "/addresses/0", "10.0.0.1", "10.0.0.1/24"),
        (ETH0 + "/addresses/0", "10.0.0/24", "not an IPv4"),
        (ETH0 + "/addresses/0", "10.0.0.0/24", "the network"),
        (ETH0 + "/addresses/0", "10.0.0.255/24", "broadcast"),
        (ETH0 + "/addresses/0", "224.0.0.1/24", "cannot be"),
        (ETH0 + "/addresses/0", "fd00::1/64", "IPv6 is not in"),
        (ETH0 + "/addresses/0", 167772161, "as text"),
        (ETH0 + "/addresses", "10.0.0.1/24", "must be a list"),
        ("nodes/r1/interfaces/eth1/addresses/0", "10.0.1.9/24", "10.0.1.0/24 is on eth0 already"),
        ("nodes/r1/interfaces/lo/addresses/0", "192.168.0.1/32", "192.168.0.1 is there already, at nodes.r1"),
        ("nodes/h2/interfaces/eth0.10/addresses/0", "10.0.0.10/24", "on the same link"),
        ("nodes/h1/routes/0/via", "10.7.0.1", "on no subnet of the node (its subnets: 10.0.0.0/24)"),
        ("nodes/h1/routes/0/via", "10.0.0.10", "the node's own address"),
        ("nodes/h1/routes/0/via", "fd00::1", "IPv6 is not in"),
        ("nodes/h1/routes/0/to", "10.0.0.1/8", "write 10.0.0.0/8"),
        ("nodes/h1/routes/0/to", "10.0.0.0/40", "0 to 32"),
        ("nodes/h1/routes/0/to", "::/0", "IPv6 is not in"),
        ("nodes/h1/routes/1/to", "default", "is there already"),
        ("nodes/h1/routes/1/to", "10.0.0.0/24", "10.0.0.0/24 is the node's own subnet: it needs no route"),
        ("nodes/h1/routes/1/to", "10.0.0.10/32", "10.0.0.10/32 is the node's own address"),
        ("nodes/site/routes/0/to", "192.168.0.0/24", "the node's own subnet"),
        ("nodes/h1/routes/0/metric", 5, "unknown key"),
        ("nodes/site/routes/0/via", "10.7.0.1", "on no subnet"),
        ("nodes/site/device", None, "is missing: name the device"),
        ("nodes/site/device", "a-name-of-16-byt", "longer than 15 bytes"),
        ("nodes/site/device", "eth/0", "does not allow"),
        ("nodes/site/device", "emu%d", "does not allow"),
        ("nodes/site/device", "..", "no device name"),
        ("nodes/site/namespace", "../x", "no namespace"),
        ("links/0/ends", None, "is missing: write ends"),
        ("links/0/ends", ["h1.eth0"], "must have 2 entries"),
        ("links/0/ends/0", 5, "must be text"),
        ("links/0/ends/0", "h3.eth0", "there is no node 'h3'"),
        ("links/0/ends/0", "h1.eth1", "no interface 'eth1'; did you mean eth0?"),
        ("links/0/ends/0", "h1", "such as h1.eth0"),
        ("links/0/ends/1", "sw.eth0", "port0, port1"),
        ("links/3/ends/1", "site.eth1", "write site alone"),
        ("links/3/ends/1", "h1.eth0", "h1.eth0 is an end of links[0] already"),
        ("links/0", "h1 - sw", "must be a mapping"),
        ("links/3/forward/loss", "101%", "between 0% and 100%"),
        ("links/3/forward/loss", 5, "write 5%"),
        ("links/3/forward/bandwidth", 100, "write 100Mbit/s"),
        ("links/3/forward/bandwidth", "0bit/s", "at least 1bit/s"),
        ("links/3/delay", "-5ms", "negative"),
        ("links/3/delay", 5, "write 5ms"),
        ("links/3/delay", "1000h", "1000h is too long: at most 1000000s"),
        ("links/3/reverse/bandwidth", "99bit/s", "99bit/s is too slow: a link has at least 100bit/s"),
        ("traffic/0/interval", "1000h", "1000h is too long: at most 1000000s"),
        ("links/3/queue", 100, "write 100packets"),
        ("links/3/overhead", "70000B", "70000B is too large: at most 65535B"),
        ("links/3/forward/bandwith", "1Mbit/s", "did you mean bandwidth?"),
        ("links/3/forward", "fast", "must be a mapping"),
        ("traffic/0/kind", "tcp", "kind tcp is not in this version"),
        ("traffic/0/kind", "pong", "did you mean ping?"),
        ("traffic/0/from", None, "is missing: name the node"),
        ("traffic/0/from", "h3", "there is no node 'h3'"),
        ("traffic/0/from", "site", "a tap sends nothing itself"),
        ("traffic/0/from", "sw", "a switch sends nothing itself"),
        ("traffic/0/to", "h4", "there is no node 'h4'"),
        ("traffic/0/to", "sw", "sw has no address"),
        ("traffic/0/to", "fd00::1", "IPv6 is not in"),
        ("traffic/0/to", "10.0.0.300", "not an IPv4 address"),
        ("traffic/0/to", "224.0.0.5", "cannot be the address"),
        ("traffic/0/interval", 100, "write 100ms"),
        ("traffic/0/interval", "0s", "0s is too short: at least 1ns"),
        ("traffic/0/count", 0, "0 is too small: at least 1"),
        ("traffic/0/ttl", 256, "256 is too large: at most 255"),
        ("traffic/0/size", "9000B", "putting fragments together is not in this version"),
        ("traffic/0/rate", "1Mbit/s", "unknown key"),
        ("traffic/1/rate", None, "is missing: write one such as 8Mbit/s"),
        ("traffic/1/rate", "unlimited", "write one such as 8Mbit/s"),
        ("traffic/1/stop", "1s", "later than start"),
        ("traffic/1/size", "100KiB", "100KiB is not possible: a payload is 16B to 65507B"),
        ("traffic/1", 7, "must be a mapping"),
    ],
)
def test_one_mistake(path: str, value: object, said: str) -> None:
    found = mistakes(changed(path, value))
    assert list(found) == [place_of(path)]
    assert said in found[place_of(path)]


@pytest.mark.parametrize(
    ("path", "value", "place", "said"),
    [
        ("nodes", None, "nodes", "is missing"),
        ("nodes", [], "nodes", "must be a mapping, not a list"),
        (
            "nodes/site/addresses/0",
            "192.168.0.1/24",
            "nodes.site.addresses[0]",
            "on the same link already, at nodes.r1",
        ),
        ("time", "virtual", "nodes.site.kind", "a tap cannot be in virtual time"),
        ("nodes/card", {"kind": "nic"}, "nodes.card.device", "is missing: name a device that exists"),
        ("nodes/card", {"kind": "nic", "device": "a/b"}, "nodes.card.device", "has a character that Linux"),
        (
            "nodes/card",
            {"kind": "nic", "device": "eth1", "namespace": "a b"},
            "nodes.card.namespace",
            "is no namespace",
        ),
        (
            "nodes/card",
            {"kind": "nic", "device": "eth1", "addresses": ["10.0.0.1/24"]},
            "nodes.card.addresses",
            "unknown key 'addresses' (allowed: kind, device, namespace)",
        ),
        (
            "nodes/card",
            {"kind": "nic", "device": "emu0", "namespace": "site"},
            "nodes.card.device",
            "site has a device emu0 in the same namespace",
        ),
        (
            "nodes/other",
            {"kind": "tap", "device": "emu0", "namespace": "site"},
            "nodes.other.device",
            "site has a device emu0",
        ),
        ("links/0/ends/1", "sw.port0", "links[2].ends[0]", "sw.port0 is an end of links[0] already"),
        (
            "links/3/ends/1",
            "r1.lo",
            "links[3].ends[1]",
            "r1.lo is the loopback interface of r1, which has no link",
        ),
        (
            "nodes/r1/interfaces/lo/addresses/0",
            "10.255.0.1/24",
            "nodes.r1.interfaces.lo.addresses[0]",
            "an address of a loopback interface stands alone: write 10.255.0.1/32",
        ),
        (
            "nodes/r1/interfaces/lo/mtu",
            9000,
            "nodes.r1.interfaces.lo.mtu",
            "a loopback interface has no mtu to set: leave it out",
        ),
        ("links/3/ends/1", "r1.eth1", "links[3].ends", "both ends are on r1"),
        ("links/3/queue", {"limit": 100}, "links[3].queue.limit", "write 100packets"),
        ("links/3/queue", {"discipline": "codl"}, "links[3].queue.discipline", "allowed: droptail"),
    ],
)
def test_one_mistake_that_shows_elsewhere(path: str, value: object, place: str, said: str) -> None:
    assert said in mistakes(changed(path, value))[place]


def test_doubled_macs() -> None:
    document = changed("nodes/r1/interfaces/eth1/mac", "02:00:00:00:00:0A")
    assert mistakes(document) == {
        "nodes.r1.interfaces.eth1.mac": "02:00:00:00:00:0a is there already, at nodes.h1.interfaces.eth0.mac"
    }


def test_all_mistakes_in_one_go() -> None:
    document = copy.deepcopy(OFFICE)
    document["time"] = "virtual"
    document["manystack"] = 3
    document["colour"] = "red"
    document["nodes"]["h1"]["interfaces"]["eth0"]["mtu"] = 10
    document["nodes"]["h1"]["routes"][0]["via"] = "10.7.0.1"
    document["nodes"]["h3"] = {"kind": "hots"}
    document["links"][0]["delay"] = -5
    document["links"][0]["ends"][0] = "h1.eth7"
    document["links"][3]["ends"][0] = "r1.eth0"
    document["traffic"][0]["interval"] = 100
    document["traffic"][0]["from"] = "h9"
    assert list(mistakes(document)) == [
        "manystack",
        "colour",
        "nodes.h1.interfaces.eth0.mtu",
        "nodes.h1.routes[0].via",
        "nodes.h3.kind",
        "links[0].delay",
        "links[0].ends[0]",
        "links[3].ends[0]",
        "traffic[0].interval",
        "traffic[0].from",
        "nodes.site.kind",
    ]


def test_nothing_follows_from_an_unreadable_address() -> None:
    assert list(mistakes(changed("nodes/h1/interfaces/eth0/addresses/0", "10.0.0.10/33"))) == [
        "nodes.h1.interfaces.eth0.addresses[0]"
    ]


def test_a_thousand_mistakes_are_enough() -> None:
    document = {"manystack": 1, "nodes": {f"n{number}": {"kind": "x" * 90} for number in range(5000)}}
    with pytest.raises(TopologyError) as caught:
        Topology.parse(document)
    assert len(caught.value.errors) == 1001
    assert "more errors" in caught.value.errors[-1].message


def test_what_is_allowed() -> None:
    Topology.parse(changed("nodes/r1/interfaces/eth0/mtu", 68))
    Topology.parse(changed("nodes/r1/interfaces/lo/addresses/0", "10.0.0.10/32"))
    Topology.parse(changed("nodes/r1/interfaces/eth1/addresses/0", "192.168.0.4/31"))
    Topology.parse(changed("nodes/h1/interfaces/eth0/addresses", ["10.0.0.10/24", "10.0.0.20/24"]))
    Topology.parse(changed("time", "real"))
    Topology.parse({"manystack": 1, "nodes": {}})


def test_free_ports_do_not_depend_on_the_order_of_links() -> None:
    nodes = {"a": {"kind": "switch"}, "b": {"kind": "hub"}, "c": {"kind": "hub"}}
    links = [{"ends": ["a", "b"]}, {"ends": ["c.port0", "a.port0"]}, {"ends": ["a", "c"]}]
    topology = Topology.parse({"manystack": 1, "nodes": nodes, "links": links})
    assert [[str(end) for end in link.ends] for link in topology.links] == [
        ["a.port1", "b.port0"],
        ["c.port0", "a.port0"],
        ["a.port2", "c.port1"],
    ]


def test_another_clock() -> None:
    office = Topology.parse(OFFICE)
    assert office.with_time(TimeMode.parse("real")).time.kind == "real"
    with pytest.raises(TopologyError, match=r"nodes\.site\.kind: a tap cannot be in virtual time"):
        office.with_time(TimeMode.parse("virtual"))


NICS: dict[str, Any] = {
    "manystack": 1,
    "nodes": {
        "left": {"kind": "nic", "device": "eth1", "namespace": "lab"},
        "right": {"kind": "nic", "device": "eth1"},
        "sw": {"kind": "switch"},
    },
    "links": [{"ends": ["left", "sw"]}, {"ends": ["sw", "right.eth1"]}],
}


def test_a_nic_has_one_port_named_after_its_device() -> None:
    topology = Topology.parse(NICS)
    left = topology.nodes["left"]
    assert (left.kind, left.device, left.namespace) == ("nic", "eth1", "lab")
    assert list(left.interfaces) == ["eth1"]
    assert list(left.addressed()) == []
    assert [str(end) for link in topology.links for end in link.ends] == [
        "left.eth1",
        "sw.port0",
        "sw.port1",
        "right.eth1",
    ]
    assert Topology.parse(topology.dump()) == topology
    written = topology.dump(defaults=True)
    assert Topology.parse(written) == topology
    assert written["nodes"]["left"] == NICS["nodes"]["left"]
    assert written["links"][1]["ends"] == ["sw.port1", "right"]


def test_nics_live_in_real_time_and_take_a_device_once() -> None:
    nodes = NICS["nodes"] | {"again": NICS["nodes"]["left"]}
    with pytest.raises(TopologyError) as caught:
        Topology.parse(NICS | {"nodes": nodes, "time": "virtual", "links": [{"ends": ["left.eth0", "sw"]}]})
    clock = "a nic cannot be in virtual time: what is behind it lives in real time (real or x10)"
    assert [str(error) for error in caught.value.errors] == [
        "links[0].ends[0]: a nic has one port: write left alone",
        f"nodes.left.kind: {clock}",
        f"nodes.right.kind: {clock}",
        "nodes.again.device: left has a device eth1 in the same namespace",
        f"nodes.again.kind: {clock}",
    ]
    topology = Topology.parse(NICS)
    assert topology.with_time(TimeMode.parse("x10")).time.factor == 10
    with pytest.raises(TopologyError, match=r"nodes\.left\.kind: a nic cannot be in virtual time"):
        topology.with_time(TimeMode.parse("virtual"))


@pytest.mark.parametrize(
    ("traffic", "limit_bytes"),
    [
        ({"kind": "udp", "from": "r1", "to": "h2", "rate": "1Mbit/s"}, 1472),
        ({"kind": "ping", "from": "h1", "to": "10.0.0.11"}, 8972),
        ({"kind": "ping", "from": "r1", "to": "site"}, 1472),
        ({"kind": "udp", "from": "r1", "to": "site", "rate": "1Mbit/s"}, None),  # a real host reassembles
        ({"kind": "ping", "from": "r1", "to": "10.255.0.1"}, None),  # r1 itself
        ({"kind": "ping", "from": "r1", "to": "203.0.113.7"}, None),  # nobody knows who that is
    ],
)
def test_what_goes_out_in_fragments_is_refused_where_nobody_puts_them_together(
    traffic: dict[str, Any], limit_bytes: int | None
) -> None:
    document = copy.deepcopy(OFFICE)
    document["traffic"] = [traffic | {"size": f"{limit_bytes or 65507}B"}]
    Topology.parse(document)
    if limit_bytes:
        document["traffic"] = [traffic | {"size": f"{limit_bytes + 1}B"}]
        found = mistakes(document)
        assert list(found) == ["traffic[0].size"]
        assert f"write at most {limit_bytes}B (putting fragments together is" in found["traffic[0].size"]


def changed_pipe(base: PipeParameters, change: dict[str, Any]) -> PipeParameters:
    """What a change of both directions makes of one of them."""
    return changed_parameters((base, base), change)[0]


def test_the_queue_of_a_bandwidth_goes_with_it() -> None:
    limited = changed_pipe(PipeParameters(), {"bandwidth": "1Mbit/s"})
    assert changed_pipe(limited, {"bandwidth": "unlimited"}) == PipeParameters()
    assert changed_pipe(limited, {"bandwidth": "2Mbit/s"}).queue_limit_packets == 1000
    chosen = limited.model_copy(update={"queue_limit_packets": 10})
    assert changed_pipe(chosen, {"bandwidth": "unlimited"}).queue_limit_packets == 10


def test_changed_parameters() -> None:
    base = PipeParameters(bandwidth_bps=10**6, delay_ns=10**6, queue_limit_packets=10)
    changed = changed_pipe(base, {"delay": "20ms", "loss": "1%"})
    assert changed == base.model_copy(update={"delay_ns": 20 * 10**6, "loss": 0.01})
    unlimited = changed_pipe(base, {"bandwidth": "unlimited", "queue": "unlimited"})
    assert unlimited == PipeParameters(delay_ns=10**6)
    first = changed_pipe(PipeParameters(), {"bandwidth": "1Mbit/s"})
    assert first.queue_limit_packets == DEFAULT_QUEUE_PACKETS
    with pytest.raises(TopologyError) as caught:
        changed_pipe(base, {"delay": "20", "los": "1%"})
    assert [error.place for error in caught.value.errors] == ["delay", "los"]


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), part, max_size=3)
    ),
    max_leaves=6,
)


def places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    return [path, *(place for key in keys for place in places(part[key], (*path, key)))]


@given(st.lists(st.tuples(st.sampled_from(places(OFFICE)[1:]), PARTS), min_size=1, max_size=3))
def test_any_change_is_good_or_a_topology_error(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    document = copy.deepcopy(OFFICE)
    for (*steps, last), value in changes:
        part: Any = document
        for step in steps:
            if not isinstance(part, dict | list) or (isinstance(part, dict) and step not in part):
                break
            part = part[step]
        else:
            if isinstance(part, dict) or (isinstance(part, list) and last < len(part)):
                part[last] = value
    try:
        topology = Topology.parse(document)
    except TopologyError as error:
        assert all(mistake.message for mistake in error.errors)
    else:
        assert Topology.parse(topology.dump()) == topology
