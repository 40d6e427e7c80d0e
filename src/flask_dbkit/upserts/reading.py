"""Rows read as they are now, whatever the session or a snapshot shows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Select, select, tuple_, union_all
from sqlalchemy.orm import Mapper, Session, lazyload
from sqlalchemy.sql import ColumnElement, Executable

from ..databases import database_of
from .model_table import Key, KeyValues, ModelTable

__all__ = ["RowReader", "read_locked", "snapshot_hides_commits"]

_KEYS_PER_UNION = 100
_KEYS_PER_SELECT = 400  # older SQLite allows 999 parameters in a statement


@dataclass(frozen=True)
class RowReader:
    """Loads the objects with given keys, over what the session knew of them.

    Attributes:
        session: Sends the statements.
        target: The class to load.
        key: What tells its rows apart.
    """

    session: Session
    target: ModelTable
    key: Key

    def read(self, wanted: Mapping[Hashable, KeyValues], *, locking: bool) -> dict[Hashable, Any]:
        """Load one object per key.

        Args:
            wanted: The values of the keys, by their identity.
            locking: Whether only a locking read is sure to show the rows as they are now.

        Raises:
            ValueError: A row cannot be found by its key.
        """
        objects: dict[Hashable, Any] = {}
        select_ = self._point_by_point if locking else self._listed
        step = (_KEYS_PER_UNION if locking else _KEYS_PER_SELECT) // len(self.key.names)
        for some in _chunks(list(wanted.values()), step):
            for obj in self._fetch(select_(some)):
                found = tuple(getattr(obj, name) for name in self.key.names)
                objects[self.key.identity(found)] = obj
        for identity, values in wanted.items():
            if identity not in objects:
                objects[identity] = self._read_one(values)
        return objects

    def _read_one(self, values: KeyValues) -> Any:
        """Load a row that the lists did not show.

        Its key is equal to the database and not to Python, as text of another case may be; or
        it was hidden by a snapshot.
        """
        statement = self._plain().where(*self._equal(values))
        if snapshot_hides_commits(self.session, self.target.mapper):
            statement = read_locked(statement)
        found = self._fetch(statement)
        if len(found) != 1:
            given = dict(zip(self.key.names, values, strict=True))
            raise ValueError(
                f"The row with {given!r} cannot be read back as"
                f" {self.target.mapper.class_.__name__}: it belongs to another class of the same"
                " table, is hidden by loader criteria, or the database changed its key, as"
                " rounding does. Nothing was written."
            )
        return found[0]

    def _fetch(self, statement: Executable) -> Sequence[Any]:
        found = self.session.execute(statement, bind_arguments={"mapper": self.target.mapper})
        return found.scalars().unique().all()

    def _plain(self) -> Select[Any]:
        return select(self.target.mapper.class_).execution_options(populate_existing=True)

    def _attribute(self, name: str) -> Any:
        return getattr(self.target.mapper.class_, name)

    def _equal(self, values: KeyValues) -> list[ColumnElement[bool]]:
        pairs = zip(self.key.names, values, strict=True)
        return [self._attribute(name) == value for name, value in pairs]

    def _listed(self, some: list[KeyValues]) -> Executable:
        if len(self.key.names) == 1:
            return self._plain().where(
                self._attribute(self.key.names[0]).in_([values[0] for values in some])
            )
        return self._plain().where(tuple_(*map(self._attribute, self.key.names)).in_(some))

    def _point_by_point(self, some: list[KeyValues]) -> Executable:
        # A locking read with a list may be done as a scan of the table, which waits for rows
        # of others: a deadlock, as they wait for ours. Looking up one unique key never is.
        # The limit makes SQLAlchemy put each part in brackets.
        model = self.target.mapper.class_
        parts = [read_locked(select(model).where(*self._equal(values))).limit(1) for values in some]
        return cast("Executable", self._plain().from_statement(union_all(*parts)))


def _chunks(values: list[KeyValues], size: int) -> Iterator[list[KeyValues]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def read_locked(statement: Select[Any]) -> Select[Any]:
    """Read past the snapshot of a transaction, as only a locking read does on MariaDB.

    REPEATABLE READ goes on showing the data as of the first SELECT.
    https://mariadb.com/kb/en/innodb-lock-modes/
    """
    return statement.options(lazyload("*")).with_for_update(read=True)


def snapshot_hides_commits(session: Session, mapper: Mapper[Any]) -> bool:
    """Tell whether a row may be there that a plain SELECT of this transaction does not show."""
    return database_of(session.get_bind(mapper=mapper)).snapshot_hides_commits
