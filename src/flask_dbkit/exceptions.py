"""Every error Flask-DBKit raises, drawn as a tree.

.. code-block:: text

    DBKitError
    ├── DBProblem              what a database error means to a client, see errors.problems
    ├── ConfigError            a setting or a database URL that cannot be used
    ├── MigrationError         a migration that was refused, or that failed
    │   ├── MigrationLocked        another upgrade of the same database did not end in time
    │   └── RowsLost               a revision would have lost rows that refer to others
    ├── PlanError              a listing that could not be sorted, filtered or paged rightly
    ├── QueryError             a query string that asks for what is not offered: a 400
    ├── Rollback               raised by the application to roll back silently
    └── TransactionError       a transaction scope could not keep its word
        ├── NoTransaction          there is no scope, or no session to open one on
        ├── DurabilityError        a durable scope inside another one
        ├── OwnershipError         somebody else ended, or started, the transaction
        ├── UnexpectedRollback     the block went on after an error that undid its work
        ├── OptionMismatch         an option that the scope in force does not have
        ├── ReadOnlyViolation      a write in a read-only scope
        ├── CommitOutcomeUnknown   the connection was lost while COMMIT was on its way
        ├── PartialCommit          of several databases, some committed and one did not
        └── OnCommitError          the data are committed, a hook afterwards failed

Each is written for one reader. :class:`ConfigError`, :class:`PlanError` and
:class:`TransactionError` speak to the developer and name the exact key or call to change.
:class:`QueryError` speaks to the client: its text holds no SQL and only names the endpoint
publishes. Facts are attributes, so nobody parses messages. SQLAlchemy's own exceptions pass
through unwrapped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from werkzeug.exceptions import BadRequest

from .errors.details import BASE_KEY, head_of_problem, prefers_page, render_problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "BackupError",
    "CommitOutcomeUnknown",
    "ConfigError",
    "DBKitError",
    "DurabilityError",
    "MigrationError",
    "MigrationLocked",
    "NoTransaction",
    "OnCommitError",
    "OptionMismatch",
    "OwnershipError",
    "PartialCommit",
    "PlanError",
    "QueryError",
    "ReadOnlyViolation",
    "Rollback",
    "RowsLost",
    "TransactionError",
    "UnexpectedRollback",
]

_ECHO_LIMIT = 64


class DBKitError(Exception):
    """The root of every error this library raises.

    .. versionadded:: 0.1
    """


class ConfigError(DBKitError):
    """A setting, or a database URL, that cannot be used.

    Raised by ``DBKit.init_app`` before anything is created.

    Attributes:
        key: The setting to change, as it is written in ``app.config``.
        given: The value found there. Never a database URL, which may hold a password.
        allowed: What the setting takes, in words, or ``None`` when the key is unknown.
        nearest: The closest allowed word or key, or ``None``.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        message: str,
        *,
        key: str,
        given: object = None,
        allowed: str | None = None,
        nearest: str | None = None,
    ) -> None:
        self.key, self.given, self.allowed, self.nearest = key, given, allowed, nearest
        super().__init__(message)

    @classmethod
    def bad_value(
        cls, key: str, given: object, allowed: str, words: Iterable[str] = ()
    ) -> ConfigError:
        """Build the error for a known key with a value outside what it takes.

        Args:
            key: The setting, for example ``DBKIT_SQLITE_BEGIN``.
            given: The value found.
            allowed: What it takes, as the end of "Use …".
            words: The allowed words, to look for the nearest one.
        """
        nearest = closest(given, words)
        hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
        return cls(
            f"{key} is {shorten(given)}. Use {allowed}.{hint}",
            key=key,
            given=given,
            allowed=allowed,
            nearest=nearest,
        )

    @classmethod
    def unknown_key(cls, key: str, given: object, known: Iterable[str]) -> ConfigError:
        """Build the error for a key that is no setting of this library.

        Args:
            key: The key found in ``app.config``.
            given: Its value.
            known: Every key there is.
        """
        names = sorted(known)
        nearest = closest(key, names)
        hint = f" Did you mean {nearest}?" if nearest is not None else ""
        allowed = "one of: " + ", ".join(names)
        return cls(
            f"{key} (set to {shorten(given)}) is no setting of Flask-DBKit.{hint} Use {allowed}.",
            key=key,
            given=given,
            allowed=allowed,
            nearest=nearest,
        )


