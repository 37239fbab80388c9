"""The control socket of a running network: a ZeroMQ ROUTER in the network's private directory.

A request is one msgpack map `{id, op, args}`; `op` names an entry of `operations.OPERATIONS`, or is `cancel`
with the id of an earlier request of the same client. Answers carry the request's id and one of `item` (a
part, while it goes on), `result`, or `error` with `exit_code` and a sentence. Whatever a message holds, the
answer is at worst an error. An operation with large parts sends a few of them, and further ones as the
client asks for `more`, with the id as for `cancel`.
"""

import asyncio
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


class ControlServer:
    """Serves one engine's operations on its loop."""

    def __init__(self, engine: Controlled, endpoint: str) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self._requests: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        self._calls: dict[tuple[bytes, int], Request] = {}
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
        tasks = [*self._requests.values()]
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
            except UsageError as error:
                self._answer(client, {"id": None, "error": str(error), "exit_code": error.exit_code})

    def _accept(self, client: bytes, frames: list[bytes]) -> None:
        if len(frames) != 1:
            raise UsageError("a message is one frame")
        message = decode(frames[0])
        number, name, arguments = message.get("id"), message.get("op"), message.get("args", {})
        if type(number) is not int or not isinstance(name, str) or not isinstance(arguments, dict):
            raise UsageError("a request is {id: a number, op: a name, args: a map}")
        key = client, number
        if name in ("cancel", "more"):
            other = client, arguments.get("id", -1)
            if name == "cancel" and other in self._requests:
                self._requests[other].cancel()
            elif name == "more" and other in self._calls:
                self._calls[other].credit.release()
            return
        if key in self._requests:
            raise UsageError(f"request {number} is still being served")
        if len(self._requests) >= REQUESTS_AT_ONCE:
            raise UsageError(f"{REQUESTS_AT_ONCE} requests are being served already; try again later")
        request = self._calls[key] = Request(self, client, number)
        task = asyncio.create_task(self._serve(request, name, arguments))
        self._requests[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    def _forget(self, key: tuple[bytes, int]) -> None:
        self._requests.pop(key, None)
        self._calls.pop(key, None)

    async def _serve(self, request: "Request", name: str, arguments: dict[str, Any]) -> None:
        try:
            answer = {"result": await perform(request, name, arguments)}
        except ManystackError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        except asyncio.CancelledError:
            answer = {"error": f"{name} was ended", "exit_code": 1}
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # one request must not end the network
            answer = {"error": f"{name} failed: {type(error).__name__}: {error}", "exit_code": 1}
        self._answer(request.client, {"id": request.number} | answer)

    def _answer(self, client: bytes, message: dict[str, Any]) -> bool:
        """Send without waiting; whether the client is there and keeps up."""
        frames = [client, msgpack.packb(message)]
        sent = cast("asyncio.Future[Any]", self._socket.send_multipart(frames, flags=zmq.NOBLOCK))
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
        if not self._server._answer(self.client, {"id": self.number, "item": item}):
            raise ClientGone
