"""Whether the server default of a column is the one that its model asks for.

A database gives a default back in words of its own: ``'{}'::json``, ``current_timestamp()``,
``0.00``. So the database is asked: it makes a column of the model in a temporary table, and says
what it calls that default. Where both texts still differ, it inserts a row and compares the
values. What cannot be found out counts as equal: a wrong alarm would stop every deployment.

References:
    https://alembic.sqlalchemy.org/en/latest/autogenerate.html#compare-server-default
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from sqlalchemy import (
    Column,
    Computed,
    Connection,
    DefaultClause,
    Identity,
    MetaData,
    String,
    Table,
    cast,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from ..databases import database_of

__all__ = ["bare_default", "defaults_differ", "defaults_plugin"]

_PLUGIN = "flask_dbkit.server_defaults"
_ECHO, _VALUES = "dbkit_default_echo", "dbkit_default_values"


def defaults_differ(  # noqa: PLR0917 - as Alembic calls it
    context: Any,
    inspected_column: Any,
    column: Column[Any],
    inspected: str | None,
    default: Any,
    rendered: str | None,
) -> bool | None:
    """Compare one column; for ``compare_server_default`` of ``context.configure()``.

    Args:
        context: Alembic's.
        inspected_column: What the database has.
        column: What the model has.
        inspected: The default of the database, in its words.
        default: The default of the model.
        rendered: The same as SQL.

    Returns:
        ``None`` leaves it to Alembic.
    """
    connection: Connection | None = context.connection
    if connection is None or not database_of(connection).is_known:
        return None
    if column.primary_key and column is column.table.autoincrement_column:
        return False  # it is counted, in a way that each database spells differently
    if default is not None and not isinstance(default, DefaultClause):
        return False  # "something the database does", which says nothing
    nested = connection.begin_nested()
    try:
        return _differ(connection, column, inspected, default)
    except SQLAlchemyError:
        return False
    finally:
        if nested.is_active:
            nested.rollback()
        for name in (_ECHO, _VALUES):
            _drop(connection, name)


@cache
def defaults_plugin() -> str | None:
    """Register the comparison as a plugin, and return its name.

    Alembic from 1.18 on calls a function of ``compare_server_default`` for computed columns and
    identities too, whose default it takes for one with a text: ``AttributeError``. A plugin is
    asked as well, and looks first.

    Returns:
        ``None`` where Alembic knows no plugins.
    """
    if find_spec("alembic.runtime.plugins") is None:
        return None
    from alembic.runtime.plugins import Plugin  # noqa: PLC0415 - not in every version
    from alembic.util import DispatchPriority  # noqa: PLC0415

    Plugin(_PLUGIN).add_autogenerate_comparator(
        _compare, "column", "server_default", priority=DispatchPriority.FIRST
    )
    return _PLUGIN


def _compare(  # noqa: PLR0917 - as Alembic calls it
    autogenerate: Any,
    operation: Any,
    schema: str | None,
    table: str,
    name: str,
    inspected: Column[Any],
    column: Column[Any],
) -> Any:
    """Compare one column, as a plugin does."""
    from alembic.util import PriorityDispatchResult  # noqa: PLC0415 - not in every version

    found, default = inspected.server_default, column.server_default
    if found is default is None or any(
        isinstance(each, Computed | Identity) for each in (found, default)
    ):
        return PriorityDispatchResult.CONTINUE  # Alembic's own comparison
    text_found = str(found.arg) if isinstance(found, DefaultClause) else None
    differ = defaults_differ(
        autogenerate.migration_context, inspected, column, text_found, default, None
    )
    if differ is None:
        return PriorityDispatchResult.CONTINUE
    if differ:
        operation.modify_server_default = default
    return PriorityDispatchResult.STOP


def _differ(
    connection: Connection, column: Column[Any], inspected: str | None, default: Any
) -> bool:
    echo = _temporary(_ECHO, _like(column, default, name="model"))
    echo.create(connection)
    (found,) = inspect(connection).get_columns(_ECHO)
    if found["default"] is None or inspected is None:
        return found["default"] is not inspected
    if bare_default(found["default"]) == bare_default(inspected):
        return False
    if "nextval" in inspected.lower():
        return True  # asking for its value would use it up
    return not _same_value(connection, column, inspected, default)


def bare_default(default: str) -> str:
    """Leave out brackets around the whole: Alembic puts some around what SQLite tells."""
    while default[:1] == "(" and _is_enclosed(default):
        default = default[1:-1].strip()
    return default


def _is_enclosed(default: str) -> bool:
    depth = 0
    for place, sign in enumerate(default, 1):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth == 0:
            return place == len(default)
    return False


def _same_value(connection: Connection, column: Column[Any], inspected: str, default: Any) -> bool:
    # Brackets are asked for around a function by some databases, and refused by none of them,
    # but for what is more than an expression: CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP.
    spelt = inspected if " ON UPDATE " in inspected.upper() else f"({inspected})"
    found = text(spelt.replace(":", "\\:"))
    values = _temporary(
        _VALUES,
        Column("found", column.type, server_default=found),
        _like(column, default, name="model"),
    )
    values.create(connection)
    connection.execute(insert(values))
    both = cast(values.c.found, String), cast(values.c.model, String)
    return bool(connection.scalar(select(both[0].is_not_distinct_from(both[1]))))


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"])


def _like(column: Column[Any], default: Any, *, name: str) -> Column[Any]:
    server_default = None if default is None else default.arg
    return Column(name, column.type, server_default=server_default, nullable=column.nullable)


def _drop(connection: Connection, name: str) -> None:
    """Remove a temporary table where a rollback leaves it."""
    if database_of(connection).ddl_commits:
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"DROP TEMPORARY TABLE IF EXISTS {name}")
