"""Column types that mean the same thing on every database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    Column,
    ColumnElement,
    DateTime,
    Interval,
    and_,
    event,
    or_,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..databases import MYSQL, SQLITE, database_of

__all__ = ["UTCDateTime"]


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time: aware in, aware UTC out, to the microsecond.

    Stored as ``TIMESTAMP WITH TIME ZONE`` on PostgreSQL, ``DATETIME(6)`` on MySQL and MariaDB,
    and as text in UTC on SQLite, always with six digits of fraction, so that the text sorts
    as the time does. An aware value of any zone is converted. What Python returns is always in
    UTC.

    Adding or subtracting a ``timedelta`` inside a statement is left to the database. Of the
    three only PostgreSQL has intervals.

    Raises:
        ValueError: The value has no time zone, or lies outside the years 1 to 9999 once it is
            in UTC. SQLAlchemy wraps it in ``StatementError``; the text names the column.
        TypeError: The value is no ``datetime``. Wrapped and named in the same way.

    .. versionadded:: 0.1

    References:
        MariaDB keeps no fraction unless told to: https://mariadb.com/kb/en/datetime/
    """

    impl = DateTime
    cache_ok = True
    _columns: tuple[Column[Any], ...] = ()

    def __init__(self) -> None:
        super().__init__(timezone=True)

    def __repr__(self) -> str:
        return "UTCDateTime()"  # what a migration writes

    @property
    def python_type(self) -> type[datetime]:
        """Return ``datetime``."""
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of one database."""
        if database_of(dialect).times_lose_fractions:
            from sqlalchemy.dialects.mysql import DATETIME  # noqa: PLC0415 - only if used

            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Treat a ``timedelta`` in an expression as an interval, all else as a point in time."""
        return Interval() if isinstance(value, timedelta) else self

    def bind_expression(self, bindparam: BindParameter[datetime]) -> ColumnElement[datetime]:
        """Name the type of a value where the database would take it for text."""
        return _Sent(bindparam)

    def process_bind_param(self, value: Any, dialect: Dialect) -> datetime | None:
        """Turn an aware datetime into what the driver stores.

        Args:
            value: Aware, in any zone, or ``None``.
            dialect: The database it goes to.
        """
        if value is None:
            return None
        if not isinstance(value, datetime):
            kind = "date" if isinstance(value, date) else type(value).__name__
            raise TypeError(
                f"{self._place()} was given {value!r}, a {kind}. Give an aware datetime,"
                " for example datetime.now(timezone.utc)."
            )
        if value.utcoffset() is None:
            raise ValueError(
                f"{self._place()} was given the naive datetime {value!r}. Give an aware one:"
                " datetime.now(timezone.utc), or value.replace(tzinfo=...) with the zone it"
                " was measured in."
            )
        try:
            utc = value.astimezone(UTC)
        except OverflowError:
            raise ValueError(
                f"{self._place()} was given {value!r}, which in UTC is outside the years"
                " 1 to 9999. Give a value inside them."
            ) from None
        return utc.replace(tzinfo=None) if database_of(dialect).drops_time_zones else utc

    def process_result_value(
        self, value: datetime | str | None, dialect: Dialect
    ) -> datetime | None:
        """Turn what the driver returns into an aware datetime in UTC."""
        if value is None:
            return None
        if isinstance(value, str):
            # MariaDB makes text of a moment beside a text, below a UNION for example.
            value = datetime.fromisoformat(value)
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)

    def _place(self) -> str:
        # The column of a mixin was never in a table; only its copies are.
        tables = ((column, getattr(column, "table", None)) for column in self._columns)
        names = {f"{table.name}.{column.name}" for column, table in tables if table is not None}
        if not names:
            return "A UTCDateTime value"
        which = "The UTCDateTime column" if len(names) == 1 else "One of the UTCDateTime columns"
        return f"{which} {', '.join(sorted(names))}"


