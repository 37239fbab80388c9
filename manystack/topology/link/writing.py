"""What a direction of a link does, as a document has it: the way back from `merging`."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from manystack.topology.document.part import Document
from manystack.topology.document.quantity import (
    format_bandwidth,
    format_duration,
    format_frequency,
    format_queue,
    format_ratio,
    format_size,
)
from manystack.topology.link.disciplines import ALL_BITS, DISCIPLINES, KEYS
from manystack.topology.link.values import (
    DEFAULT_QUEUE_PACKETS,
    Airtime,
    Chance,
    Jitter,
    Mask,
    PipeParameters,
    Slots,
    Variation,
)

_DEFAULTS: Final[Document] = {
    "bandwidth": "unlimited",
    "overhead": "0B",
    "cell": "0B",
    "cell_overhead": "0B",
    "burst": "0B",
    "airtime": "0ns",
    "delay": "0ns",
    "jitter": "0ns",
    "slots": "0ns",
    "loss": "0%",
    "ber": 0.0,
    "duplicate": "0%",
    "corrupt": "0%",
    "reorder": "0%",
}


def chosen(document: Document, default: Document, defaults: bool) -> Document:
    """Return a document without what is None, and, unless `defaults` are wanted, without what is default."""
    return {
        key: value
        for key, value in document.items()
        if value is not None and (defaults or key not in default or default[key] != value)
    }


def write_pipe(pipe: PipeParameters, defaults: bool = False, folder: Path | None = None) -> Document:
    """Return the document of one direction of a link. Files in `folder` are named as seen from there."""

    def file(name: str) -> str:
        path = Path(name).absolute()
        return str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else str(path)

    document = {
        "bandwidth": _bandwidth(pipe, defaults, file),
        "overhead": format_size(pipe.overhead_bytes),
        "cell": format_size(pipe.cell_bytes),
        "cell_overhead": format_size(pipe.cell_overhead_bytes),
        "burst": format_size(pipe.burst_bytes),
        "airtime": _airtime(pipe.airtime, defaults, file),
        "delay": format_duration(pipe.delay_ns),
        "jitter": _jitter(pipe.jitter, defaults, file),
        "slots": _slots(pipe.slots, defaults, file),
        "loss": _loss(pipe, defaults, file),
        "ber": pipe.bit_error,
        "duplicate": _chance(pipe.duplicate, {}, defaults),
        "corrupt": _chance(pipe.corrupt, {}, defaults),
        "reorder": _chance(pipe.reorder, {"gap": pipe.reorder.gap}, defaults),
        "queue": _queue(pipe, defaults),
    }
    if not defaults and document["queue"] == _default_limit(pipe):
        del document["queue"]
    return chosen(document, _DEFAULTS, defaults)


def _short(document: Document, main: str) -> Any:
    """Return a mapping, or its main value where there is nothing else."""
    alone = set(document) == {main} and not isinstance(document[main], dict)
    return document[main] if alone else document


def _default_limit(pipe: PipeParameters) -> str:
    # Without a bandwidth nothing waits, and the default is no limit.
    return f"{DEFAULT_QUEUE_PACKETS}packets" if pipe.is_limited else "unlimited"


def _bandwidth(pipe: PipeParameters, defaults: bool, file: Callable[[str], str]) -> Any:
    recorded = pipe.recorded_bandwidth
    if recorded is None:
        return format_bandwidth(pipe.bandwidth_bps)
    repeats = recorded.period_ns > 0
    document = {"trace": file(recorded.file), "format": recorded.format, "repeat": repeats}
    return chosen(document, {"format": recorded.format, "repeat": recorded.format == "mahimahi"}, defaults)


def _variation(variation: Variation, defaults: bool, file: Callable[[str], str]) -> Document:
    if variation.distribution == "cdf":
        if variation.file is not None:
            return {"cdf": file(variation.file)}
        return {"cdf": [[format_ratio(share), format_duration(delay)] for share, delay in variation.points]}
    spread = {"spread": format_duration(variation.spread_ns)}
    if variation.file is not None:
        return spread | {"table": file(variation.file)}
    document = spread | {"distribution": variation.distribution}
    return chosen(document, {"distribution": "uniform"}, defaults)


def _airtime(airtime: Airtime | None, defaults: bool, file: Callable[[str], str]) -> Any:
    if airtime is None:
        return "0ns"
    document = _variation(airtime.variation, defaults, file) | {
        "loss_above": format_ratio(airtime.loss_above)
    }
    return _short(chosen(document, {"loss_above": "100%"}, defaults), "cdf")


def _jitter(jitter: Jitter | None, defaults: bool, file: Callable[[str], str]) -> Any:
    if jitter is None:
        return "0ns"
    document = _variation(jitter.variation, defaults, file)
    document |= {"correlation": format_ratio(jitter.correlation), "reorder": jitter.reorders}
    return _short(chosen(document, {"correlation": "0%", "reorder": False}, defaults), "spread")


def _slots(slots: Slots | None, defaults: bool, file: Callable[[str], str]) -> Any:
    if slots is None:
        return "0ns"
    first, last = format_duration(slots.from_ns), format_duration(slots.to_ns)
    interval: Any = first if first == last else {"from": first, "to": last}
    if slots.variation is not None:
        interval = {"mean": first} | _variation(slots.variation, defaults, file)
    document = {"interval": interval, "packets": slots.packets, "bytes": format_size(slots.bytes)}
    return _short(chosen(document, {"packets": 0, "bytes": "0B"}, defaults), "interval")


def _loss(pipe: PipeParameters, defaults: bool, file: Callable[[str], str]) -> Any:
    document: Document
    if pipe.recorded_loss is not None:
        document = {"trace": file(pipe.recorded_loss.file)}
    elif pipe.gilbert_elliott is not None:
        document = {"gilbert_elliott": _ratios(pipe.gilbert_elliott.model_dump())}
    elif pipe.markov is not None:
        document = {"markov": _ratios(pipe.markov.model_dump())}
    else:
        document = {"rate": format_ratio(pipe.loss), "correlation": format_ratio(pipe.loss_correlation)}
    document["ecn"] = pipe.loss_marks
    defaults = defaults and document != {"rate": "0%", "correlation": "0%", "ecn": False}
    return _short(chosen(document, {"correlation": "0%", "ecn": False}, defaults), "rate")


def _ratios(probabilities: dict[str, float]) -> Document:
    return {key: format_ratio(probability) for key, probability in probabilities.items()}


def _chance(chance: Chance, more: Document, defaults: bool) -> Any:
    document = {"rate": format_ratio(chance.rate), "correlation": format_ratio(chance.correlation)} | more
    return _short(
        chosen(document, {"correlation": "0%", "gap": 1}, defaults and chance.rate > 0),
        "rate",
    )


def _queue(pipe: PipeParameters, defaults: bool) -> Any:
    queue = pipe.queue
    usual = DISCIPLINES[queue.discipline]
    settings = {
        key: _setting(field, getattr(queue, field))
        for key, field in KEYS.items()
        if field in usual and (defaults or getattr(queue, field) != usual[field])
    }
    limit = format_queue(pipe.queue_limit_packets, pipe.queue_limit_bytes)
    document = {"limit": limit, "discipline": queue.discipline} | settings
    if not defaults and queue.discipline == "droptail":
        del document["discipline"]
    if not defaults and limit == _default_limit(pipe) and len(document) > 1:
        del document["limit"]
    return _short(document, "limit")


def _setting(field: str, value: Any) -> Any:
    if field.endswith("_ns"):
        return format_duration(value)
    if field.endswith("_bytes"):
        return format_size(value)
    if field.endswith("_microhertz"):
        return format_frequency(value)
    if field.endswith("_bps"):
        return format_bandwidth(value)
    if field.endswith("_packets"):
        return f"{value}packets"
    match field:
        case "probability" | "mark_below":
            return format_ratio(value)
        case "weights":
            return list(value)
        case "mask":
            return _mask(value)
    return value


def _mask(mask: Mask) -> Any:
    if mask == ALL_BITS:
        return "all"
    return {key: _bits(key, bits) for key, bits in mask.model_dump().items() if bits}


def _bits(key: str, bits: int) -> str:
    """Write a mask as /24 where it is the first bits, else as an address or a number."""
    whole = int(getattr(ALL_BITS, key))
    width = whole.bit_length()
    length = width - (whole ^ bits).bit_length()
    if bits == whole ^ (whole >> length):
        return f"/{length}"
    if width == 32:
        return str(IPv4Address(bits))
    return str(IPv6Address(bits)) if width == 128 else f"{bits:#x}"
