"""Errors of a database as problems: a stable code, the status it means, and where it happened.

:func:`classify_error` reads what an exception is from the
driver's own codes (``errors.py`` of each database) and asks the models for names
(:mod:`.schema`). Nothing here knows of requests, and a :class:`DBProblem` never holds
SQL, a value of a row or the name of a host.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import NoResultFound, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from ..databases import errors_of
from ..databases.deadlines import was_cut_off
from ..databases.errors import KEPT_FACTS, Place
from ..exceptions import DBKitError
from ..transactions.exceptions import (
    CommitOutcomeUnknown,
    OnCommitError,
    PartialCommit,
    TransactionError,
)
from .codes import PROBLEMS
from .schema import Schema

__all__ = [
    "ConflictProblem",
    "DBProblem",
    "InternalProblem",
    "InvalidProblem",
    "MissingProblem",
    "ReadonlyProblem",
    "RetryProblem",
    "TimeoutProblem",
    "UnavailableProblem",
    "classify_error",
]


_STALE_TABLE = re.compile(r"on table '([^']+)'")
# What SQLAlchemy finds out by itself.
_BY_CLASS: dict[type[Exception], str] = {
    StaleDataError: "conflict.stale",
    PoolTimeoutError: "unavailable.pool",
    NoResultFound: "missing",
}
_OUTCOME_UNKNOWN = "The service lost its data while saving: the change is saved, or it is not."


class DBProblem(DBKitError):
    """What a database error means to a client: raised for, or made from, another exception.

    The exception it was made from is ``__cause__``. Everything that nobody told is ``None``, or
    empty. The text of the exception is :attr:`detail`.

    Args:
        code: A key of the table of codes, for example ``conflict.unique``.
        constraint: See the attribute, as all the others.

    Attributes:
        kind: The code up to the first dot.
        code: What happened.
        status: The HTTP status; in a request the one the application's settings say.
        detail: One or two sentences for the client, without names or values of the database.
        constraint: The broken constraint, by its name in the models where they know it.
        table: Where it is.
        columns: The columns of the constraint, as the database names them.
        fields: The same as mapped attributes, which a client may know; or the field a
            message of the application names.
        retryable: The same request may well succeed in a moment.
        sqlstate: The five characters, where the driver has them.
        vendor_code: SQLSTATE, number, or name of SQLite's extended result code.
        statement_hash: Twelve hexadecimal digits that are the same for the same SQL.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        code: str,
        *,
        constraint: str | None = None,
        table: str | None = None,
        columns: Sequence[str] = (),
        fields: Sequence[str] = (),
        sqlstate: str | None = None,
        vendor_code: str | int | None = None,
        statement_hash: str | None = None,
        detail: str | None = None,
    ) -> None:
        if code not in PROBLEMS:
            raise ValueError(f"code is {code!r}. Use one of: {', '.join(PROBLEMS)}.")
        known = PROBLEMS[code]
        self.code, self.kind = code, code.partition(".")[0]
        self.status, self.retryable = known.status, known.retryable
        self.detail = known.detail if detail is None else detail
        self.constraint, self.table = constraint, table
        self.columns, self.fields = tuple(columns), tuple(fields)
        self.sqlstate, self.vendor_code = sqlstate, vendor_code
        self.statement_hash = statement_hash
        super().__init__(self.detail)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}, {self.status}>"


class ConflictProblem(DBProblem):
    """The change contradicts what is stored: ``conflict.…``.

    .. versionadded:: 0.1
    """


class InvalidProblem(DBProblem):
    """A value cannot be stored: ``invalid.…``.

    .. versionadded:: 0.1
    """


class MissingProblem(DBProblem):
    """One row was asked for, and there is none: ``missing``.

    .. versionadded:: 0.1
    """


class UnavailableProblem(DBProblem):
    """There is no connection to the database: ``unavailable``, ``unavailable.pool``.

    .. versionadded:: 0.1
    """


class RetryProblem(DBProblem):
    """Another transaction was in the way: ``retry``.

    .. versionadded:: 0.1
    """


class ReadonlyProblem(DBProblem):
    """The database takes no writes: ``readonly``.

    .. versionadded:: 0.1
    """


class TimeoutProblem(DBProblem):
    """A statement ran out of time: ``timeout``.

    .. versionadded:: 0.1
    """


class InternalProblem(DBProblem):
    """A mistake of the application's, or of its set-up: ``internal``.

    .. versionadded:: 0.1
    """


