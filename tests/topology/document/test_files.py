"""Documents in files: formats, what is doubled, and what a file may cost."""

import json
import tracemalloc
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manystack.topology import Topology, TopologyError
from manystack.topology.document.errors import Problems
from manystack.topology.document.files import MAX_FILE_BYTES, decode, encode

# Surrogates are no text in UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXT, part, max_size=4),
    max_leaves=20,
).filter(lambda document: nesting(document) < 16)


def nesting(document: object) -> int:
    parts = (
        document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    )
    return 1 + max(map(nesting, parts), default=0)


def read(data: bytes, form: str) -> tuple[object, list[str]]:
    problems = Problems()
    return decode(data, form, problems), [str(error) for error in problems.errors]


def refused(data: bytes, form: str) -> str:
    with pytest.raises(TopologyError) as caught:
        decode(data, form, Problems())
    return str(caught.value)


@pytest.mark.parametrize("form", ["msgpack", "json"])
@given(document=DOCUMENTS)
def test_what_is_written_is_read(form: str, document: object) -> None:
    assert read(encode({"document": document}, form), form) == ({"document": document}, [])


# YAML has no way to write some control characters, and folds others.
@given(document=DOCUMENTS)
def test_what_is_written_as_yaml_is_read(document: object) -> None:
    assert read(encode({"document": document}, "yaml"), "yaml") == ({"document": document}, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("010", 10),
        ("'12'", "12"),
        ("1e-7", 1e-7),
        ("10:00:00:00:00:01", "10:00:00:00:00:01"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_plain_words_of_yaml(text: str, value: object) -> None:
    assert read(f"a: {text}".encode(), "yaml") == ({"a": value}, [])


DOUBLED = {
    "yaml": b"nodes: {h1: {kind: host}, h1: {kind: router}}\n",
    "json": b'{"nodes": {"h1": {"kind": "host"}, "h1": {"kind": "router"}}}',
    "msgpack": b"\x81\xa5nodes\x82\xa2h1\x81\xa4kind\xa4host\xa2h1\x81\xa4kind\xa6router",
}


@pytest.mark.parametrize("form", DOUBLED)
def test_doubled_keys_have_a_place(form: str) -> None:
    assert read(DOUBLED[form], form) == ({"nodes": {"h1": {"kind": "host"}}}, ["nodes.h1: is there twice"])


def test_keys_are_text() -> None:
    said = ["links[0]: the key 5 is not text: put it in quotes"]
    assert read(b"links: [{5: a}]", "yaml") == ({"links": [{}]}, said)
    assert read(msgpack.packb({"links": [{5: "a"}]}), "msgpack") == ({"links": [{}]}, said)


@pytest.mark.parametrize(
    ("form", "data", "said"),
    [
        ("yaml", b"a: [1, 2", "not YAML at line"),
        ("yaml", b"a: 1\n---\nb: 2\n", "a second document begins"),
        ("yaml", b"a: !!python/object:os.system {}", "tag"),
        ("yaml", b"a: &x [*x]", "is not there yet"),
        ("yaml", b"a: *nobody", "is not there yet"),
        ("yaml", b"a: \xff\xfe", "not text at byte 3"),
        ("yaml", b"[" * 65536, "not YAML"),
        ("yaml", b"[" * 40 + b"]" * 40, "nested too deeply"),
        ("yaml", b"- " * 65536, "nested too deeply"),
        ("json", b'{"a": 1', "not JSON at line 1"),
        ("json", b'{"a": \xff}', "not UTF-8"),
        ("json", b"[" * 65536, "nested too deeply"),
        ("json", b"[" * 900 + b"]" * 900, "nested too deeply"),
        ("json", b"9" * 10000, "not JSON"),
        *((form, b"", "the file is empty") for form in ("yaml", "json", "msgpack")),
        ("msgpack", b"\x82\xa1a\x01", "ends too early, after 4 bytes"),
        ("msgpack", b"\x80\x80", "1 bytes follow"),
        ("msgpack", b"\xc1", "not msgpack at byte"),
        ("msgpack", b"\xa2\xff\xfe", "not msgpack"),
        ("msgpack", b"\xc7\x01\x05\x00", "not msgpack"),
        ("msgpack", b"\xdb\x00\x02\x00\x00" + bytes(2**17), "not msgpack"),
        ("msgpack", b"\xdd\xff\xff\xff\xff", "ends too early"),
        ("msgpack", b"\x91" * 65536, "nested too deeply"),
    ],
)
def test_what_is_no_document(form: str, data: bytes, said: str) -> None:
    assert said in refused(data, form)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 65536,
        b"\xdc\xff\xff" * 21845,
        b"\xdd\x00\x0f\xff\xff" * 13107,
        b"\xde\xff\xff" * 21845,
        b"\x81" * 65536,
        b"\xdc\x80\x00" + b"\xdc\xff\xff" * 21844,
        b"\xdc\xff\xff" + b"\x80" * 65533,
    ],
    ids=["fixarray", "array16", "array32", "map16", "fixmap", "mixed", "empty maps"],
)
def test_nested_msgpack_costs_little(data: bytes) -> None:
    tracemalloc.start()
    refused(data, "msgpack")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_alias_bombs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "aliases repeat more than" in refused("\n".join(lines).encode(), "yaml")


def test_aliases_repeat_what_they_name() -> None:
    document = b"links: [{ends: [a, b], forward: &slow {delay: 1s}, reverse: *slow}]"
    assert read(document, "yaml")[0] == {
        "links": [{"ends": ["a", "b"], "forward": {"delay": "1s"}, "reverse": {"delay": "1s"}}]
    }


def test_files_have_a_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(TopologyError, match="too large"):
        Topology.load(file)


def test_many_small_values_are_refused() -> None:
    assert "too many values" in refused(b"[" + b"0," * 4_000_001 + b"0]", "json")


def test_suffixes(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"unknown format '\.xml'"):
        Topology.load(tmp_path / "network.xml")
    with pytest.raises(TopologyError, match="No such file"):
        Topology.load(tmp_path / "network.yaml")
    file = tmp_path / "network.YML"
    file.write_text("manystack: 1\nnodes: {}\n")
    assert Topology.load(file).nodes == {}


@given(st.sampled_from(["msgpack", "yaml", "json"]), st.binary(max_size=300))
def test_garbage_is_a_topology_error(form: str, data: bytes) -> None:
    problems = Problems()
    try:
        document = decode(data, form, problems)
        Topology.parse(document)  # type: ignore[arg-type]  # whatever it is
    except TopologyError as error:
        assert str(error)


@given(st.data())
def test_damaged_msgpack_is_a_topology_error(data: st.DataObject) -> None:
    good = msgpack.packb(json.loads((Path(__file__).parents[1] / "office.json").read_text()))
    position = data.draw(st.integers(0, len(good) - 1))
    damage = data.draw(st.binary(max_size=4))
    try:
        problems = Problems()
        Topology.parse(decode(good[:position] + damage + good[position + len(damage) :], "msgpack", problems))  # type: ignore[arg-type]
    except TopologyError as error:
        assert str(error)


@pytest.mark.parametrize("length", range(1, 400, 7))
def test_truncated_msgpack(length: int) -> None:
    good = msgpack.packb(json.loads((Path(__file__).parents[1] / "office.json").read_text()))
    assert "ends too early" in refused(good[:length], "msgpack")
