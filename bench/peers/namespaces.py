"""The peer: a chain of Linux network namespaces, each forwarding, joined by veth pairs with static routes.

This is what most emulators stand on. `NamespaceChain(10, …)` makes `source - r1 - … - r10 - sink`; `measure`
lets one core offer minimum-size frames at the source, and counts what reaches the sink. Needs root, iproute2
and gcc.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.hosts import Hosts

GENERATOR_SOURCE = Path(__file__).with_name("generator.c")


@dataclass(frozen=True)
class Throughput:
    """Frames that one run offered and delivered, and the seconds it took."""

    offered_packets: int
    delivered_packets: int
    seconds: float

    @property
    def packets_per_second(self) -> float:
        """Delivered frames per second."""
        return self.delivered_packets / self.seconds


def compile_generator(folder: Path) -> Path:
    """Compile the frame generator into `folder` and return its path."""
    program = folder / "generator"
    subprocess.run(["gcc", "-O2", "-o", program, GENERATOR_SOURCE], check=True)
    return program


class NamespaceChain:
    """A chain of `routers` forwarding namespaces between two end namespaces; removed on exit."""

    def __init__(self, routers: int, generator: Path) -> None:
        self.routers = routers
        self._generator = generator
        self._names = [f"bench{os.getpid()}-{index}" for index in range(routers + 2)]

    def __enter__(self) -> Self:
        try:
            self._build()
            self._ping()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def measure(self, seconds: float, cpu: int) -> Throughput:
        """Offer frames for `seconds` from `cpu`, which does the forwarding too, and count at the sink."""
        gateway = self._link(1, "left")["address"]
        before = self._received_packets()
        arguments = [self._names[0], "right", gateway, _address(0, 1), self.destination, str(cpu)]
        run = subprocess.run(
            [self._generator, *arguments, str(round(seconds * 1000))],
            check=True,
            capture_output=True,
            text=True,
        )
        offered, duration_ns = map(int, run.stdout.split())
        return Throughput(offered, self._settled_packets() - before, duration_ns / 1e9)

    @property
    def hosts(self) -> Hosts:
        """Its two ends, as hosts to measure between."""
        ends = (self._names[0], self._names[-1])
        return Hosts(
            *ends, "right", _address(0, 1), self.destination, _address(0, 2), receiving_device="left"
        )

    @property
    def destination(self) -> str:
        """The sink's address."""
        return _address(self.routers, 2)

    def _build(self) -> None:
        last = self.routers + 1
        commands = [f"netns add {name}" for name in self._names]
        for left, right in zip(self._names, self._names[1:], strict=False):
            commands.append(f"link add name right netns {left} type veth peer name left netns {right}")
        _ip_batch([], commands)
        for index, name in enumerate(self._names):
            commands = []
            if index > 0:
                commands += [f"addr add {_address(index - 1, 2)}/30 dev left", "link set left up"]
            if index < last:
                commands += [f"addr add {_address(index, 1)}/30 dev right", "link set right up"]
            if index < last - 1:
                commands.append(f"route add {_address(self.routers, 0)}/30 via {_address(index, 2)}")
            if index > 1:
                commands.append(f"route add {_address(0, 0)}/30 via {_address(index - 1, 1)}")
            _ip_batch(["-n", name], commands)
            settings = ["net.ipv4.ip_forward=1"]
            settings += [f"net.ipv6.conf.{device}.disable_ipv6=1" for device in ("all", "default")]
            self._inside(index, "sysctl", "-qw", *settings)

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _ping(self) -> None:
        """Fill the neighbor tables, and see that the chain forwards."""
        self._inside(0, "ping", "-c1", "-w5", "-q", "-t255", self.destination)

    def _inside(self, index: int, *command: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self._names[index], *command], check=True, stdout=subprocess.DEVNULL
        )

    def _link(self, index: int, device: str) -> dict[str, Any]:
        command = ["ip", "-n", self._names[index], "-json", "-statistics", "link", "show", device]
        link: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]
        return link

    def _received_packets(self) -> int:
        return int(self._link(self.routers + 1, "left")["stats64"]["rx"]["packets"])

    def _settled_packets(self) -> int:
        """The sink's count once it stands still: the kernel may still be working off its backlog."""
        count = self._received_packets()
        while True:
            time.sleep(0.02)
            again = self._received_packets()
            if again == count:
                return count
            count = again


def _address(link: int, end: int) -> str:
    """End 1 (left) or 2 (right) of a link's own /30; end 0 is the network itself."""
    return f"10.{link // 256}.{link % 256}.{end}"


def _ip_batch(options: list[str], commands: list[str]) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(commands), text=True, check=True)
