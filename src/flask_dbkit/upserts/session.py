"""Get-or-create and upsert: one row per key, however many processes ask for it at once.

Both take a ``Session``, flush, and never commit. What can fail runs inside a savepoint, so that
an error leaves nothing half done.
"""

from __future__ import annotations

import dataclasses
import inspect as python_inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, inspect, select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper, RelationshipDirection, Session, class_mapper
from sqlalchemy.sql import Executable

from ..databases import MYSQL, POSTGRESQL, SQLITE, database_of
from . import on_mysql, on_postgresql, on_sqlite
from .model_table import AttributeNames, Key, ModelTable, check_name
from .reading import RowReader, read_locked, snapshot_hides_commits
from .rows import Execute, RowGroup, Rows
from .unique_keys import check_covered

__all__ = ["AttributeNames", "get_or_create", "upsert"]

T = TypeVar("T")

_WRITERS = {
    SQLITE: on_sqlite.write,
    POSTGRESQL: on_postgresql.write,
    MYSQL: on_mysql.write,
}


def get_or_create(
    session: Session, model: type[T], defaults: Mapping[str, Any], by: Mapping[str, Any]
) -> tuple[T, bool]:
    """Return the row that matches ``by``, or insert it.

    Sends one ``SELECT``. If it finds nothing: ``SAVEPOINT``, ``INSERT``, ``RELEASE``; and if
    somebody else was faster, ``ROLLBACK TO`` and the ``SELECT`` again. That somebody else is
    noticed by a unique constraint. ``NULL`` is never equal to ``NULL``: looked for among the
    columns of the only one, there may be two rows.

    On SQLite a session that has read nothing yet takes the write lock first, since a
    transaction that has read may be too late to write. In one that has, the busy error of
    SQLite is raised if the row appeared after its first read.

    Args:
        session: Flushed, never committed or rolled back.
        model: The mapped class.
        defaults: Further attributes of a new row. A callable is called for its value, and only
            when a row is created.
        by: What to look for: columns, or many-to-one relationships, with their values. A
            primary key, or the columns of a unique constraint or index, are among them.

    Returns:
        The object, and whether it was created.

    Raises:
        ValueError: A name is not one of the model's, or is given twice, or ``by`` is empty, or
            no unique constraint keeps a second row out.
        MultipleResultsFound: Several rows match.
        IntegrityError: The new row is refused for another reason than a row that matches. On
            PostgreSQL above READ COMMITTED also for a row that this transaction cannot see.
    """
    mapper = class_mapper(model)
    _check_lookup(mapper, defaults, by)
    check_covered(mapper, by, session.get_bind(mapper=mapper).dialect)
    _begin_writing(session, mapper)
    for value in by.values():
        # The row cannot be there if what it refers to is not; and is needed to look for it.
        state = inspect(value, raiseerr=False)
        if getattr(state, "transient", False):
            session.add(value)
    session.flush()
    statement = select(model).where(*(getattr(model, name) == by[name] for name in by)).limit(2)
    options = {"bind_arguments": {"mapper": mapper}}
    found = session.scalars(statement, **options).unique().one_or_none()
    if found is not None:
        return found, False
    given = {name: value() if callable(value) else value for name, value in defaults.items()}
    try:
        with session.begin_nested():
            created = _build(model, {**given, **by})
            session.add(created)
            session.flush()
    except IntegrityError:
        if snapshot_hides_commits(session, mapper):
            statement = read_locked(statement)
        found = session.scalars(statement, **options).unique().one_or_none()
        if found is None:
            raise
        return found, False
    return created, True


