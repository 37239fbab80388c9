"""Network namespaces: where their names are, and what tells one from another."""

import ctypes
import os
from pathlib import Path

NAMESPACES = Path("/run/netns")
"""Where a namespace that has a name has it: see ip-netns(8)."""
CLONE_NEWNET = 0x40000000
"""What tells unshare(2) and setns(2) that a network namespace is meant."""

Identity = tuple[int, int, int]

libc = ctypes.CDLL(None, use_errno=True)


def namespace_identity(status: os.stat_result) -> Identity:
    """Tell a network namespace from every other by the stat of one of its files.

    Inode numbers are reused at once when a namespace dies; the time the inode was made is not.
    """
    return status.st_dev, status.st_ino, status.st_ctime_ns
