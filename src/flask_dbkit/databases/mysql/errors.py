"""MySQL and MariaDB: vendor codes, and names that stand in the messages only.

References:
    * https://mariadb.com/kb/en/mariadb-error-codes/
    * https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import ErrorCodes, Place

__all__ = ["MySQLErrors"]

_DRIVERS = ("pymysql", "MySQLdb", "mysql", "mariadb")
_DUPLICATE = frozenset({1062, 1586})
# The value comes first and may hold anything, so the name is looked for from the end.
_DUPLICATE_KEY = r"(?s).*for key '(?:([^'.]+)\.)?([^']+)'\Z"
_FOREIGN_KEY = (
    r"\((?:`[^`]+`\.)?`(?P<table>[^`]+)`, CONSTRAINT `(?P<constraint>[^`]+)`"
    r" FOREIGN KEY \((?P<columns>[^)]+)\)"
)
_CHECK = (
    r"CONSTRAINT `(?P<constraint>[^`]+)` failed for (?:`[^`]+`\.)?`(?P<table>[^`]+)`\Z"
    r"|Check constraint '(?P<theirs>[^']+)' is violated"
)
_NULL = r"\A(?:Column|Field) (?P<columns>'[^']+')(?: cannot be null| doesn't have a default value)"
# In MariaDB's words: Incorrect integer value … for column, then database, table and column.
_VALUE = r"(?s).*for column (?:`[^`]+`\.`(?P<table>[^`]+)`\.)?(?P<columns>`[^`]+`|'[^']+')"
_NAMES = r"[`']([^`']+)[`']"


class MySQLErrors(ErrorCodes):
    """The codes of the server (1000 and up) and of its client library (2000 and up)."""

    meanings: Mapping[object, str] = {
        **dict.fromkeys((1022, 1062, 1169, 1586), "conflict.unique"),
        **dict.fromkeys((1217, 1451), "conflict.referenced"),
        **dict.fromkeys((1216, 1452), "conflict.reference"),
        **dict.fromkeys((1048, 1263, 1364), "invalid.null"),
        # 3819 is MySQL's, 4025 MariaDB's.
        **dict.fromkeys((3819, 4025), "invalid.check"),
        **dict.fromkeys(
            (1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1690, 3140),
            "invalid.value",
        ),
        # Too many connections, shutdown in progress, connection was killed; cannot connect
        # (socket, TCP, name), server gone away, lost during a query, idle too long.
        **dict.fromkeys((1040, 1053, 1203, 1927, 2002, 2003, 2005), "unavailable"),
        **dict.fromkeys((2006, 2013, 2055, 4031), "unavailable"),
        # Record has changed, lock wait timeout, deadlock, NOWAIT.
        **dict.fromkeys((1020, 1205, 1213, 3572), "retry"),
        # Interrupted, MariaDB's max_statement_time, MySQL's max_execution_time.
        **dict.fromkeys((1317, 1969, 3024), "timeout"),
        # --read-only, a READ ONLY transaction, read-only mode.
        **dict.fromkeys((1290, 1792, 1836), "readonly"),
    }
    # Deadlock; record has changed since last read (MariaDB's snapshot isolation).
    retriable = fatal = frozenset({1213, 1020})
    disconnects = frozenset({2002, 2003, 2006, 2013, 4031})
    _CONNECTING = frozenset({1044, 1045, 1049, 1698})  # account or database: refused

    def owns(self, error: BaseException) -> bool:
        """Tell whether an error comes from a driver of this database."""
        return type(error).__module__.partition(".")[0] in _DRIVERS

    def code(self, error: BaseException) -> object:
        """Return the vendor code."""
        return error.args[0] if error.args and isinstance(error.args[0], int) else None

    def sqlstate(self, error: BaseException) -> str | None:
        """Return what PyMySQL knows from version 1.2 on."""
        found = getattr(error, "sqlstate", None)
        return found if isinstance(found, str) else None

    def meaning(self, error: BaseException, statement: str | None) -> str | None:
        """Return the problem; an account that is refused while connecting is an outage."""
        code = self.code(error)
        if statement is None and code in self._CONNECTING:
            return "unavailable"
        found = self.meanings.get(code)
        return found or ("invalid.value" if type(error).__name__ == "DataError" else None)

    def place(self, error: BaseException) -> Place:
        """Read the names from the message."""
        text = str(error.args[1]) if len(error.args) > 1 else ""
        if self.code(error) in _DUPLICATE:
            found = re.match(_DUPLICATE_KEY, text)
            return Place(found[2], found[1]) if found else Place()
        for pattern in (_FOREIGN_KEY, _CHECK, _NULL, _VALUE):
            found = re.search(pattern, text)
            if found is not None:
                names = found.groupdict()
                columns = tuple(re.findall(_NAMES, names.get("columns") or ""))
                return Place(
                    names.get("constraint") or names.get("theirs"), names.get("table"), columns
                )
        return Place()
