"""A table of SQLite that is copied keeps all that it had.

Alembic changes a table of SQLite by copying it into one that it makes from what it could reflect.
What it cannot reflect is gone then, without a word: triggers, indexes on expressions, collations,
unnamed CHECKs, AUTOINCREMENT and its counter, ON CONFLICT, what a foreign key does on DELETE.

So the text of the old definition is kept, and what the revision changes is changed in it. Where
both differ the table is copied once more, into one with that text. Triggers, indexes and the
counter are put back, and views have to work as before. What cannot be kept is listed, and the
revision is rolled back.

References:
    https://www.sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from alembic.operations.batch import BatchOperationsImpl
from sqlalchemy import Connection, PrimaryKeyConstraint
from sqlalchemy.exc import DBAPIError

from .exceptions import MigrationError
from .table_text import TableText, altered, mentions, renamed, same_sql, without_generation

__all__ = ["keeping_definitions"]

_COPY = "_dbkit_copy_of_table"


@contextmanager
def keeping_definitions(revision: str) -> Iterator[None]:
    """Let batches of Alembic's that copy a table keep what it had.

    Args:
        revision: For the error.
    """
    plain = BatchOperationsImpl.flush

    def flush(batch: Any) -> None:
        connection: Connection = batch.operations.get_bind()
        if batch.schema is not None or not batch._should_recreate():  # noqa: SLF001
            plain(batch)
            return
        _Rebuild(connection, batch, revision).run(lambda: plain(batch))

    setattr(BatchOperationsImpl, "flush", flush)
    try:
        yield
    finally:
        setattr(BatchOperationsImpl, "flush", plain)


@dataclass
class _Changes:
    """What one batch changes by itself."""

    renamed: dict[str, str] = field(default_factory=dict)
    altered: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    dropped_constraints: set[str] = field(default_factory=set)
    added_constraints: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    retyped: set[str] = field(default_factory=set)
    changes_key: bool = False

    @classmethod
    def of(cls, batch: Sequence[tuple[str, Any, Mapping[str, Any]]]) -> _Changes:
        changes = cls()
        for name, arguments, options in batch:
            changes.take(name, arguments, options)
        return changes

    def take(self, name: str, arguments: Any, options: Mapping[str, Any]) -> None:
        if name == "alter_column":
            column = str(arguments[1])
            self.altered.setdefault(column, {}).update(options)
            new = options.get("name") or options.get("new_column_name")
            if new:
                self.renamed[column] = str(new)
        elif name == "drop_column":
            self.dropped.add(str(arguments[1].name))
        elif name in ("create_index", "drop_index"):
            self.indexes.add(str(arguments[0].name))
        elif name in ("drop_constraint", "add_constraint"):
            constraint = arguments[0]
            self.changes_key = self.changes_key or isinstance(constraint, PrimaryKeyConstraint)
            if not isinstance(constraint.name, str):
                self.retyped.update(str(each.name) for each in constraint.table.columns)
            elif name == "drop_constraint":
                self.dropped_constraints.add(constraint.name)
            else:
                self.added_constraints.add(constraint.name)


class _Rebuild:
    def __init__(self, connection: Connection, batch: Any, revision: str) -> None:
        self._connection, self._revision = connection, revision
        self._table = str(batch.table_name)
        self._changes = _Changes.of(batch.batch)
        # Whoever describes the table in the revision has said what it shall be.
        self._is_described = batch.copy_from is not None or bool(batch.table_args)

    def run(self, plain: Any) -> None:
        before = self._objects()
        counter, views = self._counter(), self._working_views()
        definition = next((sql for kind, _, sql in before if kind == "table"), None)
        legacy = self._ask("PRAGMA legacy_alter_table")[0][0]
        # Else the new table gets no name while a view reads the old one.
        # https://www.sqlite.org/pragma.html#pragma_legacy_alter_table
        self._ask("PRAGMA legacy_alter_table = ON")
        try:
            with warnings.catch_warnings():
                # What they say is lost is kept.
                for message in ("Unnamed CHECK constraint", "Skipped unsupported reflection"):
                    warnings.filterwarnings("ignore", message=message)
                if definition is not None and not self._is_described:
                    self._write_generated_columns(definition)
                plain()
            if definition is not None and not self._is_described:
                self._keep_definition(definition)
            self._keep_indexes(before)
            self._keep_triggers(before)
        finally:
            self._ask(f"PRAGMA legacy_alter_table = {int(legacy)}")
        self._keep_counter(counter)
        broken = sorted(views - self._working_views())
        if broken:
            self._refuse([f"the view {name}, which reads what is gone" for name in broken])

    # -- the table itself ------------------------------------------------------------------

    def _keep_definition(self, definition: str) -> None:
        changes = self._changes
        (made,) = [sql for kind, _, sql in self._objects() if kind == "table"]
        try:
            old, new = TableText.parse(definition), TableText.parse(made)
            wanted = self._merged(old, new)
        except ValueError:
            wanted, old, new = None, None, None
        if wanted is None or changes.changes_key:
            return
        if same_sql(wanted.sql(self._table), made):
            return
        try:
            self._copy_into(wanted)
        except DBAPIError as error:
            assert old is not None
            assert new is not None
            lost = [each for each in old.parts() if not any(same_sql(each, o) for o in new.parts())]
            said = " ".join(str(error.orig).split())
            self._refuse([" ".join(each.split()) for each in lost], said)

    def _write_generated_columns(self, definition: str) -> None:
        """Make columns of what is generated, which Alembic would try to write."""
        text = TableText.parse(definition)
        plain = tuple((name, without_generation(column)) for name, column in text.columns)
        if plain != text.columns:
            self._copy_into(replace(text, columns=plain))

    def _merged(self, old: TableText, new: TableText) -> TableText:
        """Return the old definition with what the batch changes."""
        changes = self._changes
        before = {name.lower(): (name, text) for name, text in old.columns}
        origin = {after.lower(): name.lower() for name, after in changes.renamed.items()}
        columns = []
        for name, text in new.columns:
            known = before.get(origin.get(name.lower(), name.lower()))
            if known is None:
                columns.append((name, text))
                continue
            kept = altered(known[1], text, changes.altered.get(known[0], {}))
            columns.append((name, renamed(kept, changes.renamed)))
        constraints = [
            renamed(text, changes.renamed)
            for name, text in old.constraints
            if name not in changes.dropped_constraints
            and not mentions(text, changes.dropped)
            and not self._is_of_a_type(name, text)
        ]
        constraints += [
            text
            for name, text in new.constraints
            if (name is not None and name in changes.added_constraints)
            or self._is_of_a_type(name, text)
        ]
        return TableText(tuple(columns), tuple((None, text) for text in constraints), old.options)

    def _is_of_a_type(self, name: str | None, text: str) -> bool:
        """Tell whether a constraint is the CHECK of a Boolean or an Enum that is changed."""
        return (
            name is None
            and text.upper().startswith("CHECK")
            and mentions(text, self._changes.retyped)
        )

    def _copy_into(self, wanted: TableText) -> None:
        table, copy = _quoted(self._table), _quoted(_COPY)
        self._ask(wanted.sql(_COPY))
        names = [
            _quoted(row[1])
            for row in self._ask(f"PRAGMA table_xinfo({copy})")
            if row[6] == 0  # what is generated is not written
        ]
        listed = ", ".join(names)
        self._ask(f"INSERT INTO {copy} ({listed}) SELECT {listed} FROM {table}")  # noqa: S608
        self._ask(f"DROP TABLE {table}")
        self._ask(f"ALTER TABLE {copy} RENAME TO {table}")

    # -- what hangs on it -------------------------------------------------------------------

    def _keep_indexes(self, before: list[tuple[str, str, str]]) -> None:
        there = {name: sql for kind, name, sql in self._objects() if kind == "index"}
        for kind, name, sql in before:
            if kind != "index" or name in self._changes.indexes:
                continue
            if mentions(sql, self._changes.dropped):
                continue  # the revision drops its column
            wanted = renamed(sql, self._changes.renamed)
            if name in there and same_sql(there[name], wanted):
                continue
            if name in there:
                self._ask(f"DROP INDEX {_quoted(name)}")
            self._make(wanted, f"the index {name}")

    def _keep_triggers(self, before: list[tuple[str, str, str]]) -> None:
        there = {name for kind, name, _ in self._objects() if kind == "trigger"}
        for kind, name, sql in before:
            if kind == "trigger" and name not in there:
                self._make(renamed(sql, self._changes.renamed), f"the trigger {name}")
                self._try_triggers(name)

    def _try_triggers(self, name: str) -> None:
        """Let SQLite compile them: it makes a trigger without looking at what it names."""
        table = _quoted(self._table)
        column = _quoted(self._ask(f"PRAGMA table_info({table})")[0][1])
        for sql in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {column} = {column}",  # noqa: S608
            f"DELETE FROM {table}",  # noqa: S608
        ):
            try:
                self._ask(f"EXPLAIN {sql}")
            except DBAPIError as error:
                self._refuse([f"the trigger {name}"], " ".join(str(error.orig).split()))

    def _make(self, sql: str, what: str) -> None:
        try:
            self._ask(sql)
        except DBAPIError as error:
            self._refuse([what], " ".join(str(error.orig).split()))

    def _keep_counter(self, counter: int | None) -> None:
        if counter is None or not self._has_counters():
            return
        now = self._counter()
        if now is None:
            self._connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (self._table, counter)
            )
        elif now < counter:
            self._connection.exec_driver_sql(
                "UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (counter, self._table)
            )

    # -- asking -----------------------------------------------------------------------------

    def _objects(self) -> list[tuple[str, str, str]]:
        """Return kind, name and SQL of the table and of what hangs on it."""
        found = self._connection.exec_driver_sql(
            "SELECT type, name, sql FROM sqlite_master WHERE lower(tbl_name) = lower(?)"
            " AND sql IS NOT NULL AND type IN ('table', 'index', 'trigger') ORDER BY rowid",
            (self._table,),
        )
        return [(str(kind), str(name), str(sql)) for kind, name, sql in found]

    def _has_counters(self) -> bool:
        return bool(self._ask("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"))

    def _counter(self) -> int | None:
        if not self._has_counters():
            return None
        row = self._connection.exec_driver_sql(
            "SELECT seq FROM sqlite_sequence WHERE name = ?", (self._table,)
        ).first()
        return None if row is None or row[0] is None else int(row[0])

    def _working_views(self) -> set[str]:
        names = [
            str(row[0]) for row in self._ask("SELECT name FROM sqlite_master WHERE type = 'view'")
        ]
        return {name for name in names if self._works(name)}

    def _works(self, view: str) -> bool:
        try:
            self._ask(f"SELECT * FROM {_quoted(view)} LIMIT 0")  # noqa: S608
        except DBAPIError:
            return False
        return True

    def _ask(self, sql: str) -> list[Any]:
        result = self._connection.exec_driver_sql(sql)
        return list(result) if result.returns_rows else []

    def _refuse(self, lost: Sequence[str], reason: str = "") -> None:
        said = f" ({reason})" if reason else ""
        raise MigrationError(
            f"Revision {self._revision} was rolled back: SQLite changes the table {self._table} by"
            f" copying it, and this could not be kept{said}: {'; '.join(lost)}. Drop it in the"
            " revision before, and make it again behind, or describe the new table yourself with"
            " copy_from= or table_args= of op.batch_alter_table()."
        )


def _quoted(name: object) -> str:
    escaped = str(name).replace('"', '""')
    return f'"{escaped}"'
