"""Tests of the example applications, which are programs and no installed packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "atlas"))
