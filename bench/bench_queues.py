"""How long packets wait in each queue discipline: against the offered load, and after a step of the load.

In virtual time, so the machine does not matter. Senders do not slow down: ten flows of full-sized frames at
random times (Poisson) over a link of 10 Mbit/s with room for 500 packets.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from statistics import fmean
from struct import pack

import pytest

from bench.figures import Figure, Figures
from bench.plot import plot_waiting
from manystack.core import Switch
from manystack.core import _switch as core

SECOND = 1_000_000_000
BANDWIDTH_BPS = 10_000_000
FRAME_BYTES = 1514
SERVICE_NS = FRAME_BYTES * 8 * SECOND // BANDWIDTH_BPS
LIMIT_PACKETS = 500
FLOWS = 10
LOADS = tuple(percent / 100 for percent in range(50, 151, 10))
SETTLED_NS = 5 * SECOND
END_NS = 20 * SECOND
STEP = ((0, 0.5), (2 * SECOND, 1.25), (10 * SECOND, 0.5), (14 * SECOND, 0.0))
"""From each time on, the load."""

DISCIPLINES: dict[str, dict[str, object]] = {
    "droptail": {},
    "red": {"least_bytes": 15_000, "most_bytes": 60_000, "gentle": True},
    "codel": {},
    "pie": {},
    "fq_codel": {},
    "fq_pie": {},
}


@dataclass(frozen=True)
class Waited:
    """One packet: when it came, and how long it waited."""

    sent_ns: int
    waited_ns: int


def frame(number: int, flow: int) -> bytes:
    """A frame of a flow, that says which one it is."""
    addresses = (10 << 24 | 1, int(IPv4Address("10.1.0.0")) + flow)
    header = pack(">BBHHHBBHII", 0x45, 0, FRAME_BYTES - 14, 0, 0, 64, 253, 0, *addresses)
    return (bytes(12) + b"\x08\x00" + header + pack(">I", number)).ljust(FRAME_BYTES, b"\0")


def carry(discipline: str, steps: tuple[tuple[int, float], ...], end_ns: int) -> list[Waited]:
    """Send at the loads of the steps, and return what became of what was not dropped, as it arrived."""
    switch = Switch()
    near, far = switch.add_node(core.PORT), switch.add_node(core.PORT)
    pipe, _ = switch.add_link(
        switch.add_interface(near, b"\x02\0\0\0\0\1"), switch.add_interface(far, b"\x02\0\0\0\0\2"), 7
    )
    switch.set_pipe(
        pipe,
        bandwidth_bps=BANDWIDTH_BPS,
        queue_limit_packets=LIMIT_PACKETS,
        shaping={"discipline": discipline, **DISCIPLINES[discipline]},
    )
    random = Random(7)
    sent: list[int] = []
    for (begin_ns, load), (until_ns, _) in zip(steps, (*steps[1:], (end_ns, 0.0)), strict=True):
        now_ns = float(begin_ns)
        while load and (now_ns := now_ns + random.expovariate(load / SERVICE_NS)) < until_ns:
            switch.run(int(now_ns))
            switch.inject(near, frame(len(sent), random.randrange(FLOWS)))
            sent.append(int(now_ns))
    switch.run(end_ns + 2 * SECOND)
    arrived = [
        (time_ns, sent[int.from_bytes(received[34:38], "big")])
        for time_ns, received in switch.take_frames(far)
    ]
    switch.close()
    return [Waited(sent_ns, time_ns - sent_ns - SERVICE_NS) for time_ns, sent_ns in arrived]


@pytest.fixture(scope="module")
def waiting(results: Path) -> dict[str, dict[float, float]]:
    """The mean wait in ms of each discipline at each load, drawn beside what a step of the load does."""
    means = {
        name: {
            load: fmean(
                packet.waited_ns / 1e6
                for packet in carry(name, ((0, load),), END_NS)
                if packet.sent_ns > SETTLED_NS
            )
            for load in LOADS
        }
        for name in DISCIPLINES
    }
    steps = {
        name: [(packet.sent_ns / 1e9, packet.waited_ns / 1e6) for packet in carry(name, STEP, END_NS)]
        for name in DISCIPLINES
    }
    plot_waiting(means, steps, results / "queues.png")
    return means


@pytest.mark.parametrize("load", [0.5, 1.0, 1.2])
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_waiting(
    waiting: dict[str, dict[float, float]], figures: Figures, discipline: str, load: float
) -> None:
    mean_ms = waiting[discipline][load]
    figures.record(Figure(f"waiting, {discipline}", f"{load:.0%} load", mean_ms, "ms"))
