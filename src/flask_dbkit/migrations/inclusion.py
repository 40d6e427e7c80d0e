"""Which tables of a database revisions are about: its own, and nobody else's.

What is in a database and in no model of it is dropped by the next revision. That is right for a
table whose model is gone, and wrong for what others keep there: another bind's tables, because
two binds reach the same database or one holds a copy of the other's, and the tables of programs
that work beside the application.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["own_tables_only"]

ALWAYS_IGNORED = ("_litestream_*",)
"""Litestream keeps its place in tables of the database: https://litestream.io/how-it-works/"""


def own_tables_only(
    plain: Any,
    *,
    patterns: Sequence[str],
    elsewhere: Mapping[str, str],
    tell: Callable[[str], None],
) -> Callable[..., bool]:
    """Return an ``include_object`` for ``context.configure()``.

    Args:
        plain: The application's own, which is asked first; or ``None``.
        patterns: Names of tables that others keep, with ``*`` and ``?``.
        elsewhere: Tables that are mapped on other binds only: the bind by the table.
        tell: Called with a sentence about each table of another bind.
    """

    def include_object(
        item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
    ) -> bool:
        if plain is not None and not plain(item, name, type_, reflected, compare_to):
            return False
        if type_ != "table" or not reflected or compare_to is not None:
            return True
        full_name = f"{item.schema}.{name}" if getattr(item, "schema", None) else str(name)
        every = (*ALWAYS_IGNORED, *patterns)
        if any(fnmatchcase(each, p) for p in every for each in (str(name), full_name)):
            return False
        if name in elsewhere and name is not None:
            tell(
                f"The table {name} is there too, which a model of the bind {elsewhere[name]!r}"
                " maps: it is not dropped. If this database is a replica, name it in"
                " DBKIT_REPLICAS."
            )
            return False
        return True

    return include_object
