"""The per-packet path touches no Python: shown on the C that Cython makes of it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "build/cython/manystack/core/_switch.c"

FUNCTION = re.compile(
    r"^static CYTHON_INLINE [^;{]*?__pyx_f_9manystack_4core_(\d+)(\w+?)\([^;{]*\)\s*\{\n(.*?)^\}\n",
    re.M | re.S,
)
PYTHON = re.compile(r"\b(?:Py(?!_ssize_t\b)[A-Z_]\w*|__Pyx_\w+)\b")


def rooms() -> dict[str, dict[str, str]]:
    """The generated functions of each header of the path, with their bodies. `face` is what Python sees."""
    found: dict[str, dict[str, str]] = {path.stem: {} for path in (ROOT / "core").glob("*.pxd")}
    for length, name, body in FUNCTION.findall(GENERATED.read_text()):
        room = name[: int(length)]
        found[room][name[int(length) + 1 :]] = body
    del found["face"]
    return found


def test_no_function_of_the_path_touches_python() -> None:
    functions = rooms()
    assert {"worker_loop", "take_vector", "node_turn"} <= functions["worker"].keys()
    assert "ip4_router_vector" in functions["ip4_input"]
    touched = {
        f"{room}.{name}": uses
        for room, bodies in functions.items()
        for name, body in bodies.items()
        if (uses := set(PYTHON.findall(body)))
    }
    assert touched == {}


def test_no_function_of_the_path_takes_the_gil_or_a_lock() -> None:
    words = re.compile(r"PyGILState|pthread_mutex|sem_wait")
    for bodies in rooms().values():
        for name, body in bodies.items():
            assert not words.search(body), name
