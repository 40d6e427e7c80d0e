"""Offset pages: the rows of a page by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import and_, bindparam
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from .counting import Count, Counter
from .encoding import EncodeAll, encoder_of
from .rows import Rows
from .statement import ListedStatement, without_locks

__all__ = ["OffsetPlan", "OffsetRows"]

_LIMIT, _OFFSET = "dbkit_limit", "dbkit_offset"
# Skipping a row costs less when only its keys are read. Below this the second look-up of the
# page's own rows costs more than it saves.
_DEEP = 5_000


@dataclass(frozen=True)
class OffsetRows:
    """What one offset page read.

    Attributes:
        items: The rows of the page.
        has_next: A row follows, seen and not computed.
        total: The number of rows, or the cap if there are more, or ``None``.
        total_is_exact: ``total`` is the number of rows.
    """

    items: list[Any]
    has_next: bool
    total: int | None
    total_is_exact: bool


@dataclass
class OffsetPlan:
    """A statement with its order, whose pages differ in bound values only.

    Attributes:
        listed: What is known about the statement.
        statement: With its criteria, without an order.
        order: The elements of ORDER BY, a total order.
    """

    listed: ListedStatement
    statement: Any
    order: Sequence[ColumnElement[Any]]
    _built: dict[bool, Any] = field(default_factory=dict)

    @cached_property
    def _counter(self) -> Counter:
        return Counter(self.listed, self.statement)

    @cached_property
    def encode(self) -> EncodeAll:
        """What turns rows into what JSON has."""
        return encoder_of(self.listed)

    def fetch(
        self,
        session: Session,
        page: int,
        per_page: int,
        *,
        count: Count = "exact",
        values: Mapping[str, Any] | None = None,
    ) -> OffsetRows:
        """Read one page, and count if the page does not tell the total.

        Args:
            session: Runs one or two statements. Never committed or rolled back here.
            page: From 1.
            per_page: From 1. One row more is read.
            count: How to count.
            values: Bound values of the statement's own criteria.
        """
        offset, own = (page - 1) * per_page, values or {}
        bound = {**own, _LIMIT: per_page + 1, _OFFSET: offset}
        rows = Rows(self.listed)
        rows.read(session, self._statement(offset >= _DEEP and self.listed.plain), bound)
        items, seen = rows.items[:per_page], offset + len(rows.items)
        has_next = len(rows.items) > per_page
        # The page itself tells the total, unless it is past the end.
        total = seen if not has_next and (rows.items or page == 1) else None
        if isinstance(count, int):
            if total is None and seen > count:
                total = seen
            if total is None:
                total = self._counter.count(session, own, count)
            return OffsetRows(items, has_next, min(total, count), total <= count)
        if total is None and count == "exact":
            total = self._counter.count(session, own)
        return OffsetRows(items, has_next, total, total is not None)

    def _statement(self, deep: bool) -> Any:
        if deep not in self._built:
            self._built[deep] = self._keys_first() if deep else self._plainly()
        return self._built[deep]

    def _plainly(self) -> Any:
        ordered = self.statement.order_by(*self.order)
        return ordered.limit(bindparam(_LIMIT)).offset(bindparam(_OFFSET))

    def _keys_first(self) -> Any:
        keys = self.listed.identity
        labels = [key.label(f"dbkit_pk{number}") for number, key in enumerate(keys)]
        chosen = (
            without_locks(self.statement)
            .with_only_columns(*labels, maintain_column_froms=True)
            .order_by(*self.order)
            .limit(bindparam(_LIMIT))
            .offset(bindparam(_OFFSET))
            .subquery()
        )
        pairs = zip(keys, labels, strict=True)
        return self.statement.where(
            and_(*(key == chosen.c[label.name] for key, label in pairs))
        ).order_by(*self.order)
