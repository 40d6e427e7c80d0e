"""The health check that compares each database with the revisions of the code.

Nothing of Alembic is imported before the first check, and nothing at all by an application
without a migrations folder, or without the extra.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ..feature import Bind
from ..health.probe import Probe
from ..health.registry import Check
from ..health.report import FAIL, WARN, Result
from ..health.runner import HealthRun, Outcome
from .current import folder_if_there

__all__ = ["CodeRevisions", "migration_check"]

_NO_TABLE = frozenset({"42P01", 1146})


@dataclass(frozen=True)
class _Known:
    """The revisions of the code, as they were when the process first looked.

    Attributes:
        managed: The binds they are for.
        statement: Reads the revisions of a database.
        compare: Returns how many revisions a database lacks, and how many the code lacks.
    """

    managed: frozenset[str | None]
    statement: str
    compare: Callable[[tuple[str, ...]], tuple[int, int]]


class CodeRevisions:
    """The revisions of one application's code, read once.

    A file that appears later belongs to code that this process does not run.

    Args:
        context: Makes an application context.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._known: _Known | None = None

    def known(self) -> _Known | None:
        """Return them; ``None`` when the application has no migrations folder."""
        if find_spec("alembic") is None:
            return None
        with self._lock:
            if self._known is None:
                with self._context():
                    self._known = _read()
            return self._known


def _read() -> _Known | None:
    folder = folder_if_there()
    if folder is None:
        return None
    from .state import compare  # noqa: PLC0415 - Alembic is an extra

    script = folder.script()
    table = str(folder.version_table.get("version_table", "alembic_version"))
    schema = folder.version_table.get("version_table_schema")
    where = f"{schema}.{table}" if schema else table

    def difference(current: tuple[str, ...]) -> tuple[int, int]:
        state = compare("", current, script)
        return len(state.pending), len(state.unknown)

    # The names are the application's own, from its code.
    return _Known(
        frozenset(folder.managed),
        f"SELECT version_num FROM {where}",  # noqa: S608
        difference,
    )


def migration_check(bind: Bind, revisions: CodeRevisions, asked: Check) -> Check:
    """Make the check of one bind: a failure of startup, and a warning of readiness.

    Args:
        bind: The database.
        revisions: Of the application.
        asked: The check that asks whether the database can be used, and knows how to reach it
            without the application's pool.
    """
    name = f"migrations:{bind.name}"
    probe: Any = asked.work
    assert isinstance(probe, Probe)
    return Check(
        name,
        _Watch(name, bind, probe, revisions),
        groups=asked.groups,
        critical=frozenset({"startup"}),
        component="datastore",
    )


class _Watch:
    def __init__(self, name: str, bind: Bind, probe: Probe, revisions: CodeRevisions) -> None:
        self._name, self._bind_key, self._dialect = name, bind.key, bind.engine.dialect
        self._probe, self._revisions = probe, revisions

    def __call__(self, run: HealthRun) -> Outcome:
        with run.off_the_clock():  # imports Alembic, once
            known = self._revisions.known()
        if known is None or self._bind_key not in known.managed:
            return {}
        current = self._current(known.statement, run)
        if current is None:
            return {}  # it cannot be asked, and another check says so
        pending, unknown = known.compare(current)
        code = "migrations.unknown" if unknown else "migrations.pending" if pending else None
        if code is None:
            broken = self._invalid_indexes(run)
            if broken:
                result = Result(
                    WARN, "migrations.index", len(broken), "indexes", component="datastore"
                )
                return {self._name: result}
        result = Result(
            FAIL if code else "pass",
            code,
            unknown or pending,
            "revisions",
            component="datastore",
            duration_ms=run.elapsed_ms(),
        )
        return {self._name: result}

    def _invalid_indexes(self, run: HealthRun) -> tuple[str, ...]:
        from .connecting import invalid_indexes_query  # noqa: PLC0415 - Alembic is an extra

        query = invalid_indexes_query(self._dialect)
        return () if query is None else self._current(query, run) or ()

    def _current(self, statement: str, run: HealthRun) -> tuple[str, ...] | None:
        try:
            with self._probe.private_connection(run) as connection:
                if connection is None:
                    return None
                cursor: Any = connection.cursor()
                try:
                    cursor.execute(statement)
                    return tuple(str(row[0]) for row in cursor.fetchall())
                finally:
                    cursor.close()
        except Exception as error:
            return () if _is_missing_table(error) else None


def _is_missing_table(error: Exception) -> bool:
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    number = error.args[0] if error.args else None
    return bool({code, number} & _NO_TABLE) or str(number).startswith("no such table")
