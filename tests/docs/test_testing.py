"""The page on testing shows what was run."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from tests.docs.pages import SNIPPETS
from tests.support.warm_python import WarmPython


def test_the_tests_on_the_page_pass(warm_python: WarmPython, tmp_path: Path) -> None:
    """Those with factory-boy where it is installed: it is in the group ``tests``."""
    folder = tmp_path / "shop"
    shutil.copytree(SNIPPETS / "testing", folder, ignore=shutil.ignore_patterns("__pycache__"))
    if find_spec("factory") is None:
        (folder / "test_factories.py").unlink()
    done = warm_python.run(
        ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"], folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{7 if find_spec('factory') else 6} passed" in done.stdout
