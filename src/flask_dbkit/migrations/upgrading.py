"""Apply revisions to every database, and what is checked first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine

from .binds import bind_title
from .current import find_folder
from .environment import Migrator, Report
from .exceptions import MigrationError
from .folder import Folder
from .foreign import ForeignEnvironment
from .history import AppliedRevisions
from .logs import undisturbed_logging
from .revisions import title_of
from .server import Limits
from .state import BindState, examine

__all__ = ["downgrade", "refuse", "run_environment", "stamp", "translated", "upgrade"]

BackUp = Callable[[str | None, Engine], None]


def upgrade(
    revision: str = "head",
    *,
    folder: Folder | None = None,
    limits: Limits | None = None,
    report: Report | None = None,
    back_up: BackUp | None = None,
    only: Iterable[str | None] | None = None,
) -> dict[str, list[str]]:
    """Bring every database of the current application up to date.

    Args:
        revision: How far, as Alembic takes it.
        folder: The migrations folder; without it the application's.
        limits: How long to wait for locks.
        report: Called with one line for each revision.
        back_up: Called with bind key and engine before a database is changed.
        only: Bind keys to leave it at; ``None`` among them is the default database.

    Returns:
        Per database, by name, the revisions that were applied here. Another process that was
        first may have applied the rest.

    Raises:
        MigrationLocked: Another upgrade did not end in time.
        RowsLost: A revision would have lost rows. It was rolled back.
        MigrationError: Several heads, a revision the folder does not have, or one that failed.

    .. versionadded:: 0.1
    """
    folder = folder or find_folder()
    with translated():
        script = folder.script()
        states = refuse(folder, script, revision, only)
        behind = {state.bind for state in states if state.status in ("pending", "absent")}
        if not behind and revision in ("head", "heads"):
            return {state.bind: [] for state in states if state.status == "current"}
        _back_up(folder, behind, back_up)
        done = run_environment(
            folder,
            script,
            lambda heads, context: script._upgrade_revs(revision, heads),  # noqa: SLF001
            limits=limits,
            report=report,
            only=only,
            destination_rev=revision,
        )
        AppliedRevisions.of(folder).note(script, {one for each in done.values() for one in each})
        return done


def downgrade(
    revision: str = "-1",
    *,
    folder: Folder | None = None,
    limits: Limits | None = None,
    report: Report | None = None,
    back_up: BackUp | None = None,
    only: Iterable[str | None] | None = None,
) -> dict[str, list[str]]:
    """Take revisions back, with the same care as :func:`upgrade`.

    Raises:
        MigrationError: As in :func:`upgrade`.
    """
    folder = folder or find_folder()
    with translated():
        script = folder.script()
        states = refuse(folder, script, "head" if revision == "base" else revision, only)
        _back_up(folder, {state.bind for state in states if state.current}, back_up)
        return run_environment(
            folder,
            script,
            lambda heads, context: script._downgrade_revs(revision, heads),  # noqa: SLF001
            limits=limits,
            report=report,
            only=only,
            destination_rev=revision,
        )


def _back_up(folder: Folder, names: set[str], back_up: BackUp | None) -> None:
    """Back up the databases of these names, if that was asked for."""
    if back_up is None:
        return
    for key, engine in folder.managed.items():
        if bind_title(key) in names:
            back_up(key, engine)


def stamp(revision: str = "head", *, folder: Folder | None = None) -> None:
    """Write into every version table that a revision is applied, without applying any.

    For a database whose tables ``db.create_all()`` has made.

    Raises:
        MigrationError: There is no such revision.
    """
    folder = folder or find_folder()
    with translated():
        script = folder.script()
        run_environment(
            folder,
            script,
            lambda heads, context: script._stamp_revs(revision, heads),  # noqa: SLF001
            destination_rev=revision,
        )


def run_environment(
    folder: Folder,
    script: ScriptDirectory,
    function: Callable[..., Any],
    *,
    limits: Limits | None = None,
    report: Report | None = None,
    only: Iterable[str | None] | None = None,
    **options: Any,
) -> dict[str, list[str]]:
    """Run the folder's ``env.py``, whoever wrote it, under our care.

    Args:
        folder: The folder.
        script: Its revisions.
        function: Tells Alembic what to do, see :class:`EnvironmentContext`.
        limits: How long to wait for locks.
        report: Called with one line for each revision.
        only: Bind keys to leave it at.
        **options: Of :class:`EnvironmentContext`.

    Returns:
        Per database the revisions that were applied.
    """
    config = options.pop("config", None) or folder.config()
    environment = EnvironmentContext(config, script, fn=function, **options)
    migrator = Migrator(
        environment,
        folder,
        limits=limits,
        report=report,
        only=None if only is None else frozenset(only),
    )
    attached = ForeignEnvironment(migrator).attached()
    with undisturbed_logging(), folder.as_migrate(), environment, attached:
        script.run_env()
    return {bind_title(key): revisions for key, revisions in migrator.done.items()}


@contextmanager
def translated() -> Iterator[None]:
    """Turn Alembic's own errors, which are written for its command line, into ours."""
    try:
        yield
    except CommandError as error:
        raise MigrationError(str(error)) from error
    except (ImportError, SyntaxError) as error:
        raise MigrationError(f"A revision, or env.py, cannot be loaded: {error}") from error


def refuse(
    folder: Folder,
    script: ScriptDirectory,
    revision: str,
    only: Iterable[str | None] | None,
) -> Sequence[BindState]:
    """Look before anything is changed.

    Returns:
        The state of each database.
    """
    folder.refuse_replicas(script)
    _refuse_unknown(folder, script, revision)
    heads = script.get_heads()
    if len(heads) > 1 and revision in ("head", "heads"):
        listed = ", ".join(title_of(script.get_revision(head)) for head in heads)
        raise MigrationError(
            f"The folder {folder.path} has {len(heads)} heads: {listed}. Two revisions follow the"
            " same one, most likely because two branches were merged. Nothing was changed. Join"
            " them with 'flask dbkit migrate new --merge -m \"...\"', or name the revision to"
            " upgrade to."
        )
    wanted = None if only is None else {bind_title(key) for key in only}
    states = [one for one in examine(folder, script) if wanted is None or one.bind in wanted]
    for state in states:
        if state.status == "unknown":
            raise MigrationError(
                f"The database {state.bind!r} is at revision {', '.join(state.unknown)}, which"
                f" the folder {folder.path} does not have: the database is newer than this code,"
                " or the file was removed. Nothing was changed. Deploy the code that has this"
                " revision, or downgrade with it first; if it never mattered, write the version"
                " table anew with 'flask dbkit migrate stamp'."
            )
        if state.status == "unreachable":
            raise MigrationError(
                f"The database {state.bind!r} does not answer: {state.problem} Nothing was changed."
            )
    return states


def _refuse_unknown(folder: Folder, script: ScriptDirectory, revision: str) -> None:
    """Refuse a name that the folder does not have, before anything is backed up or connected to.

    What Alembic works out from where a database is, such as ``+1``, is left to it.
    """
    if revision in ("head", "heads") or any(sign in revision for sign in "+-@:"):
        return
    try:
        script.get_revisions(revision)
    except CommandError as error:
        raise MigrationError(
            f"There is no revision {revision!r} in the folder {folder.path}, or several begin like"
            " that. Nothing was changed. 'flask dbkit migrate status' shows what there is."
        ) from error
