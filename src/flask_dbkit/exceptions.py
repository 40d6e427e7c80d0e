"""Every error Flask-DBKit raises, drawn as a tree.

.. code-block:: text

    DBKitError
    ├── ConfigError            a setting or a database URL that cannot be used
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

Each is written for one reader. :class:`ConfigError` and :class:`TransactionError` speak to the
developer and name the exact key or call to change. Facts are attributes, so nobody parses
messages. SQLAlchemy's own exceptions pass through unwrapped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "CommitOutcomeUnknown",
    "ConfigError",
    "DBKitError",
    "DurabilityError",
    "NoTransaction",
    "OnCommitError",
    "OptionMismatch",
    "OwnershipError",
    "PartialCommit",
    "ReadOnlyViolation",
    "Rollback",
    "TransactionError",
    "UnexpectedRollback",
]


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
