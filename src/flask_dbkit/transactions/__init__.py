"""Transaction scopes: the core, which takes a session.

:mod:`flask_dbkit.scopes` finds the session of the current application and offers the public
names. Here ``opening`` decides which block a scope is, ``entering``, ``connections`` and
``leaving`` are its beginning, its databases and its end, and ``tree`` is what is known in
between. The guards are the listeners that let it notice what happens; ``databases`` is what it
asks of each database, ``hooks`` and ``retrying`` what happens around it.
"""

from __future__ import annotations

from .connections import asked_begin
from .engine_guards import guard_engine
from .frames import Frame, TransactionInfo
from .hooks import Hook, Hooks, run_now
from .leaving import leave
from .opening import hook_target, is_in_scope, open_scope
from .options import PLAIN, Retry, ScopeOptions, Surroundings, Timeouts, as_retry, refuse_retry
from .retrying import Attempt, attempts, check_replayable, run_in_scope
from .session_guards import guard_sessions

__all__ = [
    "PLAIN",
    "Attempt",
    "Frame",
    "Hook",
    "Hooks",
    "Retry",
    "ScopeOptions",
    "Surroundings",
    "Timeouts",
    "TransactionInfo",
    "as_retry",
    "asked_begin",
    "attempts",
    "check_replayable",
    "guard_engine",
    "guard_sessions",
    "hook_target",
    "is_in_scope",
    "leave",
    "open_scope",
    "refuse_retry",
    "run_in_scope",
    "run_now",
]
