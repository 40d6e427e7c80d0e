"""How many rows a statement has: all of them, or at most so many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import bindparam, func, literal_column, select
from sqlalchemy.orm import Session

from .statement import ListedStatement, criteria_for, without_locks

__all__ = ["Count", "Counter", "check_count"]

Count = Literal["exact", "none"] | int
"""How rows are counted: all of them, not at all, or at most this many."""

_CAP = "dbkit_cap"


def check_count(count: object) -> None:
    """Refuse what is no way to count.

    Raises:
        ValueError: It is none.
    """
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    if count not in (None, "exact", "none") and not whole:
        raise ValueError(f"count is {count!r}. Use 'exact', 'none' or a whole number.")


@dataclass
class Counter:
    """Counts the rows of a statement, with statements that are built once.

    Attributes:
        listed: What is known about the statement.
        statement: With its criteria, without an order.
    """

    listed: ListedStatement
    statement: Any
    _built: dict[bool, Any] = field(default_factory=dict)

    def count(self, session: Session, values: Mapping[str, Any], most: int | None = None) -> int:
        """Count.

        Args:
            session: Runs one statement. Never committed or rolled back here.
            values: Bound values of the statement's own criteria.
            most: Read at most this many rows, and one more.

        Returns:
            The number of rows, or ``most + 1`` if there are more.
        """
        capped = most is not None
        if capped not in self._built:
            self._built[capped] = self._capped() if capped else self._exact()
        bound = dict(values)
        if most is not None:
            bound[_CAP] = most + 1
        return int(session.execute(self._built[capped], bound).scalar_one())

    def _exact(self) -> Any:
        rows = without_locks(self.statement)
        if self._is_plain:
            return rows.with_only_columns(func.count(), maintain_column_froms=True)
        return criteria_for(select(func.count()).select_from(rows.subquery()), self.statement)

    def _capped(self) -> Any:
        rows = without_locks(self.statement)
        if self._is_plain:
            rows = rows.with_only_columns(literal_column("1"), maintain_column_froms=True)
        capped = rows.limit(bindparam(_CAP)).subquery()
        return criteria_for(select(func.count()).select_from(capped), self.statement)

    @property
    def _is_plain(self) -> bool:
        return not (self.listed.grouped or self.listed.distinct)
