"""Columns that many models want, kept right by the library.

Each mixin works with every declarative base, before or after it in the list of bases, and under
``MappedAsDataclass``: its columns are never dataclass fields.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Integer, Uuid, event, inspect, select
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql import ClauseElement

from ..databases import MYSQL
from .identifiers import uuid7
from .types import UTCDateTime

__all__ = ["PORTABLE_UUID", "Timestamps", "UUIDPrimaryKey", "Versioned"]

# SQLAlchemy 2.0 stores a Uuid as CHAR(32) on MariaDB, 2.1 as MariaDB's own UUID: what one line
# wrote the other would not find. CHAR(32) it is on both, which also sorts by time with every
# MariaDB; the native type puts UUIDv7 in order from 10.11.5 on.
# https://docs.sqlalchemy.org/en/21/changelog/migration_21.html
# https://jira.mariadb.org/browse/MDEV-29959
PORTABLE_UUID = Uuid().with_variant(Uuid(native_uuid=False), *MYSQL.names)

# Declarative puts columns of equal rank in an order of its own. The key comes first and what
# the library keeps comes last; updated_at must come after created_at, whose value it takes.
_FIRST, _LAST = -1, 1_000_000


def _now() -> datetime:
    return datetime.now(UTC)


def _as_created(context: DefaultExecutionContext) -> datetime:
    # In an INSERT with several VALUES the parameters are called created_at_m0, created_at_m1 …;
    # a default in the first row has no such ending.
    # https://docs.sqlalchemy.org/en/20/core/defaults.html#context-sensitive-default-functions
    row = str(getattr(context.current_column, "key", "")).removeprefix("updated_at")
    parameters: dict[str, Any] = context.get_current_parameters(  # type: ignore[no-untyped-call]
        isolate_multiinsert_groups=False
    )
    created = parameters.get(f"created_at{row or '_m0'}", parameters.get(f"created_at{row}"))
    return created if isinstance(created, datetime) else _now()


# The columns are declared attributes and not annotations: an annotation on a mixin that is no
# dataclass is an error in a mapped dataclass, and in one that is, it becomes a field.
# https://docs.sqlalchemy.org/en/20/orm/dataclasses.html#using-mixins-and-abstract-superclasses
class Timestamps:
    """When a row was inserted, and when it last changed.

    Attributes:
        created_at: Set at the INSERT. Indexed.
        updated_at: Equal to ``created_at`` at first, then the time of the last UPDATE that
            changed a value. Assigning the value a row already has is no change; if the old
            value is not loaded, one ``SELECT`` by primary key at the flush finds out.

    The times come from the clock of the application. ``insert()`` sets both, and ``update()``
    stamps every row it matches, since only the database knows which of them it changes.

    .. versionadded:: 0.1
    """

    if TYPE_CHECKING:
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]
    else:
        created_at = declared_attr(
            lambda _: mapped_column(
                UTCDateTime,
                insert_default=_now,
                nullable=False,
                index=True,
                sort_order=_LAST + 1,
            )
        )
        updated_at = declared_attr(
            lambda _: mapped_column(
                UTCDateTime,
                insert_default=_as_created,
                onupdate=_now,
                nullable=False,
                sort_order=_LAST + 2,
            )
        )


class UUIDPrimaryKey:
    """A primary key that the application makes, and that sorts by time.

    Attributes:
        id: A UUID of version 7, made at the INSERT. See
            :func:`~flask_dbkit.models.identifiers.uuid7`.

    .. versionadded:: 0.1
    """

    if TYPE_CHECKING:
        id: Mapped[uuid.UUID]
    else:
        id = declared_attr(
            lambda _: mapped_column(
                PORTABLE_UUID, primary_key=True, insert_default=uuid7, sort_order=_FIRST
            )
        )


class Versioned:
    """An optimistic lock: who writes on stale data gets an error, and nobody's work is lost.

    Attributes:
        version: 1 at the INSERT, one more with every UPDATE or upsert that changes the row.

    The ORM adds ``AND version = …`` to each UPDATE and DELETE of an object, and raises
    :exc:`sqlalchemy.orm.exc.StaleDataError` if the row has moved on. ``update()`` and
    ``delete()`` statements are not checked.

    .. versionadded:: 0.1

    References:
        https://docs.sqlalchemy.org/en/20/orm/versioning.html
    """

    if TYPE_CHECKING:
        version: Mapped[int]
    else:
        # The ORM counts by itself; the default is for insert() statements.
        version = declared_attr(
            lambda _: mapped_column(Integer, insert_default=1, nullable=False, sort_order=_LAST)
        )


# __mapper_args__ on the mixin would be lost as soon as a model has its own.
# https://docs.sqlalchemy.org/en/20/orm/events.html#sqlalchemy.orm.MapperEvents.after_mapper_constructed
@event.listens_for(Versioned, "after_mapper_constructed", propagate=True)
def _lock_by_version(mapper: Mapper[Any], class_: type[Any]) -> None:
    # A subclass has inherited the column of its parent by now.
    if mapper.version_id_col is None:
        mapper.version_id_col = mapper.columns["version"]


# Assigning to an attribute that is expired or deferred does not load its old value: the flush
# would write the same value again, and with it a new updated_at and a new version.
@event.listens_for(Timestamps, "before_update", propagate=True)
def _forget_equal_values(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    state = inspect(target)
    blind = []
    for prop in mapper.column_attrs:
        history = state.attrs[prop.key].history
        if history.added and not history.deleted and prop.columns[0].table is not None:
            blind.append((prop, history.added[0]))
    blind = [(prop, new) for prop, new in blind if not isinstance(new, ClauseElement)]
    if not blind:
        return
    key = zip(mapper.primary_key, state.identity, strict=True)
    statement = select(*(prop.columns[0] for prop, _ in blind)).select_from(mapper.selectable)
    row = connection.execute(statement.where(*(column == value for column, value in key))).first()
    if row is None:
        return
    for (prop, new), old in zip(blind, row, strict=True):
        if prop.columns[0].type.compare_values(old, new):
            set_committed_value(target, prop.key, new)
