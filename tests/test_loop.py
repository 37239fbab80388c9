"""asyncio on the engine's clock: exact and repeatable in virtual time, and never deaf to the real world."""

import asyncio
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from manystack import Engine, Topology
from manystack.loop import EngineSelector

SECOND_NS = 1_000_000_000


def pair(delay: str = "10ms") -> Topology:
    return Topology.parse(
        {
            "manystack": 1,
            "name": "pair",
            "nodes": {
                "a": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.1/24"]}}},
                "b": {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}}},
            },
            "links": [{"ends": ["a.eth0", "b.eth0"], "delay": delay}],
        }
    )


@pytest.fixture
def emu() -> Iterator[Engine]:
    with Engine(pair(), time="virtual") as engine:
        yield engine


def test_a_sleep_takes_exactly_its_time(emu: Engine) -> None:
    emu.run_until_complete(asyncio.sleep(3600))
    assert emu.now_ns == 3600 * SECOND_NS


def test_thirty_second_timers_fire_on_the_nanosecond_for_a_day(emu: Engine) -> None:
    async def hellos() -> list[int]:
        moments = []
        for _ in range(24 * 120):
            await asyncio.sleep(30)
            moments.append(emu.now_ns)
        return moments

    assert emu.run_until_complete(hellos()) == [30 * SECOND_NS * i for i in range(1, 24 * 120 + 1)]


def test_odd_moments_stay_exact(emu: Engine) -> None:
    async def until(moment_ns: int) -> int:
        await asyncio.sleep((moment_ns - emu.now_ns) / SECOND_NS)
        return emu.now_ns

    moments = [1, 2, 999, 1_000_000_007, 3_600_000_000_001, 86_400_000_000_003]
    assert [emu.run_until_complete(until(moment)) for moment in moments] == moments


def test_wait_for_gives_up_when_its_time_is_over(emu: Engine) -> None:
    async def program() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 7.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.sleep(60)

    emu.run_until_complete(program())
    assert emu.now_ns == 8 * SECOND_NS


def test_tasks_run_in_the_order_of_their_moments_twice() -> None:
    async def worker(name: int, log: list[tuple[int, float]]) -> None:
        for step in range(50):
            await asyncio.sleep((name * 7 + step * 13) % 11 / 1000)
            log.append((name, asyncio.get_running_loop().time()))

    def one_run() -> list[tuple[int, float]]:
        log: list[tuple[int, float]] = []

        async def program() -> None:
            await asyncio.gather(*(worker(name, log) for name in range(20)))

        with Engine(pair(), time="virtual") as engine:
            engine.run_until_complete(program())
        return log

    first = one_run()
    assert [moment for _, moment in first] == sorted(moment for _, moment in first)
    assert one_run() == first


def test_packets_and_timers_share_one_clock(emu: Engine) -> None:
    """A timer one nanosecond before the reply finds the ping unanswered."""

    async def program() -> None:
        await emu.node("a").async_ping("b")  # ARP is resolved now
        began = emu.now_ns
        ping = asyncio.create_task(emu.node("a").async_ping("b"))
        await asyncio.sleep(0.02 - 1e-9)
        assert emu.now_ns == began + 19_999_999
        assert not ping.done()
        result = await ping
        assert result.rtt_ns == 20_000_000
        assert emu.now_ns == began + 20_000_000

    emu.run_until_complete(program())


def test_time_stands_still_while_an_executor_works(emu: Engine) -> None:
    log = []

    async def timer() -> None:
        await asyncio.sleep(1e-9)
        log.append("timer")

    async def program() -> None:
        waiting = asyncio.create_task(timer())
        await asyncio.sleep(0)
        total = await asyncio.to_thread(sum, range(1_000_000))
        assert total == 499_999_500_000
        assert emu.now_ns == 0
        log.append("executor")
        await waiting

    emu.run_until_complete(program())
    assert log == ["executor", "timer"]


