"""What a running network owns on this machine, and how the next start reclaims what a killed one left.

Each running network has a private directory, named after it, with its control socket and its owner record:
the process (id, start time and boot, so that a reused id is not taken for it) and the namespaces that it
made. A namespace is recorded before it gets its name, and by an identity that no other namespace has. So a
crash leaves nothing that is not on record, and a namespace that a user made under the same name is never
touched. TAP devices need no record: they are not persistent, and the kernel removes them with their
descriptor.

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
_SOCKET = "control"
_SOCKET_PATH_BYTES = 107  # sun_path less its terminating zero, unix(7)
_MNT_DETACH = 2


@dataclass(frozen=True)
class RunningNetwork:
    """A network that runs now: its name, its process, and where that process takes control messages."""

    name: str
    pid: int
    control_endpoint: str


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
            self._record = _Record.of_this_process()
            self._record.write(self.directory)
        self._is_open = True

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
            self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        record = _Record.read(directory)
        if record is not None and record.is_alive():
            networks.append(RunningNetwork(directory.name, record.pid, f"ipc://{directory / _SOCKET}"))
    return networks


@dataclass
class _Record:
    """Who owns a directory, and what else they own."""

    pid: int
    start_ticks: int
    boot: str
    namespaces: dict[str, Identity] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls) -> "_Record":
        start_ticks = _start_ticks(os.getpid())
        assert start_ticks is not None, "a running process has a start time"
        return cls(os.getpid(), start_ticks, _boot())

    @classmethod
    def read(cls, directory: Path) -> "_Record | None":
        """None if there is no record: the owner was killed before it could write one."""
        try:
            document = json.loads((directory / _RECORD).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        document["namespaces"] = {name: tuple(identity) for name, identity in document["namespaces"].items()}
        return cls(**document)

    def write(self, directory: Path) -> None:
        """Replace the record in one step, so that readers and a crash see the old one or the new one."""
        draft = directory / f"{_RECORD}.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(directory / _RECORD)

    def is_alive(self) -> bool:
        return self.boot == _boot() and self.start_ticks == _start_ticks(self.pid)


def _boot() -> str:
    """Start times count from the boot, and the directories may outlive it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot (proc(5)); None if no such process runs."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command's name may hold blanks and brackets
    state, threads, start_ticks = fields[0], int(fields[17]), int(fields[19])
    # A zombie has let go of its descriptors, and so of its devices, once its last other thread is gone.
    return None if state in "ZX" and threads <= 1 else start_ticks


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
    if record is not None and record.is_alive():
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
        record = _Record.read(directory)
        if record is None or not record.is_alive():
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
