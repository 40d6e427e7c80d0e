"""What a statement did not find in the schema, and the command that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import StatementError

from .harmless import chain_of
from .words import words_of

__all__ = ["Missing", "MissingAdvice", "missing_in"]

_NAME = r"[\"'`]?([\w.$-]{1,200})[\"'`]?"
# In words that were recognised as the database's own.
_SENTENCES = (
    ("Table", re.compile(rf"no such table: {_NAME}")),
    ("Table", re.compile(rf"relation {_NAME} does not exist")),
    ("Table", re.compile(rf"Table {_NAME} doesn't exist")),
    ("Column", re.compile(rf"no such column: {_NAME}")),
    ("Column", re.compile(rf"table \w{{1,200}} has no column named {_NAME}")),
    ("Column", re.compile(rf"column {_NAME}(?: of relation .{{1,200}})? does not exist")),
    ("Column", re.compile(rf"Unknown column {_NAME} in .{{1,200}}")),
    ("Schema", re.compile(rf"schema {_NAME} does not exist")),
    ("Database file", re.compile(r"(unable to open database file)")),
)


@dataclass(frozen=True)
class Missing:
    """Something that the models have and the database has not.

    Attributes:
        kind: ``Table``, ``Column``, ``Schema`` or ``Database file``.
        name: As the database tells it, without a schema or a table in front.
    """

    kind: str
    name: str


def missing_in(error: BaseException) -> Missing | None:
    """Return what an error says is not there; ``None`` if it says nothing of the kind."""
    for each in chain_of(error):
        if isinstance(each, StatementError) and each.orig is not None:
            words = words_of(each.orig) or ""
            for kind, pattern in _SENTENCES:
                found = pattern.fullmatch(words)
                if found is not None:
                    return Missing(kind, found[1].rpartition(".")[2])
    return None


class MissingAdvice:
    """How an application makes what is missing; the room of migrations knows more of it."""

    def __init__(self) -> None:
        self.command: Callable[[Missing], str | None] = lambda _missing: None

    def sentence(self, missing: Missing) -> str:
        """Say what is missing, and what to run."""
        if missing.kind == "Database file":
            return "The database file, or its folder, is missing: make the folder, then the tables."
        command = self.command(missing)
        if command is None:
            return f"{missing.kind} {missing.name!r} is missing: run db.create_all()."
        return f"{missing.kind} {missing.name!r} is missing: run '{command}' (or db.create_all())."
