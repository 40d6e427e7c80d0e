"""MySQL and MariaDB: vendor codes, and names that stand in the messages only.

References:
    * https://mariadb.com/kb/en/mariadb-error-codes/
    * https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import ErrorCodes, Place, is_class_of

__all__ = ["MySQLErrors"]

_DUPLICATE = frozenset({1062, 1586})
# The value comes first and may hold anything, so the name is looked for from the end.
_DUPLICATE_KEY = r"(?s).*for key '(?:([^'.]+)\.)?(.+)'\Z"
_NAME = r"(?:[^`]|``)+"
_FOREIGN_KEY = (
    rf"\((?:`{_NAME}`\.)?`(?P<table>{_NAME})`, CONSTRAINT `(?P<constraint>{_NAME})`"
    r" FOREIGN KEY \((?P<columns>`.+?`)\) REFERENCES"
)
_CHECK = (
    r"(?s)CONSTRAINT `(?P<constraint>.+)` failed for (?:`[^`]+`\.)?`(?P<table>.+)`\Z"
    r"|Check constraint '(?P<theirs>.+)' is violated"
)
_NULL = r"\A(?:Column|Field) (?P<column>'.+')(?: cannot be null| doesn't have a default value)"
# In MariaDB's words: Incorrect integer value … for column, then database, table and column.
_VALUE = r"(?s).*for column (?:`[^`]+`\.`(?P<table>[^`]+)`\.)?(?P<columns>`[^`]+`|'[^']+')"
# The server cuts its messages at 512 bytes; what is longer is somebody else's.
# https://mariadb.com/kb/en/signal/#message_text
_LONGEST = 1024
_NAMES = rf"`({_NAME})`|'([^']+)'"
_NO_SPACE = re.compile(r"(?i)(?:errcode:|error|errno:)\s*(?:28|122)\b")
_READ_ONLY = re.compile(r"(?i)read[-_]only")


class MySQLErrors(ErrorCodes):
    """The codes of the server (1000 and up) and of its client library (2000 and up)."""

    drivers = ("pymysql", "MySQLdb", "mysql", "mariadb")
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
        # Too many connections, of all or of one account; no thread or memory for one more;
        # host blocked; shutdown in progress, connection was killed, server offline.
        **dict.fromkeys((1040, 1041, 1135, 1203, 1226), "unavailable"),
        **dict.fromkeys((1042, 1043, 1129, 1053, 1927, 3032, 3168), "unavailable"),
        # A node of a Galera cluster that refuses, as long as it has no quorum, say; a COMMIT or
        # ROLLBACK that failed inside.
        # https://mariadb.com/kb/en/galera-cluster-system-variables/#wsrep_reject_queries
        **dict.fromkeys((1047, 1180, 1181), "unavailable"),
        # Packets lost on the way; the connection aborted.
        **dict.fromkeys((1152, 1158, 1159, 1160, 1161, 1184), "unavailable"),
        # Disk full, table full (memory and disk too), out of memory.
        **dict.fromkeys((1021, 1114, 1037, 1038), "unavailable"),
        # Cannot connect (socket, TCP, name), handshake, TLS, server gone away, lost during a
        # query, malformed packet, idle too long.
        **dict.fromkeys((2002, 2003, 2005, 2012, 2026), "unavailable"),
        **dict.fromkeys((2006, 2013, 2027, 2055, 4031), "unavailable"),
        # Record has changed, lock wait timeout, deadlock, NOWAIT; a certification that failed at
        # COMMIT in MySQL's group replication; TiDB's conflicts.
        # https://docs.pingcap.com/tidb/stable/error-codes
        **dict.fromkeys((1020, 1205, 1213, 3572, 3101, 8002, 8022, 8028, 9007), "retry"),
        # TiDB: storage or its timestamps cannot be reached, outcome not known.
        **dict.fromkeys((8501, 9001, 9002, 9003, 9005), "unavailable"),
        # Interrupted, MariaDB's max_statement_time, MySQL's max_execution_time.
        **dict.fromkeys((1317, 1969, 3024), "timeout"),
        # --read-only, a READ ONLY transaction, read-only mode.
        **dict.fromkeys((1290, 1792, 1836), "readonly"),
    }
    # Deadlock; record has changed since last read (MariaDB's snapshot isolation); and see above.
    retriable = fatal = frozenset({1213, 1020, 3101, 8002, 8022, 8028, 9007})
    # 1047 too: another node may take what this one refuses.
    disconnects = frozenset(
        {1047, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3032, 3168}
        | {2002, 2003, 2006, 2013, 2027, 2055, 4031}
    )
    # "Got error … during COMMIT", whatever it was: without quorum the write set may have gone
    # out. Proxies answer 1105 for what they have no number for; 1317 is a COMMIT that was
    # interrupted while it waited for a replica.
    # https://mariadb.com/kb/en/mariadb-error-codes/
    open_at_commit = frozenset({1105, 1180, 1317, 8501, 9001, 9002, 9003, 9005})
    # Files that cannot be written: "Errcode: 28" is the system's "no space left", 122 its quota.
    _FILES = frozenset({3, 1026, 1030})
    # The same number stands for every option that forbids a statement.
    _FORBIDDEN = 1290
    _CONNECTING = frozenset({1044, 1045, 1049, 1698})  # account or database: refused

    def owns(self, error: BaseException) -> bool:
        """Tell whether an error comes from a driver of this database."""
        return is_class_of(error, self.drivers)

    def code(self, error: BaseException) -> object:
        """Return the vendor code."""
        first = error.args[0] if error.args else None
        found = first if isinstance(first, int) else getattr(error, "errno", None)
        return found if isinstance(found, int) else None

    def sqlstate(self, error: BaseException) -> str | None:
        """Return what PyMySQL knows from version 1.2 on."""
        found = getattr(error, "sqlstate", None)
        return found if isinstance(found, str) else None

    def is_disconnect(self, error: BaseException) -> bool:
        """Tell whether the connection, or the server, is gone, or does not speak the protocol."""
        # PyMySQL has no number for a packet that is out of order, or was never one.
        spoilt = self.code(error) is None and is_class_of(error, self.drivers, "InternalError")
        return spoilt or super().is_disconnect(error)

    def meaning(self, error: BaseException, statement: str | None) -> str | None:
        """Return the problem; an account that is refused while connecting is an outage."""
        code = self.code(error)
        if statement is None and code in self._CONNECTING:
            return "unavailable"
        if code is None and self.is_disconnect(error):
            return "unavailable"
        if code in self._FILES:
            return "unavailable" if _NO_SPACE.search(str(error)) else None
        if code == self._FORBIDDEN and not _READ_ONLY.search(str(error)):
            return None
        found = self.meanings.get(code)
        return found or ("invalid.value" if is_class_of(error, self.drivers, "DataError") else None)

    def place(self, error: BaseException) -> Place:
        """Read the names from the message."""
        text = str(error.args[1])[:_LONGEST] if len(error.args) > 1 else ""
        if self.code(error) in _DUPLICATE:
            found = re.match(_DUPLICATE_KEY, text)
            return Place(found[2], found[1]) if found else Place()
        for pattern in (_FOREIGN_KEY, _CHECK, _NULL, _VALUE):
            found = re.search(pattern, text)
            if found is not None:
                names = found.groupdict()
                one = names.get("column")
                columns = (one[1:-1],) if one is not None else _quoted(names.get("columns") or "")
                constraint = names.get("constraint") or names.get("theirs")
                return Place(_plain(constraint), _plain(names.get("table")), columns)
        return Place()


def _plain(name: str | None) -> str | None:
    return None if name is None else name.replace("``", "`")


def _quoted(text: str) -> tuple[str, ...]:
    """Return the names in a list, without their quotes."""
    return tuple((ours or theirs).replace("``", "`") for ours, theirs in re.findall(_NAMES, text))
