import asyncio
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from manystack.errors import ManystackError, UsageError
from manystack.host import runtime
from manystack.host.runtime import Runtime, reclaim_dead
from manystack.host.tap import HostTap, check_tap_permission, open_tap

pytestmark = pytest.mark.root

NAMESPACE = f"ms{os.getpid()}"
DEVICE = f"t{os.getpid()}"
ADDRESS = IPv4Interface("198.51.100.2/24")

# Opens a tap as a process of its own, says how that went, and stays until its input ends.
OPENER = """
import sys
from pathlib import Path
from manystack.host import runtime
from manystack.errors import UsageError
from manystack.host.tap import open_tap
runtime.ROOT_DIRECTORY = Path(sys.argv[1])
with runtime.Runtime("child") as owner:
    try:
        tap = open_tap(sys.argv[2], sys.argv[3] or None, [], [], 1500, owner)
        print("open", flush=True)
        sys.stdin.read()
        tap.close()
    except UsageError as error:
        print(error, flush=True)
"""


class Route(NamedTuple):
    to: IPv4Network
    via: IPv4Address | None


def route(to: str, via: str | None = None) -> Route:
    return Route(IPv4Network(to), None if via is None else IPv4Address(via))


def ip(*arguments: str, namespace: str | None = NAMESPACE) -> Any:
    where = [] if namespace is None else ["-n", namespace]
    command = ["ip", *where, "-json", "-details", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output) if output else None


def devices(namespace: str | None = NAMESPACE) -> set[str]:
    return {link["ifname"] for link in ip("link", namespace=namespace)}


def named_namespaces() -> set[str]:
    return {path.name for path in runtime.NAMESPACES.iterdir()} if runtime.NAMESPACES.exists() else set()


def belongings() -> tuple[int, list[str], str]:
    """What a process could leave behind or lose: threads, descriptors, its network namespace."""
    return (
        threading.active_count(),
        sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        str(Path("/proc/thread-self/ns/net").readlink()),
    )


def opener(base: Path, namespace: str, *wrapper: str) -> subprocess.Popen[str]:
    command = [*wrapper, sys.executable, "-c", OPENER, str(base), DEVICE, namespace]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outcome(base: Path, namespace: str, *wrapper: str) -> str:
    with opener(base, namespace, *wrapper) as child:
        output, _ = child.communicate()
    return output.strip()


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runtime, "ROOT_DIRECTORY", tmp_path / "manystack")
    return tmp_path / "manystack"


@pytest.fixture
def owner(base: Path) -> Iterator[Runtime]:
    with Runtime("office") as network:
        yield network


@pytest.fixture
def users_namespace() -> Iterator[str]:
    """A namespace that was there before, of the name that the tests use."""
    ip("netns", "add", NAMESPACE, namespace=None)
    try:
        yield NAMESPACE
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def tap(owner: Runtime) -> Iterator[HostTap]:
    opened = open_tap(DEVICE, NAMESPACE, [ADDRESS], [], 1500, owner)
    try:
        yield opened
    finally:
        opened.close()


def test_device_is_set_up_and_goes_without_a_trace(owner: Runtime) -> None:
    open_tap(DEVICE, NAMESPACE, [], [], 1500, owner).close()  # pyroute2 is loaded by the first
    before = belongings()
    routes = [route("0.0.0.0/0", "198.51.100.1"), route("192.0.2.0/25")]
    tap = open_tap(DEVICE, NAMESPACE, [ADDRESS, IPv4Interface("203.0.113.9/30")], routes, 1400, owner)
    try:
        assert before[0] == threading.active_count()
        assert before[2] == belongings()[2]
        assert DEVICE not in devices(namespace=None)
        assert not os.get_blocking(tap.fd)
        assert not os.get_inheritable(tap.fd)
        links = {link["ifname"]: link for link in ip("addr")}
        assert "UP" in links["lo"]["flags"]
        assert {"UP", "LOWER_UP"} <= set(links[DEVICE]["flags"])
        assert links[DEVICE]["mtu"] == 1400
        addresses = [
            (info["family"], info["local"], info["prefixlen"]) for info in links[DEVICE]["addr_info"]
        ]
        assert addresses == [("inet", "198.51.100.2", 24), ("inet", "203.0.113.9", 30)]
        if "inet6_addr_gen_mode" in links[DEVICE]:
            assert links[DEVICE]["inet6_addr_gen_mode"] == "none"
        found = {(entry["dst"], entry.get("gateway"), entry["dev"]) for entry in ip("route")}
        assert {("default", "198.51.100.1", DEVICE), ("192.0.2.0/25", None, DEVICE)} <= found
        assert tap.drops() == 0
    finally:
        tap.close()
    tap.close()
    assert belongings() == before
    assert NAMESPACE not in named_namespaces()
    assert json.loads((owner.directory / "owner.json").read_text())["namespaces"] == {}


