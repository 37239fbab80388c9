"""Where the commands begin, before what takes time to import: from here on Ctrl-C is quiet."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from manystack.errors import INTERRUPTED


def emu_run() -> None:
    """Be `emu-run`."""
    with _ended_by_interrupt():
        from manystack.commands.run import main
    main()


def emu() -> None:
    """Be `emu`."""
    with _ended_by_interrupt():
        from manystack.commands.emu import main
    main()


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once: nothing has been made yet, and imports may lose an exception."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and not ignored, as nohup leaves it
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    yield
    signal.signal(signal.SIGINT, before)
