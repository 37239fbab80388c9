"""What a running network owns on this machine, and how the next start reclaims what a killed one left.

Each running network has a private directory, named after it, with its control socket, its lifeline and its
owner record. The lifeline is a named pipe that the owner has open and locked (flock(2)) for as long as it
lives; the kernel lets go of it at once, however the process ends. The lock tells the truth in every PID
namespace, where a process id would mean another process or none, and the pipe's end is what clients wait for.
The record holds the process id, to be shown, and the namespaces that the network made. A namespace is
recorded before it gets its name, and by an identity that no other namespace has. So a crash leaves nothing
that is not on record, and a namespace that a user made under the same name is never touched. TAP devices need
no record: they are not persistent, and the kernel removes them with their descriptor.

Claims and removals are serialised by a lock on the directory that holds all of these.
"""

import ctypes
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from manystack.errors import UsageError
from manystack.host.namespaces import NAMESPACES, Identity, libc, namespace_identity

ROOT_DIRECTORY = Path("/run/manystack")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RECORD = "owner.json"
_LIFELINE = "lifeline"
_SOCKET = "control"
_SOCKET_PATH_BYTES = 107  # sun_path less its terminating zero, unix(7)
_MNT_DETACH = 2


@dataclass(frozen=True)
class RunningNetwork:
    """A network that runs now: its name, its process, and where that process takes control messages.

    The process id is the one in the PID namespace that the network was started in.
    """

    name: str
    pid: int
    control_endpoint: str

    def open_lifeline(self) -> int | None:
        """Return a descriptor that select(2) and poll(2) tell of once the network has ended; None if it has.

        The caller closes it.
        """
        directory = Path(self.control_endpoint.removeprefix("ipc://")).parent
        lifeline = _open_lifeline(directory)
        if lifeline is not None and not _is_held(lifeline):
            os.close(lifeline)
            return None
        return lifeline