def test_without_a_namespace_it_is_made_in_ours(owner: Runtime) -> None:
    tap = open_tap(DEVICE, None, [ADDRESS], [], 1500, owner)
    try:
        assert DEVICE in devices(namespace=None)
    finally:
        tap.close()
    assert DEVICE not in devices(namespace=None)


def test_a_running_event_loop_does_not_mind(owner: Runtime) -> None:
    async def main() -> None:
        open_tap(DEVICE, NAMESPACE, [ADDRESS], [], 1500, owner).close()

    asyncio.run(main())


def test_a_users_namespace_is_used_and_left(owner: Runtime, users_namespace: str) -> None:
    tap = open_tap(DEVICE, users_namespace, [ADDRESS], [], 1500, owner)
    try:
        assert DEVICE in devices()
        assert json.loads((owner.directory / "owner.json").read_text())["namespaces"] == {}
    finally:
        tap.close()
    assert DEVICE not in devices()


def test_two_taps_share_a_namespace_until_the_last_is_closed(tap: HostTap, owner: Runtime) -> None:
    open_tap(f"{DEVICE}x", NAMESPACE, [], [], 1500, owner).close()
    assert devices() == {"lo", DEVICE}


def test_frames_come_and_what_does_not_fit_is_counted(tap: HostTap) -> None:
    ip("neigh", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", DEVICE)
    send = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    for _ in range(5000):
        udp.sendto(b"emulated", ("198.51.100.1", 9))
"""
    subprocess.run(["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", send], check=True)
    assert select.select([tap.fd], [], [], 0)[0]
    frames = list(iter(lambda: read(tap.fd), b""))
    assert all(frame.endswith(b"emulated") for frame in frames)
    assert tap.drops() > 0
    assert len(frames) + tap.drops() == 5000


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 2048)
    except BlockingIOError:
        return b""


def test_carrier(tap: HostTap) -> None:
    tap.set_carrier(False)
    assert "LOWER_UP" not in ip("link", "show", DEVICE)[0]["flags"]
    tap.set_carrier(True)
    assert "LOWER_UP" in ip("link", "show", DEVICE)[0]["flags"]


def test_device_that_somebody_deleted(tap: HostTap) -> None:
    ip("link", "delete", DEVICE)
    assert tap.drops() == 0
    with pytest.raises(ManystackError, match=f"{DEVICE} is gone"):
        tap.set_carrier(True)


@pytest.mark.parametrize(
    ("addresses", "routes", "mtu", "message"),
    [
        ([], [], 10, "cannot set the MTU to 10 in namespace .*: a TAP device takes 68 to 65521 bytes"),
        ([ADDRESS, ADDRESS], [], 1500, "cannot add the address 198.51.100.2/24 .*: it is given twice"),
        (
            [ADDRESS],
            [route("192.0.2.0/24", "203.0.113.1")],
            1500,
            "cannot add the route to 192.0.2.0/24 via 203.0.113.1 .*: the gateway is in none",
        ),
        (
            [ADDRESS],
            [route("192.0.2.0/24", "198.51.100.255")],
            1500,
            "cannot add the route to 192.0.2.0/24 via 198.51.100.255 .*: the gateway is no host's address",
        ),
        (
            [ADDRESS],
            [route("192.0.2.0/24", "198.51.100.1"), route("192.0.2.0/24", "198.51.100.3")],
            1500,
            "cannot add the route to 192.0.2.0/24 via 198.51.100.3 .*: there is a route to it already",
        ),
    ],
)
def test_what_the_kernel_refuses_leaves_nothing(
    owner: Runtime,
    addresses: list[IPv4Interface],
    routes: list[Route],
    mtu: int,
    message: str,
) -> None:
    before = belongings()
    with pytest.raises(UsageError, match=message):
        open_tap(DEVICE, NAMESPACE, addresses, routes, mtu, owner)
    assert belongings() == before
    assert NAMESPACE not in named_namespaces()
    assert json.loads((owner.directory / "owner.json").read_text())["namespaces"] == {}


def test_address_in_use(owner: Runtime) -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1 is already in use in this network namespace"):
        open_tap(DEVICE, None, [IPv4Interface("127.0.0.1/8")], [], 1500, owner)
    assert DEVICE not in devices(namespace=None)


def test_device_name_that_is_taken(owner: Runtime, users_namespace: str) -> None:
    # Even by a persistent TAP that nobody has open: it is the user's.
    ip("tuntap", "add", "dev", DEVICE, "mode", "tap")
    with pytest.raises(UsageError, match=f"{DEVICE} already exists in namespace {users_namespace}"):
        open_tap(DEVICE, users_namespace, [], [], 1500, owner)
    assert devices() == {"lo", DEVICE}


@pytest.mark.parametrize("device", ["", "a/b", "a b", "sixteen-letters-", "tap%d"])
def test_what_cannot_name_a_device(owner: Runtime, device: str) -> None:
    with pytest.raises(UsageError, match="cannot name a device"):
        open_tap(device, None, [], [], 1500, owner)


@pytest.mark.parametrize("namespace", ["", ".", "..", "../x"])
def test_what_cannot_name_a_namespace(owner: Runtime, namespace: str) -> None:
    with pytest.raises(UsageError, match="cannot name a namespace"):
        open_tap(DEVICE, namespace, [], [], 1500, owner)


def test_file_that_is_no_namespace(owner: Runtime, users_namespace: str) -> None:
    path = runtime.NAMESPACES / users_namespace
    subprocess.run(["umount", path], check=True)
    try:
        with pytest.raises(UsageError, match=f"remove it with `ip netns delete {users_namespace}`"):
            open_tap(DEVICE, users_namespace, [], [], 1500, owner)
        assert path.exists()
    finally:
        path.unlink()


def test_killed_owner_leaves_nothing_once_reclaimed(base: Path) -> None:
    with opener(base, NAMESPACE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            assert NAMESPACE in named_namespaces()
            assert DEVICE in devices()
            assert reclaim_dead() == []
        finally:
            child.kill()
            child.wait()
        assert devices() == {"lo"}
        assert reclaim_dead() == ["child"]
    assert NAMESPACE not in named_namespaces()
    assert list(base.iterdir()) == []


def test_what_a_user_made_anew_is_not_reclaimed(base: Path, users_namespace: str) -> None:
    ip("netns", "delete", users_namespace, namespace=None)
    with opener(base, users_namespace) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
        finally:
            child.kill()
    ip("netns", "delete", users_namespace, namespace=None)
    ip("netns", "add", users_namespace, namespace=None)
    assert reclaim_dead() == ["child"]
    assert users_namespace in named_namespaces()


def test_missing_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("manystack.host.tap.TUN", tmp_path / "tun")
    with pytest.raises(UsageError, match=r"tun is missing .*modprobe tun"):
        check_tap_permission()


def test_missing_capabilities_are_named(base: Path) -> None:
    without_net_admin = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    text = outcome(base, "", *without_net_admin)
    assert "what is missing is the capability CAP_NET_ADMIN:" in text
    assert "run as root" in text
    assert "`unshare -Urn`" in text
    without_both = ("setpriv", "--bounding-set=-net_admin,-sys_admin", "--inh-caps=-net_admin,-sys_admin")
    text = outcome(base, NAMESPACE, *without_both)
    assert "what is missing is the capability CAP_NET_ADMIN and the capability CAP_SYS_ADMIN" in text
    assert "only a tap without `namespace` works" in text
    assert NAMESPACE not in named_namespaces()
    assert list(base.iterdir()) == []


def test_rootless_in_a_user_namespace(base: Path) -> None:
    rootless = ("unshare", "--user", "--map-root-user", "--net")
    assert outcome(base, "", *rootless) == "open"
    text = outcome(base, NAMESPACE, *rootless)
    assert f"permission to use {runtime.NAMESPACES / NAMESPACE}:" in text
    assert "only a tap without `namespace` works" in text
    assert NAMESPACE not in named_namespaces()
    assert list(base.iterdir()) == []
