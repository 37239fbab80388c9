"""What a direction of a link does, as a document has it: the way back from `merging`.

Named is what is not as it is without being named, or, where `defaults` are wanted, everything.
"""

from pathlib import Path
from typing import Any, TypeVar

from manystack.topology.document.part import Document
from manystack.topology.link.disciplines import DISCIPLINES, KEYS
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
from manystack.topology.link.written import (
    MainPart,
    WrittenAirtime,
    WrittenBandwidth,
    WrittenChance,
    WrittenGilbertElliott,
    WrittenInterval,
    WrittenJitter,
    WrittenLoss,
    WrittenMarkov,
    WrittenMask,
    WrittenPart,
    WrittenPipe,
    WrittenQueue,
    WrittenReorder,
    WrittenSlots,
)

C = TypeVar("C", bound=WrittenChance)
M = TypeVar("M", bound=MainPart)


def write_pipe(pipe: PipeParameters, defaults: bool = False, folder: Path | None = None) -> Document:
    """Return the document of one direction of a link. Files in `folder` are named as seen from there."""
    return written_pipe(pipe, defaults).model_dump(
        by_alias=True, exclude_unset=True, context={"folder": folder}
    )


def written_pipe(pipe: PipeParameters, defaults: bool = False) -> WrittenPipe:
    """Return what would have to be written for one direction of a link, in plain values.

    Where a file was read, what it said stands in place of its name.
    """
    values = {
        "bandwidth": _bandwidth(pipe, defaults),
        "overhead": pipe.overhead_bytes,
        "cell": pipe.cell_bytes,
        "cell_overhead": pipe.cell_overhead_bytes,
        "burst": pipe.burst_bytes,
        "airtime": _airtime(pipe.airtime, defaults),
        "delay": pipe.delay_ns,
        "jitter": _jitter(pipe.jitter, defaults),
        "slots": _slots(pipe.slots, defaults),
        "loss": _loss(pipe, defaults),
        "ber": pipe.bit_error,
        "duplicate": _chance(WrittenChance, pipe.duplicate, defaults),
        "corrupt": _chance(WrittenChance, pipe.corrupt, defaults),
        "reorder": _chance(WrittenReorder, pipe.reorder, defaults),
        "queue": _queue(pipe, defaults),
    }
    return WrittenPipe.of(_chosen(WrittenPipe, values, defaults))


def _chosen(model: type[WrittenPart], values: dict[str, Any], defaults: bool) -> dict[str, Any]:
    """Return the values without None, and, unless `defaults` are wanted, without those of the model."""
    fields = model.model_fields
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, WrittenPart)
        or (value is not None and (defaults or value != fields[name].default))
    }


def _off(part: type[M], defaults: bool) -> M | None:
    """Return how a part that does nothing is written: as a main value of nothing, if at all."""
    return part.alone(part.model_fields[part.main].default) if defaults else None


def _bandwidth(pipe: PipeParameters, defaults: bool) -> WrittenBandwidth | None:
    recorded = pipe.recorded_bandwidth
    if recorded is None:
        rate_bps = pipe.bandwidth_bps
        return WrittenBandwidth.of({"rate": rate_bps}) if rate_bps or defaults else None
    repeats = recorded.period_ns > 0
    values: dict[str, Any] = {"trace": recorded}
    if defaults or repeats != (recorded.format == "mahimahi"):
        values["repeat"] = repeats
    if defaults:
        values["format"] = recorded.format
    return WrittenBandwidth.of(values)


def _variation(part: type[MainPart], variation: Variation, defaults: bool) -> dict[str, Any]:
    if variation.distribution == "cdf":
        return {"cdf": variation.points if variation.file is None else variation}
    spread = {"spread": variation.spread_ns}
    if variation.distribution == "table":
        return spread | {"table": variation}
    return spread | _chosen(part, {"distribution": variation.distribution}, defaults)


def _airtime(airtime: Airtime | None, defaults: bool) -> WrittenAirtime | None:
    if airtime is None:
        return _off(WrittenAirtime, defaults)
    values = _variation(WrittenAirtime, airtime.variation, defaults)
    return WrittenAirtime.of(values | _chosen(WrittenAirtime, {"loss_above": airtime.loss_above}, defaults))


def _jitter(jitter: Jitter | None, defaults: bool) -> WrittenJitter | None:
    if jitter is None:
        return _off(WrittenJitter, defaults)
    values = _variation(WrittenJitter, jitter.variation, defaults)
    more = {"correlation": jitter.correlation, "reorder": jitter.reorders}
    return WrittenJitter.of(values | _chosen(WrittenJitter, more, defaults))


def _slots(slots: Slots | None, defaults: bool) -> WrittenSlots | None:
    if slots is None:
        return WrittenSlots.alone(WrittenInterval.alone(0)) if defaults else None
    bounds = {"from_": slots.from_ns, "to": slots.to_ns}
    if slots.variation is not None:
        bounds = {"mean": slots.from_ns} | _variation(WrittenInterval, slots.variation, defaults)
    elif slots.from_ns == slots.to_ns:
        del bounds["to"]
    more = {"packets": slots.packets, "bytes": slots.bytes}
    return WrittenSlots.of({"interval": WrittenInterval.of(bounds)} | _chosen(WrittenSlots, more, defaults))


def _loss(pipe: PipeParameters, defaults: bool) -> WrittenLoss | None:
    values: dict[str, Any]
    if pipe.recorded_loss is not None:
        values = {"trace": pipe.recorded_loss}
    elif pipe.gilbert_elliott is not None:
        values = {"gilbert_elliott": WrittenGilbertElliott.of(pipe.gilbert_elliott.model_dump())}
    elif pipe.markov is not None:
        values = {"markov": WrittenMarkov.of(pipe.markov.model_dump())}
    elif pipe.loss or pipe.loss_correlation or pipe.loss_marks:
        values = {"rate": pipe.loss} | _chosen(WrittenLoss, {"correlation": pipe.loss_correlation}, defaults)
    else:
        return _off(WrittenLoss, defaults)
    return WrittenLoss.of(values | _chosen(WrittenLoss, {"ecn": pipe.loss_marks}, defaults))


def _chance(part: type[C], chance: Chance, defaults: bool) -> C | None:
    more = _chosen(part, chance.model_dump(exclude={"rate"}), defaults and chance.rate > 0)
    return part.of({"rate": chance.rate} | more) if chance.rate or more else _off(part, defaults)


def _queue(pipe: PipeParameters, defaults: bool) -> WrittenQueue | None:
    queue = pipe.queue
    usual = DISCIPLINES[queue.discipline]
    settings = ((key, field, getattr(queue, field)) for key, field in KEYS.items() if field in usual)
    values = {
        key: _mask(value) if isinstance(value, Mask) else value
        for key, field, value in settings
        if defaults or value != usual[field]
    }
    values |= _chosen(WrittenQueue, {"discipline": queue.discipline}, defaults)
    # Without a bandwidth nothing waits, and the default is no limit.
    limit = pipe.queue_limit_packets, pipe.queue_limit_bytes
    if defaults or limit != (DEFAULT_QUEUE_PACKETS if pipe.is_limited else None, None):
        values["limit"] = limit
    return WrittenQueue.of(values) if values else None


def _mask(mask: Mask) -> WrittenMask:
    return WrittenMask.of({name: bits for name, bits in mask.model_dump().items() if bits})
