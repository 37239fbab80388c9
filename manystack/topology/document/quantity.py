"""Quantities: text with a unit in a document, a whole number of the smallest unit in the engine.

    parse_duration("1.5ms") == 1_500_000        nanoseconds
    parse_bandwidth("100Mbit/s") == 100_000_000 bits a second, SI prefixes; "unlimited" is 0
    parse_frequency("0.125Hz") == 125_000       millionths of a Hertz
    parse_size("64KiB") == 65536                bytes, binary prefixes
    parse_ratio("0.1%") == 0.001                a number does as well
    parse_queue("100packets") == (100, None)    a limit in packets, or in bytes; "unlimited" is neither

Nothing is rounded: what is no whole number of the smallest unit is an error, and what the format functions
write is read back as the same number. Every parser raises ValueError with a sentence that says what to write.
"""

import difflib
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from manystack.topology.document.errors import short

UNLIMITED: Final = "unlimited"

_NUMBER = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*(\D*)")
_PACKETS = re.compile(r"([0-9]+)\s*packets?")
# Longer numbers are no quantities, and cost time to calculate with.
_LONGEST_TEXT = 64


@dataclass(frozen=True)
class _Quantity:
    """A kind of quantity: its units, as multiples of the smallest, and what a bare number probably meant."""

    name: str
    units: dict[str, int]
    likely_unit: str
    maximum: int
    minimum: int = 0

    def parse(self, value: object) -> int:
        """Return the whole number of smallest units that `value`, text with a unit, stands for."""
        example = f"such as 10{self.likely_unit}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError(f"must be {self.name}, {example}")
        match = _NUMBER.fullmatch(value.strip()) if len(value) <= _LONGEST_TEXT else None
        if match is None:
            raise ValueError(f"{short(value)} is not {self.name}: write a number and its unit, {example}")
        number, unit = match.groups()
        if unit not in self.units:
            raise ValueError(self._about_unit(number, unit))
        exact = Decimal(number) * self.units[unit]
        smallest = next(iter(self.units))
        if exact < 0 and self.minimum == 0:
            raise ValueError(f"{value} is negative: {self.name} is at least 0{smallest}")
        if exact != int(exact):
            raise ValueError(f"{value} is not a whole number of {smallest}")
        if exact > self.maximum:
            # In the largest unit that says it exactly.
            size, unit = max((size, unit) for unit, size in self.units.items() if not self.maximum % size)
            raise ValueError(f"{value} is too large: at most {self.maximum // size}{unit}")
        if exact < self.minimum:
            raise ValueError(f"{value} is too small: at least {self.minimum}{smallest}")
        return int(exact)

    def _about_unit(self, number: str, unit: str) -> str:
        if not unit:
            return f"{number} has no unit: write {number}{self.likely_unit} (units: {', '.join(self.units)})"
        by_lower_case = {known.lower(): known for known in self.units}
        close = difflib.get_close_matches(unit.lower(), by_lower_case, n=1, cutoff=0.4)
        suggestion = f"write {number}{by_lower_case[close[0]]} " if close else ""
        return f"{number}{unit} has an unknown unit: {suggestion}(units: {', '.join(self.units)})"


_DURATION = _Quantity(
    "a duration",
    {
        "ns": 1,
        "us": 10**3,
        "µs": 10**3,
        "ms": 10**6,
        "s": 10**9,
        "min": 60 * 10**9,
        "h": 3600 * 10**9,
    },
    "ms",
    10**18,
)
_BANDWIDTH = _Quantity(
    "a bandwidth",
    {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9, "Tbit/s": 10**12},
    "Mbit/s",
    10**12,
)
_FREQUENCY = _Quantity("a frequency", {"µHz": 1, "uHz": 1, "mHz": 10**3, "Hz": 10**6}, "Hz", 7 * 10**6)
_SIZE = _Quantity("a size", {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}, "B", 2**50)
_OVERHEAD = _Quantity("a size", _SIZE.units, "B", 65535, -65535)


def parse_duration(value: object) -> int:
    """Return nanoseconds, 0 to 10^18 (about 31 years), for a text such as "5ms", "1.5s" or "1h"."""
    return _DURATION.parse(value)


def parse_bandwidth(value: object) -> int:
    """Return bits a second, 1 to 10^12, for a text such as "100Mbit/s"; 0, no limit, for "unlimited"."""
    if value == UNLIMITED:
        return 0
    bandwidth_bps = _BANDWIDTH.parse(value)
    if bandwidth_bps == 0:
        raise ValueError("a bandwidth is at least 1bit/s; for no limit leave it out or write unlimited")
    return bandwidth_bps


