"""Which database a statement goes to: the one its tables belong to.

Flask-SQLAlchemy looks at the model of a statement, or at the table an INSERT, UPDATE or DELETE
writes to. Everything else, as ``select(table)`` or a count over a subquery, goes to the default
database there, which may have another table of that name. What Flask-SQLAlchemy decides by its
own rules stays as it is: a model, and a ``bind`` or ``mapper`` in ``bind_arguments``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Table, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import ORMExecuteState, Session, scoped_session
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.dml import UpdateBase

from ..databases.execution import Execution, Order, Watcher, watch
from .flask_sqlalchemy import chooses_by_model, engines_of_session

__all__ = ["choose_by_tables", "name_statements", "refuse_joined_databases"]

_ONE_DATABASE = "_dbkit_one_database"
"""Attribute of a compiled statement: it was looked at, and is of one database."""
Bound = Engine | Connection
GetBind = Callable[..., Bound]
Chose = Callable[[Session, Bound], None]


def choose_by_tables(get_bind: GetBind, chose: Chose) -> GetBind:
    """Return a ``get_bind`` for sessions that knows the tables of a statement.

    Args:
        get_bind: The method of a session's class. One that is not Flask-SQLAlchemy's has rules
            of its own, and chooses as it did.
        chose: Told what was chosen.
    """
    if not chooses_by_model(get_bind):

        def get_bind_as_before(self: Session, *args: Any, **kwargs: Any) -> Bound:
            chosen = get_bind(self, *args, **kwargs)
            chose(self, chosen)
            return chosen

        return get_bind_as_before

    def get_bind_by_tables(
        self: Session,
        mapper: Any = None,
        clause: Any = None,
        bind: Bound | None = None,
        **further: Any,
    ) -> Bound:
        if bind is None and clause is not None:
            engines = engines_of_session(self)
            if len(engines) > 1 and isinstance(clause, ClauseElement):
                tables = _tables_by_bind(clause)
                _refuse_several(tables, engines)
                if mapper is None and len(tables) == 1:
                    clause = next(iter(tables.values()))
        chosen = get_bind(self, mapper, clause, bind, **further)
        chose(self, chosen)
        return chosen

    return get_bind_by_tables


def name_statements(sessions: scoped_session[Any]) -> None:
    """Let ``get_bind`` see every statement of an application with several databases.

    SQLAlchemy tells it nothing of a union of models.
    """
    if not event.contains(sessions, "do_orm_execute", _name_statement):
        event.listen(sessions, "do_orm_execute", _name_statement)


def _name_statement(state: ORMExecuteState) -> None:
    if not state.bind_arguments:
        state.bind_arguments["clause"] = state.statement


def refuse_joined_databases(engine: Engine, engines: Mapping[str | None, Engine]) -> None:
    """Look at the joins that the ORM adds to a statement by itself, as ``joinedload()`` does.

    Args:
        engine: One of several of an application.
        engines: All of them, by bind key.
    """
    watch(engine, _JoinedDatabases(engines))


class _JoinedDatabases(Watcher):
    """Refuses a compiled SELECT of the ORM that reads from several databases."""

    # What it refuses is not counted, and no reason for SQLite to take its write lock.
    order = Order.SCOPE

    def __init__(self, engines: Mapping[str | None, Engine]) -> None:
        self._engines = engines

    def before(self, execution: Execution) -> bool | None:
        compiled = execution.context.compiled
        if compiled is None or _ONE_DATABASE in compiled.__dict__:
            return None
        # What was written was looked at when its database was chosen, or its bind was given.
        said, sent = compiled.statement, getattr(compiled.compile_state, "statement", None)
        if isinstance(sent, ClauseElement) and sent is not said and len(_tables_by_bind(said)) < 2:
            _refuse_several(_tables_by_bind(sent), self._engines)
        compiled.__dict__[_ONE_DATABASE] = True  # it is kept, and asked for again
        return None


def _tables_by_bind(clause: ClauseElement) -> dict[str | None, Table]:
    """Return one table for each bind key that a statement names a table of.

    A table of a metadata that Flask-SQLAlchemy has not made says nothing.
    """
    found: dict[str | None, Table] = {}
    for table in _tables(clause):
        info = table.metadata.info
        if "bind_key" in info:
            found.setdefault(info["bind_key"], table)
    return found


def _tables(clause: ClauseElement) -> Iterator[Table]:
    if isinstance(clause, ExecutableDDLElement):
        element = getattr(clause, "element", None)
        named = getattr(element, "table", element)  # of an index or a constraint
        if isinstance(named, Table):
            yield named
        return
    for element in visitors.iterate(clause):
        table = element
        if isinstance(element, (Column, UpdateBase)):
            table = element.table
        if isinstance(table, Table):
            yield table


def _refuse_several(
    tables: Mapping[str | None, Table], engines: Mapping[str | None, Bound]
) -> None:
    """Refuse tables of several databases; several keys may also name one and the same."""
    if len(tables) < 2:
        return
    urls = {engines[key].engine.url for key in tables if key in engines}
    if len(urls) < 2 and not any(url.database in {None, "", ":memory:"} for url in urls):
        return
    named = ", ".join(
        f"{table.fullname!r} of {'the default database' if key is None else f'bind {key!r}'}"
        for key, table in tables.items()
    )
    raise UnboundExecutionError(
        f"One statement cannot read from several databases, and this one names {named}. Send one"
        " statement to each and put the rows together in Python. For a table that is in both,"
        " name the database: execute(…, bind_arguments={'bind': db.engines[…]})."
    )
