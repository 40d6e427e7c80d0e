"""What a scope may be asked for, as values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Engine

from ..databases.limits import NO_TIMEOUTS, Timeouts
from ..support.calls import explained_methods
from ..support.words import did_you_mean
from .exceptions import OptionMismatch

__all__ = [
    "PLAIN",
    "RETRY",
    "Retry",
    "ScopeDefaults",
    "ScopeOptions",
    "as_retry",
    "needs_known_codes",
    "refuse_retry",
]

RETRY = "__dbkit_retry__"
"""Attribute of a decorated function: the policy it was given."""
_ISOLATION = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_BEGIN = ("immediate", "deferred")
_MULTI_BIND = ("raise", "two_phase", "best_effort")
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")


@dataclass(frozen=True)
class ScopeOptions:
    """The options of one ``transaction()`` call, checked.

    Attributes:
        savepoint: Open a savepoint when there is an outer scope.
        durable: Refuse to be anything but outermost.
        read_only: Refuse every write.
        isolation: A level in SQL's words, upper case, or ``None`` for the default.
        begin: How to begin on SQLite, or ``None`` for the setting.
        timeouts: Limits for locks and statements.
        adopt: Take in uncommitted work, ``None`` for the setting.
        multi_bind: What to do when more than one database was written, ``None`` for "raise".
        independent: Allow another session's scope to be open around this one.
        inherits: The scope asks for nothing: it takes what is in force.
    """

    savepoint: bool = False
    durable: bool = False
    read_only: bool = False
    isolation: str | None = None
    begin: str | None = None
    timeouts: Timeouts = NO_TIMEOUTS
    adopt: bool | None = None
    multi_bind: str | None = None
    independent: bool = False
    inherits: bool = False

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> ScopeOptions:
        """Check the keyword arguments of ``transaction()``.

        Raises:
            ValueError: A word or a number that is not allowed.
            TypeError: A timeout that is no number.
        """
        values = dict(given)
        timeouts = Timeouts(
            _seconds("lock_timeout", values.pop("lock_timeout", None)),
            _seconds("statement_timeout", values.pop("statement_timeout", None)),
        )
        isolation = values.pop("isolation", None)
        if isolation is not None:
            isolation = _word("isolation", isolation, _ISOLATION)
        begin = values.pop("begin", None)
        if begin is not None:
            begin = _word("begin", begin, _BEGIN)
        multi_bind = values.pop("multi_bind", None)
        if multi_bind is not None:
            multi_bind = _word("multi_bind", multi_bind, _MULTI_BIND)
        return cls(
            isolation=isolation,
            begin=begin,
            timeouts=timeouts or NO_TIMEOUTS,
            multi_bind=multi_bind,
            **values,
        )

    @property
    def changes_the_beginning(self) -> bool:
        """Whether the transaction has to begin in a way of its own."""
        return self.read_only or self.isolation is not None or self.begin is not None

    @property
    def can_come_later(self) -> bool:
        """Whether all that is asked for can be given to a transaction that has begun."""
        asked = self.read_only or bool(self.timeouts)
        return asked and self.isolation is None and self.begin is None and self.multi_bind is None

    @property
    def first_asked(self) -> tuple[str, object]:
        """An option that makes :attr:`asks_for_anything` true, and its value."""
        options = {
            "isolation": self.isolation,
            "begin": self.begin,
            "multi_bind": self.multi_bind,
            "read_only": self.read_only or None,
            "lock_timeout": self.timeouts.lock_s,
            "statement_timeout": self.timeouts.statement_s,
        }
        return next((name, given) for name, given in options.items() if given is not None)

    @property
    def asks_for_anything(self) -> bool:
        """Whether any option stands that adopted work could not have been done under."""
        return self.changes_the_beginning or bool(self.timeouts) or self.multi_bind == "two_phase"


@dataclass(frozen=True)
class ScopeDefaults:
    """What the application says where a scope does not, and what only it knows.

    Attributes:
        key: Scopes with different keys know nothing of each other: the application.
        sqlite_begin: How a writing scope begins on SQLite.
        adopt: Take in stray work when the scope does not say.
        shared_memory: The default database is in memory, on one connection for all sessions.
        bind_names: Bind key by engine, for messages.
    """

    key: object = None
    sqlite_begin: str = "immediate"
    adopt: bool = False
    shared_memory: bool = False
    bind_names: Mapping[Engine, str | None] = field(default_factory=dict)

    def begin_of(self, options: ScopeOptions) -> str:
        """Return how a scope with these options begins on SQLite."""
        if options.read_only:
            return "deferred"
        return options.begin or self.sqlite_begin


PLAIN = ScopeOptions()
"""What ``transaction()`` without arguments asks for."""


def _word(name: str, given: object, allowed: tuple[str, ...]) -> str:
    """Return the allowed word that was meant, in whatever case and with blanks or underscores."""
    spelled = str(given).lower().replace("_", " ")
    for word in allowed:
        if spelled == word.lower().replace("_", " "):
            return word
    raise ValueError(
        f"{name}={given!r}. Use one of: {', '.join(allowed)}.{did_you_mean(given, allowed)}"
    )


def _seconds(name: str, given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{name}={given!r} is no number of seconds.")
    if not (math.isfinite(given) and 0 < given <= 2_000_000):
        raise ValueError(f"{name}={given!r}. Use seconds above 0 and up to 2,000,000.")
    return float(given)


@explained_methods()
@dataclass(frozen=True)
class Retry:
    """When and how often a whole transaction is replayed.

    Args:
        attempts: Total number, the first one included. (``@job(retries=…)`` counts the further
            ones: ``retries=2`` is ``attempts=3``.)
        base: Seconds; before attempt *n* + 1 a random time up to ``base * 2 ** (n - 1)`` passes.
        cap: Seconds; the longest such time.
        deadline: Seconds since the first attempt after which none is begun.
        on: What to replay besides conflicts between transactions: exception classes,
            SQLSTATEs (text), vendor codes (int), or ``"disconnect"``.
        idempotent: The body may run twice with one result, so that it is replayed after a
            lost connection too, even if COMMIT may have reached the server.

    References:
        Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    .. versionadded:: 0.1
    """

    attempts: int = 3
    base: float = 0.05
    cap: float = 2.0
    deadline: float | None = None
    on: tuple[Any, ...] = ()
    idempotent: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"Retry(attempts={self.attempts!r}): give a whole number.")
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts!r}): at least 1 is needed.")
        if self.base < 0 or self.cap < 0 or (self.deadline is not None and self.deadline < 0):
            raise ValueError("Retry(): base, cap and deadline are seconds, 0 or more.")
        given: Any = self.on
        if not isinstance(given, tuple):
            many = isinstance(given, (list, set, frozenset))
            object.__setattr__(self, "on", tuple(given) if many else (given,))
        for wanted in self.on:
            _check_wanted(wanted)


class _DefaultRetry(Retry):
    """A policy that nobody asked for."""


def needs_known_codes(policy: Retry) -> bool:
    """Tell whether somebody counts on a policy that only knows conflicts by their codes."""
    by_default = isinstance(policy, _DefaultRetry)
    return policy.attempts > 1 and not (by_default or policy.on or policy.idempotent)


def _check_wanted(wanted: object) -> None:
    if isinstance(wanted, type) and issubclass(wanted, Exception):
        return
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return
    if isinstance(wanted, str) and (wanted == "disconnect" or _SQLSTATE.fullmatch(wanted)):
        return
    raise ValueError(
        f"Retry(on=...) has {wanted!r}. Use exception classes, SQLSTATEs such as '55P03', vendor"
        " codes such as 1205, or 'disconnect'."
    )


def as_retry(given: Retry | int | None, default: int) -> Retry:
    """Return the policy that ``retry=`` stands for: a number is the total of attempts."""
    if given is None:
        return _DefaultRetry(attempts=default)
    return given if isinstance(given, Retry) else Retry(attempts=given)


def refuse_retry(given: object) -> None:
    """Refuse ``with transaction(retry=…)``: a with block cannot be run a second time."""
    if given is not None:
        raise OptionMismatch(
            "retry",
            given,
            None,
            "A with block cannot be replayed, so transaction(retry=...) works as a decorator only."
            " Use run(fn, retry=...) or 'for attempt in attempts(retry=...): with attempt: ...'.",
        )
