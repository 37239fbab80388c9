"""`emu-run`: run a topology until it is over."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from manystack.commands.check import load
from manystack.commands.common import Command, echo_json, echo_lines, not_in_this_version
from manystack.engine import Engine
from manystack.probes import duration_ns
from manystack.record.capture import Capture
from manystack.record.eventfile import EventFile
from manystack.report.summary import Summary, summary_lines
from manystack.report.view import LiveView, PlainView, View, showing
from manystack.results import plain
from manystack.text import plural


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topology", type=click.Path(path_type=Path))
@click.option(
    "--time", metavar="real|virtual|xN", help="Instead of the topology's; xN: one second in N real ones."
)
@click.option("--duration", metavar="TIME", help="End after this much emulated time: 500ms, 10s, 1h.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Instead of the topology's.")
@click.option("--name", help="What other commands call this network; default: the topology's name.")
@click.option("--workers", type=click.IntRange(1), default=1, hidden=True)
@click.option(
    "--events",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write every arrival of a packet to FILE, for `emu diff`.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 if the emulator was late or lost packets of its own accord."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as one JSON document; progress goes to stderr."
)
@click.version_option(package_name="manystack")
def main(
    topology: Path,
    time: str | None,
    duration: str | None,
    seed: int | None,
    name: str | None,
    workers: int,
    events: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Run the network in the file TOPOLOGY and print a summary at its end.

    It ends after --duration; or on Ctrl-C, SIGTERM or `emu stop`; or, in virtual time, when nothing is
    left to do; or, in real time without tap or nic, when its traffic is done. All of these are exit code 0,
    unless --strict is given and the run is degraded, or the file of --events or a capture could not be
    written.
    """
    if workers > 1:
        not_in_this_version("--workers above 1")
    limit_ns = None if duration is None else duration_ns(duration, "--duration")
    network = load(topology, as_json)
    # Until the loop handles it, and while the network closes, SIGTERM unwinds as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Engine(network, time=time, seed=seed, name=name or network.name, events=events) as engine:
            view = _view(engine, as_json)
            ended, summary = engine.run_until_complete(_run(engine, view, limit_ns))
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        told = {
            "ended": ended,
            "reproducible": summary.reproducible,
            "events": _told(engine.event_file),
            "captures": [_told_capture(capture) for capture in engine.captures.all],
        }
        echo_json(plain(summary) | told)
    else:
        echo_lines(summary_lines(summary, ended))
        echo_lines(_told_lines(engine.event_file))
        echo_lines([_capture_line(capture) for capture in engine.captures.all])
    unwritten = engine.event_file is not None and engine.event_file.is_cut_off
    unwritten |= any(capture.is_cut_off for capture in engine.captures.all)
    if unwritten or (strict and summary.verdict.state == "degraded"):
        sys.exit(1)


def _told(file: EventFile | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {
        "file": str(file.path),
        "complete": file.is_complete,
        "lost_records": file.lost_records,
        "error": file.error,
    }


def _told_lines(file: EventFile | None) -> list[str]:
    if file is None:
        return []
    if file.error is not None:
        return [f"Events were not written to the end: {file.error}"]
    if file.lost_records:
        return [f"Events are in {file.path}, but {plural(file.lost_records, 'arrival')} came too fast."]
    return [f"Events are in {file.path}."]


def _told_capture(capture: Capture) -> dict[str, Any]:
    return {
        "file": capture.name,
        "interfaces": list(capture.interfaces),
        "packets": capture.packets,
        "lost_packets": capture.lost_packets,
        "error": capture.error,
    }


def _capture_line(capture: Capture) -> str:
    line = f"Captured {plural(capture.packets, 'packet')} in {capture.name}"
    if capture.lost_packets:
        line += f", and lost {capture.lost_packets:,}, which came too fast"
    return f"{line}, until it ended: {capture.error}" if capture.error else f"{line}."


async def _run(engine: Engine, view: View, duration: int | None) -> tuple[str, Summary]:
    loop = asyncio.get_running_loop()
    signals = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signals[signal.SIGHUP] = "the terminal has gone"
    for number, reason in signals.items():
        loop.add_signal_handler(number, engine.stop, reason)
    try:
        with showing(view, engine.network):
            ended = await engine.async_run(duration)
            return ended, engine.summary()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _view(engine: Engine, as_json: bool) -> View:
    if not as_json and sys.stdout.isatty():
        return LiveView(engine.network, Console())
    return PlainView(engine.network, lambda line: _echo(line, as_json))


def _echo(line: str, to_stderr: bool) -> Any:
    click.echo(line, err=to_stderr)
