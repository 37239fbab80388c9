"""The path of a packet takes no more instructions than it took when the baseline was made."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.root
@pytest.mark.slow
def test_a_hop_takes_no_more_instructions_than_the_baseline() -> None:
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-m", "bench.instructions"], cwd=root, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
