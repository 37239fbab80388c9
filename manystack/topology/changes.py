"""Changes to a link as text: `loss.rate=1%`, `queue={discipline: codel}`."""

from collections.abc import Iterator, Mapping
from typing import Any

from manystack.topology.errors import PlacedError, Problems, TopologyError
from manystack.topology.files import decode, scalar
from manystack.topology.merging import merged
from manystack.topology.part import Document


def nested(settings: Mapping[str, Any], before: str = "") -> Document:
    """Return settings as a document: a dot in a key leads into a mapping, and text is read as YAML's is.

    Raises TopologyError if a text cannot be read; its place is the key behind `before`.
    """
    document: Document = {}
    for key, value in settings.items():
        first, *rest = key.split(".")
        part = _value(f"{before}{key}", value)
        for step in reversed(rest):
            part = {step: part}
        # Laid over each other only where two speak of one key: mistakes keep the place they were given.
        document = merged(document, {first: part}) if first in document else {**document, first: part}
    return document


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
