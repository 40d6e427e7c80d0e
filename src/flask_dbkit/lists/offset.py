"""Offset pages: the rows of a page by its number, and how many rows there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import and_, bindparam, func, literal_column, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from .rows import Rows
from .statement.listed import Shape, criteria_for, without_locks

__all__ = ["MAX_OFFSET", "Count", "OffsetPlan", "OffsetRows"]

Count = Literal["exact", "none"] | int
"""How rows are counted: all of them, not at all, or at most this many."""

MAX_OFFSET = 2**63 - 1
"""The largest number every database takes as OFFSET."""

_LIMIT, _OFFSET, _CAP = "dbkit_limit", "dbkit_offset", "dbkit_cap"
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
        shape: What is known about the statement.
        statement: With its criteria, without an order.
        order: The elements of ORDER BY, a total order.
    """

    shape: Shape
    statement: Any
    order: Sequence[ColumnElement[Any]]
    _built: dict[str, Any] = field(default_factory=dict)

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
        offset = (page - 1) * per_page
        bound = {**(values or {}), _LIMIT: per_page + 1, _OFFSET: offset}
        deep = offset >= _DEEP and self.shape.plain
        rows = Rows(self.shape)
        rows.read(session, self._statement("deep" if deep else "page"), bound)
        items, seen = rows.items[:per_page], offset + len(rows.items)
        has_next = len(rows.items) > per_page
        # The page itself tells the total, unless it is past the end.
        total = seen if not has_next and (rows.items or page == 1) else None
        if isinstance(count, int):
            if total is None and seen > count:
                total = seen
            if total is None:
                total = self._count(session, bound, count)
            return OffsetRows(items, has_next, min(total, count), total <= count)
        if total is None and count == "exact":
            total = self._count(session, bound, None)
        return OffsetRows(items, has_next, total, total is not None)

    def _count(self, session: Session, bound: Mapping[str, Any], cap: int | None) -> int:
        values = {key: value for key, value in bound.items() if key not in (_LIMIT, _OFFSET)}
        if cap is not None:
            values[_CAP] = cap + 1
        statement = self._statement("count" if cap is None else "capped")
        return int(session.execute(statement, values).scalar_one())

    def _statement(self, kind: str) -> Any:
        if kind not in self._built:
            self._built[kind] = getattr(self, f"_build_{kind}")()
        return self._built[kind]

    def _build_page(self) -> Any:
        ordered = self.statement.order_by(*self.order)
        return ordered.limit(bindparam(_LIMIT)).offset(bindparam(_OFFSET))

    def _build_deep(self) -> Any:
        keys = self.shape.identity
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

    def _build_count(self) -> Any:
        rows = without_locks(self.statement)
        if self._countable:
            return rows.with_only_columns(func.count(), maintain_column_froms=True)
        return criteria_for(select(func.count()).select_from(rows.subquery()), self.statement)

    def _build_capped(self) -> Any:
        rows = without_locks(self.statement)
        if self._countable:
            rows = rows.with_only_columns(literal_column("1"), maintain_column_froms=True)
        capped = rows.limit(bindparam(_CAP)).subquery()
        return criteria_for(select(func.count()).select_from(capped), self.statement)

    @property
    def _countable(self) -> bool:
        return not (self.shape.grouped or self.shape.distinct)
