"""Files that a link's parameters name: recordings of bandwidth and loss, tables of delays.

A mistake is a ValueError that names the file and the line. Lines that are empty or begin with # count, but
say nothing.
"""

import re
import stat
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from manystack.core import _switch as core
from manystack.topology.document.errors import short
from manystack.topology.document.quantity import parse_bandwidth, parse_duration, parse_ratio
from manystack.topology.link.values import RecordedBandwidth, RecordedLoss, Variation

FILE_KEYS: Final = frozenset({"trace", "table", "cdf"})
MAX_FILE_BYTES: Final = 64 * 2**20
# netem's table has values of 16 bits, and the kernel takes no more of them than this.
MOST_TABLE_VALUES: Final = 16384
TABLE_LIMIT: Final = 32768

_FATES: Final = {"0": 0, "1": 1}
_HEADER: Final = re.compile(r"[A-Za-z][\w ()/]*,\s*[A-Za-z][\w ()/]*")

Lines = list[tuple[int, str]]
Points = tuple[tuple[float, int], ...]


@dataclass
class Files:
    """Reads what a topology in `folder` names, each file once.

    What a pipe has read before may stand in a name's place: it is as it was then.
    """

    folder: Path
    _bandwidths: dict[tuple[str, str, bool], RecordedBandwidth] = field(default_factory=dict)
    _losses: dict[str, RecordedLoss] = field(default_factory=dict)
    _tables: dict[str, Variation] = field(default_factory=dict)
    _cdfs: dict[str, Variation] = field(default_factory=dict)

    def bandwidth(
        self, named: str | RecordedBandwidth, form: str | None, repeats: bool | None
    ) -> RecordedBandwidth:
        """Return a recorded bandwidth; without a format, the file's content tells it."""
        if isinstance(named, RecordedBandwidth):
            if form in (None, named.format) and repeats in (None, named.period_ns > 0):
                return named
            named = named.file
        file = str(self.folder / named)
        for guess in [form] if form else ["csv", "mahimahi"]:
            known = self._bandwidths.get((file, guess, guess == "mahimahi" or bool(repeats)))
            if known is not None:
                return known
        lines = _lines(Path(file))
        chosen = form or _bandwidth_format(lines)
        if chosen == "csv":
            recorded = _csv(file, lines, bool(repeats))
        elif repeats is False:
            raise ValueError("a mahimahi trace always repeats: write repeat: true, or leave it out")
        else:
            recorded = _mahimahi(file, lines)
        self._bandwidths[file, chosen, recorded.period_ns > 0] = recorded
        return recorded

    def loss(self, named: str | RecordedLoss) -> RecordedLoss:
        """Return a recorded loss: 0 for each packet that arrives and 1 for each that does not."""
        if isinstance(named, RecordedLoss):
            return named
        file = str(self.folder / named)
        if file not in self._losses:
            self._losses[file] = _fates(file, _lines(Path(file)))
        return self._losses[file]

    def table(self, named: str | Variation) -> Variation:
        """Return a table of netem's (a .dist file), which has no spread yet."""
        if isinstance(named, Variation):
            return named
        file = str(self.folder / named)
        if file not in self._tables:
            table = _table(file, _lines(Path(file)))
            self._tables[file] = Variation(distribution="table", file=file, table=table)
        return self._tables[file]

    def distribution(self, named: str | Variation | Points) -> Variation:
        """Return an empirical CDF: that of a file, or the one that has these points (probability, ns)."""
        if isinstance(named, Variation):
            return named
        if isinstance(named, tuple):
            return Variation(distribution="cdf", points=named)
        file = str(self.folder / named)
        if file not in self._cdfs:
            points = _points(file, _lines(Path(file)))
            self._cdfs[file] = Variation(distribution="cdf", file=file, points=points)
        return self._cdfs[file]


