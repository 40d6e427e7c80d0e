"""The declarative base, its naming convention and its type map.

:class:`Base` serves in two ways, which may be mixed: as ``SQLAlchemy(model_class=Base)``, with
models below ``db.Model``, and as the direct parent of models, which type checkers understand.
The second way follows the rules of the first: table names, bind keys, single-table inheritance.

References:
    https://flask-sqlalchemy.readthedocs.io/en/stable/models/
"""

from __future__ import annotations

import types
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakSet

from flask_sqlalchemy.model import Model, NameMixin, camel_to_snake_case, should_set_tablename
from sqlalchemy import JSON, Double, MetaData, Numeric, Table
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, InstanceState, MappedAsDataclass, registry
from sqlalchemy.orm.attributes import instance_state

from ..support.calls import explained
from .mixins import PORTABLE_UUID, Timestamps, UUIDPrimaryKey, Versioned
from .types import UTCDateTime

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

__all__ = [
    "NAMING_CONVENTION",
    "Base",
    "BaseMixin",
    "Timestamps",
    "UUIDPrimaryKey",
    "Versioned",
    "all_bases",
    "databases_on",
    "declarative_base",
    "tables_of",
    "was_given",
]

# Every constraint has a name that follows from its columns, so that a migration can drop it;
# SQLite gives unnamed ones no name at all. A check constraint needs one from its author.
# https://alembic.sqlalchemy.org/en/latest/batch.html#dropping-unnamed-or-named-foreign-keys
NAMING_CONVENTION: dict[str, str] = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# A class and not an instance where a column must have a type object of its own.
_TYPE_MAP: dict[Any, Any] = {
    datetime: UTCDateTime,
    uuid.UUID: PORTABLE_UUID,
    dict[str, Any]: JSON,
    list[Any]: JSON,
    Decimal: Numeric(18, 6),
    # SQLAlchemy 2.0 would use FLOAT, which on MySQL and MariaDB has 32 bits; 2.1 uses DOUBLE.
    # https://mariadb.com/docs/server/reference/data-types/numeric-data-types/float
    float: Double,
}


_bases: WeakSet[Any] = WeakSet()


class _Binds:
    """The metadata of each bind key, shared by a base and the ``SQLAlchemy`` objects on it."""

    def __init__(self) -> None:
        self._own: dict[str, MetaData] = {}
        self._databases: WeakSet[SQLAlchemy] = WeakSet()
        self.were_given = False

    def join(self, db: SQLAlchemy) -> None:
        for key, metadata in self._own.items():
            db.metadatas.setdefault(key, metadata)
        self._databases.add(db)
        self.were_given = True

    @property
    def metadatas(self) -> Iterable[MetaData]:
        return self._own.values()

    def __iter__(self) -> Iterator[SQLAlchemy]:
        return iter(list(self._databases))

    def metadata_for(self, key: str, default: MetaData) -> MetaData:
        """Return the metadata every ``db.metadatas[key]`` holds, or will hold."""
        known = [db.metadatas[key] for db in self._databases if key in db.metadatas]
        metadata = self._own.setdefault(
            key,
            known[0]
            if known
            else MetaData(
                naming_convention=default.naming_convention,
                # Flask-SQLAlchemy's session reads the key of a table from here.
                info={"bind_key": key},
            ),
        )
        for db in self._databases:
            db.metadatas.setdefault(key, metadata)
        return metadata


# Behaviour lives here and not on Base: Flask-SQLAlchemy copies the namespace of its model_class
# into a new class below the same parents, where super() without arguments would look for the
# wrong class. https://github.com/pallets-eco/flask-sqlalchemy (SQLAlchemy._make_declarative_base)
class BaseMixin:
    """What makes :class:`Base` what it is, for a base of your own.

    ``declarative_base()`` returns a value, which mypy does not accept as a parent. A class
    statement it does, and the result is the same:

    .. code-block:: python

        class AppBase(BaseMixin, DeclarativeBase):
            pass

    .. versionadded:: 0.1
    """

    __dbkit_binds__: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        namespace = cls.__dict__
        if "__fsa__" in namespace:
            _prepare_copy(cls)
        elif DeclarativeBase in cls.__bases__:
            _prepare_base(cls)
        elif not hasattr(cls, "__fsa__"):
            _prepare_model(cls)
        _keep_repr(cls)
        try:
            super().__init_subclass__(**kwargs)
        except ArgumentError as error:
            if "primary key" in str(error):
                error.add_note(
                    f"{cls.__name__} needs a primary key, for example:"
                    " id: Mapped[int] = mapped_column(primary_key=True)"
                )
            raise
        # As Flask-SQLAlchemy does: no table of its own, so the parent's is to be found.
        if namespace.get("__table__", ...) is None and "__tablename__" not in namespace:
            del cls.__table__  # type: ignore[attr-defined]

    @classmethod
    def __table_cls__(cls, *args: Any, **kwargs: Any) -> Table | None:
        if hasattr(cls, "__fsa__"):  # and SQLAlchemy(disable_autonaming=True)
            return Table(*args, **kwargs)
        return NameMixin.__table_cls__.__func__(cls, *args, **kwargs)  # type: ignore[attr-defined,no-any-return]

    def __repr__(self) -> str:
        # Only what is in memory: the identity of a row that was loaded or written, else what
        # has been assigned.
        state: InstanceState[Any] = instance_state(self)
        name = type(self).__name__
        if state.identity is not None:
            return f"<{name} {', '.join(map(str, state.identity))}>"
        keys = [state.mapper.get_property_by_column(c).key for c in state.mapper.primary_key]
        values = [state.dict.get(key) for key in keys]
        stage = "pending" if state.pending else "transient"
        if None in values:
            return f"<{name} ({stage} {id(self)})>"
        return f"<{name} {', '.join(map(str, values))} ({stage})>"


