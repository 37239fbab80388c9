"""Documents in files: msgpack, YAML and JSON, recognised by the file's suffix.

A file may come from anywhere, so what it can cost is bounded: its size, the number of its values (an alias
counts as all that it repeats), their nesting, and a length that is announced is not believed until the
values are there. What is written twice, or under a key that is no text, is a mistake with its place.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
import yaml

from manystack.topology.document.errors import PlacedError, Problems, TopologyError, below, short
from manystack.topology.document.part import Document

MAX_FILE_BYTES: Final = 32 * 2**20
MAX_VALUES: Final = 4_000_000
MAX_NESTING: Final = 16
# What YAML's aliases may repeat: enough for shared parameters, and no bomb.
MAX_REPEATED_VALUES: Final = 100_000
FORMATS: Final = {".msgpack": "msgpack", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}

# The C versions where PyYAML has them; they are ten times as fast.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_WORDS: Final = {"": None, "~": None} | {
    word: value
    for lower, value in {"null": None, "true": True, "false": False}.items()
    for word in (lower, lower.capitalize(), lower.upper())
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_LONGEST_NUMBER: Final = 64


class _Flawed(dict[str, Any]):
    """A mapping that was written with mistakes in its keys: what came first, and those mistakes."""

    doubled: list[str]
    not_text: list[object]


def format_of(path: Path) -> str:
    """Return "msgpack", "yaml" or "json" by a file's suffix; raises TopologyError for any other."""
    if path.suffix.lower() not in FORMATS:
        form = f"unknown format {path.suffix!r}" if path.suffix else "no suffix that tells the format"
        raise _failure(f"{form}: a topology's name ends in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def read_document(path: Path, problems: Problems) -> object:
    """Return what a file holds, and note doubled keys. Raises TopologyError if it cannot be read at all."""
    form = format_of(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _failure(error.strerror or str(error)) from None
    return decode(data, form, problems)


def decode(data: bytes, form: str, problems: Problems) -> object:
    """Return the document in `data`; the format is "msgpack", "yaml" or "json"."""
    if len(data) > MAX_FILE_BYTES:
        raise _failure(f"too large: a topology is at most {MAX_FILE_BYTES >> 20} MiB")
    if not data:
        raise _failure("the file is empty: a topology has at least manystack: 1 and nodes")
    document = _DECODERS[form](data)
    for place, flaw in _flaws(document, ""):
        problems.add(place, flaw)
    return document


def write_document(path: Path, document: Document, form: str | None = None) -> None:
    """Write a document to a file, in the format of its suffix if none is given. Raises TopologyError."""
    data = encode(document, form or format_of(path))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _failure(f"cannot write {path}: {error.strerror or error}") from None


def encode(document: Document, form: str) -> bytes:
    """Return a document as "msgpack", "yaml" or "json"."""
    match form:
        case "msgpack":
            packed: bytes = msgpack.packb(document)
            return packed
        case "yaml":
            return yaml.dump(
                document,
                Dumper=_Dumper,
                sort_keys=False,
                default_flow_style=None,
                allow_unicode=True,
                width=110,
                encoding="utf-8",
            )
        case _:
            return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def _failure(message: str) -> TopologyError:
    return TopologyError([PlacedError("", message)])


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    doubled = []
    not_text = []
    for key, value in pairs:
        if not isinstance(key, str):
            not_text.append(key)
        elif key in mapping:
            doubled.append(key)
        else:
            mapping[key] = value
    if not doubled and not not_text:
        return mapping
    flawed = _Flawed(mapping)
    flawed.doubled, flawed.not_text = doubled, not_text
    return flawed


def _flaws(value: object, place: str, nesting: int = 0) -> Iterator[tuple[str, str]]:
    if nesting > MAX_NESTING:
        raise _too_nested()
    if isinstance(value, _Flawed):
        yield from ((below(place, key), "is there twice") for key in value.doubled)
        yield from ((place, f"the key {short(key)} is not text: put it in quotes") for key in value.not_text)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in parts:
        if isinstance(part, dict | list):
            yield from _flaws(part, below(place, step), nesting + 1)


def _too_nested() -> TopologyError:
    return _failure(f"nested too deeply: a topology has at most {MAX_NESTING} levels")


def _too_many() -> TopologyError:
    return _failure(f"too many values: a topology has at most {MAX_VALUES:,}")


class _MsgpackReader:
    """Reads one msgpack value. Containers are opened here and not by the library, which would make each list
    as long as its header claims before it has seen an element of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.values = 0
        self.unpacker = msgpack.Unpacker(
            max_buffer_size=MAX_FILE_BYTES,
            max_str_len=2**16,
            max_bin_len=2**16,
            max_array_len=MAX_VALUES,
            max_map_len=MAX_VALUES,
            max_ext_len=0,
        )
        self.unpacker.feed(data)

    def value(self, nesting: int = 0) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _too_many()
        if nesting > MAX_NESTING:
            raise _too_nested()
        position = self.unpacker.tell()
        first = self.data[position] if position < len(self.data) else 0
        if first & 0xF0 == 0x90 or first in (0xDC, 0xDD):
            return [self.value(nesting + 1) for _ in range(self.unpacker.read_array_header())]
        if first & 0xF0 == 0x80 or first in (0xDE, 0xDF):
            length = self.unpacker.read_map_header()
            return _mapping([(self.value(nesting + 1), self.value(nesting + 1)) for _ in range(length)])
        return self.unpacker.unpack()


def _decode_msgpack(data: bytes) -> object:
    reader = _MsgpackReader(data)
    try:
        document = reader.value()
    except msgpack.OutOfData:
        raise _failure(
            f"the file ends too early, after {len(data)} bytes: it is no whole msgpack document"
        ) from None
    except (msgpack.UnpackException, ValueError) as error:
        position = reader.unpacker.tell()
        raise _failure(f"not msgpack at byte {position}: {error or type(error).__name__}") from None
    if reader.unpacker.tell() != len(data):
        raise _failure(f"{len(data) - reader.unpacker.tell()} bytes follow the end of the document")
    return document


def _decode_json(data: bytes) -> object:
    # Each value but the first has one of these in front of it.
    if sum(data.count(mark) for mark in (b",", b":", b"[", b"{")) > MAX_VALUES:
        raise _too_many()
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_mapping)
    except UnicodeDecodeError as error:
        raise _failure(f"not UTF-8 text at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _failure(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise _failure(f"not JSON: {error}") from None
    except RecursionError:
        raise _too_nested() from None


class _YamlReader:
    """Reads the one document of a YAML file from its events.

    Plain scalars mean what they mean in YAML 1.2: `on`, `no`, a date and 10:00:00:00:00:01 are text.
    """

    def __init__(self, data: bytes) -> None:
        self.events = yaml.parse(data, Loader=_Loader)
        self.values = 0
        self.repeated = 0
        self.anchors: dict[str, tuple[object, int]] = {}

    def document(self) -> object:
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        document = self.value(next(self.events), 0)
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise _yaml_failure("a second document begins", event)
        return document

    def value(self, event: Any, nesting: int) -> object:
        if nesting > MAX_NESTING:
            raise _too_nested()
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if event.tag is not None:
            raise _yaml_failure(f"tag {short(event.tag)} has no meaning in a topology", event)
        before = self.values
        self.values += 1
        if self.values > MAX_VALUES:
            raise _too_many()
        value: object
        match event:
            case yaml.ScalarEvent():
                value = scalar(event.value) if event.implicit[0] else event.value
            case yaml.SequenceStartEvent():
                value = [self.value(item, nesting + 1) for item in self.until(yaml.SequenceEndEvent)]
            case _:
                value = _mapping(
                    [
                        (self.value(key, nesting + 1), self.value(next(self.events), nesting + 1))
                        for key in self.until(yaml.MappingEndEvent)
                    ]
                )
        if event.anchor:
            self.anchors[event.anchor] = value, self.values - before
        return value

    def until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event

    def alias(self, event: Any) -> object:
        if event.anchor not in self.anchors:
            raise _yaml_failure(f"alias *{event.anchor} repeats something that is not there yet", event)
        value, values = self.anchors[event.anchor]
        self.repeated += values
        self.values += values
        if self.repeated > MAX_REPEATED_VALUES:
            raise _yaml_failure(f"aliases repeat more than {MAX_REPEATED_VALUES:,} values", event)
        return value


def scalar(text: str) -> object:
    """Return what a plain word of YAML 1.2 means: nothing, a truth value, a number, or text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _yaml_failure(message: str, event: Any) -> TopologyError:
    mark = event.start_mark
    return _failure(f"line {mark.line + 1}, column {mark.column + 1}: {message}")


def _decode_yaml(data: bytes) -> object:
    try:
        return _YamlReader(data).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _failure(f"not YAML{where}: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise _failure(f"not text at byte {error.position}: {error.reason}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _failure(f"not YAML: {str(error).splitlines()[0]}") from None


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Quotes what any version of YAML would read as something else than text, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+.0123456789"))

_DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "msgpack": _decode_msgpack,
    "yaml": _decode_yaml,
    "json": _decode_json,
}
