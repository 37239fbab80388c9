"""Network devices that are there already: a real card, or one end of a veth, bridged to the emulated network.

`open_nic` opens a packet socket (packet(7)) on the device, in its network namespace. The device is put into
promiscuous mode by the socket, not by a flag: the kernel undoes that when the socket closes, however the
process ends. Nothing else of the device is changed.
"""

import ctypes
import difflib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from manystack.errors import UsageError
from manystack.host.namespaces import CLONE_NEWNET, NAMESPACES, Identity, libc, namespace_identity
from manystack.host.permissions import CAP_NET_RAW, CAP_SYS_ADMIN, has_capability, permission_error

# linux/if_packet.h. Without copies of what leaves, a frame that the engine sends does not come back to it.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 1, 1
_PACKET_STATISTICS, _PACKET_AUXDATA, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 6, 8, 15, 23
_ETH_P_ALL = 0x0003
_MEMBERSHIP = struct.Struct("=iHH8x")
_STATISTICS = struct.Struct("=II")

# Beyond the system's limits; what falls short of the receive buffer is counted by drops(). The kernel counts
# its own structures in, about 2.3 kB for a full frame.
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_RECEIVE_BYTES = 16 << 20
_SEND_BYTES = 4 << 20

_SIOCGIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8927
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_ARPHRD_ETHER = 1


class HostNic:
    """A packet socket on a network device.

    `fd` gives and takes Ethernet frames, a 10-byte virtio header before each, and does not block; VLAN tags
    come in auxiliary data. `identity` is the same for two sockets on one device, whatever it was called.
    """

    def __init__(
        self, device: str, packets: socket.socket, identity: tuple[Identity, int], resources: ExitStack
    ) -> None:
        self.device = device
        self.fd = packets.fileno()
        self.identity = identity
        self._packets = packets
        self._drops = 0
        self._resources = resources

    def drops(self) -> int:
        """Frames that were lost because the engine did not take them in time. Costs a microsecond."""
        # The kernel starts anew with each look.
        answer = self._packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self._drops += _STATISTICS.unpack(answer)[1]
        return self._drops

    def close(self) -> None:
        """Let go of the device, which is as it was before. Twice does no harm."""
        self._resources.close()


def open_nic(device: str, namespace: str | None) -> HostNic:
    """Open the existing network device `device` of `namespace`, or of the process's own.

    Raises UsageError if there is no such device, if it is down or is no Ethernet device, and if it is not
    permitted; nothing is left then.
    """
    with ThreadPoolExecutor(max_workers=1) as visitor:  # a thread that ends in the namespace: see tap.py
        return visitor.submit(_open, device, namespace).result()


def _open(device: str, namespace: str | None) -> HostNic:
    if namespace is not None:
        _enter(device, namespace)
    place = "this network namespace" if namespace is None else f"namespace {namespace}"
    with ExitStack() as resources:
        try:
            # Without a protocol it hears nothing before it is bound to the device.
            packets = resources.enter_context(
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            )
        except PermissionError:
            raise _permission_error(namespace) from None
        index = _check(packets, device, place)
        try:
            _set_options(packets, index)
            packets.bind((device, _ETH_P_ALL))
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                raise UsageError(f"nic {device}: this kernel is too old: Linux 4.20 is needed") from None
            raise UsageError(f"nic {device}: cannot use it in {place}: {error.strerror}") from None
        with Path("/proc/thread-self/ns/net").open() as own:
            identity = namespace_identity(os.fstat(own.fileno())), index
        return HostNic(device, packets, identity, resources.pop_all())


def _set_options(packets: socket.socket, index: int) -> None:
    packets.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    packets.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    membership = _MEMBERSHIP.pack(index, _PACKET_MR_PROMISC, 0)
    packets.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    # The kernel's queue discipline is not bypassed: that way it refuses frames that it must segment itself.
    for forced, allowed, size in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVE_BYTES),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BYTES),
    ):
        try:
            packets.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:  # without CAP_NET_ADMIN as much as the system allows to everybody
            packets.setsockopt(socket.SOL_SOCKET, allowed, size)


def _check(packets: socket.socket, device: str, place: str) -> int:
    """Return the device's index, if it is one that can be bridged."""
    try:
        index = socket.if_nametoindex(device)
    except OSError:
        known = [name for _, name in socket.if_nameindex()]
        raise UsageError(f"nic {device}: no such device in {place}{_similar(device, known)}") from None
    request = struct.pack("16s24x", device.encode())
    (flags,) = struct.unpack_from("=H", fcntl.ioctl(packets, _SIOCGIFFLAGS, request), 16)
    (hardware,) = struct.unpack_from("=H", fcntl.ioctl(packets, _SIOCGIFHWADDR, request), 16)
    if flags & _IFF_LOOPBACK:
        raise UsageError(f"nic {device}: the loopback device in {place} leads nowhere: name another")
    if hardware != _ARPHRD_ETHER:
        raise UsageError(f"nic {device}: this device in {place} carries no Ethernet frames")
    if not flags & _IFF_UP:
        raise UsageError(f"nic {device}: the device is down in {place}: `ip link set {device} up` first")
    return index


def _enter(device: str, namespace: str) -> None:
    """Put the calling thread into a namespace for good."""
    path = NAMESPACES / namespace
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        known = [entry.name for entry in NAMESPACES.iterdir()] if NAMESPACES.exists() else []
        hint = _similar(namespace, known)
        raise UsageError(f"nic {device}: there is no network namespace {namespace}{hint}") from None
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            if ctypes.get_errno() == errno.EPERM:
                raise _permission_error(namespace)
            raise UsageError(f"nic {device}: {path} is no network namespace")
    finally:
        os.close(handle)


def _permission_error(namespace: str | None) -> UsageError:
    wanted = {"CAP_NET_RAW": CAP_NET_RAW} | ({} if namespace is None else {"CAP_SYS_ADMIN": CAP_SYS_ADMIN})
    missing = [f"the capability {name}" for name, number in wanted.items() if not has_capability(number)]
    if not missing:  # they hold in a user namespace, which the device's namespace is not part of
        missing = ["a capability outside this user namespace"]
    return permission_error("nic", "use a network device", missing, namespace, "--cap-add NET_RAW")


def _similar(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
