"""The per-packet path touches no Python: shown on the C that Cython makes of it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "build/cython/manystack/core/_switch.c"

FUNCTION = re.compile(
    r"^static CYTHON_INLINE [^;{]*?__pyx_f_9manystack_4core_(\w+)\([^;{]*\)\s*\{\n(.*?)^\}\n",
    re.M | re.S,
)
PYTHON = re.compile(r"\b(?:Py(?!_ssize_t\b)[A-Z_]\w*|__Pyx_\w+)\b")


def rooms() -> dict[str, dict[str, str]]:
    """The functions generated for each header of the path, with their bodies, by `folder.room`.

    The three rooms that are left out are what Python sees and says, and the names of drop reasons.
    """
    core = ROOT / "core"
    found: dict[str, dict[str, str]] = {
        ".".join(path.relative_to(core).with_suffix("").parts): {} for path in core.rglob("*.pxd")
    }
    for mangled, body in FUNCTION.findall(GENERATED.read_text()):
        parts = []
        while part := re.match(r"(\d+)", mangled):
            length = int(part[1])
            parts.append(mangled[part.end() : part.end() + length])
            mangled = mangled[part.end() + length :].removeprefix("_")
        found[".".join(parts)][mangled] = body
    del found["face.rows"], found["face.shaping"], found["state.reasons"]
    return found


def test_no_function_of_the_path_touches_python() -> None:
    functions = rooms()
    assert {"take_vector", "node_turn"} <= functions["run.worker"].keys()
    assert "worker_loop" in functions["run.loop"]
    assert "ip4_router_vector" in functions["stack.router"]
    assert "codel_take" in functions["link.queues.codel"]
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
