"""The listener: sees every lazy load of a session, and answers what it can for all peers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import Result, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    ORMExecuteState,
    RelationshipProperty,
    Session,
    scoped_session,
)
from sqlalchemy.sql import Select

from ..models.base import all_bases
from .blocks import count_plain, is_counted
from .columns import lacks_columns, load_columns
from .joins import key_join
from .memory import Attribute, attribute_of
from .peers import peers_of
from .policy import check_words, is_wanted, names_peers
from .private import (
    flush_first,
    flushes_first,
    has_loader_options,
    is_for_user,
    is_in_flush,
    load_options,
    reads_columns,
    refreshed_state,
    result_number,
)
from .relationships import RelationshipBatch
from .settings import LazySettings
from .switch import is_used, on_first_use

__all__ = ["listen", "listen_when_used"]

logger = logging.getLogger("flask_dbkit.lazy")

Batch = Callable[[], Result[Any] | None]
Find = Callable[[], LazySettings]
Sessions = scoped_session[Any]

_listening: WeakSet[Sessions] = WeakSet()
_waiting: WeakKeyDictionary[Sessions, Find] = WeakKeyDictionary()
_told: set[str] = set()

R = TypeVar("R")


def listen(sessions: Sessions, settings: Find) -> None:
    """Answer the lazy loads of an application's sessions from now on.

    Args:
        sessions: Its ``db.session``.
        settings: Returns the settings of the current application; outside any, the defaults.
    """
    _waiting.pop(sessions, None)
    if sessions in _listening:
        return
    _listening.add(sessions)

    def do_orm_execute(execution: ORMExecuteState) -> Result[Any] | None:
        # Nearly every statement leaves here: it neither refreshes nor loads lazily.
        options = _harmless(load_options, execution.execution_options)
        if options is None or not execution.is_select:
            return None
        batch = _harmless(_plan, execution, options, settings)
        if batch is None:
            return None
        # As the statement would. Here, so that an error of the flush is never taken for ours.
        if _harmless(flushes_first, options):
            flush_first(execution.session)
        return _harmless(batch)

    event.listen(sessions, "do_orm_execute", do_orm_execute)


def listen_when_used(sessions: Sessions, base: type[Any], settings: Find) -> None:
    """Listen as soon as a class asks for it by ``info``, or somebody uses it.

    Until then the sessions have no listener: a statement costs what it cost without.

    Args:
        sessions: An application's ``db.session``.
        base: Its ``db.Model``.
        settings: As for :func:`listen`.
    """
    if is_used():
        listen(sessions, settings)
    else:
        _waiting[sessions] = settings
    sessions_of_base = ref(sessions)

    def look(mapper: Mapper[Any], *_class: object) -> None:
        check_words(mapper)
        known = sessions_of_base()
        if known is not None and names_peers(mapper):
            listen(known, settings)

    registry: Any = getattr(base, "registry", None)
    for mapper in list(registry.mappers) if registry is not None else ():
        if mapper.configured:
            look(mapper)
    # db.Model is a copy of the Base it is made of; models may have either as their parent.
    roots = [each for each in all_bases() if each.registry is registry]
    for root in {base, *roots}:
        event.listen(root, "mapper_configured", look, propagate=True)


def _listen_everywhere() -> None:
    for sessions, settings in list(_waiting.items()):
        listen(sessions, settings)


on_first_use(_listen_everywhere)


def _harmless(function: Callable[..., R], *arguments: Any) -> R | None:
    """Call a function of ours; an error of ours means that the attribute loads by itself.

    Raises:
        DBAPIError: The database's own, which the plain load would have raised.
        TimeoutError: The pool's.
    """
    try:
        return function(*arguments)
    except (DBAPIError, PoolTimeout):
        raise
    except Exception as error:
        name = type(error).__name__
        if name not in _told:
            _told.add(name)
            logger.warning(
                "Peer loading has failed, attributes load one by one: %s", name, exc_info=error
            )
        count_plain("error")
        return None


def _plan(execution: ORMExecuteState, options: Any, settings: Find) -> Batch | None:
    """Return what loads the attribute for all, or ``None`` to let it load by itself."""
    session: Session = execution.session
    state = execution.lazy_loaded_from
    if state is not None:
        return _relationship(execution, session, state, settings)
    state = refreshed_state(options)
    if state is not None:
        return _columns(execution, session, state, options, settings)
    return None


def _may(session: Session, state: InstanceState[Any]) -> bool:
    return state.key is not None and state.session is session and not is_in_flush(session)


def _relationship(
    execution: ORMExecuteState, session: Session, state: InstanceState[Any], settings: Find
) -> Batch | None:
    path: Any = execution.loader_strategy_path
    relationship = path[-1] if path is not None and path.is_property else None
    if not isinstance(relationship, RelationshipProperty) or not _may(session, state):
        return None
    key, chosen = relationship.key, settings()
    if key in state.dict or not isinstance(execution.statement, Select):
        return None
    if not is_wanted(state, [key], chosen.lazy):
        return None
    join = key_join(relationship)
    if join is None:
        if is_counted() and peers_of(state, session, lambda other: key not in other.dict, 1):
            count_plain("join condition")
        return None
    known = attribute_of(session, (result_number(state), relationship), chosen.lazy_max_peers)

    if state in known.alone:
        count_plain("no single row")
        return None
    batch = RelationshipBatch(execution, state, relationship, join, known, chosen.lazy_max_rows)
    peers = _peers(session, state, known, batch.is_for)
    return partial(batch.load, peers) if peers else None


def _columns(
    execution: ORMExecuteState,
    session: Session,
    state: InstanceState[Any],
    options: Any,
    settings: Find,
) -> Batch | None:
    statement: Any = execution.statement
    if is_for_user(options) or not _may(session, state):
        return None
    keys = reads_columns(statement)
    if not keys or getattr(statement, "_for_update_arg", None) is not None:
        return None
    chosen = settings()
    if not is_wanted(state, keys, chosen.lazy):
        return None
    known = attribute_of(session, (result_number(state), state.mapper), chosen.lazy_max_peers)
    if len(keys) > 1 and has_loader_options(state):
        known.give_up()
    peers = _peers(session, state, known, lambda other: lacks_columns(other, keys, state))
    if not peers:
        return None
    return partial(load_columns, execution, state, peers, keys, known)


def _peers(
    session: Session,
    state: InstanceState[Any],
    known: Attribute,
    wanted: Callable[[InstanceState[Any]], bool],
) -> list[InstanceState[Any]]:
    if state in known.filled:
        # What the last batch brought was thrown away unread: a commit in every round of a loop.
        known.filled.discard(state)
        known.halve()
    if known.size > 1:
        return peers_of(state, session, wanted, known.size - 1)
    if is_counted() and peers_of(state, session, wanted, 1):
        count_plain("given up for this result")
    return []
