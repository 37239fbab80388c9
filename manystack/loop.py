"""An asyncio event loop on the engine's clock.

`loop.time()` is the engine's time in seconds, and the loop's selector is the engine. In virtual time, waiting
runs the data path: `select` moves packets until the next moment that Python cares about, a timer or an
event, and looks at real file descriptors between slices without waiting for them. A coroutine that sleeps
for an hour therefore costs what the network does in that hour, and nothing else. In real time `select` waits
as any other does, with emulated seconds stretched by the dilation.

Time stands still while a function runs in an executor: how long it takes is real, and must not
show in virtual time.
"""

import asyncio
import enum
import math
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

SECOND_NS = 1_000_000_000
LONGEST_WAIT_S = 1_000_000
"""In real time: epoll_wait(2) takes no more than 2^31 ms. Who is woken before a timer is due waits again."""


class Progress(enum.Enum):
    """Why the engine stopped moving."""

    REACHED = enum.auto()
    EVENT = enum.auto()
    SLICE = enum.auto()
    IDLE = enum.auto()


class Timeline(Protocol):
    """What the loop needs to know of an engine."""

    @property
    def is_virtual(self) -> bool:
        """Whether time moves only when `advance` is called."""

    @property
    def dilation(self) -> int:
        """Real seconds for one emulated second."""

    @property
    def now_ns(self) -> int:
        """The emulated time."""

    def advance(self, until_ns: int | None) -> Progress:
        """Run the data path until then, or until Python has something to do, for a few real ms at most.

        None means no moment in particular. Virtual time only.
        """

    def idle(self) -> bool:
        """Take note that nothing is left to do in virtual time; whether that woke somebody."""


class EngineSelector(selectors.EpollSelector):
    """Waits for file descriptors by moving emulated time."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self.holds = 0
        """How many executor calls are pending; time stands still until there are none."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return ready descriptors; none when `timeout` (emulated seconds) is over or an event is due."""
        timeline = self._timeline
        if not timeline.is_virtual:
            return super().select(
                None if timeout is None else min(timeout * timeline.dilation, LONGEST_WAIT_S)
            )
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.holds:
            return super().select(None)
        until_ns = None if timeout is None else timeline.now_ns + round(timeout * SECOND_NS)
        while True:
            progress = timeline.advance(until_ns)
            if progress is Progress.IDLE and not timeline.idle():
                return super().select(None)
            ready = super().select(0)
            if ready or progress is not Progress.SLICE:
                return ready


class EngineLoop(asyncio.SelectorEventLoop):
    """The event loop of one engine. Make tasks on it as on any other; `Engine.run_until_complete` runs it."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._engine_selector = EngineSelector(timeline)
        super().__init__(self._engine_selector)
        del self._clock_resolution  # that of the host's clock

    def time(self) -> float:
        """Return the emulated time in seconds."""
        return self._timeline.now_ns / SECOND_NS

    def __getattr__(self, name: str) -> Any:
        """Return what asyncio takes for the resolution of this clock: what is due within it is due now.

        Seconds are floating-point numbers, whose steps grow with time: after 194 days they are longer than a
        nanosecond, and a timer that time cannot be set to exactly would never be due.
        """
        if name == "_clock_resolution":
            return max(1 / SECOND_NS, 2 * math.ulp(self.time()))
        raise AttributeError(name)

    def run_in_executor(  # type: ignore[override]  # typeshed hides that the result is a future of this loop
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Run a function in a thread or process pool; virtual time stands still until it is done."""
        future: asyncio.Future[_T] = super().run_in_executor(executor, func, *args)
        self._engine_selector.holds += 1
        future.add_done_callback(self._release)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Join the executor's threads; virtual time stands still meanwhile."""
        self._engine_selector.holds += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._engine_selector.holds -= 1

    def hold(self, held: bool) -> None:
        """Let virtual time stand still until this is called with False."""
        self._engine_selector.holds += 1 if held else -1

    def _release(self, _: "asyncio.Future[Any]") -> None:
        self._engine_selector.holds -= 1
