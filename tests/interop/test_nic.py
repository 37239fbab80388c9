"""Devices that are there already: real hosts behind veths, the other ends bridged to emulated networks."""

import asyncio
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from manystack import Engine, Topology
from manystack.core import _switch as core
from manystack.errors import ManystackError, UsageError
from manystack.host import runtime
from manystack.host.nic import open_nic
from manystack.network import Event
from manystack.topology import TopologyError

pytestmark = pytest.mark.root

LEFT, MIDDLE, RIGHT = (f"{place}{os.getpid()}" for place in ("nl", "nm", "nr"))
OFFLOADS = ("rx", "tx", "tso", "gso", "gro")
TAG = bytes.fromhex("8100 2007")
SERVICE_TAG = bytes.fromhex("88a8 e123")
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23

RECEIVER = """
import hashlib, socket, sys
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.create_server((address, 5001), family=family) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    digest = hashlib.sha256()
    while part := connection.recv(1 << 20):
        digest.update(part)
    print(digest.hexdigest(), flush=True)
"""

SENDER = """
import random, socket, sys
with socket.create_connection((sys.argv[1], 5001), timeout=60) as connection:
    connection.sendall(random.Random(int(sys.argv[2])).randbytes(int(sys.argv[3])))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
"""

# Datagrams of many sizes, fragments among them, and some that the kernel is to cut (UDP_SEGMENT).
UDP_RECEIVER = """
import hashlib, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    udp.bind((sys.argv[1], 5002))
    udp.settimeout(30)
    print("ready", flush=True)
    digest, count = hashlib.sha256(), 0
    while datagram := udp.recv(65536):
        digest.update(datagram)
        count += 1
    print(count, digest.hexdigest(), flush=True)
"""

UDP_SENDER = """
import random, socket, sys
data = random.Random(7)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.connect((sys.argv[1], 5002))
    for size in range(1, 5000, 97):
        udp.send(data.randbytes(size))
    udp.setsockopt(17, 103, 1000)  # UDP_SEGMENT
    for _ in range(20):
        udp.send(data.randbytes(20500))
    udp.setsockopt(17, 103, 0)
    udp.send(b"")
"""

# Opens a device as a process of its own, says how that went, and stays until its input ends.
OPENER = """
import sys
from manystack.errors import UsageError
from manystack.host.nic import open_nic
try:
    nic = open_nic(sys.argv[1], sys.argv[2] or None)
    print("open", flush=True)
    sys.stdin.read()
except UsageError as error:
    print(error, flush=True)
"""


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def inside(namespace: str, *command: str) -> str:
    return run("ip", "netns", "exec", namespace, *command)


def ip(namespace: str, text: str) -> Any:
    output = run("ip", "-n", namespace, "-json", "-details", *text.split())
    return json.loads(output) if output.strip() else None


def device(name: str) -> dict[str, Any]:
    return dict(ip(MIDDLE, f"link show {name}")[0])


def offloads(on: bool, namespace: str, name: str) -> None:
    inside(
        namespace, "ethtool", "-K", name, *(word for key in OFFLOADS for word in (key, "on" if on else "off"))
    )


@contextmanager
def started(namespace: str, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a namespace that has said it is ready, at the latest killed at the end."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def transfer(sender: str, receiver: str, address: str, size: int = 4 << 20) -> None:
    """Send bytes by TCP; they must arrive as they were."""
    with started(receiver, RECEIVER, address) as process:
        inside(sender, sys.executable, "-c", SENDER, address, "11", str(size))
        output, _ = process.communicate(timeout=60)
    assert output.strip() == sha256(random.Random(11).randbytes(size)).hexdigest()


def transfer_datagrams(sender: str, receiver: str, address: str) -> None:
    data = random.Random(7)
    datagrams = [data.randbytes(size) for size in range(1, 5000, 97)]
    datagrams += [data.randbytes(20500) for _ in range(20)]
    with started(receiver, UDP_RECEIVER, address) as process:
        inside(sender, sys.executable, "-c", UDP_SENDER, address)
        count, digest = process.communicate(timeout=60)[0].split()
    assert int(count) == len(range(1, 5000, 97)) + 20 * 21
    assert digest == sha256(b"".join(datagrams)).hexdigest()


def checksum_errors(namespace: str) -> int:
    counters = json.loads(inside(namespace, "nstat", "-a", "-j"))["kernel"]
    return sum(counters.get(name, 0) for name in ("TcpInCsumErrors", "UdpInCsumErrors", "Ip6InCsumErrors"))


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "ROOT_DIRECTORY", tmp_path / "manystack")


