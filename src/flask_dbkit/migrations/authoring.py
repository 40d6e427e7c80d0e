"""Make a migrations folder, and revisions in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import RevisionContext
from alembic.script import ScriptDirectory

from ..support.files import write_new_file
from .binds import suffix_of
from .environment import Report
from .exceptions import MigrationError
from .folder import Folder
from .logs import undisturbed_logging
from .revisions import concerns
from .state import examine
from .template_files import NAMES, template_text
from .upgrading import run_environment, translated

__all__ = ["autogenerate", "create_folder", "create_revision"]


def create_folder(folder: Folder) -> bool:
    """Make a migrations folder.

    Returns:
        Whether anything was made: ``False`` when there is one of ours already.

    Raises:
        MigrationError: Something else is there. Nothing was changed.
    """
    path = folder.path
    if folder.exists:
        if folder.is_adopted:
            return False
        raise MigrationError(
            f"{path} is a migrations folder already. It works as it is; 'flask dbkit migrate"
            " adopt' lets its env.py use Flask-DBKit with 'flask db ...' too."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MigrationError(
            f"{path} exists and is no migrations folder. Nothing was changed. Name another one"
            " with --directory."
        )
    try:
        (path / "versions").mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            write_new_file(path / name, template_text(name).encode())
    except OSError as error:
        raise MigrationError(f"{path} cannot be made: {error.strerror or error}.") from error
    return True


def create_revision(
    folder: Folder, message: str | None, *, empty: bool = False, report: Report | None = None
) -> list[Path]:
    """Write a revision file from the differences between models and databases.

    Args:
        folder: Where it goes.
        message: What it is about.
        empty: Write one without operations, to be filled by hand.
        report: Called with a line about what was found.

    Returns:
        The file; nothing when there are no differences.

    Raises:
        MigrationError: A database is not up to date, so that it cannot be compared.
    """
    with translated():
        script = folder.script()
        if not empty:
            _refuse_outdated(folder, script)
            written = autogenerate(folder, script, message, report=report).generate_scripts()
            return [Path(one.path) for one in written if one is not None]
        with undisturbed_logging():
            made: Any = command.revision(folder.config(), message)
        return [Path(made.path)]


def merge_heads(folder: Folder, message: str | None) -> Path | None:
    """Write a revision that follows every head.

    Returns:
        The file; ``None`` when there is one head only.
    """
    with translated():
        if len(folder.script().get_heads()) < 2:
            return None
        with undisturbed_logging():
            made: Any = command.merge(folder.config(), "heads", message)
        return Path(made.path)


def autogenerate(
    folder: Folder,
    script: ScriptDirectory,
    message: str | None,
    *,
    report: Report | None = None,
    keep_empty: bool = False,
) -> RevisionContext:
    """Compare models and databases through ``env.py``.

    Args:
        folder: The folder.
        script: Its revisions.
        message: Of the revision.
        report: Called with a line about what was found.
        keep_empty: Keep the revision when it has no operations.
    """
    config = folder.config()
    options: Any = config.cmd_opts
    options.autogenerate = not keep_empty
    arguments = dict.fromkeys(
        ("rev_id", "version_path", "branch_label", "depends_on", "message"), None
    )
    context = RevisionContext(
        config,
        script,
        {
            **arguments,
            "message": message,
            "autogenerate": True,
            "sql": False,
            "head": "head",
            "splice": False,
        },
    )

    def compare(revision: Any, migration_context: Any) -> list[Any]:
        context.run_autogenerate(revision, migration_context)
        return []

    run_environment(
        folder,
        script,
        compare,
        report=report,
        config=config,
        template_args=context.template_args,
        revision_context=context,
    )
    return context


def _refuse_outdated(folder: Folder, script: ScriptDirectory) -> None:
    folder.refuse_replicas(script)
    for state in examine(folder, script):
        if state.status == "unreachable":
            raise MigrationError(f"The database {state.bind!r} does not answer: {state.problem}")
        if state.status == "unknown":
            raise MigrationError(
                f"The database {state.bind!r} is at revision {', '.join(state.unknown)}, which"
                " this folder does not have. A revision written now would undo it."
            )
        suffix = "" if state.bind == "default" else suffix_of(state.bind)
        lacking = [one.revision for one in state.pending]
        if any(concerns(script.get_revision(one), suffix) for one in lacking):
            raise MigrationError(
                f"The database {state.bind!r} lacks {len(lacking)}"
                f" {'revision' if len(lacking) == 1 else 'revisions'}"
                f" ({', '.join(lacking)}), so models cannot be compared with it. Run 'flask dbkit"
                " migrate upgrade' first."
            )
