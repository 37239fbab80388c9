"""The peer in virtual time: ns-3, as Debian has it (libns3-dev), with a chain of its own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("ns3_chain.cc")
MODULES = ("applications", "core", "internet", "network", "point-to-point")


@dataclass(frozen=True)
class Load:
    """A chain of links, each with a rate and a delay, and what crosses it."""

    links: int
    bandwidth_bps: int
    delay_ns: int
    payload_bytes: int
    interval_ns: int


def compile_chain(folder: Path) -> Path:
    """Compile the program into `folder` and return its path."""
    program = folder / "ns3_chain"
    libraries = [f"-lns3-{module}" for module in MODULES]
    command = ["g++", "-std=c++17", "-O3", "-DNDEBUG", "-o", program, SOURCE, *libraries]
    subprocess.run(command, check=True)
    return program


def packet_hops_per_second(program: Path, load: Load, packets: int) -> float:
    """Packets times links that it simulates in a second of wall time; each packet has to arrive."""
    arguments = [load.links, packets, load.interval_ns, load.bandwidth_bps, load.delay_ns, load.payload_bytes]
    command = [program, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    received, seconds = output.split()
    assert int(received) == packets
    return packets * load.links / float(seconds)
