"""Two real hosts (network namespaces) over three emulated routers: delays, the way, rates, every packet."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest

from manystack import Engine, Topology

pytestmark = pytest.mark.root

LEFT, RIGHT = f"left{os.getpid()}", f"right{os.getpid()}"

# Sends datagrams at twice the link's rate, each with its number, and says how many the kernel took.
SENDER = """
import socket, sys, time
count, interval_ns = int(sys.argv[1]), int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.0.4.2", 5001))
start = time.monotonic_ns()
for number in range(count):
    while time.monotonic_ns() < start + number * interval_ns:
        pass
    s.send(number.to_bytes(8, "big") + bytes(1464))
print(count)
"""

# Receives them and tells the kernel's own time stamps; ends when told to and nothing is left.
RECEIVER = """
import json, select, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
s.setsockopt(socket.SOL_SOCKET, 35, 1)         # SO_TIMESTAMPNS
s.bind(("10.0.4.2", 5001))
print("ready", flush=True)
stamps, ending = [], False
while True:
    readable, _, _ = select.select([s] if ending else [s, sys.stdin], [], [], 0 if ending else None)
    if s in readable:
        _, ancillary, _, _ = s.recvmsg(2048, 64)
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        stamps.append(seconds * 10**9 + nanoseconds)
    elif ending:
        break
    else:
        ending = True
json.dump(stamps, sys.stdout)
"""


def network(bandwidth: str, delay: str, queue: str) -> Topology:
    """left - r1 = r2 = r3 - right, where = are the two shaped links."""
    shape = {"bandwidth": bandwidth, "delay": delay, "queue": queue}
    host = {"kind": "tap", "device": "emu0"}
    routers = {
        f"r{i}": {
            "kind": "router",
            "interfaces": {
                "eth0": {"addresses": [f"10.0.{i}.{'1' if i == 1 else '2'}/24"]},
                "eth1": {"addresses": [f"10.0.{i + 1}.1/24"]},
            },
        }
        for i in (1, 2, 3)
    }
    return Topology.parse(
        {
            "manystack": 1,
            "name": f"real-hosts-{os.getpid()}",
            "time": "real",
            "routes": "shortest",
            "nodes": {
                "left": {
                    **host,
                    "namespace": LEFT,
                    "addresses": ["10.0.1.2/24"],
                    "routes": [{"to": "default", "via": "10.0.1.1"}],
                },
                "right": {
                    **host,
                    "namespace": RIGHT,
                    "addresses": ["10.0.4.2/24"],
                    "routes": [{"to": "default", "via": "10.0.4.1"}],
                },
                **routers,
            },
            "links": [
                {"ends": ["left", "r1.eth0"]},
                {"ends": ["r1.eth1", "r2.eth0"], **shape},
                {"ends": ["r2.eth1", "r3.eth0"], **shape},
                {"ends": ["r3.eth1", "right"]},
            ],
        }
    )


def run(namespace: str, *command: str) -> str:
    """The output of a program in a namespace; it must succeed."""
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *command], check=True, capture_output=True, text=True, timeout=60
    ).stdout


@contextmanager
def started(namespace: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a namespace, at the latest killed at the end."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ping_takes_the_configured_delays_and_traceroute_names_the_routers() -> None:
    """Each link's delay once per direction; how near to the sum it comes is measured by the benches."""
    with Engine(network("100Mbit/s", "5ms", "500packets")):
        run(LEFT, "ping", "-n", "-c", "1", "10.0.4.2")  # the first one waits for ARP on each link
        replies = run(LEFT, "ping", "-n", "-c", "100", "-i", "0.02", "10.0.4.2")
        round_trips_ms = [float(time) for time in re.findall(r"time=([0-9.]+)", replies)]
        assert len(round_trips_ms) == 100
        assert min(round_trips_ms) >= 20.0
        assert median(round_trips_ms) < 25.0  # what one delay more would make
        hops = run(LEFT, "traceroute", "-n", "-q", "1", "10.0.4.2").splitlines()[1:]
        assert [hop.split()[1] for hop in hops] == ["10.0.1.1", "10.0.2.2", "10.0.3.2", "10.0.4.2"]


@pytest.mark.parametrize("megabits", [10, 100])
def test_udp_at_twice_the_rate_comes_out_at_the_rate_and_every_packet_is_accounted_for(megabits: int) -> None:
    frame_bits = (1472 + 8 + 20 + 14) * 8
    count = 2 * megabits * 10**6 * 2 // frame_bits  # two seconds of sending
    interval_ns = frame_bits * 10**9 // (2 * megabits * 10**6)
    queue = megabits * 10**6 * 3 // 10 // frame_bits  # 300 ms: what a busy machine may let its programs wait
    with Engine(network(f"{megabits}Mbit/s", "1ms", f"{queue}packets")) as emu:
        run(LEFT, "ping", "-n", "-c", "1", "10.0.4.2")
        with started(RIGHT, sys.executable, "-c", RECEIVER) as receiver:
            assert receiver.stdout is not None and receiver.stdout.readline() == "ready\n"
            sent = int(run(LEFT, sys.executable, "-c", SENDER, str(count), str(interval_ns)))
            # Behind the last datagram of every queue; the first of them may still find a full one.
            run(LEFT, "ping", "-n", "-c", "8", "-i", "0.2", "10.0.4.2")
            stamps_ns = json.loads(receiver.communicate("", timeout=60)[0])
        dropped = emu.link("r1.eth1", "r2.eth0").statistics()[0]["queue_drop_packets"]
        own_loss = sum(tap.drops() for tap in emu.network.taps.values())
    assert sent == len(stamps_ns) + dropped + own_loss
    assert dropped > 0
    # Once the queue has filled, the link is never idle. The median leaves out when the machine stood still.
    busy_ns = stamps_ns[len(stamps_ns) // 4 :]
    ns_per_frame = (
        median(later - earlier for earlier, later in zip(busy_ns, busy_ns[100:], strict=False)) / 100
    )
    rate_bps = frame_bits * 10**9 / ns_per_frame
    assert abs(rate_bps / (megabits * 10**6) - 1) < 0.005


def test_a_ping_of_a_real_host_reaches_the_routers_own_addresses() -> None:
    with Engine(network("100Mbit/s", "1ms", "100packets")):
        for address in ("10.0.1.1", "10.0.2.2", "10.0.3.2", "10.0.4.1"):
            assert " 0% packet loss" in run(
                LEFT, "ping", "-n", "-c", "2", "-i", "0.05", "-s", "1400", address
            )
