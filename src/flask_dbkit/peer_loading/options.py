"""``peerload()``: say with a statement how the lazy attributes of its objects load."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.orm.interfaces import MapperProperty
from sqlalchemy.sql.visitors import InternalTraversal

from ..support.calls import explained
from .private import KeyedOption
from .switch import use

__all__ = ["PeerLoad", "peerload"]


class PeerLoad(KeyedOption):
    """A loader option: these attributes, or all, load for the whole result or one by one."""

    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's form
        ("attributes", InternalTraversal.dp_plain_obj),
        ("off", InternalTraversal.dp_boolean),
    ]

    def __init__(self, attributes: tuple[tuple[type[Any], str], ...], off: bool) -> None:
        super().__init__()
        self.attributes, self.off = attributes, off

    def speaks_of(self, owner: type[Any], key: str) -> bool:
        """Tell whether it names an attribute of a class."""
        return any(key == name and issubclass(owner, cls) for cls, name in self.attributes)


@explained()
def peerload(*attributes: Any, off: bool = False) -> PeerLoad:
    """Load lazy attributes for all objects of the result at the first touch of one.

    A loader option for :meth:`sqlalchemy.sql.expression.Select.options`, also of a legacy
    ``Query``. It goes along to what these objects load, and is nearer than a
    :func:`lazy_loading` block and the settings.

    Args:
        attributes: Mapped attributes such as ``Author.books``; without any, every one.
        off: Load these one by one, where others load for all.

    Raises:
        TypeError: Something is no mapped attribute.

    .. code-block:: python

        select(Author).options(peerload())
        select(Author).options(peerload(Author.books, Book.shelf))
        select(Author).options(peerload(Author.books, off=True))

    .. versionadded:: 0.1
    """
    use()
    return PeerLoad(tuple(_named(attribute) for attribute in attributes), bool(off))


def _named(attribute: Any) -> tuple[type[Any], str]:
    found = attribute.property if isinstance(attribute, QueryableAttribute) else None
    if not isinstance(found, MapperProperty):
        raise TypeError(
            f"peerload() takes mapped attributes such as Author.books, not {attribute!r}."
        )
    return found.parent.class_, found.key
