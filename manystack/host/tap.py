"""TAP devices: where an emulated network meets a real host.

`open_tap` makes a device, in a network namespace if asked to, and sets up the host's side of it. A thread
of its own does this, which enters the namespace and ends there: so the caller never leaves its own
namespace, no failure can strand it elsewhere, and the event loop inside pyroute2 does not meet one that the
caller runs. The device is made in its namespace rather than moved there: on the way its name could clash
with one outside, and the network managers outside would see it.
"""

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Protocol

from manystack.errors import ManystackError, UsageError
from manystack.host.namespaces import CLONE_NEWNET, NAMESPACES, libc, namespace_identity
from manystack.host.permissions import CAP_NET_ADMIN, CAP_SYS_ADMIN, has_capability, permission_error
from manystack.host.runtime import Runtime

TUN = Path("/dev/net/tun")

# linux/if_tun.h. With IFF_TUN_EXCL no device that exists is taken over, not even a user's persistent TAP.
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETCARRIER = 0x400454E2
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
_TUN_FLAGS = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
_VNET_HEADER_BYTES = 12

# What the host may leave to the engine, best first: unfinished checksums, and TCP and UDP super-frames.
_OFFLOADS = {
    0x67: ("checksum", "tso4", "tso6", "uso4", "uso6"),
    0x07: ("checksum", "tso4", "tso6"),
    0x01: ("checksum",),
    0x00: (),
}

# RTM_GETSTATS for IFLA_STATS_LINK_64 alone. The answer: nlmsghdr, if_stats_msg, one attribute's header and
# its struct rtnl_link_stats64, whose eighth counter is tx_dropped (linux/if_link.h).
_RTM_GETSTATS, _NLM_F_REQUEST, _NLMSG_ERROR = 94, 1, 2
_STATS_REQUEST = struct.Struct("=IHHIIBxHII")
_STATS_TX_DROPPED_OFFSET = 16 + 12 + 4 + 7 * 8

# IN6_ADDR_GEN_MODE_NONE: without a link-local address the kernel sends neither duplicate detection nor router
# solicitations, and the emulated wire is quiet.
_NO_IPV6_AUTOCONFIGURATION = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}

# Frames that the kernel holds for the engine: 50 ms of full ones at 1 Gbit/s. drops() counts what is beyond.
_QUEUE_PACKETS = 4096


class HostRoute(Protocol):
    """A route of the host behind a TAP: through a gateway, or straight out of the device if there is none."""

    @property
    def to(self) -> IPv4Network:
        """Where it leads."""

    @property
    def via(self) -> IPv4Address | None:
        """The gateway, in one of the TAP's subnets."""


class HostTap:
    """An open TAP device.

    `fd` gives and takes one Ethernet frame a call, a 12-byte virtio header before it, and does not block.
    `offloads` names what the host leaves to the engine, `missing_offloads` what this kernel knows nothing of.
    """

    def __init__(
        self,
        device: str,
        fd: int,
        index: int,
        offloads: tuple[str, ...],
        statistics: socket.socket,
        resources: ExitStack,
    ) -> None:
        self.device = device
        self.fd = fd
        self.offloads = offloads
        self.missing_offloads = tuple(name for name in _OFFLOADS[max(_OFFLOADS)] if name not in offloads)
        self._statistics = statistics
        self._request = _STATS_REQUEST.pack(
            _STATS_REQUEST.size, _RTM_GETSTATS, _NLM_F_REQUEST, 0, 0, socket.AF_UNSPEC, 0, index, 1
        )
        self._drops = 0
        self._resources = resources

    def set_carrier(self, up: bool) -> None:
        """Show the host a cable that is plugged in or not. Raises ManystackError if the device is gone."""
        try:
            fcntl.ioctl(self.fd, _TUNSETCARRIER, struct.pack("=i", up))
        except OSError as error:
            if error.errno != errno.EBADFD:
                raise
            raise ManystackError(f"the TAP device {self.device} is gone: somebody deleted it") from None

    def drops(self) -> int:
        """Frames from the host that were lost because the engine did not take them in time (`tx_dropped`).

        Costs a few microseconds. Of a device that is gone it is the last number known.
        """
        self._statistics.send(self._request)
        answer = self._statistics.recv(4096)
        if struct.unpack_from("=IH", answer)[1] != _NLMSG_ERROR:
            (self._drops,) = struct.unpack_from("=Q", answer, _STATS_TX_DROPPED_OFFSET)
        return self._drops

    def close(self) -> None:
        """Remove the device, by closing its descriptor, and let go of the namespace. Twice does no harm."""
        self._resources.close()


def check_tap_permission(namespace: str | None = None) -> None:
    """Raise UsageError if this process may not make a TAP, in `namespace` if given; says what is missing."""
    missing = []
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        mode = TUN.stat().st_mode & 0o777
        missing.append(
            f"access to {TUN} (its mode is {mode:04o}; `chmod 666 {TUN}` would open it to everybody)"
        )
    except OSError as error:
        raise UsageError(
            f"{TUN} is missing ({error.strerror}): load the kernel's tun module with `modprobe tun`, or pass "
            "the device into the container"
        ) from None
    if not has_capability(CAP_NET_ADMIN):
        missing.append("the capability CAP_NET_ADMIN")
    if namespace is not None:
        if not has_capability(CAP_SYS_ADMIN):
            missing.append("the capability CAP_SYS_ADMIN")
        if not (NAMESPACES / namespace).exists():
            directory = NAMESPACES if NAMESPACES.exists() else NAMESPACES.parent
            if not os.access(directory, os.W_OK):
                missing.append(f"permission to write {directory}")
    if missing:
        raise _permission_error(missing, namespace)


