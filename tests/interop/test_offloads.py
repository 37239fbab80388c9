"""Real hosts with and without segmentation and checksum offloads: what arrives is what was sent.

left - r1 = r2 - right - far, where left and right are hosts behind taps, = may be shaped, and far is a third
host behind a veth of right's. That veth computes the checksums that the emulated network has left to do, and
far verifies every one: a wrong one, half-done or not, shows in far's counters.
"""

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from manystack import Engine, Topology
from manystack.host import tap as host_tap
from manystack.network import Event
from manystack.report.summary import summary_lines

pytestmark = pytest.mark.root

LEFT, RIGHT, FAR = (f"{name}{os.getpid()}" for name in ("left", "right", "far"))  # of `path`
ONE, TWO, THREE = (f"{name}{os.getpid()}" for name in ("one", "two", "three"))
FEATURES = ("tx", "sg", "tso", "gso", "gro", "tx-udp-segmentation")

# Sends and receives: by TCP 2 MB each way, by UDP datagrams one by one, in super-frames, and in fragments.
PEER = """
import errno, hashlib, random, socket, sys
role, own, other = sys.argv[1:]
family = socket.AF_INET6 if ":" in own else socket.AF_INET
mine, theirs = ((1, 2) if role == "client" else (2, 1))
blob = lambda seed: random.Random(seed).randbytes(2_000_003)

def read_all(stream):
    digest = hashlib.sha256()
    while data := stream.recv(1 << 20):
        digest.update(data)
    return digest.digest()

def datagrams(seed):
    data = blob(seed)
    plain = [data[i * 1000 : i * 1000 + 1000 - i] for i in range(60)] + [data[i : i + 20] for i in range(70)]
    segments = [data[i : i + 1200] for i in range(0, 44 * 1200, 1200)] + [data[44 * 1200 : 44 * 1200 + 77]]
    return plain, segments, [data[i * 4000 : i * 4000 + 4000] for i in range(12)]

def send_datagrams():
    plain, segments, long = datagrams(mine)
    for datagram in plain:
        udp.send(datagram)
    try:
        udp.setsockopt(socket.SOL_UDP, 103, 1200)  # UDP_SEGMENT
        udp.send(b"".join(segments))
    except OSError as error:
        if error.errno != errno.EIO:  # no checksum offload: some kernels leave it to the program
            raise
        udp.setsockopt(socket.SOL_UDP, 103, 0)
        for datagram in segments:
            udp.send(datagram)
    udp.setsockopt(socket.SOL_UDP, 103, 0)
    for datagram in long:
        udp.send(datagram)

def receive_datagrams():
    for burst in datagrams(theirs):
        for number, datagram in enumerate(burst):
            assert udp.recv(1 << 16) == datagram, (len(burst), number)

udp = socket.socket(family, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
udp.settimeout(30)
udp.bind((own, 5001))
udp.connect((other, 5001))
if role == "server":
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((own, 5002))
    listener.listen()
    listener.settimeout(30)
    print("ready", flush=True)
    stream, _ = listener.accept()
else:
    stream = socket.create_connection((other, 5002), timeout=30)
stream.settimeout(30)
if role == "client":
    stream.sendall(blob(mine))
    stream.shutdown(socket.SHUT_WR)
    assert read_all(stream) == hashlib.sha256(blob(theirs)).digest()
    send_datagrams()
    receive_datagrams()
else:
    assert read_all(stream) == hashlib.sha256(blob(theirs)).digest()
    stream.sendall(blob(mine))
    stream.close()
    receive_datagrams()
    send_datagrams()
print("done", flush=True)
"""


def run(namespace: str, *command: str) -> str:
    """The output of a program in a namespace; it must succeed."""
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *command], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=60)


