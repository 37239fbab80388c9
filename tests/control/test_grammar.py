"""Whatever a message to the control socket holds, the next plain request has its answer.

Messages are made from the table of operations itself: a new operation, or a new argument, is covered as it is
written.
"""

import asyncio
import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from manystack import Engine, Topology
from manystack.control.client import find
from manystack.control.operations import OPERATIONS

NAME = f"grammar-{os.getpid()}"
PLAIN_IDS = itertools.count(1 << 40)
NO_ANSWER = ("cancel", "more")
PATIENCE_MS = 20_000

# What means something to each operation; what looks as if it did; and what is just odd.
FIT = ["a", "b", "s", "a.eth0", "b.eth0", "s.port0", "10.0.0.2", "10.1.0.0/16", "5ms", "56B"]
NEARLY = [
    *("s.port1", "nobody", "call", "self", "10.0.0.2/32", "default", "0.0.0.0", "255.255.255.255", "::1"),
    *("0s", "1ns", "277777h", "277777777h", "1e9s", "nan", "inf", "-1s", "-0s", "5", "5ms5ms"),
    *("0B", "1B", "65507B", "65508B", "65664B", "1048576GiB", "1e99GiB"),
    *("0%", "100%", "1e999999999%", "99999999999999999999", "unlimited", "1Tbit/s", "codel", "1packets"),
    *("delay", "bandwidth", "loss", "loss.rate", "queue", "queue.discipline", "jitter", "forward", "mtu"),
    *("reverse.delay", "delay.delay", ".", "..", "a.b.c", "[]", "{}", "[[", "{file: /dev/zero}", "&a [*a]"),
]
ODD = ["", "\x00", "a\x00b", "\N{ESCAPE}[2J", "\N{GRINNING FACE}", "x" * 1000, "x" * 1001, "x" * 60_000]
WORDS = st.sampled_from(FIT) | st.sampled_from(FIT) | st.sampled_from(NEARLY + ODD) | st.text(max_size=20)
INTEGERS = (
    st.integers(-2, 300)
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from([1_000_000, 1_000_001, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
)
SCALARS = (
    st.none()
    | st.booleans()
    | INTEGERS
    | st.floats()
    | WORDS
    | st.binary(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    | st.builds(msgpack.Timestamp, st.integers(0, 1 << 33), st.integers(0, 999_999_999))
)
ANYTHING = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(SCALARS, parts, max_size=4),
    max_leaves=8,
)
SHAPES: list[Any] = [
    *(None, False, True, 0, -1, 1 << 31, (1 << 64) - 1, 0.5, math.nan, math.inf, "", "a", b"", b"a"),
    *([], [1], [[]], ["a"], {}, {"a": 1}, {"a": "b"}, {"": None}, {b"": []}, {"a": {"b": {}}}),
    *(msgpack.ExtType(5, b""), msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)),
]
"""One or two values of each type that msgpack knows."""
WRONG = st.sampled_from(SHAPES) | ANYTHING
DEEP = st.integers(1, 30_000).map(lambda depth: b"\x91" * depth) | st.integers(1, 20_000).map(
    lambda depth: b"\x81\xa1x" * depth
)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of the type that an argument is declared with, whether they mean anything or not."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(parts[0])
    if origin is list:
        return st.lists(values(*parts), max_size=4)
    if origin is dict:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=4)
    if parts:
        return st.one_of(*(values(part) for part in parts))
    simple = {NoneType: st.none(), str: WORDS, int: INTEGERS, float: st.floats(), bool: st.booleans()}
    return simple[annotation]


def declared(name: str) -> dict[str, st.SearchStrategy[Any]]:
    """The arguments of an operation, each with values of its type."""
    if name in NO_ANSWER:
        return {"id": INTEGERS}
    operation = OPERATIONS[name]
    types = get_type_hints(operation.run, include_extras=True)
    return {argument: values(types[argument]) for argument in operation.arguments}


def arguments(name: str) -> st.SearchStrategy[Any]:
    """Arguments of an operation: each left out, of its type, or of any; now and then with some more."""
    known = declared(name)
    right = st.fixed_dictionaries(known)
    some = st.fixed_dictionaries({}, optional={key: value | WRONG for key, value in known.items()})
    more = st.builds(lambda one, other: one | other, some, st.dictionaries(SCALARS, ANYTHING, max_size=2))
    return right | some | more


def each_shape() -> Iterator[dict[str, Any]]:
    """Requests of every operation in which one argument, or one part of the request, has each shape."""
    for name in [*OPERATIONS, *NO_ANSWER]:
        whole = {"id": 1, "op": name, "args": dict.fromkeys(declared(name), "a")}
        for shape in SHAPES:
            for part in whole:
                yield whole | {part: shape}
            for argument in whole["args"]:
                yield whole | {"args": whole["args"] | {argument: shape}}


