"""Load columns of an expired object, or a deferred one, together with those of its peers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Result, select, tuple_
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState

from ..databases.execution import PEER_BATCH
from .blocks import count_batch
from .memory import Attribute
from .private import lacks, load_options, only_columns, without_refresh

__all__ = ["lacks_columns", "load_columns"]


def lacks_columns(
    state: InstanceState[Any], keys: frozenset[str], asking: InstanceState[Any]
) -> bool:
    """Tell whether an object of the same class misses one of these columns."""
    return state.mapper is asking.mapper and any(lacks(state, key, asking) for key in keys)


def load_columns(
    execution: ORMExecuteState,
    asking: InstanceState[Any],
    peers: list[InstanceState[Any]],
    keys: frozenset[str],
    known: Attribute,
) -> Result[Any]:
    """Read the columns of all of them in one statement, and answer for the asking one.

    SQLAlchemy fills objects that are in the session already with what they lack, and leaves
    everything else alone: changes stay, and ``refresh`` events are fired. A peer whose row is
    gone is left as it is.
    """
    mapper = asking.mapper
    # No relationship is looked at, so that no eager loader starts.
    names = keys.intersection(mapper.column_attrs.keys()) | _identifying(mapper)
    identities = [state.key[1] for state in (asking, *peers) if state.key is not None]
    columns = mapper.primary_key
    if len(columns) == 1:
        criterion = columns[0].in_([identity[0] for identity in identities])
    else:
        criterion = tuple_(*columns).in_(identities)
    statement = select(mapper).where(criterion)
    statement = only_columns(statement, execution.statement, names)
    result = execution.invoke_statement(
        statement=statement,
        execution_options={
            "_sa_orm_load_options": without_refresh(load_options(execution.execution_options)),
            PEER_BATCH: True,
        },
    )
    frozen = result.unique().freeze()
    found = {id(entity): (entity,) for entity in frozen().scalars()}
    for state in peers:
        if id(state.obj()) in found:
            known.filled.add(state)
    known.filled.add(asking)
    count_batch(len(found), len(found))
    own: Any = found.get(id(asking.obj()))
    return frozen.with_new_rows([] if own is None else [own])()


def _identifying(mapper: Mapper[Any]) -> frozenset[str]:
    """Name the attributes by which SQLAlchemy tells whose row it reads."""
    columns = list(mapper.primary_key)
    if mapper.polymorphic_on is not None:
        columns.append(mapper.polymorphic_on)
    return frozenset(mapper.get_property_by_column(column).key for column in columns)
