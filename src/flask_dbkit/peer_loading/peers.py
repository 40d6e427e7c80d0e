"""The peers of an object: those of the same result that lack the same attribute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.orm import InstanceState, Session

from .private import can_be_peer, result_number, same_origin

__all__ = ["peers_of"]

_OLDER = 64  # so many objects of older results are passed before the search ends


def peers_of(
    asking: InstanceState[Any],
    session: Session,
    is_wanted: Callable[[InstanceState[Any]], bool],
    most: int,
) -> list[InstanceState[Any]]:
    """Find the peers of an object, those that follow it in the result first.

    The objects of one result lie together in the session, in the order of the result, the
    newest result at the end. So the search goes backwards and ends a little behind the first
    older one: a session with many other objects does not pay for each touch.

    Args:
        asking: The object whose attribute was touched.
        session: Its session.
        is_wanted: Whether the attribute of another object can be loaded with it.
        most: How many to return at most, without the asking object.
    """
    before: list[InstanceState[Any]] = []
    after: list[InstanceState[Any]] = []
    found = after
    for state in _near(asking, session):
        if state is asking:
            found = before
        elif is_wanted(state) and state.obj() is not None and can_be_peer(state, session):
            found.append(state)
    after.reverse()
    before.reverse()
    return [*after, *before][:most]


def _near(asking: InstanceState[Any], session: Session) -> Iterator[InstanceState[Any]]:
    """Yield the objects of the same origin, and the asking one, from the end backwards."""
    number, older = result_number(asking), 0
    for state in reversed(session.identity_map.all_states()):
        other = result_number(state)
        if other == number:
            if state is asking or same_origin(state, asking):
                yield state
        elif number is not None and (other is None or other < number):
            older += 1
            if older > _OLDER:
                return
