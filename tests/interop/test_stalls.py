"""The verdict is true by the kernel's own time stamps, with stalls from outside and without."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from stamps import MILLISECOND, SECOND, Plan, Run, carry_out, make_plan

RUNS = 60
KINDS = list(product((0, 4, 20, 100, 300), (0, 10), (2000, 200)))
"""Lengths of the stalls in ms (0: none), delays of the link in ms, and frames a second.

With fewer frames, what a short stall makes late is one at the device and one on the link: too few to be told.
"""
HOGS = 4
WITHOUT_PRIORITY = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")


def plan_of(seed: int, seconds: int) -> Plan:
    """Plan a run: of each kind by turns, and with both kinds of devices by turns."""
    stall_ms, delay_ms, rate = KINDS[seed % len(KINDS)]
    return make_plan(
        seed,
        device=("tap", "nic")[(seed + seed // len(KINDS)) % 2],
        delay_ms=delay_ms,
        frames_per_second=rate,
        stall_ms=stall_ms,
        seconds=seconds,
    )


def check(run: Run) -> None:
    """The verdict names each second in which many were late, and none in which few were; nothing is early."""
    assert run.must_show() <= run.touched(), (run.shares(), run.intervals)
    assert not run.must_not_show() & run.named(), (run.shares(), run.intervals)
    assert min(received_ns - sent_ns for sent_ns, received_ns in run.frames) >= run.delay_ns


def check_plan(plan: Plan, base: Path) -> None:
    run = carry_out(plan, base)
    check(run)
    assert run.must_show() or not plan.stalls


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("seed", [4, 7, 14, 20, 29, 37])
def test_the_verdict_is_true_by_the_kernels_time_stamps(seed: int, tmp_path: Path) -> None:
    check_plan(plan_of(seed, seconds=2), tmp_path)


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(RUNS))
def test_the_verdict_is_true_over_many_runs(seed: int, tmp_path: Path) -> None:
    check_plan(plan_of(seed, seconds=4), tmp_path)


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.parametrize("rate", [2000, 8000])
def test_nothing_is_early_where_others_take_the_cpus(rate: int, tmp_path: Path) -> None:
    plan = make_plan(1, device="tap", delay_ms=10, frames_per_second=rate, stall_ms=0, seconds=3)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
    try:
        check(carry_out(plan, tmp_path, *WITHOUT_PRIORITY))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


# The judge itself.


def test_a_plan_has_stalls_that_do_not_meet() -> None:
    for seed in range(RUNS):
        plan = plan_of(seed, seconds=4)
        assert bool(plan.stalls) == bool(KINDS[seed % len(KINDS)][0])
        ends_ns = [0, *(at_ns + length_ns for at_ns, length_ns in plan.stalls)]
        assert all(at_ns >= end_ns for end_ns, (at_ns, _) in zip(ends_ns, plan.stalls, strict=False))
        assert ends_ns[-1] < plan.lasts_ns


def test_a_second_is_judged_by_the_share_of_its_frames_that_came_late() -> None:
    """A hundred frames a second over 10 ms; of second 1 five, of second 2 none, of second 3 one is late."""
    late_ns = 5 * MILLISECOND
    frames = []
    for number in range(400):
        sent_ns = number * SECOND // 100
        extra_ns = late_ns if number in (120, 121, 122, 123, 124, 350) else MILLISECOND
        frames.append((sent_ns, sent_ns + 10 * MILLISECOND + extra_ns))
    run = Run(10 * MILLISECOND, frames, [(950 * MILLISECOND, 2 * SECOND), (2 * SECOND, 3 * SECOND)])
    assert run.must_show() == {1}
    assert run.must_not_show() == {0, 2}
    assert run.named() == {1, 2}
    assert run.touched() == {0, 1, 2}
    with pytest.raises(AssertionError):
        check(run)
    check(Run(10 * MILLISECOND, frames, run.intervals[:1]))
    with pytest.raises(AssertionError):
        check(Run(10 * MILLISECOND, frames, []))
    with pytest.raises(AssertionError):
        check(Run(10 * MILLISECOND, [*frames, (4 * SECOND, 4 * SECOND)], run.intervals[:1]))
