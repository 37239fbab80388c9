"""What the tests of captures share: a network, an independent reader of pcapng, and tshark."""

import asyncio
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from manystack import Engine
from manystack.record.pcapng import Packet

EMU = [sys.executable, "-c", "from manystack.commands.emu import main; main()"]
RUN = [sys.executable, "-c", "from manystack.commands.run import main; main()"]


def document(**more: Any) -> dict[str, Any]:
    """h1 = r = h2: pings, and a flood that the second link's queue does not take."""
    return {
        "manystack": 1,
        "name": "three",
        "time": "virtual",
        "nodes": {
            "h1": {
                "kind": "host",
                "interfaces": {"eth0": {"addresses": ["10.0.0.2/24"]}},
                "routes": [{"to": "default", "via": "10.0.0.1"}],
            },
            "r": {
                "kind": "router",
                "interfaces": {
                    "eth0": {"addresses": ["10.0.0.1/24"]},
                    "eth1": {"addresses": ["10.0.1.1/24"]},
                },
            },
            "h2": {
                "kind": "host",
                "interfaces": {"eth0": {"addresses": ["10.0.1.2/24"]}},
                "routes": [{"to": "default", "via": "10.0.1.1"}],
            },
        },
        "links": [
            {"ends": ["h1.eth0", "r.eth0"], "delay": "5ms"},
            {"ends": ["r.eth1", "h2.eth0"], "bandwidth": "8Mbit/s", "delay": "3ms", "queue": "4packets"},
        ],
        "traffic": [
            {"kind": "ping", "from": "h1", "to": "h2", "count": 3},
            {"kind": "ping", "from": "h1", "to": "10.9.9.9", "count": 1},
            {
                "kind": "udp",
                "from": "h1",
                "to": "h2",
                "rate": "30Mbit/s",
                "start": "1500ms",
                "stop": "1520ms",
            },
        ],
    } | more


def tshark(file: Path, *fields: str, only: str = "") -> list[list[str]]:
    """Fields of each packet as tshark reads them; it must have nothing to say."""
    command = ["tshark", "-r", str(file), "-Y", only, "-T", "fields", "-E", "separator=|"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    warnings = [line for line in done.stderr.splitlines() if not line.startswith("Running as user") and line]
    assert warnings == []
    return [line.split("|") for line in done.stdout.splitlines()]


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file, by an independent reader: type and body."""
    place = 0
    while place < len(data):
        kind, length = struct.unpack_from("<II", data, place)
        assert length % 4 == 0 and length >= 12
        assert struct.unpack_from("<I", data, place + length - 4) == (length,)
        yield kind, data[place + 8 : place + length - 4]
        place += length
    assert place == len(data)


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            assert data == bytes(4)
            break
        found[code] = data[4 : 4 + length]
        padded = 4 + (length + 3) // 4 * 4
        assert data[4 + length : padded] == bytes(padded - 4 - length)
        data = data[padded:]
    return found


def read(data: bytes) -> list[Packet]:
    found = []
    for kind, body in blocks(data):
        if kind != 6:
            continue
        interface, high, low, length, wire_bytes = struct.unpack_from("<IIIII", body)
        said = options(body[20 + (length + 3) // 4 * 4 :])
        (direction,) = struct.unpack("<I", said[2])
        (packet_id,) = struct.unpack("<Q", said[5])
        comment = said.get(1, b"").decode()
        frame = body[20 : 20 + length]
        found.append(Packet(high << 32 | low, interface, packet_id, wire_bytes, direction, comment, frame))
    return found


def outside(emu: Engine, work: Callable[[], Any]) -> Any:
    """Run the engine while a thread, as another process would, does its work; return the result."""

    async def serve() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return await asyncio.wrap_future(pool.submit(work))

    return emu.run_until_complete(serve())
