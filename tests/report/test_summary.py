"""Summaries: exact accounts, and text that a person reads."""

from typing import Any

import pytest

from manystack import Engine, Topology
from manystack.report.summary import own_loss_line, summary_lines
from manystack.text import bytes_text, clock_text, count_text, plural, rate_text, share_text, table, time_text


def network(**link: Any) -> Topology:
    return Topology.parse(
        {
            "manystack": 1,
            "name": "pair",
            "time": "virtual",
            "seed": 3,
            "nodes": {
                "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
                "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
            },
            "links": [{"ends": ["a.eth0", "b.eth0"], **link}],
            "traffic": [
                {"kind": "udp", "from": "a", "to": "b", "rate": "16Mbit/s", "size": "1000B", "stop": "1s"},
                {"kind": "ping", "from": "b", "to": "a", "interval": "100ms"},
            ],
        }
    )


def test_every_packet_is_accounted_for() -> None:
    with Engine(network(bandwidth="8Mbit/s", delay="1ms", loss="1%", queue="20packets")) as emu:
        emu.run("2s")
        summary = emu.summary()
    for pipe in summary.links:
        counters = pipe.counters
        drops = sum(counters[key] for key in ("queue_drop_packets", "loss_packets", "down_drop_packets"))
        assert (
            counters["sent_packets"] == counters["delivered_packets"] + drops + counters["in_flight_packets"]
        )
    udp, ping = summary.traffic
    forward = summary.links[0].counters
    assert udp.done
    assert udp.sent_packets == 2000
    assert udp.lost_packets == 2000 - (udp.received_packets or 0)
    assert udp.reordered_packets == 0
    assert 900 < forward["queue_drop_packets"] < 1100
    assert udp.rate_bps == pytest.approx(8e6 * 1000 / 1042 * 0.99, rel=0.02)
    assert not ping.done
    assert summary.own_loss_packets == {}
    assert summary.reproducible


def test_the_text_tells_what_the_numbers_say() -> None:
    with Engine(network(bandwidth="8Mbit/s", delay="1ms", queue="20packets")) as emu:
        emu.run("2s")
        emu.network.note_outside_change("link set a.eth0 b.eth0 at 1.000s")
        lines = summary_lines(emu.summary(), "duration")
    text = "\n".join(lines)
    assert lines[0].startswith("pair: 2.000s of virtual time in ")
    assert lines[0].endswith("ended: duration (seed 3)")
    assert "not reproducible: changed from outside (link set a.eth0 b.eth0 at 1.000s)" in text
    assert "udp a → b, 16Mbit/s" in text
    assert "QUEUE DROPS" in text
    assert "LOSS" not in text  # nothing was lost on the wire
    assert lines[-2] == "The emulator itself lost nothing."


def test_a_large_network_is_cut_short_but_not_what_dropped_packets() -> None:
    hosts = 60
    nodes: dict[str, Any] = {"s": {"kind": "switch"}}
    for i in range(hosts):
        nodes[f"h{i}"] = {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{i + 1}/24"]}}}
    links: list[dict[str, Any]] = [{"ends": [f"h{i}.eth0", "s"]} for i in range(hosts)]
    links[-1]["loss"] = "100%"
    document = {"manystack": 1, "name": "star", "time": "virtual", "nodes": nodes, "links": links}
    with Engine(Topology.parse(document)) as emu:
        emu.node(f"h{hosts - 1}").ping("h0")
        lines = summary_lines(emu.summary())
    assert any(line.startswith(f"h{hosts - 1}.eth0 → s.port{hosts - 1}") for line in lines)
    assert "… and 72 more directions: --json has all of them" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (time_text(None), "-"),
        (time_text(0), "0 ns"),
        (time_text(999), "999 ns"),
        (time_text(1_500), "1.5 µs"),
        (time_text(20_312_345), "20.31 ms"),
        (time_text(61_000_000_000), "61 s"),
        (clock_text(0), "0.000s"),
        (clock_text(12_345_678_901), "12.345s"),
        (clock_text(62_345_000_000), "1:02.345"),
        (clock_text(3_723_456_000_000), "1:02:03.456"),
        (rate_text(None), "-"),
        (rate_text(999), "999 bit/s"),
        (rate_text(9_984_000), "9.984 Mbit/s"),
        (rate_text(400e9), "400 Gbit/s"),
        (bytes_text(1023), "1023 B"),
        (bytes_text(1536), "1.5 KiB"),
        (count_text(1234567), "1,234,567"),
        (share_text(0, 0), "0%"),
        (share_text(1, 1000), "0.1%"),
        (share_text(999, 1000), "99.9%"),
        (share_text(5, 5), "100%"),
        (plural(1, "node"), "1 node"),
        (plural(2000, "node"), "2,000 nodes"),
    ],
)
def test_numbers_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected


def test_tables_align() -> None:
    assert table(["NAME", "COUNT"], [["a", "1"], ["longer", "1,000"]]) == [
        "NAME    COUNT",
        "a           1",
        "longer  1,000",
    ]


def test_lost_events_are_told_beside_lost_packets() -> None:
    with Engine(network()) as emu:
        summary = emu.summary()
    summary.engine["lost_events"] = 2
    assert own_loss_line(summary) == ("The emulator itself lost 2 events, which came too fast for Python.")
    summary.own_loss_packets["tap site"] = 1
    assert own_loss_line(summary) == (
        "The emulator itself lost 1 packet (tap site 1) and 2 events, which came too fast for Python."
    )
