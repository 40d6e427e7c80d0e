"""What the errors of the drivers mean: the interface, and the plain answers for unknown drivers.

The class of an error tells nothing: ``OperationalError`` is a broken CHECK on MariaDB, a typo on
SQLite and an outage on PostgreSQL. So the module of each database reads SQLSTATE, vendor code or
SQLite's extended result code. Scopes ask the same tables what to replay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DataError

__all__ = ["KEPT_FACTS", "OWN_WORDS", "ErrorCodes", "Place", "install_value_errors", "is_class_of"]

KEPT_FACTS = "_dbkit_facts"
"""Attribute of a driver's error whose text was cleaned: what it meant, and where it happened."""
OWN_WORDS = "_dbkit_own_words"
"""Attribute of a driver's error that the library has made, whose text holds no value of a row.

True, or, if the text names a file, what may be told of it in a log.
"""

_BELOW = frozenset(
    {
        "sqlalchemy",
        "flask_dbkit",
        "psycopg",
        "psycopg_binary",
        "psycopg_c",
        "psycopg2",
        "pymysql",
        "MySQLdb",
    }
)


@dataclass(frozen=True)
class Place:
    """Where in the schema an error happened, as far as the driver tells.

    Attributes:
        constraint: The database's own name of it.
        table: Without schema.
        columns: In the order of the constraint.
        listed: Table and columns as the message has them, ``table.a, table.b``, where a name may
            hold such signs itself.
        maybe: What is the name of a constraint, or the text of one that has no name.
    """

    constraint: str | None = None
    table: str | None = None
    columns: tuple[str, ...] = ()
    listed: str | None = None
    maybe: str | None = None


class ErrorCodes:
    """The plain answers, for drivers we know nothing of.

    Attributes:
        drivers: The names of the packages.
        meanings: The code of a problem, such as ``conflict.unique``, by the driver's code.
        retriable: Codes of conflicts between transactions; replaying cures them.
        fatal: Codes after which the whole transaction is gone, savepoints or not.
        disconnects: Codes of a connection, or a server, that is of no use any more: the next
            statement goes over a new one.
        open_at_commit: Codes that, as the answer to COMMIT, do not prove that it was rolled
            back: the answer to it was lost, or is of a proxy or a node that cannot know.
    """

    drivers: tuple[str, ...] = ()
    meanings: Mapping[object, str] = {}
    retriable: frozenset[object] = frozenset()
    fatal: frozenset[object] = frozenset()
    disconnects: frozenset[object] = frozenset()
    open_at_commit: frozenset[object] = frozenset()

    def owns(self, error: BaseException) -> bool:
        """Tell whether an error comes from a driver of this database."""
        return False

    def code(self, error: BaseException) -> object:
        """Return SQLSTATE, vendor code or SQLite's extended code of a driver's error."""
        return None

    def codes(self, error: BaseException) -> frozenset[object]:
        """Return every code that ``Retry(on=...)`` may name a driver's error by."""
        code = self.code(error)
        return frozenset() if code is None else frozenset({code})

    def name(self, error: BaseException) -> str | int | None:
        """Return the code as a person looks it up."""
        code = self.code(error)
        return code if isinstance(code, (str, int)) else None

    def sqlstate(self, error: BaseException) -> str | None:
        """Return the SQLSTATE, where the driver has it."""
        return None

    def is_disconnect(self, error: BaseException) -> bool:
        """Tell whether a driver's error means that the connection, or the server, is gone."""
        return self.code(error) in self.disconnects

    def ends_connection(self, error: BaseException) -> bool:
        """Tell whether the answer to a statement says that its connection is of no use."""
        return self.code(error) in self.disconnects

    def leaves_commit_open(self, error: BaseException) -> bool:
        """Tell whether an answer to COMMIT does not say if the work is saved."""
        return self.code(error) in self.open_at_commit or self.is_disconnect(error)

    def is_retriable(self, error: BaseException) -> bool:
        """Tell whether replaying the whole transaction is the cure."""
        return self.code(error) in self.retriable

    def meaning(self, error: BaseException, statement: str | None) -> str | None:
        """Return the code of the problem that a driver's error is, ``None`` if it is no other's.

        Args:
            error: The driver's own error.
            statement: What was sent; ``None`` while connecting and at a COMMIT.
        """
        return self.meanings.get(self.code(error))

    def place(self, error: BaseException) -> Place:
        """Read where in the schema the error happened. Never holds a value of a row."""
        return Place()


def is_class_of(error: BaseException, modules: Collection[str], name: str = "") -> bool:
    """Tell whether an error is an instance of a driver's class, or of a subclass of one.

    Drivers subclass their own errors, pools those of the drivers, applications both: the name
    and the module of the class itself tell nothing.

    Args:
        error: Any error.
        modules: The drivers, as they are imported.
        name: Of the class; any if it is empty.
    """
    return any(
        each.__module__.partition(".")[0] in modules and name in ("", each.__name__)
        for each in type(error).__mro__
    )


def install_value_errors(engine: Engine) -> None:
    """Let one engine raise a ``DataError`` for a value that its driver cannot even send.

    An integer that is too large is a bare ``OverflowError`` of :mod:`sqlite3`, a NUL byte a bare
    ``ValueError`` of psycopg2: nothing tells either from a mistake of the application's own.
    """

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> DataError | None:
        original = context.original_exception
        if context.sqlalchemy_exception is not None or context.statement is None:
            return None
        if not isinstance(original, (ValueError, OverflowError)) or not _is_raised_below(original):
            return None
        return DataError(
            context.statement, context.parameters, original, hide_parameters=engine.hide_parameters
        )


def _is_raised_below(error: BaseException) -> bool:
    """Tell whether an error comes from a driver, not from a listener of the application's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    return name.partition(".")[0] in _BELOW