def test_a_descriptor_is_served_while_the_network_is_idle(emu: Engine) -> None:
    emu.run()  # until the announcements of the start have arrived
    idle_ns = emu.now_ns
    assert emu.run_until_complete(read_from_thread()) == b"x"
    assert emu.now_ns == idle_ns


def test_a_descriptor_is_served_while_timers_never_end(emu: Engine) -> None:
    async def forever() -> None:
        while True:
            await asyncio.sleep(0.001)

    async def program() -> bytes:
        ticking = asyncio.create_task(forever())
        answer = await read_from_thread()
        ticking.cancel()
        return answer

    assert emu.run_until_complete(program()) == b"x"


async def read_from_thread() -> bytes:
    """Return what a thread writes into a pipe."""
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    arrived = loop.create_future()
    loop.add_reader(reader, arrived.set_result, None)
    threading.Thread(target=os.write, args=(writer, b"x")).start()
    await arrived
    loop.remove_reader(reader)
    answer = os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return answer


def test_a_thread_can_call_in(emu: Engine) -> None:
    async def program() -> int:
        loop = asyncio.get_running_loop()
        called = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(called.set_result, 7)).start()
        answer: int = await called
        return answer

    assert emu.run_until_complete(program()) == 7


def test_a_plain_call_works_inside_another_loop(emu: Engine) -> None:
    async def notebook() -> int | None:
        emu.node("a").ping("b")
        return emu.node("a").ping("b").rtt_ns

    assert asyncio.run(notebook()) == 20_000_000


def test_ctrl_c_ends_a_plain_call_inside_another_loop() -> None:
    with Engine(pair(), time="real") as emu:
        emu.loop.call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        loop = asyncio.new_event_loop()  # asyncio.run would turn Ctrl-C into its task's end
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(blocking(emu))
        loop.close()
        assert emu.run("1ms") == "duration"


async def blocking(emu: Engine) -> None:
    emu.run("1h")


def test_a_plain_call_inside_the_engines_loop_says_what_to_write(emu: Engine) -> None:
    async def program() -> None:
        with pytest.raises(RuntimeError, match="await the async_ form"):
            emu.run("1s")

    emu.run_until_complete(program())


def test_real_time_takes_its_time() -> None:
    with Engine(pair(), time="real") as emu:
        began = time.monotonic()
        emu.run_until_complete(asyncio.sleep(0.05))
        assert time.monotonic() - began >= 0.05
        assert emu.now_ns >= 50_000_000


def test_dilated_time_takes_more() -> None:
    with Engine(pair(), time="x4") as emu:
        began = time.monotonic()
        emu.run_until_complete(asyncio.sleep(0.02))
        assert time.monotonic() - began >= 0.08
        assert emu.now_ns >= 20_000_000


def test_a_run_of_a_thousand_days_neither_hangs_nor_drifts(emu: Engine) -> None:
    async def days() -> None:
        for _ in range(1000):
            await asyncio.sleep(86_400)

    emu.run_until_complete(days())
    assert emu.now_ns == 1000 * 86_400 * SECOND_NS
    assert emu.run("1ns") == "duration"
    assert emu.now_ns == 1000 * 86_400 * SECOND_NS + 1
    assert emu.node("a").ping("b", count=2).replies[1].rtt_ns == 20_000_000

    async def milliseconds() -> None:
        for _ in range(1000):
            await asyncio.sleep(0.001)

    before_ns = emu.now_ns
    emu.run_until_complete(milliseconds())
    step_ns = 15  # of a floating-point number of seconds, after that long
    assert abs(emu.now_ns - before_ns - SECOND_NS) <= 1000 * step_ns


def test_a_timer_in_the_far_future_of_dilated_time_can_be_waited_for() -> None:
    with Engine(pair(), time="x100") as emu:
        selector = EngineSelector(emu)
        ready = os.eventfd(1)
        try:
            selector.register(ready, selectors.EVENT_READ)
            assert [key.fd for key, _ in selector.select(24 * 3600)] == [ready]
        finally:
            selector.close()
            os.close(ready)
