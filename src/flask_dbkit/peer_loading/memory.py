"""What a session remembers of its batches: how large the next one may be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any
from weakref import WeakSet

from sqlalchemy.orm import InstanceState, Session

__all__ = ["Attribute", "attribute_of"]

_KEY = "flask_dbkit.peer_loading"
_MOST = 64  # attributes of results that are remembered by one session


class Attribute:
    """One attribute of the objects of one result.

    Attributes:
        size: Most objects of the next batch; 1 is one by one.
        filled: The objects whose attribute a batch has set, weakly.
        alone: The objects that a batch found nothing for and that ask for themselves, weakly.
    """

    __slots__ = ("alone", "filled", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled: WeakSet[InstanceState[Any]] = WeakSet()
        self.alone: WeakSet[InstanceState[Any]] = WeakSet()

    def halve(self) -> None:
        """Let the next batch be half as large."""
        self.size = max(1, self.size // 2)

    def give_up(self) -> None:
        """Load one by one from now on."""
        self.size = 1


def attribute_of(session: Session, key: Hashable, size: int) -> Attribute:
    """Return what is known of an attribute of a result; nothing yet is a full batch.

    Args:
        session: Keeps it, for the results it was asked for lately.
        key: The result and the attribute.
        size: Most objects of a batch.
    """
    known: OrderedDict[Hashable, Attribute] = session.info.setdefault(_KEY, OrderedDict())
    found = known.get(key)
    if found is None:
        found = known[key] = Attribute(size)
        if len(known) > _MOST:
            known.popitem(last=False)
    else:
        known.move_to_end(key)
    return found
