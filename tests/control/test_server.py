"""The control socket: one table of operations, and an answer to whatever is sent."""

import asyncio
import itertools
import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import pytest
import zmq

from manystack import Engine, Topology
from manystack.control.client import Client, find
from manystack.control.operations import OPERATIONS, Operation
from manystack.control.server import MESSAGE_LIMIT_BYTES, ControlServer, decode
from manystack.errors import ManystackError
from manystack.host.runtime import running

NAME = f"control-{os.getpid()}"
MS = 1_000_000
PATIENCE_MS = 20_000


def document() -> dict[str, Any]:
    """a - s - b, 5 ms each."""
    return {
        "manystack": 1,
        "name": "star",
        "nodes": {
            "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
            "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
            "s": {"kind": "switch"},
        },
        "links": [{"ends": ["a.eth0", "s"], "delay": "5ms"}, {"ends": ["s", "b.eth0"], "delay": "5ms"}],
    }


@pytest.fixture(params=["virtual", "real"])
def emu(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(Topology.parse(document()), time=request.param, name=NAME) as engine:
        yield engine


def outside(emu: Engine, work: Callable[[], Any]) -> Any:
    """Run the engine's loop while a thread, as another process would, does its work; return the result."""

    async def serve() -> Any:
        with ThreadPoolExecutor(1) as pool:  # not the loop's executor, for which virtual time would wait
            return await asyncio.wrap_future(pool.submit(work))

    return emu.run_until_complete(serve())


def ask(emu: Engine, operation: str, on_item: Callable[[Any], None] | None = None, **arguments: Any) -> Any:
    def work() -> Any:
        with Client(find(NAME)) as client:
            return client.call(operation, on_item=on_item, **arguments)

    return outside(emu, work)


def take(socket: "zmq.Socket[bytes]") -> Any:
    assert socket.poll(PATIENCE_MS), "no answer"
    return msgpack.unpackb(socket.recv())


def raw(emu: Engine, *messages: list[bytes]) -> list[Any]:
    """Send messages as they are; return as many answers, in order."""

    def work() -> list[Any]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            answers = []
            for message in messages:
                socket.send_multipart(message)
                answers.append(take(socket))
            return answers

    return outside(emu, work)


def test_a_running_network_is_found_and_tells_of_itself(emu: Engine) -> None:
    assert NAME in [network.name for network in running()]
    about = ask(emu, "network")
    assert (about["name"], about["pid"], about["nodes"], about["links"]) == (NAME, os.getpid(), 3, 2)
    assert about["time"] == str(emu.mode)


def test_every_question_has_an_answer_of_plain_values(emu: Engine) -> None:
    ask(emu, "ping", node="a", destination="b")
    for name in OPERATIONS:
        if name.startswith("show_") or name == "summary":
            json.dumps(ask(emu, name))
    (interface,) = ask(emu, "show_nodes", node="a")[0]["interfaces"]
    assert (interface["peer"], interface["mac"][:3]) == ("s.port0", "02:")
    assert ask(emu, "show_nodes", node="s")[0]["interfaces"][0]["mac"] is None
    (entry,) = ask(emu, "show_neighbors", node="a")["a"]
    assert entry["address"] == "10.0.0.2"
    assert {learnt["interface"] for learnt in ask(emu, "show_neighbors", node="s")["s"]} == {
        "s.port0",
        "s.port1",
    }
    assert [route["prefix"] for route in ask(emu, "show_routes", node="b")["b"]].count("10.0.0.0/24") == 1
    assert ask(emu, "show_stats", node="a")[0]["interfaces"][0]["tx_packets"] >= 2
    assert len(ask(emu, "show_links", node="b")) == 1


def test_a_ping_gives_each_answer_and_then_the_result(emu: Engine) -> None:
    ask(emu, "ping", node="a", destination="b")
    items: list[Any] = []
    result = ask(emu, "ping", on_item=items.append, node="a", destination="b", count=3, interval="20ms")
    assert items[0] == {"destination": "10.0.0.2", "size_bytes": 56}
    assert [item["sequence"] for item in items[1:]] == [0, 1, 2]
    assert result["received_packets"] == 3
    if emu.is_virtual:
        assert [reply["rtt_ns"] for reply in result["replies"]] == [20 * MS] * 3


def test_a_cancelled_ping_gives_the_result_so_far(emu: Engine) -> None:
    def work() -> Any:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            arguments = {"node": "a", "destination": "b", "count": 0, "interval": "20ms"}
            socket.send(msgpack.packb({"id": 1, "op": "ping", "args": arguments}))
            for _ in range(3):
                assert "item" in take(socket)
            socket.send(msgpack.packb({"id": 2, "op": "cancel", "args": {"id": 1}}))
            while "item" in (answer := take(socket)):
                pass
            return answer["result"]

    assert outside(emu, work)["received_packets"] >= 2


def test_changes_from_outside_take_effect_and_mark_a_virtual_run(emu: Engine) -> None:
    assert emu.summary().outside_changes == ()
    assert emu.summary().reproducible is emu.is_virtual
    ask(emu, "link_set", a="a.eth0", b="s.port0", both={"delay": "7ms"}, reverse={"loss": "1%"})
    forward, reverse = emu.link("a.eth0", "s.port0").parameters
    assert (forward.delay_ns, reverse.delay_ns, forward.loss, reverse.loss) == (7 * MS, 7 * MS, 0.0, 0.01)
    ask(emu, "link_down", a="a", b="s.port0")
    assert not emu.link("a", "s.port0").is_up
    ask(emu, "link_up", a="a", b="s.port0")
    assert emu.link("a", "s.port0").is_up
    ask(emu, "route_add", node="a", prefix="10.1.0.0/16", via="10.0.0.2")
    assert "10.1.0.0/16" in [str(route.prefix) for route in emu.node("a").routes()]
    ask(emu, "route_delete", node="a", prefix="10.1.0.0/16")
    assert "10.1.0.0/16" not in [str(route.prefix) for route in emu.node("a").routes()]
    summary = emu.summary()
    assert not summary.reproducible
    assert len(summary.outside_changes) == (5 if emu.is_virtual else 0)


def test_looking_does_not_mark_a_run(emu: Engine) -> None:
    for name in ("network", "show_nodes", "show_links", "show_routes", "summary"):
        ask(emu, name)
    assert emu.summary().outside_changes == ()


def test_watching_gives_events_in_their_order(emu: Engine) -> None:
    def work() -> list[Any]:
        events: list[Any] = []

        def on_item(event: Any) -> None:
            if event["kind"] == "watching":
                with Client(find(NAME)) as other:
                    other.call("link_down", a="a", b="s.port0")
                    other.call("link_up", a="a", b="s.port0")
                return
            events.append(event)
            if len(events) == 2:
                raise KeyboardInterrupt

        with Client(find(NAME)) as client, pytest.raises(KeyboardInterrupt):
            client.call("watch", on_item=on_item)
        return events

    events = outside(emu, work)
    assert [(event["kind"], event["subject"]) for event in events] == [
        ("link-down", "a.eth0 s.port0"),
        ("link-up", "a.eth0 s.port0"),
    ]


class Answers(Client):
    """A client whose network has answered already, and whose user presses Ctrl-C as it takes an answer."""

    def __init__(self, answers: list[dict[str, Any]], interrupt_at: int) -> None:
        self.answers, self.interrupt_at = answers, interrupt_at
        self.sent: list[str] = []
        self._numbers = itertools.count(1)

    def _wait(self, patience_ms: int | None) -> None:
        pass

    def _take(self) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if len(self.answers) == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return answer

    def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message["op"])


