"""What a document may say of a link: each key with its type and range, as it is written.

How keys go together, and what is not given, is the matter of `merging`: here only what was given counts
(`model_fields_set`). Whatever has a main value may be that value alone: `jitter: 2ms` is `{spread: 2ms}`.
"""

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from manystack.topology.document.errors import short
from manystack.topology.document.part import Part
from manystack.topology.document.quantity import (
    parse_bandwidth,
    parse_duration,
    parse_frequency,
    parse_overhead,
    parse_packets,
    parse_queue,
    parse_ratio,
    parse_size,
)
from manystack.topology.link.disciplines import ALL_BITS, KNOWN
from manystack.topology.link.traces import falling, incomplete, point
from manystack.topology.link.values import Mask

# Of a pipe, or between two packets of a flow.
LONGEST_DELAY_NS: Final = 10**15
# The tails of a distribution reach further than a hundred spreads, and may not reach further than a delay.
LONGEST_SPREAD_NS: Final = 10**12
LARGEST_BYTES: Final = 2**30
MOST_FLOWS: Final = 65536
OVERHEADS: Final = {"ethernet": 24, "hdlc": 10}
"""Preamble, checksum and gap of Ethernet; flags, address, control and checksum of HDLC, as ng_pipe counts."""
ATM: Final = "atm"
ATM_CELL_BYTES: Final = 48
ATM_CELL_OVERHEAD_BYTES: Final = 5


def _overhead(value: object) -> int:
    return OVERHEADS[value] if isinstance(value, str) and value in OVERHEADS else parse_overhead(value)


def _bytes(least: int, most: int, *names: tuple[str, int]) -> Callable[[object], int]:
    """Return the parser of a size in a range, some of which have names."""

    def parse(value: object) -> int:
        for name, size_bytes in names:
            if value == name:
                return size_bytes
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
    """Return ns, at most 10^15."""
    delay_ns = parse_duration(value)
    if delay_ns > LONGEST_DELAY_NS:
        raise ValueError(f"{value} is too long: at most {LONGEST_DELAY_NS // 10**9}s")
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


def _mask(value: object) -> object:
    if value == "all":
        return WrittenMask.model_construct(_fields_set=set(Mask.model_fields), **ALL_BITS.model_dump())
    return value


def _main(model: type[Part], key: str, parse: Callable[[object], object]) -> Callable[[object], object]:
    """Return what reads a part that may be its main value alone."""

    def read(value: object) -> object:
        if isinstance(value, dict):
            return value
        return model.model_construct(_fields_set={key}, **{key: parse(value)})

    return read


Delay = Annotated[int, BeforeValidator(parse_delay)]
Spread = Annotated[int, BeforeValidator(_spread)]
Wait = Annotated[int, BeforeValidator(_wait)]
Frequency = Annotated[int, BeforeValidator(parse_frequency)]
Ratio = Annotated[float, BeforeValidator(parse_ratio)]
File = Annotated[str, BeforeValidator(_file)]
Cdf = Annotated[Any, BeforeValidator(_cdf)]
Shape = Literal["uniform", "normal", "pareto", "paretonormal"]
Count = Annotated[int, Field(ge=0, le=2**30)]
Bytes = Annotated[int, BeforeValidator(_bytes(0, LARGEST_BYTES))]


class WrittenBandwidth(Part):
    """A rate, or a trace of rates."""

    rate: Annotated[int, BeforeValidator(_bandwidth)] = 0
    trace: File = ""
    format: Literal["csv", "mahimahi"] = "csv"
    repeat: bool = False


class WrittenJitter(Part):
    """What varies the delay."""

    spread: Spread = 0
    distribution: Shape = "uniform"
    table: File = ""
    cdf: Cdf = ()
    correlation: Ratio = 0.0
    reorder: bool = False


class WrittenAirtime(Part):
    """What packets occupy the link beside their transmission."""

    cdf: Annotated[Any, BeforeValidator(_airtime_cdf)] = ()
    loss_above: Ratio = 1.0


class WrittenInterval(Part):
    """The distance of two slots: fixed, between two bounds, or by a distribution."""

    from_: Delay = Field(default=0, alias="from")
    to: Delay = 0
    mean: Delay = 0
    spread: Spread = 0
    distribution: Shape = "uniform"
    table: File = ""
    cdf: Cdf = ()


def _interval(value: object) -> object:
    return _main(WrittenInterval, "from_", parse_delay)(value)


class WrittenSlots(Part):
    """When a line that serves in bursts opens, and for how much."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {"interval": WrittenInterval}
    interval: Annotated[WrittenInterval, BeforeValidator(_interval)] = WrittenInterval()
    packets: Count = 0
    bytes: Bytes = 0


class WrittenGilbertElliott(Part):
    """Two states."""

    p: Ratio = 0.0
    r: Ratio = 0.0
    bad: Ratio = 1.0
    good: Ratio = 0.0


class WrittenMarkov(Part):
    """Four states."""

    p13: Ratio = 0.0
    p31: Ratio = 0.0
    p32: Ratio = 0.0
    p23: Ratio = 1.0
    p14: Ratio = 0.0


class WrittenLoss(Part):
    """What the wire loses: a rate, or one of the models."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {
        "gilbert_elliott": WrittenGilbertElliott,
        "markov": WrittenMarkov,
    }
    rate: Ratio = 0.0
    correlation: Ratio = 0.0
    gilbert_elliott: WrittenGilbertElliott = WrittenGilbertElliott()
    markov: WrittenMarkov = WrittenMarkov()
    trace: File = ""
    ecn: bool = False


