"""Apply revisions to every database: what is checked first, and what a dry run shows."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from ..exceptions import MigrationError
from ..statements import Kind, classify
from .connecting import Limits
from .environment import Migrator, Report, bind_title, sqlite_file
from .folder import Folder, find_folder
from .history import AppliedRevisions
from .logs import undisturbed_logging
from .revisions import title_of
from .state import BindState, examine

__all__ = ["downgrade", "dry_run", "run_environment", "stamp", "translated", "upgrade"]

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
        states = _refuse(folder, script, revision, only)
        managed = folder.managed
        behind = {state.bind for state in states if state.status in ("pending", "absent")}
        if not behind and revision in ("head", "heads"):
            return {state.bind: [] for state in states if state.status == "current"}
        if back_up is not None:
            for key, engine in managed.items():
                if bind_title(key) in behind:
                    back_up(key, engine)
        done = run_environment(
            folder,
            script,
            lambda heads, context: script._upgrade_revs(revision, heads),  # noqa: SLF001
            limits=limits,
            report=report,
            only=only,
            destination_rev=revision,
        )
        AppliedRevisions.of_current_app().note(
            script, {one for each in done.values() for one in each}
        )
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
        states = _refuse(folder, script, "head" if revision == "base" else revision, only)
        if back_up is not None:
            there = {state.bind for state in states if state.current}
            for key, engine in folder.managed.items():
                if bind_title(key) in there:
                    back_up(key, engine)
        return run_environment(
            folder,
            script,
            lambda heads, context: script._downgrade_revs(revision, heads),  # noqa: SLF001
            limits=limits,
            report=report,
            only=only,
            destination_rev=revision,
        )


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
    with undisturbed_logging(), folder.as_migrate(), environment, migrator.attached():
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


def _refuse(
    folder: Folder,
    script: ScriptDirectory,
    revision: str,
    only: Iterable[str | None] | None,
) -> Sequence[BindState]:
    """Look before anything is changed.

    Returns:
        The state of each database.
    """
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


def dry_run(revision: str = "head", *, folder: Folder | None = None) -> str:
    """Return the SQL of an upgrade, without changing anything.

    For PostgreSQL and MariaDB it is what Alembic writes without a connection. SQLite's copies of
    tables need the old one at hand: there the revisions run in memory, on a copy of the schema
    without its rows.

    Raises:
        MigrationError: As in :func:`upgrade`; or a revision that needs the data.
    """
    folder = folder or find_folder()
    with translated():
        script = folder.script()
        states = {state.bind: state for state in _refuse(folder, script, revision, None)}
        parts = []
        for key, engine in folder.managed.items():
            state = states[bind_title(key)]
            if not state.pending:
                parts.append(f"-- Database {state.bind}: nothing to do.\n")
                continue

            def plan(*, as_sql: bool = False, current: Any = state.current) -> EnvironmentContext:
                return EnvironmentContext(
                    folder.config(),
                    script,
                    fn=lambda heads, context: script._upgrade_revs(revision, heads),  # noqa: SLF001
                    as_sql=as_sql,
                    destination_rev=revision,
                    starting_rev=(current or None) if as_sql else None,
                )

            render = _render_in_memory if engine.dialect.name == "sqlite" else _render_offline
            sql = render(plan, folder, key, engine)
            parts.append(f"-- Database {state.bind}\n\n{sql.strip()}\n")
        return "\n".join(parts)


def _render_offline(
    plan: Callable[..., EnvironmentContext], folder: Folder, key: str | None, engine: Engine
) -> str:
    out = io.StringIO()
    environment = plan(as_sql=True)
    environment.config.output_buffer = out
    migrator = Migrator(environment, folder)
    with undisturbed_logging(), environment:
        migrator.run_offline(key, engine)
    return out.getvalue()


def _render_in_memory(
    plan: Callable[..., EnvironmentContext], folder: Folder, key: str | None, engine: Engine
) -> str:
    lines: list[str] = []
    with _copy_of_schema(engine, folder) as copy:

        @event.listens_for(copy, "after_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if classify(statement) is Kind.WRITE:
                lines.append(f"{statement.strip()};")
                if parameters:
                    lines.append(f"-- with {parameters!r}")

        environment = plan()
        migrator = Migrator(environment, folder)
        with undisturbed_logging(), environment:
            migrator.run_on(key, copy)
    return "\n\n".join(lines)


@contextmanager
def _copy_of_schema(engine: Engine, folder: Folder) -> Iterator[Engine]:
    """Make the tables of a SQLite database anew in memory, empty but for the version table."""
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(raw):
        file = sqlite_file(engine)
        if file is None or file.exists():
            _copy(engine, raw, folder.version_table.get("version_table", "alembic_version"))
        copy = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        try:
            yield copy
        finally:
            copy.dispose()


def _copy(engine: Engine, raw: sqlite3.Connection, version_table: str) -> None:
    order = "CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 ELSE 2 END, rowid"
    with engine.connect() as connection:
        statements = connection.exec_driver_sql(
            f"SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY {order}"  # noqa: S608
        ).fetchall()
        for (statement,) in statements:
            try:
                raw.execute(statement)
            except sqlite3.OperationalError as error:
                # A virtual table has made its own tables already; sqlite_sequence is SQLite's.
                if not ("already exists" in str(error) or "reserved" in str(error)):
                    raise
        names = [row[0] for row in raw.execute("SELECT name FROM sqlite_master")]
        if version_table in names:
            quoted = '"' + version_table.replace('"', '""') + '"'
            rows = connection.exec_driver_sql(f"SELECT version_num FROM {quoted}").fetchall()  # noqa: S608
            raw.executemany(f"INSERT INTO {quoted} VALUES (?)", [tuple(row) for row in rows])  # noqa: S608
    raw.commit()
