"""The operators of filters: one record each, with its SQL, its values and its words."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy import types as sqltypes
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from ..databases import MYSQL, SQLITE
from .statement.expressions import in_brackets

__all__ = ["OPERATORS", "Operator", "criterion"]

_ESCAPE = "/"


class _Like(FunctionElement[bool]):
    """``LIKE`` that tells case on every database.

    Its clauses are the text, the escaped pattern and the bare value: not every database needs
    all three.
    """

    inherit_cache = True
    type = sqltypes.Boolean()
    name = "dbkit_like"
    sqlite = "instr({text}, {value}) > 0"


class _StartsWith(_Like):
    inherit_cache = True
    sqlite = "substr({text}, 1, length({value})) = {value}"


class _EndsWith(_Like):
    inherit_cache = True
    sqlite = "({value} = '' OR substr({text}, -length({value})) = {value})"


@compiles(_Like)
def _compile_like(element: _Like, compiler: SQLCompiler, **kwargs: Any) -> str:
    text, pattern, _ = list(element.clauses)
    process = compiler.process
    return f"{process(text, **kwargs)} LIKE {process(pattern, **kwargs)} ESCAPE '{_ESCAPE}'"


# The column's collation decides there, and most ignore case; a binary pattern does not.
# https://mariadb.com/docs/server/reference/sql-functions/string-functions/like
@compiles(_Like, *MYSQL.names)
def _compile_like_mysql(element: _Like, compiler: SQLCompiler, **kwargs: Any) -> str:
    text, pattern, _ = list(element.clauses)
    process = compiler.process
    return f"{process(text, **kwargs)} LIKE BINARY {process(pattern, **kwargs)} ESCAPE '{_ESCAPE}'"


# LIKE ignores the case of ASCII letters there, whatever the collation.
# https://www.sqlite.org/lang_expr.html#the_like_glob_regexp_match_and_extract_operators
@compiles(_Like, *SQLITE.names)
def _compile_like_sqlite(element: _Like, compiler: SQLCompiler, **kwargs: Any) -> str:
    text, _, value = list(element.clauses)
    # Each place in the text takes a parameter of its own, so each is rendered by itself.
    return re.sub(
        r"\{(text|value)\}",
        lambda match: compiler.process(text if match[1] == "text" else value, **kwargs),
        element.sqlite,
    )


def _escaped(text: str) -> str:
    for character in (_ESCAPE, "%", "_"):
        text = text.replace(character, _ESCAPE + character)
    return text


@dataclass(frozen=True)
class Operator:
    """One operator of filters.

    Attributes:
        words: What it means, for people.
        build: Makes the criterion from what is compared and the maker of its bound values.
        pattern: Turns the value into the pattern of a ``LIKE``.
        text: It makes sense for text only.
        several: It takes a list of values.
        flag: Its value is ``true`` or ``false``, whatever is compared.
    """

    words: str
    build: Callable[[ColumnElement[Any], _Bind], ColumnElement[Any]]
    pattern: Callable[[str], str] | None = None
    text: bool = False
    several: bool = False
    flag: bool = False

    def values(self, value: Any, place: int) -> dict[str, Any]:
        """Return the values to bind for a condition.

        Args:
            value: The converted value; a list for one of ``several``.
            place: The number of the condition in its statement.
        """
        if self.flag:
            return {}
        values = {f"dbkit_f{place}v": value}
        if self.pattern is not None:
            values[f"dbkit_f{place}p"] = self.pattern(value)
        return values


def _compare(words: str, compare: Callable[[Any, Any], Any]) -> Operator:
    return Operator(words, lambda target, bind: compare(target, bind("v")))


def _member(words: str, method: str) -> Operator:
    return Operator(
        words,
        lambda target, bind: getattr(target, method)(bind("v", expanding=True)),
        several=True,
    )


def _like(words: str, pattern: str, kind: type[_Like]) -> Operator:
    return Operator(
        words,
        lambda target, bind: kind(target, bind("p", _TEXT), bind("v", _TEXT)),
        lambda text: pattern.format(_escaped(text)),
        text=True,
    )


def _ilike(words: str, pattern: str) -> Operator:
    return Operator(
        f"{words}, in any case",
        lambda target, bind: target.ilike(bind("p", _TEXT), escape=_ESCAPE),
        lambda text: pattern.format(_escaped(text)),
        text=True,
    )


def _isnull(target: ColumnElement[Any], bind: _Bind) -> ColumnElement[Any]:
    return target.is_(None) if bind.value else target.is_not(None)


_TEXT = sqltypes.String()

OPERATORS: Mapping[str, Operator] = {
    "eq": _compare("equal to", operator.eq),
    "ne": _compare("not equal to", operator.ne),
    "lt": _compare("less than", operator.lt),
    "lte": _compare("at most", operator.le),
    "gt": _compare("more than", operator.gt),
    "gte": _compare("at least", operator.ge),
    "in": _member("one of", "in_"),
    "not_in": _member("none of", "not_in"),
    "contains": _like("contains", "%{}%", _Like),
    "icontains": _ilike("contains", "%{}%"),
    "startswith": _like("starts with", "{}%", _StartsWith),
    "istartswith": _ilike("starts with", "{}%"),
    "endswith": _like("ends with", "%{}", _EndsWith),
    "iendswith": _ilike("ends with", "%{}"),
    "isnull": Operator("missing", _isnull, flag=True),
}
"""Every operator by its name, as it is written after the two underscores."""


def criterion(
    target: ColumnElement[Any], op: str, value: Any, place: int | None
) -> ColumnElement[Any]:
    """Return the criterion of a condition.

    Args:
        target: What is compared.
        op: The operator.
        value: The converted value.
        place: The number of the condition in a statement whose values are bound when it runs;
            ``None`` puts the values into the criterion.
    """
    return OPERATORS[op].build(
        in_brackets(target), _Bind(OPERATORS[op], value, place, _bind_type(target.type))
    )


class _Bind:
    """Makes the bound parameters of one condition, named after its place."""

    def __init__(
        self, op: Operator, value: Any, place: int | None, type_: TypeEngine[Any] | None
    ) -> None:
        self._op, self.value, self._place, self._type = op, value, place, type_

    def __call__(
        self, part: str, type_: TypeEngine[Any] | None = None, *, expanding: bool = False
    ) -> Any:
        wanted = type_ if type_ is not None else self._type
        name = f"dbkit_f{self._place or 0}{part}"
        if self._place is not None:
            return bindparam(name, type_=wanted, expanding=expanding, required=True)
        value = self._op.values(self.value, 0)[name]
        return bindparam(None, value, type_=wanted, expanding=expanding, unique=True)


def _bind_type(type_: TypeEngine[Any]) -> TypeEngine[Any] | None:
    # PostgreSQL is sent a cast to the bound type: with the column's precision it would round
    # what the client asked for, or fail where that does not fit.
    if type(type_) in (sqltypes.Numeric, sqltypes.DECIMAL, sqltypes.NUMERIC):
        return sqltypes.Numeric(asdecimal=type_.asdecimal)  # type: ignore[attr-defined]
    # What fits the column may be more than the type by its name: 64 bits on SQLite.
    if type(type_) in (sqltypes.Integer, sqltypes.SmallInteger):
        return sqltypes.BigInteger()
    if isinstance(type_, sqltypes.Float):
        return sqltypes.Double()
    return None if isinstance(type_, sqltypes.NullType) else type_