@pytest.fixture
def hosts() -> Iterator[None]:
    """Two real hosts, each with a veth `eth0`; the other end, `left` or `right`, is in a third namespace."""
    try:
        for namespace in (LEFT, MIDDLE, RIGHT):
            run("ip", "netns", "add", namespace)
            inside(namespace, "sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
        inside(MIDDLE, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for number, (host, name) in enumerate([(LEFT, "left"), (RIGHT, "right")], 1):
            ip(MIDDLE, f"link add {name} type veth peer name eth0 netns {host}")
            ip(MIDDLE, f"link set {name} up")
            ip(host, "link set lo up")
            ip(host, f"addr add 10.1.0.{number}/24 dev eth0")
            ip(host, f"addr add fd00::{number}/64 dev eth0 nodad")
            ip(host, "link set eth0 up")
        yield
    finally:
        for namespace in (LEFT, MIDDLE, RIGHT):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, stderr=subprocess.DEVNULL)


def nic_node(name: str) -> dict[str, str]:
    return {"kind": "nic", "device": name, "namespace": MIDDLE}


def network(nodes: dict[str, Any], *links: dict[str, Any]) -> Topology:
    return Topology.parse(
        {"manystack": 1, "name": f"nics-{os.getpid()}", "nodes": nodes, "links": list(links)}
    )


def switched(**shape: str) -> Topology:
    """Two nics on a switch, so that both hosts are on one subnet."""
    nodes = {"left": nic_node("left"), "sw": {"kind": "switch"}, "right": nic_node("right")}
    return network(nodes, {"ends": ["left", "sw"]}, {"ends": ["sw", "right"], **shape})


def routed(**shape: str) -> Topology:
    """left - r1 = r2 - right, where = is shaped; the hosts are 10.1.0.1 and 10.3.0.1."""
    ip(RIGHT, "addr flush dev eth0")
    ip(RIGHT, "addr add 10.3.0.1/24 dev eth0")
    ip(LEFT, "route add default via 10.1.0.254")
    ip(RIGHT, "route add default via 10.3.0.254")
    nodes: dict[str, Any] = {"left": nic_node("left"), "right": nic_node("right")}
    for name, outside, inner, way in (
        ("r1", "10.1.0.254/24", "10.2.0.1/24", {"to": "10.3.0.0/24", "via": "10.2.0.2"}),
        ("r2", "10.3.0.254/24", "10.2.0.2/24", {"to": "10.1.0.0/24", "via": "10.2.0.1"}),
    ):
        interfaces = {"eth0": {"addresses": [outside]}, "eth1": {"addresses": [inner]}}
        nodes[name] = {"kind": "router", "interfaces": interfaces, "routes": [way]}
    return network(
        nodes,
        {"ends": ["left", "r1.eth0"]},
        {"ends": ["r1.eth1", "r2.eth1"], **shape},
        {"ends": ["r2.eth0", "right"]},
    )


def own_losses(emu: Engine) -> dict[str, int]:
    return emu.summary().own_loss_packets


# What hosts see.


def test_ping_takes_the_configured_delays(hosts: None) -> None:
    with Engine(routed(bandwidth="100Mbit/s", delay="5ms")):
        inside(LEFT, "ping", "-n", "-c", "1", "10.3.0.1")  # waits for ARP on each link
        replies = inside(LEFT, "ping", "-n", "-c", "50", "-i", "0.02", "10.3.0.1")
    round_trips_ms = [float(word[5:]) for word in replies.split() if word.startswith("time=")]
    assert len(round_trips_ms) == 50
    assert min(round_trips_ms) >= 10.0
    assert median(round_trips_ms) < 15.0  # what one delay more would make


@pytest.mark.parametrize("right", [True, False], ids=["offloads", "none"])
@pytest.mark.parametrize("left", [True, False], ids=["offloads", "none"])
def test_bytes_arrive_as_they_were_whatever_the_cards_do(hosts: None, left: bool, right: bool) -> None:
    for on, name, host in ((left, "left", LEFT), (right, "right", RIGHT)):
        offloads(on, MIDDLE, name)
        offloads(on, host, "eth0")
    with Engine(routed(bandwidth="1Gbit/s", delay="1ms", queue="10000packets")) as emu:
        transfer(LEFT, RIGHT, "10.3.0.1")
        transfer(RIGHT, LEFT, "10.1.0.1")
        transfer_datagrams(LEFT, RIGHT, "10.3.0.1")
        assert own_losses(emu) == {}
    assert checksum_errors(LEFT) == checksum_errors(RIGHT) == 0


@pytest.mark.parametrize("on", [True, False], ids=["offloads", "none"])
def test_ipv6_crosses_a_switch(hosts: None, on: bool) -> None:
    for name, host in (("left", LEFT), ("right", RIGHT)):
        offloads(on, MIDDLE, name)
        offloads(on, host, "eth0")
    with Engine(switched(bandwidth="1Gbit/s", loss="0.1%")):
        assert " 0% packet loss" in inside(LEFT, "ping", "-6", "-n", "-c", "3", "-i", "0.01", "fd00::2")
        transfer(LEFT, RIGHT, "fd00::2")
    assert checksum_errors(LEFT) == checksum_errors(RIGHT) == 0


def test_a_nic_and_a_tap_in_one_network(hosts: None) -> None:
    there = f"nt{os.getpid()}"
    tap = {"kind": "tap", "device": "emu0", "namespace": there, "addresses": ["10.1.0.9/24"]}
    nodes = {"left": nic_node("left"), "tap": tap}
    with Engine(network(nodes, {"ends": ["left", "tap"], "bandwidth": "1Gbit/s", "delay": "1ms"})):
        assert " 0% packet loss" in inside(LEFT, "ping", "-n", "-c", "3", "-i", "0.01", "10.1.0.9")
        transfer(LEFT, there, "10.1.0.9")
        transfer(there, LEFT, "10.1.0.1")


# Frames.


@pytest.fixture
def port(hosts: None) -> Iterator[tuple[core.Switch, int, socket.socket]]:
    """An engine with nothing but the nic `left` on a port, and a packet socket on the real host's `eth0`."""
    switch = core.Switch(real_time=True)
    card, port = switch.add_node(core.NIC), switch.add_node(core.PORT)
    ends = [switch.add_interface(node, bytes([2, 0, 0, 0, 0, node + 1])) for node in (card, port)]
    switch.add_link(*ends)
    opened = open_nic("left", MIDDLE)
    with packet_socket(LEFT, "eth0") as wire:
        switch.attach_nic(card, opened.fd)
        switch.start()
        try:
            yield switch, port, wire
        finally:
            switch.close()
            opened.close()


def packet_socket(namespace: str, name: str) -> socket.socket:
    """A packet socket of another namespace: a thread that ends there opens it."""
    made = []

    def visit() -> None:
        with (runtime.NAMESPACES / namespace).open() as handle:
            assert runtime.libc.setns(handle.fileno(), 0) == 0
        made.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        made[0].bind((name, 3))

    visitor = threading.Thread(target=visit)
    visitor.start()
    visitor.join()
    made[0].settimeout(20)
    return made[0]


def frame(number: int, tag: bytes = b"") -> bytes:
    """A frame of an EtherType for experiments, to a station that nobody is."""
    addresses = bytes.fromhex("020000000077 020000000088")
    return addresses + tag + bytes.fromhex("88b5") + number.to_bytes(4, "big") + bytes(60)


def arrivals(switch: core.Switch, port: int, last: bytes, ether_type: bytes = b"\x88\xb5") -> list[bytes]:
    """The frames of an EtherType that arrive at a PORT until the last one has."""
    deadline = time.monotonic() + 20
    frames: list[bytes] = []
    while last not in frames:
        assert time.monotonic() < deadline
        frames += [data for _, data in switch.take_frames(port)]
    return [data for data in frames if ether_type in data[12:22]]


def test_frames_come_as_they_were_on_the_wire(port: tuple[core.Switch, int, socket.socket]) -> None:
    switch, at, wire = port
    sent = [frame(1), frame(2, TAG), frame(3, SERVICE_TAG), frame(4, SERVICE_TAG + TAG), frame(5)]
    for data in sent:
        wire.send(data)
    assert arrivals(switch, at, sent[-1]) == sent


def test_frames_leave_as_they_are_and_do_not_come_back(port: tuple[core.Switch, int, socket.socket]) -> None:
    switch, at, wire = port
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sent = [frame(number, tag) for number, tag in enumerate([b"", TAG, b""] * 50)]
    for data in sent:
        switch.inject(at, data)
    came: list[bytes] = []
    while len(came) < len(sent):
        data = wire.recv(2048)  # the kernel shows this socket the frame without its tag
        if data[12:14] == b"\x88\xb5":
            came.append(data)
    assert came == [frame(number) for number in range(150)]
    with packet_socket(MIDDLE, "left") as beside:
        beside.send(frame(1000))
    wire.send(frame(1001))
    assert arrivals(switch, at, frame(1001)) == [frame(1001)]
    assert switch.statistics()["device_write_drop_packets"] == 0


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp(tags: bytes, payload: bytes, number: int, *, partial: bool) -> bytes:
    """A TCP segment at sequence `number`, with a finished checksum or that of the pseudo header."""
    header = struct.pack("!HHIIBBHHH", 1, 2, number, 9, 5 << 4, 0x10, 100, 0, 0)
    identification = number // max(len(payload), 1)
    length = 40 + len(payload)
    addresses = bytes([10, 1, 0, 1, 10, 1, 0, 2])
    ip4 = struct.pack("!BBHHHBBH", 0x45, 0, length, identification, 0, 64, 6, 0) + addresses
    ip4 = ip4[:10] + (checksum(ip4) ^ 0xFFFF).to_bytes(2, "big") + ip4[12:]
    total = checksum(addresses + struct.pack("!HH", 6, length - 20))
    if not partial:
        total = checksum(total.to_bytes(2, "big") + header + payload) ^ 0xFFFF
    header = header[:16] + total.to_bytes(2, "big") + header[18:]
    return bytes(6) + bytes([2] * 6) + tags + b"\x08\x00" + ip4 + header + payload


TAGS = pytest.mark.parametrize(
    "tags", [b"", TAG, SERVICE_TAG, SERVICE_TAG + TAG], ids=lambda tags: tags.hex()
)


def virtio(tags: bytes, segment_bytes: int) -> bytes:
    """The virtio header of a TCP super-frame."""
    start = 34 + len(tags)
    return struct.pack("=BBHHHH", 1, 1, start + 20, segment_bytes, start, 16)


@TAGS
def test_super_frames_come_with_their_tags(port: tuple[core.Switch, int, socket.socket], tags: bytes) -> None:
    switch, at, wire = port
    payload = random.Random(3).randbytes(3000)
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.send(virtio(tags, 1000) + tcp(tags, payload, 0, partial=True))
    wire.send(bytes(10) + frame(1))
    wanted = [tcp(tags, payload[start : start + 1000], start, partial=False) for start in (0, 1000, 2000)]
    assert [data for data in arrivals(switch, at, frame(1), b"\x08\x00") if len(data) > 1000] == wanted
    assert switch.node_drops(0) == {}


@TAGS
def test_super_frames_leave_with_their_tags(
    port: tuple[core.Switch, int, socket.socket], tags: bytes
) -> None:
    switch, at, wire = port
    payload = random.Random(4).randbytes(3000)
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    switch.inject(at, tcp(tags, payload, 0, partial=True), vnet_header=virtio(tags, 1000) + bytes(2))
    while len(data := wire.recv(1 << 16)) < 3000:
        pass
    inner = tags[4:]  # the kernel takes the outer tag off before it shows a frame
    header = struct.unpack("=BBHHHH", data[:10])
    assert (header[0], header[1], header[3], header[4], header[5]) == (1, 1, 1000, 34 + len(inner), 16)
    assert data[10:] == tcp(inner, payload, 0, partial=True)
    assert switch.node_drops(1) == {}


def test_frames_longer_than_the_device_takes_are_the_emulators_own_loss(
    port: tuple[core.Switch, int, socket.socket],
) -> None:
    switch, at, wire = port
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    switch.inject(at, frame(1) + bytes(1500))
    switch.inject(at, frame(2))
    while (data := wire.recv(2048))[12:14] != b"\x88\xb5":
        pass
    assert data == frame(2)
    assert switch.statistics()["device_write_drop_packets"] == 1
    assert switch.node_drops(0) == {"device_write": 1}


def test_what_does_not_fit_into_the_queue_is_counted(hosts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manystack.host.nic._RECEIVE_BYTES", 1 << 16)
    inside(LEFT, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")  # the host itself is to send nothing
    opened = open_nic("left", MIDDLE)
    try:
        assert opened.drops() == 0
        with packet_socket(LEFT, "eth0") as wire:
            for number in range(1000):
                wire.send(frame(number))
        with socket.socket(fileno=os.dup(opened.fd)) as packets:
            came = 0
            while received(packets):
                came += 1
        assert 0 < came < 1000
        assert opened.drops() == 1000 - came
        assert opened.drops() == 1000 - came
    finally:
        opened.close()


def received(packets: socket.socket) -> bytes:
    try:
        return packets.recv(2048, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


# Devices that go.


async def gone(emu: Engine, namespace: str, command: str) -> str:
    """Do something to a device, and return the event that tells of it."""
    told: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
    unsubscribe = emu.subscribe(lambda event: told.set_result(event) if event.kind == "device-gone" else None)
    ip(namespace, command)
    event = await asyncio.wait_for(told, 20)
    unsubscribe()
    return str(event)


@pytest.mark.parametrize("command", ["link delete left", "link set left down", "link delete emu0"])
def test_a_device_that_goes_is_reported_and_the_rest_goes_on(hosts: None, command: str) -> None:
    there = f"nt{os.getpid()}"
    host = {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.1.0.5/24"]}}}
    tap = {"kind": "tap", "device": "emu0", "namespace": there, "addresses": ["10.1.0.9/24"]}
    nodes = {
        "left": nic_node("left"),
        "right": nic_node("right"),
        "tap": tap,
        "sw": {"kind": "switch"},
        "h": host,
    }
    links = ({"ends": [end, "sw"]} for end in ("left", "right", "tap", "h.eth0"))
    name, namespace, address = (
        ("left", MIDDLE, "10.1.0.1") if "left" in command else ("tap", there, "10.1.0.9")
    )
    with Engine(network(nodes, *links)) as emu:
        assert emu.node("h").ping(address)
        event = emu.run_until_complete(gone(emu, namespace, command))
        assert event == f"device-gone {name} {command.split()[2]}"
        link = emu.link(name, "sw.port0" if name == "left" else "sw.port2")
        assert not link.is_up
        assert " 0% packet loss" in inside(RIGHT, "ping", "-n", "-c", "2", "-i", "0.01", "10.1.0.5")
        before = link.statistics()[1]["down_drop_packets"]
        assert not emu.node("h").ping(address, timeout="10ms")
        assert link.statistics()[1]["down_drop_packets"] > before
        with pytest.raises(ManystackError, match=f"the device of {name} is down or was deleted"):
            link.up()
        link.down()
        assert own_losses(emu) == {}


def test_a_device_that_goes_is_reported_when_the_event_was_lost(hosts: None) -> None:
    host = {"kind": "host", "interfaces": {"eth0": {"addresses": ["10.1.0.5/24"]}}}
    with Engine(network({"left": nic_node("left"), "h": host}, {"ends": ["left", "h.eth0"]})) as emu:
        while not emu.switch.lost_events:
            emu.switch.set_pipe(0)
        ip(MIDDLE, "link delete left")
        while not emu.switch.is_device_gone(emu.wiring.nodes["left"]):
            pass  # the loop, which would read events, does not run
        events: list[str] = []
        emu.subscribe(lambda event: events.append(str(event)))
        emu.run("1ms")
        assert events == ["device-gone left left"]
        assert not emu.link("left", "h").is_up


def test_a_device_that_cannot_be_written_to_is_gone() -> None:
    switch = core.Switch(real_time=True)
    nodes = [switch.add_node(core.NIC), switch.add_node(core.PORT)]
    ends = [switch.add_interface(node, bytes([2, 0, 0, 0, 0, node + 1])) for node in nodes]
    out, back = switch.add_link(*ends)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as bound_to_nothing:
        switch.attach_nic(nodes[0], bound_to_nothing.fileno())
        switch.start()
        switch.inject(nodes[1], frame(1))
        assert select.select([switch.event_fd], [], [], 20)[0]
        assert [event[1:] for event in switch.take_events()] == [
            (core.DEVICE_GONE, nodes[0]),
            (core.LINK_CHANGED, out),
        ]
        switch.inject(nodes[1], frame(2))
        assert switch.node_drops(nodes[0]) == {"device_write": 1}
        assert switch.pipe_statistics(back)["down_drop_packets"] == 1
        switch.close()


def test_what_the_device_was_like_it_is_again(hosts: None) -> None:
    def state() -> tuple[object, ...]:
        shown = dict(ip(MIDDLE, "addr show left")[0])
        return shown.pop("promiscuity"), shown, inside(MIDDLE, "ethtool", "-k", "left")

    def belongings() -> tuple[object, ...]:
        own = Path("/proc/thread-self/ns/net").readlink()
        return own, threading.active_count(), sorted(path.name for path in Path("/proc/self/fd").iterdir())

    open_nic("left", MIDDLE).close()
    before, had = state(), belongings()
    opened = open_nic("left", MIDDLE)
    assert state() == (1, *before[1:])
    assert not os.get_blocking(opened.fd)
    assert not os.get_inheritable(opened.fd)
    opened.close()
    opened.close()
    assert (state(), belongings()) == (before, had)


def test_a_killed_process_leaves_the_device_as_it_was(hosts: None) -> None:
    with opener("left", MIDDLE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == "open\n"
            assert device("left")["promiscuity"] == 1
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert device("left")["promiscuity"] == 0


# What is refused.


def opener(name: str, namespace: str, *wrapper: str) -> subprocess.Popen[str]:
    command = [*wrapper, sys.executable, "-c", OPENER, name, namespace]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outcome(name: str, namespace: str, *wrapper: str) -> str:
    with opener(name, namespace, *wrapper) as child:
        return child.communicate(timeout=60)[0].strip()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lefd", "nic lefd: no such device in {place}; did you mean left?"),
        ("enp3s0f1", "nic enp3s0f1: no such device in {place}"),
        ("lo", "nic lo: the loopback device in {place} leads nowhere: name another"),
        ("spare", "nic spare: the device is down in {place}: `ip link set spare up` first"),
        ("tunnel", "nic tunnel: this device in {place} carries no Ethernet frames"),
    ],
)
def test_devices_that_cannot_be_bridged(hosts: None, name: str, message: str) -> None:
    ip(MIDDLE, "link add spare type veth peer name far")
    ip(MIDDLE, "tuntap add dev tunnel mode tun")
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UsageError) as caught:
        open_nic(name, MIDDLE)
    assert str(caught.value) == message.format(place=f"namespace {MIDDLE}")
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_places_where_there_is_no_device(hosts: None) -> None:
    with pytest.raises(UsageError, match="no such device in this network namespace"):
        open_nic(f"no{os.getpid()}", None)
    with pytest.raises(UsageError, match=f"no network namespace {MIDDLE}x; did you mean .*{MIDDLE}"):
        open_nic("left", f"{MIDDLE}x")


def test_one_device_under_two_names(hosts: None) -> None:
    ip(MIDDLE, "link property add dev left altname port")
    nodes = {"a": nic_node("left"), "b": nic_node("port")}
    with pytest.raises(UsageError, match="nic port: the nodes a and b share this device"):
        Engine(network(nodes, {"ends": ["a", "b"]})).start()
    assert device("left")["promiscuity"] == 0


def test_virtual_time_is_refused_with_its_place() -> None:
    with pytest.raises(
        TopologyError, match=r"nodes\.left: a nic lives in real time; .*\nnodes\.right: a nic"
    ):
        Engine(switched(), time="virtual")


def test_a_missing_device_is_wrong_usage_and_starts_nothing(hosts: None, tmp_path: Path) -> None:
    there = f"nt{os.getpid()}"
    nodes = {"left": nic_node("left"), "site": {"kind": "tap", "device": "emu0", "namespace": there}}
    nodes["gone"] = nic_node("wrong")
    path = tmp_path / "nics.json"
    path.write_text(json.dumps({"manystack": 1, "nodes": nodes, "links": [{"ends": ["left", "site"]}]}))
    command = Path(sys.executable).with_name("emu-run")
    done = subprocess.run([command, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: nic wrong: no such device in namespace {MIDDLE}\n"
    assert not (runtime.NAMESPACES / there).exists()
    assert device("left")["promiscuity"] == 0


def test_missing_capabilities_are_named(hosts: None) -> None:
    text = outcome("lo", "", "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert (
        "no permission to use a network device, what is missing is the capability CAP_NET_RAW: run as root"
        in text
    )
    assert "a container needs `--cap-add NET_RAW`" in text
    text = outcome("left", MIDDLE, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert "what is missing is the capability CAP_SYS_ADMIN:" in text
    assert "only a nic without `namespace` works" in text


def test_rootless_in_a_user_namespace(hosts: None) -> None:
    rootless = ("unshare", "--user", "--map-root-user", "--net")
    script = 'ip link add card type veth peer name far && ip link set card up && exec "$@"'
    assert outcome("card", "", *rootless, "sh", "-c", script, "sh") == "open"
    assert "what is missing is a capability outside this user namespace" in outcome("left", MIDDLE, *rootless)


def test_without_net_admin_the_queue_is_what_the_system_allows(hosts: None) -> None:
    text = outcome("left", MIDDLE, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert text == "open"
