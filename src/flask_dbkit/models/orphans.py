"""Models whose tables belong to no database, since their base was given to none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from .base import all_bases, tables_of, was_given

__all__ = ["CodePlace", "orphaned_models", "stranger_in"]


@dataclass(frozen=True)
class CodePlace:
    """Where the code of an application is.

    Attributes:
        import_name: Of the application.
        folder: Its root.
        callers: The modules that were at work when it was initialised.
    """

    import_name: str
    folder: str
    callers: frozenset[str]

    @classmethod
    def of_caller(cls, import_name: str, folder: str) -> CodePlace:
        """Look at who is calling."""
        callers = set()
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, for all its name
        while frame is not None:
            callers.add(str(frame.f_globals.get("__name__")))
            frame = frame.f_back
        return cls(import_name, folder, frozenset(callers))

    def has(self, model: type[Any]) -> bool:
        """Tell whether a model is the application's own, and not that of a library."""
        module = model.__module__
        if module in self.callers or self._is_beside(module):
            return True
        file = getattr(sys.modules.get(module), "__file__", None)
        return file is not None and Path(file).parent == Path(self.folder)

    def _is_beside(self, module: str) -> bool:
        """Tell whether a module is in the package of the application, or of its module."""
        if hasattr(sys.modules.get(self.import_name), "__path__"):
            return module == self.import_name or module.startswith(f"{self.import_name}.")
        package = self.import_name.rpartition(".")[0]
        return package != "" and module.startswith(f"{package}.")


def orphaned_models(known: Iterable[MetaData], place: CodePlace) -> Iterator[type[Any]]:
    """Yield one of an application's models for each base that no ``SQLAlchemy`` was made with.

    Args:
        known: The metadata of the application's databases.
        place: Where its code is: other code of the process may use a base in its own way.
    """
    known = list(known)
    for base in all_bases():
        if was_given(base) or base.metadata in known or not tables_of(base):
            continue
        models = (mapper.class_ for mapper in base.registry.mappers)
        own = sorted(filter(place.has, models), key=lambda model: model.__qualname__)
        yield from own[:1]


def stranger_in(statement: ClauseElement, known: Iterable[MetaData]) -> type[Any] | None:
    """Return a model of a statement whose tables belong to no database of an application.

    Args:
        statement: What was sent to one of its databases.
        known: The metadata of its databases.
    """
    known = list(known)
    # An INSERT has its table beside its children. ORM statements hold copies of tables, with
    # the same names and metadata.
    parts = [getattr(statement, "table", None), *visitors.iterate(statement)]
    named = {(id(part.metadata), part.key) for part in parts if isinstance(part, Table)}
    for base in all_bases():
        if base.metadata in known:
            continue
        for mapper in base.registry.mappers:
            if any((id(table.metadata), table.key) in named for table in _tables(mapper)):
                found: type[Any] = mapper.class_
                return found
    return None


def _tables(mapper: Mapper[Any]) -> Iterator[Table]:
    return (table for table in mapper.tables if isinstance(table, Table))
