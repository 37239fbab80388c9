"""The workbench of the engine's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Test files are imported by path, so the module that they share needs a place to be found.
sys.path.append(str(Path(__file__).parent))

from lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An engine that must have given back every packet when the test is over."""
    lab = Lab()
    yield lab
    lab.close()
