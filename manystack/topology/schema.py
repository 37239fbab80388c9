"""What a document may say, part by part: schema version 1 as it is written.

A key of type `Later` belongs to the schema, but not to this version. `Problems` hears of everything that
pydantic finds, as a sentence with its place.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from manystack.topology.errors import NOT_YET, Problems, below, short
from manystack.topology.model import (
    Address,
    Interface,
    Mtu,
    Part,
    PipeParameters,
    Route,
    TimeMode,
    ipv4_address,
    not_ipv6,
    unicast,
)
from manystack.topology.quantity import parse_bandwidth, parse_duration, parse_queue, parse_ratio, parse_size

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SCHEMA_VERSION: Final = 1
NODE_NAME: Final = re.compile("[A-Za-z0-9_-]+")
INTERFACE_NAME: Final = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]*")
# What waits where a bandwidth is given and no queue: enough for most, and a flood does not eat the memory.
DEFAULT_QUEUE_PACKETS: Final = 1000
# Of a pipe, or between two packets of a flow.
LONGEST_DELAY_NS: Final = 10**15

LATER_DISCIPLINES: Final = ("drophead", "wfq", "drr", "red", "codel", "pie", "fq_codel", "fq_pie")


def _later(value: object) -> None:
    raise ValueError(NOT_YET)


def _version(value: object) -> int:
    if value is True or value != SCHEMA_VERSION:
        raise ValueError(f"this version reads schema version {SCHEMA_VERSION}, not {short(value)}")
    return SCHEMA_VERSION


def _node_name(value: object) -> str:
    if not isinstance(value, str) or not NODE_NAME.fullmatch(value):
        raise ValueError(f"{short(value)} is no name: a name is text of letters, digits, - and _")
    return value


def _device(value: object) -> str:
    if not isinstance(value, str) or not value or value in (".", ".."):
        raise ValueError(f"{short(value)} is no device name: write text such as emu0")
    if len(value.encode()) > 15:
        raise ValueError(f"device name {short(value)} is longer than 15 bytes")
    if re.search(r"[\s/:%\0]", value):
        raise ValueError(f"device name {short(value)} has a character that Linux does not allow in one")
    return value


def _namespace(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", value):
        raise ValueError(f"{short(value)} is no namespace: a name of letters, digits, -, _ and . is one")
    return value


def _destination(value: object) -> str:
    if isinstance(value, str):
        not_ipv6(value)
        if "." in value:
            unicast(ipv4_address(value))
            return value
    return _node_name(value)


def _payload(value: object) -> int:
    size_bytes = parse_size(value)
    if not 16 <= size_bytes <= 65507:
        raise ValueError(f"{value} is not possible: a payload is 16B to 65507B")
    return size_bytes


def _overhead(value: object) -> int:
    overhead_bytes = parse_size(value)
    if overhead_bytes > 65535:
        raise ValueError(f"{value} is too large: at most 65535B")
    return overhead_bytes


def _bandwidth(value: object) -> int:
    bandwidth_bps = parse_bandwidth(value)
    if 0 < bandwidth_bps < 100:
        raise ValueError(f"{value} is too slow: a link has at least 100bit/s")
    return bandwidth_bps


def _delay(value: object) -> int:
    delay_ns = parse_duration(value)
    if delay_ns > LONGEST_DELAY_NS:
        raise ValueError(f"{value} is too long: at most {LONGEST_DELAY_NS // 10**9}s")
    return delay_ns


def _interval(value: object) -> int:
    interval_ns = _delay(value)
    if interval_ns == 0:
        raise ValueError(f"{value} is too short: at least 1ns")
    return interval_ns


def _rate(value: object) -> int:
    rate_bps = parse_bandwidth(value)
    if rate_bps == 0:
        raise ValueError("traffic has a rate: write one such as 8Mbit/s")
    return rate_bps


class _Queue(Part):
    limit: Annotated[tuple[int | None, int | None], BeforeValidator(parse_queue)] = (None, None)
    discipline: Literal["droptail"] = "droptail"


def _queue(value: object) -> object:
    """A queue is its limit alone, or a mapping."""
    return value if isinstance(value, dict) else _Queue.model_construct(limit=parse_queue(value))


Later = Annotated[None, BeforeValidator(_later)]
Bandwidth = Annotated[int, BeforeValidator(_bandwidth)]
Duration = Annotated[int, BeforeValidator(parse_duration)]
Ratio = Annotated[float, BeforeValidator(parse_ratio)]
Size = Annotated[int, BeforeValidator(parse_size)]
NodeName = Annotated[str, BeforeValidator(_node_name)]
Payload = Annotated[int, BeforeValidator(_payload)]


class Header(Part):
    """The document itself; what it holds in nodes, links and traffic is read piece by piece."""

    required: ClassVar = {"manystack": f"write manystack: {SCHEMA_VERSION}", "nodes": "write what there is"}
    manystack: Annotated[int, BeforeValidator(_version)] = SCHEMA_VERSION
    name: NodeName = "network"
    time: Annotated[TimeMode, BeforeValidator(TimeMode.parse)] = TimeMode()
    seed: int = Field(default=0, ge=0, lt=2**64)
    routes: Literal["shortest"] | None = None
    nodes: dict[str, Any] = Field(default_factory=dict)
    links: list[Any] = Field(default_factory=list)
    traffic: list[Any] = Field(default_factory=list)


class WrittenStack(Part):
    """A host or a router."""

    parts: ClassVar = {"interfaces": Interface, "routes": Route}
    kind: Literal["host", "router"]
    interfaces: dict[str, Interface] = Field(default_factory=dict)
    routes: list[Route] = Field(default_factory=list)
    daemons: Later = None


class WrittenBridge(Part):
    """A switch or a hub."""

    kind: Literal["switch", "hub"]


class WrittenTap(Part):
    """A TAP device and the real host behind it."""

    parts: ClassVar = {"routes": Route}
    kind: Literal["tap"]
    device: Annotated[str, BeforeValidator(_device)] = Field(
        description="name the device to make, such as emu0"
    )
    namespace: Annotated[str, BeforeValidator(_namespace)] | None = None
    addresses: list[Address] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)
    mtu: Mtu = 1500


class WrittenNic(Part):
    """A network device that is there already."""

    kind: Literal["nic"]
    device: Annotated[str, BeforeValidator(_device)] = Field(
        description="name a device that exists, such as eth1"
    )
    namespace: Annotated[str, BeforeValidator(_namespace)] | None = None


WrittenNode = WrittenStack | WrittenBridge | WrittenTap | WrittenNic
NODE_KINDS: Final[dict[str, type[WrittenNode]]] = {
    "host": WrittenStack,
    "router": WrittenStack,
    "switch": WrittenBridge,
    "hub": WrittenBridge,
    "tap": WrittenTap,
    "nic": WrittenNic,
}


class WrittenPipe(Part):
    """One direction of a link. Only what was given counts (`model_fields_set`)."""

    parts: ClassVar[dict[str, type[BaseModel]]] = {"queue": _Queue}
    bandwidth: Bandwidth = 0
    overhead: Annotated[int, BeforeValidator(_overhead)] = 0
    delay: Annotated[int, BeforeValidator(_delay)] = 0
    loss: Ratio = 0.0
    queue: Annotated[_Queue, BeforeValidator(_queue)] = _Queue()
    ber: Later = None
    jitter: Later = None
    duplicate: Later = None
    reorder: Later = None
    corrupt: Later = None


class WrittenLink(WrittenPipe):
    """A link: what stands beside `ends` holds for both directions, unless a direction says otherwise."""

    parts: ClassVar = {"forward": WrittenPipe, "reverse": WrittenPipe, "queue": _Queue}
    ends: list[str] = Field(min_length=2, max_length=2, description="write ends: [a.eth0, b.eth0]")
    forward: WrittenPipe = WrittenPipe()
    reverse: WrittenPipe = WrittenPipe()


class _WrittenTraffic(Part):
    kind: Literal["ping", "udp"]
    from_: NodeName = Field(alias="from", description="name the node that sends")
    to: Annotated[str, BeforeValidator(_destination)] = Field(
        description="name a node or write an IPv4 address"
    )
    start: Duration = 0
    stop: Duration | None = None


class WrittenPing(_WrittenTraffic):
    """Echo requests."""

    interval: Annotated[int, BeforeValidator(_interval)] = 10**9
    count: int | None = Field(default=None, ge=1, lt=2**31)
    size: Payload = 56
    ttl: int = Field(default=64, ge=1, le=255)


class WrittenUdp(_WrittenTraffic):
    """UDP datagrams at a constant rate."""

    rate: Annotated[int, BeforeValidator(_rate)] = Field(description="write one such as 8Mbit/s")
    size: Payload = 1000


WrittenTraffic = WrittenPing | WrittenUdp
TRAFFIC_KINDS: Final[dict[str, type[WrittenTraffic]]] = {"ping": WrittenPing, "udp": WrittenUdp}
LATER_TRAFFIC_KINDS: Final = ("tcp",)

M = TypeVar("M", bound=BaseModel)


def read_part(problems: Problems, model: type[M], written: object, place: str) -> M | None:
    """Return a part of a document as a model, with all its mistakes noted.

    What is wrong is left out, so that what else is wrong can be seen; None if nothing comes of the rest.
    """
    try:
        return model.model_validate(written)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _note(problems, model, detail, place)
    try:
        return model.model_validate(_without(written, [detail["loc"] for detail in details]))
    except ValidationError:
        return None


def _without(written: object, paths: list[tuple[int | str, ...]]) -> object:
    """Return a mapping without what is at the paths. A list goes as a whole: places count its entries."""
    if not isinstance(written, dict):
        return written
    below_key: dict[int | str, list[tuple[int | str, ...]]] = {}
    for step, *rest in paths:
        below_key.setdefault(step, []).append(tuple(rest))
    kept = {key: value for key, value in written.items() if key not in below_key}
    for key, rests in below_key.items():
        if all(rests) and isinstance(written.get(str(key)), dict):
            kept[key] = _without(written[key], rests)
    return kept


def read_kind(
    problems: Problems,
    kinds: Mapping[str, type[M]],
    written: object,
    place: str,
    *,
    later: tuple[str, ...] = (),
) -> M | None:
    """Return a part whose `kind` says what else it may hold."""
    if not isinstance(written, dict):
        problems.add(place, f"must be a mapping with a kind, not {short(written)}")
        return None
    kind = written.get("kind")
    if isinstance(kind, str) and kind in kinds:
        return read_part(problems, kinds[kind], written, place)
    if "kind" not in written:
        problems.add(f"{place}.kind", f"is missing: write one of {', '.join(kinds)}")
    elif isinstance(kind, str) and kind in later:
        problems.add(f"{place}.kind", f"kind {kind} is {NOT_YET}")
    else:
        problems.add_unknown(f"{place}.kind", "kind", kind, kinds)
    return None


def _default_queue(bandwidth_bps: int) -> tuple[int | None, int | None]:
    return DEFAULT_QUEUE_PACKETS if bandwidth_bps else None, None


def pipe_parameters(*written: WrittenPipe, base: PipeParameters) -> PipeParameters:
    """Return `base` changed by what was written, the later the stronger.

    A pipe that gets its first bandwidth here, and no word about its queue, has one of DEFAULT_QUEUE_PACKETS;
    that goes again with the bandwidth.
    """
    given = {key: getattr(pipe, key) for pipe in written for key in pipe.model_fields_set}
    queue = base.queue_limit_packets, base.queue_limit_bytes
    if "queue" in given:
        queue = given["queue"].limit
    elif "bandwidth" in given and queue == _default_queue(base.bandwidth_bps):
        queue = _default_queue(given["bandwidth"])
    return PipeParameters(
        bandwidth_bps=given.get("bandwidth", base.bandwidth_bps),
        overhead_bytes=given.get("overhead", base.overhead_bytes),
        delay_ns=given.get("delay", base.delay_ns),
        loss=given.get("loss", base.loss),
        queue_limit_packets=queue[0],
        queue_limit_bytes=queue[1],
    )


def pipe_parameters_from_text(texts: Mapping[str, str], base: PipeParameters) -> PipeParameters:
    """Return `base` with what `emu link set` was given: {"delay": "20ms", "loss": "1%"}.

    Keys and values are those of a link in a document. Raises TopologyError; the places are the keys.
    """
    problems = Problems()
    written = read_part(problems, WrittenPipe, dict(texts), "") or WrittenPipe()
    problems.check()
    return pipe_parameters(written, base=base)


def _note(problems: Problems, model: type[BaseModel], detail: "ErrorDetails", place: str) -> None:
    """Turn what pydantic says into a sentence of ours."""
    for step in detail["loc"]:
        if detail["type"] != "extra_forbidden" or step is not detail["loc"][-1]:
            model = getattr(model, "parts", {}).get(step, model)
        # pydantic's word for a key that is wrong itself.
        if step != "[key]":
            place = below(place, step)
    value = detail["input"]
    limits = detail.get("ctx", {})
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    match detail["type"]:
        case "extra_forbidden":
            allowed = [key for key, field in fields.items() if field.annotation is not type(None)]
            problems.add_unknown(place, "key", detail["loc"][-1], allowed)
        case "missing":
            problems.add(place, f"is missing: {fields[str(detail['loc'][-1])].description}")
        case "value_error":
            problems.add(place, str(limits["error"]))
        case "literal_error" if value in LATER_DISCIPLINES:
            problems.add(place, f"discipline {value} is {NOT_YET}")
        case "literal_error":
            problems.add(place, f"{short(value)} is not known here; allowed: {limits['expected']}")
        case "dict_type" | "model_type":
            problems.add(place, f"must be a mapping, not {short(value)}")
        case "list_type":
            problems.add(place, f"must be a list, not {short(value)}")
        case "string_type":
            problems.add(place, f"must be text, not {short(value)}: put it in quotes")
        case "int_type":
            problems.add(place, f"must be a whole number without a unit, not {short(value)}")
        case "too_short" | "too_long":
            problems.add(place, f"must have {limits.get('min_length', limits.get('max_length'))} entries")
        case "greater_than_equal":
            problems.add(place, f"{short(value)} is too small: at least {limits['ge']}")
        case "less_than_equal":
            problems.add(place, f"{short(value)} is too large: at most {limits['le']}")
        case "less_than":
            problems.add(place, f"{short(value)} is too large: at most {limits['lt'] - 1}")
        case _:
            problems.add(
                place, f"{short(value)} is not possible here: {detail['msg'].replace('Input', 'it')}"
            )
