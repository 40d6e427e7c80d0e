"""The mixins: set by the library, on every parent, in every order, and as dataclasses."""

# Parents that a fixture picks at run time mean nothing to a type checker; tests/typing is for that.
# mypy: disable-error-code="name-defined,misc,valid-type,no-redef,attr-defined"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportRedeclaration=false
# pyright: reportIncompatibleVariableOverride=false, reportUntypedBaseClass=false
# pyright: reportCallIssue=false

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, func, insert, select, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    declared_attr,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import StaleDataError

from flask_dbkit import Timestamps, UUIDPrimaryKey, Versioned, declarative_base

ALL = (UUIDPrimaryKey, Timestamps, Versioned)


def _db_model() -> Any:
    return SQLAlchemy(model_class=declarative_base()).Model


def _plain_base() -> Any:
    class PlainBase(DeclarativeBase):
        pass

    return PlainBase


PARENTS: dict[str, Callable[[], Any]] = {
    "Base": declarative_base,
    "db.Model": _db_model,
    "DeclarativeBase": _plain_base,
}


@pytest.fixture(params=PARENTS)
def parent(request: pytest.FixtureRequest) -> Any:
    return PARENTS[request.param]()


@pytest.fixture(params=["mixins first", "parent first", "dataclass first", "dataclass last"])
def bases(request: pytest.FixtureRequest, parent: Any) -> tuple[type, ...]:
    return {
        "mixins first": (*ALL, parent),
        "parent first": (parent, *ALL),
        "dataclass first": (MappedAsDataclass, *ALL, parent),
        "dataclass last": (*ALL, MappedAsDataclass, parent),
    }[request.param]


def _make_book(bases: tuple[type, ...]) -> Any:
    is_dataclass = MappedAsDataclass in bases

    class Book(*bases):
        __tablename__ = "book"
        title: Mapped[str] = mapped_column(String(50))
        pages: Mapped[int | None] = mapped_column(default=None) if is_dataclass else mapped_column()

    return Book


@pytest.fixture
def book_class(database: Any, engine: sa.Engine) -> Any:
    book = _make_book((*ALL, declarative_base()))
    book.metadata.create_all(engine)
    return book


def _statements(engine: sa.Engine) -> list[str]:
    sent: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    return sent


@pytest.mark.backends("sqlite-memory")
def test_the_mixins_work_on_every_parent_in_every_order(
    engine: sa.Engine, bases: tuple[type, ...]
) -> None:
    """Order and parent are a matter of taste, so nothing may depend on them."""
    book_class = _make_book(bases)
    book_class.metadata.create_all(engine)
    with Session(engine) as session:
        book = book_class(title="Sea")
        session.add(book)
        session.commit()
        assert book.version == 1
        assert book.id.version == 7
        assert book.created_at == book.updated_at
        assert book.created_at.tzinfo is UTC
        book.title = "Lake"
        session.commit()
        assert book.version == 2
        assert book.updated_at > book.created_at


@pytest.mark.parametrize("order", ["first", "last"])
def test_a_dataclass_never_asks_for_what_the_library_sets(parent: Any, order: str) -> None:
    """The columns of the mixins are no fields, so they are no arguments either."""
    bases = (MappedAsDataclass, *ALL) if order == "first" else (*ALL, MappedAsDataclass)
    book_class = _make_book((*bases, parent))
    assert [field.name for field in dataclasses.fields(book_class)] == ["title", "pages"]
    for name in ("id", "created_at", "updated_at", "version"):
        with pytest.raises(TypeError, match=name):
            book_class(title="Sea", **{name: None})


def test_the_key_comes_first_and_the_librarys_columns_last(parent: Any) -> None:
    """A table read by a human begins with its key and ends with what keeps itself."""
    columns = _make_book((*ALL, parent)).__table__.columns.keys()
    assert columns == ["id", "title", "pages", "version", "created_at", "updated_at"]


def test_only_created_at_is_indexed(parent: Any) -> None:
    """Lists are sorted by it; an index on updated_at would be written with every UPDATE."""
    (index,) = _make_book((*ALL, parent)).__table__.indexes
    assert [column.name for column in index.columns] == ["created_at"]


# --- Timestamps ------------------------------------------------------------------------


def test_both_times_are_equal_at_the_insert(book_class: Any, session: Session) -> None:
    """``updated_at == created_at`` tells that a row was never changed."""
    before = datetime.now(UTC)
    session.add_all([book_class(title=str(number)) for number in range(3)])
    session.commit()
    for book in session.scalars(select(book_class)):
        assert book.created_at == book.updated_at
        assert before <= book.created_at <= datetime.now(UTC)


def test_insert_statements_get_the_times_the_key_and_the_version(
    book_class: Any, session: Session
) -> None:
    """A Core or bulk ``insert()`` bypasses the ORM, and must not leave NULLs behind."""
    session.execute(insert(book_class.__table__).values(title="one"))
    several = [{"title": "two"}, {"title": "three"}, {"title": "more"}]
    session.execute(insert(book_class.__table__).values(several))
    session.execute(insert(book_class), [{"title": "four"}, {"title": "five"}])
    session.commit()
    books = session.scalars(select(book_class)).all()
    assert len({book.id for book in books}) == 6
    assert all(book.version == 1 and book.created_at == book.updated_at for book in books)