def _lines(path: Path) -> Lines:
    """Return a file's lines that say something, with their numbers."""
    try:
        # Of what there is beside files and folders, some ends never, and some does not even open.
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise ValueError(f"{path} is no file")
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is too large: at most {MAX_FILE_BYTES >> 20} MiB")
    lines = []
    for number, line in enumerate(data.removeprefix(BOM_UTF8).split(b"\n"), 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise _mistake(str(path), number, "is not text") from None
        if text and not text.startswith("#"):
            lines.append((number, text))
    if not lines:
        raise ValueError(f"{path} says nothing")
    return lines


def _mistake(file: str, number: int, message: object) -> ValueError:
    return ValueError(f"{file}, line {number}: {message}")


def _bandwidth_format(lines: Lines) -> Literal["csv", "mahimahi"]:
    return "csv" if "," in lines[0][1] else "mahimahi"


def _mahimahi(file: str, lines: Lines) -> RecordedBandwidth:
    times_ns: list[int] = []
    for number, line in lines:
        if not re.fullmatch("[0-9]{1,9}", line):
            raise _mistake(
                file, number, f"{short(line)} is no whole number of ms, when 1,500 bytes can be delivered"
            )
        times_ns.append(int(line) * 10**6)
        if len(times_ns) > 1 and times_ns[-1] < times_ns[-2]:
            raise _mistake(file, number, f"{line} ms is before the line above it")
    if times_ns[-1] == 0:
        raise _mistake(file, lines[-1][0], "the last time is the trace's length, and must be more than 0")
    return RecordedBandwidth(file=file, format="mahimahi", times_ns=tuple(times_ns), period_ns=times_ns[-1])


def _csv(file: str, lines: Lines, repeats: bool) -> RecordedBandwidth:
    if _HEADER.fullmatch(lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{file} says nothing below its heading")
    times_ns: list[int] = []
    rates_bps: list[int] = []
    for number, line in lines:
        try:
            time, rate = line.split(",")
        except ValueError:
            raise _mistake(file, number, f"{short(line)} is not TIME,RATE such as 1.5s,10Mbit/s") from None
        try:
            times_ns.append(parse_duration(_with_unit(time, "s")))
            rates_bps.append(_rate(rate))
        except ValueError as error:
            raise _mistake(file, number, error) from None
        if len(times_ns) == 1 and times_ns[0] != 0:
            raise _mistake(file, number, f"the first time is {time.strip()}: it must be 0s")
        if len(times_ns) > 1 and times_ns[-1] <= times_ns[-2]:
            raise _mistake(file, number, f"the time {time.strip()} is not after that of the line above it")
        if times_ns[-1] > core.LONGEST_NS:
            raise _mistake(file, number, f"{time.strip()} is too late: at most {core.LONGEST_NS // 10**9}s")
    if not any(rates_bps):
        raise ValueError(f"{file}: not every rate may be 0")
    period_ns = 0
    if repeats:
        if len(times_ns) < 2:
            raise ValueError(f"{file}: one rate alone cannot repeat")
        # How long the last rate holds is not written: as long as the one before it.
        period_ns = 2 * times_ns[-1] - times_ns[-2]
    elif rates_bps[-1] == 0:
        raise _mistake(file, lines[-1][0], "after a last rate of 0 nothing is ever sent: write repeat: true")
    return RecordedBandwidth(
        file=file,
        format="csv",
        times_ns=tuple(times_ns),
        rates_bps=tuple(rates_bps),
        period_ns=period_ns,
    )


def _with_unit(text: str, unit: str) -> str:
    text = text.strip()
    return f"{text}{unit}" if re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", text) else text


def _rate(text: str) -> int:
    number = _with_unit(text, "bit/s")
    if re.fullmatch(r"0+(\.0*)?\s*[kMGT]?bit/s", number):
        return 0
    if number == "unlimited":
        raise ValueError("a recorded rate cannot be unlimited: write one such as 10Mbit/s")
    return parse_bandwidth(number)


def _fates(file: str, lines: Lines) -> RecordedLoss:
    fates = bytearray()
    for number, line in lines:
        for mark in line:
            if mark in _FATES:
                fates.append(_FATES[mark])
            elif not mark.isspace():
                raise _mistake(
                    file, number, f"{short(mark)} is no fate: 0 is a packet that arrives, 1 one that is lost"
                )
    return RecordedLoss(file=file, fates=bytes(fates))


def _table(file: str, lines: Lines) -> tuple[int, ...]:
    values: list[int] = []
    for number, line in lines:
        for word in line.partition("#")[0].split():
            if not re.fullmatch("-?[0-9]{1,6}", word) or not -TABLE_LIMIT <= int(word) < TABLE_LIMIT:
                raise _mistake(
                    file,
                    number,
                    f"{short(word)} is no value of a table: whole numbers from -32768 to 32767 are, "
                    "8192 being one spread",
                )
            values.append(int(word))
        if len(values) > MOST_TABLE_VALUES:
            raise _mistake(file, number, f"a table has at most {MOST_TABLE_VALUES} values")
    if len(values) < 2:
        raise ValueError(f"{file}: a table has at least 2 values")
    return tuple(sorted(values))


def _points(file: str, lines: Lines) -> Points:
    """Read `PROBABILITY,DELAY` lines, or a delay profile of dummynet's."""
    rows = list(_profile(file, lines))
    for (_, above), (number, row) in pairwise(rows):
        mistake = falling(above, row)
        if mistake:
            raise _mistake(file, number, mistake)
    if not rows:
        raise ValueError(f"{file}: there are no points")
    first, last = rows[0], rows[-1]
    mistake = incomplete(first[1], last[1])
    if mistake:
        raise _mistake(file, first[0] if first[1][0] else last[0], mistake)
    return tuple(row for _, row in rows)


def _profile(file: str, lines: Lines) -> Iterator[tuple[int, tuple[float, int]]]:
    unit = ""  # of a bare delay; a profile's are ms
    order = None
    for number, line in lines:
        words = line.partition("#")[0].replace(",", " ").split()
        if words in (["prob", "delay"], ["delay", "prob"]):
            order, unit = words, "ms"
            continue
        if order is None and words[0] in ("name", "samples"):
            continue
        if order is None and words[0] in ("bw", "loss-level"):
            key = "bandwidth" if words[0] == "bw" else "airtime.loss_above"
            raise _mistake(file, number, f"take {words[0]} out, and write it as the link's {key}")
        if len(words) != 2:
            raise _mistake(file, number, f"{short(line)} is not PROBABILITY,DELAY such as 0.5,10ms")
        probability, delay = reversed(words) if order == ["delay", "prob"] else words
        try:
            yield number, point(probability, _with_unit(delay, unit) if unit else delay)
        except ValueError as error:
            raise _mistake(file, number, error) from None


def point(probability: object, delay: object) -> tuple[float, int]:
    """Return one point of a CDF. Raises ValueError."""
    delay_ns = parse_duration(delay)
    if delay_ns > core.LONGEST_NS:
        raise ValueError(f"{delay} is too long: at most {core.LONGEST_NS // 10**9}s")
    return parse_ratio(probability), delay_ns


def falling(above: tuple[float, int], row: tuple[float, int]) -> str:
    """Return what is wrong with a point of a CDF behind the one before it; nothing if all is well."""
    if row[0] < above[0]:
        return f"a CDF rises: the probability {row[0]:g} is less than {above[0]:g}, that of the point before"
    if row[1] < above[1]:
        return f"a CDF rises: the delay {row[1]}ns is less than {above[1]}ns, that of the point before"
    return ""


def incomplete(first: tuple[float, int], last: tuple[float, int]) -> str:
    """Return what is wrong with the ends of a CDF; nothing if all is well."""
    if first[0] != 0:
        return f"a CDF begins with the probability 0, not {first[0]:g}: say what the least delay is"
    if last[0] != 1:
        return f"a CDF ends with the probability 1, not {last[0]:g}: say what the greatest delay is"
    return ""
