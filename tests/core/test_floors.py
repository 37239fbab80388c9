"""The rooms of the engine: each uses only those below it, and every line of them can be read."""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core"

FLOORS: dict[str, set[str]] = {
    "state": set(),
    "machine": {"state"},
    "headers": {"state", "machine"},
    "time": {"state", "machine"},
    "packet": {"state", "machine", "headers"},
    "observe": {"state", "machine", "headers", "time", "packet"},
    "link": {"state", "machine", "headers", "time", "packet", "observe"},
    "stack": {"state", "machine", "headers", "time", "packet", "observe", "link"},
    "device": {"state", "machine", "headers", "time", "packet", "observe", "link"},
    "run": {"state", "machine", "headers", "time", "packet", "observe", "link", "stack", "device"},
    "face": {"state", "machine", "headers", "time", "packet", "observe", "link", "stack", "device", "run"},
}
"""What each folder of the engine may use beside itself. A new folder has its line here."""

CIMPORT = re.compile(r"^from (\.+)([\w.]*) cimport ", re.M)


def headers() -> list[Path]:
    return sorted(CORE.rglob("*.pxd"))


def uses(header: Path) -> set[Path]:
    """The headers of the engine that one imports from."""
    found = set()
    for dots, module in CIMPORT.findall(header.read_text()):
        found.add((header.parents[len(dots) - 1] / module.replace(".", "/")).with_suffix(".pxd"))
    return found


def test_each_folder_uses_only_those_below_it() -> None:
    assert FLOORS.keys() == {path.name for path in CORE.iterdir() if (path / "__init__.py").exists()}
    wrong = [
        f"{header.relative_to(CORE)} uses {used.relative_to(CORE)}"
        for header in headers()
        for used in uses(header)
        if used.relative_to(CORE).parts[0] not in FLOORS[header.relative_to(CORE).parts[0]]
        and used.relative_to(CORE).parts[0] != header.relative_to(CORE).parts[0]
    ]
    assert wrong == []
    assert all(FLOORS[low] < FLOORS[high] for high in FLOORS for low in FLOORS[high])


def test_no_header_comes_back_to_itself() -> None:
    try:
        TopologicalSorter({header: uses(header) for header in headers()}).prepare()
    except CycleError as error:
        circle = [str(path.relative_to(CORE)) for path in error.args[1]]
        pytest.fail(f"headers import each other in a circle: {' -> '.join(circle)}")


def test_no_two_headers_share_a_file_name() -> None:
    # Cython keeps a header under the name that the import is written with, and one of two would be lost.
    names = [header.name for header in headers()]
    assert sorted(set(names)) == sorted(names)


def test_lines_and_files_can_be_read_at_once() -> None:
    sources = [path for path in sorted(CORE.rglob("*.p*")) if path.suffix in {".pxd", ".pxi", ".pyx", ".pyi"}]
    assert len(sources) > 80
    too_long = [
        f"{path.relative_to(CORE)}:{number}"
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 110
    ]
    assert too_long == []
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 600] == []
    assert [
        path.name for path in sources if path.suffix == ".pxd" and not path.read_text().startswith("# ")
    ] == []