def test_a_given_creation_time_is_kept(book_class: Any, session: Session) -> None:
    """An import brings the history of its rows with it."""
    then = datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    session.add(book_class(title="old", created_at=then))
    session.execute(insert(book_class.__table__).values(title="sql", created_at=func.now()))
    several = [{"title": "a", "created_at": then}, {"title": "b", "created_at": then}]
    session.execute(insert(book_class.__table__).values(several))
    session.commit()
    assert set(
        session.execute(
            select(book_class.created_at, book_class.updated_at).where(
                book_class.title.in_(["a", "b"])
            )
        )
    ) == {(then, then)}
    old = session.scalars(select(book_class).where(book_class.title == "old")).one()
    assert old.created_at == old.updated_at == then
    sql = session.scalars(select(book_class).where(book_class.title == "sql")).one()
    assert abs(sql.updated_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_change_moves_updated_at_and_nothing_else(book_class: Any, session: Session) -> None:
    """``created_at`` is history."""
    book = book_class(title="Sea")
    session.add(book)
    session.commit()
    created = book.created_at
    book.title = "Lake"
    session.commit()
    assert book.created_at == created
    assert book.updated_at > created


def _loaded(session: Session, book: Any) -> None:
    assert book.title == "Sea"
    book.title = "Sea"


def _expired(session: Session, book: Any) -> None:
    session.expire(book)
    book.title = "Sea"
    book.pages = 3


def _there_and_back(session: Session, book: Any) -> None:
    assert book.title == "Sea"
    book.title = "Lake"
    book.title = "Sea"


def _deferred(session: Session, book: Any) -> None:
    session.expire(book, ["title"])
    book.title = "Sea"


def _relationship_only(session: Session, book: Any) -> None:
    session.refresh(book)


@pytest.mark.parametrize(
    "touch",
    [_loaded, _expired, _there_and_back, _deferred, _relationship_only],
    ids=lambda touch: touch.__name__.strip("_"),
)
def test_assigning_what_is_there_already_is_no_change(
    book_class: Any, session: Session, touch: Callable[[Session, Any], None]
) -> None:
    """A form saved without a change must not look like one, whatever was loaded before."""
    book = book_class(title="Sea", pages=3)
    session.add(book)
    session.commit()
    before = (book.updated_at, book.version)
    touch(session, book)
    session.commit()
    assert (book.updated_at, book.version) == before


def test_a_change_among_equal_values_is_still_a_change(
    book_class: Any, session: Session, engine: sa.Engine
) -> None:
    """The comparison with the row drops what is equal, and keeps the rest."""
    book = book_class(title="Sea", pages=3)
    session.add(book)
    session.commit()
    before = book.updated_at
    session.expire(book)
    book.title, book.pages = "Sea", 4
    sent = _statements(engine)
    session.commit()
    (statement,) = [line for line in sent if line.startswith("UPDATE")]
    assert "pages" in statement
    assert "title" not in statement
    assert book.updated_at > before
    assert (book.title, book.pages) == ("Sea", 4)


def test_an_sql_expression_is_always_a_change(book_class: Any, session: Session) -> None:
    """Only the database knows what it gives."""
    book = book_class(title="Sea", pages=3)
    session.add(book)
    session.commit()
    before = book.updated_at
    session.expire(book)
    book.pages = book_class.pages + 0
    session.commit()
    assert book.updated_at > before


def test_an_object_whose_row_is_gone_fails_as_without_the_mixin(engine: sa.Engine) -> None:
    """The comparison finds no row, and leaves the error to the UPDATE."""
    base = declarative_base()

    class Note(Timestamps, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    with Session(engine) as session:
        note = Note(text="a")
        session.add(note)
        session.commit()
        assert note.id == 1
        session.execute(sa.delete(Note), execution_options={"synchronize_session": False})
        session.expire(note, ["text"])
        note.text = "a"
        with pytest.raises(StaleDataError):
            session.flush()


def test_update_statements_stamp_the_rows_they_match(book_class: Any, session: Session) -> None:
    """``update()`` goes past the ORM; the column's ``onupdate`` still applies."""
    session.add(book_class(title="Sea"))
    session.commit()
    session.execute(update(book_class).values(title="Lake"))
    session.commit()
    book = session.scalars(select(book_class)).one()
    assert book.updated_at > book.created_at


def test_times_are_shared_by_the_tables_of_a_joined_hierarchy(session: Session) -> None:
    """A change to either table of the object is a change of the object's own columns."""
    base = declarative_base()

    class Animal(Timestamps, Versioned, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))
        name: Mapped[str | None] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Duck(Animal):
        id: Mapped[int] = mapped_column(ForeignKey(Animal.id), primary_key=True)
        beak: Mapped[str | None] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_identity": "duck"}  # noqa: RUF012

    base.metadata.create_all(session.connection())
    assert "created_at" not in Duck.__table__.c
    duck = Duck(name="Donald", beak="long")
    session.add(duck)
    session.commit()
    assert duck.created_at == duck.updated_at
    before = duck.updated_at
    session.expire(duck)
    duck.name, duck.beak = "Donald", "long"
    session.commit()
    assert (duck.updated_at, duck.version) == (before, 1)
    duck.name = "Dagobert"
    session.commit()
    assert duck.updated_at > before
    assert duck.version == 2


# --- Versioned -------------------------------------------------------------------------


@pytest.mark.requires("several_connections")
def test_the_second_writer_on_stale_data_is_told(book_class: Any, engine: sa.Engine) -> None:
    """Two people open one form: the later save must not silently undo the earlier."""
    # A form keeps what it showed: nothing expires, and no transaction stays open.
    with Session(engine, expire_on_commit=False) as one, Session(engine) as other:
        mine = book_class(title="Sea")
        one.add(mine)
        one.commit()
        theirs = other.scalars(select(book_class)).one()
        theirs.title = "Lake"
        other.commit()
        assert theirs.version == 2
        mine.title = "River"
        with pytest.raises(StaleDataError):
            one.flush()
        one.rollback()
        assert (mine.title, mine.version) == ("Lake", 2)


@pytest.mark.requires("several_connections")
def test_a_stale_delete_is_told_as_well(book_class: Any, engine: sa.Engine) -> None:
    """What somebody else has just improved is not what was to be deleted."""
    with Session(engine, expire_on_commit=False) as one, Session(engine) as other:
        book = book_class(title="Sea")
        one.add(book)
        one.commit()
        other.scalars(select(book_class)).one().title = "Lake"
        other.commit()
        one.delete(book)
        with pytest.raises(StaleDataError):
            one.flush()


@pytest.mark.parametrize("mixin_first", [True, False])
def test_mapper_arguments_of_the_model_do_not_switch_the_lock_off(
    parent: Any, *, mixin_first: bool
) -> None:
    """``__mapper_args__`` on the model replaces that of a mixin, so the lock must not be there."""
    bases = (Versioned, parent) if mixin_first else (parent, Versioned)

    class Book(*bases):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
            return {"polymorphic_on": "kind", "polymorphic_identity": cls.__name__}

    class Novel(Book):
        __tablename__ = None  # type: ignore[assignment]

    class Tale(Book):
        __tablename__ = "tale"
        id: Mapped[int] = mapped_column(ForeignKey(Book.id), primary_key=True)

    column = Book.__table__.c.version
    assert [sa.inspect(model).version_id_col for model in (Book, Novel, Tale)] == [column] * 3
    assert "version" not in Tale.__table__.c


def test_a_version_column_of_the_models_own_choice_is_kept(parent: Any) -> None:
    """The mixin fills a gap; it overrules nobody."""

    class Book(Versioned, parent):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        stamp: Mapped[int] = mapped_column()

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
            return {"version_id_col": cls.__table__.c.stamp}

    assert sa.inspect(Book).version_id_col is Book.__table__.c.stamp


def test_a_relationship_changes_the_version_only_with_a_foreign_key(session: Session) -> None:
    """Adding a child changes the child's row; its parent's row stays as it is."""
    base = declarative_base()

    class Shelf(Versioned, Timestamps, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        books: Mapped[list[Book]] = relationship("Book", back_populates="shelf")

    class Book(Versioned, Timestamps, base):
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
        shelf: Mapped[Shelf | None] = relationship("Shelf", back_populates="books")

    base.metadata.create_all(session.connection())
    shelf, book = Shelf(), Book()
    session.add_all([shelf, book])
    session.commit()
    shelf.books.append(book)
    session.commit()
    assert (shelf.version, book.version) == (1, 2)
    assert shelf.updated_at == shelf.created_at
    session.expire_all()
    book.shelf = shelf  # the same again, with nothing loaded
    session.commit()
    assert book.version == 2


# --- UUIDPrimaryKey --------------------------------------------------------------------


def test_keys_sort_in_the_order_of_the_inserts(book_class: Any, session: Session) -> None:
    """An index that grows at its end, and a listing by key that is a listing by time."""
    for number in range(20):
        session.add(book_class(title=f"{number:02}"))
        session.flush()
    session.commit()
    titles = session.scalars(select(book_class.title).order_by(book_class.id)).all()
    assert titles == [f"{number:02}" for number in range(20)]


def test_a_key_of_the_applications_own_is_kept(book_class: Any, session: Session) -> None:
    """The default is a default."""
    import uuid

    key = uuid.UUID("018f0000-0000-7000-8000-000000000001")
    session.add(book_class(id=key, title="Sea"))
    session.commit()
    session.expunge_all()
    assert session.get_one(book_class, key).title == "Sea"
