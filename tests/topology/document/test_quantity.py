"""Quantities: what is read, what is written, and what a user is told."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manystack.topology.document.quantity import (
    format_bandwidth,
    format_duration,
    format_queue,
    format_ratio,
    format_size,
    parse_bandwidth,
    parse_duration,
    parse_queue,
    parse_ratio,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("0ns", 0),
        ("1ns", 1),
        ("1us", 1_000),
        ("1µs", 1_000),
        ("5ms", 5_000_000),
        ("1.5ms", 1_500_000),
        ("0.000001ms", 1),
        (" 2 s ", 2_000_000_000),
        ("1min", 60_000_000_000),
        ("1h", 3_600_000_000_000),
    ],
)
def test_durations(text: str, duration_ns: int) -> None:
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "bandwidth_bps"),
    [
        ("1bit/s", 1),
        ("64kbit/s", 64_000),
        ("100Mbit/s", 100_000_000),
        ("2.5Gbit/s", 2_500_000_000),
        ("1Tbit/s", 10**12),
        ("unlimited", 0),
    ],
)
def test_bandwidths(text: str, bandwidth_bps: int) -> None:
    assert parse_bandwidth(text) == bandwidth_bps


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("1500B", 1500), ("64KiB", 65536), ("1.5MiB", 1572864)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "ratio"), [("0.1%", 0.001), (0.001, 0.001), ("1e-7", 1e-7), (0, 0.0), (1, 1.0), ("100%", 1.0)]
)
def test_ratios(value: object, ratio: float) -> None:
    assert parse_ratio(value) == ratio


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100packets", (100, None)),
        ("1packet", (1, None)),
        ("64KiB", (None, 65536)),
        ("unlimited", (None, None)),
    ],
)
def test_queues(text: str, limit: tuple[int | None, int | None]) -> None:
    assert parse_queue(text) == limit


@pytest.mark.parametrize(
    ("parse", "value", "said"),
    [
        (parse_duration, 5, "write 5ms"),
        (parse_duration, 0.5, "write 0.5ms"),
        (parse_duration, "5", "write 5ms"),
        (parse_duration, "-5ms", "negative"),
        (parse_duration, "5sec", "unknown unit"),
        (parse_duration, "0.1ns", "whole number of ns"),
        (parse_duration, "1000000h", "1000000h is too large: at most 1000000000s"),
        (parse_bandwidth, "2Tbit/s", "2Tbit/s is too large: at most 1Tbit/s"),
        (parse_duration, "soon", "such as 10ms"),
        (parse_duration, None, "such as 10ms"),
        (parse_duration, True, "such as 10ms"),
        (parse_duration, "9" * 10_000 + "ms", "is not a duration"),
        (parse_bandwidth, 100, "write 100Mbit/s"),
        (parse_bandwidth, "100Mbps", "write 100Mbit/s"),
        (parse_bandwidth, "100mbit/s", "write 100Mbit/s"),
        (parse_bandwidth, "0Mbit/s", "at least 1bit/s"),
        (parse_bandwidth, 0, "write 0Mbit/s"),
        (parse_size, 1500, "write 1500B"),
        (parse_size, "64kB", "write 64KiB"),
        (parse_ratio, 5, "write 5%"),
        (parse_ratio, "101%", "between 0% and 100%"),
        (parse_ratio, "-1%", "between 0% and 100%"),
        (parse_ratio, float("nan"), "between 0% and 100%"),
        (parse_ratio, "lots", "not a ratio"),
        (parse_ratio, True, "must be a ratio"),
        (parse_queue, 100, "write 100packets"),
        (parse_queue, "0packets", "1 to"),
        (parse_queue, "1.5packets", "whole number"),
        (parse_queue, "many", "is not a size"),
        (parse_queue, None, "such as 100packets"),
    ],
)
def test_what_is_said(parse: object, value: object, said: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(value)


@given(st.integers(0, 10**18))
def test_durations_are_written_exactly(duration_ns: int) -> None:
    assert parse_duration(format_duration(duration_ns)) == duration_ns


@given(st.integers(0, 10**12))
def test_bandwidths_are_written_exactly(bandwidth_bps: int) -> None:
    assert parse_bandwidth(format_bandwidth(bandwidth_bps)) == bandwidth_bps


@given(st.integers(0, 2**50))
def test_sizes_are_written_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.floats(0, 1))
def test_ratios_are_written_exactly(ratio: float) -> None:
    assert parse_ratio(format_ratio(ratio)) == ratio


@given(st.sampled_from(["packets", "bytes", "none"]), st.integers(1, 2**31 - 1))
def test_queues_are_written_exactly(unit: str, number: int) -> None:
    limit = (number if unit == "packets" else None, number if unit == "bytes" else None)
    assert parse_queue(format_queue(*limit)) == limit


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary(), st.lists(st.integers())))
def test_nothing_but_value_errors(value: object) -> None:
    for parse in (parse_duration, parse_bandwidth, parse_size, parse_ratio, parse_queue):
        try:
            parse(value)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("duration_ns", "text"), [(0, "0ns"), (1_500_000, "1.5ms"), (3_600_000_000_000, "3600s"), (999, "999ns")]
)
def test_durations_as_written(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text