class MigrationError(DBKitError, RuntimeError):
    """A migration that was refused, or that failed. The text says what to do.

    It is a ``RuntimeError`` because the commands of Flask-Migrate show those without a traceback.

    .. versionadded:: 0.1
    """


class MigrationLocked(MigrationError):
    """Another upgrade of the same database did not end in time. Nothing was changed.

    Attributes:
        bind: The database, ``default`` for the default one.
        waited_s: Seconds it was waited for.

    .. versionadded:: 0.1
    """

    def __init__(self, bind: str, waited_s: float) -> None:
        self.bind, self.waited_s = bind, waited_s
        super().__init__(
            f"Another upgrade of the database {bind!r} holds its lock, and did not end in"
            f" {waited_s:g} seconds. Nothing was changed. Wait for it to end, or wait longer with"
            " --wait."
        )


class RowsLost(MigrationError):
    """A revision would have lost rows that refer to others. It was rolled back.

    Attributes:
        revision: The revision.
        losses: One line of text per table.

    .. versionadded:: 0.1
    """

    def __init__(self, revision: str, losses: Sequence[str]) -> None:
        self.revision, self.losses = revision, list(losses)
        super().__init__(
            f"Revision {revision} was rolled back, because it would have lost data:"
            f" {'; '.join(losses)}. Where that is meant, let the revision say it with"
            " op.execute(): a DELETE for each table, children before their parents."
        )


class Rollback(DBKitError):
    """Raise it in a scope to roll back to its boundary and go on after the block.

    A boundary is the outermost scope or the nearest savepoint; a joined scope lets it pass.

    .. versionadded:: 0.1
    """


class TransactionError(DBKitError):
    """A transaction scope could not keep its word.

    .. versionadded:: 0.1
    """


class NoTransaction(TransactionError):
    """The call needs an open scope, and there is none.

    .. versionadded:: 0.1
    """


class DurabilityError(TransactionError):
    """A ``durable=True`` scope was opened inside another scope.

    Its end would not be a COMMIT. Raised before any SQL; the outer scope can go on.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        super().__init__(
            "This scope is durable=True, but another scope is open, so that its end would not"
            " commit. Open it outermost, or leave durable out."
        )


class OwnershipError(TransactionError):
    """Somebody else ended the transaction of a scope, or had started one.

    .. versionadded:: 0.1
    """


class UnexpectedRollback(TransactionError):
    """The block ended normally, but an error inside it had undone its work.

    The first error is ``__cause__``.

    .. versionadded:: 0.1
    """


class OptionMismatch(TransactionError):
    """A scope asked for an option that differs from the one in force.

    Attributes:
        option: Its name.
        given: What was asked for.
        in_force: What the transaction has.

    .. versionadded:: 0.1
    """

    def __init__(
        self, option: str, given: object, in_force: object, message: str | None = None
    ) -> None:
        self.option, self.given, self.in_force = option, given, in_force
        super().__init__(
            message
            or f"This scope joins one with {option}={in_force!r}, but asks for {given!r}."
            " Set it on the outermost scope, or leave it out here."
        )


class ReadOnlyViolation(TransactionError):
    """A write was attempted in a read-only scope; nothing was sent to the database.

    .. versionadded:: 0.1
    """


class CommitOutcomeUnknown(TransactionError):
    """The connection was lost while COMMIT was on its way: the work is saved, or it is not.

    Neither ``on_commit`` nor ``on_rollback`` hooks were run. The driver's error is
    ``__cause__``.

    .. versionadded:: 0.1
    """


class PartialCommit(TransactionError):
    """Of several databases, some committed before another one failed.

    Attributes:
        committed: Bind keys that committed, in order; ``None`` is the default database.
        failed: The bind key whose COMMIT failed; the error is ``__cause__``.

    .. versionadded:: 0.1
    """

    def __init__(self, committed: Sequence[str | None], failed: str | None) -> None:
        self.committed, self.failed = tuple(committed), failed
        done = ", ".join(repr(key or "default") for key in committed)
        super().__init__(
            f"The databases {done} committed, then {failed or 'default'!r} failed and was rolled"
            " back, with every database after it."
        )


class OnCommitError(TransactionError):
    """The data are committed; one or more ``on_commit`` hooks failed afterwards.

    Attributes:
        errors: What the hooks raised, in order.
        committed: Always true.

    .. versionadded:: 0.1
    """

    committed = True

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__(
            f"The transaction is committed. {len(errors)} of its on_commit hooks failed:"
            f" {'; '.join(repr(error) for error in errors)}"
        )


class BackupError(DBKitError):
    """A backup that could not be made, verified, restored or removed.

    Attributes:
        code: What kind of failure it is, for example ``tool.missing``, ``database.busy``,
            ``disk.full`` or ``file.digest``.

    .. versionadded:: 0.1
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class PlanError(DBKitError, TypeError):
    """A listing that cannot be right, found when its statement is first looked at.

    Attributes:
        listing: The name of the listing.
        key: The name of the sort or filter entry, or ``None`` when it is the statement itself.

    .. versionadded:: 0.1
    """

    def __init__(self, reason: str, *, listing: str | None = None, key: str | None = None) -> None:
        self.reason, self.listing, self.key = reason, listing, key
        where = [f"Listing {listing!r}"] if listing else []
        where += [f"entry {key!r}"] if key else []
        super().__init__(f"{', '.join(where)}: {reason}" if where else reason)


