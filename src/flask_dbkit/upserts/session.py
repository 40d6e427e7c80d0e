"""Get-or-create and upsert: one row per key, however many processes ask for it at once.

Both take a ``Session``, flush, and never commit. What can fail runs inside a savepoint, so that
an error leaves nothing half done.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect as python_inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    Select,
    Table,
    UniqueConstraint,
    inspect,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    InstrumentedAttribute,
    Mapper,
    QueryableAttribute,
    RelationshipDirection,
    Session,
    class_mapper,
    lazyload,
)
from sqlalchemy.sql import ClauseElement, ColumnElement, Executable

from .on_conflict import Shape, writer_for

__all__ = ["AttributeNames", "get_or_create", "upsert"]

T = TypeVar("T")
AttributeNames = str | InstrumentedAttribute[Any] | Iterable[str | InstrumentedAttribute[Any]]

_SNAPSHOT_DIALECTS = frozenset({"mysql", "mariadb"})
_KEYS_PER_UNION = 100
_KEYS_PER_SELECT = 400  # older SQLite allows 999 parameters in a statement


def get_or_create(
    session: Session, model: type[T], defaults: Mapping[str, Any], by: Mapping[str, Any]
) -> tuple[T, bool]:
    """Return the row that matches ``by``, or insert it.

    Sends one ``SELECT``. If it finds nothing: ``SAVEPOINT``, ``INSERT``, ``RELEASE``; and if
    somebody else was faster, ``ROLLBACK TO`` and the ``SELECT`` again. That somebody else can
    be noticed only if ``by`` has a unique constraint: without one there may be two rows.

    On SQLite a session that has read nothing yet takes the write lock first, since a
    transaction that has read may be too late to write. In one that has, the busy error of
    SQLite is raised if the row appeared after its first read.

    Args:
        session: Flushed, never committed or rolled back.
        model: The mapped class.
        defaults: Further attributes of a new row. A callable is called for its value, and only
            when a row is created.
        by: What to look for: columns, or many-to-one relationships, with their values.

    Returns:
        The object, and whether it was created.

    Raises:
        ValueError: A name is not one of the model's, or is given twice, or ``by`` is empty.
        MultipleResultsFound: Several rows match.
        IntegrityError: The new row is refused for another reason than a row that matches. On
            PostgreSQL above READ COMMITTED also for a row that this transaction cannot see.
    """
    mapper = class_mapper(model)
    _check_lookup(mapper, defaults, by)
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
        if _dialect_name(session, mapper) in _SNAPSHOT_DIALECTS:
            statement = _shown_now(statement)
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
    target = _Target.of(model)
    key = target.names(by, "by")
    target.check_unique(key)
    updatable = target.updatable(key, update)
    mappings = [target.checked(row, key) for row in rows]
    if not mappings:
        return []
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    order = [tuple(row[name] for name in key) for row in mappings]
    for values, row in zip(order, mappings, strict=True):
        kept = merged.setdefault(values, row)
        kept.update((name, value) for name, value in row.items() if name in updatable)

    _begin_writing(session, target.mapper)
    write = writer_for(session.get_bind(mapper=target.mapper).dialect)

    def execute(statement: Executable, parameters: Any) -> Any:
        return session.execute(statement, parameters, bind_arguments={"mapper": target.mapper})

    session.flush()
    hidden = False
    older = session.in_transaction()
    with session.begin_nested():
        for names, some in groupby(_sorted(merged), key=target.given):
            shape = target.shape(key, [name for name in names if name in updatable])
            unwritten = write(shape, [target.parameters(row) for row in some], execute)
            hidden |= older and unwritten
        objects = _refresh(session, target, key, list(merged), current=hidden)
    return [objects[values] for values in order]


@dataclasses.dataclass(frozen=True)
class _Target:
    """A mapped class, seen as the one table it is stored in.

    Attributes:
        mapper: The class.
        table: The table.
        columns: Its columns by the name of their attribute.
    """

    mapper: Mapper[Any]
    table: Table
    columns: dict[str, Column[Any]]

    @classmethod
    def of(cls, model: type[Any]) -> _Target:
        mapper = class_mapper(model)
        table = mapper.local_table
        if len(mapper.tables) != 1 or not isinstance(table, Table):
            raise ValueError(
                f"upsert() writes to one table, but {model.__name__} is stored in"
                f" {', '.join(map(str, mapper.tables))}. Use get_or_create()."
            )
        columns = {
            prop.key: prop.columns[0]
            for prop in mapper.column_attrs
            if isinstance(prop.columns[0], Column) and prop.columns[0].table is table
        }
        return cls(mapper, table, columns)

    def names(self, given: AttributeNames, what: str) -> tuple[str, ...]:
        """Turn what the caller gave into names of column attributes."""
        one_or_more: Any = given
        several = [given] if isinstance(given, (str, QueryableAttribute)) else one_or_more
        names = tuple(name if isinstance(name, str) else name.key for name in several)
        for name in names:
            _check_name(self.mapper, name, self.columns, what)
        return names

    def attributes(self, columns: Iterable[Any]) -> tuple[str, ...]:
        names = {id(column): name for name, column in self.columns.items()}
        return tuple(names[id(column)] for column in columns if id(column) in names)

    def unique_keys(self) -> list[tuple[str, ...]]:
        """Return every set of attributes that ``ON CONFLICT`` can name."""
        found: list[Sequence[Any]] = [list(self.table.primary_key.columns)]
        found += [
            list(constraint.columns)
            for constraint in self.table.constraints
            # A deferrable one is checked too late to be answered.
            if isinstance(constraint, UniqueConstraint) and not constraint.deferrable
        ]
        found += [
            list(index.expressions)
            for index in self.table.indexes
            # Part of the rows, or part of a value: unique only within it.
            if index.unique
            and not any(
                value is not None
                for option, value in index.dialect_kwargs.items()
                if option.endswith(("_where", "_length"))
            )
        ]
        keys = {self.attributes(columns): len(columns) for columns in found}
        return sorted(key for key, length in keys.items() if key and len(key) == length)

    def check_unique(self, key: tuple[str, ...]) -> None:
        allowed = self.unique_keys()
        if set(key) not in [set(names) for names in allowed]:
            raise ValueError(
                f"by={key!r} is no primary key or unique constraint of"
                f" {self.mapper.class_.__name__}. Use one of:"
                f" {', '.join(map(str, allowed)) or '(it has none)'}; or add a unique"
                " constraint."
            )

    def updatable(self, key: tuple[str, ...], update: AttributeNames | None) -> Collection[str]:
        fixed = {*key, *self.attributes(self.table.primary_key.columns)}
        version = self.mapper.version_id_col
        counted = self.attributes([version]) if version is not None else ()
        if update is None:
            return set(self.columns) - fixed - set(counted)
        names = self.names(update, "update")
        for name in names:
            if name in fixed or name in counted:
                raise ValueError(
                    f"update= names {name!r}, which"
                    + (
                        " the library counts by itself."
                        if name in counted
                        else " identifies the row and cannot change."
                    )
                    + " Leave it out."
                )
        return set(names)

    def checked(self, row: Mapping[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
        """Return a copy of one of the rows, once it is known to be usable."""
        for name, value in row.items():
            _check_name(self.mapper, name, self.columns, "A row")
            if isinstance(value, ClauseElement):
                raise ValueError(  # noqa: TRY004 - of the kind every unusable row raises
                    f"A row gives the SQL expression {str(value)!r} for {name!r}."
                    " upsert() takes plain values."
                )
        for name in key:
            if row.get(name) is None:
                raise ValueError(
                    f"A row has no value for {name!r}, which is in by=. NULL is never equal to"
                    f" NULL, so it would be inserted each time. The row gives: {_listed(row)}."
                )
        return dict(row)

    def given(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(name for name in self.columns if name in row)

    def shape(self, key: tuple[str, ...], assigned: Sequence[str]) -> Shape:
        version, generate = self.mapper.version_id_col, self.mapper.version_id_generator
        shape = Shape(
            self.table,
            tuple(self.columns[name] for name in key),
            tuple(self.columns[name] for name in assigned),
        )
        if not isinstance(version, Column) or not callable(generate):
            return shape  # none, or counted by the database
        following = None if isinstance(version.type, Integer) else generate(None)
        return dataclasses.replace(shape, version=version, next_version=following)

    def parameters(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row by column, with what the ORM would add to an INSERT."""
        values = {self.columns[name].key: value for name, value in row.items()}
        discriminator = self.mapper.polymorphic_on
        if isinstance(discriminator, Column) and self.mapper.polymorphic_identity is not None:
            values.setdefault(discriminator.key, self.mapper.polymorphic_identity)
        version = self.mapper.version_id_col
        generate = self.mapper.version_id_generator
        if isinstance(version, Column) and version.default is None and callable(generate):
            values.setdefault(version.key, generate(None))
        return values


