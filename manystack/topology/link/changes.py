"""Changes to a link as text: `loss.rate=1%`, `queue={discipline: codel}`."""

from collections.abc import Iterator, Mapping
from typing import Any

from manystack.topology.document.errors import PlacedError, Problems, TopologyError
from manystack.topology.document.files import decode, scalar
from manystack.topology.document.part import Document
from manystack.topology.link.written import MainPart, WrittenPart, WrittenPipe


def nested(settings: Mapping[str, Any], before: str = "") -> Document:
    """Return settings as a document: a dot in a key leads into a mapping, and text is read as YAML's is.

    Raises TopologyError if a text cannot be read or a key is there twice; its place is behind `before`.
    """
    document: Document = {}
    for key, value in settings.items():
        first, *rest = key.split(".")
        part = _value(f"{before}{key}", value)
        for step in reversed(rest):
            part = {step: part}
        # Main values are spelt out only where two speak of one key: mistakes keep the place they were given.
        document[first] = _together(before, first, document[first], part) if first in document else part
    return document


def _together(before: str, key: str, old: object, new: object) -> Document:
    """Return all of two mappings. Those that exclude each other stay side by side, to be found out."""
    old, new = _spelt_out(key, old), _spelt_out(key, new)
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise TopologyError([PlacedError(f"{before}{key}", "is there twice")])
    result = dict(old)
    for name, value in new.items():
        result[name] = _together(before, f"{key}.{name}", result[name], value) if name in result else value
    return result


def _spelt_out(path: str, value: object) -> object:
    """Return the mapping that a main value stands for; whatever is none, as it is."""
    part: type[WrittenPart] | None = WrittenPipe
    for step in path.split("."):
        part = part.parts.get(step) if part else None
    if part is None or not issubclass(part, MainPart) or value is None or isinstance(value, dict):
        return value
    return {part.main_key(): value}


def _value(key: str, value: object) -> Any:
    if isinstance(value, dict):
        return {name: _value(f"{key}.{name}", part) for name, part in value.items()}
    if not isinstance(value, str) or not value:
        return value
    # Only what begins so may be more than a word; a word may have any character in it.
    if value[0] not in "[{":
        return scalar(value)
    problems = Problems()
    try:
        read = decode(value.encode(), "yaml", problems)
        problems.check()
    except TopologyError as error:
        raise TopologyError([PlacedError(key, mistake.message) for mistake in error.errors]) from None
    return read


def change_texts(before: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield each setting as text, as `emu link set` takes it, with `before` in front of its key."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from change_texts(f"{before}{key}.", value)
        else:
            yield f"{before}{key}={value}"
