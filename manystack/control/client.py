"""The other side of the control socket: how commands talk to a running network."""

import itertools
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]
import zmq

from manystack.errors import ManystackError, UsageError
from manystack.host.runtime import RunningNetwork, running

LAST_WORDS_MS = 200
"""The answer of a process that has just ended may still be on its way to us."""


PATIENCE_MS = 3000
"""A network that takes longer to say hello runs a program that does something else than its loop."""


class RemoteError(ManystackError):
    """What a running network answered instead of a result."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def find(name: str | None) -> RunningNetwork:
    """Return the running network that is meant: the named one, or the only one.

    Raises ManystackError if it does not run, UsageError if several do and none is named.
    """
    networks = running()
    if name is not None:
        for network in networks:
            if network.name == name:
                return network
        others = f"; running: {', '.join(network.name for network in networks)}" if networks else ""
        raise ManystackError(f"no network named {name!r} is running{others}")
    if not networks:
        raise ManystackError("no network is running; start one with `emu-run TOPOLOGY`")
    if len(networks) > 1:
        names = ", ".join(network.name for network in networks)
        raise UsageError(f"several networks are running; choose one with --name: {names}")
    return networks[0]


class Client:
    """A connection to one running network, which has said hello: `about` is its answer. A context manager.

    Raises ManystackError if it has ended, or does not answer.
    """

    def __init__(self, network: RunningNetwork) -> None:
        self.network = network
        self._numbers = itertools.count(1)
        lifeline = network.open_lifeline()
        if lifeline is None:
            raise _gone(network)
        self._lifeline = lifeline
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(network.control_endpoint)
        try:
            self.about: dict[str, Any] = self.call("network", patience_ms=PATIENCE_MS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what it had asked for ends."""
        self._context.destroy(linger=0)
        os.close(self._lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self,
        operation: str,
        /,
        *,
        on_item: Callable[[Any], object] | None = None,
        patience_ms: int | None = None,
        **arguments: Any,
    ) -> Any:
        """Ask for an operation and return its result; parts of it go to `on_item` as they come.

        Where `on_item` returns True, the network is asked for more: that is for parts that it does not send
        ahead without end.

        Ctrl-C cancels it: an operation that goes on until then returns what it has, any other raises
        KeyboardInterrupt. Raises RemoteError with the network's own words, ManystackError if it ends.
        """
        number = next(self._numbers)
        self._send({"id": number, "op": operation, "args": arguments})
        interrupted = False
        while True:
            answer: dict[str, Any] = {"item": None}
            try:
                self._wait(patience_ms)
                with one_interrupt_later():  # what has been taken is handed on
                    answer = self._take()
                    if answer["id"] not in (number, None):
                        continue
                    if "item" in answer and on_item is not None and on_item(answer["item"]) is True:
                        self._send({"id": number, "op": "more", "args": {"id": number}})
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._send({"id": number, "op": "cancel", "args": {"id": number}})
            if "item" in answer:
                continue
            if "error" not in answer:
                return answer["result"]
            if interrupted:
                raise KeyboardInterrupt
            raise RemoteError(answer["error"], answer["exit_code"])

    def wait_until_gone(self, *others: int) -> None:
        """Wait until the network has ended and left nothing, or one of these descriptors can be read."""
        select.select([self._lifeline, *others], [], [])

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send(msgpack.packb(message))

    def _wait(self, patience_ms: int | None) -> None:
        """Wait for an answer."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._lifeline, zmq.POLLIN)
        ready = dict(poller.poll(patience_ms))
        if not ready:
            raise ManystackError(
                f"network {self.network.name} does not answer: the program that runs it (process "
                f"{self.network.pid}) is busy with something else"
            )
        if self._socket not in ready and not self._socket.poll(LAST_WORDS_MS):
            raise _gone(self.network)

    def _take(self) -> dict[str, Any]:
        answer = msgpack.unpackb(self._socket.recv(), strict_map_key=False)
        assert isinstance(answer, dict)
        return answer


@contextmanager
def one_interrupt_later() -> Iterator[None]:
    """Let the first Ctrl-C wait for the end of the block."""
    before = signal.getsignal(signal.SIGINT)
    # Ctrl-C may be ignored, as nohup leaves it, or be waited for already; and it meets the main thread alone.
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = False

    def note(*_: object) -> None:
        nonlocal waiting
        if waiting:
            raise KeyboardInterrupt
        waiting = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


@contextmanager
def interrupts_at_once() -> Iterator[None]:
    """Within one_interrupt_later(), let Ctrl-C end what may take for ever."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gone(network: RunningNetwork) -> ManystackError:
    return ManystackError(f"network {network.name} has ended")
