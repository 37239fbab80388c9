"""The workbench of the tests with real hosts."""

import sys
from pathlib import Path

# Test files are imported by path, so the module that they share needs a place to be found.
sys.path.append(str(Path(__file__).parent))