class _Sent(ColumnElement[datetime]):
    """A value on its way to the database."""

    inherit_cache = True
    _traverse_internals = [("value", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - SQLAlchemy's

    def __init__(self, value: BindParameter[datetime]) -> None:
        self.value, self.type = value, value.type


# It adds and subtracts as the type below does.
class _Moments(TypeDecorator.Comparator[datetime], DateTime.Comparator[datetime]):
    """Compares moments where SQL wrote some of them, and not this type."""

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Compare, so that SQLite takes every text of a moment for the same."""
        if op is operators.between_op and not kwargs.get("symmetric"):
            low, high = other
            return and_(self.operate(operators.ge, low), self.operate(operators.le, high))
        if op is operators.not_between_op and not kwargs.get("symmetric"):
            low, high = other
            return or_(self.operate(operators.lt, low), self.operate(operators.gt, high))
        made: ColumnElement[Any] = cast("Any", super()).operate(op, *other, **kwargs)
        form = _FORMS.get(op)
        if form is None or not isinstance(made, BinaryExpression):
            return made
        # What is no value is compared as it is: another column, a function.
        return _Compared.of(made, form) if _is_value(made.right) else made


UTCDateTime.comparator_factory = _Moments  # type: ignore[method-assign, assignment]


class _Compared(BinaryExpression[bool]):
    """A comparison of a moment with a value."""

    inherit_cache = True
    form = ""

    @classmethod
    def of(cls, made: BinaryExpression[Any], form: str) -> _Compared:
        found = cls.__new__(cls)
        found.__dict__.update(made.__dict__)
        found.form = form
        return found


def _is_value(right: Any) -> bool:
    while isinstance(right, Grouping):
        right = right.element
    return isinstance(right, BindParameter)


# The type sends six digits of fraction, CURRENT_TIMESTAMP writes none, strftime('%f') three: texts
# of one moment, which differ as texts. The least of them has no zeros at its end, the greatest six
# digits; between the two lies nothing else. So a plain index serves.
# https://www.sqlite.org/lang_datefunc.html
_LEAST = "rtrim(rtrim({value}, '0'), '.')"
_WHOLE = "substr({column} || substr('.000000', 1 + max(0, length({column}) - 19)), 1, 26)"
_FORMS: Mapping[OperatorType, str] = {
    operators.eq: f"{{column}} BETWEEN {_LEAST} AND {{value}}",
    operators.ne: f"{{column}} NOT BETWEEN {_LEAST} AND {{value}}",
    operators.lt: f"{{column}} < {_LEAST}",
    operators.ge: f"{{column}} >= {_LEAST}",
    operators.in_op: f"{_WHOLE} IN {{value}}",
    operators.not_in_op: f"{_WHOLE} NOT IN {{value}}",
}


@compiles(_Compared)
def _compile_compared(element: _Compared, compiler: SQLCompiler, **kwargs: Any) -> str:
    return cast("Any", compiler).visit_binary(element, **kwargs)  # type: ignore[no-any-return]


@compiles(_Compared, *SQLITE.names)
def _compile_compared_sqlite(element: _Compared, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Each place of the value takes a parameter of its own, so each is rendered by itself.
    return re.sub(
        r"\{(column|value)\}",
        lambda match: compiler.process(
            element.left if match[1] == "column" else element.right, **kwargs
        ),
        element.form,
    )


@compiles(_Sent)
def _compile_sent(element: _Sent, compiler: SQLCompiler, **kwargs: Any) -> str:
    return compiler.process(element.value, **kwargs)


# Beside a function MariaDB takes '2026-01-01 12:00:00' for text, compares it as such, and returns
# text. The VALUES of an INSERT have the type of their columns, and drivers look for bare
# parameters there, to send many rows at once.
@compiles(_Sent, *MYSQL.names)
def _compile_sent_mysql(element: _Sent, compiler: SQLCompiler, **kwargs: Any) -> str:
    sent = compiler.process(element.value, **kwargs)
    return sent if compiler.isinsert else f"CAST({sent} AS DATETIME(6))"


# Revisions name a type by its module. Those that were written stay right wherever the code is.
UTCDateTime.__module__ = "flask_dbkit.types"


# A type does not know its column. Declarative copies the columns of mixins, types included, and
# attaches each copy to a column of its own. One type object may also serve several columns.
# https://docs.sqlalchemy.org/en/20/core/events.html#sqlalchemy.events.DDLEvents.after_parent_attach
@event.listens_for(UTCDateTime, "after_parent_attach")
def _remember_column(type_: UTCDateTime, column: Any) -> None:
    if isinstance(column, Column):
        type_._columns = (*type_._columns, column)  # noqa: SLF001 - our own class
