"""Asking a server: a connection of our own, one question, and a socket that is shut in time.

No setting of any driver covers a frozen server: its kernel goes on accepting connections and
acknowledging packets. So the runner gives up at the deadline, and the socket under the driver
is shut down: the driver's call ends at once with an ordinary error, and its thread with it.

References:
    * https://www.postgresql.org/docs/current/libpq-connect.html
    * https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
    * https://man7.org/linux/man-pages/man2/shutdown.2.html
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..databases import MYSQL, POSTGRESQL, database_of
from ..databases.sockets import socket_of
from . import on_mysql, on_postgresql
from .probe import Probe
from .report import WARN, Result
from .runner import HealthRun, Outcome

__all__ = ["ServerProbe"]

_LIBPQ = frozenset({"psycopg", "psycopg2", "psycopg2cffi"})
_NAME_LIMIT = 63
_ABRUPT_END = 0.9  # an error so late in the time given is the deadline's

_MYSQL_CODES = {
    **dict.fromkeys((1044, 1045, 1698, 1820), "db.auth"),
    1049: "db.missing",
    **dict.fromkeys((1290, 1836), "db.readonly"),
}
_ASK = {POSTGRESQL: on_postgresql.ask, MYSQL: on_mysql.ask}
_SQLSTATES = {"3D000": "db.missing", "25006": "db.readonly"}


class ServerProbe(Probe):
    """The probe for every database that is a server, and for drivers we do not know."""

    _kept: Any = None
    """A closed connection of PyMySQL, to be opened again: a new one reads every certificate of
    the machine, which takes longer than all the rest."""

    def __call__(self, run: HealthRun) -> Outcome:
        """Connect, ask, disconnect."""
        try:
            with self.private_connection(run) as connection:
                return self._ask(connection, run)
        except Exception as error:
            return {self.name: self.found(run, self._code(error, run))}

    @contextlib.contextmanager
    def private_connection(self, run: HealthRun) -> Iterator[Any]:
        """Connect, and disconnect at the end of the block."""
        connection = self._connect(run)
        try:
            with _shut_in_time(connection, run):
                yield connection
        finally:
            with contextlib.suppress(Exception):  # its socket may have been shut
                connection.close()

    def _connect(self, run: HealthRun) -> Any:
        target = self.target
        if target.creator is not None:
            return target.creator()
        dialect = target.engine.dialect
        listeners = list(getattr(dialect.dispatch, "do_connect", ()))
        if self._kept is not None and not listeners:
            self._kept.connect()
            return self._kept
        arguments, options = dialect.create_connect_args(target.engine.url)
        options = {**options, **target.connect_args, **self._limits(run)}
        # An application that makes a password anew for each connection does it here.
        # https://docs.sqlalchemy.org/en/20/core/engines.html#generating-dynamic-authentication-tokens
        for listener in listeners:
            connection = listener(dialect, None, arguments, options)
            if connection is not None:
                return connection
        made: Any = dialect.connect(*arguments, **options)
        if dialect.driver == "pymysql":
            self._kept = made
        return made

    def _limits(self, run: HealthRun) -> dict[str, Any]:
        """Return driver arguments that end a connect nobody waits for any more."""
        driver = self.target.engine.dialect.driver
        deadline_s = max(0.001, run.left_s())
        if driver in _LIBPQ:
            # psycopg raises 1 to 2 by itself; libpq takes whole seconds.
            limits: dict[str, Any] = {"connect_timeout": max(2, math.ceil(deadline_s))}
            if self.target.app_name:
                name = f"{self.target.app_name} health".encode("ascii", "replace")
                limits["application_name"] = name[-_NAME_LIMIT:].decode("ascii")
            return limits
        if driver == "pymysql":
            return {
                "connect_timeout": deadline_s,
                "read_timeout": deadline_s,
                "write_timeout": deadline_s,
            }
        if driver == "mysqldb":
            return {"connect_timeout": math.ceil(deadline_s)}
        return {}

    def _ask(self, connection: Any, run: HealthRun) -> Outcome:
        target = self.target
        ask = _ASK.get(database_of(target.engine))
        if ask is None:
            target.engine.dialect.do_ping(connection)
            return {self.name: self.found(run)}
        answer = ask(connection, writable=target.writable)
        if answer.failure is not None:
            return {self.name: self.found(run, answer.failure)}
        if target.writable and answer.read_only:
            return {self.name: self.found(run, "db.readonly")}
        found = self.found(run)
        if answer.warning is not None:
            found = replace(found, status=WARN, code=answer.warning)
        outcome = {self.name: found}
        if answer.lag_s is not None:
            outcome[f"replica:{target.bind}"] = self._lag(answer.lag_s)
        elif target.is_replica and answer.is_primary:
            # It follows nobody any more: what is written elsewhere never reaches it.
            outcome[f"replica:{target.bind}"] = self.warning("replica.promoted", 0, "s")
        return outcome

    def _lag(self, lag_s: float) -> Result:
        limit_s = self.target.config.health_replica_lag_warn
        code = "replica.lag" if limit_s is not None and lag_s > limit_s else None
        return self.warning(code, round(lag_s, 3), "s")

    def _code(self, error: Exception, run: HealthRun) -> str:
        # What a server says while connecting reaches us as text in its own language, so only
        # numbers and SQLSTATEs are looked at.
        whole = run.deadline - run.started
        if run.overdue or run.left_s() < whole * (1 - _ABRUPT_END):
            return "db.timeout"
        number = error.args[0] if error.args else None
        if isinstance(number, int):  # MySQL's SQLSTATEs say less than its numbers
            return _MYSQL_CODES.get(number, "db.refused")
        state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None))
        return "db.auth" if state.startswith("28") else _SQLSTATES.get(state, "db.refused")


@contextlib.contextmanager
def _shut_in_time(connection: Any, run: HealthRun) -> Iterator[None]:
    """Shut the socket of a connection when the run is given up."""
    found = socket_of(connection)
    if found is None:  # the deadline holds all the same; the thread ends with the driver
        yield
        return
    run.release_with(found.shut)
    try:
        yield
    finally:
        run.release_with(None)
