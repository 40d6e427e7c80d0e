"""A statement with further criteria for one request, as a form with values.

``LISTING.statement.where(Book.owner_id == user.id)`` is another statement object at each
request, and has the same form each time. So the values are taken out of the further criteria and
bound by name when the plan of the form runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Select, TextClause
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.selectable import AliasedReturnsRows

from .plans import Plans

# ruff: noqa: SLF001 - the key of SQLAlchemy's own cache and the criteria of a statement have no
# public getter.

__all__ = ["Narrowed", "Narrower"]


@dataclass(frozen=True)
class Narrowed:
    """A statement given in place of a list's own.

    Attributes:
        given: The statement.
        form: What every statement of its form has in common; ``None`` if nothing is known to.
        values: The values of its further criteria, by name.
    """

    given: Any
    form: object = None
    values: Mapping[str, Any] = field(default_factory=dict)
    _names: Mapping[str, str] = field(default_factory=dict)
    _aliases: Sequence[Any] = ()

    @cached_property
    def statement(self) -> Any:
        """The statement with named parameters in its further criteria: it serves every form."""
        if not self._names:
            return self.given
        left = set(self._names)

        def name(bound: BindParameter[Any]) -> None:
            if bound.key in self._names:
                left.discard(bound.key)
                bound.key, bound.unique = self._names[bound.key], False
                # Without its value, which is one tenant's: forgetting to bind it has to fail.
                bound.value, bound.callable, bound.required = None, None, True

        # A copied alias would be another alias.
        options = {"maintain_key": True, "stop_on": self._aliases}
        named = self.given._generate()
        named._where_criteria = tuple(
            visitors.cloned_traverse(one, options, {"bindparam": name})
            for one in named._where_criteria
        )
        assert not left, "a value of one request would stay in the plan"
        return named


class Narrower:
    """Takes the values out of the criteria that a statement has beyond a list's own.

    Args:
        own: The statement of the list.
    """

    def __init__(self, own: Any) -> None:
        self._own = own
        form = own._generate_cache_key() if isinstance(own, Select) else None
        self._constant = None if form is None else frozenset(id(one) for one in form.bindparams)
        self._kept = form  # the parameters stay, so that their ids are those of nothing else
        # A key is long. Looked up once, it is a number to all that is kept by it.
        self._forms: Plans[object, int] = Plans()
        self._count = itertools.count(1)

    def narrow(self, statement: Any) -> Narrowed:
        """Return a statement as a form with values.

        Args:
            statement: The list's own with more ``where()``, or any other.
        """
        own, constant = self._own, self._constant
        if constant is None or not isinstance(statement, Select):
            return Narrowed(statement)
        shared = own._where_criteria
        start, further = (
            statement._where_criteria[: len(shared)],
            statement._where_criteria[len(shared) :],
        )
        if len(start) < len(shared) or any(a is not b for a, b in zip(start, shared, strict=True)):
            return Narrowed(statement)
        # Not part of the key; hooks of the session may read them.
        if statement.get_execution_options() != own.get_execution_options():
            return Narrowed(statement)
        given = statement._generate_cache_key()
        parts = None if given is None else _parts_of(further)
        if given is None or parts is None:
            return Narrowed(statement)
        fresh = [one for one in given.bindparams if id(one) not in constant]
        if {id(one) for one in fresh} != parts.parameters:
            return Narrowed(statement)
        names = {one.key: f"dbkit_n{place}" for place, one in enumerate(fresh)}
        values = {names[one.key]: one.effective_value for one in fresh}
        form = self._forms.get(given.key)
        if form is None:
            form = self._forms.keep(given.key, next(self._count))
        return Narrowed(statement, form, values, names, parts.aliases)


class _Parts(NamedTuple):
    parameters: set[int]
    aliases: list[Any]


def _parts_of(criteria: Sequence[Any]) -> _Parts | None:
    """Return the parameters of criteria, by id, and their aliases; ``None`` if they must stay."""
    parameters: set[int] = set()
    aliases: list[Any] = []
    for criterion in criteria:
        for part in visitors.iterate(criterion):
            if isinstance(part, BindParameter):
                if part.literal_execute or not part.unique:
                    return None
                parameters.add(id(part))
            elif isinstance(part, AliasedReturnsRows):
                aliases.append(part)
            elif isinstance(part, TextClause):
                return None
    # An alias is kept as it is, and so would be a value inside it.
    if any(isinstance(part, BindParameter) for one in aliases for part in visitors.iterate(one)):
        return None
    return _Parts(parameters, aliases)
