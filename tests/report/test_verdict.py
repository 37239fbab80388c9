"""The verdict on a run: exact, valid, or degraded where, when and by how much."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner

from manystack import Engine, Topology
from manystack.commands.run import main as run_command
from manystack.network import Event
from manystack.report.summary import summary_lines
from manystack.report.verdict import (
    STRETCHES,
    Degraded,
    LatenessSummary,
    LossLog,
    Verdict,
    bucket_quantile_ns,
    lateness_summary,
    verdict_lines,
)
from manystack.results import plain

SECOND = 1_000_000_000
TIMEOUT_S = 30
LINK = "a.eth0 → b.eth0"


def pair(time: str, *traffic: dict[str, Any]) -> dict[str, Any]:
    return {
        "manystack": 1,
        "name": "pair",
        "time": time,
        "nodes": {
            name: {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{number}/24"]}}}
            for number, name in enumerate("ab", start=1)
        },
        "links": [{"ends": ["a.eth0", "b.eth0"], "delay": "1ms"}],
        "traffic": [{"kind": "udp", "from": "a", "to": "b", "size": "1000B", **flow} for flow in traffic],
    }


def hold_up(emu: Engine, seconds: float) -> None:
    """Let the data path do nothing for a while."""
    emu.switch.stop()
    until_ns = emu.now_ns + int(seconds * SECOND)
    while emu.now_ns < until_ns:
        pass
    emu.switch.start()


async def next_event(emu: Engine, kind: str) -> Event:
    """The next event of a kind."""
    came: asyncio.Future[Event] = emu.loop.create_future()
    unsubscribe = emu.subscribe(
        lambda event: came.set_result(event) if event.kind == kind and not came.done() else None
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await came
    finally:
        unsubscribe()


def test_virtual_time_is_exact() -> None:
    with Engine(Topology.parse(pair("virtual", {"rate": "8Mbit/s", "stop": "1s"}))) as emu:
        emu.run()
        assert emu.verdict() == Verdict("exact")
        summary = emu.summary()
    assert summary.verdict == Verdict("exact")
    assert [link.lateness for link in summary.links] == [None, None]
    assert summary_lines(summary)[-1] == "Verdict: exact. In virtual time nothing is late."


def test_a_hold_up_degrades_the_run_where_and_when_it_was() -> None:
    """The traffic ends soon after it, so that nothing that the machine does makes the next second late."""
    with Engine(Topology.parse(pair("real", {"rate": "8Mbit/s", "stop": "450ms"}))) as emu:
        emu.run("100ms")
        before_ns = emu.now_ns
        hold_up(emu, 0.3)
        after_ns = emu.now_ns
        event = emu.run_until_complete(next_event(emu, "degraded"))
        assert emu.is_degraded
        assert event.subject == LINK
        emu.run_until_complete(next_event(emu, "valid"))
        assert not emu.is_degraded
        verdict = emu.verdict()
        summary = emu.summary()
    assert verdict.state == "degraded"
    [stretch] = [stretch for stretch in verdict.intervals if stretch.place == LINK]
    assert stretch.from_ns <= before_ns < after_ns <= stretch.until_ns
    assert stretch.packets >= stretch.late_packets >= 290
    assert stretch.worst_ns > 290_000_000
    lateness = summary.links[0].lateness
    assert lateness is not None
    assert lateness.worst_ns == stretch.worst_ns
    assert lateness.median_ns <= lateness.p99_ns <= lateness.worst_ns
    document = json.loads(json.dumps(plain(summary)))["verdict"]
    assert document["state"] == "degraded"
    assert LINK in [interval["place"] for interval in document["intervals"]]
    text = "\n".join(summary_lines(summary))
    assert "Verdict: degraded for " in text
    assert "LATENESS P99" in text


@pytest.mark.parametrize("strict", [True, False])
def test_strict_turns_a_degraded_run_into_exit_code_1(
    strict: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    path = tmp_path / "pair.json"
    path.write_text(json.dumps(pair("virtual", {"rate": "8Mbit/s", "stop": "1s"})))
    options = ["--strict"] if strict else []
    assert CliRunner().invoke(run_command, [str(path), *options]).exit_code == 0
    degraded = Verdict("degraded", (Degraded(LINK, 0, SECOND, 10, 5, 2_000_000),), SECOND)
    monkeypatch.setattr(Engine, "verdict", lambda _: degraded)
    result = CliRunner().invoke(run_command, [str(path), *options, "--json"])
    assert result.exit_code == (1 if strict else 0)
    assert json.loads(result.stdout)["verdict"]["degraded_ns"] == SECOND


def test_what_the_emulator_loses_degrades_a_virtual_run_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(Topology.parse(pair("virtual", {"rate": "8Mbit/s", "stop": "1s"}))) as emu:
        emu.run("500ms")
        monkeypatch.setattr("manystack.report.verdict.own_losses", lambda *_: {"packet pool": 3})
        verdict = emu.verdict()
    assert verdict == Verdict("degraded", (Degraded("packet pool", 0, SECOND // 2, lost=3),), SECOND // 2)


def test_losses_are_told_by_when_they_happened() -> None:
    log = LossLog()
    assert not log.note(SECOND, {})
    assert log.note(2 * SECOND, {"tap a": 5})
    assert log.note(3 * SECOND, {"tap a": 7, "packet pool": 1})
    assert not log.note(4 * SECOND, {"tap a": 7, "packet pool": 1})
    assert log.note(5 * SECOND, {"tap a": 8, "packet pool": 1})
    assert log.stretches() == [
        Degraded("tap a", SECOND, 3 * SECOND, lost=7),
        Degraded("tap a", 4 * SECOND, 5 * SECOND, lost=1),
        Degraded("packet pool", 2 * SECOND, 3 * SECOND, lost=1),
    ]


def test_losses_are_bounded_and_none_is_forgotten() -> None:
    log = LossLog()
    for second in range(1000):
        log.note(second * SECOND, {"tap a": second // 2 + (second > 600)})
    stretches = log.stretches()
    assert len(stretches) == STRETCHES
    assert sum(stretch.lost for stretch in stretches) == 500
    assert stretches[0].from_ns == SECOND
    assert stretches[-1].until_ns == 998 * SECOND


def test_quantiles_are_taken_from_the_buckets() -> None:
    buckets = [(3, 50), (1024, 49), (1_048_576, 1)]
    lateness = lateness_summary({"late_packets": 1, "worst_ns": 1_100_000, "buckets": buckets})
    assert lateness == LatenessSummary(100, 1, 4, 1280, 1_100_000, tuple(buckets))
    assert bucket_quantile_ns(buckets, 75) == 1024 + round(256 * 25 / 49)
    assert bucket_quantile_ns([], 50) == 0
    assert lateness_summary(None) is None


def test_a_long_verdict_is_cut_short() -> None:
    intervals = tuple(Degraded(LINK, i * SECOND, (i + 1) * SECOND, 100, 7, 3_000_000) for i in range(20))
    lines = verdict_lines(Verdict("degraded", intervals, 20 * SECOND))
    assert lines[0] == "Verdict: degraded for 20.000s (docs/accuracy.md has the rule)."
    assert lines[2].split() == [*LINK.split(), "0.000s", "1.000s", "7", "(7%)", "3", "ms", "-"]
    assert lines[-1] == "… and 8 more intervals: --json has all of them"
