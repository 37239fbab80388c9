"""The control socket of a running network: a ZeroMQ ROUTER in the network's private directory.

A request is one msgpack map `{id, op, args}`; `op` names an entry of `operations.OPERATIONS`, or is `cancel`
with the id of an earlier request of the same client. Answers carry the request's id and one of `item` (a
part, while it goes on), `result`, or `error` with `exit_code` and a sentence. Whatever a message holds, the
answer is at worst an error. An operation with large parts sends a few of them, and further ones as the
client asks for `more`, with the id as for `cancel`. A client passes over what has an id that it never used.
"""

import asyncio
import logging
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]
import zmq
import zmq.asyncio

from manystack.control.operations import Controlled, perform
from manystack.errors import ManystackError, UsageError

MESSAGE_LIMIT_BYTES = 1 << 16
ANSWERS_WAITING = 100_000
"""Answers kept for a client that does not read; one more ends what it asked for."""
REQUESTS_AT_ONCE = 256
PARTS_AHEAD = 16
LAST_WORDS_MS = 1000
"""How long closing waits for a client to read its last answer."""
LONGEST_ERROR = 4000
"""Characters of an error that are sent: it may repeat what a message held."""
ARE_YOU_THERE = msgpack.packb({"id": "", "item": None})

_LOG = logging.getLogger(__name__)


def decode(message: bytes) -> dict[str, Any]:
    """Return a request or an answer. Raises UsageError for what is none, within bounded memory."""
    try:
        value = msgpack.unpackb(
            message,
            max_str_len=1 << 16,
            max_bin_len=0,
            max_array_len=1024,
            max_map_len=1024,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise UsageError(f"not a msgpack message: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("not a message: write a map {id, op, args}")
    return value


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as bytes. What is no text in UTF-8, as file names may be, is spelt out."""
    packed: bytes = msgpack.packb(message, unicode_errors="backslashreplace")
    return packed


def failure(what: str, error: Exception) -> dict[str, Any]:
    """Return an error as an answer tells it; one that nobody has foreseen is logged, with its origin."""
    if isinstance(error, ManystackError):
        text, exit_code = str(error), error.exit_code
    else:
        _LOG.error("%s failed", what, exc_info=error)
        text, exit_code = f"{what} failed: {type(error).__name__}: {error}", 1
    if len(text) > LONGEST_ERROR:
        text = f"{text[:LONGEST_ERROR]}…"
    return {"error": text, "exit_code": exit_code}


class ControlServer:
    """Serves one engine's operations on its loop."""

    def __init__(self, engine: Controlled, endpoint: str) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self._tasks: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        self._requests: dict[tuple[bytes, int], Request] = {}
        self._context: zmq.asyncio.Context | None = None
        self._receiver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind the socket and begin to serve."""
        self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.ROUTER)
        socket.set(zmq.MAXMSGSIZE, MESSAGE_LIMIT_BYTES)
        socket.set(zmq.SNDHWM, ANSWERS_WAITING)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.bind(self._endpoint)
        self._receiver = asyncio.create_task(self._receive(socket))
        self._socket = socket

    async def close(self) -> None:
        """End what is being served, with an answer, and close the socket."""
        if self._context is None:
            return
        tasks = [*self._tasks.values()]
        if self._receiver is not None:
            tasks.append(self._receiver)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._context.destroy(linger=LAST_WORDS_MS)

    async def _receive(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            client, *frames = await socket.recv_multipart()
            try:
                self._accept(client, frames)
            except Exception as error:  # noqa: BLE001  # no message may end the control socket
                self._send(client, encode({"id": None} | failure("a message", error)))
            # A message that is there already is received at once: others have their turn in between.
            await asyncio.sleep(0)

    def _accept(self, client: bytes, frames: list[bytes]) -> None:
        if len(frames) != 1:
            raise UsageError("a message is one frame")
        message = decode(frames[0])
        number, name, arguments = message.get("id"), message.get("op"), message.get("args", {})
        if type(number) is not int or not isinstance(name, str) or not isinstance(arguments, dict):
            raise UsageError("a request is {id: a number, op: a name, args: a map}")
        if name in ("cancel", "more"):
            other = arguments.get("id")
            if type(other) is not int or len(arguments) != 1:
                raise UsageError(f"{name} takes the id of a request, and nothing else")
            self._tell(name, (client, other))
            return
        if (client, number) in self._tasks:
            raise UsageError(f"request {number} is still being served")
        if len(self._tasks) >= REQUESTS_AT_ONCE:
            self._end_those_of_the_gone(client)
        if len(self._tasks) >= REQUESTS_AT_ONCE:
            raise UsageError(f"{REQUESTS_AT_ONCE} requests are being served already; try again later")
        self._begin(Request(self, client, number), name, arguments)

    def _tell(self, name: str, key: tuple[bytes, int]) -> None:
        """Cancel a request or let it send more; if it is over, the client has just not heard of that yet."""
        if key not in self._tasks:
            return
        if name == "cancel":
            self._tasks[key].cancel()
        else:
            self._requests[key].credit.release()

    def _begin(self, request: "Request", name: str, arguments: dict[str, Any]) -> None:
        key = request.client, request.number
        self._requests[key] = request
        task = self._tasks[key] = asyncio.create_task(self._serve(request, name, arguments))

        def end(_: asyncio.Task[None]) -> None:
            # Here, since a task that is cancelled before its first step never runs at all.
            if task.cancelled():
                request.answer(failure(name, ManystackError(f"{name} was ended")))
            if self._tasks.get(key) is task:
                self._forget(key)

        task.add_done_callback(end)

    def _forget(self, key: tuple[bytes, int]) -> None:
        del self._tasks[key], self._requests[key]

    def _end_those_of_the_gone(self, asking: bytes) -> None:
        """End what others have asked for that left: a watcher of a quiet network has not met that yet."""
        others = {client for client, _ in self._tasks if client != asking}
        gone = {client for client in others if not self._send(client, ARE_YOU_THERE)}
        for key in [key for key in self._tasks if key[0] in gone]:
            self._tasks[key].cancel()
            self._forget(key)

    async def _serve(self, request: "Request", name: str, arguments: dict[str, Any]) -> None:
        try:
            request.answer({"result": await perform(request, name, arguments)})
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # one request must not end the network
            request.answer(failure(name, error))

    def _send(self, client: bytes, message: bytes) -> bool:
        """Send without waiting; whether the client is there and keeps up."""
        sent = cast("asyncio.Future[Any]", self._socket.send_multipart([client, message], flags=zmq.NOBLOCK))
        error = sent.exception()
        if error is None:
            return True
        if isinstance(error, zmq.ZMQError) and error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
            return False
        raise error


class ClientGone(Exception):  # noqa: N818  # nothing went wrong
    """The client has left, or does not read what it asked for."""


class Request:
    """One request while it is served: operations.Call."""

    def __init__(self, server: ControlServer, client: bytes, number: int) -> None:
        self.engine = server._engine
        self.client = client
        self.number = number
        self.credit = asyncio.Semaphore(PARTS_AHEAD)
        """Large parts that may be sent before the client asks for more."""
        self._server = server

    async def send(self, item: Any) -> None:
        """Send a part of the answer. Raises ClientGone when nobody is there to take it."""
        if not self.answer({"item": item}):
            raise ClientGone

    def answer(self, answer: dict[str, Any]) -> bool:
        """Send an answer; whether somebody is there to take it. Raises what no message can hold."""
        return self._server._send(self.client, encode({"id": self.number} | answer))
