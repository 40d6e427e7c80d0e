"""Columns that many models want, kept right by the library.

Each mixin works with every declarative base, before or after it in the list of bases, and under
``MappedAsDataclass``: its columns are never dataclass fields.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Integer, Uuid, event, inspect, select, type_coerce
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import (
    InstanceState,
    InstrumentedAttribute,
    Mapped,
    Mapper,
    declared_attr,
    mapped_column,
)
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql import ClauseElement

from ..databases import MYSQL
from .identifiers import uuid7
from .stored_values import StoredValues
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


_FLAGGED = "flask_dbkit.flagged"
"""Where an object keeps the values that ``flag_modified()`` was called for."""


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


class _KeepsWhatIsEqual:
    """Assigning the value a row has already is no change, whether it was loaded or not."""


# The columns are declared attributes and not annotations: an annotation on a mixin that is no
# dataclass is an error in a mapped dataclass, and in one that is, it becomes a field.
# https://docs.sqlalchemy.org/en/20/orm/dataclasses.html#using-mixins-and-abstract-superclasses
class Timestamps(_KeepsWhatIsEqual):
    """When a row was inserted, and when it last changed.

    Attributes:
        created_at: Set at the INSERT. Indexed.
        updated_at: Equal to ``created_at`` at first, then the time of the last UPDATE that
            changed what is stored. Assigning the value a row already has is no change; if the
            old value is not loaded, one ``SELECT`` by primary key at the flush finds out. A
            value marked by ``flag_modified()`` is always written.

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


class Versioned(_KeepsWhatIsEqual):
    """An optimistic lock: who writes on stale data gets an error, and nobody's work is lost.

    Attributes:
        version: 1 at the INSERT, one more with every UPDATE or upsert that changes the row.
            What is a change is told as for :class:`Timestamps`.

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


# flag_modified() says of a value that it is to be written; nothing else in the object tells that
# from an assignment to an attribute that is not loaded.
# https://docs.sqlalchemy.org/en/20/orm/events.html#sqlalchemy.orm.AttributeEvents.modified
@event.listens_for(_KeepsWhatIsEqual, "attribute_instrument", propagate=True)
def _hear_of_flags(class_: type[Any], key: str, attribute: Any) -> None:
    if isinstance(attribute, InstrumentedAttribute):

        @event.listens_for(attribute, "modified", raw=True)
        def remember(state: InstanceState[Any], initiator: Any) -> None:
            state.info.setdefault(_FLAGGED, {})[key] = state.dict.get(key)


# Assigning to an attribute that is expired or deferred does not load its old value: the flush
# would write the same value again, and with it a new updated_at and a new version.
@event.listens_for(_KeepsWhatIsEqual, "before_update", propagate=True)
def _forget_equal_values(mapper: Mapper[Any], connection: Connection, target: Any) -> None:
    state: InstanceState[Any] = inspect(target)
    assigned = _assigned_unseen(mapper, state)
    if not assigned:
        return
    columns = {key: mapper.column_attrs[key].columns[0] for key in assigned}
    values = {
        key: StoredValues.of(column.type, connection.dialect) for key, column in columns.items()
    }
    identity = zip(mapper.primary_key, state.identity or (), strict=True)
    row = connection.execute(
        select(*(type_coerce(columns[key], values[key].read_as) for key in assigned))
        .select_from(mapper.selectable)
        .where(*(column == value for column, value in identity))
    ).first()
    if row is None:
        return
    for (key, new), stored in zip(assigned.items(), row, strict=True):
        if values[key].alike(stored, new):
            set_committed_value(target, key, new)


def _assigned_unseen(mapper: Mapper[Any], state: InstanceState[Any]) -> dict[str, Any]:
    """Return the values to be written of which nobody knows what they replace.

    An SQL expression is always a change, and so is what was flagged as one.
    """
    flagged: dict[str, Any] = state.info.pop(_FLAGGED, {})
    assigned = {}
    for prop in mapper.column_attrs:
        history = state.attrs[prop.key].history
        if history.deleted or not history.added or prop.columns[0].table is None:
            continue
        new = history.added[0]
        # A flag is over when its object was expired: the value is another one then.
        is_flagged = prop.key in flagged and flagged[prop.key] is new
        if not is_flagged and not isinstance(new, ClauseElement):
            assigned[prop.key] = new
    return assigned
