"""SQLite: extended result codes, and messages that name columns but no constraint.

References:
    https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

from ..errors import ErrorCodes, Place
from ..statements import first_word

__all__ = ["SQLiteErrors"]

_CONSTRAINT = sqlite3.SQLITE_CONSTRAINT
_DATATYPE = _CONSTRAINT | (12 << 8)  # SQLITE_CONSTRAINT_DATATYPE, of a STRICT table
_FOREIGN_KEY_TEXT = "FOREIGN KEY constraint failed"
_LOCKS = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_BUSY_SNAPSHOT,
    sqlite3.SQLITE_BUSY_RECOVERY,
    sqlite3.SQLITE_BUSY_TIMEOUT,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_LOCKED_SHAREDCACHE,
)
_CHECK = r"(?s)CHECK constraint failed: (.+)\Z"
_NAME = r"(?a)[A-Za-z_]\w*\Z"
_INDEX = r"UNIQUE constraint failed: index '(.+)'\Z"
_COLUMNS = r"(?:UNIQUE|NOT NULL) constraint failed: (.+)\Z"
_STRICT = r"cannot store \w+ value in \w+ column (.+)\Z"


class SQLiteErrors(ErrorCodes):
    """The extended codes of :mod:`sqlite3`, on Python 3.11 and later."""

    drivers = ("sqlite3",)
    meanings: Mapping[object, str] = {
        sqlite3.SQLITE_CONSTRAINT_UNIQUE: "conflict.unique",
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "conflict.unique",
        sqlite3.SQLITE_CONSTRAINT_ROWID: "conflict.unique",
        sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "conflict.reference",  # or the other side
        sqlite3.SQLITE_CONSTRAINT_NOTNULL: "invalid.null",
        sqlite3.SQLITE_CONSTRAINT_CHECK: "invalid.check",
        _DATATYPE: "invalid.value",
        sqlite3.SQLITE_MISMATCH: "invalid.value",
        sqlite3.SQLITE_TOOBIG: "invalid.value",
        # The file cannot be reached: what a refused connection is to a server.
        sqlite3.SQLITE_CANTOPEN: "unavailable",
        # No room on the disk or in memory, or a disk that fails.
        sqlite3.SQLITE_FULL: "unavailable",
        sqlite3.SQLITE_IOERR: "unavailable",
        sqlite3.SQLITE_NOMEM: "unavailable",
        sqlite3.SQLITE_BUSY: "retry",
        sqlite3.SQLITE_LOCKED: "retry",
        sqlite3.SQLITE_PROTOCOL: "retry",
        sqlite3.SQLITE_INTERRUPT: "timeout",
        sqlite3.SQLITE_READONLY: "readonly",
    }
    retriable = frozenset(_LOCKS)

    def owns(self, error: BaseException) -> bool:
        """Tell whether an error comes from a driver of this database."""
        return isinstance(error, sqlite3.Error)

    def code(self, error: BaseException) -> object:
        """Return the extended result code, ``None`` for an error of the module's own."""
        return getattr(error, "sqlite_errorcode", None)

    def codes(self, error: BaseException) -> frozenset[object]:
        """Return the extended code, and the primary one it belongs to."""
        # The low byte is the primary code: 19 names every broken constraint.
        # https://www.sqlite.org/rescode.html#primary_result_codes_versus_extended_result_codes
        code = self.code(error)
        return frozenset({code, code & 0xFF}) if isinstance(code, int) else frozenset()

    def name(self, error: BaseException) -> str | int | None:
        """Return the name of the code, such as ``SQLITE_CONSTRAINT_UNIQUE``."""
        name = getattr(error, "sqlite_errorname", None)
        return name if isinstance(name, str) and name != "unknown" else super().name(error)

    def meaning(self, error: BaseException, statement: str | None) -> str | None:
        """Return the problem; which side of a foreign key it was is told by the statement."""
        code = self.code(error)
        if not isinstance(code, int):
            return None
        # ON DELETE RESTRICT is a trigger inside SQLite, and has a trigger's code.
        if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER and str(error) == _FOREIGN_KEY_TEXT:
            return "conflict.referenced"
        if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY and first_word(statement or "") == "DELETE":
            return "conflict.referenced"
        return self.meanings.get(code, self.meanings.get(code & 0xFF))

    def place(self, error: BaseException) -> Place:
        """Read table and columns, or the name of a constraint, from the message."""
        text = str(error)
        check, index = re.match(_CHECK, text), re.match(_INDEX, text)
        if index is not None:
            return Place(constraint=index[1])
        if check is not None:
            # One without a name is told by its text.
            named = re.match(_NAME, check[1]) is not None
            return Place(constraint=check[1]) if named else Place(maybe=check[1])
        found = re.match(_COLUMNS, text) or re.match(_STRICT, text)
        if found is None:
            return Place()
        pairs = [name.strip().rpartition(".") for name in found[1].split(",")]
        columns = tuple(pair[2] for pair in pairs)
        return Place(table=pairs[0][0] or None, columns=columns, listed=found[1])