def _prepare_base(cls: Any) -> None:
    """Give a new declarative base its own metadata, registry and bind keys."""
    cls.__dbkit_binds__ = _Binds()
    _bases.add(cls)
    if "metadata" not in cls.__dict__:
        cls.metadata = MetaData(naming_convention=NAMING_CONVENTION)
    # An attribute type_annotation_map would be refused in the copy Flask-SQLAlchemy makes, which
    # has a registry already.
    if "registry" not in cls.__dict__:
        cls.registry = registry(metadata=cls.metadata, type_annotation_map=_TYPE_MAP)


def _prepare_copy(cls: Any) -> None:
    """Tie the class that becomes ``db.Model`` to the base it was copied from."""
    cls.__dbkit_binds__.join(cls.__fsa__)
    # Flask-SQLAlchemy's own __repr__ stands before that of the base.
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = super(Model, cls).__repr__
    # The copy of a dataclass says that it is one already, which SQLAlchemy 2.1 refuses.
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        if name in cls.__dict__:
            delattr(cls, name)


def _prepare_model(cls: Any) -> None:
    """Do for a child of the base what Flask-SQLAlchemy does for a child of ``db.Model``."""
    if not ("metadata" in cls.__dict__ or "__table__" in cls.__dict__) and hasattr(
        cls, "__bind_key__"
    ):
        default = cls.registry.metadata
        key = cls.__bind_key__
        metadata = default if key is None else cls.__dbkit_binds__.metadata_for(key, default)
        if metadata is not cls.metadata:
            cls.metadata = metadata
    if should_set_tablename(cls):
        cls.__tablename__ = camel_to_snake_case(cls.__name__)


def _keep_repr(cls: Any) -> None:
    """Keep a mapped dataclass from writing a ``__repr__`` that loads every field.

    It leaves alone one that the class defines. ``repr=True`` in the class statement asks for
    the generated one.
    """
    if issubclass(cls, MappedAsDataclass) and "__repr__" not in cls.__dict__:
        asked = getattr(cls, "_sa_apply_dc_transforms", {})
        if asked.get("repr") is not True:
            cls.__repr__ = cls.__repr__


class Base(BaseMixin, DeclarativeBase):
    """The parent of all models, with :data:`NAMING_CONVENTION` and a type map.

    =====================================  ================================================
    annotation                             column type
    =====================================  ================================================
    ``datetime``                           :class:`~flask_dbkit.models.types.UTCDateTime`
    ``uuid.UUID``                          ``Uuid`` (``CHAR(32)`` on MySQL and MariaDB)
    ``dict[str, Any]``, ``list[Any]``      ``JSON``
    ``Decimal``                            ``Numeric(18, 6)``
    =====================================  ================================================

    Without ``__tablename__`` a model is named as Flask-SQLAlchemy names it: ``BookShelf``
    becomes ``book_shelf``. ``__bind_key__`` puts a model into the metadata of that bind.

    Base has one metadata: two ``SQLAlchemy`` objects in one process need a
    :func:`declarative_base` each.

    .. versionadded:: 0.1
    """


def all_bases() -> Iterable[Any]:
    """Return every declarative base of ours that still exists."""
    return list(_bases)


def was_given(base: Any) -> bool:
    """Tell whether a ``SQLAlchemy`` object was ever made with a base."""
    return bool(base.__dbkit_binds__.were_given)


def tables_of(base: Any) -> list[Table]:
    """Return the tables of all models below a base, whatever their bind key is."""
    metadatas = [base.metadata, *base.__dbkit_binds__.metadatas]
    return [table for metadata in metadatas for table in metadata.tables.values()]


def databases_on(base: type[Base]) -> Iterable[SQLAlchemy]:
    """Return the ``SQLAlchemy`` objects that were made with a base and still exist."""
    return cast("Iterable[SQLAlchemy]", base.__dbkit_binds__)


@explained()
def declarative_base() -> type[Base]:
    """Make a fresh base, with its own metadata and registry.

    For tests and for a second ``SQLAlchemy`` object. See :class:`BaseMixin` for the form mypy
    can follow.

    .. versionadded:: 0.1
    """
    return types.new_class("Base", (BaseMixin, DeclarativeBase))
