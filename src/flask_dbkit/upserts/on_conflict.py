"""``INSERT`` statements that know what to do when the row is there already.

One writer per database. Each is given rows of the same shape, inserts those whose key is new
and updates the others, but only where a value differs: an equal row keeps its ``updated_at``
and its ``version``.

References:
    * https://www.sqlite.org/lang_upsert.html
    * https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
    * https://mariadb.com/kb/en/insert-on-duplicate-key-update/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    case,
    cast,
    false,
    insert,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.engine import Dialect, Result
from sqlalchemy.sql import ClauseElement, ColumnElement, Executable
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["Execute", "Shape", "writer_for"]

Expression = ColumnElement[Any]
Rows = Sequence[Mapping[str, Any]]
Execute = Callable[[Executable, Any], Result[Any]]
"""Runs a statement with one mapping of parameters, with a list of them, or with ``None``."""


@dataclass(frozen=True)
class Shape:
    """What rows of one kind have in common.

    Attributes:
        table: Where they go.
        key: The columns that tell whether a row is there.
        assigned: The columns to update then.
        version: The column that counts the updates, if there is one.
        next_version: The value to give it, or ``None`` to add one.
    """

    table: Table
    key: tuple[Column[Any], ...]
    assigned: tuple[Column[Any], ...]
    version: Column[Any] | None = None
    next_version: Any = None

    def stamps(self) -> Iterator[tuple[Column[Any], Any]]:
        """Yield the columns with an ``onupdate`` that nobody assigned, and its value.

        ``ON CONFLICT DO UPDATE`` does not apply it by itself:
        https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#the-set-clause
        """
        for column in self.table.columns:
            default = column.onupdate
            if default is None or column in {*self.key, *self.assigned, self.version}:
                continue
            if default.is_callable:
                yield column, default.arg(None)  # type: ignore[attr-defined]
            elif default.is_scalar or default.is_clause_element:
                yield column, default.arg  # type: ignore[attr-defined]

    def counted(self) -> Expression | None:
        """Return the next version, as SQL."""
        if self.version is None:
            return None
        if self.next_version is None:
            return self.version + literal_column("1")
        return literal(self.next_version, self.version.type)


def _with_on_conflict(dialect: Dialect, shape: Shape, rows: Rows, execute: Execute) -> bool:
    """Write rows on SQLite and PostgreSQL, which name the key whose conflict they answer.

    A conflict on any other key is an ``IntegrityError``.
    """
    if dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_  # noqa: PLC0415 - only if used
    else:
        from sqlalchemy.dialects.postgresql import (  # type: ignore[assignment] # noqa: PLC0415
            insert as insert_,
        )
    statement = insert_(shape.table)
    if not shape.assigned:
        execute(statement.on_conflict_do_nothing(index_elements=shape.key), rows)
        return False
    new = statement.excluded
    values: dict[Column[Any], Any] = {column: new[column.key] for column in shape.assigned}
    for column, stamp in shape.stamps():
        values[column] = stamp if _is_sql(stamp) else literal(stamp, column.type)
    if shape.version is not None:
        values[shape.version] = shape.counted()
    changed = _changed(shape, new, dialect)
    execute(
        statement.on_conflict_do_update(index_elements=shape.key, set_=values, where=changed),
        rows,
    )
    return False


def _with_on_duplicate_key(dialect: Dialect, shape: Shape, rows: Rows, execute: Execute) -> bool:
    """Write rows on MySQL and MariaDB, which answer a conflict on *any* unique key.

    A row found by another key must stay as it is: every assignment is guarded by the key that
    was meant, and a counter tells whether the guard was needed. If it was, the INSERT is sent
    without the answer, for the database's own error.

    Assignments are made from left to right, and each sees those before it: whether anything
    changed must be asked before the columns are assigned.
    """
    from sqlalchemy.dialects.mysql import insert as insert_  # noqa: PLC0415 - only if used

    # The drivers send many rows as one statement, and fill in parameters in the VALUES only.
    # What else the statement needs goes into variables of the connection.
    # https://github.com/PyMySQL/PyMySQL/blob/main/pymysql/cursors.py (Cursor.executemany)
    variables: dict[str, Expression] = {}

    def variable(value: Any, type_: TypeEngine[Any]) -> Expression:
        name = f"@dbkit_{len(variables)}"
        variables[name] = value if _is_sql(value) else literal(value, type_)
        return literal_column(name, type_)

    statement = insert_(shape.table)
    new = statement.inserted
    meant = and_(*(column.is_not_distinct_from(new[column.key]) for column in shape.key))
    changed = and_(meant, _changed(shape, new, dialect))
    first = shape.key[0]
    assignments: list[tuple[str, Any]] = [
        (
            first.key,
            # The value stays; what is wanted is the counting.
            case(
                (changed, first),
                (meant, _counting("@dbkit_same", first)),
                else_=_counting("@dbkit_elsewhere", first),
            ),
        )
    ]
    if shape.assigned:
        counted = shape.counted()
        if shape.version is not None and counted is not None:
            if shape.next_version is not None:
                counted = variable(counted, shape.version.type)
            assignments.append((shape.version.key, case((changed, counted), else_=shape.version)))
        for column, stamp in shape.stamps():
            value = variable(stamp, column.type)
            assignments.append((column.key, case((changed, value), else_=column)))
        assignments += [
            (column.key, case((meant, new[column.key]), else_=column)) for column in shape.assigned
        ]
    answering = statement.on_duplicate_key_update(assignments)
    zeros = {"@dbkit_elsewhere": literal(0), "@dbkit_same": literal(0)}
    prepare = [
        literal_column(name, value.type).op(":=")(value)
        for name, value in {**zeros, **variables}.items()
    ]
    counters = select(*(literal_column(name, Integer()).label(name[1:]) for name in zeros))

    def send(some: Rows) -> tuple[int, int]:
        execute(select(*prepare), None)
        execute(answering, some)
        return tuple(execute(counters, None).one())

    elsewhere, same = send(rows)
    if elsewhere:
        for row in rows:
            if send([row])[0]:
                execute(insert(shape.table), [row])
    return bool(same)


def _counting(name: str, result: Expression) -> Expression:
    """Return ``result``, adding one to a variable of the connection on the way."""
    counter = literal_column(f"({name} := {name} + 1)", Integer())
    return case((counter > literal_column("0"), result), else_=result)


_WRITERS = {
    "sqlite": _with_on_conflict,
    "postgresql": _with_on_conflict,
    "mysql": _with_on_duplicate_key,
    "mariadb": _with_on_duplicate_key,
}


def writer_for(dialect: Dialect) -> Callable[[Shape, Rows, Execute], bool]:
    """Return the function that writes rows on one database.

    It returns whether a snapshot older than the call may show a row as it was: one that had
    these values already, and so was not written.

    Raises:
        NotImplementedError: There is none for it.
    """
    writer = _WRITERS.get(dialect.name)
    if writer is None:
        raise NotImplementedError(
            f"upsert() cannot write to {dialect.name!r}. It knows {', '.join(sorted(_WRITERS))}."
        )
    return lambda shape, rows, execute: writer(dialect, shape, rows, execute)


def _is_sql(value: object) -> bool:
    return isinstance(value, ClauseElement)


def _changed(shape: Shape, new: Any, dialect: Dialect) -> Expression:
    return or_(false(), *(_differs(column, new[column.key], dialect) for column in shape.assigned))


def _differs(column: Column[Any], other: Expression, dialect: Dialect) -> Expression:
    """Compare two values of a column as the bytes they are, with NULL as a value.

    A column that compares without regard to case would call "sea" and "Sea" equal, and the
    correction would be lost.
    """
    kind = column.type.dialect_impl(dialect)
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    left: Expression = column
    right = other
    if isinstance(kind, JSON) and dialect.name == "postgresql":
        # The type json has no equality operator.
        # https://www.postgresql.org/docs/current/functions-json.html
        left, right = cast(left, Text), cast(right, Text)
    elif isinstance(kind, String):
        if dialect.name == "sqlite":
            left, right = left.collate("BINARY"), right.collate("BINARY")
        elif dialect.name == "postgresql":
            left, right = (cast(side, Text).collate("C") for side in (left, right))
        else:
            left, right = (cast(side, LargeBinary) for side in (left, right))
    return left.is_distinct_from(right)
