"""Filter allowlists: parameters of a query string → criteria, and nothing that was not published.

.. code-block:: python

    BOOK_FILTER = FilterAllowlist(
        {
            "title": Filter(Book.title, ops="eq icontains startswith"),
            "shelf": Book.shelf_id,  # shorthand for ops="eq in"
        }
    )
    statement = BOOK_FILTER.apply(select(Book), {"title__icontains": "sea", "shelf__in": "1,2"})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import GenerativeSelect

from ..support.calls import explained_methods
from ..support.words import did_you_mean
from .converters import (
    BadValue,
    Converter,
    Range,
    boolean_of,
    converter_for,
    declared_range,
)
from .entries import entries_of
from .exceptions import PlanError, QueryError, mistake
from .operators import OPERATORS, criterion
from .query import RESERVED, NoText, Pairs, check_number, pairs_of
from .statement.expressions import element_of, is_aggregate

__all__ = ["Condition", "Filter", "FilterAllowlist"]

S = TypeVar("S", bound=GenerativeSelect)


@explained_methods()
class Filter:
    """An entry of a :class:`FilterAllowlist`.

    Args:
        target: A column, hybrid or SQL expression, or a function
            ``(statement, value) -> statement`` for EXISTS and joins.
        ops: The operators a client may use, as text or an iterable. ``"eq in"`` for a column,
            ``"eq"`` for a function, which takes no other.
        type: What values are converted to, in place of the column's type: a Python type, a
            SQLAlchemy type, or a function of the text that raises ``ValueError``.
        max_values: Most values of ``in`` and ``not_in``, in place of the allowlist's.

    Raises:
        ValueError: An operator is unknown, or ``max_values`` is no positive number.
        TypeError: A function has no ``type``, or the target is neither.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        target: Any,
        *,
        ops: str | Iterable[str] | None = None,
        type: Any = None,  # noqa: A002 - the published name
        max_values: int | None = None,
    ) -> None:
        self.is_function = not (
            isinstance(target, ColumnElement) or hasattr(target, "__clause_element__")
        )
        if self.is_function and not callable(target):
            raise TypeError(
                f"Filter was given {target!r}. Use a column, an expression or a function"
                " (statement, value) -> statement."
            )
        words = ops.split() if isinstance(ops, str) else list(ops or ())
        if ops is None:
            words = ["eq"] if self.is_function else ["eq", "in"]
        unknown = [word for word in words if word not in OPERATORS]
        if unknown or not words:
            what = f"has {unknown[0]!r}" if unknown else f"is {ops!r}"
            hint = did_you_mean(unknown[0], OPERATORS) if unknown else ""
            raise ValueError(f"Filter ops {what}. Use some of: {', '.join(OPERATORS)}.{hint}")
        if self.is_function and words != ["eq"]:
            raise ValueError(f"Filter ops is {ops!r}, but a function only takes 'eq'.")
        if self.is_function and type is None:
            raise TypeError(
                "A Filter with a function needs type=, for example type=int: there is no column"
                " to take it from."
            )
        if max_values is not None:
            check_number("max_values", max_values)
        self.target, self.ops = target, tuple(dict.fromkeys(words))
        self.type, self.max_values = type, max_values
        self._converters: dict[Range, Converter] = {}

    @property
    def converter(self) -> Converter:
        """How text becomes a value; read from the column when first asked for.

        Raises:
            PlanError: Nothing converts text to the column's type, or the type is no text and an
                operator needs it to be.
        """
        return self.converter_on(declared_range)

    def converter_on(self, range_of: Range) -> Converter:
        """Return how text becomes a value on one database.

        Args:
            range_of: What an integer column holds there.

        Raises:
            PlanError: As :attr:`converter`.
        """
        found = self._converters.get(range_of)
        if found is None:
            type_ = self.type if self.type is not None else element_of(self.target).type
            found = converter_for(type_, range_of)
            wrong = [op for op in self.ops if OPERATORS[op].text and not found.is_text]
            if wrong:
                raise PlanError(f"The operators {', '.join(wrong)} need a text column.")
            self._converters[range_of] = found
        return found

    @cached_property
    def expression(self) -> ColumnElement[Any] | None:
        """The column expression, or ``None`` for a function; needs configured mappers."""
        return None if self.is_function else element_of(self.target)

    @cached_property
    def is_aggregate(self) -> bool:
        """Whether the expression is computed per group, so that only HAVING may see it."""
        return self.expression is not None and is_aggregate(self.expression)


