"""The workbench of the tests of captures serves those of the control socket as well."""

import sys
from pathlib import Path

# Test files are imported by path, so the module that they share needs a place to be found.
sys.path.append(str(Path(__file__).parents[1] / "record"))
