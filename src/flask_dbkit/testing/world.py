"""One transaction of the database that holds everything a test does, and is rolled back.

Whoever takes a connection from a pool gets one of its own, but all of them speak on the one
connection of the test. BEGIN, COMMIT and ROLLBACK of each are played with savepoints:

* Before the statements of a connection stands a savepoint of its own, a :class:`_Mark`. The
  connection that speaks next puts one on top.
* COMMIT takes the owner off its marks. The rows stay, for everybody.
* ROLLBACK goes back to the first mark of the connection behind which it has written. A
  connection that has only read goes back nowhere, and takes nobody's rows with it.

What this cannot play is refused in words, by :exc:`NeedsRealTransactions`: going back past rows
that another connection has written since, AUTOCOMMIT, and statements that commit by themselves.

References:
    https://www.sqlite.org/lang_savepoint.html
    https://www.postgresql.org/docs/current/sql-savepoint.html
"""

from __future__ import annotations

import re
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Dialect

from ..databases import POSTGRESQL, database_of
from ..databases.statements import CONTROL, READ, SAVEPOINT, Kind, classify_statement, first_word
from ..support.threads import handed_on
from .exceptions import NeedsRealTransactions

__all__ = ["Transaction", "World"]

inside: ContextVar[frozenset[int]] = handed_on(
    ContextVar("flask_dbkit.testing", default=frozenset())
)
"""The worlds that the current thread or task belongs to: what runs beside a test has none.

Health checks belong to that of the test which asks for them.
"""

_NAME = re.compile(
    r"""(?:SAVEPOINT|TO|RELEASE)\s+(?:SAVEPOINT\s+)?(["`]?)(\w+)\1\s*;?\s*$""", re.IGNORECASE
)
_BACK_TO = re.compile(r"\bROLLBACK\b.*\bTO\b", re.IGNORECASE | re.DOTALL)
_LOCAL_SETTING = re.compile(r"set_config\s*\(\s*'([\w.]+)'|\bSET\s+LOCAL\s+([\w.]+)", re.IGNORECASE)


@dataclass(eq=False)
class Transaction:
    """One connection that somebody took, between its first statement and its end.

    Attributes:
        opened_at: File and line that took the connection.
        is_open: Something was sent since the last COMMIT or ROLLBACK.
        settings: What ``SET LOCAL`` has changed, by name, as it was before.
    """

    opened_at: str
    is_open: bool = False
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Mark:
    """A savepoint.

    Attributes:
        name: In the database.
        owner: Whose statements follow it; ``None`` once they are committed.
        asked: What the application calls it; ``None`` for one of ours.
        wrote: Its owner has written behind it.
    """

    name: str
    owner: Transaction | None
    asked: str | None = None
    wrote: bool = False


