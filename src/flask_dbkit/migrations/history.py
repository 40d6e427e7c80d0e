"""Which revisions were applied in which form, and which are new to git."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from alembic.script import ScriptDirectory

from ..support.files import read_file, write_file
from .exceptions import MigrationError
from .folder import Folder

__all__ = ["AppliedRevisions", "changed_since"]

_NAME = "dbkit-migrations.json"


class AppliedRevisions:
    """The form in which revisions were applied here, in a file of the instance folder.

    Args:
        path: The file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = dict(json.loads(read_file(path)))

    @classmethod
    def of(cls, folder: Folder) -> AppliedRevisions:
        """Return those of the application that a folder belongs to."""
        return cls(folder.instance_path / _NAME)

    def note(self, script: ScriptDirectory, revisions: Iterable[str]) -> None:
        """Remember the form of revisions that were just applied, where that is possible."""
        fresh = {one: _digest_of(script, one) for one in revisions}
        if not fresh:
            return
        self._known |= fresh
        # It helps a developer; a server whose folder is read-only does without.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._known, indent=2, sort_keys=True)
            write_file(self._path, text.encode())

    def was_edited(self, revision: str, text: str) -> bool:
        """Tell whether a revision was applied here in another form.

        Comments and formatting make no difference.
        """
        known = self._known.get(revision)
        return known is not None and known != _digest(text)


def _digest_of(script: ScriptDirectory, revision: str) -> str:
    found = script.get_revision(revision)
    return _digest(Path(found.path).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    return hashlib.sha256(ast.dump(ast.parse(text)).encode()).hexdigest()


def changed_since(folder: Folder, commit: str) -> set[str]:
    """Return the paths of revisions that were added or changed after a commit.

    Args:
        folder: In a repository of git.
        commit: As git takes it. What came after the last common ancestor counts.

    Raises:
        MigrationError: There is no git, no repository, or no such commit.
    """
    git = shutil.which("git")
    if git is None:
        raise MigrationError(f"--since {commit} is no revision of the folder, and there is no git.")

    def ask(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - a program found by us, and no shell
            [git, "-C", str(folder.path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise MigrationError(
                f"--since {commit} is neither a revision of the folder {folder.path} nor a commit"
                f" of its repository: {' '.join(done.stderr.split())}"
            )
        return done.stdout

    top = Path(ask("rev-parse", "--show-toplevel").strip())
    base = ask("merge-base", "--end-of-options", commit, "HEAD").strip()
    changed = ask("diff", "--name-only", "-z", base, "--", ".").split("\0")
    fresh = ask("ls-files", "--others", "--exclude-standard", "--full-name", "-z", ".").split("\0")
    return {str(top / name) for name in [*changed, *fresh] if name}
