"""TCP between two real hosts over three virtual routers and two shaped links, as iperf3 measures it.

The figure is the goodput as a part of what the links can carry: 1448 bytes of data in each frame of 1514.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import pytest

from bench.figures import Figure, Figures
from manystack import Engine, Topology

SECONDS, WARMUP_SECONDS = 3, 2
TIMEOUT_SECONDS = 20
"""After which a transfer that has come to a stop is a failure: iperf3 itself would wait for minutes."""

DATA_BYTES, FRAME_BYTES = 1448, 1514
SENDER, RECEIVER = f"bench{os.getpid()}a", f"bench{os.getpid()}b"
"""Names of the namespaces, and of the TAP device in each."""


def topology(rate_mbit: int, delay_ms: int) -> Topology:
    """Two hosts at the ends of `r1 - r2 - r3`, whose links have a queue of twice rate x round trip."""
    round_trip_s = 4 * delay_ms / 1000
    queue_packets = max(100, ceil(2 * rate_mbit * 1e6 * round_trip_s / (8 * FRAME_BYTES)))
    shape = {"bandwidth": f"{rate_mbit}Mbit/s", "delay": f"{delay_ms}ms", "queue": f"{queue_packets}packets"}

    def host(name: str, subnet: int) -> dict[str, Any]:
        return {
            "kind": "tap",
            "device": name,
            "namespace": name,
            "addresses": [f"10.0.{subnet}.1/24"],
            "routes": [{"to": "default", "via": f"10.0.{subnet}.2"}],
        }

    def router(left: str, right: str) -> dict[str, Any]:
        return {
            "kind": "router",
            "interfaces": {"left": {"addresses": [left]}, "right": {"addresses": [right]}},
        }

    return Topology.parse(
        {
            "manystack": 1,
            "name": f"goodput{os.getpid()}",
            "routes": "shortest",
            "nodes": {
                "a": host(SENDER, 0),
                "r1": router("10.0.0.2/24", "10.0.1.1/24"),
                "r2": router("10.0.1.2/24", "10.0.2.1/24"),
                "r3": router("10.0.2.2/24", "10.0.3.2/24"),
                "b": host(RECEIVER, 3),
            },
            "links": [
                {"ends": ["a", "r1.left"]},
                {"ends": ["r1.right", "r2.left"], **shape},
                {"ends": ["r2.right", "r3.left"], **shape},
                {"ends": ["r3.right", "b"]},
            ],
        }
    )


def inside(namespace: str, *command: str) -> list[str]:
    """The command to run inside a namespace; `ip netns exec` becomes it, and keeps the process id."""
    return ["ip", "netns", "exec", namespace, *command]


@contextmanager
def iperf_server() -> Iterator[None]:
    """An iperf3 server in the receiver's namespace that is ready, and is gone afterwards."""
    command = inside(RECEIVER, "iperf3", "--server", "--one-off", "--forceflush")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("listening" in line for line in server.stdout)
            yield
        finally:
            server.kill()


def goodput_bps() -> float:
    """Bits of data per second that the receiver got, after TCP has found its rate."""
    for namespace in (SENDER, RECEIVER):
        # Windows of 5 MB and more: the default limits of older kernels would decide the figure.
        settings = [f"net.ipv4.tcp_{side}mem=4096 131072 33554432" for side in "rw"]
        subprocess.run(inside(namespace, "sysctl", "-qw", *settings), check=True)
    client = ["iperf3", "--client", "10.0.3.1", "--json", "--congestion", "cubic"]
    client += ["--time", str(SECONDS), "--omit", str(WARMUP_SECONDS)]
    with iperf_server():
        run = subprocess.run(
            inside(SENDER, *client), check=True, capture_output=True, timeout=TIMEOUT_SECONDS
        )
    return float(json.loads(run.stdout)["end"]["sum_received"]["bits_per_second"])


@pytest.mark.parametrize("delay_ms", [0, 1, 10])
@pytest.mark.parametrize("rate_mbit", [10, 100, 1000])
def test_goodput(figures: Figures, rate_mbit: int, delay_ms: int) -> None:
    with Engine(topology(rate_mbit, delay_ms), time="real"):
        share = goodput_bps() / (rate_mbit * 1e6 * DATA_BYTES / FRAME_BYTES)
    figures.record(Figure("TCP goodput", f"{rate_mbit} Mbit/s, {delay_ms} ms", share, "of the link"))
