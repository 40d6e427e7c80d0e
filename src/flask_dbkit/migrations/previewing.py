"""The SQL of an upgrade, without changing anything."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from ..databases import database_of
from ..databases.statements import Kind, classify_statement
from .binds import bind_title, sqlite_file
from .current import find_folder
from .environment import Migrator
from .folder import Folder
from .logs import undisturbed_logging
from .upgrading import refuse, translated

__all__ = ["dry_run"]


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
        states = {state.bind: state for state in refuse(folder, script, revision, None)}
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

            render = _render_in_memory if database_of(engine).rebuilds_tables else _render_offline
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
            if classify_statement(statement) is Kind.WRITE:
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
