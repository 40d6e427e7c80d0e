"""Rows of a page together with their keys."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .statement import ListedStatement

__all__ = ["Rows"]

_first = itemgetter(0)


class Rows:
    """The rows read so far, and the key values beside each.

    Args:
        listed: What a row of the statement holds.
        identities: For each key its place in the primary key of the row's object, or ``None``
            for the next column behind the row.

    Attributes:
        items: Elements or rows, without the key columns.
    """

    def __init__(self, listed: ListedStatement, identities: tuple[int | None, ...] = ()) -> None:
        self._listed = listed
        self._identities = identities
        self._read: list[Any] = []
        self.items: list[Any] = []

    def key(self, place: int) -> tuple[Any, ...]:
        """Return the key values of a row.

        Args:
            place: Its place among the rows read so far.
        """
        row = self._read[place]
        beside = iter(row[self._listed.width :])
        # What a row is identified by stays, whatever the session has done to the attribute.
        identity: Any = instance_state(row[0]).identity if self._listed.plain else None
        return tuple([next(beside) if at is None else identity[at] for at in self._identities])

    def read(self, session: Session, statement: Any, values: dict[str, Any]) -> bool | None:
        """Run a statement whose rows end in keys and perhaps one more column.

        Args:
            session: Runs the statement.
            statement: The segment.
            values: Its bound values.

        Returns:
            Whether the column after the keys is not NULL; ``None`` if there was no row.
        """
        result = session.execute(statement, values)
        repeats = self._listed.whole and _loads_collections(result)
        found = (result.unique() if repeats else result).all()
        if not found:
            return None
        size = self._listed.width
        behind = size + self._identities.count(None)
        self._read += found
        if self._listed.scalar:
            self.items += map(_first, found)
        else:
            self.items += IteratorResult(
                SimpleResultMetaData(self._listed.names), iter([tuple(row[:size]) for row in found])
            ).all()
        return len(found[0]) > behind and found[0][behind] is not None


def _loads_collections(result: Any) -> bool:
    """Tell whether joined loading repeats a parent once per child, so that rows need unique().

    Making rows unique costs a tenth of a page. SQLAlchemy knows whether it has to be, and raises
    if it has to be and is not; where it does not tell, rows are made unique.
    """
    try:
        return bool(result.raw.context.compiled.compile_state.multi_row_eager_loaders)
    except AttributeError:
        return True