def upsert(
    session: Session,
    model: type[T],
    rows: Iterable[Mapping[str, Any]],
    *,
    by: AttributeNames,
    update: AttributeNames | None = None,
) -> list[T]:
    """Insert rows, or update those that are there already.

    Sends, inside a savepoint, one ``INSERT … ON CONFLICT`` (MySQL and MariaDB: ``… ON DUPLICATE
    KEY``) for the rows that give the same attributes, and a ``SELECT`` that refreshes the
    objects. The rows go out in the order of their keys, so that two processes with the same
    rows wait for each other instead of ending in a deadlock.

    A row is as it would be had the mappings been sent one after the other: of two with one key
    the later wins. An existing row is touched only if a value differs; then ``version`` of
    :class:`~flask_dbkit.models.mixins.Versioned` and columns with an ``onupdate`` move on as well.

    Column defaults apply; ``__init__``, validators and ORM events do not.

    Args:
        session: Flushed, never committed or rolled back.
        model: A class mapped to one table.
        rows: Mappings of attribute names to plain values. They need not have the same names.
        by: The attributes that tell whether a row is there: the primary key or the columns of
            a unique constraint. Every row gives them, and none of them is ``None``.
        update: The attributes to update then. ``None``: each one given that is not in ``by``,
            nor in the primary key. ``()``: none.

    Returns:
        One object per row, in the order of ``rows``, as the database has it now.

    Raises:
        ValueError: A name is not a column of the model, ``by`` is not unique, or a row lacks a
            value for it.
        IntegrityError: A row is refused, also because it conflicts with another unique key
            than ``by``. Nothing of this call is kept.
        NotImplementedError: The database is none of the four.
    """
    target = ModelTable.of(model)
    names = target.names(by, "by")
    target.check_unique(names)
    updatable = target.updatable(names, update)
    mappings = [target.checked(row, names) for row in rows]
    if not mappings:
        return []
    dialect = session.get_bind(mapper=target.mapper).dialect
    write = _writer_for(dialect)
    key = target.key(names, dialect)
    merged: dict[Hashable, dict[str, Any]] = {}
    order = [key.identity(key.values(row)) for row in mappings]
    for identity, row in zip(order, mappings, strict=True):
        kept = merged.setdefault(identity, row)
        kept.update((name, value) for name, value in row.items() if name in updatable)

    _begin_writing(session, target.mapper)
    arguments = {"mapper": target.mapper}

    def execute(statement: Executable, parameters: Any) -> Any:
        return session.execute(statement, parameters, bind_arguments=arguments)

    session.flush()
    hidden = False
    older = session.in_transaction()
    with session.begin_nested():
        connection = session.connection(bind_arguments=arguments)
        for given, some in groupby(_sorted(merged.values(), key), key=target.given):
            group = target.group(names, [name for name in given if name in updatable])
            unwritten = write(connection, group, [target.parameters(row) for row in some], execute)
            hidden |= older and unwritten
        wanted = {identity: key.values(row) for identity, row in merged.items()}
        objects = RowReader(session, target, key).read(wanted, locking=hidden)
    return [objects[identity] for identity in order]


def _writer_for(dialect: Dialect) -> Callable[[Connection, RowGroup, Rows, Execute], bool]:
    """Return the function that writes rows on one database.

    It returns whether a snapshot older than the call may show a row as it was: one that had
    these values already, and so was not written.

    Raises:
        NotImplementedError: There is none for it.
    """
    writer = _WRITERS.get(database_of(dialect))
    if writer is None:
        known = sorted(name for database in _WRITERS for name in database.names)
        raise NotImplementedError(
            f"upsert() cannot write to {dialect.name!r}. It knows {', '.join(known)}."
        )
    return writer


def _sorted(rows: Iterable[dict[str, Any]], key: Key) -> list[dict[str, Any]]:
    rows = list(rows)
    try:
        return sorted(rows, key=key.values)
    except Exception:
        return sorted(rows, key=lambda row: repr(key.values(row)))


def _begin_writing(session: Session, mapper: Mapper[Any]) -> None:
    """Begin a SQLite transaction that has not begun as one that writes.

    One that has read cannot write once somebody else has: https://www.sqlite.org/isolation.html
    """
    bind = session.get_bind(mapper=mapper)
    if isinstance(bind, Connection) or not database_of(bind).has_one_writer:
        return
    transaction = session.get_transaction()
    if transaction is not None:
        # Public since SQLAlchemy 2.1.7; in 2.0 the same under another name.
        private: Iterable[Any] = getattr(transaction, "_connections", ())
        connections: Iterable[Any] = getattr(transaction, "connections", private)
        if any(connection is bind or connection.engine is bind for connection in connections):
            return
    # Understood by our dialect layer, ignored by a plain engine.
    session.connection(
        bind_arguments={"mapper": mapper},
        execution_options={"dbkit_sqlite_begin": "immediate"},
    )


def _check_lookup(mapper: Mapper[Any], defaults: Mapping[str, Any], by: Mapping[str, Any]) -> None:
    model = mapper.class_
    if not by:
        raise ValueError(
            f"get_or_create({model.__name__}) was given nothing to look for."
            " Name at least one attribute, such as slug='sea'."
        )
    known = list(mapper.all_orm_descriptors.keys())
    for name in by:
        check_name(mapper, name, known, "The lookup")
        relationship = mapper.relationships.get(name)
        if relationship is not None and (
            relationship.direction is not RelationshipDirection.MANYTOONE
        ):
            raise ValueError(
                f"The lookup names {name!r}, which refers to rows of another table. Use a column"
                " or a many-to-one relationship."
            )
    accepted = {*known, *python_inspect.signature(model).parameters}
    for name in defaults:
        if name in by:
            raise ValueError(f"{name!r} is in defaults and in the lookup. Give it once.")
        if not hasattr(model, name):
            check_name(mapper, name, accepted, "defaults")


def _build(model: type[T], values: Mapping[str, Any]) -> T:
    """Make an object, setting after ``__init__`` what a mapped dataclass does not take there."""
    late: set[str] = set()
    if dataclasses.is_dataclass(model):
        late = set(values) - set(python_inspect.signature(model).parameters)
    created = model(**{name: value for name, value in values.items() if name not in late})
    for name in late:
        setattr(created, name, values[name])
    return created
