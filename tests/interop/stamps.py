"""The emulator between two real hosts, held up on purpose, its verdict beside the kernel's own time stamps.

The emulator is a process of its own, which is stopped (SIGSTOP) and continued by a plan. Each host lets the
kernel stamp every datagram (SO_TIMESTAMPNS): the sender where it is given to the device, by a packet socket
there, the receiver where it comes. So how late each one was is known without the emulator, and on a machine
that is busy or paused itself as well.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manystack.core import _switch as core

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MUST_SHOW, MAY_SHOW = 0.02, 0.005
"""The share of late frames from which a second must be named, and up to which it must not."""

LEFT, MIDDLE, RIGHT = (f"{place}{os.getpid()}" for place in ("sl", "sm", "sr"))
ADDRESSES = {LEFT: "10.9.0.1", RIGHT: "10.9.0.2"}

# Runs a topology until its input ends. Tells when the engine's time began, by the clock of the stamps, and at
# the end the verdict.
EMULATOR = """
import asyncio, json, sys, time
from pathlib import Path
from manystack import Engine, Topology
from manystack.host import runtime
runtime.ROOT_DIRECTORY = Path(sys.argv[1])
with Engine(Topology.parse(json.loads(sys.argv[2]))) as emu:
    looks = [(time.time_ns(), emu.now_ns, time.time_ns()) for _ in range(100)]
    before_ns, now_ns, after_ns = min(looks, key=lambda look: look[2] - look[0])
    print((before_ns + after_ns) // 2 - now_ns, flush=True)
    emu.run_until_complete(asyncio.to_thread(sys.stdin.read))
    print(json.dumps([(stretch.from_ns, stretch.until_ns) for stretch in emu.verdict().intervals]))
"""

# Sends numbered datagrams at even intervals from a given time on, and tells when the device got each of them.
# The kernel begins to stamp a while after it was asked to; until then a stamp tells when a frame was fetched.
SENDER = """
import json, socket, struct, sys, time
address, count, interval_ns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
tap.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
tap.setsockopt(socket.SOL_SOCKET, 35, 1)          # SO_TIMESTAMPNS
tap.bind(("eth0", 3))                             # ETH_P_ALL: what leaves as well
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def fetch(port):  # the number that the next datagram to a port bears, and its stamp
    while True:
        frame, ancillary, _, sender = tap.recvmsg(2048, 64)
        udp_to = int.from_bytes(frame[36:38], "big") if frame[23] == 17 else None
        if sender[2] == socket.PACKET_OUTGOING and udp_to == port:
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            return int.from_bytes(frame[42:50], "big"), seconds * 10**9 + nanoseconds
while True:
    udp.sendto(bytes(8), (address, 9))
    sent_ns = time.time_ns()
    if fetch(9)[1] <= sent_ns:
        break
print("ready", flush=True)
start_ns = int(sys.stdin.readline())
for number in range(count):
    time.sleep(max(0, start_ns + number * interval_ns - time.monotonic_ns()) / 1e9)
    udp.sendto(number.to_bytes(8, "big"), (address, 5001))
json.dump([fetch(5001) for _ in range(count)], sys.stdout)
"""

# Receives them, as many as there are to come, and tells when each came.
RECEIVER = """
import json, socket, struct, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
udp.setsockopt(socket.SOL_SOCKET, 35, 1)         # SO_TIMESTAMPNS
udp.bind((sys.argv[1], 5001))
print("ready", flush=True)
def fetch():
    data, ancillary, _, _ = udp.recvmsg(2048, 64)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
    return int.from_bytes(data, "big"), seconds * 10**9 + nanoseconds
json.dump([fetch() for _ in range(int(sys.argv[2]))], sys.stdout)
"""


@dataclass(frozen=True)
class Plan:
    """What to do in a run. `stalls` are (ns after the first frame, length in ns), in order."""

    device: str
    delay_ns: int
    interval_ns: int
    stalls: tuple[tuple[int, int], ...]
    lasts_ns: int


def make_plan(
    seed: int, *, device: str, delay_ms: int, frames_per_second: int, stall_ms: int, seconds: int
) -> Plan:
    """Plan a run in which each second has no stall of a length (ms; 0: none at all), one, or many, at random.

    Many make some 5% of the frames late, or one alone does if it is long. The last second has many.
    """
    choice = random.Random(seed)
    many = -(-60 // stall_ms) if stall_ms else 0
    stalls = []
    for second, number in enumerate(
        [choice.choice([0, min(1, many), many]) for _ in range(1, seconds)] + [many]
    ):
        part_ns = SECOND // max(1, number)
        for part in range(number):
            within_ns = choice.randrange(part_ns - (stall_ms + 5) * MILLISECOND)
            stalls.append((second * SECOND + part * part_ns + within_ns, stall_ms * MILLISECOND))
    return Plan(device, delay_ms * MILLISECOND, SECOND // frames_per_second, tuple(stalls), seconds * SECOND)


@dataclass(frozen=True)
class Run:
    """What came of it, in engine time (ns): (sent, received) of each frame, and the verdict's intervals."""

    delay_ns: int
    frames: list[tuple[int, int]]
    intervals: list[tuple[int, int]]

    def late(self, frame: tuple[int, int]) -> bool:
        """Whether a frame came later by its stamps than the verdict's rule lets it."""
        sent_ns, received_ns = frame
        return received_ns - sent_ns - self.delay_ns > core.LATE_ABOVE_NS

    def shares(self) -> dict[int, tuple[float, float]]:
        """The share of late frames among those that left in a second, and among those that were read in it.

        The lesser of the two comes first. Seconds with few frames, at the ends of the run, are left out.
        """
        found: dict[int, list[float]] = {}
        few = max(Counter(sent_ns // SECOND for sent_ns, _ in self.frames).values()) // 2
        for offset_ns in (0, self.delay_ns):
            seconds = [(received_ns - offset_ns) // SECOND for _, received_ns in self.frames]
            late = Counter(
                second for second, frame in zip(seconds, self.frames, strict=True) if self.late(frame)
            )
            for second, count in Counter(seconds).items():
                if count > few:
                    found.setdefault(second, []).append(late[second] / count)
        return {second: (min(shares), max(shares)) for second, shares in found.items()}

    def must_show(self) -> set[int]:
        """The seconds that the verdict must name."""
        return {second for second, (least, _) in self.shares().items() if least >= MUST_SHOW}

    def must_not_show(self) -> set[int]:
        """The seconds that it must not name."""
        return {second for second, (_, most) in self.shares().items() if most <= MAY_SHOW}

    def touched(self) -> set[int]:
        """The seconds that an interval of the verdict lies in, be it in part."""
        return {
            second
            for from_ns, until_ns in self.intervals
            for second in range(from_ns // SECOND, -(-until_ns // SECOND))
        }

    def named(self) -> set[int]:
        """Those that it covers. It may begin in the second before, with the first of the late frames."""
        return {
            second
            for from_ns, until_ns in self.intervals
            for second in range(-(-from_ns // SECOND), -(-until_ns // SECOND))
        }


def topology(plan: Plan) -> dict[str, Any]:
    """Two hosts on one link."""
    nodes: dict[str, Any] = {
        name: {"kind": "tap", "device": "eth0", "namespace": host, "addresses": [f"{ADDRESSES[host]}/24"]}
        if plan.device == "tap"
        else {"kind": "nic", "device": name, "namespace": MIDDLE}
        for name, host in (("left", LEFT), ("right", RIGHT))
    }
    link: dict[str, Any] = {"ends": ["left", "right"]}
    if plan.delay_ns:
        link["delay"] = f"{plan.delay_ns}ns"
    return {"manystack": 1, "name": f"stalls-{os.getpid()}", "time": "real", "nodes": nodes, "links": [link]}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=60)


@contextmanager
def veths() -> Iterator[None]:
    """Two hosts with a veth `eth0` each, whose other end, `left` or `right`, is in a third namespace."""
    try:
        for namespace in (LEFT, MIDDLE, RIGHT):
            ip("netns", "add", namespace)
        for host, name in ((LEFT, "left"), (RIGHT, "right")):
            ip("-n", MIDDLE, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", MIDDLE, "link", "set", name, "up")
            ip("-n", host, "addr", "add", f"{ADDRESSES[host]}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
        yield
    finally:
        for namespace in (LEFT, MIDDLE, RIGHT):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def program(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program, at the latest killed at the end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def pause_until(monotonic_ns: int) -> None:
    time.sleep(max(0, monotonic_ns - time.monotonic_ns()) / SECOND)


def hold_up(process: subprocess.Popen[str], plan: Plan, start_ns: int) -> None:
    """Stop the emulator as planned."""
    for after_ns, length_ns in plan.stalls:
        pause_until(start_ns + after_ns)
        process.send_signal(signal.SIGSTOP)
        stopped_ns = time.monotonic_ns()
        pause_until(stopped_ns + length_ns)
        process.send_signal(signal.SIGCONT)


def carry_out(plan: Plan, base: Path, *wrapper: str) -> Run:
    """Let frames pass from the left host to the right one as planned.

    `wrapper` is put before the emulator's command.
    """
    python = sys.executable
    count = plan.lasts_ns // plan.interval_ns
    with ExitStack() as stack:
        if plan.device == "nic":
            stack.enter_context(veths())
        emulator = stack.enter_context(
            program(*wrapper, python, "-c", EMULATOR, str(base), json.dumps(topology(plan)))
        )
        began_ns = int(line(emulator))
        in_left, in_right = (("ip", "netns", "exec", host) for host in (LEFT, RIGHT))
        ends = (ADDRESSES[RIGHT], str(count))
        receiver = stack.enter_context(program(*in_right, python, "-c", RECEIVER, *ends))
        sender = stack.enter_context(program(*in_left, python, "-c", SENDER, *ends, str(plan.interval_ns)))
        assert line(receiver) == "ready"
        subprocess.run(  # so that the hosts know each other's addresses
            [*in_left, "ping", "-n", "-q", "-c", "1", ADDRESSES[RIGHT]], check=True, stdout=subprocess.DEVNULL
        )
        sender = stack.enter_context(program(*in_left, python, "-c", SENDER, *ends, str(plan.interval_ns)))
        assert line(sender) == "ready"
        # With a second of the engine's time, so that each one is as the plan has it.
        now_ns = time.time_ns() + 10 * MILLISECOND
        start_ns = time.monotonic_ns() + 10 * MILLISECOND + SECOND - (now_ns - began_ns) % SECOND
        assert sender.stdin is not None
        print(start_ns, file=sender.stdin, flush=True)
        hold_up(emulator, plan, start_ns)
        sent, received = (
            {number: stamp - began_ns for number, stamp in json.loads(output)}
            for output in (process.communicate(timeout=60)[0] for process in (sender, receiver))
        )
        intervals = json.loads(emulator.communicate(timeout=60)[0])
    assert len(sent) == len(received) == count
    return Run(plan.delay_ns, [(sent[number], received[number]) for number in sent], intervals)
