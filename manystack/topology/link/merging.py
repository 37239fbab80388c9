"""From what is written of a link to what its directions do: defaults, changes, and what excludes what.

A direction of a link, and `emu link set`, name only what differs. Both are laid over what is there: key by
key, down into mappings, and what is not named stays. Where a key is named that is one of several ways to say
a thing (a loss rate, a loss model, …), the other ways go. All this is done with plain values: a text is read
once, where it was written, and a link that exists is not written out to be changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from manystack.topology.document.errors import PlacedError, Problems, TopologyError, below
from manystack.topology.document.part import Document
from manystack.topology.document.reading import read_part
from manystack.topology.link.disciplines import DISCIPLINES, KEYS, keys_of
from manystack.topology.link.traces import Files
from manystack.topology.link.values import (
    DEFAULT_QUEUE_PACKETS,
    Airtime,
    Chance,
    GilbertElliott,
    Jitter,
    Markov,
    Mask,
    PipeParameters,
    Queue,
    RecordedBandwidth,
    RecordedLoss,
    Reorder,
    Slots,
    Variation,
)
from manystack.topology.link.writing import written_pipe
from manystack.topology.link.written import (
    MainPart,
    WrittenAirtime,
    WrittenBandwidth,
    WrittenChance,
    WrittenDirections,
    WrittenInterval,
    WrittenJitter,
    WrittenLink,
    WrittenLoss,
    WrittenPart,
    WrittenPipe,
    WrittenQueue,
    WrittenSlots,
)

DIRECTIONS: Final = ("forward", "reverse")

# What a main value of nothing switches off as a whole.
_OFF: Final = frozenset({"airtime", "jitter", "slots", "loss", "duplicate", "corrupt", "reorder"})
# Ways to say one thing: a field that is named takes the place of those that stand in no way with it.
_WAYS: Final[dict[str, tuple[frozenset[str], ...]]] = {
    "bandwidth": (frozenset({"rate"}), frozenset({"trace", "format", "repeat"})),
    "jitter": (frozenset({"spread", "distribution"}), frozenset({"spread", "table"}), frozenset({"cdf"})),
    "slots.interval": (
        frozenset({"from_", "to"}),
        frozenset({"mean", "spread", "distribution"}),
        frozenset({"mean", "spread", "table"}),
        frozenset({"cdf"}),
    ),
    "loss": (
        frozenset({"rate", "correlation"}),
        frozenset({"gilbert_elliott"}),
        frozenset({"markov"}),
        frozenset({"trace"}),
    ),
}

W = TypeVar("W", bound=WrittenPart)
Directions = tuple[PipeParameters, PipeParameters]
"""What the two directions of a link do: forward, reverse."""


def merged(base: W, change: WrittenPart, path: str = "") -> W:
    """Return a part of a pipe, the one at `path`, after a change; itself if that names nothing in it."""
    fields = type(base).model_fields
    new = {name: value for name, value in change.named().items() if name in fields}
    if not new:
        return base
    values = base.named()
    if path in _WAYS:
        gone = _replaced(_WAYS[path], new)
        values = {key: value for key, value in values.items() if key not in gone}
    discipline = values.get("discipline", "droptail")
    if path == "queue" and new.get("discipline", discipline) != discipline:
        values = {key: value for key, value in values.items() if key == "limit"}
    for name, value in new.items():
        values[name] = _merged_value(f"{path}.{name}" if path else name, values.get(name), value)
    return type(base).of(values)


def _replaced(ways: tuple[frozenset[str], ...], named: Iterable[str]) -> set[str]:
    """Return the fields that belong to none of the ways in which one that is named can be meant."""
    replaced: set[str] = set()
    for name in named:
        standing = [way for way in ways if name in way]
        if standing:
            replaced.update(frozenset().union(*ways) - frozenset().union(*standing))
    return replaced


def _merged_value(path: str, old: object, new: object) -> object:
    if not isinstance(old, WrittenPart) or not isinstance(new, WrittenPart):
        return new
    if isinstance(new, MainPart) and path in _OFF and new.is_nothing:
        return new
    # One distance, and a mask, say it all.
    is_whole = path == "queue.mask" or (
        path == "slots.interval" and isinstance(new, MainPart) and new.is_alone
    )
    return new if is_whole else merged(old, new, path)


@dataclass
class LinkReader:
    """Reads links. Those that are written alike, of which large networks are made, are read once."""

    files: Files
    _known: dict[str, Directions] = field(default_factory=dict)

    def read(
        self, problems: Problems, document: object, place: str
    ) -> tuple[WrittenLink | None, Directions | None]:
        """Return a link as it is written, and what its directions do; None for what cannot be read.

        Each mistake is noted once, where it was written.
        """
        mapping = document if isinstance(document, dict) else {}
        parameters = repr({key: value for key, value in mapping.items() if key != "ends"})
        known = self._known.get(parameters) if mapping else None
        if known is not None:
            ends = {key: value for key, value in mapping.items() if key == "ends"}
            return read_part(problems, WrittenLink, ends, place), known
        before = len(problems.errors)
        written = read_part(problems, WrittenLink, document, place)
        # From keys that are wrong themselves, nothing follows for how they go together.
        if written is None or len(problems.errors) > before:
            return written, None
        ideal = WrittenPipe()
        read = _directions(problems, (ideal, ideal), written, mapping, place, self.files)
        if len(problems.errors) == before:
            self._known[parameters] = read
        return written, read


def changed_parameters(current: Directions, change: Document) -> Directions:
    """Return what a link does after `emu link set`: {"delay": "20ms", "reverse": {"loss": {"rate": "1%"}}}.

    Keys and values are those of a link in a document; files are in the working directory. Raises
    TopologyError; the places are the keys.
    """
    problems = Problems()
    written = read_part(problems, WrittenDirections, change, "")
    if written is None or problems.errors:
        raise TopologyError(problems.errors)
    forward = written_pipe(current[0])
    reverse = forward if current[1] == current[0] else written_pipe(current[1])
    result = _directions(problems, (forward, reverse), written, change, "", Files(Path().absolute()))
    problems.check()
    return result


def _directions(
    problems: Problems,
    bases: tuple[WrittenPipe, WrittenPipe],
    change: WrittenDirections,
    document: Document,
    place: str,
    files: Files,
) -> Directions:
    """Return what comes of both directions of a link by a change, of which `document` is the text."""
    common = {key: value for key, value in document.items() if key not in DIRECTIONS}
    forward = merged(bases[0], change)
    reverse = forward if bases[1] is bases[0] else merged(bases[1], change)
    pipes = merged(forward, change.forward), merged(reverse, change.reverse)
    found: dict[PlacedError, None] = {}
    results: list[PipeParameters] = []
    for direction, pipe in zip(DIRECTIONS, pipes, strict=True):
        if results and pipe is pipes[0]:
            results *= 2
            break
        mistakes = Problems()
        results.append(_resolved(mistakes, pipe, files))
        for mistake in mistakes.errors:
            is_own = _is_own(document.get(direction, {}), common, mistake.place)
            where = below(place, direction) if is_own else place
            found[PlacedError(below(where, mistake.place), mistake.message)] = None
    for mistake in found:
        problems.add(mistake.place, mistake.message)
    return results[0], results[1]


def _is_own(own: Document, both: Document, place: str) -> bool:
    """Return whether what is wrong at a place was said for one direction alone, not for both."""
    if _names(own, place) or _names(both, place):
        return _names(own, place)
    # What is missing is missing beside what was said.
    return _names(own, place.rpartition(".")[0])


def _names(document: Document, place: str) -> bool:
    """Return whether a document says something at a place, or something that stands for it."""
    part: object = document
    for step in place.split("."):
        if not isinstance(part, dict):
            return True
        if step not in part:
            return False
        part = part[step]
    return True


def _resolved(problems: Problems, written: WrittenPipe, files: Files) -> PipeParameters:
    """Return what a merged pipe comes to; `problems` hears of what does not go together."""
    recorded = _recorded_bandwidth(problems, written.bandwidth, files)
    is_limited = bool(
        written.bandwidth.rate
        or written.bandwidth.trace
        or written.airtime.cdf
        or written.queue.discipline == "each"
    )
    if written.burst and not written.bandwidth.rate:
        problems.add("burst", "goes with a constant bandwidth: there is none to exceed")
    if written.cell_overhead and not written.cell:
        problems.add("cell_overhead", "there are no cells: write cell: 48B, or what they are")
    airtime = _airtime(problems, written.airtime, files)
    if airtime and written.burst:
        problems.add("airtime", "does not go with a burst: an occupied link saves nothing up")
    jitter = _jitter(problems, written.jitter, files)
    if written.reorder.rate and not written.delay and jitter is None:
        problems.add("reorder", "without delay or jitter there is nobody to overtake")
    limit_packets, limit_bytes = written.queue.limit
    if "limit" not in written.queue.model_fields_set and is_limited:
        limit_packets = DEFAULT_QUEUE_PACKETS
    reorder = Reorder(gap=written.reorder.gap, **_chance(problems, "reorder", written.reorder))
    if reorder.gap > 1 and not reorder.rate:
        problems.add("reorder.gap", "there is no rate: write one beside it, such as 25%")
    return PipeParameters(
        bandwidth_bps=written.bandwidth.rate,
        recorded_bandwidth=recorded,
        overhead_bytes=written.overhead,
        cell_bytes=written.cell,
        cell_overhead_bytes=written.cell_overhead,
        burst_bytes=written.burst,
        delay_ns=written.delay,
        airtime=airtime,
        jitter=jitter,
        slots=_slots(problems, written.slots, files),
        **_loss(problems, written.loss, files),
        bit_error=written.ber,
        duplicate=Chance(**_chance(problems, "duplicate", written.duplicate)),
        corrupt=Chance(**_chance(problems, "corrupt", written.corrupt)),
        reorder=reorder,
        queue_limit_packets=limit_packets,
        queue_limit_bytes=limit_bytes,
        queue=_queue(problems, written.queue, limit_packets is not None or limit_bytes is not None),
    )


def _recorded_bandwidth(
    problems: Problems, written: WrittenBandwidth, files: Files
) -> RecordedBandwidth | None:
    given = written.model_fields_set
    if "rate" in given and given != {"rate"}:
        problems.add("bandwidth", "a rate and a trace are two rate models: choose one")
    elif not written.trace and given & {"format", "repeat"}:
        problems.add("bandwidth.trace", "is missing: name the file to follow")
    elif written.trace:
        form = written.format if "format" in given else None
        repeats = written.repeat if "repeat" in given else None
        try:
            return files.bandwidth(written.trace, form, repeats)
        except ValueError as error:
            problems.add("bandwidth.trace", str(error))
    return None


def _variation(
    problems: Problems, written: WrittenJitter | WrittenInterval, place: str, files: Files
) -> Variation | None:
    """Return a distribution of times; None where nothing varies, or with what is wrong noted."""
    ways = [key for key in ("distribution", "table", "cdf") if key in written.model_fields_set]
    if len(ways) > 1:
        problems.add(place, f"{' and '.join(ways)} are two ways to say one thing: choose one")
        return None
    way = ways[0] if ways else "distribution"
    try:
        if way == "cdf":
            if "spread" in written.model_fields_set:
                problems.add(f"{place}.spread", "a cdf says itself how far it spreads")
            return files.distribution(written.cdf)
        if written.spread == 0:
            if ways:
                problems.add(f"{place}.{way}", "there is no spread: write one beside it, such as 2ms")
            return None
        if way == "table":
            return files.table(written.table).model_copy(update={"spread_ns": written.spread})
    except ValueError as error:
        problems.add(f"{place}.{way}", str(error))
        return None
    return Variation(distribution=written.distribution, spread_ns=written.spread)


def _airtime(problems: Problems, written: WrittenAirtime, files: Files) -> Airtime | None:
    if not written.cdf:
        if written.loss_above < 1:
            problems.add("airtime.loss_above", "there is no airtime: write a cdf beside it")
        return None
    try:
        variation = files.distribution(written.cdf)
    except ValueError as error:
        problems.add("airtime.cdf", str(error))
        return None
    return Airtime(variation=variation, loss_above=written.loss_above)


def _jitter(problems: Problems, written: WrittenJitter, files: Files) -> Jitter | None:
    before = len(problems.errors)
    variation = _variation(problems, written, "jitter", files)
    if variation is None:
        for key in ("correlation", "reorder"):
            if getattr(written, key) and len(problems.errors) == before:
                problems.add(f"jitter.{key}", "there is no jitter: write a spread beside it, such as 2ms")
        return None
    return Jitter(variation=variation, correlation=written.correlation, reorders=written.reorder)


def _slots(problems: Problems, written: WrittenSlots, files: Files) -> Slots | None:
    interval = written.interval
    given = interval.model_fields_set
    limits: dict[str, Any] = {"packets": written.packets, "bytes": written.bytes}
    if given and not given & {"from_", "to"}:
        before = len(problems.errors)
        variation = _variation(problems, interval, "slots.interval", files)
        if variation is None and len(problems.errors) == before and interval.mean == 0:
            problems.add("slots.interval", "write how far slots are apart: from and to, a mean, or a cdf")
        if len(problems.errors) > before:
            return None
        return Slots(from_ns=interval.mean, to_ns=interval.mean, variation=variation, **limits)
    if given - {"from_", "to"}:
        problems.add("slots.interval", "bounds and a distribution are two ways to say one thing: choose one")
        return None
    to_ns = interval.to if "to" in given else interval.from_
    if to_ns < interval.from_:
        problems.add("slots.interval.to", "is less than from")
        return None
    if to_ns == 0:
        for key, limit in limits.items():
            if limit:
                problems.add(f"slots.{key}", "there are no slots: write their interval, such as 10ms")
        return None
    return Slots(from_ns=interval.from_, to_ns=to_ns, **limits)


def _loss(problems: Problems, written: WrittenLoss, files: Files) -> dict[str, Any]:
    given = written.model_fields_set
    models = [key for key in ("rate", "gilbert_elliott", "markov", "trace") if key in given]
    if len(models) > 1:
        problems.add("loss", f"{' and '.join(models)} are two ways to say one thing: choose one")
        return {}
    model = models[0] if models else "rate"
    if written.correlation and (model != "rate" or not written.rate):
        problems.add("loss.correlation", "goes with a rate: write one beside it, such as 1%")
    if written.ecn and model == "rate" and not written.rate:
        problems.add("loss.ecn", "there is no loss whose packets could be marked: write a rate or a model")
    found: dict[str, Any] = {"loss_marks": written.ecn}
    match model:
        case "rate":
            found |= {"loss": written.rate, "loss_correlation": written.correlation}
        case "gilbert_elliott":
            chain = written.gilbert_elliott
            if _has(problems, "loss.gilbert_elliott", chain.model_fields_set, "p", "r"):
                found["gilbert_elliott"] = GilbertElliott(**dict(chain))
        case "markov":
            states = written.markov
            if _has(problems, "loss.markov", states.model_fields_set, "p13", "p31"):
                _at_most_one(problems, "p13 + p14", states.p13 + states.p14)
                _at_most_one(problems, "p31 + p32", states.p31 + states.p32)
                found["markov"] = Markov(**dict(states))
        case _:
            found["recorded_loss"] = _recorded_loss(problems, written.trace, files)
    return found


def _has(problems: Problems, place: str, given: set[str], *needed: str) -> bool:
    missing = [key for key in needed if key not in given]
    for key in missing:
        problems.add(f"{place}.{key}", "is missing: write a probability such as 10%")
    return not missing


def _at_most_one(problems: Problems, what: str, total: float) -> None:
    # Three decimal fractions that make up 1 may make a little more as floats.
    if total > 1 + 1e-9:
        problems.add("loss.markov", f"{what} are more than 100%: both lead away from one state")


def _recorded_loss(problems: Problems, named: str | RecordedLoss, files: Files) -> RecordedLoss | None:
    try:
        return files.loss(named)
    except ValueError as error:
        problems.add("loss.trace", str(error))
        return None


def _chance(problems: Problems, place: str, written: WrittenChance) -> dict[str, float]:
    if written.correlation and not written.rate:
        problems.add(f"{place}.correlation", "there is no rate: write one beside it, such as 1%")
    return {"rate": written.rate, "correlation": written.correlation}


def _queue(problems: Problems, written: WrittenQueue, is_limited: bool) -> Queue:
    discipline = written.discipline
    given = written.model_fields_set - {"limit", "discipline"}
    allowed = keys_of(discipline)
    for key in sorted(given - set(allowed)):
        problems.add(f"queue.{key}", f"{discipline} has no {key} (allowed: {', '.join(allowed)})")
    settings = dict(DISCIPLINES[discipline])
    for key, name in KEYS.items():
        if key in given and name in settings:
            value = getattr(written, key)
            settings[name] = Mask(**dict(value)) if key == "mask" else value
    for key in allowed[2:]:
        if settings[KEYS[key]] is None:
            needed = "a bandwidth such as 1Mbit/s" if key == "rate" else "a size such as 30KiB"
            problems.add(f"queue.{key}", f"is missing: {discipline} needs {needed}")
    if settings.get("onoff") and not is_limited:
        problems.add(
            "queue.onoff", "there is no limit to be filled to a third: write one, such as 100packets"
        )
    least, most = settings.get("min_bytes"), settings.get("max_bytes")
    if least is not None and most is not None and least >= most:
        problems.add("queue.min", f"{least}B is not less than max, {most}B")
    return Queue(discipline=discipline, **settings)
