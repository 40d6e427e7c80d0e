"""A clock of our own beside the server's: whoever falls silent is cut off.

A statement timeout is the server's clock. When the server stands still, or the link to it is cut
without a word, nothing ends a call of the driver: the kernel on the other side goes on
acknowledging packets, so keep-alives and ``tcp_user_timeout`` see nothing wrong. So where a
statement timeout is set, each call to the server gets it and :data:`GRACE_S` besides. After that,
if the server has sent nothing for as long, the socket under the driver is shut down: the call
ends at once with an ordinary error of a lost connection, which says what has happened.

One thread of the process looks after all calls. It is started by the first call that has a
limit; without a statement timeout there is none, and none while the process forks.

Reference:
    https://man7.org/linux/man-pages/man2/shutdown.2.html
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine

from .errors import OWN_WORDS
from .execution import Execution, Order, Watcher, watch
from .forking import after_fork_in_child, after_fork_in_parent, before_fork
from .scopes import INTERNAL
from .sockets import OpenSocket, socket_of
from .statements import READ, WRITE

__all__ = [
    "GRACE_S",
    "answer_in_time",
    "guard_silence",
    "limit_silence",
    "was_cut_off",
]

GRACE_S = 5.0
"""Seconds beyond the statement timeout: the server's own clock shall be first, if it still runs."""

_PING_S = 3.0  # to a server that is about to be replaced by a connect, which takes 5 s itself
_LOOK_S = 0.5  # between two looks at the calls
_REST_AFTER = 20  # looks without a call
_PATIENCE_S = 1.0  # for a thread that is shutting a socket

_GUARD = "_dbkit_silence"
"""Attribute of a dialect object whose engine is looked after."""
_SOCKET = "flask_dbkit.socket"
_IN_FORCE = "flask_dbkit.silence"
_UNKNOWN = "flask_dbkit.silence.unknown"
_OWN_CLOCK = re.compile(r"statement_timeout|max_statement_time|max_execution_time", re.IGNORECASE)
_LOCAL = re.compile(r"\s*set\s+(?:local|statement)\b", re.IGNORECASE)
_CUT_OFF = "_dbkit_cut_off"


def was_cut_off(error: BaseException | None) -> bool:
    """Tell whether a driver's error is what became of a call that was cut off."""
    return getattr(error, _CUT_OFF, False) is True


# -- the one thread -------------------------------------------------------------------------------


class _Call:
    """One call of a driver that is under way."""

    __slots__ = ("limit_s", "socket", "until")

    def __init__(self, found: OpenSocket, limit_s: float) -> None:
        self.socket, self.limit_s = found, limit_s
        self.until = time.monotonic() + limit_s


class _Clock:
    """The calls that are under way, and the thread that looks after them."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._resting = False

    def begin(self, found: OpenSocket, limit_s: float) -> _Call:
        call = _Call(found, limit_s)
        self._calls[id(call)] = call
        if self._thread is None:
            self._start()
        elif self._resting:
            self._wake.set()
        return call

    def end(self, call: _Call) -> bool:
        """Tell whether the call was cut off."""
        # Whoever takes it out has it: either it has ended, or its socket is shut.
        return self._calls.pop(id(call), None) is None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="flask-dbkit-deadlines", daemon=True
                )
                with contextlib.suppress(RuntimeError):  # no thread is to be had: the next call
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """End the thread: the process is about to fork, and a child has no copy of it."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def go_on(self) -> None:
        """Look after what is under way once more."""
        self._stop.clear()
        self._thread = None
        if self._calls:
            self._start()

    def _run(self) -> None:
        quiet = 0
        while not self._stop.is_set():
            self._cut_off()
            quiet = 0 if self._calls else quiet + 1
            if quiet > _REST_AFTER:
                self._resting = True
                if not self._calls:
                    self._wake.wait()
                self._resting, quiet = False, 0
                self._wake.clear()
            else:
                self._stop.wait(_LOOK_S)

    def _cut_off(self) -> None:
        now = time.monotonic()
        for key, call in list(self._calls.items()):
            if call.until <= now:
                left_s = call.limit_s - call.socket.silent_s()
                if left_s > 0:  # a long answer that is still coming in
                    call.until = now + left_s
                elif self._calls.pop(key, None) is not None:
                    call.socket.shut()


