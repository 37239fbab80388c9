"""What `emu-run` shows meanwhile."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from manystack import Engine, Topology
from manystack.report.view import LiveView, PlainView, showing


def network(time: str) -> Topology:
    return Topology.parse(
        {
            "manystack": 1,
            "name": "pair",
            "time": time,
            "seed": 3,
            "nodes": {
                "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
                "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
            },
            "links": [{"ends": ["a.eth0", "b.eth0"], "delay": "1ms"}],
            "traffic": [{"kind": "udp", "from": "a", "to": "b", "rate": "8Mbit/s", "size": "1000B"}],
        }
    )


def screen(height: int = 40) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=height, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_view_shows_clock_traffic_links_nodes_and_events() -> None:
    console = screen()
    with Engine(network("virtual")) as emu:
        view = LiveView(emu.network, console)
        view.begin()
        emu.subscribe(view.event)
        emu.run("1s")
        emu.link("a", "b").down()
        view.refresh()
        view.end()
    text = written(console)
    assert "pair  1.000s  virtual time  2 nodes, 1 link" in text
    assert "udp a → b, 8Mbit/s  1,001" in text
    assert "8.34 Mbit/s" in text  # frames and all
    assert "NODE  KIND  IN/S" in text
    assert "b     host " in text
    assert "link-down a.eth0 b.eth0" in text


def rates(view: LiveView, console: Console, first_words: str) -> str:
    """What follows the name in a row of what is shown now."""
    lines = ["".join(part.text for part in line) for line in console.render_lines(view.render())]
    (row,) = [line for line in lines if line.startswith(first_words)]
    return " ".join(row.removeprefix(first_words).split())


def test_rates_are_those_of_the_last_second() -> None:
    document = network("virtual").dump()
    document["traffic"] = [{"kind": "ping", "from": "a", "to": "b", "interval": "100ms"}]
    console = screen()
    with Engine(Topology.parse(document)) as emu:
        view = LiveView(emu.network, console)
        view.render()
        shown = []
        for _ in range(12):
            emu.run("250ms")
            shown.append(rates(view, console, "ping a → b, every 100ms").split()[4])
        assert shown[3:] == ["10/s"] * 9  # ten in each second, though two or three between two refreshes
        emu.run("1h")
        assert rates(view, console, "ping a → b, every 100ms").split()[4] == "10/s"


def test_a_link_shows_no_more_than_it_can_carry_however_long_drawing_takes() -> None:
    class Slow(LiveView):
        def _nodes(self, rows: int) -> Table:
            emu.run("7ms")
            return super()._nodes(rows)

    document = network("virtual").dump()
    document["links"][0] |= {"bandwidth": "5Mbit/s"}
    console = screen()
    with Engine(Topology.parse(document)) as emu:
        view = Slow(emu.network, console)
        view.render()
        for _ in range(8):
            emu.run("250ms")
            shown = rates(view, console, "a.eth0 — b.eth0")
        assert shown.startswith("5 Mbit/s ")


def test_a_small_screen_shows_the_first_few() -> None:
    nodes: dict[str, Any] = {"s": {"kind": "switch"}}
    for i in range(50):
        nodes[f"h{i}"] = {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{i + 1}/24"]}}}
    links = [{"ends": [f"h{i}.eth0", "s"]} for i in range(50)]
    document = {"manystack": 1, "name": "star", "time": "virtual", "nodes": nodes, "links": links}
    console = screen(height=20)
    with Engine(Topology.parse(document)) as emu:
        view = LiveView(emu.network, console)
        view.begin()
        view.end()
    assert "… 47 more" in written(console)
    assert "… 48 more" in written(console)


def test_plain_lines_tell_how_far_it_is() -> None:
    lines: list[str] = []
    with Engine(network("virtual")) as emu:
        view = PlainView(emu.network, lines.append)
        view.begin()
        emu.run("10s")
        view.refresh()
        view.end()
    assert lines[0] == "pair: 2 nodes, 1 link, virtual time, seed 3"
    assert lines[1].startswith("     10.000s  ")
    assert "traffic: 0 of 1 done" in lines[1]


@pytest.mark.parametrize("time", ["virtual", "real"])
def test_a_view_is_refreshed_in_real_time_whatever_the_network_does(time: str) -> None:
    class Counting(PlainView):
        period_s = 0.001

        def refresh(self) -> None:
            super().refresh()
            if len(lines) > 3:
                emu.stop("seen enough")

    lines: list[str] = []
    with Engine(network(time)) as emu, showing(Counting(emu.network, lines.append), emu.network):
        assert emu.run() == "seen enough"
    assert len(lines) >= 4
