"""Load a relationship of an object together with that of its peers."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Result, Select, bindparam, tuple_
from sqlalchemy.orm import InstanceState, ORMExecuteState, RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value

from ..databases.execution import PEER_BATCH
from .blocks import count_batch, count_plain
from .joins import KeyJoin
from .memory import Attribute
from .private import can_be_peer, lacks, loaded_values, with_criterion

__all__ = ["RelationshipBatch", "key_of"]

Key = tuple[Hashable, ...]

_CERTAIN = (int, uuid.UUID, bytes)
"""Types whose values are equal in Python exactly when a database calls them equal."""


def key_of(state: InstanceState[Any], join: KeyJoin) -> Key | None:
    """Return the values of the local columns; ``None`` if one is NULL, changed or not loaded."""
    values = loaded_values(state, join.local_names(state.mapper))
    return None if None in values else values


@dataclass(frozen=True)
class RelationshipBatch:
    """One relationship of one object, to be loaded together with that of its peers.

    Attributes:
        execution: The lazy load of the asking object.
        asking: The object whose attribute was touched.
        relationship: The attribute.
        join: How rows are found by keys.
        known: What the session remembers of the attribute in this result.
        most_rows: Most rows to read for a collection.
    """

    execution: ORMExecuteState
    asking: InstanceState[Any]
    relationship: RelationshipProperty[Any]
    join: KeyJoin
    known: Attribute
    most_rows: int

    def is_for(self, state: InstanceState[Any]) -> bool:
        """Tell whether the relationship of another object can be loaded with it."""
        mapper, name = state.mapper, self.relationship.key
        if not mapper.isa(self.relationship.parent) or not lacks(state, name, self.asking):
            return False
        if state in self.known.alone:
            return False
        if mapper.attrs[name] is not self.asking.mapper.attrs[name]:
            return False
        key = key_of(state, self.join)
        return key is not None and not (self.join.by_identity and self._is_there(key))

    def _is_there(self, key: Key) -> bool:
        """Tell whether the target of a many-to-one is in the session: no one need be asked."""
        mapper = self.relationship.mapper
        columns = (column.key for column in self.join.remote)
        value_of = dict(zip(columns, key, strict=True))
        identity = tuple(value_of.get(column.key) for column in mapper.primary_key)
        found = mapper.identity_key_from_primary_key(identity)
        return found in self.execution.session.identity_map

    def load(self, peers: list[InstanceState[Any]]) -> Result[Any] | None:
        """Read the rows of all in one statement, set the peers', and answer the asking one.

        The statement is the lazy one, so that its options, criteria, order and path are there;
        only the criterion that names the one parent is another.

        Returns:
            The rows of the asking object; ``None`` to let it load by itself.
        """
        keys = {
            state: key
            for state in (self.asking, *peers)
            if (key := key_of(state, self.join)) is not None
        }
        if self.asking not in keys:
            return None
        asked = dict.fromkeys(keys.values())
        result = self.execution.invoke_statement(
            statement=self._statement(asked), execution_options={PEER_BATCH: True}
        )
        frozen = result.unique().freeze()
        rows: list[Any] = list(frozen())
        if not self.join.to_one and len(rows) > self.most_rows:
            self.known.halve()
            count_plain("too many rows")
            return None
        by_key = _grouped(rows, asked)
        if by_key is None or _may_be_equal(asked):
            self.known.give_up()
            count_plain(_why_unknown(asked))
            return None
        filled = [
            state for state in peers if state in keys and self._fill(state, keys[state], by_key)
        ]
        self.known.filled.update((self.asking, *filled))
        count_batch(len(filled) + 1, len(rows))
        own = by_key[keys[self.asking]]
        if self.join.to_one and not own and not _is_certain(keys[self.asking]):
            return None
        return frozen.with_new_rows(own)()

    def _statement(self, asked: Iterable[Key]) -> Select[Any]:
        lazy: Any = self.execution.statement
        remote = self.join.remote
        columns = [column.label(f"dbkit_peer_{at}") for at, column in enumerate(remote)]
        statement = with_criterion(lazy, [_among(self.join, asked), *self.join.criteria])
        statement = statement.add_columns(*columns)
        return statement if self.join.to_one else statement.limit(self.most_rows + 1)

    def _fill(self, state: InstanceState[Any], key: Key, by_key: Mapping[Key, list[Any]]) -> bool:
        """Set the attribute of a peer, unless something has happened to it meanwhile."""
        target, session, name = state.obj(), state.session, self.relationship.key
        if target is None or session is None or key_of(state, self.join) != key:
            return False
        if not can_be_peer(state, session) or not lacks(state, name, self.asking):
            return False
        found = [row[0] for row in by_key[key]]
        if not self.join.to_one:
            set_committed_value(target, name, found)
        elif len(found) == 1:
            set_committed_value(target, name, found[0])
        elif found or self.join.by_identity or not _is_certain(key):
            # Its own load warns of several rows, finds what a filter has hidden here once another
            # query has brought it into the session, or compares as the database does.
            self.known.alone.add(state)
            return False
        else:
            set_committed_value(target, name, None)
        return True


def _grouped(rows: Iterable[Any], asked: Iterable[Key]) -> dict[Key, list[Any]] | None:
    """Return the rows of each key; ``None`` if one fits no key that was asked for."""
    by_key: dict[Key, list[Any]] = {key: [] for key in asked}
    for row in rows:
        own = by_key.get(tuple(row[1:]))
        if own is None:
            return None
        own.append(row)
    return by_key


def _among(join: KeyJoin, asked: Iterable[Key]) -> Any:
    """Return the criterion for all keys; one statement of one text, however many there are."""
    if len(join.remote) == 1:
        values: list[Any] = [key[0] for key in asked]
        return join.remote[0].in_(bindparam("dbkit_peers", values, expanding=True))
    return tuple_(*join.remote).in_(bindparam("dbkit_peers", list(asked), expanding=True))


def _is_certain(key: Key) -> bool:
    return all(isinstance(value, _CERTAIN) for value in key)


def _why_unknown(asked: Iterable[Key]) -> str:
    texts = any(isinstance(value, str) for key in asked for value in key)
    return "text keys" if texts else "keys differ from rows"


def _may_be_equal(asked: Iterable[Key]) -> bool:
    """Tell whether a collation may call two of the keys equal that Python tells apart."""
    seen: set[Key] = set()
    for key in asked:
        if not any(isinstance(value, str) for value in key):
            continue
        folded = tuple(_folded(value) if isinstance(value, str) else value for value in key)
        if folded in seen:
            return True
        seen.add(folded)
    return False


def _folded(text: str) -> str:
    """Return a text without case, accents and trailing blanks."""
    split = unicodedata.normalize("NFKD", text)
    bare = "".join(mark for mark in split if not unicodedata.combining(mark))
    return bare.casefold().rstrip()
