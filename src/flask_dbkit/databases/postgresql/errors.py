"""PostgreSQL: SQLSTATE, and the diagnostics that psycopg 3 and psycopg2 hand on.

References:
    * Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
    * Diagnostics: https://www.psycopg.org/psycopg3/docs/api/errors.html#psycopg.errors.Diagnostic
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ErrorCodes, Place, is_class_of
from ..statements import first_word, unquoted

__all__ = ["PostgreSQLErrors"]

_FOREIGN_KEY = "23503"
# "Key (a, b)=(1, 2) already exists." The names come before the values, in every language.
# What is not a plain name is quoted.
_KEY = r'\(((?:"(?:[^"]|"")*"|[^"()])*)\)=\('
_KEY_NAMES = r'"(?:[^"]|"")*"|[^",\s]+'
_QUOTED = r'"[^"]+"|«[^»]+»|»[^«]+«|„[^“]+“|「[^」]+」'


class PostgreSQLErrors(ErrorCodes):
    """SQLSTATE, which psycopg 3 calls ``sqlstate`` and psycopg2 ``pgcode``."""

    drivers = ("psycopg", "psycopg2", "psycopg2cffi", "psycopg_pool", "asyncpg", "pg8000")
    meanings: Mapping[object, str] = {
        "23505": "conflict.unique",
        "23P01": "conflict.unique",  # exclusion_violation
        "23503": "conflict.reference",  # foreign_key_violation, or the other side
        "23001": "conflict.referenced",  # restrict_violation
        "23502": "invalid.null",
        "23514": "invalid.check",
        "22": "invalid.value",  # data exceptions
        "08": "unavailable",  # connection exceptions
        "53000": "unavailable",  # insufficient_resources
        "53100": "unavailable",  # disk_full
        "53200": "unavailable",  # out_of_memory
        "53300": "unavailable",  # too_many_connections
        "57P01": "unavailable",  # admin_shutdown
        "57P02": "unavailable",  # crash_shutdown
        "57P03": "unavailable",  # cannot_connect_now
        "57P05": "unavailable",  # idle_session_timeout
        "25P03": "unavailable",  # idle_in_transaction_session_timeout
        "25P04": "unavailable",  # transaction_timeout, which closes the connection
        "40000": "retry",  # transaction_rollback
        "40001": "retry",  # serialization_failure
        "40003": "unavailable",  # statement_completion_unknown
        "40P01": "retry",  # deadlock_detected
        "55P03": "retry",  # lock_not_available
        "57014": "timeout",  # query_canceled
        "25006": "readonly",  # read_only_sql_transaction
    }
    retriable = fatal = frozenset({"40000", "40001", "40P01"})
    disconnects = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
    # PostgreSQL itself has rolled back whenever COMMIT is answered by an error. Poolers, and
    # engines that speak its protocol, say by these that they do not know: the connection (class
    # 08), the system (58) or the engine (XX) failed while COMMIT was under way.
    # https://www.cockroachlabs.com/docs/stable/common-errors#result-is-ambiguous
    open_at_commit = frozenset({"40003"})
    _OPEN_CLASSES = ("08", "58", "XX")

    def owns(self, error: BaseException) -> bool:
        """Tell whether an error comes from a driver of this database."""
        known = is_class_of(error, self.drivers)
        # SQLAlchemy wraps the errors of asynchronous drivers in classes of its own.
        return known or (isinstance(error, Exception) and isinstance(self.code(error), str))

    def code(self, error: BaseException) -> object:
        """Return the SQLSTATE, ``None`` for what happens outside a session."""
        return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)

    def sqlstate(self, error: BaseException) -> str | None:
        """Return the code, which is one."""
        code = self.code(error)
        return code if isinstance(code, str) else None

    def is_disconnect(self, error: BaseException) -> bool:
        """Tell whether the connection, or the server, is gone."""
        code = self.code(error)
        if code is None:
            # The server could not be reached: the drivers have no SQLSTATE for that.
            return is_class_of(error, self.drivers, "OperationalError")
        return self.ends_connection(error)

    def ends_connection(self, error: BaseException) -> bool:
        """Tell whether the SQLSTATE is one of a connection that is of no use any more."""
        code = self.code(error)
        return str(code).startswith("08") or code in self.disconnects

    def leaves_commit_open(self, error: BaseException) -> bool:
        """Tell whether an answer to COMMIT does not say if the work is saved."""
        unclear = str(self.code(error)).startswith(self._OPEN_CLASSES)
        return unclear or super().leaves_commit_open(error)

    def meaning(self, error: BaseException, statement: str | None) -> str | None:
        """Return the problem; without a SQLSTATE, that the server was not reached."""
        code = self.code(error)
        if code is None:
            # What the driver itself refuses to send, such as a NUL byte in a text.
            invalid = is_class_of(error, self.drivers, "DataError")
            return "invalid.value" if invalid else self._without_code(error)
        if code == _FOREIGN_KEY:
            return _foreign_key(error, statement)
        return self.meanings.get(code, self.meanings.get(str(code)[:2]))

    def _without_code(self, error: BaseException) -> str | None:
        return "unavailable" if self.is_disconnect(error) else None

    def place(self, error: BaseException) -> Place:
        """Read the diagnostics of the server."""
        diagnostics: Any = getattr(error, "diag", None)
        if diagnostics is None:
            return Place()
        column = diagnostics.column_name
        columns = (column,) if column else _key(diagnostics.message_detail)
        return Place(diagnostics.constraint_name, diagnostics.table_name, columns)


def _key(detail: str | None) -> tuple[str, ...]:
    found = re.search(_KEY, detail or "")
    return tuple(map(unquoted, re.findall(_KEY_NAMES, found[1]))) if found else ()


def _foreign_key(error: BaseException, statement: str | None) -> str:
    """Tell a missing parent from one that is still referenced; both have one code.

    The server's sentence for the second names the other table as well, in every language:
    table, constraint, table. At a COMMIT it is all there is.
    """
    primary = getattr(getattr(error, "diag", None), "message_primary", None) or ""
    if primary.startswith("insert or update"):
        return "conflict.reference"
    named = len(re.findall(_QUOTED, primary))
    if named in (2, 3):
        return "conflict.referenced" if named == 3 else "conflict.reference"
    word = first_word(statement or "")
    return "conflict.referenced" if word == "DELETE" else "conflict.reference"