_clock = _Clock()


def _forget() -> object:
    """The thread stays with the parent, and so do the calls it looks after."""
    global _clock
    inherited, _clock = _clock, _Clock()
    return inherited


before_fork(lambda: _clock.stop())  # noqa: PLW0108 - the one there is then
after_fork_in_parent(lambda: _clock.go_on())  # noqa: PLW0108
after_fork_in_child(_forget)


@contextmanager
def _looked_after(found: OpenSocket | None, limit_s: float | None) -> Iterator[None]:
    if found is None or limit_s is None:
        yield
        return
    clock = _clock
    call = clock.begin(found, limit_s)
    try:
        yield
    except BaseException as error:
        if clock.end(call):
            _explain(error, limit_s)
        raise
    clock.end(call)


def _explain(error: BaseException, limit_s: float) -> None:
    """Let the driver's error say what happened; its class and its code stay."""
    text = f"the server was silent for {limit_s:g} seconds, so its connection was cut off here"
    with contextlib.suppress(AttributeError, TypeError):
        error.__dict__[_CUT_OFF] = error.__dict__[OWN_WORDS] = True
        error.args = (*error.args[:-1], text)


# -- engines --------------------------------------------------------------------------------------


class _Guard(Watcher):
    """Looks after every call of one engine."""

    order = Order.DEADLINE

    def __init__(self, default_s: float | None) -> None:
        self.default_s = default_s or None

    def before(self, execution: Execution) -> None:
        connection = execution.connection
        if execution.kind is not WRITE:
            self._look_for_own_clock(execution)
        limit_s = self.limit_of(connection.connection)
        found = None if limit_s is None else _kept_socket(connection.connection)
        if found is not None and limit_s is not None:
            execution.keep(self, (_clock, _clock.begin(found, limit_s)))

    def after(self, execution: Execution) -> None:
        kept = execution.kept(self)
        if kept is not None:
            clock, call = kept
            clock.end(call)
            if execution.context._is_server_side:  # noqa: SLF001 - rows are fetched by calls
                execution.context.cursor = _Cursor(execution.cursor, call.socket, call.limit_s)

    def failed(self, execution: Execution, error: BaseException) -> None:
        kept = execution.kept(self)
        if kept is not None:
            clock, call = kept
            if clock.end(call):
                _explain(error, call.limit_s)

    def limit_of(self, checkout: Any) -> float | None:
        """Return how long the server may be silent on a pooled connection."""
        info = _info(checkout)
        if info.get(_UNKNOWN) is not None:
            return None
        seconds = info.get(_IN_FORCE, self.default_s)
        return None if seconds is None else seconds + GRACE_S

    @staticmethod
    def _look_for_own_clock(execution: Execution) -> None:
        """Stand back where the application sets the server's clock itself.

        How much longer than ours a statement may take then is not known. After ``SET LOCAL`` and
        ``set_config()`` that holds until the end of the transaction, after ``SET`` for good.
        """
        statement = execution.statement
        if execution.kind is READ and "set_config" not in statement:
            return
        if execution.context.execution_options.items() >= INTERNAL.items():
            return
        if execution.kind is READ or _OWN_CLOCK.search(statement):
            local = execution.kind is READ or _LOCAL.match(statement)
            info = _info(execution.connection.connection)
            info[_UNKNOWN] = "transaction" if local and _UNKNOWN not in info else "connection"


class _Cursor:
    """A cursor on the server's side, whose rows come by calls of their own."""

    def __init__(self, cursor: Any, found: OpenSocket, limit_s: float) -> None:
        self._cursor, self._socket, self._limit_s = cursor, found, limit_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def _call(self, name: str, *arguments: Any) -> Any:
        with _looked_after(self._socket, self._limit_s):
            return getattr(self._cursor, name)(*arguments)

    def fetchone(self) -> Any:
        return self._call("fetchone")

    def fetchmany(self, *size: int) -> Any:
        return self._call("fetchmany", *size)

    def fetchall(self) -> Any:
        return self._call("fetchall")

    def close(self) -> None:
        self._call("close")

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row


