"""Two real hosts in namespaces of their own, and what is measured between them: TCP, small packets, ping."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

TIMEOUT_SECONDS = 20
"""After which a transfer that has come to a stop is a failure: iperf3 itself would wait for minutes."""

PING_INTERVAL_SECONDS = "0.002"
WINDOWS = [f"net.ipv4.tcp_{side}mem=4096 131072 33554432" for side in "rw"]
"""Wide enough for 10 Gbit/s over some milliseconds: older kernels' defaults would decide the figure."""


@dataclass(frozen=True)
class Hosts:
    """A sender and a receiver, by their namespaces, and the sender's next hop on the way to the other."""

    sender: str
    receiver: str
    device: str
    source: str
    destination: str
    gateway: str
    receiving_device: str = ""

    def prepare(self) -> None:
        """Widen the windows, fill the neighbor tables, and see that the path carries packets."""
        for namespace in (self.sender, self.receiver):
            self._inside(namespace, "sysctl", "-qw", *WINDOWS)
        self._inside(self.sender, "ping", "-c1", "-w5", "-q", self.destination)

    def tcp_bps(self, seconds: int, warmup_seconds: int) -> float:
        """Bits of data per second that the receiver got in `seconds`, after TCP has found its rate."""
        client = ["iperf3", "--client", self.destination, "--json", "--congestion", "cubic"]
        client += ["--time", str(seconds), "--omit", str(warmup_seconds)]
        with self._server():
            report = json.loads(self._inside(self.sender, *client))
        return float(report["end"]["sum_received"]["bits_per_second"])

    def ping_us(self, count: int) -> float:
        """The median round trip of `count` pings, one at a time, in microseconds."""
        replies = self._inside(
            self.sender, "ping", "-n", "-i", PING_INTERVAL_SECONDS, "-c", str(count), self.destination
        )
        times = [float(text) for text in re.findall(r"time=([0-9.]+)", replies)]
        assert len(times) >= 0.99 * count, f"{count - len(times)} of {count} pings were lost"
        return median(times) * 1000

    def small_packets_per_second(self, generator: Path, seconds: float, cpu: int) -> float:
        """Frames of 60 bytes that arrive in a second when `cpu` offers as many as it can."""
        before = self._received_packets()
        arguments = [self.sender, self.device, self._gateway_mac(), self.source, self.destination, str(cpu)]
        run = subprocess.run(
            [generator, *arguments, str(round(seconds * 1000))], check=True, capture_output=True, text=True
        )
        duration_ns = int(run.stdout.split()[1])
        # What the queues still hold now is not counted: it would arrive after the time that it is divided by.
        arrived = self._received_packets() - before
        return arrived * 1e9 / duration_ns

    @contextmanager
    def _server(self) -> Iterator[None]:
        """An iperf3 server at the receiver that is ready, and is gone afterwards."""
        command = ["ip", "netns", "exec", self.receiver, "iperf3", "--server", "--one-off", "--forceflush"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert any("listening" in line for line in server.stdout)
                yield
            finally:
                server.kill()

    def _inside(self, namespace: str, *command: str) -> str:
        return subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        ).stdout

    def _received_packets(self) -> int:
        link = self._ip(self.receiver, "-statistics", "link", "show", self.receiving_device or self.device)
        return int(link["stats64"]["rx"]["packets"])

    def _gateway_mac(self) -> str:
        return str(self._ip(self.sender, "neigh", "show", self.gateway)["lladdr"])

    def _ip(self, namespace: str, *command: str) -> dict[str, Any]:
        run = subprocess.run(
            ["ip", "-n", namespace, "-json", *command], check=True, capture_output=True, text=True
        )
        answer: dict[str, Any] = json.loads(run.stdout)[0]
        return answer
