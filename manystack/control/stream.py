"""What a capture tells a client of the control socket, in parts, as fast as the client takes them."""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any

from manystack.network import Network

KEPT_BYTES = 1 << 26
"""Kept for a client that is slow; what is beyond is lost."""
HOLD_BYTES = 1 << 22
"""With more than this kept, virtual time waits for the client …"""
PATIENCE_S = 5.0
"""… for so long in real time, without a sign from it."""
ALIVE_S = 1.0
"""How often a silent client is looked for, in emulated time of a real run."""


class ClientStream:
    """A sink that keeps bytes until the client has asked for them. In real time a thread writes to it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._parts: deque[bytes] = deque()
        self._kept = 0
        self._lock = threading.Lock()
        self._some = asyncio.Event()
        self._held = False
        self._stalled = False
        self._timer: threading.Timer | None = None

    @property
    def is_full(self) -> bool:
        """Whether packets are to be lost until the client has read."""
        return self._stalled or self._kept > KEPT_BYTES

    def write(self, data: bytes) -> None:
        """Keep some bytes."""
        with self._lock:
            self._parts.append(data)
            self._kept += len(data)
        if self._network.loop.is_closed():
            return
        self._network.loop.call_soon_threadsafe(self._some.set)
        if self._network.is_virtual and self._kept > HOLD_BYTES and not self._held and not self._stalled:
            self._hold()

    def close(self) -> None:
        """Nothing to do: what is kept is still to be taken."""

    async def serve(self, call: Any) -> None:
        """Send what there is to who called, without end."""
        patience_s = None if self._network.is_virtual else ALIVE_S
        while True:
            # What is not sent yet stays where rest() finds it: the client may be cancelled in any wait.
            while not await _within(patience_s, call.credit.acquire()):
                await call.send(b"")  # a client that has gone is not written to
            self._heard()
            while (part := self._next()) is None:
                self._some.clear()
                if not await _within(patience_s, self._some.wait()):
                    await call.send(b"")
            await call.send(part)

    def rest(self) -> Iterator[bytes]:
        """Give what is kept, when nothing is added any more."""
        while (part := self._next()) is not None:
            yield part

    def release(self) -> None:
        """Let virtual time go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._held = False
            self._network.loop.hold(False)

    def _next(self) -> bytes | None:
        with self._lock:
            if not self._parts:
                return None
            part = self._parts.popleft()
            self._kept -= len(part)
            return part

    def _heard(self) -> None:
        """The client reads."""
        self._stalled = False
        if self._held:
            self.release()
            if self._kept > HOLD_BYTES:
                self._hold()

    def _hold(self) -> None:
        self._held = True
        self._network.loop.hold(True)
        loop = self._network.loop
        self._timer = threading.Timer(PATIENCE_S, lambda: loop.call_soon_threadsafe(self._give_up))
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        if self._held:
            self._stalled = True
            self.release()


async def _within(patience_s: float | None, wait: Coroutine[Any, Any, Any]) -> bool:
    # Not wait_for(): in Python 3.11 that forgets a cancellation that comes together with what it waits for.
    try:
        async with asyncio.timeout(patience_s):
            await wait
    except TimeoutError:
        return False
    return True
