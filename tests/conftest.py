"""What holds for every test: which engine is tested, who may run it, and that a skip is a failure in CI."""

import ctypes
import errno
import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
LEFT_OUT = pytest.StashKey[int]()
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # unshare(2)
# Where named network namespaces are, and the directories of running networks.
NAMED_NAMESPACES, RUNNING_NETWORKS = Path("/run/netns"), Path("/run/manystack")


def isolate() -> None:
    """Give this process network devices, named namespaces and running networks of its own, where it may.

    So workers run side by side tests that make devices of the same names, and nothing that a test leaves
    behind outlives its worker. /sys is mounted anew, since it shows the devices of who mounted it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        if ctypes.get_errno() == errno.EPERM:  # a container's root, which may run no test for root either
            return
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
    commands = [["mount", "--make-rprivate", "/"], ["mount", "-t", "sysfs", "sysfs", "/sys"]]
    for place in (NAMED_NAMESPACES, RUNNING_NETWORKS):
        place.mkdir(mode=0o700, exist_ok=True)
        commands.append(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(place)])
    for command in [*commands, ["ip", "link", "set", "lo", "up"]]:
        subprocess.run(command, check=True)


def engine_path() -> Path | None:
    """The compiled engine that the tests import, None before it has been built."""
    try:
        from manystack.core import _switch
    except ImportError:
        return None
    return Path(_switch.__file__).resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", type=Path, help="the folder that the compiled engine must have come from")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds, left out by make quick")
    config.addinivalue_line("markers", "soak: takes minutes, run by make soak only")
    config.addinivalue_line("markers", "alone: measures the machine, so nothing else may run beside it")
    if os.geteuid() == 0:
        isolate()


def pytest_report_header() -> str:
    return f"engine: {engine_path() or 'not built'}"


def pytest_sessionstart(session: pytest.Session) -> None:
    wanted: Path | None = session.config.getoption("--engine")
    if wanted is None:
        return
    path = engine_path()
    if path is None or wanted.resolve() not in path.parents:
        pytest.exit(f"the engine under test is {path}, not one from {wanted}", pytest.ExitCode.USAGE_ERROR)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    # Long ones first: no worker is to begin one when the others are done.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if os.geteuid() == 0:
        return
    for_root = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if not item.get_closest_marker("root")]
    config.hook.pytest_deselected(items=for_root)
    config.stash[LEFT_OUT] = len(for_root)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of xdist tells when it ends: each has collected all tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"not run, because they need root: {left_out} tests", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return without_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return without_skips((yield))


def without_skips(report: Report) -> Report:
    """In CI nothing may be passed over: a skip becomes a failure. An expected failure stays what it is."""
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"{reason} (in CI a skipped test is a failure)"
    return report
