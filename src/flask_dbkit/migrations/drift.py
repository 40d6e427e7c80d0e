"""What is in the models and not in the databases, or the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import DefaultClause, TextClause
from sqlalchemy.schema import Constraint, Index

from .authoring import autogenerate
from .binds import bind_title, suffix_of
from .defaults import bare_default
from .folder import Folder
from .state import BindState, examine
from .upgrading import translated

__all__ = ["Difference", "find_drift"]


@dataclass(frozen=True)
class Difference:
    """One finding of ``flask dbkit migrate check``.

    Attributes:
        bind: The database, ``default`` for the default one.
        kind: Alembic's word, such as ``add_column``; or ``pending``, ``unknown``, ``unmanaged``
            and ``unreachable`` for a database that cannot be compared.
        table: The table, if it is about one.
        detail: What differs. ``add_…`` lacks in the database, ``remove_…`` in the models.
    """

    bind: str
    kind: str
    table: str | None
    detail: str

    @property
    def where(self) -> str:
        """Database and table, for people."""
        return f"{self.bind}.{self.table}" if self.table else self.bind

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def find_drift(folder: Folder) -> list[Difference]:
    """Compare the models with every database: tables, columns, types, keys, checks, defaults.

    A database that lacks revisions is reported as that, for it has to differ.
    """
    with translated():
        script = folder.script()
        found = [finding for state in examine(folder, script) for finding in _about(state)]
        if found:
            return found
        context = autogenerate(folder, script, None, keep_empty=True)
        titles = {f"{suffix_of(key)}_upgrades": bind_title(key) for key in folder.engines}
        for operations in context.generated_revisions[-1].upgrade_ops_list:
            bind = titles.get(operations.upgrade_token, "default")
            found += [_describe(bind, diff) for diff in _flat(operations.as_diffs())]
        return found


def _about(state: BindState) -> Iterator[Difference]:
    if state.pending:
        listed = ", ".join(one.revision for one in state.pending)
        yield Difference(state.bind, "pending", None, f"revisions are not applied: {listed}")
    elif state.status == "unknown":
        listed = ", ".join(state.unknown)
        yield Difference(state.bind, "unknown", None, f"is at {listed}, newer than this folder")
    elif state.status == "unmanaged":
        yield Difference(
            state.bind,
            "unmanaged",
            None,
            "env.py is written for one database and leaves it out: run 'flask dbkit migrate adopt'",
        )
    elif state.status == "unreachable":
        yield Difference(state.bind, "unreachable", None, str(state.problem))


def _flat(diffs: list[Any]) -> Iterator[tuple[Any, ...]]:
    for diff in diffs:
        if isinstance(diff, list):
            yield from diff
        else:
            yield diff


def _shown(value: Any) -> str:
    """Return a type, a default, a comment or a flag as people read it; never an address."""
    if value is None or value is False:
        return "none" if value is None else "no"
    if value is True:
        return "yes"
    if isinstance(value, DefaultClause):
        value = value.arg
        if isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
    if isinstance(value, TextClause):
        return bare_default(value.text)
    shown = " ".join(str(value).split())
    return type(value).__name__ if " object at 0x" in shown else shown


def _describe(bind: str, diff: tuple[Any, ...]) -> Difference:
    kind = str(diff[0])
    if kind.startswith("modify_"):
        _, _, table, column, *_, before, after = diff
        detail = f"{column}: {_shown(before)} -> {_shown(after)}"
        return Difference(bind, kind, str(table), detail)
    if kind in ("add_column", "remove_column"):
        return Difference(bind, kind, str(diff[2]), str(diff[3].name))
    item = diff[1]
    if isinstance(item, (Constraint, Index)):
        table = getattr(getattr(item, "table", None), "name", None)
        named = f"{type(item).__name__} {item.name or '(without a name)'}"
        return Difference(bind, kind, table, named)
    name = str(getattr(item, "name", item))
    return Difference(bind, kind, name, name)