class QueryError(DBKitError, BadRequest):
    """A query string with parameters the endpoint does not understand. Clients see a 400.

    Collects every mistake of one request. Renders itself: RFC 9457 problem details, or for a
    browser that prefers HTML the page Flask makes of any ``BadRequest``, which the application
    replaces with ``@app.errorhandler(400)``.

    Attributes:
        errors: One dict per mistake, with ``parameter``, ``code``, ``value`` (what was sent,
            cut to 64 characters) and ``allowed`` (the published names or limits, or ``None``).

    .. versionadded:: 0.1

    References:
        https://www.rfc-editor.org/rfc/rfc9457
    """

    def __init__(self, errors: Iterable[Mapping[str, Any]]) -> None:
        self.errors: list[dict[str, Any]] = [dict(error) for error in errors]
        count = len(self.errors)
        lead = f"{count} parameters were" if count != 1 else "1 parameter was"
        super().__init__("\n".join([f"{lead} not understood.", *map(_sentence, self.errors)]))

    def problem(self, base: str | None = None) -> dict[str, Any]:
        """Return the members of the problem details object.

        Args:
            base: What the type is made of: ``DBKIT_PROBLEM_BASE``.
        """
        detail = (self.description or "").partition("\n")[0]
        return {**head_of_problem("query.invalid", 400, detail, base), "errors": self.errors}

    def get_response(
        self,
        environ: WSGIEnvironment | Any = None,
        scope: dict[str, Any] | None = None,
    ) -> Any:
        """Render the problem, or HTML for a client that prefers it.

        Args:
            environ: The WSGI environment, which tells what the client prefers. Without one
                the answer is problem details.
            scope: Passed on to Werkzeug.
        """
        environ = getattr(environ, "environ", environ)
        if self.response is None and not prefers_page(environ):
            response = render_problem(self.problem((environ or {}).get(BASE_KEY)))
        else:
            response = cast("Any", super()).get_response(environ, scope)
        # One address, two representations: a cache must tell them apart.
        response.vary.add("Accept")
        return response


def mistake(
    parameter: str, code: str, value: object = None, allowed: Sequence[object] | object = None
) -> dict[str, Any]:
    """Build one entry of :attr:`QueryError.errors`.

    Args:
        parameter: The name in the query string.
        code: Without the prefix ``query.``.
        value: What the client sent.
        allowed: Published names, or a limit.
    """
    text = value if value is None or isinstance(value, str) else str(value)
    if text is not None:
        # A lone surrogate has no UTF-8 form, so the answer could not be encoded.
        text = text[:_ECHO_LIMIT].encode("utf-8", "replace").decode()
    return {
        "parameter": parameter[:_ECHO_LIMIT].encode("utf-8", "replace").decode(),
        "code": f"query.{code}",
        "value": text,
        "allowed": allowed,
    }


def _sentence(error: Mapping[str, Any]) -> str:
    allowed = error["allowed"]
    if isinstance(allowed, (list, tuple)):
        allowed = ", ".join(map(str, allowed))
    hint = f" Allowed: {allowed}." if allowed not in (None, "") else ""
    return f"{error['parameter']}: {error['code']}.{hint}"


def closest(given: object, words: Iterable[str]) -> str | None:
    """Return the word of ``words`` that is spelled most like ``given``, if any is near."""
    if not isinstance(given, str):
        return None
    by_lower = {word.lower(): word for word in words}
    found = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def shorten(value: object, limit: int = 80) -> str:
    """Return ``repr(value)``, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
