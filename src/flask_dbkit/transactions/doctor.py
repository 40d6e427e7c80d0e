"""DK103 and DK104: sessions, and what belongs to them, outlive their request."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, Session

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from ..doctor.sources import dotted, last_name

__all__: list[str] = []

_SESSIONS = "https://docs.sqlalchemy.org/en/20/orm/session_basics.html"
_MOST = 100  # entries of a container that are looked at
_STARTERS = frozenset({"Thread", "Timer", "submit", "start_new_thread", "Process", "spawn"})


@check(
    "DK103",
    "A session, or an object of one, that all requests share",
    level="error",
    tags=("code", "sessions"),
    cause="A session belongs to one thread, and an object to its session: requests see each other's"
    " uncommitted work, or fail with DetachedInstanceError.",
    fix="Load it where it is needed; keep values, or keys, instead of objects.",
    link=f"{_SESSIONS}#is-the-session-thread-safe-is-asyncsession-safe-to-share-in-concurrent-tasks",
)
def shared_sessions(given: Examination) -> Iterator[Found]:
    """Look at what the modules of the application hold."""
    for module, source in given.sources.modules:
        for name, value in list(vars(module).items()):
            kind = _kind_of(value)
            if kind is not None:
                node = source.constants.get(name)
                if node is None or not source.is_ignored("DK103", node):
                    yield Found(
                        f"{module.__name__}.{name} is {kind}",
                        object=f"{module.__name__}.{name}" if node is None else source.place(node),
                    )


def _kind_of(value: object) -> str | None:
    if isinstance(value, (list, tuple, set, frozenset)):
        return _kind_in(value)
    if isinstance(value, dict):
        return _kind_in(value.values())
    # By its class alone: a proxy such as flask.request is not to be asked here.
    if issubclass(type(value), Session):
        return "a session"
    return f"an object, {type(value).__name__}" if _is_mapped(value) else None


def _kind_in(values: Iterable[Any]) -> str | None:
    for each in islice(values, _MOST):
        if issubclass(type(each), Session):
            return "a container with a session"
        if _is_mapped(each):
            return f"a container with objects, {type(each).__name__}"
    return None


def _is_mapped(value: object) -> bool:
    return isinstance(inspect(type(value), raiseerr=False), Mapper)


@check(
    "DK104",
    "A session that is handed to another thread",
    level="error",
    tags=("code", "sessions"),
    cause="Both threads send on one connection: answers are mixed up, and the end of the request"
    " takes the session away from under the thread.",
    fix="Hand over keys, and open a session there: with session_scope(app).",
    link=f"{_SESSIONS}#is-the-session-thread-safe-is-asyncsession-safe-to-share-in-concurrent-tasks",
)
def sessions_for_threads(given: Examination) -> Iterator[Found]:
    """Look for db.session among the arguments of what starts a thread."""
    for source in given.sources:
        for node, _ in source.calls:
            if last_name(node.func) not in _STARTERS or source.is_ignored("DK104", node):
                continue
            handed = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(_is_session(inner) for each in handed for inner in ast.walk(each)):
                yield Found("A thread is given a session", object=source.place(node))


def _is_session(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and dotted(node).endswith("db.session")
