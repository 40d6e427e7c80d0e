"""Get-or-create and upsert on the session of the current application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from ..application import current_session
from ..support.calls import explained
from .model_table import ModelTable
from .session import AttributeNames
from .session import get_or_create as get_or_create_in
from .session import upsert as upsert_in

__all__ = ["get_or_create", "upsert"]

T = TypeVar("T")


@explained()
def get_or_create(
    model: type[T],
    /,
    defaults: Mapping[str, Any] | None = None,
    *,
    session: Session | scoped_session[Any] | None = None,
    **by: Any,
) -> tuple[T, bool]:
    """Return the row that matches ``by``, or insert it.

    See :func:`flask_dbkit.upserts.get_or_create`, which takes the session as an argument.

    Args:
        model: The mapped class.
        defaults: Further attributes of a new row. A callable is called for its value, and only
            when a row is created.
        session: Default: the current application's ``db.session``.
        by: What to look for: columns, or many-to-one relationships.

    Returns:
        The object, and whether it was created. Flushed, never committed.

    .. versionadded:: 0.1
    """
    return get_or_create_in(_plain(session), model, defaults or {}, by)


def _keys_of(given: Mapping[str, Any]) -> str:
    """Say which keys the model of a call has."""
    model = given.get("model")
    try:
        keys = ModelTable.of(cast("type[Any]", model)).unique_keys()
    except (SQLAlchemyError, ValueError):
        return ""
    name = cast("type[Any]", model).__name__
    shown = ", ".join(map(repr, keys))
    return f"It says which key tells whether a row is there. {name} has: {shown}."


@explained(by=_keys_of)
def upsert(
    model: type[T],
    rows: Iterable[Mapping[str, Any]],
    *,
    by: AttributeNames,
    update: AttributeNames | None = None,
    session: Session | scoped_session[Any] | None = None,
) -> list[T]:
    """Insert rows, or update those that are there already.

    See :func:`flask_dbkit.upserts.upsert`, which takes the session as an argument.

    Args:
        model: The mapped class.
        rows: Mappings of attribute names to values.
        by: The attributes that tell whether a row is there: a primary key or the columns of a
            unique constraint.
        update: The attributes to update then. ``None``: each one given that is not in ``by``.
            ``()``: none.
        session: Default: the current application's ``db.session``.

    Returns:
        One refreshed object per row, in the order of ``rows``. Flushed, never committed.

    .. versionadded:: 0.1
    """
    return upsert_in(_plain(session), model, rows, by=by, update=update)


def _plain(session: Session | scoped_session[Any] | None) -> Session:
    if session is None:
        return current_session()
    return session() if isinstance(session, scoped_session) else session