def _sorted(merged: Mapping[tuple[Any, ...], dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        return [merged[values] for values in sorted(merged)]
    except TypeError:  # an enumeration, for example, has no order
        return [merged[values] for values in sorted(merged, key=repr)]


def _refresh(
    session: Session,
    target: _Target,
    key: tuple[str, ...],
    wanted: list[tuple[Any, ...]],
    *,
    current: bool,
) -> dict[tuple[Any, ...], Any]:
    """Load the objects with these keys, over what the session knew of them.

    Args:
        session: The session.
        target: The class to load.
        key: The names of the key's attributes.
        wanted: The values of the keys.
        current: Whether only a locking read is sure to show the rows as they are now.
    """
    model = target.mapper.class_
    attributes = [getattr(model, name) for name in key]
    plain = select(model).execution_options(populate_existing=True)
    locking = plain
    if _dialect_name(session, target.mapper) in _SNAPSHOT_DIALECTS:
        locking = _shown_now(plain)

    def fetch(statement: Executable) -> Sequence[Any]:
        found = session.execute(statement, bind_arguments={"mapper": target.mapper})
        return found.scalars().unique().all()

    def listed(some: list[tuple[Any, ...]]) -> Select[Any]:
        if len(key) == 1:
            return plain.where(attributes[0].in_([values[0] for values in some]))
        return plain.where(tuple_(*attributes).in_(some))

    def equal(values: tuple[Any, ...]) -> list[ColumnElement[bool]]:
        pairs = zip(attributes, values, strict=True)
        return [attribute == value for attribute, value in pairs]

    def point_by_point(some: list[tuple[Any, ...]]) -> Executable:
        # A locking read with a list may be done as a scan of the table, which waits for rows
        # of others: a deadlock, as they wait for ours. Looking up one unique key never is.
        # The limit makes SQLAlchemy put each part in brackets.
        parts = [_shown_now(select(model).where(*equal(values))).limit(1) for values in some]
        return cast("Executable", plain.from_statement(union_all(*parts)))

    objects: dict[tuple[Any, ...], Any] = {}
    step = (_KEYS_PER_UNION if current else _KEYS_PER_SELECT) // len(key)
    for start in range(0, len(wanted), step):
        some = wanted[start : start + step]
        for obj in fetch(point_by_point(some) if current else listed(some)):
            objects[tuple(getattr(obj, name) for name in key)] = obj
    for values in wanted:
        if values in objects:
            continue
        # Equal to the database and not to Python, as text of another case may be; or hidden
        # by a snapshot.
        found = fetch(locking.where(*equal(values)))
        if len(found) != 1:
            raise ValueError(
                f"The row with {dict(zip(key, values, strict=True))!r} cannot be read back as"
                f" {model.__name__}: it belongs to another class of the same table, is hidden by"
                " loader criteria, or the database changed its key, as rounding does. Nothing"
                " was written."
            )
        objects[values] = found[0]
    return objects


def _shown_now(statement: Select[Any]) -> Select[Any]:
    """Read past the snapshot of a transaction, as only a locking read does on MariaDB.

    REPEATABLE READ goes on showing the data as of the first SELECT.
    https://mariadb.com/kb/en/innodb-lock-modes/
    """
    return statement.options(lazyload("*")).with_for_update(read=True)


def _dialect_name(session: Session, mapper: Mapper[Any]) -> str:
    return session.get_bind(mapper=mapper).dialect.name


def _begin_writing(session: Session, mapper: Mapper[Any]) -> None:
    """Begin a SQLite transaction that has not begun as one that writes.

    One that has read cannot write once somebody else has: https://www.sqlite.org/isolation.html
    """
    bind = session.get_bind(mapper=mapper)
    if bind.dialect.name != "sqlite" or isinstance(bind, Connection):
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
        _check_name(mapper, name, known, "The lookup")
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
            _check_name(mapper, name, accepted, "defaults")


def _check_name(mapper: Mapper[Any], name: str, known: Collection[str], what: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, 1)
    raise ValueError(
        f"{what} names {name!r}, which {mapper.class_.__name__} does not have here."
        f" It has: {_listed(known)}." + (f" Did you mean {near[0]!r}?" if near else "")
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))


def _build(model: type[T], values: Mapping[str, Any]) -> T:
    """Make an object, setting after ``__init__`` what a mapped dataclass does not take there."""
    late: set[str] = set()
    if dataclasses.is_dataclass(model):
        late = set(values) - set(python_inspect.signature(model).parameters)
    created = model(**{name: value for name, value in values.items() if name not in late})
    for name in late:
        setattr(created, name, values[name])
    return created