class World:
    """The one connection of a test to one database, and all that happens on it.

    Args:
        raw: The driver's connection. Nothing is open on it.
        dialect: The database.

    Attributes:
        taken: The connections that somebody has.
        lock: Held while something is sent: health checks run at the same time.
    """

    def __init__(self, raw: Any, dialect: Dialect) -> None:
        self.raw = raw
        self.database = database_of(dialect)
        self.lock = threading.RLock()
        self.taken: list[Transaction] = []
        self.is_over = False
        self._marks: list[_Mark] = []
        self._count = 0
        if self.database is not POSTGRESQL:  # whose drivers begin by themselves
            self._send("BEGIN")

    def end(self) -> None:
        """Undo everything. Whoever still has a connection can do nothing more with it."""
        self.is_over = True
        self.raw.rollback()

    # -- what connections do --------------------------------------------------------------

    def before(self, transaction: Transaction, statement: object) -> bool:
        """Prepare for a statement, or play it.

        Returns:
            Whether the statement is to be sent.
        """
        self._check_caller()
        text = statement if isinstance(statement, str) else None
        kind = Kind.WRITE if text is None else classify_statement(text)
        if text is not None and kind is CONTROL:
            self._play(transaction, first_word(text))
            return False
        if text is not None and kind is SAVEPOINT:
            self._play_savepoint(transaction, text)
            return False
        if self.database.ddl_commits and text is not None and kind is not READ:
            self._refuse_implicit_commit(text)
        self._stand_on_top(transaction)
        if text is not None and self.database.scopes.two_phase:
            self._remember_settings(transaction, text)
        if kind is Kind.WRITE:
            self._marks[-1].wrote = True
        return True

    def commit(self, transaction: Transaction) -> None:
        """Leave what a connection has done to everybody."""
        if self.is_over or not transaction.is_open:
            return
        self._check_caller()
        for mark in self._marks:
            if mark.owner is transaction:
                mark.owner = mark.asked = None
        self._put_settings_back(transaction)
        transaction.is_open = False
        self._drop_committed()

    def roll_back(self, transaction: Transaction) -> None:
        """Undo what a connection has done since its last COMMIT or ROLLBACK."""
        if self.is_over or not transaction.is_open:
            return
        self._check_caller()
        transaction.is_open = False
        own = [index for index, mark in enumerate(self._marks) if mark.owner is transaction]
        written = [index for index in own if self._marks[index].wrote]
        if written:
            self._go_back(written[0], transaction)
        elif own and own[-1] == len(self._marks) - 1 and self._is_aborted():
            self._go_back(own[-1], transaction)
        for mark in self._marks:
            if mark.owner is transaction:
                mark.owner = mark.asked = None
        self._put_settings_back(transaction)
        self._drop_committed()

    # -- marks ----------------------------------------------------------------------------

    def _stand_on_top(self, transaction: Transaction, asked: str | None = None) -> None:
        transaction.is_open = True
        if self._is_aborted() and self._marks and self._marks[-1].owner is not transaction:
            # Another connection's statement failed; on its own it would stop only that one.
            self._send(f"ROLLBACK TO SAVEPOINT {self._marks[-1].name}")
        if asked is None and self._marks and self._marks[-1].owner is transaction:
            return
        self._count += 1
        mark = _Mark(f"dbkit_test_{self._count}", transaction, asked)
        self._send(f"SAVEPOINT {mark.name}")
        self._marks.append(mark)

    def _go_back(self, index: int, transaction: Transaction) -> None:
        """Undo everything behind a mark, if it is all of one connection."""
        others = [m for m in self._marks[index:] if m.owner is not transaction and m.wrote]
        if others:
            raise NeedsRealTransactions(
                "A connection rolls back what it wrote, and another one has written since: on the"
                " one connection of the test, that would be undone with it."
            )
        self._send(f"ROLLBACK TO SAVEPOINT {self._marks[index].name}")
        for mark in self._marks[index + 1 :]:
            if mark.owner is not None and mark.owner is not transaction:
                mark.owner.settings.clear()  # it has only read, and stands on top again next time
        del self._marks[index + 1 :]
        self._marks[index].wrote = False

    def _drop_committed(self) -> None:
        """Release the savepoints on top that nobody can go back to."""
        index = len(self._marks)
        while index and self._marks[index - 1].owner is None:
            index -= 1
        released = self._marks[index:]
        if not released:
            return
        wrote = any(mark.wrote for mark in released)
        if index and wrote:
            # The rows would belong to the mark below, whose owner may go back. Keep one mark.
            released[0].wrote = True
            index += 1
        if index < len(self._marks):
            self._send(f"RELEASE SAVEPOINT {self._marks[index].name}")
            del self._marks[index:]

    def _play(self, transaction: Transaction, word: str) -> None:
        if word in {"BEGIN", "START"}:
            transaction.is_open = True
        elif word in {"COMMIT", "END"}:
            self.commit(transaction)
        elif word == "ABORT":
            self.roll_back(transaction)
        else:
            raise NeedsRealTransactions(f"A statement that begins with {word} ends a transaction.")

    def _play_savepoint(self, transaction: Transaction, text: str) -> None:
        found = _NAME.search(text)
        if found is None:
            self.roll_back(transaction)
            return
        name, word = found[2], first_word(text)
        if word == "SAVEPOINT":
            self._stand_on_top(transaction, asked=name)
            return
        index = next(
            (
                index
                for index in range(len(self._marks) - 1, -1, -1)
                if self._marks[index].owner is transaction and self._marks[index].asked == name
            ),
            None,
        )
        if index is None:  # the database's own error says so
            self._stand_on_top(transaction)
            self._send(text)
        elif _BACK_TO.search(text):
            self._go_back(index, transaction)
        else:
            for mark in self._marks[index:]:
                if mark.owner is transaction:
                    mark.asked = None

    # -- the database ---------------------------------------------------------------------

    def _send(self, statement: str) -> None:
        cursor = self.raw.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()

    def _ask(self, statement: str) -> str:
        cursor = self.raw.cursor()
        try:
            cursor.execute(statement)
            return str(cursor.fetchone()[0])
        finally:
            cursor.close()

    def _is_aborted(self) -> bool:
        """Tell whether PostgreSQL waits for a ROLLBACK after an error."""
        loss = self.database.scopes.loss(self.raw, wrote=False)
        return loss is not None and loss.value == "failed"

    def _remember_settings(self, transaction: Transaction, text: str) -> None:
        # They end with the transaction, which here outlives whoever set them.
        for found in _LOCAL_SETTING.finditer(text):
            name = found[1] or found[2]
            if name.lower() in {"transaction", "role", "session"} or name in transaction.settings:
                continue
            transaction.settings[name] = self._ask(
                f"SELECT coalesce(current_setting('{name}', true), '')"
            )

    def _put_settings_back(self, transaction: Transaction) -> None:
        for name, value in transaction.settings.items():
            quoted = value.replace("'", "''")
            self._send(f"SELECT set_config('{name}', '{quoted}', true)")
        transaction.settings.clear()

    def _refuse_implicit_commit(self, text: str) -> None:
        if self.database.scopes.effects(text).commits:
            raise NeedsRealTransactions(
                f"{first_word(text)} commits by itself on this database, and with it everything"
                " that the test has done."
            )

    def _check_caller(self) -> None:
        if self.is_over:
            raise NeedsRealTransactions("The test that this connection belonged to is over.")
        if id(self) not in inside.get():
            raise NeedsRealTransactions(
                "A thread beside the test uses its database, on the one connection of the test."
            )
