"""Sort allowlists: text from a query string → an order, and nothing that was not published.

.. code-block:: python

    BOOK_SORT = SortAllowlist({"title": Book.title, "added": Book.created_at}, default="-added")
    statement = BOOK_SORT.apply(select(Book), "-added,title")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression
from sqlalchemy.sql.selectable import GenerativeSelect

from ..databases import MYSQL
from ..support.calls import explained_methods
from .entries import entries_of
from .exceptions import PlanError, QueryError, mistake
from .plans import Plans
from .query import check_number
from .statement import ListedStatement, read_statement
from .statement.expressions import element_of, in_brackets, is_association_proxy

__all__ = ["SortAllowlist", "SortKey", "SortTerm"]

Nulls = Literal["first", "last"]
S = TypeVar("S", bound=GenerativeSelect)


@explained_methods()
@dataclass(frozen=True)
class SortKey:
    """An entry of a :class:`SortAllowlist` with more to say than its expression.

    Attributes:
        expr: A column, hybrid, label or SQL expression.
        nulls: Where NULLs come, in either direction: ``"first"``, ``"last"``, or ``None`` for the
            database's own order, which keeps plain indexes usable.
        nullable: Whether it can be NULL; ``None`` reads it from the column. An expression is
            taken to be nullable unless this says otherwise.
        descending_first: A link that sorts by it sorts from the largest first, and the other way
            when it is followed again: ``page.sort_url(name)``.

    .. versionadded:: 0.1
    """

    expr: Any
    nulls: Nulls | None = None
    nullable: bool | None = None
    descending_first: bool = False

    def __post_init__(self) -> None:
        if self.nulls not in (None, "first", "last"):
            raise ValueError(f"SortKey nulls is {self.nulls!r}. Use None, 'first' or 'last'.")
        if self.nullable not in (None, True, False):
            raise TypeError(f"SortKey nullable is {self.nullable!r}. Use None, True or False.")
        if self.descending_first not in (True, False):
            raise TypeError(
                f"SortKey descending_first is {self.descending_first!r}. Use True or False."
            )
        _check_expression("SortKey", self.expr)

    @cached_property
    def element(self) -> ColumnElement[Any]:
        """The column expression behind the entry; asking for it needs configured mappers."""
        return element_of(self.expr)


@dataclass(frozen=True)
class SortTerm:
    """One key of an order.

    Attributes:
        name: The published name, or ``None`` for a tie-breaker.
        key: What to sort by.
        descending: The direction.
    """

    name: str | None
    key: SortKey
    descending: bool = False

    @property
    def text(self) -> str:
        """The term as a client writes it."""
        return f"{'-' if self.descending else ''}{self.name}"

    def order(self, expression: ColumnElement[Any], *, nullable: bool) -> ColumnElement[Any]:
        """Return the element for ORDER BY.

        Args:
            expression: The key over the statement it is for.
            nullable: Whether NULLs can come; without them a placement is not sent.
        """
        placed = self.key.nulls is not None and nullable
        key = in_brackets(expression) if placed else expression
        directed = key.desc() if self.descending else key.asc()
        if self.key.nulls is None or not placed:
            return directed
        return _PlacedNulls.of(directed, self.key.nulls)

    def reversed(self) -> SortTerm:
        """Return the term of the opposite order, NULLs included."""
        other: Mapping[Nulls | None, Nulls | None] = {"first": "last", "last": "first", None: None}
        key = replace(self.key, nulls=other[self.key.nulls])
        return replace(self, key=key, descending=not self.descending)


# MySQL and MariaDB have no NULLS FIRST: a NULL is less than everything there. A leading
# "x IS NULL" puts them elsewhere, at the price of the index, so it is left out where the
# database's own order is the one asked for.
# https://mariadb.com/docs/server/reference/sql-statements/data-manipulation/selecting-data/order-by
class _PlacedNulls(UnaryExpression[Any]):
    inherit_cache = True

    @classmethod
    def of(cls, directed: ColumnElement[Any], nulls: Nulls) -> _PlacedNulls:
        placed = directed.nulls_first() if nulls == "first" else directed.nulls_last()
        assert isinstance(placed, UnaryExpression)
        return cls(placed.element, modifier=placed.modifier)


@compiles(_PlacedNulls)
def _compile_placed(element: _PlacedNulls, compiler: SQLCompiler, **kwargs: Any) -> str:
    return str(cast("Any", compiler).visit_unary(element, **kwargs))


@compiles(_PlacedNulls, *MYSQL.names)
def _compile_placed_mysql(element: _PlacedNulls, compiler: SQLCompiler, **kwargs: Any) -> str:
    directed = cast("UnaryExpression[Any]", element.element)
    text = compiler.process(directed, **kwargs)
    first = element.modifier is operators.nulls_first_op
    if first is (directed.modifier is not operators.desc_op):
        return text
    bare = compiler.process(directed.element, **kwargs)
    return f"{bare} IS NULL{' DESC' if first else ''}, {text}"


@explained_methods(default="For example default='-added'; '' is the order of the primary key.")
class SortAllowlist:
    """The names a client may sort by, and what each means.

    Args:
        mapping: Published name → column, hybrid, label, SQL expression or :class:`SortKey`; or a
            list of these, published by the names of their attributes.
        default: The order without a ``sort`` parameter, as a client would write it. ``""`` is
            the order of the tie-breaker.
        tiebreaker: Replaces the primary key: an expression, or a tuple of them, together unique.
        max_keys: How many names a client may combine.
        on_invalid: ``"error"``, or ``"default"`` to fall back silently.

    Raises:
        ValueError: A name, the default or a limit cannot be used.
        TypeError: An entry is no expression.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        mapping: Mapping[str, Any] | Iterable[Any],
        *,
        default: str,
        tiebreaker: Any = None,
        max_keys: int = 3,
        on_invalid: Literal["error", "default"] = "error",
    ) -> None:
        self.entries: dict[str, SortKey] = {}
        for name, entry in entries_of("SortAllowlist", mapping).items():
            _check_name(name)
            _check_expression(f"Sort entry {name!r}", entry)
            self.entries[name] = entry if isinstance(entry, SortKey) else SortKey(entry)
        check_number("max_keys", max_keys)
        if on_invalid not in ("error", "default"):
            raise ValueError(f"on_invalid is {on_invalid!r}. Use 'error' or 'default'.")
        self.max_keys, self.on_invalid = max_keys, on_invalid
        if tiebreaker is None:
            self.tiebreaker: tuple[Any, ...] = ()
        else:
            several = isinstance(tiebreaker, (tuple, list))
            self.tiebreaker = tuple(tiebreaker) if several else (tiebreaker,)
            if not self.tiebreaker:
                raise ValueError("tiebreaker is empty. Leave it out to use the primary key.")
            for expression in self.tiebreaker:
                _check_expression("tiebreaker", expression)
        if not isinstance(default, str):
            raise TypeError(f"default is {default!r}. Use text such as '-added,title'.")
        self.default = default
        # More than max_keys is fine here: the limit is for clients.
        terms, errors = self._read(default) if default else ((), [])
        if errors:
            raise ValueError(
                f"default is {default!r}. Use one or more of {', '.join(self.entries)},"
                " each at most once, with '-' before a name for descending."
            )
        self.default_terms = terms
        self._clauses_kept: Plans[object, tuple[ColumnElement[Any], ...]] = Plans()

    def __repr__(self) -> str:
        return f"SortAllowlist({', '.join(self.entries)}, default={self.default!r})"

    def parse(
        self, text: str | None = None, *, direction: str | None = None
    ) -> tuple[SortTerm, ...]:
        """Read an order.

        Args:
            text: ``"-added,title"``. ``None`` and ``""`` mean the default.
            direction: ``"asc"`` or ``"desc"``, for a single name without its own sign.

        Returns:
            The terms asked for, without a tie-breaker.

        Raises:
            QueryError: With every mistake, unless ``on_invalid="default"``.
        """
        terms, errors = self.read(text, direction)
        if errors:
            raise QueryError(errors)
        return terms

    def read(
        self, text: str | None, direction: str | None = None
    ) -> tuple[tuple[SortTerm, ...], list[dict[str, Any]]]:
        """Read an order as :meth:`parse` does, but return the mistakes.

        Args:
            text: As in :meth:`parse`.
            direction: As in :meth:`parse`.
        """
        terms, errors = self._read(text) if text else (self.default_terms, [])
        if not errors and len(terms) > self.max_keys and text:
            errors = [mistake("sort", "too_many_sorts", text, self.max_keys)]
        if direction:
            terms, wrong = self._directed(terms, text, direction)
            errors += wrong
        if errors and self.on_invalid == "default":
            return self.default_terms, []
        return terms, errors

    def apply(self, statement: S, text: str | None = None, *, direction: str | None = None) -> S:
        """Order a statement, instead of any order it has.

        Args:
            statement: A ``select()``.
            text: As in :meth:`parse`.
            direction: As in :meth:`parse`.

        Returns:
            The statement with ``ORDER BY``, the tie-breaker included.

        Raises:
            QueryError: The text asks for what is not offered.
            PlanError: Nothing is known to be unique in each row of the statement.
        """
        terms = self.parse(text, direction=direction)
        return statement.order_by(None).order_by(*self._clauses(statement, terms))

    def complete(self, terms: Iterable[SortTerm], listed: ListedStatement) -> tuple[SortTerm, ...]:
        """Append the tie-breaker, in the direction of the last term.

        Args:
            terms: What :meth:`parse` returned.
            listed: What is known about the statement.

        Raises:
            PlanError: Nothing is known to be unique in each row.
        """
        found = list(terms)
        last = found[-1].descending if found else False
        breakers = [element_of(one) for one in self.tiebreaker] or list(listed.identity)
        if not breakers:
            raise PlanError(str(listed.reason))
        have = [listed.adapt(term.key.element) for term in found]
        for breaker in breakers:
            adapted = listed.adapt(breaker) if self.tiebreaker else breaker
            if not any(_same(adapted, one) for one in have):
                found.append(SortTerm(None, SortKey(breaker), last))
                have.append(adapted)
        return tuple(found)

    def _clauses(
        self, statement: Any, terms: tuple[SortTerm, ...]
    ) -> tuple[ColumnElement[Any], ...]:
        # Reading a FROM clause costs ten times what building an order does. SQLAlchemy's own
        # cache takes two statements with the same key for the same form.
        form = statement._generate_cache_key()  # noqa: SLF001
        key = (form.key, tuple(term.text for term in terms)) if form is not None else None
        found = self._clauses_kept.get(key)
        if found is not None:
            return found
        listed = read_statement(statement, unique=True, unique_by_caller=True)
        clauses = tuple(
            term.order(term.key.element, nullable=nullable(term, term.key.element, listed))
            for term in self.complete(terms, listed)
        )
        if key is not None and listed.plain and listed.lasting:
            self._clauses_kept.keep(key, clauses)
        return clauses

    def _read(self, text: str) -> tuple[tuple[SortTerm, ...], list[dict[str, Any]]]:
        terms: list[SortTerm] = []
        errors: list[dict[str, Any]] = []
        for part in text.split(","):
            descending = part.startswith("-")
            name = part[1:] if descending else part
            if name in self.entries:
                if any(term.name == name for term in terms):
                    errors.append(mistake("sort", "duplicate_sort", name))
                else:
                    terms.append(SortTerm(name, self.entries[name], descending))
            elif not name or name[0] in "-+ " or name != name.strip():
                errors.append(mistake("sort", "bad_sort_syntax", text, "name, or -name"))
            else:
                errors.append(mistake("sort", "unknown_sort", name, list(self.entries)))
            if len(errors) > self.max_keys:
                break  # a thousand commas shall not make a thousand errors
        return tuple(terms), errors

    @staticmethod
    def _directed(
        terms: tuple[SortTerm, ...], text: str | None, direction: str
    ) -> tuple[tuple[SortTerm, ...], list[dict[str, Any]]]:
        one_bare_name = len(terms) == 1 and not (text or "").startswith("-")
        if direction not in ("asc", "desc") or not one_bare_name:
            return terms, [mistake("direction", "bad_sort_syntax", direction, ["asc", "desc"])]
        return (replace(terms[0], descending=direction == "desc"),), []


def nullable(term: SortTerm, expression: ColumnElement[Any], listed: ListedStatement) -> bool:
    """Tell whether a key can be NULL: what the entry says, else what the column says."""
    return listed.is_nullable(expression) if term.key.nullable is None else term.key.nullable


def _same(one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
    return one is other or one.compare(other)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or name[0] in "-+" or set(name) & set(", \t\n&=#"):
        raise ValueError(
            f"{name!r} cannot be a sort name. Use text without commas and spaces, not starting"
            " with '-' or '+'."
        )


def _check_expression(what: str, expression: object) -> None:
    # Text would be sent as it is, or not at all: desc("n") fails when it is compiled.
    known = isinstance(expression, (ColumnElement, SortKey)) or hasattr(
        expression, "__clause_element__"
    )
    if not (known or is_association_proxy(expression)):
        raise TypeError(
            f"{what} is {expression!r}. Use a column, a hybrid, a label or an SQL expression."
        )
