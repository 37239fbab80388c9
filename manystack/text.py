"""Numbers and tables as people read them: measured values, rounded. Exact ones are document.quantity's."""

from collections.abc import Sequence

NOTHING = "-"


def time_text(ns: int | None) -> str:
    """Return a measured time with the unit that suits it and at most four digits: `20.31 ms`."""
    if ns is None:
        return NOTHING
    for unit_ns, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if abs(ns) >= unit_ns:
            return f"{_digits(ns / unit_ns)} {unit}"
    return f"{ns} ns"


def clock_text(ns: int) -> str:
    """Return a moment of emulated time: `12.345s`, above a minute `1:02.345`, above an hour `1:02:03.456`."""
    milliseconds = ns // 1_000_000
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}.{milliseconds:03}"
    if minutes:
        return f"{minutes}:{seconds:02}.{milliseconds:03}"
    return f"{seconds}.{milliseconds:03}s"


def rate_text(bps: float | None, digits: int = 4) -> str:
    """Return a measured rate with the unit that suits it and at most so many digits: `9.984 Mbit/s`."""
    if bps is None:
        return NOTHING
    for unit_bps, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bps >= unit_bps:
            return f"{_digits(bps / unit_bps, digits)} {unit}"
    return f"{_digits(bps, digits)} bit/s"


def bytes_text(count: int) -> str:
    """Return a number of bytes with the unit that suits it: `1.46 MiB`."""
    for unit_bytes, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit_bytes:
            return f"{_digits(count / unit_bytes)} {unit}"
    return f"{count} B"


def count_text(count: int | None) -> str:
    """Return a number with separated thousands: `1,234,567`."""
    return NOTHING if count is None else f"{count:,}"


def share_text(part: int, whole: int) -> str:
    """Return a part of a whole in percent: `0%`, `0.13%`, `12%`; 0 and 100 only where that is exact."""
    if part == 0 or whole == 0:
        return "0%"
    percent = 100 * part / whole
    if 10 <= percent < 99.5:
        return f"{percent:.0f}%"
    return f"{percent:.2g}%" if percent < 10 else f"{percent:.4g}%"


def plural(count: int, noun: str) -> str:
    """Return `1 packet`, `2 packets`, `1,000 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return aligned lines: the first `left` columns to the left, the others, numbers, to the right."""
    lines = [headers, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        "  ".join(
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _digits(value: float, digits: int = 4) -> str:
    """Return a value rounded to so many digits, or to a whole number where that has more."""
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
