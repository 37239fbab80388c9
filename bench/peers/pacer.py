"""A sender and a sink that tell, of each datagram, when it left and when it arrived. Needs root and gcc."""

import array
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.hosts import TIMEOUT_SECONDS, Hosts

SOURCE = Path(__file__).with_name("pacer.c")
HEADER_BYTES = 42
"""Of Ethernet, IPv4 and UDP."""


@dataclass(frozen=True)
class Journey:
    """When each datagram that was sent left, and when it arrived (ns); 0 if it did not."""

    sent_ns: "array.array[int]"
    arrived_ns: "array.array[int]"

    @property
    def lost(self) -> int:
        """Datagrams that did not arrive."""
        return self.arrived_ns.count(0)

    @property
    def packets_per_second(self) -> float:
        """The pace that the sender came to."""
        return (len(self.sent_ns) - 1) * 1e9 / (self.sent_ns[-1] - self.sent_ns[0])

    def beyond_ns(self, delay_ns: int) -> list[int]:
        """By how much each datagram that arrived took longer than it should."""
        pairs = zip(self.sent_ns, self.arrived_ns, strict=True)
        return [arrived_ns - sent_ns - delay_ns for sent_ns, arrived_ns in pairs if arrived_ns]


def compile_pacer(folder: Path) -> Path:
    """Compile the pacer into `folder` and return its path."""
    program = folder / "pacer"
    subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
    return program


def pace(program: Path, hosts: Hosts, cpu: int, frame_bytes: int, interval_ns: int, count: int) -> Journey:
    """Send `count` frames at an even pace from `cpu`, which takes them at the other end as well."""
    numbers = (cpu, frame_bytes - HEADER_BYTES, interval_ns, count)
    run = subprocess.run(
        [program, hosts.sender, hosts.receiver, hosts.destination, *map(str, numbers)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS + count * interval_ns / 1e9,
    )
    stamps = array.array("q", run.stdout)
    return Journey(stamps[::2], stamps[1::2])