@contextmanager
def started(namespace: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a namespace, at the latest killed at the end."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tap(namespace: str, address: str, *routes: tuple[str, str]) -> dict[str, Any]:
    return {
        "kind": "tap",
        "device": "emu0",
        "namespace": namespace,
        "addresses": [address],
        "routes": [{"to": to, "via": via} for to, via in routes],
    }


def router(addresses: list[str], *routes: tuple[str, str]) -> dict[str, Any]:
    return {
        "kind": "router",
        "interfaces": {f"eth{i}": {"addresses": [address]} for i, address in enumerate(addresses)},
        "routes": [{"to": to, "via": via} for to, via in routes],
    }


def topology(nodes: dict[str, Any], links: list[dict[str, Any]], name: str = "intact") -> Topology:
    return Topology.parse(
        {
            "manystack": 1,
            "name": f"{name}{os.getpid()}",
            "time": "real",
            "nodes": nodes,
            "links": links,
        }
    )


def over_routers(**shape: str) -> Topology:
    return topology(
        {
            "left": tap(LEFT, "10.0.1.2/24", ("default", "10.0.1.1")),
            "right": tap(RIGHT, "10.0.3.2/24", ("10.0.0.0/16", "10.0.3.1")),
            "r1": router(["10.0.1.1/24", "10.0.2.1/24"], ("default", "10.0.2.2")),
            "r2": router(
                ["10.0.2.2/24", "10.0.3.1/24"], ("10.0.1.0/24", "10.0.2.1"), ("10.0.9.0/24", "10.0.3.2")
            ),
        },
        [
            {"ends": ["left", "r1.eth0"]},
            {"ends": ["r1.eth1", "r2.eth0"], **shape},
            {"ends": ["r2.eth1", "right"]},
        ],
        "path",
    )


def set_features(namespace: str, device: str, off: tuple[str, ...]) -> None:
    changes = [word for feature in FEATURES for word in (feature, "off" if feature in off else "on")]
    run(namespace, "ethtool", "-K", device, *changes)


def counters(namespace: str) -> dict[str, int]:
    """/proc/net/snmp and snmp6, as `Tcp.InCsumErrors`."""
    found = {}
    lines = run(namespace, "cat", "/proc/net/snmp").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, *keys = names.split()
        found |= {
            f"{protocol[:-1]}.{key}": int(value) for key, value in zip(keys, values.split()[1:], strict=True)
        }
    found |= {
        key: int(value)
        for key, value in (line.split() for line in run(namespace, "cat", "/proc/net/snmp6").splitlines())
    }
    return found


def checksum_errors(namespace: str) -> dict[str, int]:
    return {name: count for name, count in counters(namespace).items() if "CsumErrors" in name and count}


def transfer(client: tuple[str, str], server: tuple[str, str]) -> None:
    """Everything that PEER does between two hosts: (namespace, address)."""
    with started(server[0], sys.executable, "-c", PEER, "server", server[1], client[1]) as far:
        assert far.stdout is not None and far.stdout.readline() == "ready\n"
        assert run(client[0], sys.executable, "-c", PEER, "client", client[1], server[1]) == "done\n"
        assert far.communicate(timeout=60)[0] == "done\n"


@contextmanager
def far_host() -> Iterator[None]:
    """The host behind right; right's end of the veth leaves no checksum to do."""
    with ExitStack() as cleanup:
        ip("netns", "add", FAR)
        cleanup.callback(ip, "netns", "delete", FAR)
        ip("-n", RIGHT, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", FAR)
        for namespace, device, address in ((RIGHT, "veth0", "10.0.9.1/24"), (FAR, "veth1", "10.0.9.2/24")):
            ip("-n", namespace, "address", "add", address, "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", FAR, "route", "add", "default", "via", "10.0.9.1")
        run(RIGHT, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run(RIGHT, "ethtool", "-K", "veth0", "tx", "off")
        yield


@pytest.fixture(
    scope="module",
    params=[{}, {"bandwidth": "500Mbit/s", "delay": "1ms", "queue": "1000packets"}],
    ids=["plain", "shaped"],
)
def path(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(over_routers(**request.param)) as engine, far_host():
        yield engine


OFF: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    (("tx",), ()),
    (("tso",), ()),
    (("tso", "gso"), ()),
    (("tx-udp-segmentation",), ()),
    ((), ("tx",)),
    ((), ("gro",)),
    (("tso", "gso", "gro"), ("tso", "gso", "gro")),
    (("tx", "gro"), ("tx", "gro")),
    (FEATURES, FEATURES),
]


def names(off: tuple[str, ...]) -> str:
    return "-".join(off) or "all"


@pytest.mark.parametrize("off", OFF, ids=[f"{names(left)}:{names(right)}" for left, right in OFF])
def test_data_arrives_intact_whatever_is_offloaded(
    path: Engine, off: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    set_features(LEFT, "emu0", off[0])
    set_features(RIGHT, "emu0", off[1])
    transfer((LEFT, "10.0.1.2"), (FAR, "10.0.9.2"))
    run(LEFT, "ping", "-n", "-c", "2", "-i", "0.01", "-s", "4000", "10.0.9.2")
    for namespace in (LEFT, RIGHT, FAR):
        assert checksum_errors(namespace) == {}
    summary = path.summary()
    assert summary.own_loss_packets == {}
    assert summary.nodes == ()  # nothing was dropped anywhere


def test_super_frames_were_what_crossed_the_path(path: Engine) -> None:
    """Or else the tests above prove little: a large write is fewer frames at the tap than on the wire."""
    set_features(LEFT, "emu0", ())
    set_features(RIGHT, "emu0", ())
    before = counters_of_device(LEFT)
    engine_before = path.switch.statistics()["device_read_packets"]
    transfer((LEFT, "10.0.1.2"), (FAR, "10.0.9.2"))
    frames = counters_of_device(LEFT) - before
    assert path.switch.statistics()["device_read_packets"] - engine_before > 2 * frames


def counters_of_device(namespace: str) -> int:
    return int(run(namespace, "cat", "/sys/class/net/emu0/statistics/tx_packets"))


@pytest.mark.parametrize("off", [OFF[0], OFF[3], OFF[-1]], ids=["all", "no-segmentation", "nothing"])
@pytest.mark.parametrize(
    "shape", [{}, {"bandwidth": "500Mbit/s", "delay": "1ms", "queue": "1000packets"}], ids=["plain", "shaped"]
)
def test_ip6_crosses_a_switch(shape: dict[str, str], off: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    nodes = {
        "left": tap(ONE, "10.0.1.1/24"),
        "right": tap(TWO, "10.0.1.2/24"),
        "switch": {"kind": "switch"},
    }
    links = [{"ends": ["left", "switch"], **shape}, {"ends": ["right", "switch"]}]
    with Engine(topology(nodes, links)) as engine:
        for namespace, address, features in ((ONE, "fd00::1/64", off[0]), (TWO, "fd00::2/64", off[1])):
            ip("-n", namespace, "address", "add", address, "dev", "emu0", "nodad")
            set_features(namespace, "emu0", features)
        transfer((ONE, "fd00::1"), (TWO, "fd00::2"))
        for namespace in (ONE, TWO):
            assert checksum_errors(namespace) == {}
        assert engine.summary().own_loss_packets == {}


def test_tiny_segments_are_carried_and_joined() -> None:
    """The kernel limits how many datagrams a super-frame may hold, and is free to refuse others."""
    nodes = {"left": tap(ONE, "10.0.1.1/24"), "right": tap(TWO, "10.0.1.2/24"), "switch": {"kind": "switch"}}
    links = [{"ends": ["left", "switch"], "bandwidth": "500Mbit/s"}, {"ends": ["right", "switch"]}]
    with Engine(topology(nodes, links)) as engine:
        for namespace in (ONE, TWO):
            ip("-n", namespace, "route", "change", "10.0.1.0/24", "dev", "emu0", "advmss", "88")
        transfer((ONE, "10.0.1.1"), (TWO, "10.0.1.2"))
        assert checksum_errors(ONE) == checksum_errors(TWO) == {}
        assert engine.summary().own_loss_packets == {}
        assert engine.switch.statistics()["device_write_packets"] > 2 * 2_000_000 // 88


def test_a_device_that_vanishes_takes_its_link_down_and_the_rest_goes_on() -> None:
    nodes = {
        "left": tap(ONE, "10.0.1.2/24", ("default", "10.0.1.1")),
        "right": tap(TWO, "10.0.2.2/24", ("default", "10.0.2.1")),
        "third": tap(THREE, "10.0.3.2/24", ("default", "10.0.3.1")),
        "r": router(["10.0.1.1/24", "10.0.2.1/24", "10.0.3.1/24"]),
    }
    links = [{"ends": [name, f"r.eth{i}"]} for i, name in enumerate(("left", "right", "third"))]
    with Engine(topology(nodes, links)) as engine:
        run(TWO, "ping", "-n", "-c", "1", "10.0.1.2")
        gone = engine.loop.create_future()
        events: list[Event] = []

        def listen(event: Event) -> None:
            events.append(event)
            if event.kind == "device-gone" and not gone.done():
                gone.set_result(event)

        engine.subscribe(listen)
        ip("-n", ONE, "link", "delete", "emu0")
        event = engine.run_until_complete(asyncio.wait_for(gone, 20))
        assert (event.subject, event.detail) == ("left", "emu0")
        assert [(pipe.source, pipe.up) for pipe in engine.summary().links[:2]] == [
            ("left.emu0", False),
            ("r.eth0", False),
        ]
        with started(TWO, "ping", "-n", "-c", "3", "-i", "0.01", "-W", "0.1", "10.0.1.2") as lost:
            assert lost.wait(timeout=30) == 1  # no answer
        run(TWO, "ping", "-n", "-c", "2", "-i", "0.01", "10.0.3.2")
        toward, _ = engine.link("r.eth0", "left").statistics()
        assert toward["down_drop_packets"] >= 3
        assert engine.summary().own_loss_packets == {}
        assert [event.kind for event in events].count("device-gone") == 1


@pytest.mark.parametrize(
    ("refused", "offloads", "missing"),
    [
        (0x60, ("checksum", "tso4", "tso6"), "uso4, uso6"),
        (0x66, ("checksum",), "tso4, tso6, uso4, uso6"),
        (0x67, (), "checksum, tso4, tso6, uso4, uso6"),
    ],
)
def test_a_kernel_without_an_offload_is_fallen_back_from_and_reported(
    monkeypatch: pytest.MonkeyPatch, refused: int, offloads: tuple[str, ...], missing: str
) -> None:
    real = fcntl.ioctl

    def ioctl(fd: Any, request: int, argument: Any = 0) -> Any:
        if request == host_tap._TUNSETOFFLOAD and argument & refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, request, argument)

    monkeypatch.setattr("manystack.host.tap.fcntl.ioctl", ioctl)
    nodes = {
        "left": tap(ONE, "10.0.1.1/24"),
        "right": tap(TWO, "10.0.1.2/24"),
        "switch": {"kind": "switch"},
    }
    with Engine(topology(nodes, [{"ends": ["left", "switch"]}, {"ends": ["right", "switch"]}])) as engine:
        assert engine.network.taps["left"].offloads == offloads
        transfer((ONE, "10.0.1.1"), (TWO, "10.0.1.2"))
        summary = engine.summary()
        assert summary.own_loss_packets == {}
        assert [line for line in summary_lines(summary, "stopped") if "offload" in line] == [
            f"This kernel lacks offloads, so that taps cost more time: {missing}."
        ]


def test_nothing_is_said_of_offloads_when_none_is_missing(path: Engine) -> None:
    assert not any("offload" in line for line in summary_lines(path.summary(), "stopped"))