def guard_silence(engine: Engine, statement_timeout_s: float | None) -> None:
    """Cut off the calls of an engine whose server falls silent.

    Args:
        engine: Its statements, COMMIT, ROLLBACK and the pool's ping are looked after.
        statement_timeout_s: What is set for each connection; ``None`` for what scopes set only.
    """
    if _GUARD in engine.dialect.__dict__:
        return
    guard = _Guard(statement_timeout_s)
    setattr(engine.dialect, _GUARD, guard)
    watch(engine, guard)
    _wrap(engine.dialect, guard)
    for name in ("close", "detach", "close_detached"):
        event.listen(engine, name, _let_go)


def limit_silence(connection: Connection, statement_timeout_s: float | None) -> None:
    """Note what a scope has set for the transaction of a connection; ``None`` for nothing.

    Args:
        connection: It has a transaction.
        statement_timeout_s: In force until the transaction ends.
    """
    if statement_timeout_s is not None:
        guard_silence(connection.engine, None)
        connection.info[_IN_FORCE] = statement_timeout_s
        _limits.setdefault(connection.connection.dbapi_connection, statement_timeout_s)
    else:
        connection.info.pop(_IN_FORCE, None)


_limits: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
"""The statement timeout of connections on which something is sent past SQLAlchemy."""


@contextmanager
def answer_in_time(dbapi_connection: Any, engine: Engine | None = None) -> Iterator[None]:
    """Look after what is sent on a driver's connection past SQLAlchemy.

    Args:
        dbapi_connection: The driver's.
        engine: Whose it is, while it is being made.
    """
    guard: _Guard | None = None if engine is None else engine.dialect.__dict__.get(_GUARD)
    if guard is not None and guard.default_s is not None:
        _limits[dbapi_connection] = guard.default_s
    seconds = _limits.get(dbapi_connection)
    limit_s = None if seconds is None else seconds + GRACE_S
    with _looked_after(None if limit_s is None else socket_of(dbapi_connection), limit_s):
        yield


def _wrap(dialect: Dialect, guard: _Guard) -> None:
    """Look after what is sent by methods of this one dialect object, and by no cursor of ours."""

    def ending(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(checkout: Any, *rest: Any) -> Any:
            limit_s = guard.limit_of(checkout)
            try:
                with _looked_after(_kept_socket(checkout) if limit_s else None, limit_s):
                    return plain(checkout, *rest)
            finally:
                info = _info(checkout)
                info.pop(_IN_FORCE, None)
                if info.get(_UNKNOWN) == "transaction":
                    del info[_UNKNOWN]

        return call

    def two_phase(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(connection: Connection, *rest: Any, **named: Any) -> Any:
            limit_s = guard.limit_of(connection.connection)
            found = _kept_socket(connection.connection) if limit_s else None
            with _looked_after(found, limit_s):
                return plain(connection, *rest, **named)

        return call

    def asking(plain: Callable[..., Any], most_s: float) -> Callable[..., Any]:
        def call(dbapi_connection: Any, *rest: Any) -> Any:
            limit_s = None if guard.default_s is None else min(guard.default_s + GRACE_S, most_s)
            with _looked_after(socket_of(dbapi_connection) if limit_s else None, limit_s):
                return plain(dbapi_connection, *rest)

        return call

    for name in ("do_commit", "do_rollback"):
        setattr(dialect, name, ending(getattr(dialect, name)))
    for name in ("do_prepare_twophase", "do_commit_twophase", "do_rollback_twophase"):
        setattr(dialect, name, two_phase(getattr(dialect, name)))
    for name in ("get_isolation_level", "set_isolation_level"):
        setattr(dialect, name, asking(getattr(dialect, name), float("inf")))
    setattr(dialect, "do_ping", asking(dialect.do_ping, _PING_S))


def _info(checkout: Any) -> dict[Any, Any]:
    try:
        info: dict[Any, Any] = checkout.info
    except (AttributeError, NotImplementedError):  # SQLAlchemy's stand-in while it connects
        return {}
    return info


def _kept_socket(checkout: Any) -> OpenSocket | None:
    info = _info(checkout)
    if _SOCKET not in info:
        info[_SOCKET] = socket_of(checkout.dbapi_connection)
    found: OpenSocket | None = info[_SOCKET]
    return found


def _let_go(dbapi_connection: Any, record: Any = None, *_: Any) -> None:
    """Close our descriptor too, or the connection would stay open for the server."""
    if record is not None:
        record.info.pop(_SOCKET, None)
