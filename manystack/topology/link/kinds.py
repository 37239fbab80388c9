"""The kinds of values that a link's document has: each with its range, how it is read, and how it is written.

Read once, a value is a plain one from then on: a duration is whole nanoseconds, a mask an integer.
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo

from manystack.core import _switch as core
from manystack.topology.document.errors import short
from manystack.topology.document.quantity import (
    format_bandwidth,
    format_duration,
    format_frequency,
    format_queue,
    format_ratio,
    format_size,
    parse_bandwidth,
    parse_duration,
    parse_frequency,
    parse_overhead,
    parse_packets,
    parse_queue,
    parse_ratio,
    parse_size,
)
from manystack.topology.link.disciplines import KNOWN
from manystack.topology.link.traces import falling, incomplete, point
from manystack.topology.link.values import RecordedBandwidth, RecordedLoss, Variation

# The tails of a distribution reach further than a hundred spreads, and may not reach further than a delay.
LONGEST_SPREAD_NS: Final = 10**12
LARGEST_BYTES: Final = 2**30
MOST_FLOWS: Final = 65536
OVERHEADS: Final = {"ethernet": 24, "hdlc": 10}
"""Preamble, checksum and gap of Ethernet; flags, address, control and checksum of HDLC, as ng_pipe counts."""


def _overhead(value: object) -> int:
    return OVERHEADS[value] if isinstance(value, str) and value in OVERHEADS else parse_overhead(value)


def _bytes(least: int, most: int) -> Callable[[object], int]:
    """Return the parser of a size in a range."""

    def parse(value: object) -> int:
        size_bytes = parse_size(value)
        if not least <= size_bytes <= most:
            raise ValueError(f"{value} is not possible: allowed are {least}B to {most}B")
        return size_bytes

    return parse


def _bandwidth(value: object) -> int:
    bandwidth_bps = parse_bandwidth(value)
    if 0 < bandwidth_bps < 100:
        raise ValueError(f"{value} is too slow: a link has at least 100bit/s")
    return bandwidth_bps


def _rate(value: object) -> int:
    rate_bps = _bandwidth(value)
    if rate_bps == 0:
        raise ValueError(f"{value} is no rate for a flow: allowed are 100bit/s to 1Tbit/s")
    return rate_bps


def parse_delay(value: object) -> int:
    """Return ns: a delay of a pipe, or between two packets of a flow."""
    delay_ns = parse_duration(value)
    if delay_ns > core.LONGEST_NS:
        raise ValueError(f"{value} is too long: at most {core.LONGEST_NS // 10**9}s")
    return delay_ns


def _spread(value: object) -> int:
    spread_ns = parse_duration(value)
    if spread_ns > LONGEST_SPREAD_NS:
        raise ValueError(f"{value} is too long: at most {LONGEST_SPREAD_NS // 10**9}s")
    return spread_ns


def _wait(value: object) -> int:
    wait_ns = _spread(value)
    if wait_ns == 0:
        raise ValueError(f"{value} is too short: at least 1ns")
    return wait_ns


def _bit_error(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
        raise ValueError(
            f"{short(value)} is no probability: one wrong bit in {short(value)} is {1 / value:g}"
        )
    ratio = parse_ratio(value)
    if ratio == 1:
        raise ValueError("1 would lose every frame: write loss: 100%, or a rate such as 1e-7")
    return ratio


def _file(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the name of a file, not {short(value)}")
    return value


def _cdf(value: object) -> str | tuple[tuple[float, int], ...]:
    """A CDF is a file, or a list of points."""
    if not isinstance(value, list):
        return _file(value)
    points: list[tuple[float, int]] = []
    for number, pair in enumerate(value, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"point {number} is no pair [PROBABILITY, DELAY] such as [50%, 10ms]")
        try:
            points.append(point(*pair))
        except ValueError as error:
            raise ValueError(f"point {number}: {error}") from None
        mistake = falling(points[-2], points[-1]) if number > 1 else ""
        if mistake:
            raise ValueError(f"point {number}: {mistake}")
    mistake = incomplete(points[0], points[-1]) if points else "write at least one point"
    if mistake:
        raise ValueError(mistake)
    return tuple(points)


def _airtime_cdf(value: object) -> str | tuple[tuple[float, int], ...]:
    """A CDF, or 0ms for none."""
    try:
        duration_ns = parse_duration(value)
    except ValueError:
        return _cdf(value)
    if duration_ns:
        raise ValueError(
            f"{value} is no CDF: for the same time for each packet write [[0, {value}], [1, {value}]]"
        )
    return ()


def _discipline(value: object) -> str:
    if isinstance(value, str) and value in KNOWN:
        return value
    raise ValueError(f"{short(value)} is not known here; allowed: {', '.join(KNOWN)}")


def _averaging(value: object) -> int:
    packets = parse_packets(value)
    if not 1 <= packets <= 2**31 or packets & (packets - 1):
        below = 1 << max(0, min(31, packets.bit_length() - 1))
        raise ValueError(f"{packets}packets is no power of 2 up to 2^31: write {below}packets")
    return packets


def _weights(value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or len(value) != 8
        or not all(type(weight) is int and 1 <= weight <= 1000 for weight in value)
    ):
        raise ValueError("write eight whole numbers from 1 to 1000: one for each IP precedence, 0 to 7")
    return tuple(value)


def _bits(
    width: int, address: type[IPv4Address] | type[IPv6Address] | None = None
) -> Callable[[object], int]:
    """Return the parser of a mask: /24 (the first bits), all, a number, or an address as a mask."""
    whole = (1 << width) - 1

    def parse(value: object) -> int:
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        bits = -1
        if text == "all":
            bits = whole
        elif re.fullmatch("/[0-9]{1,3}", text) and int(text[1:]) <= width:
            bits = whole ^ (whole >> int(text[1:]))
        elif re.fullmatch("0x[0-9a-fA-F]{1,32}", text):
            bits = int(text, 16)
        elif address is None and re.fullmatch("[0-9]{1,5}", text):
            bits = int(text)
        elif address is not None:
            try:
                bits = int(address(text))
            except AddressValueError:
                bits = -1
        if not 0 <= bits <= whole:
            example = f"/{width // 2}, all, or a number such as {whole:#x}"
            raise ValueError(f"{short(value)} is no mask of {width} bits: write {example}")
        return bits

    return parse


def _bits_text(width: int) -> Callable[[int], str]:
    """Return what writes a mask: as /24 where it is the first bits, else as an address or a number."""
    whole = (1 << width) - 1

    def text(bits: int) -> str:
        length = width - (whole ^ bits).bit_length()
        if bits == whole ^ (whole >> length):
            return f"/{length}"
        if width == 32:
            return str(IPv4Address(bits))
        return str(IPv6Address(bits)) if width == 128 else f"{bits:#x}"

    return text


def _file_text(named: str | RecordedBandwidth | RecordedLoss | Variation, info: SerializationInfo) -> str:
    """Write a file's name; in the context's `folder` as seen from there, else with its whole path."""
    path = Path(named if isinstance(named, str) else named.file or "").absolute()
    folder = (info.context or {}).get("folder")
    return str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else str(path)


def _cdf_text(cdf: str | Variation | tuple[tuple[float, int], ...], info: SerializationInfo) -> Any:
    if not isinstance(cdf, tuple):
        return _file_text(cdf, info)
    return [[format_ratio(share), format_duration(delay_ns)] for share, delay_ns in cdf] or "0ns"


Delay = Annotated[int, BeforeValidator(parse_delay), PlainSerializer(format_duration)]
Spread = Annotated[int, BeforeValidator(_spread), PlainSerializer(format_duration)]
Wait = Annotated[int, BeforeValidator(_wait), PlainSerializer(format_duration)]
Frequency = Annotated[int, BeforeValidator(parse_frequency), PlainSerializer(format_frequency)]
Bandwidth = Annotated[int, BeforeValidator(_bandwidth), PlainSerializer(format_bandwidth)]
FlowRate = Annotated[int, BeforeValidator(_rate), PlainSerializer(format_bandwidth)]
Ratio = Annotated[float, BeforeValidator(parse_ratio), PlainSerializer(format_ratio)]
BitError = Annotated[float, BeforeValidator(_bit_error)]
# A name; for a pipe that exists, what was read from the file: a change of something else leaves it at that.
File = Annotated[Any, BeforeValidator(_file), PlainSerializer(_file_text)]
Cdf = Annotated[Any, BeforeValidator(_cdf), PlainSerializer(_cdf_text)]
AirtimeCdf = Annotated[Any, BeforeValidator(_airtime_cdf), PlainSerializer(_cdf_text)]
Shape = Literal["uniform", "normal", "pareto", "paretonormal"]
Count = Annotated[int, Field(ge=0, le=2**30)]
Bytes = Annotated[int, BeforeValidator(_bytes(0, LARGEST_BYTES)), PlainSerializer(format_size)]
Quantum = Annotated[int, BeforeValidator(_bytes(1, LARGEST_BYTES)), PlainSerializer(format_size)]
Cell = Annotated[int, BeforeValidator(_bytes(0, 65535)), PlainSerializer(format_size)]
CellOverhead = Annotated[int, BeforeValidator(_bytes(0, 255)), PlainSerializer(format_size)]
Overhead = Annotated[int, BeforeValidator(_overhead), PlainSerializer(format_size)]
Discipline = Annotated[str, BeforeValidator(_discipline)]
Flows = Annotated[int, Field(ge=1, le=MOST_FLOWS)]
Limit = Annotated[
    tuple[int | None, int | None],
    BeforeValidator(parse_queue),
    PlainSerializer(lambda limit: format_queue(*limit)),
]
Packets = Annotated[int, BeforeValidator(_averaging), PlainSerializer(lambda packets: f"{packets}packets")]
Weights = Annotated[tuple[int, ...], BeforeValidator(_weights), PlainSerializer(list)]
Ip4Bits = Annotated[int, BeforeValidator(_bits(32, IPv4Address)), PlainSerializer(_bits_text(32))]
Ip6Bits = Annotated[int, BeforeValidator(_bits(128, IPv6Address)), PlainSerializer(_bits_text(128))]
PortBits = Annotated[int, BeforeValidator(_bits(16)), PlainSerializer(_bits_text(16))]
ProtoBits = Annotated[int, BeforeValidator(_bits(8)), PlainSerializer(_bits_text(8))]
