"""Let an existing migrations folder use Flask-DBKit's environment."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from ..support.files import write_file, write_new_file
from .authoring import template_text
from .folder import Folder

__all__ = ["Replacement", "adopt", "plan_adoption"]

_SUFFIX = ".before-dbkit"
# In every script.py.mako of Flask-Migrate and of Alembic, and in those made from them by hand.
_STOCK_MARKS = ("${upgrades if upgrades else", "bind_names = []")


@dataclass(frozen=True)
class Replacement:
    """A file that is to be written anew.

    Attributes:
        path: The file.
        before: Its text.
        after: What it will be.
    """

    path: Path
    before: str
    after: str

    def diff(self) -> str:
        """Return the difference as ``diff -u`` would."""
        return "".join(
            difflib.unified_diff(
                self.before.splitlines(keepends=True),
                self.after.splitlines(keepends=True),
                f"{self.path} (now)",
                f"{self.path} (adopted)",
            )
        )


def plan_adoption(folder: Folder) -> list[Replacement]:
    """Return what :func:`adopt` would change; nothing when the folder is adopted already.

    ``env.py`` is replaced unless it calls ``run_env``; ``script.py.mako`` if it is one of
    Flask-Migrate's. Revisions and ``alembic.ini`` stay as they are.
    """
    folder.config()  # says it when there is none
    planned = []
    if not folder.is_adopted:
        planned.append(
            Replacement(folder.path / "env.py", folder.environment, template_text("env.py"))
        )
    mako = folder.path / "script.py.mako"
    if mako.is_file():
        text = mako.read_text(encoding="utf-8")
        if any(mark in text for mark in _STOCK_MARKS):
            planned.append(Replacement(mako, text, template_text("script.py.mako")))
    return planned


def adopt(planned: list[Replacement]) -> list[Path]:
    """Write the files anew, and keep the old ones beside them.

    Returns:
        The copies of the old files.
    """
    copies = []
    for replacement in planned:
        copies.append(_keep(replacement))
        write_file(replacement.path, replacement.after.encode())
    return copies


def _keep(replacement: Replacement) -> Path:
    path, number = replacement.path, 1
    copy = path.with_name(path.name + _SUFFIX)
    while True:
        try:
            write_new_file(copy, replacement.before.encode())
        except FileExistsError:
            number += 1
            copy = path.with_name(f"{path.name}{_SUFFIX}-{number}")
        else:
            return copy
