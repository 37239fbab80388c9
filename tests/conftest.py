"""What holds for every test: which engine is tested, who may run it, and that a skip is a failure in CI."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
LEFT_OUT = pytest.StashKey[int]()
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


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
    if os.geteuid() == 0:
        return
    for_root = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if not item.get_closest_marker("root")]
    config.hook.pytest_deselected(items=for_root)
    config.stash[LEFT_OUT] = len(for_root)


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