def open_tap(
    device: str,
    namespace: str | None,
    addresses: Sequence[IPv4Interface],
    routes: Sequence[HostRoute],
    mtu: int,
    owner: Runtime,
) -> HostTap:
    """Make the TAP `device` in `namespace`, or in the process's own, with addresses, routes, MTU (bytes) set.

    A namespace that does not exist is made, recorded with `owner`, and removed with the last TAP in it. It
    is all or nothing: where something is not permitted, taken or invalid, UsageError is raised and nothing
    is left.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", device):
        raise UsageError(f"'{device}' cannot name a device: use 1 to 15 letters, digits, '-', '_' and '.'")
    if namespace is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", namespace):
        raise UsageError(f"'{namespace}' cannot name a namespace: use letters, digits, '-', '_' and '.'")
    check_tap_permission(namespace)
    with ThreadPoolExecutor(max_workers=1) as visitor:
        return visitor.submit(_open, device, namespace, addresses, routes, mtu, owner).result()


def _open(
    device: str,
    namespace: str | None,
    addresses: Sequence[IPv4Interface],
    routes: Sequence[HostRoute],
    mtu: int,
    owner: Runtime,
) -> HostTap:
    with ExitStack() as resources:
        if namespace is not None:
            _enter(namespace, owner, resources)
        place = "this network namespace" if namespace is None else f"namespace {namespace}"
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        resources.callback(os.close, fd)
        try:
            request = struct.pack("16sH22x", device.encode(), _TUN_FLAGS)
            fcntl.ioctl(fd, _TUNSETIFF, request)
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HEADER_BYTES))
        except PermissionError:
            raise _permission_error(["the capability CAP_NET_ADMIN"], namespace) from None
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise UsageError(
                    f"a device {device} already exists in {place}: choose another name"
                ) from None
            raise UsageError(f"cannot make the device {device} in {place}: {error.strerror}") from None
        offloads = _set_offloads(fd)
        index = socket.if_nametoindex(device)
        _configure(device, index, place, addresses, routes, mtu)
        statistics = resources.enter_context(
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        )
        return HostTap(device, fd, index, offloads, statistics, resources.pop_all())


def _set_offloads(fd: int) -> tuple[str, ...]:
    """Take all that this kernel knows of, and say what that is."""
    for bits, names in _OFFLOADS.items():
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, bits)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return names
    return ()


def _enter(namespace: str, owner: Runtime, resources: ExitStack) -> None:
    """Put the calling thread into a namespace for good; make the namespace if there is none of this name."""
    from pyroute2 import netns  # type: ignore[import-untyped]  # costs 0.15 s: only for those who have a TAP

    path = NAMESPACES / namespace
    try:
        if path.exists():
            if owner.hold_namespace(namespace):
                resources.callback(owner.release_namespace, namespace)
            netns.setns(str(path), flags=0, libc=libc)
            return
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare failed")
        # While this is open the namespace keeps its identity, which the record needs before the name exists.
        with Path("/proc/thread-self/ns/net").open() as unnamed:
            owner.record_namespace(namespace, namespace_identity(os.fstat(unnamed.fileno())))
            resources.callback(owner.release_namespace, namespace)
            netns.attach(str(path), "thread-self", libc=libc)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise _permission_error([f"permission to use {path}"], namespace) from None
        if error.errno == errno.EINVAL:
            raise UsageError(
                f"{path} is no network namespace: remove it with `ip netns delete {namespace}`"
            ) from None
        raise UsageError(
            f"cannot use {path} as a network namespace: {os.strerror(error.errno or 0)}"
        ) from None


def _configure(
    device: str,
    index: int,
    place: str,
    addresses: Sequence[IPv4Interface],
    routes: Sequence[HostRoute],
    mtu: int,
) -> None:
    from pyroute2 import IPRoute, NetlinkError

    @contextmanager
    def step(what: str, **reasons: str) -> Iterator[None]:
        try:
            yield
        except NetlinkError as error:
            reason = reasons.get(errno.errorcode.get(error.code, ""), os.strerror(error.code))
            raise UsageError(f"tap {device}: cannot {what} in {place}: {reason}") from None

    with IPRoute() as netlink:
        with step(f"set the MTU to {mtu}", EINVAL="a TAP device takes 68 to 65521 bytes"):
            netlink.link("set", index=index, mtu=mtu, txqlen=_QUEUE_PACKETS)
        with step("turn IPv6 autoconfiguration off"):
            try:
                netlink.link("set", index=index, af_spec=_NO_IPV6_AUTOCONFIGURATION)
            except NetlinkError as error:
                if error.code != errno.EAFNOSUPPORT:  # a kernel without IPv6 is quiet anyway
                    raise
        in_use = {attributes.get("local") for attributes in netlink.get_addr(family=socket.AF_INET)}
        for address in addresses:
            if str(address.ip) in in_use:
                raise UsageError(f"tap {device}: the address {address.ip} is already in use in {place}")
            with step(f"add the address {address}", EEXIST="it is given twice"):
                netlink.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        for name in ("lo", device):
            with step(f"bring the device {name} up"):
                netlink.link("set", index=socket.if_nametoindex(name), state="up")
        for route in routes:
            through = {"scope": "link"} if route.via is None else {"gateway": str(route.via)}
            with step(
                f"add the route to {route.to}" + (f" via {route.via}" if route.via else ""),
                EEXIST="there is a route to it already",
                ENETUNREACH="the gateway is in none of the tap's subnets",
                EINVAL="the gateway is no host's address",
            ):
                netlink.route("add", dst=str(route.to), oif=index, **through)


def _permission_error(missing: Sequence[str], namespace: str | None) -> UsageError:
    container = f"--cap-add NET_ADMIN --device {TUN}"
    return permission_error("tap", "make a TAP device", missing, namespace, container)
