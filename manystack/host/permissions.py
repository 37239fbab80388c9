"""What this process may do, and how to say what it may not."""

from collections.abc import Sequence
from pathlib import Path

from manystack.errors import UsageError
from manystack.host.namespaces import NAMESPACES

CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN = 12, 13, 21
"""Numbers of capabilities: linux/capability.h."""


def has_capability(number: int) -> bool:
    """Whether the calling thread has a capability (capabilities(7)) in its user namespace."""
    status = Path("/proc/thread-self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


def permission_error(
    kind: str, what: str, missing: Sequence[str], namespace: str | None, container: str
) -> UsageError:
    """Say what a node of this kind may not do, what is missing, and how to get it."""
    advice = "run as root, for instance with `sudo`"
    if namespace is None:
        advice += ", or inside `unshare -Urn`"
    else:
        advice += (
            f" (inside `unshare -Urn` only a {kind} without `namespace` works: {NAMESPACES} is the system's)"
        )
    advice += f"; a container needs `{container}`"
    if namespace is not None:
        advice += " and `--cap-add SYS_ADMIN`"
    restriction = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restriction.exists() and restriction.read_text().strip() == "1":
        advice += (
            "; this system lets `unshare -Urn` by ordinary users have no capabilities "
            "(kernel.apparmor_restrict_unprivileged_userns = 1, as Ubuntu 24.04 does)"
        )
    return UsageError(f"no permission to {what}, what is missing is {' and '.join(missing)}: {advice}")