_CLASSES: dict[str, type[DBProblem]] = {
    "conflict": ConflictProblem,
    "invalid": InvalidProblem,
    "missing": MissingProblem,
    "unavailable": UnavailableProblem,
    "retry": RetryProblem,
    "readonly": ReadonlyProblem,
    "timeout": TimeoutProblem,
    "internal": InternalProblem,
}


def classify_error(error: BaseException, schema: Schema | None = None) -> DBProblem | None:
    """Tell what a database error means.

    Args:
        error: SQLAlchemy's, a driver's own, or one of a scope; a :class:`DBProblem` is returned
            as it is.
        schema: The models to ask for constraints, columns and attributes; what the driver
            tells is all there is without them.

    Returns:
        The problem, with ``error`` as its cause; ``None`` for what is no database error.
    """
    if isinstance(error, DBProblem):
        return error
    problem = _classify(error, schema)
    if problem is not None:
        problem.__cause__ = error
    return problem


def _classify(error: BaseException, schema: Schema | None) -> DBProblem | None:
    if isinstance(error, TransactionError):
        return _of_transaction(error, schema)
    for kind, code in _BY_CLASS.items():
        if isinstance(error, kind):
            return _make(code, table=_stale_table(error))
    if isinstance(error, StatementError):
        lost = bool(getattr(error, "connection_invalidated", False))
        return _of_driver(error.orig, error.statement, schema, lost=lost)
    if isinstance(error, SQLAlchemyError):
        return _make("internal")
    return _of_driver(error, None, schema) if errors_of(error) is not None else None


def _stale_table(error: BaseException) -> str | None:
    table = _STALE_TABLE.search(str(error)) if isinstance(error, StaleDataError) else None
    return table[1] if table is not None else None


def _of_transaction(error: TransactionError, schema: Schema | None) -> DBProblem | None:
    if isinstance(error, PartialCommit):
        return _make("internal")  # some of it is saved: no conflict can be told of it
    if isinstance(error, OnCommitError):
        # Saved; what failed afterwards is only ours to answer for if it was the database.
        failed = any(classify_error(each) is not None for each in error.errors)
        return _make("internal") if failed else None
    cause = error.__cause__
    found = _classify(cause, schema) if cause is not None else None
    if found is not None and isinstance(error, CommitOutcomeUnknown):
        # Whoever repeats it must look first.
        found = _make(
            "unavailable",
            detail=_OUTCOME_UNKNOWN,
            sqlstate=found.sqlstate,
            vendor_code=found.vendor_code,
        )
        found.retryable = False
    elif found is not None and not found.retryable:
        # The application caught it, and went on: what a conflict was about then was perhaps not
        # what the client asked for, and somebody has to look at the code.
        found = _make("internal", statement_hash=found.statement_hash)
    return found


def _of_driver(
    error: BaseException | None, statement: str | None, schema: Schema | None, *, lost: bool = False
) -> DBProblem:
    """Classify a driver's error by its code, never by its class."""
    codes = errors_of(error) if error is not None else None
    kept: tuple[str | None, Place] | None = getattr(error, KEPT_FACTS, None)
    if kept is not None:
        code = kept[0]
    else:
        code = codes.meaning(error, statement) if codes is not None and error is not None else None
    if was_cut_off(error):
        code = "timeout"
    if code is None and codes is None and isinstance(error, (ValueError, ArithmeticError)):
        code = "invalid.value"  # what a type or a driver could not convert
    if code is None and isinstance(error, LookupError):
        code = "invalid.value"  # not among the values of an Enum
    if code is None and lost:
        code = "unavailable"
    vendor_code = codes.name(error) if codes is not None and error is not None else None
    facts: dict[str, Any] = {
        "vendor_code": vendor_code,
        "sqlstate": codes.sqlstate(error) if codes is not None and error is not None else None,
        "statement_hash": _hash(statement),
    }
    if code is None or codes is None or error is None:
        return _make(code or "internal", **facts)
    place = Place()
    if code.startswith(("conflict.", "invalid.")):
        place = kept[1] if kept is not None else codes.place(error)
    if schema is None:
        return _make(code, **facts, **_known(place))
    target = schema.find(place, code, statement)
    return _make(
        target.code,
        **facts,
        constraint=target.constraint,
        table=target.table,
        columns=target.columns,
        fields=target.fields,
        detail=target.message,
    )


def _known(place: Place) -> dict[str, Any]:
    return {"constraint": place.constraint, "table": place.table, "columns": place.columns}


def _make(code: str, **facts: Any) -> DBProblem:
    return _CLASSES[code.partition(".")[0]](code, **facts)


def _hash(statement: str | None) -> str | None:
    if statement is None:
        return None
    return hashlib.sha256(statement.encode("utf-8", "replace")).hexdigest()[:12]
