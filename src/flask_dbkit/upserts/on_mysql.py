"""``INSERT … ON DUPLICATE KEY UPDATE``, of MySQL and MariaDB.

It answers a conflict on *any* unique key. A row found by another key than the one that was
meant must stay as it is: every assignment is guarded by that key, and a counter tells whether
the guard was needed.

Assignments are made from left to right, and each sees those before it: whether anything
changes must be asked before the columns are assigned.

References:
    https://mariadb.com/kb/en/insert-on-duplicate-key-update/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BindParameter,
    Column,
    Connection,
    Integer,
    LargeBinary,
    Text,
    and_,
    case,
    cast,
    insert,
    literal,
    literal_column,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import Executable
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from .rows import Execute, Expression, RowGroup, Rows, any_differs, is_sql
from .stamps import NO_STAMPS, stamps_for

__all__ = ["write"]

_ELSEWHERE, _SAME = "@dbkit_elsewhere", "@dbkit_same"


def write(connection: Connection, group: RowGroup, rows: Rows, execute: Execute) -> bool:
    """Insert the rows whose key is new and update the others, where a value differs.

    Raises:
        IntegrityError: A row has the value of another row in another unique key. The
            statement cannot say so: the row is sent again without the answer, for the
            database's own error.

    Returns:
        Whether a row had these values already, and so was not written: a snapshot older than
        the call may show it as it was.
    """
    stamps = stamps_for(group, rows, connection) if group.assigned else NO_STAMPS
    batches: list[tuple[Rows, Mapping[Column[Any], Any]]] = [(rows, stamps.shared)]
    if stamps.own:  # the statement has no place for them but variables: one row at a time
        batches = [([row], stamps.of_row(index)) for index, row in enumerate(rows)]
    same = 0
    for some, values in batches:
        answering = _answering_insert(connection.dialect, group, values)
        counted = answering.send(some, execute)
        same += counted.same
        if counted.elsewhere:
            for row in some:
                if answering.send([row], execute).elsewhere:
                    execute(insert(group.table), [row])
    return bool(same)


class _Counted(NamedTuple):
    """How many rows were found by another key, and how many had the values already."""

    elsewhere: int
    same: int


@dataclass(frozen=True)
class _AnsweringInsert:
    """The statement, and the one before it that sets what it needs."""

    prepare: Executable
    insert: Executable

    def send(self, rows: Rows, execute: Execute) -> _Counted:
        """Write the rows and return what was counted on the way."""
        execute(self.prepare, None)
        execute(self.insert, rows)
        counters = (literal_column(name, Integer()).label(name[1:]) for name in (_ELSEWHERE, _SAME))
        elsewhere, same = tuple(execute(select(*counters), None).one())
        return _Counted(elsewhere, same)


@dataclass
class _Variables:
    """Variables of the connection, for what a statement needs besides its rows.

    The drivers send many rows as one statement, and fill in parameters in the VALUES only.
    https://github.com/PyMySQL/PyMySQL/blob/main/pymysql/cursors.py (Cursor.executemany)
    """

    values: dict[str, Expression] = field(default_factory=dict)

    def keep(self, value: Any, type_: TypeEngine[Any]) -> Expression:
        """Return a variable that will hold ``value``."""
        name = f"@dbkit_{len(self.values)}"
        self.values[name] = literal(value, type_)
        return literal_column(name, type_)

    def keep_parameters(self, expression: Any) -> Any:
        """Return an SQL expression that has variables in place of its parameters."""

        def replace(element: Any, **_: Any) -> Expression | None:
            if isinstance(element, BindParameter):
                return self.keep(element.effective_value, element.type)
            return None

        return replacement_traverse(expression, {}, replace)

    def prepare(self) -> Executable:
        """Return the statement that sets them, and the counters to zero."""
        zeros = {_ELSEWHERE: literal(0), _SAME: literal(0)}
        return select(
            *(
                literal_column(name, value.type).op(":=")(value)
                for name, value in {**zeros, **self.values}.items()
            )
        )


def _answering_insert(
    dialect: Dialect, group: RowGroup, stamps: Mapping[Column[Any], Any]
) -> _AnsweringInsert:
    from sqlalchemy.dialects import mysql  # noqa: PLC0415 - only if used

    statement = mysql.insert(group.table)
    new = statement.inserted
    meant = and_(*(column.is_not_distinct_from(new[column.key]) for column in group.key))
    changed = and_(meant, any_differs(group, new, dialect, _as_bytes))
    variables = _Variables()
    assignments = [_count_key(group, meant, changed)]
    if group.assigned:
        assignments += _moves(group, stamps, changed, variables)
        assignments += [
            (column.key, case((meant, new[column.key]), else_=column)) for column in group.assigned
        ]
    return _AnsweringInsert(variables.prepare(), statement.on_duplicate_key_update(assignments))


def _count_key(group: RowGroup, meant: Expression, changed: Expression) -> tuple[str, Any]:
    """Assign a column of the key its own value; what is wanted is the counting."""
    first = group.key[0]
    value = case(
        (changed, first),
        (meant, _counting(_SAME, first)),
        else_=_counting(_ELSEWHERE, first),
    )
    return first.key, value


def _moves(
    group: RowGroup,
    stamps: Mapping[Column[Any], Any],
    changed: Expression,
    variables: _Variables,
) -> Iterator[tuple[str, Any]]:
    """Yield what moves on with a change: the version, and columns with an ``onupdate``."""
    counted = group.counted()
    if group.version is not None and counted is not None:
        if group.next_version is not None:
            counted = variables.keep(group.next_version, group.version.type)
        yield group.version.key, case((changed, counted), else_=group.version)
    for column, stamp in stamps.items():
        value = (
            variables.keep_parameters(stamp)
            if is_sql(stamp)
            else variables.keep(stamp, column.type)
        )
        yield column.key, case((changed, value), else_=column)


def _as_bytes(kind: TypeEngine[Any], value: Expression) -> Expression:
    # MySQL makes bytes of a document only by way of its text.
    # https://dev.mysql.com/doc/refman/8.4/en/json.html#json-converting-between-types
    return cast(cast(value, Text) if isinstance(kind, JSON) else value, LargeBinary)


def _counting(name: str, result: Expression) -> Expression:
    """Return ``result``, adding one to a variable of the connection on the way."""
    counter = literal_column(f"({name} := {name} + 1)", Integer())
    return case((counter > literal_column("0"), result), else_=result)