class WrittenChance(Part):
    """Something that happens to a share of the packets."""

    rate: Ratio = 0.0
    correlation: Ratio = 0.0


class WrittenReorder(WrittenChance):
    """The share of packets that overtake."""

    gap: Annotated[int, Field(ge=1, le=2**30)] = 1


class WrittenMask(Part):
    """Which bits of a five-tuple tell flows apart; those not named do not."""

    src_ip: Annotated[int, BeforeValidator(_bits(32, IPv4Address))] = 0
    dst_ip: Annotated[int, BeforeValidator(_bits(32, IPv4Address))] = 0
    src_ip6: Annotated[int, BeforeValidator(_bits(128, IPv6Address))] = 0
    dst_ip6: Annotated[int, BeforeValidator(_bits(128, IPv6Address))] = 0
    src_port: Annotated[int, BeforeValidator(_bits(16))] = 0
    dst_port: Annotated[int, BeforeValidator(_bits(16))] = 0
    proto: Annotated[int, BeforeValidator(_bits(8))] = 0


class WrittenQueue(Part):
    """A queue's limit, its discipline, and the settings of all disciplines."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {"mask": WrittenMask}
    limit: Annotated[tuple[int | None, int | None], BeforeValidator(parse_queue)] = (None, None)
    discipline: Annotated[str, BeforeValidator(_discipline)] = "droptail"
    drop: Literal["tail", "head"] = "tail"
    ecn: bool = False
    target: Wait = 1
    interval: Wait = 1
    burst: Spread = 0
    min: Bytes = 0
    max: Bytes = 0
    probability: Ratio = 0.0
    mark_below: Ratio = 0.0
    alpha: Frequency = 0
    beta: Frequency = 0
    capdrop: bool = True
    derandomize: bool = True
    onoff: bool = False
    gentle: bool = False
    averaging: Annotated[int, BeforeValidator(_averaging)] = 1
    quantum: Annotated[int, BeforeValidator(_bytes(1, LARGEST_BYTES))] = 1
    rate: Annotated[int, BeforeValidator(_rate)] = 1
    flows: Annotated[int, Field(ge=1, le=MOST_FLOWS)] = 1
    weights: Annotated[tuple[int, ...], BeforeValidator(_weights)] = ()
    mask: Annotated[WrittenMask, BeforeValidator(_mask)] = WrittenMask()


_bandwidth_part = _main(WrittenBandwidth, "rate", _bandwidth)
_airtime_part = _main(WrittenAirtime, "cdf", _airtime_cdf)
_jitter_part = _main(WrittenJitter, "spread", _spread)
_slots_part = _main(WrittenSlots, "interval", _interval)
_loss_part = _main(WrittenLoss, "rate", parse_ratio)
_chance_part = _main(WrittenChance, "rate", parse_ratio)
_reorder_part = _main(WrittenReorder, "rate", parse_ratio)
_queue_part = _main(WrittenQueue, "limit", parse_queue)


class WrittenPipe(Part):
    """One direction of a link."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {
        "bandwidth": WrittenBandwidth,
        "airtime": WrittenAirtime,
        "jitter": WrittenJitter,
        "slots": WrittenSlots,
        "loss": WrittenLoss,
        "duplicate": WrittenChance,
        "corrupt": WrittenChance,
        "reorder": WrittenReorder,
        "queue": WrittenQueue,
    }
    bandwidth: Annotated[WrittenBandwidth, BeforeValidator(_bandwidth_part)] = WrittenBandwidth()
    overhead: Annotated[int, BeforeValidator(_overhead)] = 0
    cell: Annotated[int, BeforeValidator(_bytes(0, 65535, (ATM, ATM_CELL_BYTES)))] = 0
    cell_overhead: Annotated[int, BeforeValidator(_bytes(0, 255))] = 0
    burst: Bytes = 0
    airtime: Annotated[WrittenAirtime, BeforeValidator(_airtime_part)] = WrittenAirtime()
    delay: Delay = 0
    jitter: Annotated[WrittenJitter, BeforeValidator(_jitter_part)] = WrittenJitter()
    slots: Annotated[WrittenSlots, BeforeValidator(_slots_part)] = WrittenSlots()
    loss: Annotated[WrittenLoss, BeforeValidator(_loss_part)] = WrittenLoss()
    ber: Annotated[float, BeforeValidator(_bit_error)] = 0.0
    duplicate: Annotated[WrittenChance, BeforeValidator(_chance_part)] = WrittenChance()
    corrupt: Annotated[WrittenChance, BeforeValidator(_chance_part)] = WrittenChance()
    reorder: Annotated[WrittenReorder, BeforeValidator(_reorder_part)] = WrittenReorder()
    queue: Annotated[WrittenQueue, BeforeValidator(_queue_part)] = WrittenQueue()


class WrittenLink(WrittenPipe):
    """A link: what stands beside `ends` holds for both directions, unless a direction says otherwise."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {
        **WrittenPipe.parts,
        "forward": WrittenPipe,
        "reverse": WrittenPipe,
    }
    ends: list[str] = Field(min_length=2, max_length=2, description="write ends: [a.eth0, b.eth0]")
    forward: WrittenPipe = WrittenPipe()
    reverse: WrittenPipe = WrittenPipe()
