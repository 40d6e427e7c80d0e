"""``Base`` below ``SQLAlchemy(model_class=…)`` and as a parent by itself: one behaviour, twice."""

# Parents that a fixture picks at run time mean nothing to a type checker; tests/typing is for that.
# mypy: disable-error-code="name-defined,misc,valid-type,no-redef,attr-defined"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportRedeclaration=false
# pyright: reportIncompatibleVariableOverride=false, reportUntypedBaseClass=false
# pyright: reportCallIssue=false

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    select,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    declared_attr,
    mapped_column,
    relationship,
)

from flask_dbkit import NAMING_CONVENTION, Base, UTCDateTime, declarative_base
from flask_dbkit.models import BaseMixin


@dataclass
class Family:
    """A fresh base with a ``SQLAlchemy`` object on it, and one of the two as the parent."""

    base: Any
    db: SQLAlchemy
    parent: Any


@pytest.fixture(params=["db.Model", "Base"])
def family(request: pytest.FixtureRequest) -> Family:
    base = declarative_base()
    db = SQLAlchemy(model_class=base)
    return Family(base, db, db.Model if request.param == "db.Model" else base)


@pytest.fixture
def memory() -> Iterator[Session]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with Session(engine) as session:
        yield session
    engine.dispose()


@contextmanager
def _application(db: SQLAlchemy, **binds: str) -> Iterator[None]:
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS=binds)
    db.init_app(app)
    with app.app_context():
        yield
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


# --- Names -----------------------------------------------------------------------------