def parse_frequency(value: object) -> int:
    """Return millionths of a Hertz, 0 to 7 000 000, for a text such as "0.125Hz"."""
    return _FREQUENCY.parse(value)


def parse_size(value: object) -> int:
    """Return bytes, 0 to 2^50, for a text such as "1500B" or "64KiB"."""
    return _SIZE.parse(value)


def parse_overhead(value: object) -> int:
    """Return bytes that may be less than none, -65535 to 65535, for a text such as "24B" or "-14B"."""
    return _OVERHEAD.parse(value)


def parse_packets(value: object) -> int:
    """Return the number of packets in a text such as "100packets"."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    packets = _PACKETS.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if packets is None:
        example = f"{text}packets" if re.fullmatch("[0-9]{1,9}", text) else "a number such as 100packets"
        raise ValueError(f"{short(value)} is no number of packets: write {example}")
    return int(packets[1])


def parse_ratio(value: object) -> float:
    """Return 0.0 to 1.0 for a percentage such as "0.1%", or for a number or its text."""
    example = "write a percentage such as 0.1% or a number from 0 to 1"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a ratio: {example}")
    text = str(value).strip()
    try:
        # Decimal, because 0.1% is the float 0.001, and 0.1 / 100 is another one.
        ratio = float(Decimal(text[:-1]) / 100) if text.endswith("%") else float(text)
    except (ArithmeticError, ValueError):
        raise ValueError(f"{short(text)} is not a ratio: {example}") from None
    if 1 < ratio <= 100 and not text.endswith("%"):
        raise ValueError(f"{text} is more than 1: write {text}% if that is meant")
    if math.isnan(ratio) or not 0 <= ratio <= 1:
        raise ValueError(f"{short(text)} is not between 0% and 100%")
    return ratio


def parse_queue(value: object) -> tuple[int | None, int | None]:
    """Return a queue's limit, "100packets" or "64KiB", as (packets, bytes); at most one is a number."""
    if value == UNLIMITED:
        return None, None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a queue's limit, such as 100packets or 64KiB")
    text = str(value).strip()
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"{short(text)} is not a queue's limit: write one such as 100packets or 64KiB")
    if re.fullmatch(r"-?[0-9.]+", text):
        raise ValueError(f"{text} has no unit: write {text}packets, or a size such as 64KiB")
    packets = _PACKETS.fullmatch(text)
    if packets is None and "packet" in text:
        raise ValueError(f"{short(text)} is not a queue's limit: write a whole number, such as 100packets")
    limit = int(packets[1]) if packets else _SIZE.parse(text)
    if not 1 <= limit < 2**31:
        raise ValueError(f"{text} is no possible limit: a queue holds 1 to {2**31 - 1} packets or bytes")
    return (limit, None) if packets else (None, limit)


def format_duration(duration_ns: int) -> str:
    """Write nanoseconds in the largest unit up to seconds that is not longer, exactly: "1.5ms"."""
    return _format_decimal(duration_ns, {name: _DURATION.units[name] for name in ("ns", "us", "ms", "s")})


def format_bandwidth(bandwidth_bps: int) -> str:
    """Write bits a second with the largest prefix that fits, exactly: "1.5Mbit/s"; 0 is "unlimited"."""
    return _format_decimal(bandwidth_bps, _BANDWIDTH.units) if bandwidth_bps else UNLIMITED


def format_frequency(frequency_microhertz: int) -> str:
    """Return millionths of a Hertz as a text that parse_frequency reads."""
    return _format_decimal(frequency_microhertz, _FREQUENCY.units)


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest unit that divides them: "64KiB", "1500B"."""
    unit = max(
        (unit for unit, size in _SIZE.units.items() if size_bytes % size == 0), key=_SIZE.units.__getitem__
    )
    return f"{size_bytes // _SIZE.units[unit]}{unit}" if size_bytes else "0B"


def format_ratio(ratio: float) -> str:
    """Write a ratio as a percentage that is read back as the same number: "0.1%"."""
    return f"{_plain(Decimal(repr(ratio)) * 100)}%"


def format_queue(limit_packets: int | None, limit_bytes: int | None) -> str:
    """Write a queue's limit: "100packets", "64KiB" or "unlimited"."""
    if limit_packets is not None:
        return f"{limit_packets}packets"
    return UNLIMITED if limit_bytes is None else format_size(limit_bytes)


def _format_decimal(number: int, units: dict[str, int]) -> str:
    fitting = [unit for unit, size in units.items() if size <= number]
    unit = fitting[-1] if fitting else next(iter(units))
    return f"{_plain(Decimal(number) / units[unit])}{unit}"


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
