"""What the join of a relationship is made of: whether keys alone find the rows of many parents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, ColumnElement
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.selectable import FromClause, Join, TableClause

from .private import is_simple_get, notes

__all__ = ["KeyJoin", "key_join"]


@dataclass(frozen=True)
class KeyJoin:
    """A join of equalities between columns of the parent and of the other side.

    Attributes:
        local: Columns of the parent, whose values are in memory.
        remote: For each the column on the other side.
        criteria: What else the join says of the other side alone.
        to_one: The attribute is one object or ``None``.
        by_identity: The remote columns are the target's primary key, and the session is asked
            first.
    """

    local: tuple[ColumnElement[Any], ...]
    remote: tuple[ColumnElement[Any], ...]
    criteria: tuple[ColumnElement[bool], ...]
    to_one: bool
    by_identity: bool
    _names: dict[Mapper[Any], tuple[str, ...]] = field(default_factory=dict, compare=False)

    def local_names(self, mapper: Mapper[Any]) -> tuple[str, ...]:
        """Return the names of the attributes that hold the local columns in one class."""
        names = self._names.get(mapper)
        if names is None:
            names = tuple(mapper.get_property_by_column(column).key for column in self.local)
            self._names[mapper] = names
        return names


_known: WeakKeyDictionary[RelationshipProperty[Any], KeyJoin | None] = WeakKeyDictionary()


def key_join(relationship: RelationshipProperty[Any]) -> KeyJoin | None:
    """Return the join, or ``None`` for one that needs more of each parent than its keys.

    A comparison of columns of the parent, a function around one, a target that is an alias or a
    subquery: such rows belong to one parent only.
    """
    if relationship not in _known:
        _known[relationship] = _read(relationship)
    return _known[relationship]


def _read(relationship: RelationshipProperty[Any]) -> KeyJoin | None:
    if relationship.entity.is_aliased_class or not _is_made_of_tables(
        relationship.mapper.selectable
    ):
        return None
    pairs: list[tuple[Any, Any]] = []
    criteria: list[Any] = []
    for part in _parts(relationship.primaryjoin):
        pair = _pair(part)
        if pair is not None:
            pairs.append(pair)
        elif any("local" in notes(element) for element in visitors.iterate(part)):
            return None
        else:
            criteria.append(part)
    if not pairs:
        return None
    if relationship.secondaryjoin is not None:
        criteria.append(relationship.secondaryjoin)
    local, remote = zip(*pairs, strict=True)
    return KeyJoin(
        local,
        remote,
        tuple(criteria),
        to_one=not relationship.uselist,
        by_identity=is_simple_get(relationship),
    )


def _is_made_of_tables(selectable: FromClause) -> bool:
    if isinstance(selectable, Join):
        return _is_made_of_tables(selectable.left) and _is_made_of_tables(selectable.right)
    return isinstance(selectable, TableClause)


def _parts(clause: Any) -> Iterator[Any]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _parts(part)
    else:
        yield clause


def _pair(clause: Any) -> tuple[Any, Any] | None:
    """Return the columns of an equality: the parent's, then the other side's."""
    if not isinstance(clause, BinaryExpression) or clause.operator is not operators.eq:
        return None
    for local, remote in ((clause.left, clause.right), (clause.right, clause.left)):
        if "local" in notes(local) and "remote" in notes(remote):
            columns = isinstance(local, Column) and isinstance(remote, Column)
            return (local, remote) if columns and "remote" not in notes(local) else None
    return None
