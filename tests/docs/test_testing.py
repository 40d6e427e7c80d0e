"""The page on testing shows what was run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.docs.pages import ROOT, SNIPPETS


def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    """Those with factory-boy where it is installed: it is in the group ``tests``."""
    folder = tmp_path / "shop"
    shutil.copytree(SNIPPETS / "testing", folder, ignore=shutil.ignore_patterns("__pycache__"))
    if find_spec("factory") is None:
        (folder / "test_factories.py").unlink()
    kept = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{7 if find_spec('factory') else 6} passed" in done.stdout
