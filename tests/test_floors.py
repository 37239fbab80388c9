"""The floors of the house: which room may use which, and that no two files need each other.

A room is a folder, or a file that stands beside the folders. Each line of the table names a room and all that
it may use, which stands in the lines before. A folder's `__init__.py` says the same of itself.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "manystack"

# The engine is one room here: what stands in it has floors of its own.
FLOORS = {
    "core": "",
    "errors": "",
    "text": "",
    "results": "",
    "ping": "",
    "loop": "",
    "topology/document": "errors",
    "topology/link": "core topology/document",
    "topology": "core errors topology/document topology/link",
    "host": "errors",
    "shaping": "core topology topology/link",
    "wiring": "core shaping topology topology/document",
    "network": "core errors host loop topology wiring",
    "probes": "core errors loop network ping results topology/document",
    "handles": "core errors network ping probes results shaping topology topology/link wiring",
    "record": "core errors network results text topology wiring",
    "report": "core loop network text wiring",
    "control": "errors handles host network ping record report results shaping text topology "
    "topology/document topology/link wiring",
    "engine": "control core errors handles host loop network probes record report topology",
    "commands": "control engine errors host ping probes record report results text topology "
    "topology/document topology/link",
    "__init__": "engine topology",
}


@cache
def sources() -> dict[str, Path]:
    """The package's own files by the names of their modules."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[1] != "core":
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """What each module of the package imports of it, wherever in the file, and if only for types."""
    modules = sources()

    def meant(name: str) -> str:
        return name if name in modules or name.startswith("manystack.core") else name.rpartition(".")[0]

    def named(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports name the whole way"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    return {
        module: {meant(name) for name in named(ast.parse(path.read_text())) if name.startswith("manystack")}
        for module, path in modules.items()
    }


def room(module: str) -> str:
    """`manystack.host.tap` stands in host, `manystack.loop` is a room of its own."""
    if module.startswith("manystack.core"):
        return "core"
    path = sources()[module].relative_to(PACKAGE)
    return path.stem if path.parent == Path() else path.parent.as_posix()


def used_rooms() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {"core": set()}
    for module, used in imports().items():
        rooms.setdefault(room(module), set()).update(map(room, used))
    return rooms


def above_their_floor(floors: Mapping[str, str], used: Mapping[str, Iterable[str]]) -> list[str]:
    """What rooms use and may not. Whoever may use a folder may use those in it."""

    def is_allowed(room: str, other: str) -> bool:
        return any(other == lower or other.startswith(f"{lower}/") for lower in floors[room].split())

    return [
        f"{room} uses {other}"
        for room, others in used.items()
        for other in sorted(others)
        if other != room and not is_allowed(room, other)
    ]


def out_of_order(floors: Mapping[str, str]) -> list[str]:
    """Rooms that stand above one that they may use."""
    lines = list(floors)
    return [
        f"{room} stands above {other}"
        for number, room in enumerate(lines)
        for other in floors[room].split()
        if other not in lines[:number]
    ]


def circle(uses: Mapping[str, Iterable[str]]) -> list[str]:
    """Files of which each is used by the next, and the last is the first; none if there is no such circle."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_its_floor() -> None:
    assert set(FLOORS) == set(used_rooms()), "a new room needs a line in the table"
    assert out_of_order(FLOORS) == []


def test_each_room_uses_only_what_its_floor_allows() -> None:
    assert above_their_floor(FLOORS, used_rooms()) == []


def test_no_file_imports_in_a_circle() -> None:
    assert circle(imports()) == []


@pytest.mark.parametrize("folder", [name for name in FLOORS if (PACKAGE / name).is_dir() and name != "core"])
def test_each_folder_says_what_it_is_for_and_what_it_may_use(folder: str) -> None:
    says = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
    assert says is not None
    purpose, _, floor = says.rpartition("\n\n")
    assert purpose
    assert " ".join(floor.split()) == f"Uses {', '.join(f'`{name}`' for name in FLOORS[folder].split())}."
