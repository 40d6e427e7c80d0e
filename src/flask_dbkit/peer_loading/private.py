"""Every name of SQLAlchemy's inside that peer loading uses, each with its reason.

None of them is documented. They are the same on both supported lines, and a test takes each away
in turn: what is missing then raises :exc:`AttributeError` here, which the listener answers with
plain lazy loading and one warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstanceState, RelationshipProperty, Session
from sqlalchemy.orm.interfaces import UserDefinedOption
from sqlalchemy.sql.cache_key import HasCacheKey

__all__ = [
    "KeyedOption",
    "can_be_peer",
    "flush_first",
    "flushes_first",
    "has_loader_options",
    "is_for_user",
    "is_in_flush",
    "is_simple_get",
    "lacks",
    "load_options",
    "loaded_values",
    "notes",
    "only_columns",
    "options_of",
    "reads_columns",
    "refreshed_state",
    "result_number",
    "same_origin",
    "with_criterion",
    "without_refresh",
]


class KeyedOption(HasCacheKey, UserDefinedOption):
    """An option of a statement that is part of its cache key.

    SQLAlchemy pairs the options of a statement with those of its cached twin by their position,
    and drops the surplus. An option outside the key would push others out, a filter of
    ``with_loader_criteria()`` among them.
    """

    _is_has_cache_key = True
    propagate_to_loaders = True


def load_options(execution_options: Mapping[str, Any]) -> Any:
    """Return how a statement loads: ``None`` for one that neither refreshes nor loads lazily."""
    return execution_options.get("_sa_orm_load_options")


def refreshed_state(options: Any) -> InstanceState[Any] | None:
    """Return the object whose columns are loaded."""
    return options._refresh_state  # type: ignore[no-any-return]


def is_for_user(options: Any) -> bool:
    """Tell whether ``session.refresh()`` asked, which means one object and no other."""
    return bool(options._is_user_refresh)


def flushes_first(options: Any) -> bool:
    """Tell whether the session is flushed before a statement with these options is sent."""
    return bool(options._autoflush)


def flush_first(session: Session) -> None:
    """Flush as a statement does, with the same warnings and errors."""
    flush = getattr(session, "_autoflush", None)
    if flush is not None:
        flush()
    elif session.autoflush:
        session.flush()


def reads_columns(statement: Any) -> frozenset[str] | None:
    """Return the names of the attributes that a refresh loads."""
    names = statement._compile_options._only_load_props
    return None if names is None else frozenset(names)


def only_columns(statement: Select[Any], asked: Any, names: frozenset[str]) -> Select[Any]:
    """Return a statement that reads some attributes of its entity, and starts no loader.

    Args:
        statement: A plain ``select(entity)``.
        asked: The statement that refreshes one object.
        names: The attributes; with the primary key and the polymorphic discriminator.
    """
    narrowed = statement.where()
    setattr(
        narrowed,
        "_compile_options",
        asked._compile_options + {"_only_load_props": names, "_for_refresh_state": False},
    )
    return narrowed


def without_refresh(options: Any) -> Any:
    """Return load options of a statement that reads several objects like any query."""
    return options + {"_refresh_state": None, "_populate_existing": False}


def with_criterion(statement: Select[Any], criteria: Iterable[ColumnElement[bool]]) -> Select[Any]:
    """Put criteria in the place of the first one, which names the one parent."""
    first, *others = criteria
    replaced = statement.where(first)
    setattr(replaced, "_where_criteria", (first, *others, *statement._where_criteria[1:]))
    return replaced


def result_number(state: InstanceState[Any]) -> int | None:
    """Return the number of the query result that an object was last loaded by."""
    return state.runid


def options_of(state: InstanceState[Any]) -> tuple[Any, ...]:
    """Return the options of the query that an object was loaded by."""
    return tuple(state.load_options)


def has_loader_options(state: InstanceState[Any]) -> bool:
    """Tell whether the query said how attributes load, by options of SQLAlchemy's own.

    A refresh of an expired object applies them once more; what they leave on the object
    depends on how it is refreshed.
    """
    return any(
        not (option._is_criteria_option or isinstance(option, KeyedOption))
        for option in state.load_options
    )


def same_origin(one: InstanceState[Any], other: InstanceState[Any]) -> bool:
    """Tell whether two objects were loaded by one result, on one path, with equal options."""
    return (
        one.runid == other.runid
        and one.identity_token == other.identity_token
        and one.load_options == other.load_options
        # Mostly the very same; to compare them goes through all of their steps.
        and (one.load_path is other.load_path or one.load_path == other.load_path)
    )


def can_be_peer(state: InstanceState[Any], session: Session) -> bool:
    """Tell whether an object is persistent in a session, and stays so."""
    return (
        state.key is not None
        and state.session_id == session.hash_key
        and not state._deleted
        and state not in session._deleted
    )


def lacks(state: InstanceState[Any], key: str, like: InstanceState[Any]) -> bool:
    """Tell whether an attribute is neither loaded nor assigned, and would load like another's.

    Nothing waits to be appended to it from the other side either.
    """
    return (
        key not in state.dict
        and key not in state.committed_state
        and key not in state._pending_mutations
        and state.callables.get(key) is like.callables.get(key)
    )


def loaded_values(state: InstanceState[Any], keys: Iterable[str]) -> tuple[Any, ...]:
    """Return the values of columns; ``None`` for one not loaded, or changed and not flushed."""
    loaded, changed = state.dict, state.committed_state  # once: each costs as much as a value
    return tuple([None if key in changed else loaded.get(key) for key in keys])


def is_in_flush(session: Session) -> bool:
    """Tell whether the session is writing: what it loads then is for itself."""
    return bool(session._flushing)


def is_simple_get(relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether a many-to-one looks for its target in the session first, by primary key."""
    return bool(relationship._use_get)


def notes(element: Any) -> Mapping[str, Any]:
    """Return what the mapper has noted on an element of a join: ``local``, ``remote``."""
    return element._annotations  # type: ignore[no-any-return]
