"""Read the revisions of a folder, also when some of them cannot be read.

Alembic reads all or none. So a file that cannot be loaded is replaced by a stub, in a copy of the
folder, which keeps its place in the chain; the others are linted, and the file is a finding.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ..folder import Folder

__all__ = ["Revisions", "readable_revisions"]

_ASSIGNED = re.compile(r"(?:revision|down_revision)\b")
_STUB = """
branch_labels = depends_on = None
def upgrade(): pass
def downgrade(): pass
"""


@dataclass(frozen=True)
class Revisions:
    """The revisions of a folder.

    Attributes:
        script: Those that can be read, and stubs in the places of the others.
        broken: Why a file cannot be read, by its path.
        originals: The file of a folder by the path of its copy.
    """

    script: ScriptDirectory
    broken: dict[Path, str] = field(default_factory=dict)
    originals: dict[Path, Path] = field(default_factory=dict)

    def original(self, path: Path) -> Path:
        """Return the file of the folder that a path of the script directory stands for."""
        return self.originals.get(path, path)


@contextmanager
def readable_revisions(folder: Folder) -> Iterator[Revisions]:
    """Yield the revisions of a folder."""
    try:
        script = folder.script()
        script.get_heads()  # reads them
    except Exception:
        broken = _broken_files(folder)
        if not broken:
            raise
        with tempfile.TemporaryDirectory(prefix="dbkit-lint-") as copy:
            yield _with_stubs(folder, broken, Path(copy))
        return
    yield Revisions(script)


def _files(folder: Folder) -> list[Path]:
    try:
        places = ScriptDirectory.from_config(folder.config())._version_locations  # noqa: SLF001
    except (AttributeError, CommandError):
        places = [folder.path / "versions"]
    return sorted(file for place in places for file in Path(place).glob("*.py"))


def _broken_files(folder: Folder) -> dict[Path, str]:
    broken = {}
    for path in _files(folder):
        spec = importlib.util.spec_from_file_location(f"dbkit_lint_{path.stem}", path)
        assert spec is not None and spec.loader is not None, "it ends with .py"  # noqa: PT018
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except Exception as error:
            broken[path] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return broken


def _with_stubs(folder: Folder, broken: dict[Path, str], copy: Path) -> Revisions:
    originals = {}
    for path in _files(folder):
        target = copy / path.name
        originals[target] = path
        if path in broken:
            text = path.read_text(encoding="utf-8", errors="replace")
            target.write_text(f"{_place_in_chain(text)}\n{_STUB}", encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    script = ScriptDirectory(str(folder.path), version_locations=[str(copy)])
    script.get_heads()
    return Revisions(script, broken, originals)


def _place_in_chain(text: str) -> str:
    """Return the statements that say which revision a file is, and which one it follows."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return "\n".join(line for line in text.splitlines() if _ASSIGNED.match(line))
    kept = (node for node in body if isinstance(node, (ast.Assign, ast.AnnAssign)))
    return "\n".join(
        text for node in kept if _ASSIGNED.match(text := ast.unparse(node).lstrip("("))
    )