class Runtime:
    """The private directory of a network that runs in this process, and the namespaces it owns.

    Making one first reclaims what dead networks left. Raises UsageError if a network of this name is running,
    if the name cannot be that of a directory and a socket, or if there is no place for private directories.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"'{name}' cannot name a network: use letters, digits, '-', '_' and '.'")
        self.name = name
        self._namespace_uses: Counter[str] = Counter()
        with _locked_base() as base:
            self.directory = base / name
            excess = len(os.fsencode(self.directory / _SOCKET)) - _SOCKET_PATH_BYTES
            if excess > 0:
                raise UsageError(
                    f"the network name '{name}' is {excess} bytes too long for a control socket in {base}"
                )
            _reclaim(base)
            try:
                self.directory.mkdir(mode=0o700)
            except FileExistsError:
                raise _taken(self.directory) from None
            self._lifeline = _hold_lifeline(self.directory)
            self._is_open = True
            _open_here.add(self)
            self._record = _Record(os.getpid())
            try:
                self._record.write(self.directory)
            except BaseException:
                self.let_go()
                raise

    @property
    def control_endpoint(self) -> str:
        """The ZeroMQ endpoint of the control socket, at most 107 bytes of path."""
        return f"ipc://{self.directory / _SOCKET}"

    def record_namespace(self, name: str, identity: Identity) -> None:
        """Own the namespace with this identity, which is about to be named, and hold it once."""
        self._record.namespaces[name] = identity
        self._record.write(self.directory)
        self._namespace_uses[name] += 1

    def hold_namespace(self, name: str) -> bool:
        """Hold a namespace once more if this network made it; False if it is somebody else's."""
        if name not in self._record.namespaces:
            return False
        self._namespace_uses[name] += 1
        return True

    def release_namespace(self, name: str) -> None:
        """Undo one hold of a namespace; the last one removes it."""
        if not self._is_open:
            return
        self._namespace_uses[name] -= 1
        if self._namespace_uses[name] == 0:
            _remove_namespace(name, self._record.namespaces[name])
            del self._record.namespaces[name]
            self._record.write(self.directory)

    def close(self) -> None:
        """Remove the directory and the namespaces still held. Closing twice does no harm."""
        if self._is_open:
            with _locked_base():
                _remove(self.directory)
            self.let_go()

    def let_go(self) -> None:
        """Be no longer the owner, and leave all as it is, as a crash does."""
        self._is_open = False
        _open_here.remove(self)
        os.close(self._lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_open_here: set[Runtime] = set()


def _let_go_of_all() -> None:
    """A fork has the parent's descriptors, but owns nothing: what the parent has must end with the parent."""
    for network in tuple(_open_here):
        network.let_go()


os.register_at_fork(after_in_child=_let_go_of_all)


def reclaim_dead() -> list[str]:
    """Remove what networks of dead processes left: their namespaces and directories. Returns their names.

    What this process has no permission to remove stays recorded, for a start that has it.
    """
    with _locked_base() as base:
        return _reclaim(base)


def running() -> list[RunningNetwork]:
    """List this user's running networks, in the order of their names."""
    networks = []
    for directory in sorted(_base_directory().iterdir()):
        # In this order: a record that is there when the lifeline was held is that of a living owner.
        if _is_alive(directory) and (record := _Record.read(directory)) is not None:
            networks.append(RunningNetwork(directory.name, record.pid, f"ipc://{directory / _SOCKET}"))
    return networks


@dataclass
class _Record:
    """Who owns a directory, and what else they own."""

    pid: int
    namespaces: dict[str, Identity] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "_Record | None":
        """None if there is no record: the owner was killed before it could write one."""
        try:
            document = json.loads((directory / _RECORD).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        namespaces = {name: tuple(identity) for name, identity in document["namespaces"].items()}
        return cls(document["pid"], namespaces)

    def write(self, directory: Path) -> None:
        """Replace the record in one step, so that readers and a crash see the old one or the new one."""
        draft = directory / f"{_RECORD}.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(directory / _RECORD)


def _hold_lifeline(directory: Path) -> int:
    """Make a lifeline, and hold it until its descriptor is closed. Programs that it starts do not have it."""
    path = directory / _LIFELINE
    os.mkfifo(path, mode=0o600)
    # For reading as well, since without a reader a pipe does not open.
    lifeline = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.flock(lifeline, fcntl.LOCK_EX)  # waits, if at all, for somebody who looks whether it is held
    return lifeline


def _open_lifeline(directory: Path) -> int | None:
    """Open a lifeline to look at it; None if there is none: the owner was killed before it could make one."""
    try:
        return os.open(directory / _LIFELINE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_held(lifeline: int) -> bool:
    try:
        fcntl.flock(lifeline, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_alive(directory: Path) -> bool:
    """Whether the owner of a directory lives, in this PID namespace or another."""
    lifeline = _open_lifeline(directory)
    if lifeline is None:
        return False
    try:
        return _is_held(lifeline)
    finally:
        os.close(lifeline)


def _base_directory() -> Path:
    """The directory, of this user alone, that holds the directories of their networks."""
    user = os.geteuid()
    candidates = [ROOT_DIRECTORY] if user == 0 else []
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if session.startswith("/"):
        candidates.append(Path(session) / "manystack")
    candidates.append(Path(tempfile.gettempdir()) / f"manystack-{user}")
    refusals = []
    for candidate in candidates:
        try:
            candidate.mkdir(mode=0o700, exist_ok=True)
            status = candidate.lstat()
        except OSError as error:
            refusals.append(f"{candidate}: {error.strerror}")
            continue
        if not stat.S_ISDIR(status.st_mode):
            refusals.append(f"{candidate} is not a directory")
        elif status.st_uid != user:
            refusals.append(f"{candidate} belongs to user {status.st_uid}")
        elif status.st_mode & 0o077:
            refusals.append(f"{candidate} is open to other users (`chmod 700 {candidate}`)")
        else:
            return candidate
    raise UsageError(f"no private directory for running networks: {'; '.join(refusals)}")


@contextmanager
def _locked_base() -> Iterator[Path]:
    base = _base_directory()
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield base
    finally:
        os.close(descriptor)


def _taken(directory: Path) -> UsageError:
    """Say why a network's directory is there although reclaiming has just been tried."""
    record = _Record.read(directory)
    if record is not None and _is_alive(directory):
        return UsageError(
            f"network '{directory.name}' is already running as process {record.pid}: start this one under "
            f"another --name, or stop that one with `emu stop --name {directory.name}`"
        )
    return UsageError(
        f"what the killed network '{directory.name}' left in {directory} cannot be removed: try as root"
    )


def _reclaim(base: Path) -> list[str]:
    reclaimed = []
    for directory in sorted(base.iterdir()):
        if not _is_alive(directory):
            with suppress(PermissionError):
                _remove(directory)
                reclaimed.append(directory.name)
    return reclaimed


def _remove(directory: Path) -> None:
    record = _Record.read(directory)
    if record is not None:
        for name, identity in record.namespaces.items():
            _remove_namespace(name, identity)
    shutil.rmtree(directory)


def _remove_namespace(name: str, identity: Identity) -> None:
    """Remove a namespace's name, unless the name has come to mean another namespace."""
    path = NAMESPACES / name
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if namespace_identity(status) == identity:
        if libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
        path.unlink()
    elif status.st_dev == NAMESPACES.stat().st_dev and status.st_size == 0:
        path.unlink()  # a mount point without its mount: the owner was killed between the two
