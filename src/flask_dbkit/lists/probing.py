"""What the keys of an order are on a database, asked of the database itself, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.sql.elements import ColumnElement

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from .converters import Range, declared_range
from .database import Facts, ListDatabase
from .on_mysql import MySQL
from .on_postgresql import PostgreSQL
from .on_sqlite import SQLite
from .plans import Plans
from .statement import without_locks
from .statement.expressions import is_plain_column

__all__ = ["database_for", "facts_of_keys", "range_on"]

_BY_DATABASE = {SQLITE: SQLite(), POSTGRESQL: PostgreSQL(), MYSQL: MySQL()}
_OTHERS = ListDatabase()
_SORTED = "how many bytes a sort looks at"
_known: WeakKeyDictionary[Engine, Plans[object, Facts]] = WeakKeyDictionary()


def database_for(dialect: Dialect) -> ListDatabase:
    """Return what a database means for lists."""
    return _BY_DATABASE.get(database_of(dialect), _OTHERS)


_RANGES = {known: kind.range_of for known, kind in _BY_DATABASE.items()}


def range_on(dialect: Dialect) -> Range:
    """Return what tells the range of an integer column on a database: the same each time."""
    return _RANGES.get(database_of(dialect), declared_range)


def facts_of_keys(
    connection: Connection,
    statement: Any,
    expressions: Sequence[ColumnElement[Any]],
    values: dict[str, Any],
) -> list[Facts]:
    """Tell what each key is: a column by its declaration, all else by asking the database.

    Sends one ``SELECT … LIMIT 0`` for what is not known yet of this engine.

    Args:
        connection: To the database.
        statement: What the keys are over, without an order.
        expressions: The keys.
        values: The bound values of the statement.
    """
    dialect = connection.dialect
    database = database_for(dialect)
    known = _known.setdefault(connection.engine, Plans())
    found: list[Facts | None] = []
    forms: list[object] = []
    for expression in expressions:
        plain = is_plain_column(expression) or not database.asks_for_types
        form = None if plain else expression._generate_cache_key()  # noqa: SLF001 - no public one
        forms.append(None if form is None else form.key)
        fact = database.declared(expression, dialect) if plain else known.get(forms[-1])
        found.append(fact)
    unknown = [one for one, fact in zip(expressions, found, strict=True) if fact is None]
    if unknown:
        labels = [one.label(f"dbkit_t{place}") for place, one in enumerate(unknown)]
        asked = without_locks(statement).with_only_columns(*labels, maintain_column_froms=True)
        result = connection.execute(asked.order_by(None).limit(0), values)
        answers = iter(database.facts_of(result.cursor))
        result.close()
        for place, fact in enumerate(found):
            if fact is None:
                found[place] = next(answers)
                if forms[place] is not None:
                    known.keep(forms[place], found[place])  # type: ignore[arg-type]
    facts = [fact for fact in found if fact is not None]
    if database.sorts_starts_of_texts and any(one.kind in ("text", "binary") for one in facts):
        limit = known.get(_SORTED) or known.keep(
            _SORTED, Facts(sorted_bytes=database.sorted_bytes(connection))
        )
        facts = [replace(one, sorted_bytes=limit.sorted_bytes) for one in facts]
    return facts