NAMES = st.sampled_from([*OPERATIONS, *NO_ANSWER])
REQUESTS = NAMES.flatmap(
    lambda name: st.fixed_dictionaries({"id": INTEGERS, "op": st.just(name), "args": arguments(name)})
)
STRANGE_REQUESTS = st.fixed_dictionaries(
    {}, optional={"id": ANYTHING, "op": NAMES | ANYTHING, "args": ANYTHING, "x": ANYTHING}
)


def packed(value: Any) -> bytes:
    result: bytes = msgpack.packb(value)
    return result


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, cut off or added."""
    message = bytearray(packed(draw(REQUESTS)))
    for _ in range(draw(st.integers(0, 3))):
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    return bytes(message[: draw(st.integers(0, len(message)))] + draw(st.binary(max_size=3)))


FRAMES = st.one_of(
    *[REQUESTS.map(packed)] * 4,
    *[damaged()] * 2,
    STRANGE_REQUESTS.map(packed),
    ANYTHING.map(packed),
    st.binary(max_size=40),
    DEEP,
)
MESSAGES = st.one_of(
    *[FRAMES.map(lambda frame: [frame])] * 9,
    st.lists(FRAMES, min_size=2, max_size=5),
)


def understood(message: list[bytes]) -> dict[Any, Any]:
    """What a message asks for, as far as it is a map."""
    try:
        request = msgpack.unpackb(message[0], strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return {}
    return request if isinstance(request, dict) else {}


class Talk:
    """A client that counts on nothing."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.socket = socket

    def next(self) -> dict[Any, Any]:
        assert self.socket.poll(PATIENCE_MS), "no answer"
        answer = msgpack.unpackb(self.socket.recv(), strict_map_key=False)
        assert isinstance(answer, dict)
        assert "id" in answer
        assert len({"item", "result", "error"} & answer.keys()) == 1
        if "error" in answer:
            assert isinstance(answer["error"], str)
            assert answer["exit_code"] in (1, 2)
        return answer

    def plain(self) -> list[dict[Any, Any]]:
        """Ask a plain question, and return the answers until it is answered."""
        number = next(PLAIN_IDS)
        self.socket.send(packed({"id": number, "op": "network", "args": {}}))
        answers = [self.next()]
        while answers[-1]["id"] != number:
            answers.append(self.next())
        assert answers[-1]["result"]["name"] == NAME
        return answers[:-1]

    def cancel(self, number: Any) -> list[dict[Any, Any]]:
        """Cancel what may be a request, and return what is still answered until after that."""
        if type(number) is not int:
            return []
        self.socket.send(packed({"id": next(PLAIN_IDS), "op": "cancel", "args": {"id": number}}))
        return self.plain()


@pytest.fixture(params=["virtual", "real"])
def emu(request: pytest.FixtureRequest) -> Iterator[Engine]:
    topology = Topology.parse(
        {
            "manystack": 1,
            "name": "star",
            "nodes": {
                "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
                "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
                "s": {"kind": "switch"},
            },
            "links": [{"ends": ["a.eth0", "s"], "delay": "5ms"}, {"ends": ["s", "b.eth0"], "delay": "5ms"}],
        }
    )
    with Engine(topology, time=request.param, name=NAME) as engine:
        yield engine


def with_talk(emu: Engine, work: Any) -> None:
    """Run the engine's loop while a thread, as another process would, talks to it."""

    def talk() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            work(Talk(socket))

    async def serve() -> None:
        with ThreadPoolExecutor(1) as pool:  # not the loop's executor, for which virtual time would wait
            await asyncio.wrap_future(pool.submit(talk))

    emu.run_until_complete(serve())


def check(talk: Talk, message: list[bytes]) -> None:
    """Send a message, and demand an answer to it and to the plain one that follows."""
    request = understood(message)
    talk.socket.send_multipart(message)
    answers = talk.plain()
    answers += talk.cancel(request.get("id"))
    if request.get("op") not in NO_ANSWER and not answers:
        talk.next()


def test_whatever_shape_an_argument_has_the_next_request_is_answered(
    emu: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def work(talk: Talk) -> None:
        for request in each_shape():
            check(talk, [packed(request)])
            assert not caplog.records, f"{request}: an exception that nobody has foreseen"

    with_talk(emu, work)


def test_whatever_a_message_holds_the_next_request_is_answered(
    emu: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def work(talk: Talk) -> None:
        @settings(derandomize=True, deadline=None, database=None, max_examples=200)
        @given(MESSAGES)
        def send(message: list[bytes]) -> None:
            check(talk, message)
            assert not caplog.records, "an exception that nobody has foreseen"

        send()

    with_talk(emu, work)
