"""Where captures and events go on this machine: to a file, or to whoever reads a named pipe."""

import errno
import os
import select
import stat
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

KEPT_BYTES = 1 << 26
"""Kept for a reader that is slow, or still to come; what is beyond is lost."""
HOLD_BYTES = 1 << 22
"""With more than this kept, virtual time waits for the reader …"""
PATIENCE_S = 5.0
"""… for so long in real time, without a sign from it."""


class Sink(Protocol):
    """Where the bytes of a capture or of events go."""

    @property
    def is_full(self) -> bool:
        """Whether what comes is to be lost until there is room again."""

    def write(self, data: bytes) -> None:
        """Take some bytes. Raises OSError when it is over."""

    def close(self) -> None:
        """Take note that nothing comes any more. Raises OSError if not all could be given on."""


def open_sink(path: Path, *, is_virtual: bool) -> Sink:
    """Open a file or a named pipe to write to. Raises OSError if that is not allowed."""
    try:
        is_pipe = stat.S_ISFIFO(path.stat().st_mode)
    except FileNotFoundError:
        is_pipe = False
    return PipeSink(path, is_virtual=is_virtual) if is_pipe else FileSink(path)


class FileSink:
    """A file on this machine. What could not be written whole is taken back, so that the file can be read."""

    is_full = False

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._written = 0

    def write(self, data: bytes) -> None:
        """Write it all, or nothing of it."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with suppress(OSError):  # a device
                self._file.truncate(self._written)
            raise
        self._written += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PipeSink:
    """A named pipe. A thread of its own waits for the reader, who may come late, be slow, or leave."""

    def __init__(self, path: Path, *, is_virtual: bool) -> None:
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._is_virtual = is_virtual
        self._parts: deque[memoryview] = deque()
        self._kept = 0
        self._taken = 0
        """Bytes that the reader has taken; 0 until there is one."""
        self._stalled = False
        self._closing = False
        self._given_up = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._end_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._pipe_fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self._place = f"/proc/self/fd/{self._pipe_fd}"  # the pipe itself, whatever becomes of its name
        self._thread = threading.Thread(target=self._serve, name=f"manystack pipe {path}", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether what comes is to be lost until the reader has read."""
        return self._stalled or self._kept > KEPT_BYTES

    def write(self, data: bytes) -> None:
        """Keep some bytes for the reader."""
        with self._changed:
            self._parts.append(memoryview(data))
            self._kept += len(data)
            self._changed.notify_all()
            if self._is_virtual and not self._stalled:
                self._stalled = not self._wait_until_kept(HOLD_BYTES)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Let the reader have the rest, if it goes on reading.

        One that has not come is waited for in virtual time only: that may be over before it could.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if (self._taken or self._is_virtual) and not self._stalled:
                self._wait_until_kept(0)
            if self._parts and self._error is None:
                why = "its reader does not read" if self._taken else "nobody has read it"
                self._error = OSError(errno.ETIMEDOUT, why)
            self._given_up = bool(self._parts)
        if self._end_fd >= 0:
            os.eventfd_write(self._end_fd, 1)
            try:
                # A thread that still waits for a reader, or is about to, goes on when there is one.
                reader = os.open(self._place, os.O_RDONLY | os.O_NONBLOCK)
                self._thread.join()
                os.close(reader)
            except PermissionError:
                pass  # a pipe that may only be written to: the thread ends when a reader comes
            os.close(self._pipe_fd)
            os.close(self._end_fd)
            self._end_fd = -1
        if self._error is not None:
            raise self._error

    def _wait_until_kept(self, most_bytes: int) -> bool:
        """Wait as long as the reader goes on taking something; whether no more than so much is kept."""
        while self._kept > most_bytes and self._error is None:
            if not self._changed.wait(PATIENCE_S):
                return False
        return True

    def _serve(self) -> None:
        try:
            pipe = os.open(self._place, os.O_WRONLY)
        except OSError as error:
            self._fail(error)
            return
        os.set_blocking(pipe, False)
        try:
            while (part := self._following()) is not None:
                select.select([self._end_fd], [pipe], [])
                if self._given_up:
                    break
                self._took(os.write(pipe, part))
        except BrokenPipeError:
            self._fail(OSError(errno.EPIPE, "its reader has left"))
        except OSError as error:
            self._fail(error)
        finally:
            os.close(pipe)

    def _following(self) -> memoryview | None:
        """Wait for something to write; None when it is over."""
        with self._changed:
            while not self._parts:
                if self._closing:
                    return None
                self._changed.wait()
            return None if self._given_up else self._parts[0]

    def _took(self, count: int) -> None:
        with self._changed:
            self._taken += count
            self._kept -= count
            left = self._parts.popleft()[count:]
            if left:
                self._parts.appendleft(left)
            self._stalled = False
            self._changed.notify_all()

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self._error = error
            self._parts.clear()
            self._kept = 0
            self._changed.notify_all()