@pytest.mark.parametrize("interrupt_at", range(4))
def test_an_interrupt_loses_nothing_that_has_been_taken(interrupt_at: int) -> None:
    items: list[int] = []
    answers: list[dict[str, Any]] = [{"id": 1, "item": number} for number in range(3)]
    client = Answers([*answers, {"id": 1, "result": "all"}], interrupt_at)
    assert client.call("watch", on_item=items.append) == "all"
    assert items == [0, 1, 2]
    assert client.sent == ["watch", "cancel"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_watcher_that_leaves_is_forgotten(emu: Engine) -> None:
    ask_and_leave(emu)
    emu.link("a", "s.port0").down()
    emu.run("1ms")
    emu.link("a", "s.port0").up()
    emu.run("1ms")
    assert ask(emu, "network")["name"] == NAME


def ask_and_leave(emu: Engine) -> None:
    def work() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            socket.send(msgpack.packb({"id": 1, "op": "watch"}))
            assert take(socket)["item"]["kind"] == "watching"

    outside(emu, work)


@pytest.mark.parametrize("time", ["virtual", "real"])
def test_stopping_ends_an_endless_run(time: str) -> None:
    endless = document() | {"traffic": [{"kind": "ping", "from": "a", "to": "b", "interval": "1ms"}]}
    answers: list[Any] = []

    def work() -> None:
        with Client(find(NAME)) as client:
            answers.append(client.call("stop"))

    with Engine(Topology.parse(endless), time=time, name=NAME) as emu:
        thread = threading.Thread(target=work)
        thread.start()
        assert emu.run() == "stopped"
    thread.join()
    assert answers == [None]


def request(**parts: Any) -> list[bytes]:
    return [msgpack.packb({"id": 1, "op": "network", "args": {}} | parts)]


BAD = {
    "empty": [b""],
    "text": [b"hello"],
    "truncated": [msgpack.packb({"id": 1, "op": "network"})[:-3]],
    "trailing": [msgpack.packb({"id": 1, "op": "network"}) + b"\x00"],
    "a list": [msgpack.packb([1, 2])],
    "nested": [b"\x91" * 60_000],
    "wide": [b"\xdd\xff\xff\xff\xff"],
    "many": [msgpack.packb({"id": 1, "op": "network", "args": {str(i): i for i in range(2000)}})],
    "extension": [msgpack.packb(msgpack.ExtType(5, b"x"))],
    "two frames": [b"", msgpack.packb({"id": 1, "op": "network"})],
    "no id": [msgpack.packb({"op": "network"})],
    "a bool for an id": request(id=True),
    "a number for an operation": request(op=7),
    "a list for arguments": request(args=[1]),
    "an unknown operation": request(op="format"),
    "an unknown argument": request(args={"shape": "round"}),
    "a missing argument": request(op="ping", args={"node": "a"}),
    "an argument of another type": request(op="ping", args={"node": "a", "destination": 7}),
    "another caller": request(op="network", args={"call": 1}),
    "a count out of range": request(op="ping", args={"node": "a", "destination": "b", "count": -1}),
    "no such node": request(op="show_routes", args={"node": "nobody"}),
    "a bad quantity": request(op="link_set", args={"a": "a", "b": "s.port0", "both": {"delay": "5"}}),
    "a bad key": request(op="link_set", args={"a": "a", "b": "s.port0", "both": {"colour": "red"}}),
    "a binary name": request(op="show_routes", args={"node": b"\xff\xfe"}),
    "an argument without a name": request(args={b"": 1}),
    "an argument named self": request(args={"self": 1}),
    "a list to cancel": request(op="cancel", args={"id": [1]}),
    "a bool to cancel": request(op="cancel", args={"id": True}),
    "nothing to cancel": request(op="cancel"),
    "a map to have more of": request(op="more", args={"id": {}}),
    "an operation of a long name": request(op="x" * 60_000),
    "an argument of a long name": request(args={"x" * 60_000: 1}),
    "many frames": [b"x"] * 1000,
    "half a character": request(
        op="link_set", args={"a": "a", "b": "s.port0", "both": {"queue": '{discipline: "\\ud800"}'}}
    ),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_a_bad_message_gets_an_error_and_the_next_one_an_answer(emu: Engine, message: list[bytes]) -> None:
    bad, good = raw(emu, message, request(id=2))
    assert isinstance(bad["error"], str)
    assert len(bad["error"]) < 1000
    assert bad["exit_code"] == 2
    assert good["id"] == 2
    assert good["result"]["name"] == NAME


def test_every_damaged_message_gets_one_answer(emu: Engine) -> None:
    chance = random.Random(20)
    whole = request(
        op="link_set", args={"a": "a", "b": "s.port0", "both": {"delay": "5ms"}, "forward": None}
    )[0]

    def damaged() -> list[bytes]:
        message = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        return [bytes(message[: chance.choice([len(message), chance.randrange(len(message))])])]

    answers = raw(emu, *(damaged() for _ in range(500)))
    assert len([answer for answer in answers if "error" in answer]) > 400
    assert ask(emu, "network")["name"] == NAME


def test_an_oversized_message_is_refused_at_the_door(emu: Engine) -> None:
    def work() -> Any:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            socket.send(bytes(MESSAGE_LIMIT_BYTES + 1))
            monitor.recv_multipart()  # the server hangs up
            socket.disable_monitor()
        with Client(find(NAME)) as client:
            return client.call("network")

    assert outside(emu, work)["name"] == NAME


def test_only_so_many_requests_at_once(emu: Engine) -> None:
    def work() -> list[Any]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            for number in range(257):
                socket.send(msgpack.packb({"id": number, "op": "watch"}))
            return [take(socket) for _ in range(257)]

    answers = outside(emu, work)
    assert len([answer for answer in answers if "item" in answer]) == 256
    assert len([answer for answer in answers if "error" in answer]) == 1


def test_watchers_who_left_make_room_and_the_others_do_not_notice(emu: Engine) -> None:
    def fill_and_leave() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            for number in range(255):
                socket.send(msgpack.packb({"id": number, "op": "watch"}))
                assert "item" in take(socket)
            socket.send(msgpack.packb({"id": 255, "op": "watch"}))
            assert "are being served already" in take(socket)["error"]

    def work() -> list[str]:
        kinds: list[str] = []

        def on_item(event: Any) -> None:
            kinds.append(event["kind"])
            if event["kind"] != "watching":
                raise KeyboardInterrupt
            fill_and_leave()
            with Client(find(NAME)) as other:
                other.call("link_down", a="a", b="s.port0")

        with Client(find(NAME)) as client, pytest.raises(KeyboardInterrupt):
            client.call("watch", on_item=on_item)
        return kinds

    assert outside(emu, work) == ["watching", "link-down"]


def test_a_request_that_is_cancelled_at_once_is_answered(emu: Engine) -> None:
    def work() -> Any:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(find(NAME).control_endpoint)
            for number in range(0, 200, 2):
                socket.send(msgpack.packb({"id": number, "op": "watch"}))
                socket.send(msgpack.packb({"id": number + 1, "op": "cancel", "args": {"id": number}}))
            ended = set()
            while len(ended) < 100:
                answer = take(socket)
                if "error" in answer:
                    assert answer["error"] == "watch was ended"
                    ended.add(answer["id"])

    outside(emu, work)


def test_messages_without_end_leave_others_their_turn(emu: Engine) -> None:
    class Flood:
        """A socket on which another message is there whenever one is asked for, up to a thousand."""

        left = 1000

        async def recv_multipart(self) -> list[bytes]:
            self.left -= 1
            if self.left == 0:
                raise asyncio.CancelledError
            return [b"client", *request(op="cancel", args={"id": 1})]

    async def meanwhile() -> int:
        flood: Any = Flood()
        receiver = asyncio.create_task(ControlServer(emu, "")._receive(flood))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left: int = flood.left
        await asyncio.wait([receiver])
        return left

    assert emu.run_until_complete(meanwhile()) > 900


async def divide(call: Any) -> float:
    return 1 / 0


async def give_too_much(call: Any) -> int:
    return 1 << 70


async def send_too_much(call: Any) -> None:
    await call.send(1 << 70)


@pytest.mark.parametrize("run", [divide, give_too_much, send_too_much])
def test_what_nobody_has_foreseen_is_an_error_and_is_logged(
    emu: Engine, run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(OPERATIONS, "odd", Operation(run, (), False))
    bad, good = raw(emu, request(op="odd"), request(id=2))
    assert (bad["id"], bad["exit_code"]) == (1, 1)
    assert bad["error"].startswith("odd failed: ")
    assert good["result"]["name"] == NAME
    (record,) = caplog.records
    assert record.exc_info


def test_a_message_that_cannot_be_told_apart_is_an_error_and_is_logged(
    emu: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(message: bytes) -> Any:
        return 1 / 0 if message == b"stone" else decode(message)

    monkeypatch.setattr("manystack.control.server.decode", stumble)
    bad, good = raw(emu, [b"stone"], request())
    assert bad == {
        "id": None,
        "error": "a message failed: ZeroDivisionError: division by zero",
        "exit_code": 1,
    }
    assert good["result"]["name"] == NAME
    (record,) = caplog.records
    assert record.exc_info


def test_text_that_is_none_is_spelt_out(emu: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def name_of_a_file(call: Any) -> str:
        return os.fsdecode(b"caf\xe9")

    monkeypatch.setitem(OPERATIONS, "odd", Operation(name_of_a_file, (), False))
    assert ask(emu, "odd") == "caf\\udce9"


def test_a_network_that_ends_tells_those_who_wait() -> None:
    errors: list[ManystackError] = []
    with Engine(Topology.parse(document()), time="real", name=NAME) as emu:
        watching = threading.Event()

        def work() -> None:
            with Client(find(NAME)) as client:
                try:
                    client.call("watch", on_item=lambda _: watching.set())
                except ManystackError as error:
                    errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not watching.is_set():
            emu.run("1ms")
    thread.join()
    assert "watch was ended" in str(errors[0])


def test_a_network_whose_program_is_busy_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manystack.control.client.PATIENCE_MS", 20)
    with (
        Engine(Topology.parse(document()), time="real", name=NAME),
        pytest.raises(ManystackError, match="does not answer"),
    ):
        Client(find(NAME))


def test_two_networks_need_two_names() -> None:
    with Engine(Topology.parse(document()), time="real", name=NAME):
        second = Engine(Topology.parse(document()), time="real", name=NAME)
        with pytest.raises(ManystackError, match="already running"):
            second.start()
    assert NAME not in [network.name for network in running()]
