"""What a client of `emu capture` gets that is slow, stalls, leaves its reading to later, or is cancelled."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from captured import EMU, document, read

from manystack import Engine, Topology
from manystack.control.stream import PATIENCE_S, ClientStream
from manystack.network import Network

NAME = f"clientstream-{os.getpid()}"


class Caller:
    """Who asked for a capture: takes parts, as many as it has credit for."""

    def __init__(self, credit: int) -> None:
        self.credit = asyncio.Semaphore(credit)
        self.parts: list[bytes] = []

    async def send(self, part: bytes) -> None:
        self.parts.append(part)


class Timers:
    """Stands in for threading.Timer: patience is over as soon as it begins."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def __call__(self, interval_s: float, function: Callable[[], None]) -> Any:
        def start() -> None:
            self.begun.append(interval_s)
            function()

        return SimpleNamespace(start=start, cancel=lambda: None)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    timers = Timers()
    monkeypatch.setattr("manystack.control.stream.threading.Timer", timers)
    return timers


@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("credit", [0, 1])
def test_a_cancelled_client_still_gets_what_was_kept(virtual: bool, credit: int) -> None:
    """Also when more credit or another part comes in the very moment of the cancellation."""

    async def cancel() -> list[bytes]:
        network = cast("Network", SimpleNamespace(is_virtual=virtual, loop=asyncio.get_running_loop()))
        stream, caller = ClientStream(network), Caller(credit)
        task = asyncio.create_task(stream.serve(caller))
        if not credit:
            stream.write(b"one")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # It waits for credit, or for a part.
        if credit:
            stream.write(b"one")
            stream._some.set()
        else:
            caller.credit.release()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return [*caller.parts, *stream.rest()]

    assert asyncio.run(cancel()) == [b"one"]


def test_virtual_time_waits_for_a_client_so_long_and_then_loses_what_it_captures(
    monkeypatch: pytest.MonkeyPatch, timers: Timers
) -> None:
    monkeypatch.setattr("manystack.control.stream.HOLD_BYTES", 8000)
    with Engine(Topology.parse(document())) as plain:
        plain.run()
        run_hash = plain.summary().run_hash
    with Engine(Topology.parse(document())) as emu:
        stream, caller = ClientStream(emu.network), Caller(1)
        capture = emu.captures.add("a client", emu.captures.expand([]), 200, stream)
        task = emu.loop.create_task(stream.serve(caller))
        emu.run("1510ms")  # into the flood
        assert timers.begun == [PATIENCE_S]
        told = capture.packets
        assert told > 0 and capture.lost_packets == 0 and len(caller.parts) == 1
        emu.run("100ms")
        lost = capture.lost_packets
        assert lost > 0 and (capture.packets, timers.begun) == (told, [PATIENCE_S])
        for _ in range(100):  # it reads again
            caller.credit.release()
        emu.run()
        assert capture.packets > told and capture.lost_packets == lost
        task.cancel()
        capture.close()
        emu.run("1ms")
        assert emu.summary().run_hash == run_hash
    data = b"".join([*caller.parts, *stream.rest()])
    assert len(read(data)) == capture.packets
    assert read(data)[-1].time_ns > 2 * 10**9


def test_a_stalled_emu_capture_says_at_its_end_what_it_lost(
    monkeypatch: pytest.MonkeyPatch, timers: Timers
) -> None:
    """Ctrl-C comes while it waits for whoever reads its output, and cuts no block."""
    monkeypatch.setattr("manystack.control.stream.HOLD_BYTES", 8000)
    monkeypatch.setattr("manystack.control.server.PARTS_AHEAD", 1)
    traffic = [{"kind": "udp", "from": "h1", "to": "h2", "rate": "50Mbit/s", "stop": "1s"}]
    command = [*EMU, "capture", "--name", NAME, "h1", "r"]
    with Engine(Topology.parse(document(traffic=traffic)), name=NAME) as emu:
        begun = emu.loop.create_future()
        monkeypatch.setattr(emu.captures, "_choose", tell_once(emu.captures._choose, begun))
        emu.loop.hold(True)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            emu.run_until_complete(done(begun))
            emu.loop.hold(False)
            for _ in range(10):  # the pipe takes the first 64 KiB
                emu.run("100ms")
            assert PATIENCE_S in timers.begun
            capture = emu.captures.all[0]
            assert capture.lost_packets > 0
            client.send_signal(signal.SIGINT)
            data, told = emu.run_until_complete(outside(emu, lambda: client.communicate(timeout=60)))
    words = told.decode().replace(",", "")
    assert client.returncode == 0
    found = re.fullmatch(r"captured (\d+) packets and lost (\d+) which came too fast\n", words)
    assert found is not None, words
    assert int(found[1]) == len(read(data)) == capture.packets
    assert int(found[2]) == capture.lost_packets


async def outside(emu: Engine, work: Callable[[], Any]) -> Any:
    return await emu.loop.run_in_executor(None, work)


async def done(future: "asyncio.Future[None]") -> None:
    await future


def tell_once(function: Callable[[], None], future: "asyncio.Future[None]") -> Callable[[], None]:
    def tell() -> None:
        function()
        if not future.done():
            future.set_result(None)

    return tell
