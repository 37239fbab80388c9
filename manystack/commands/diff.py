"""`emu diff`: the first event at which two runs part."""

from pathlib import Path

import click

from manystack.commands.common import Command, echo_json, echo_lines, fail_quietly
from manystack.record.difference import Comparison, Difference, Seen, compare
from manystack.text import plural
from manystack.topology.document.quantity import format_duration

WHAT = {
    "time": "the same packet at another time",
    "bytes": "another packet at the same time",
    "both": "another packet at another time",
    "missing": "nothing more on this link in one of them",
}


@click.command(cls=Command)
@click.argument("run1", type=click.Path(path_type=Path))
@click.argument("run2", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def diff(run1: Path, run2: Path, as_json: bool) -> None:
    """Name the first arrival of a packet at which two event files (`emu-run --events`) part.

    Exit codes: 0 they are the same, 1 they part, 2 one of them cannot be read.
    """
    comparison = compare(run1, run2)
    if as_json:
        echo_json(_document(comparison))
    else:
        echo_lines(_lines(comparison))
    if comparison.difference is not None:
        fail_quietly()


def _lines(comparison: Comparison) -> list[str]:
    equal = plural(comparison.equal_arrivals, "arrival")
    notes = [f"note: {note}" for note in comparison.notes]
    difference = comparison.difference
    if difference is None:
        return [f"The runs are the same: {equal}.", *notes]
    lines = [
        f"The runs part at {format_duration(difference.time_ns)}: {difference.link}, "
        f"packet {difference.number:,} of this link: {WHAT[difference.differs]}."
    ]
    for number, seen in enumerate(difference.runs, 1):
        lines.append(f"  run {number}: {_seen_text(seen)}")
    first, second = difference.runs
    if first is not None and second is not None and difference.differs in ("bytes", "both"):
        lines.append(f"  {_first_byte(first, second)}")
    return [*lines, *notes]


def _seen_text(seen: Seen | None) -> str:
    return "nothing" if seen is None else f"{format_duration(seen.time_ns)}  {seen.packet}"


def _first_byte(first: Seen, second: Seen) -> str:
    for place, (one, other) in enumerate(zip(first.head, second.head, strict=False)):
        if one != other:
            return f"the first byte that differs is number {place}: {one:02x} and {other:02x}"
    kept = min(len(first.head), len(second.head))
    return f"the first {kept} bytes are the same"


def _document(comparison: Comparison) -> dict[str, object]:
    return {
        "same": comparison.difference is None,
        "equal_arrivals": comparison.equal_arrivals,
        "notes": list(comparison.notes),
        "difference": None if comparison.difference is None else _difference(comparison.difference),
    }


def _difference(difference: Difference) -> dict[str, object]:
    return {
        "time_ns": difference.time_ns,
        "link": difference.link,
        "number": difference.number,
        "differs": difference.differs,
        "runs": [
            None
            if seen is None
            else {
                "time_ns": seen.time_ns,
                "bytes": seen.total_bytes,
                "hash": seen.packet_hash,
                "packet": seen.packet,
                "head": seen.head.hex(),
            }
            for seen in difference.runs
        ],
    }
