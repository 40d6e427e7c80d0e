"""Transaction scopes: the core, which takes a session.

:mod:`flask_dbkit.scopes` finds the session of the current application and offers the public
names. ``scope`` is one transaction from its beginning to its end, ``guards`` the listeners that
let it notice what happens, ``databases`` what it asks of each database, ``hooks`` and
``retrying`` what happens around it.
"""

from __future__ import annotations

from .guards import guard_engine, guard_sessions
from .hooks import Hook, Hooks
from .options import Retry, ScopeOptions, Timeouts, as_retry, refuse_retry
from .retrying import Attempt, attempts, check_replayable, run_in_scope
from .scope import Frame, Surroundings, TransactionInfo, hook_target, open_scope, run_now

__all__ = [
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
    "attempts",
    "check_replayable",
    "guard_engine",
    "guard_sessions",
    "hook_target",
    "open_scope",
    "refuse_retry",
    "run_in_scope",
    "run_now",
]