def test_a_model_is_named_in_snake_case(family: Family) -> None:
    """Without ``__tablename__`` both parents give the name Flask-SQLAlchemy gives."""

    class BookShelf(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)

    class HTTPLog(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert BookShelf.__tablename__ == "book_shelf"
    assert HTTPLog.__table__.name == "http_log"


def test_a_given_name_wins(family: Family) -> None:
    """``__tablename__`` is the author's, also as a declared attribute of a mixin."""

    class Named:
        @declared_attr.directive
        def __tablename__(cls) -> str:  # noqa: N805
            return f"t_{cls.__name__.lower()}"

    class Given(family.parent):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Mixed(Named, family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Given.__table__.name == "other"
    assert Mixed.__table__.name == "t_mixed"


def test_an_abstract_parent_has_no_table(family: Family) -> None:
    """Its children do, each with a name and its own copy of the columns."""

    class Thing(family.parent):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)
        seen: Mapped[datetime]

    class BlueThing(Thing):
        pass

    class RedThing(Thing):
        pass

    assert "thing" not in family.base.metadata.tables
    assert BlueThing.__table__.name == "blue_thing"
    assert isinstance(RedThing.__table__.c.seen.type, UTCDateTime)
    assert RedThing.__table__.c.seen.type is not BlueThing.__table__.c.seen.type


def test_joined_inheritance_gives_the_child_a_table(family: Family) -> None:
    """A child with a primary key of its own is stored beside its parent."""

    class Animal(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Duck(Animal):
        id: Mapped[int] = mapped_column(ForeignKey(Animal.id), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "duck"}  # noqa: RUF012

    assert Duck.__table__.name == "duck"
    assert [table.name for table in sa.inspect(Duck).tables] == ["animal", "duck"]


def test_single_table_inheritance_shares_the_table(family: Family) -> None:
    """A child without a primary key lives in its parent's table, and so does its own child."""

    class Animal(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Duck(Animal):
        beak: Mapped[str | None] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_identity": "duck"}  # noqa: RUF012

    class Mallard(Duck):
        __mapper_args__ = {"polymorphic_identity": "mallard"}  # noqa: RUF012

    assert Mallard.__table__ is Duck.__table__ is Animal.__table__
    assert Mallard.__tablename__ == "animal"
    assert "beak" in Animal.__table__.c


def test_a_table_that_exists_is_used_by_name(family: Family) -> None:
    """A reflected table has its columns already; the model only names it."""
    sa.Table("star", family.base.metadata, sa.Column("id", sa.Integer, primary_key=True))

    class Star(family.parent):
        pass

    assert Star.__table__ is family.base.metadata.tables["star"]


def test_a_table_in_a_schema_is_found_by_its_full_name(family: Family) -> None:
    """The schema is part of a table's name."""

    class Star(family.parent):
        __table_args__ = {"schema": "sky"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Star.__table__.fullname == "sky.star"


def test_a_model_may_bring_its_own_table(family: Family) -> None:
    """``__table__`` leaves nothing to name."""

    class Star(family.parent):
        __table__ = sa.Table(
            "other", family.base.metadata, sa.Column("id", sa.Integer, primary_key=True)
        )

    assert Star.__table__.name == "other"


def test_a_model_without_a_primary_key_is_an_error(family: Family) -> None:
    """SQLAlchemy says so, for the table that was meant."""
    with pytest.raises(sa.exc.ArgumentError, match="primary key columns for mapped table 'star'"):

        class Star(family.parent):
            name: Mapped[str]


def test_autonaming_can_be_switched_off() -> None:
    """``disable_autonaming=True`` leaves names to the author, as without the library."""
    db = SQLAlchemy(model_class=declarative_base(), disable_autonaming=True)
    with pytest.raises(InvalidRequestError, match="__tablename__"):

        class Star(db.Model):
            id: Mapped[int] = mapped_column(primary_key=True)

    class Moon(db.Model):
        __tablename__ = "moon"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Moon.__table__.name == "moon"


# --- Metadata --------------------------------------------------------------------------


def test_every_constraint_gets_the_name_of_the_convention(family: Family) -> None:
    """A migration can drop only what has a name, and two of them never share one."""

    class Shelf(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Book(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id))
        title: Mapped[str] = mapped_column(String(20), index=True)
        isbn: Mapped[str] = mapped_column(String(20), unique=True)
        __table_args__ = (
            UniqueConstraint("shelf_id", "title"),
            UniqueConstraint("shelf_id", "isbn"),
            CheckConstraint("id > 0", name="positive"),
            Index(None, "shelf_id", "title"),
        )

    table = Book.__table__
    assert {str(constraint.name) for constraint in table.constraints} == {
        "pk_book",
        "fk_book_shelf_id_shelf",
        "uq_book_isbn",
        "uq_book_shelf_id_title",
        "uq_book_shelf_id_isbn",
        "ck_book_positive",
    }
    assert {index.name for index in table.indexes} == {
        "ix_book_title",
        "ix_book_shelf_id_title",
    }
    assert sorted(NAMING_CONVENTION) == ["ck", "fk", "ix", "pk", "uq"]


def test_long_names_fit_the_database(engine: sa.Engine) -> None:
    """A name made of many columns is shortened to what the database takes, and still works."""
    base = declarative_base()

    class ALongNameForATableThatHoldsReadings(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        a_rather_long_column_name: Mapped[int]
        another_rather_long_column_name: Mapped[int]
        __table_args__ = (
            UniqueConstraint("a_rather_long_column_name", "another_rather_long_column_name"),
        )

    base.metadata.create_all(engine)
    (unique,) = sa.inspect(engine).get_unique_constraints(
        "a_long_name_for_a_table_that_holds_readings"
    )
    assert str(unique["name"]).startswith("uq_a_long_name")


def test_annotations_choose_the_column_types(family: Family) -> None:
    """The type map of the contract, on both parents; every time column has its own type."""

    class Reading(family.parent):
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        at: Mapped[datetime]
        until: Mapped[datetime | None]
        extra: Mapped[dict[str, Any]]
        values: Mapped[list[Any]]
        price: Mapped[Decimal]
        ratio: Mapped[float]

    columns = Reading.__table__.c
    assert isinstance(columns.id.type, sa.Uuid)
    assert isinstance(columns.at.type, UTCDateTime)
    assert isinstance(columns.until.type, UTCDateTime)
    assert columns.until.nullable
    assert columns.at.type is not columns.until.type
    assert isinstance(columns.extra.type, sa.JSON)
    assert isinstance(columns["values"].type, sa.JSON)
    assert isinstance(columns.price.type, sa.Numeric)
    assert (columns.price.type.precision, columns.price.type.scale) == (18, 6)
    assert isinstance(columns.ratio.type, sa.Double)


def test_every_mapped_type_comes_back_as_it_went_in(engine: sa.Engine) -> None:
    """What the annotation says is what the database returns."""
    base = declarative_base()

    class Reading(base):
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        at: Mapped[datetime]
        extra: Mapped[dict[str, Any]]
        values_: Mapped[list[Any]]
        price: Mapped[Decimal]
        ratio: Mapped[float]

    given = {
        "at": datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC),
        "extra": {"a": [1, None], "ü": "🌍"},
        "values_": [1, "two", {"three": 3.5}],
        "price": Decimal("123456789012.345678"),
        "ratio": 0.1 + 0.2,  # MariaDB's FLOAT has 32 bits, and would return 0.3
    }
    base.metadata.create_all(engine)
    with Session(engine) as session:
        reading = Reading(**given)
        session.add(reading)
        session.commit()
        session.expire_all()
        # SQLite keeps numbers as floating point.
        exact = [name for name in given if name != "price" or engine.dialect.name != "sqlite"]
        assert {name: getattr(reading, name) for name in exact} == {
            name: given[name] for name in exact
        }
        assert session.scalar(select(Reading).where(Reading.id == reading.id)) is reading


@pytest.mark.filterwarnings("ignore:Dialect sqlite.*support Decimal")
def test_a_uuid_is_stored_alike_on_both_sqlalchemy_lines() -> None:
    """2.1 would use MariaDB's own UUID type, where nothing that 2.0 wrote is found."""
    from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    base = declarative_base()

    class Star(base):
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)

    mariadb = MySQLDialect_pymysql(is_mariadb=True)
    mariadb.server_version_info = (10, 11, 8)
    assert Star.__table__.c.id.type.compile(mariadb) == "CHAR(32)"
    assert Star.__table__.c.id.type.compile(PGDialect_psycopg()) == "UUID"


def test_a_fresh_base_shares_nothing() -> None:
    """Two ``SQLAlchemy`` objects in one process need two bases, with tables of one name."""
    one, two = declarative_base(), declarative_base()
    assert len({one.metadata, two.metadata, Base.metadata}) == 3
    assert len({one.registry, two.registry, Base.registry}) == 3

    class Book(one):
        id: Mapped[int] = mapped_column(primary_key=True)

    first = Book

    class Book(two):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert first.__table__ is not Book.__table__
    assert two.metadata.naming_convention == one.metadata.naming_convention


def test_a_base_may_bring_its_own_metadata_and_registry() -> None:
    """What the author of a base sets is kept."""
    own = MetaData(schema="library")

    class AppBase(BaseMixin, DeclarativeBase):
        metadata = own

    class Book(AppBase):
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[datetime]

    kept = sa.orm.registry()

    class OtherBase(BaseMixin, DeclarativeBase):
        registry = kept
        metadata = kept.metadata

    assert Book.__table__.fullname == "library.book"
    assert isinstance(Book.__table__.c.at.type, UTCDateTime)
    assert OtherBase.registry is kept


def test_both_parents_share_metadata_and_class_names(family: Family) -> None:
    """A model below the base and one below ``db.Model`` refer to each other by name."""

    class Author(family.db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        books: Mapped[list[Book]] = relationship("Book", back_populates="author")

    class Book(family.base):
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship("Author", back_populates="books")

    book = Book(author=Author())
    assert book.author.books == [book]
    assert family.db.metadata is family.base.metadata
    assert set(family.db.metadata.tables) == {"author", "book"}


def test_the_legacy_query_exists_only_below_db_model() -> None:
    """``Model.query`` needs a session, which only a ``SQLAlchemy`` object has."""
    base = declarative_base()
    db = SQLAlchemy(model_class=base)
    assert hasattr(db.Model, "query_class")
    assert not hasattr(base, "query")
    assert not hasattr(base, "query_class")


def test_the_applications_own_abstract_base_is_a_model_class_as_well(memory: Session) -> None:
    """What an application adds to ``Base`` is there below ``db.Model`` too."""

    class AppBase(declarative_base()):
        __abstract__ = True

        @property
        def label(self) -> str:
            return f"<< {type(self).__name__} >>"

    db = SQLAlchemy(model_class=AppBase)

    class Book(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Pen(AppBase):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Book(id=1).label == "<< Book >>"
    assert Pen(id=1).label == "<< Pen >>"
    assert Book.metadata is Pen.metadata is db.metadata


# --- Bind keys -------------------------------------------------------------------------

STEPS: dict[str, Callable[[Any, str], Any]] = {}


def _step(function: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    STEPS[function.__name__.strip("_")] = function
    return function


@_step
def _base_child(state: Any, key: str) -> None:
    state.models.append(
        type(
            "Direct",
            (state.base,),
            {
                "__module__": __name__,
                "__bind_key__": key,
                "id": mapped_column(sa.Integer, primary_key=True),
            },
        )
    )


@_step
def _db_object(state: Any, key: str) -> None:
    state.db = SQLAlchemy(model_class=state.base)


@_step
def _model_child(state: Any, key: str) -> None:
    state.models.append(
        type(
            "Indirect",
            (state.db.Model,),
            {
                "__module__": __name__,
                "__bind_key__": key,
                "id": mapped_column(sa.Integer, primary_key=True),
            },
        )
    )


@_step
def _db_table(state: Any, key: str) -> None:
    state.db.Table("plain", sa.Column("id", sa.Integer, primary_key=True), bind_key=key)


ORDERS = [
    ("base_child", "db_object", "model_child", "db_table"),
    ("base_child", "db_object", "db_table", "model_child"),
    ("db_object", "base_child", "model_child", "db_table"),
    ("db_object", "base_child", "db_table", "model_child"),
    ("db_object", "model_child", "base_child", "db_table"),
    ("db_object", "model_child", "db_table", "base_child"),
    ("db_object", "db_table", "base_child", "model_child"),
    ("db_object", "db_table", "model_child", "base_child"),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_bind_key_means_one_metadata_whoever_asks_first(order: tuple[str, ...]) -> None:
    """Tables of one bind are created and routed together, in whatever order they were made."""

    class State:
        base: Any = declarative_base()
        db: Any = None
        models: list[Any] = []  # noqa: RUF012

    state = State()
    state.models = []
    for step in order:
        STEPS[step](state, "logs")
    db = state.db
    assert set(db.metadatas) == {None, "logs"}
    assert db.metadatas["logs"].info == {"bind_key": "logs"}
    assert set(db.metadatas["logs"].tables) == {"direct", "indirect", "plain"}
    assert dict(db.metadatas["logs"].naming_convention) == dict(db.metadata.naming_convention)
    assert all(model.metadata is db.metadatas["logs"] for model in state.models)
    assert not db.metadata.tables

    with _application(db, logs="sqlite://"):
        db.create_all(bind_key="logs")
        assert sa.inspect(db.engines["logs"]).get_table_names() == ["direct", "indirect", "plain"]
        assert sa.inspect(db.engine).get_table_names() == []
        for model in state.models:
            assert db.session.get_bind(mapper=model) is db.engines["logs"]
            db.session.add(model())
        db.session.commit()
        assert db.session.scalar(select(sa.func.count()).select_from(state.models[0])) == 1


def test_a_bind_key_is_inherited_and_can_be_taken_back(family: Family) -> None:
    """``__bind_key__`` of an abstract parent holds for its children; ``None`` is the default."""

    class Log(family.parent):
        __abstract__ = True
        __bind_key__: str | None = "logs"
        id: Mapped[int] = mapped_column(primary_key=True)

    class AccessLog(Log):
        pass

    class Local(Log):
        __bind_key__ = None

    assert AccessLog.metadata is family.db.metadatas["logs"]
    assert Local.metadata is family.db.metadata is family.base.metadata


def test_metadata_of_the_model_goes_before_its_bind_key(family: Family) -> None:
    """As Flask-SQLAlchemy documents: ``metadata`` or ``__table__`` on the model is final."""
    own = MetaData()

    class Log(family.parent):
        __bind_key__ = "logs"
        metadata = own
        id: Mapped[int] = mapped_column(primary_key=True)

    assert list(own.tables) == ["log"]
    assert "logs" not in family.db.metadatas


def test_a_forgotten_database_object_is_not_kept_alive() -> None:
    """A base outlives the ``SQLAlchemy`` objects of tests, and keeps their metadata in step."""
    base = declarative_base()
    first = SQLAlchemy(model_class=base)

    class Log(base):
        __bind_key__ = "logs"
        id: Mapped[int] = mapped_column(primary_key=True)

    second = SQLAlchemy(model_class=base)
    assert first.metadatas["logs"] is second.metadatas["logs"] is Log.metadata


def test_the_default_bind_is_routed_to_the_default_engine(family: Family) -> None:
    """A model without a bind key belongs to ``SQLALCHEMY_DATABASE_URI``, on both parents."""

    class Star(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)

    with _application(family.db, logs="sqlite://"):
        family.db.create_all()
        family.db.session.add(Star())
        family.db.session.commit()
        assert family.db.session.get_bind(mapper=Star) is family.db.engine
        for engine in family.db.engines.values():
            engine.dispose()


# --- repr ------------------------------------------------------------------------------


def _no_sql(*_: Any) -> None:
    raise AssertionError("repr() sent SQL")


def test_repr_never_loads_anything(family: Family, memory: Session) -> None:
    """A log line about an object must not send SQL, nor fail because the object is detached."""

    class Book(family.parent):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    engine = memory.get_bind()
    family.base.metadata.create_all(engine)
    book = Book(title="Sea")
    assert repr(book) == f"<Book (transient {id(book)})>"
    memory.add(book)
    assert repr(book) == f"<Book (pending {id(book)})>"
    memory.commit()
    other = memory.get_bind()
    sa.event.listen(other, "before_cursor_execute", _no_sql)
    try:
        assert repr(book) == "<Book 1>"  # expired
        memory.expunge(book)
        assert repr(book) == "<Book 1>"  # detached and expired
        assert repr(Book(id=7)) == "<Book 7 (transient)>"
    finally:
        sa.event.remove(other, "before_cursor_execute", _no_sql)


def test_repr_shows_every_part_of_a_key(family: Family, memory: Session) -> None:
    """Also of a key with several columns, and a renamed one."""

    class Place(family.parent):
        country: Mapped[str] = mapped_column("cc", String(2), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    family.base.metadata.create_all(memory.get_bind())
    memory.add(Place(country="no", number=3))
    memory.commit()
    memory.expunge_all()
    (place,) = memory.scalars(select(Place)).all()
    assert repr(place) == "<Place no, 3>"
    assert repr(Place(country="no")).startswith("<Place (transient ")


def test_a_repr_of_the_models_own_is_kept(family: Family) -> None:
    """On the model, on an abstract parent, and on the base."""

    class Loud(family.parent):
        __abstract__ = True

        def __repr__(self) -> str:
            return "LOUD"

    class Book(Loud):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Page(MappedAsDataclass, Loud):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert repr(Book()) == "LOUD"
    assert repr(Page(id=1)) == "LOUD"

    class AppBase(BaseMixin, DeclarativeBase):
        def __repr__(self) -> str:
            return "BASE"

    db = SQLAlchemy(model_class=AppBase)

    class Leaf(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)

    assert repr(Leaf()) == "BASE"


# --- Dataclasses -----------------------------------------------------------------------


def test_a_model_can_be_a_dataclass(family: Family) -> None:
    """``MappedAsDataclass`` in front of either parent."""

    class Book(MappedAsDataclass, family.parent):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        title: Mapped[str]
        pages: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime | None] = mapped_column(default=None)

    book = Book("Sea", pages=3)
    assert (book.title, book.pages, Book.__tablename__) == ("Sea", 3, "book")
    assert Book.__table__.name == "book"
    with pytest.raises(TypeError, match="title"):
        Book()


def test_the_repr_of_a_dataclass_loads_nothing_either(family: Family, memory: Session) -> None:
    """The generated one would load each expired column and every relationship."""

    class Book(MappedAsDataclass, family.parent):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        title: Mapped[str]

    class Verbose(MappedAsDataclass, family.parent, repr=True):
        id: Mapped[int] = mapped_column(primary_key=True)

    family.base.metadata.create_all(memory.get_bind())
    book = Book("Sea")
    memory.add(book)
    memory.commit()
    memory.close()
    assert repr(book) == "<Book 1>"
    assert repr(Verbose(1)).endswith("Verbose(id=1)")


@pytest.mark.parametrize("way", ["abstract", "direct"])
def test_a_base_can_be_a_dataclass_and_a_model_class(way: str) -> None:
    """On SQLAlchemy 2.1 too, which refuses Flask-SQLAlchemy's copy of a dataclass as it is."""
    if way == "abstract":

        class AppBase(MappedAsDataclass, declarative_base(), kw_only=True):
            __abstract__ = True
            note: Mapped[str] = mapped_column(default="")

    else:

        class AppBase(MappedAsDataclass, BaseMixin, DeclarativeBase, kw_only=True):
            note: Mapped[str] = mapped_column(default="")

    db = SQLAlchemy(model_class=AppBase)

    class Book(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        title: Mapped[str]

    class Pen(AppBase):
        id: Mapped[int] = mapped_column(primary_key=True, init=False)

    book = Book(title="Sea", note="blue")
    assert (book.title, book.note) == ("Sea", "blue")
    assert Pen(note="red").note == "red"
    assert "note" in Book.__table__.c
    assert Book.metadata is Pen.metadata