@dataclass(frozen=True)
class Condition:
    """One filter of one request, converted.

    Attributes:
        name: The published name.
        op: The operator.
        value: The converted value; a list for ``in`` and ``not_in``.
        entry: The entry of the allowlist.
        text: As the client wrote it.
    """

    name: str
    op: str
    value: Any
    entry: Filter
    text: str = ""

    @property
    def signature(self) -> tuple[object, ...]:
        """What the criterion looks like, apart from its value."""
        return (self.name, self.op, self.value if OPERATORS[self.op].flag else None)

    def bound(self, place: int) -> dict[str, Any]:
        """Return the values to bind for the condition at a place of a statement."""
        if self.entry.is_function:
            return {}
        return OPERATORS[self.op].values(self.value, place)


@explained_methods()
class FilterAllowlist:
    """The names a client may filter by, each with its operators.

    Args:
        mapping: Published name → :class:`Filter`, or a column as shorthand for ``ops="eq in"``; or
            a list of these, published by the names of their attributes.
        max_filters: Most conditions of one request.
        max_values: Most values of one ``in`` or ``not_in``.
        syntax: ``"suffix"`` for ``name__op=value``, ``"brackets"`` for ``name[op]=value``.

    Raises:
        ValueError: A name or a limit cannot be used.
        TypeError: An entry is neither a column nor a :class:`Filter`.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        mapping: Mapping[str, Any] | Iterable[Any],
        *,
        max_filters: int = 20,
        max_values: int = 100,
        syntax: Literal["suffix", "brackets"] = "suffix",
    ) -> None:
        if syntax not in ("suffix", "brackets"):
            raise ValueError(f"syntax is {syntax!r}. Use 'suffix' or 'brackets'.")
        for limit, given in (("max_filters", max_filters), ("max_values", max_values)):
            check_number(limit, given)
        self.max_filters, self.max_values, self.syntax = max_filters, max_values, syntax
        self.entries: dict[str, Filter] = {}
        for name, entry in entries_of("FilterAllowlist", mapping).items():
            self._check_name(name)
            self.entries[name] = entry if isinstance(entry, Filter) else Filter(entry)

    def __repr__(self) -> str:
        return f"FilterAllowlist({', '.join(self.entries)})"

    def parse(self, args: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> tuple[Condition, ...]:
        """Read the filters of a request.

        Args:
            args: A ``MultiDict``, or a mapping to text or lists of text.

        Returns:
            One condition per filter, converted.

        Raises:
            QueryError: With every mistake.
            PlanError: An entry has a type that text cannot be turned into.
        """
        conditions, errors = self.read(pairs_of(args))
        if errors:
            raise QueryError(errors)
        return conditions

    def apply(self, statement: S, args: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> S:
        """Add the criteria of a request to a statement.

        Args:
            statement: A ``select()`` that has the tables of the entries asked for.
            args: As in :meth:`parse`.

        Raises:
            QueryError: With every mistake.
            PlanError: The statement takes no criteria.
        """
        if not hasattr(statement, "where"):
            raise PlanError(
                "A union takes no criteria. Filter its parts, select from its subquery(), or give"
                " it to a Listing."
            )
        conditions = self.parse(args)
        added = add_conditions(statement, conditions, live=True)
        return cast("S", call_functions(added, conditions))

    def parameter(self, name: str, op: str) -> str:
        """Return the name of the parameter for an operator."""
        if op == "eq":
            return name
        return f"{name}[{op}]" if self.syntax == "brackets" else f"{name}__{op}"

    def read(
        self, pairs: Pairs, range_of: Range = declared_range
    ) -> tuple[tuple[Condition, ...], list[dict[str, Any]]]:
        """Read the filters of a request as :meth:`parse` does, but return the mistakes.

        Args:
            pairs: Every parameter with its value.
            range_of: What an integer column holds on the database it is for.
        """
        errors: list[dict[str, Any]] = []
        given: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for parameter, value in pairs:
            name, op = self._split(parameter)
            entry = self.entries.get(name)
            if entry is None:
                if op in OPERATORS and parameter not in (name, *RESERVED):
                    # A mistyped name would else widen the result without a word.
                    errors.append(mistake(parameter, "unknown_filter", value, list(self.entries)))
            elif op not in entry.ops:
                errors.append(mistake(parameter, "unknown_operator", value, list(entry.ops)))
            else:
                given.setdefault((name, op), []).append((parameter, value))
        if len(given) > self.max_filters:
            parameter, value = list(given.values())[self.max_filters][0]
            errors.append(mistake(parameter, "too_many_filters", value, self.max_filters))
            return (), errors[: self.max_filters]
        conditions = []
        for name in self.entries if given else ():
            for op in self.entries[name].ops:
                if (name, op) in given:
                    condition = self._convert(name, op, given[name, op], errors, range_of)
                    if condition is not None:
                        conditions.append(condition)
        return tuple(conditions), errors[: self.max_filters]

    def _split(self, parameter: str) -> tuple[str, str]:
        if parameter in self.entries:
            return parameter, "eq"
        if self.syntax == "brackets":
            name, bracket, op = parameter.partition("[")
            return (name, op[:-1]) if bracket and op.endswith("]") else (parameter, "eq")
        name, underscores, op = parameter.rpartition("__")
        return (name, op) if underscores else (parameter, "eq")

    def _convert(  # noqa: PLR0911 - one per mistake
        self,
        name: str,
        op: str,
        given: Sequence[tuple[str, str]],
        errors: list[dict[str, Any]],
        range_of: Range,
    ) -> Condition | None:
        entry, operator = self.entries[name], OPERATORS[op]
        parameter, text = given[0]
        nothing = next((value for _, value in given if isinstance(value, NoText)), None)
        if nothing is not None:
            errors.append(mistake(parameter, "bad_value", nothing, "one value or more, as text"))
            return None
        if not operator.several and len(given) > 1:
            errors.append(mistake(parameter, "repeated_parameter", given[1][1]))
            return None
        try:
            if operator.flag:
                return Condition(name, op, boolean_of(text), entry, text)
            if not operator.several:
                return Condition(name, op, entry.converter_on(range_of).convert(text), entry, text)
            most = entry.max_values or self.max_values
            text = ",".join(value for _, value in given)
            if not text:
                allowed = "one value or more, with commas between"
                errors.append(mistake(parameter, "bad_value", text, allowed))
                return None
            words = text.split(",")
            if len(words) > most:
                errors.append(mistake(parameter, "too_many_values", text, most))
                return None
            convert = entry.converter_on(range_of).convert
            values = [convert(word) for word in words]
            return Condition(name, op, values, entry, text)
        except BadValue as error:
            errors.append(mistake(parameter, "bad_value", text, error.allowed))
            return None

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str) or not name or set(name) & set(" \t\n&=#[],"):
            raise ValueError(
                f"{name!r} cannot be a filter name. Use text without spaces, commas and brackets."
            )
        if name in RESERVED:
            raise ValueError(
                f"{name!r} cannot be a filter name: every list has a parameter of that name."
            )
        front, _, op = name.rpartition("__")
        if front and op in OPERATORS:
            raise ValueError(f"{name!r} cannot be a filter name: it ends in the operator {op!r}.")


def add_conditions(
    statement: Any,
    conditions: Iterable[Condition],
    adapt: Callable[[ColumnElement[Any]], ColumnElement[Any]] = lambda expression: expression,
    *,
    live: bool = False,
) -> Any:
    """Add the conditions on expressions to a statement, aggregates in HAVING, else in WHERE.

    Args:
        statement: A ``select()``.
        conditions: What :meth:`FilterAllowlist.parse` returned. Those of functions are left out.
        adapt: Turns an entry's expression into one over the statement.
        live: Put the values into the statement. Otherwise they are bound when it runs, so that
            the statement serves every request of the same form.
    """
    rows: list[ColumnElement[bool]] = []
    groups: list[ColumnElement[bool]] = []
    for place, condition in enumerate(conditions):
        entry = condition.entry
        if entry.expression is None:
            continue
        target = adapt(entry.expression)
        one = criterion(target, condition.op, condition.value, None if live else place)
        grouped = entry.is_aggregate and (target is entry.expression or is_aggregate(target))
        (groups if grouped else rows).append(one)
    if rows:
        statement = statement.where(*rows)
    return statement.having(*groups) if groups else statement


def call_functions(statement: Any, conditions: Iterable[Condition]) -> Any:
    """Hand a statement through the functions of its conditions.

    Args:
        statement: A ``select()``.
        conditions: What :meth:`FilterAllowlist.parse` returned. Those on expressions are left out.

    Raises:
        PlanError: A function returned no statement.
    """
    for condition in conditions:
        if condition.entry.is_function:
            statement = cast("Any", condition.entry.target)(statement, condition.value)
            if not isinstance(statement, GenerativeSelect):
                raise PlanError(
                    f"The function returned {statement!r}. Return the statement with the filter.",
                    key=condition.name,
                )
    return statement
