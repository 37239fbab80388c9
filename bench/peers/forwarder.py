"""The peer for two real hosts: a C program that carries frames between their TAP devices, and no more.

With a rate, a delay and a queue it is a plain shaper. Needs root, iproute2 and gcc.
"""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.hosts import Hosts

SOURCE = Path(__file__).with_name("forwarder.c")
DEVICE = "emu0"
QUEUE_PACKETS = 4096
"""Frames that the kernel holds for the forwarder: as many as it holds for the engine."""


def compile_forwarder(folder: Path) -> Path:
    """Compile the forwarder into `folder` and return its path."""
    program = folder / "forwarder"
    subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
    return program


class Forwarder:
    """Two hosts in namespaces of their own, joined by the forwarder; all of it is removed on exit."""

    def __init__(self, program: Path, *, rate_bps: int = 0, delay_ns: int = 0, queue_bytes: int = 0) -> None:
        names = [f"bench{os.getpid()}-{'shaper' if rate_bps else 'raw'}-{end}" for end in "ab"]
        self.hosts = Hosts(names[0], names[1], DEVICE, "10.0.0.1", "10.0.0.2", gateway="10.0.0.2")
        self._names = names
        self._command = [str(program), *(text for name in names for text in (name, DEVICE))]
        if rate_bps:
            self._command += [str(rate_bps), str(delay_ns), str(queue_bytes)]
        self._process: subprocess.Popen[str] | None = None

    @property
    def process_id(self) -> int:
        """Of the program that carries the frames."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _build(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        self._process = subprocess.Popen(
            self._command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        for name, address in zip(self._names, (self.hosts.source, self.hosts.destination), strict=True):
            commands = [
                f"link set {DEVICE} addrgenmode none txqueuelen {QUEUE_PACKETS} up",
                f"addr add {address}/24 dev {DEVICE}",
                "link set lo up",
            ]
            subprocess.run(
                ["ip", "-n", name, "-batch", "-"], input="\n".join(commands), text=True, check=True
            )

    def _remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
