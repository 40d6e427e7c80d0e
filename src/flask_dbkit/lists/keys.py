"""The keys of an order, as one database reads, compares and sorts them.

A keyset is compared inside the database, so it has to hold what is stored there and not what
Python makes of it. What an expression is, the database decides: a column of a table is what it
was declared as, all else is asked for once (:mod:`.probing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import String, bindparam, cast, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from ..databases import database_of
from .codecs import RAW, carried_by, is_read_as_sent, refuse_type, type_name
from .database import Facts, KeyForm
from .exceptions import PlanError
from .probing import database_for
from .sorting import SortTerm
from .statement.expressions import is_plain_column

__all__ = ["Key", "Segment", "keys_for", "refuse_key"]


@dataclass(frozen=True)
class Segment:
    """One index range of a page.

    Attributes:
        criterion: The rows in it.
        fixed: How many leading keys have one value in it.
    """

    criterion: ColumnElement[Any]
    fixed: int = 0


@dataclass(frozen=True)
class Key:
    """One key of a total order, ready for one database.

    Attributes:
        form: How the database reads, compares and sorts it.
        term: Its direction and NULL placement.
        nullable: NULLs can come.
        nulls_first: Where they come, in the direction of the term.
        kind: The name of its type.
        carries: The Python types its values can have.
        identity: Its place in the primary key of the listed object, which tells its value as the
            database sent it. ``None`` if it has to be read beside the row.
        refuses_nul: The database takes no text with a NUL.
    """

    form: KeyForm
    term: SortTerm
    nullable: bool
    nulls_first: bool
    kind: str
    carries: tuple[type, ...]
    identity: int | None = None
    refuses_nul: bool = False

    def reversed(self) -> Key:
        """Return the key of the opposite order."""
        return replace(self, term=self.term.reversed(), nulls_first=not self.nulls_first)

    def fits(self, value: object) -> bool:
        """Tell whether a value can be one of this key."""
        if value is None:
            return self.nullable
        # To Python a truth value is a number, to a database it may be none.
        known = bool in self.carries if isinstance(value, bool) else isinstance(value, self.carries)
        return known and not (self.refuses_nul and isinstance(value, str) and "\0" in value)

    @property
    def signature(self) -> tuple[object, ...]:
        """What a cursor has to agree with, beside the SQL of the order."""
        return (self.term.descending, self.term.key.nulls, self.nullable, self.kind)

    def order(self) -> ColumnElement[Any]:
        """Return the element for ORDER BY."""
        return self.term.order(self.form.ordered, nullable=self.nullable)

    def bound(self, name: str) -> ColumnElement[Any]:
        """Return the parameter of a value.

        Args:
            name: What it is called.
        """
        value = bindparam(name, type_=RAW, required=True)
        sent_as = self.form.sent_as
        return value if sent_as is None else type_coerce(cast(value, sent_as), RAW)

    def equals(self, value: ColumnElement[Any] | None) -> ColumnElement[Any]:
        """Return the criterion for rows with this value."""
        return self.form.compared.is_(None) if value is None else self.form.compared == value

    def beyond(self, value: ColumnElement[Any] | None) -> list[ColumnElement[Any]]:
        """Return the index ranges that come after a value, in order."""
        compared = self.form.compared
        if value is None:
            return [compared.is_not(None)] if self.nulls_first else []
        further = compared < value if self.term.descending else compared > value
        if self.nullable and not self.nulls_first:
            return [further, compared.is_(None)]
        return [further]

    def segments_beyond(self, value: ColumnElement[Any] | None) -> list[Segment]:
        """Return the same ranges, each telling whether the key has one value in it."""
        # Behind the first range only NULLs can come.
        return [Segment(one, min(place, 1)) for place, one in enumerate(self.beyond(value))]

    def guard(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the one range that has the value and all that comes after it."""
        return self.form.compared <= value if self.term.descending else self.form.compared >= value


def keys_for(  # noqa: PLR0917 - one place each
    terms: Iterable[SortTerm],
    expressions: Iterable[ColumnElement[Any]],
    nullables: Iterable[bool],
    facts: Iterable[Facts],
    dialect: Dialect,
    identity: Sequence[ColumnElement[Any]] = (),
) -> tuple[Key, ...]:
    """Prepare the keys of an order for one database.

    Args:
        terms: The order.
        expressions: The key of each term, over the statement.
        nullables: Whether each can be NULL.
        facts: What each is on this database.
        dialect: The database.
        identity: The primary key of the listed objects, if the rows are such.

    Returns:
        The keys. One expression may be several: where a database sorts the start of a text only,
        each piece of it is a key.

    Raises:
        PlanError: A key has a type that no cursor can carry.
    """
    database = database_for(dialect)
    found: list[Key] = []
    for term, expression, nullable, fact in zip(terms, expressions, nullables, facts, strict=True):
        type_ = expression.type
        refuse_key(term.name, type_, fact, dialect)
        if term.key.nulls is None:
            known = database_of(dialect)
            if nullable and not known.is_known:
                raise PlanError(
                    f"Where {known.name} puts NULLs is not known, and a cursor would lose them."
                    " Say it: SortKey(…, nulls='first'), or 'last'.",
                    key=term.name,
                )
            nulls_first = known.nulls_are_largest is term.descending
        else:
            nulls_first = term.key.nulls == "first"
        same = (n for n, one in enumerate(identity) if one is expression or one.compare(expression))
        place = next(same, None) if is_read_as_sent(type_, dialect) else None
        # SQLite keeps numbers and moments as it likes, but text of a text column is text.
        typed = database.asks_for_types or isinstance(type_, String)
        declared = typed and is_plain_column(expression)
        kind = type_name(type_, dialect)
        carries = carried_by(type_, dialect, declared=declared)
        found += [
            Key(form, term, nullable, nulls_first, kind, carries, place, database.refuses_nul)
            for form in database.forms(expression, fact, dialect)
        ]
    return tuple(found)


def refuse_key(name: str | None, type_: TypeEngine[Any], facts: Facts, dialect: Dialect) -> None:
    """Refuse a key whose values have no order that a cursor could carry.

    Args:
        name: The published name of the key.
        type_: Its type, as far as SQLAlchemy knows it.
        facts: What the database says.
        dialect: The database.

    Raises:
        PlanError: It has none.
    """
    if facts.kind == "unordered":
        raise PlanError(f"It is {facts.name} on this database, which has no order.", key=name)
    try:
        refuse_type(type_, dialect)
    except PlanError as error:
        raise PlanError(error.reason, key=name) from None
