"""``get_or_create`` and ``upsert``: one row per key, nothing half done, the same everywhere."""

# Parents that a fixture picks at run time mean nothing to a type checker; tests/typing is for that.
# mypy: disable-error-code="name-defined,misc,valid-type,no-redef,attr-defined"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportRedeclaration=false
# pyright: reportIncompatibleVariableOverride=false, reportUntypedBaseClass=false
# pyright: reportCallIssue=false

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, func, insert, select
from sqlalchemy.exc import IntegrityError, MultipleResultsFound
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    mapped_column,
    orm_insert_sentinel,
    relationship,
    scoped_session,
    sessionmaker,
    synonym,
    with_loader_criteria,
)

from flask_dbkit import (
    DBKit,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
    get_or_create,
    upsert,
)
from flask_dbkit.upserts import get_or_create as get_or_create_in

# Some models here belong to plain sessions, and to no application.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* belongs to no database:RuntimeWarning")

Base: Any = declarative_base()


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Author(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    books: Mapped[list[Book]] = relationship("Book", back_populates="author")


class Book(Versioned, Timestamps, Base):
    __table_args__ = (
        UniqueConstraint("shelf", "place"),
        Index("ix_book_code", "code", unique=True),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(50), unique=True)
    isbn: Mapped[str | None] = mapped_column("isbn_13", String(20), unique=True)
    code: Mapped[int | None]
    shelf: Mapped[str | None] = mapped_column(String(10))
    place: Mapped[int | None]
    title: Mapped[str | None] = mapped_column(String(100))
    pages: Mapped[int | None]
    price: Mapped[Decimal | None]
    extra: Mapped[dict[str, Any] | None]
    size: Mapped[Size | None]
    read_at: Mapped[datetime | None]
    language: Mapped[str] = mapped_column(String(2), default="en")
    state: Mapped[str] = mapped_column(String(10), server_default="new")
    author_id: Mapped[int | None] = mapped_column(ForeignKey(Author.id))
    author: Mapped[Author | None] = relationship(Author, back_populates="books")
    shout = column_property(func.upper(sa.literal_column("title")), deferred=True)

    @hybrid_property
    def initial(self) -> Any:
        return self.title


@pytest.fixture
def db_session(session: Session) -> Session:
    # SQLAlchemy's own recipe for SQLite; the kit does this and more.
    engine = session.get_bind()
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def no_driver_transactions(dbapi_connection: Any, _: Any) -> None:
            dbapi_connection.isolation_level = None

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    return session


def _rows(session: Session) -> dict[str, Any]:
    return {row.slug: row.title for row in session.execute(select(Book.slug, Book.title))}


def _statements(session: Session) -> list[str]:
    sent: list[str] = []

    @sa.event.listens_for(session.get_bind(), "before_cursor_execute")
    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement.split(maxsplit=1)[0])

    return sent


# --- upsert ----------------------------------------------------------------------------


def test_new_rows_are_inserted_and_known_ones_updated(db_session: Session) -> None:
    """One call brings the table into line with the rows."""
    first = upsert(
        Book,
        [{"slug": "sea", "title": "Sea"}, {"slug": "lake", "title": "Lake"}],
        by="slug",
        session=db_session,
    )
    second = upsert(
        Book,
        [{"slug": "river", "title": "River"}, {"slug": "sea", "title": "The Sea"}],
        by="slug",
        session=db_session,
    )
    assert [book.slug for book in second] == ["river", "sea"]
    assert second[1] is first[0]
    assert first[0].title == "The Sea"
    assert _rows(db_session) == {"sea": "The Sea", "lake": "Lake", "river": "River"}


def test_defaults_are_applied_and_objects_refreshed(db_session: Session) -> None:
    """What the database and the columns add is on the objects that come back."""
    (book,) = upsert(Book, [{"slug": "sea"}], by="slug", session=db_session)
    sent = _statements(db_session)
    assert (book.language, book.state, book.version) == ("en", "new", 1)
    assert book.id is not None
    assert book.created_at == book.updated_at
    assert sent == []


def test_an_object_the_session_knows_is_refreshed(db_session: Session) -> None:
    """Also one with changes of its own, which are flushed first."""
    book = Book(slug="sea", title="Sea", pages=1)
    db_session.add(book)
    db_session.commit()
    assert book.pages == 1
    book.pages = 2
    (same,) = upsert(Book, [{"slug": "sea", "title": "Lake"}], by="slug", session=db_session)
    assert same is book
    assert (book.title, book.pages) == ("Lake", 2)


def test_pending_objects_are_flushed_first(db_session: Session) -> None:
    """A row that is only in the session is there already."""
    book = Book(slug="sea", title="Sea")
    db_session.add(book)
    with db_session.no_autoflush:
        assert upsert(Book, [{"slug": "sea", "pages": 9}], by="slug", session=db_session) == [book]
    assert (book.title, book.pages) == ("Sea", 9)


def test_nothing_is_committed(db_session: Session) -> None:
    """Whoever began the transaction ends it."""
    upsert(Book, [{"slug": "sea"}], by="slug", session=db_session)
    get_or_create(Book, session=db_session, slug="lake")
    db_session.rollback()
    assert _rows(db_session) == {}


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (None, ("Lake", 2)),
        ((), ("Sea", 1)),
        ([], ("Sea", 1)),
        ("pages", ("Sea", 2)),
        (("title",), ("Lake", 1)),
        (Book.pages, ("Sea", 2)),
        ([Book.pages, "title"], ("Lake", 2)),
        (("price",), ("Sea", 1)),
    ],
)
def test_update_chooses_what_an_existing_row_takes_over(
    db_session: Session, update: Any, expected: tuple[str, int]
) -> None:
    """A new row takes everything; what is not listed is for new rows only."""
    row = {"slug": "sea", "title": "Sea", "pages": 1}
    upsert(Book, [row], by="slug", update=update, session=db_session)
    (book,) = upsert(
        Book,
        [{"slug": "sea", "title": "Lake", "pages": 2}],
        by=Book.slug,
        update=update,
        session=db_session,
    )
    assert (book.title, book.pages) == expected


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("id", {"id": 7, "slug": "sea"}),
        ("slug", {"slug": "sea"}),
        ("isbn", {"isbn": "978", "slug": "sea"}),
        ("code", {"code": 4, "slug": "sea"}),
        (("shelf", "place"), {"shelf": "a", "place": 1, "slug": "sea"}),
        (["place", "shelf"], {"shelf": "a", "place": 1, "slug": "sea"}),
        ((Book.shelf, "place"), {"shelf": "a", "place": 1, "slug": "sea"}),
    ],
)
def test_any_unique_key_will_do(db_session: Session, by: Any, row: dict[str, Any]) -> None:
    """The primary key, a unique column, constraint or index; in whatever order it is named."""
    (one,) = upsert(Book, [row], by=by, session=db_session)
    (same,) = upsert(Book, [{**row, "title": "Sea"}], by=by, session=db_session)
    assert one is same
    assert same.title == "Sea"
    assert same.version == 2


def test_of_two_rows_with_one_key_the_later_wins(db_session: Session) -> None:
    """The result is as if the rows had been sent one by one, and each gets its object."""
    books = upsert(
        Book,
        [
            {"slug": "sea", "title": "Sea", "pages": 1},
            {"slug": "lake"},
            {"slug": "sea", "title": "The Sea"},
        ],
        by="slug",
        session=db_session,
    )
    assert [book.slug for book in books] == ["sea", "lake", "sea"]
    assert books[0] is books[2]
    assert (books[0].title, books[0].pages, books[0].version) == ("The Sea", 1, 1)


ROWS = st.lists(
    st.fixed_dictionaries(
        {"slug": st.sampled_from(["a", "b", "c"])},
        optional={
            "title": st.none() | st.sampled_from(["x", "X", "y", ""]),
            "pages": st.none() | st.integers(0, 2),
        },
    ),
    max_size=5,
)


@pytest.mark.backends("sqlite-memory", "postgresql", "mariadb")
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=ROWS, rows=ROWS, update=st.sampled_from([None, (), ("title",), ("pages", "title")]))
def test_many_at_once_equal_one_by_one(
    db_session: Session,
    before: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    update: tuple[str, ...] | None,
) -> None:
    """The law of upsert: how the rows are cut into calls makes no difference."""

    def outcome(*calls: list[dict[str, Any]]) -> list[Any]:
        db_session.execute(sa.delete(Book))
        db_session.expunge_all()
        upsert(Book, before, by="slug", session=db_session)
        objects = []
        for call in calls:
            objects += upsert(Book, call, by="slug", update=update, session=db_session)
        assert [book.slug for book in objects] == [row["slug"] for row in rows]
        found = db_session.execute(select(Book.slug, Book.title, Book.pages).order_by(Book.slug))
        return [tuple(row) for row in found]

    assert outcome(rows) == outcome(*([row] for row in rows))
    db_session.rollback()


def test_no_rows_send_no_sql(db_session: Session) -> None:
    """An import with nothing to do does nothing."""
    sent = _statements(db_session)
    assert upsert(Book, [], by="slug", session=db_session) == []
    assert upsert(Book, iter(()), by="slug", session=db_session) == []
    assert sent == []


def test_rows_may_be_any_mappings_and_any_iterable(db_session: Session) -> None:
    """A generator of frozen mappings as well as a list of dicts. None of them is changed."""
    row = {"slug": "sea"}
    rows: Iterator[Any] = iter([MappingProxyType(row), OrderedDict(slug="lake"), row])
    books = upsert(Book, rows, by="slug", session=db_session)
    assert [book.slug for book in books] == ["sea", "lake", "sea"]
    assert row == {"slug": "sea"}


def test_rows_may_give_different_attributes(db_session: Session) -> None:
    """What a row does not give stays as it is."""
    upsert(Book, [{"slug": "a", "title": "A", "pages": 1}], by="slug", session=db_session)
    books = upsert(
        Book,
        [{"slug": "a", "pages": 2}, {"slug": "b", "title": "B"}, {"slug": "c"}],
        by="slug",
        session=db_session,
    )
    assert [(book.title, book.pages) for book in books] == [("A", 2), ("B", None), (None, None)]


def test_thousands_of_rows_go_in_one_call(db_session: Session) -> None:
    """No limit on parameters or on the size of a packet shows through."""
    rows = [{"slug": f"s{number}", "title": "x" * 90, "pages": number} for number in range(3_000)]
    sent = _statements(db_session)
    books = upsert(Book, rows, by="slug", session=db_session)
    assert [book.pages for book in books] == list(range(3_000))
    assert sent.count("INSERT") <= 20  # psycopg2 and PyMySQL join rows, the others stream them
    assert db_session.scalar(select(func.count()).select_from(Book)) == 3_000


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("title", "Sea", "sea"),
        ("title", "Sea", "Sea "),
        ("title", "Sea", None),
        ("title", None, ""),
        ("pages", 0, None),
        ("pages", None, 0),
        ("price", Decimal("1.000001"), Decimal("1.000002")),
        ("extra", {"a": 1}, {"a": 2}),
        ("extra", {"a": "Å"}, None),
        ("size", Size.SMALL, Size.LARGE),
        (
            "read_at",
            datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            datetime(2026, 1, 1, 0, 0, 0, 2, tzinfo=UTC),
        ),
    ],
)
def test_version_and_updated_at_follow_real_changes(
    db_session: Session, name: str, old: Any, new: Any
) -> None:
    """Every difference counts, also of case, of a trailing blank, and between NULL and nothing."""
    (book,) = upsert(Book, [{"slug": "sea", name: old}], by="slug", session=db_session)
    created = book.updated_at
    upsert(Book, [{"slug": "sea", name: old}], by="slug", session=db_session)
    assert (book.version, book.updated_at) == (1, created)
    upsert(Book, [{"slug": "sea", name: new}], by="slug", session=db_session)
    assert book.version == 2
    assert book.updated_at > created
    assert getattr(book, name) == new
    stamp = book.updated_at
    upsert(Book, [{"slug": "sea", name: new}], by="slug", session=db_session)
    assert (book.version, book.updated_at) == (2, stamp)


def test_a_given_updated_at_is_a_value_like_any_other(db_session: Session) -> None:
    """A copy of another system keeps that system's times."""
    then = datetime(2001, 2, 3, tzinfo=UTC)
    rows = [{"slug": "sea", "title": "Sea", "created_at": then, "updated_at": then}]
    upsert(Book, [{"slug": "sea"}], by="slug", session=db_session)
    (book,) = upsert(Book, rows, by="slug", session=db_session)
    assert (book.created_at, book.updated_at, book.version) == (then, then, 2)


def test_a_stale_object_is_noticed_after_an_upsert(db_session: Session) -> None:
    """The version an upsert counts is the version the optimistic lock compares."""
    book = Book(slug="sea")
    db_session.add(book)
    db_session.flush()
    upsert(Book, [{"slug": "sea", "title": "Sea"}], by="slug", session=db_session)
    book.title = "Lake"
    db_session.flush()
    assert book.version == 3


def test_keys_that_the_database_calls_equal_find_their_object(db_session: Session) -> None:
    """The database decides what is equal: by its collation, its scale, its clock."""
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    base = declarative_base()

    class Reading(base):
        at: Mapped[datetime] = mapped_column(primary_key=True)
        price: Mapped[Decimal] = mapped_column(unique=True)
        size: Mapped[Size] = mapped_column(primary_key=True)

    base.metadata.create_all(db_session.connection())
    elsewhere = moment.astimezone(timezone(timedelta(hours=2)))
    row = {"at": moment, "size": Size.SMALL, "price": Decimal("1.5")}
    (one,) = upsert(Reading, [row], by=("at", "size"), session=db_session)
    (same,) = upsert(Reading, [{**row, "at": elsewhere}], by=("at", "size"), session=db_session)
    assert one is same
    (same,) = upsert(
        Reading, [{**row, "price": Decimal("1.50")}], by="price", update=(), session=db_session
    )
    assert one is same


def test_keys_without_an_order_of_their_own_are_sorted_somehow(db_session: Session) -> None:
    """Rows go out in one order in every process, also when Python cannot compare the keys."""
    base = declarative_base()

    class Tariff(base):
        size: Mapped[Size] = mapped_column(primary_key=True)
        price: Mapped[int | None]

    base.metadata.create_all(db_session.connection())
    rows = [{"size": Size.SMALL, "price": 1}, {"size": Size.LARGE, "price": 2}]
    tariffs = upsert(Tariff, rows, by="size", session=db_session)
    assert [tariff.price for tariff in tariffs] == [1, 2]


@pytest.mark.backends("mariadb")
def test_a_key_of_another_case_is_the_same_key_on_mariadb(db_session: Session) -> None:
    """Its usual collation says so, and the object is found all the same."""
    (one,) = upsert(Book, [{"slug": "sea"}], by="slug", session=db_session)
    (same, new) = upsert(
        Book, [{"slug": "SEA", "title": "x"}, {"slug": "lake"}], by="slug", session=db_session
    )
    assert one is same
    assert (same.slug, same.title, new.slug) == ("sea", "x", "lake")


@pytest.mark.backends("postgresql")
def test_a_key_the_database_rounds_is_refused(db_session: Session) -> None:
    """The row it makes is another than the one asked for, so it is not kept."""
    base = declarative_base()

    class Coin(base):
        value: Mapped[Decimal] = mapped_column(primary_key=True)
        name: Mapped[str | None]

    base.metadata.create_all(db_session.connection())
    with pytest.raises(ValueError, match="cannot be read back"):
        upsert(Coin, [{"value": Decimal("1.12345678")}], by="value", session=db_session)
    assert db_session.scalar(select(func.count()).select_from(Coin)) == 0


@pytest.mark.parametrize("update", [None, (), ("title",)])
def test_a_conflict_on_another_key_changes_nothing(db_session: Session, update: Any) -> None:
    """MariaDB would update the row that has the other key. Nothing of the call is kept."""
    upsert(
        Book,
        [{"slug": "sea", "isbn": "1", "title": "Sea"}, {"slug": "lake", "isbn": "2"}],
        by="slug",
        session=db_session,
    )
    db_session.commit()
    with pytest.raises(IntegrityError, match="isbn"):
        upsert(
            Book,
            [{"slug": "a"}, {"slug": "river", "isbn": "1", "title": "River"}, {"slug": "z"}],
            by="slug",
            update=update,
            session=db_session,
        )
    # The transaction can go on: only the savepoint was given up.
    assert _rows(db_session) == {"sea": "Sea", "lake": None}
    upsert(Book, [{"slug": "pond"}], by="slug", session=db_session)
    db_session.commit()
    assert set(_rows(db_session)) == {"sea", "lake", "pond"}


@pytest.mark.parametrize(("slug", "isbn"), [("sea", "2"), ("lake", "1")])
def test_a_row_with_the_keys_of_two_rows_is_refused(
    db_session: Session, slug: str, isbn: str
) -> None:
    """Which of the two MariaDB would meet first depends on the order of its indexes."""
    rows = [{"slug": "sea", "isbn": "1"}, {"slug": "lake", "isbn": "2"}]
    upsert(Book, rows, by="slug", session=db_session)
    for by in ("slug", "isbn"):
        with pytest.raises(IntegrityError):
            upsert(Book, [{"slug": slug, "isbn": isbn, "title": "x"}], by=by, session=db_session)
    assert _rows(db_session) == {"sea": None, "lake": None}


def test_values_may_move_between_rows_one_after_the_other(db_session: Session) -> None:
    """A row may take a unique value that an earlier row of the call has given up."""
    rows = [{"slug": "a", "isbn": "1"}, {"slug": "b", "isbn": "2"}]
    upsert(Book, rows, by="slug", session=db_session)
    moved = [{"slug": "a", "isbn": "3"}, {"slug": "b", "isbn": "1"}]
    assert [book.isbn for book in upsert(Book, moved, by="slug", session=db_session)] == ["3", "1"]


@pytest.mark.parametrize("row", [{"slug": "b", "author_id": 99}, {"slug": "b", "language": None}])
def test_any_other_integrity_error_passes_and_keeps_nothing(
    db_session: Session, row: dict[str, Any]
) -> None:
    """The error of the database is the best there is."""
    if db_session.get_bind().dialect.name == "sqlite":
        db_session.connection().exec_driver_sql("PRAGMA foreign_keys")
        row = {"slug": "b", "language": None}
    with pytest.raises(IntegrityError):
        upsert(Book, [{"slug": "a"}, row, {"slug": "c"}], by="slug", session=db_session)
    assert _rows(db_session) == {}


@pytest.mark.backends("sqlite-memory")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": "title"}, r"by=\('title',\) is no primary key or unique constraint of Book"),
        (
            {"by": ("slug", "isbn")},
            r"Use one of: \('code',\), \('id',\), \('isbn',\), \('shelf', 'place'\)",
        ),
        ({"by": ()}, r"by=\(\) is no primary key"),
        ({"by": "pages"}, "is no primary key"),
        ({"by": "slog"}, "by names 'slog', which Book does not have here.*mean 'slug'"),
        ({"by": "slug", "update": "titel"}, "update names 'titel'.*Did you mean 'title'"),
        ({"by": "slug", "update": ("slug",)}, "'slug', which identifies the row"),
        ({"by": "slug", "update": ("id",)}, "'id', which identifies the row"),
        ({"by": "slug", "update": ("version",)}, "'version', which the library counts"),
        ({"by": "slug", "rows": [{"slug": "a", "titel": 1}]}, "A row names 'titel'.*'title'"),
        ({"by": "slug", "rows": [{"slug": "a", "author": None}]}, "A row names 'author'"),
        ({"by": "slug", "rows": [{"slug": "a", "shout": "A"}]}, "A row names 'shout'"),
        ({"by": "slug", "rows": [{"slug": "a"}, {"slug": None}]}, "no value for 'slug'.*NULL"),
        ({"by": "slug", "rows": [{"title": "a"}]}, "no value for 'slug'.*gives: title"),
        ({"by": "slug", "rows": [{"slug": "a", "title": func.now()}]}, "SQL expression 'now"),
    ],
)
def test_a_mistake_in_the_call_is_told_before_any_sql(
    db_session: Session, arguments: dict[str, Any], words: str
) -> None:
    """The text names the mistake, what is allowed, and the nearest name."""
    sent = _statements(db_session)
    call: dict[str, Any] = {"rows": [{"slug": "sea"}], **arguments}
    with pytest.raises(ValueError, match=words):
        upsert(Book, session=db_session, **call)
    assert sent == []


@pytest.mark.backends("sqlite-memory")
def test_keys_that_are_not_unique_for_every_value_are_not_offered() -> None:
    """Deferrable constraints, partial indexes, prefixes and expressions cannot be answered."""
    base = declarative_base()

    class Odd(base):
        __table_args__ = (
            UniqueConstraint("a", deferrable=True),
            Index("ix_b", "b", unique=True, postgresql_where=sa.text("b > 0")),
            Index("ix_c", "c", unique=True, mysql_length={"c": 3}),
            Index("ix_d", sa.text("lower(d)"), unique=True),
            Index("ix_e", "e"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int]
        b: Mapped[int]
        c: Mapped[str]
        d: Mapped[str]
        e: Mapped[str]

    for name in "abcde":
        with pytest.raises(ValueError, match=r"Use one of: \('id',\); or add"):
            upsert(Odd, [{name: 1}], by=name, session=Session())


@pytest.mark.backends("sqlite-memory")
def test_a_class_stored_in_two_tables_is_refused(db_session: Session) -> None:
    """One ``INSERT`` writes one table."""
    base = declarative_base()

    class Animal(base):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Duck(Animal):
        id: Mapped[int] = mapped_column(ForeignKey(Animal.id), primary_key=True)

    with pytest.raises(ValueError, match="Duck is stored in animal, duck"):
        upsert(Duck, [{"id": 1}], by="id", session=db_session)


def test_single_table_inheritance_gets_its_discriminator(db_session: Session) -> None:
    """A row of a subclass is one; a row of another class with the key is not taken over."""
    base = declarative_base()

    class Animal(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        name: Mapped[str] = mapped_column(String(10), unique=True)
        legs: Mapped[int | None]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Duck(Animal):
        __mapper_args__ = {"polymorphic_identity": "duck"}  # noqa: RUF012

    class Cow(Animal):
        __mapper_args__ = {"polymorphic_identity": "cow"}  # noqa: RUF012

    base.metadata.create_all(db_session.connection())
    (duck,) = upsert(Duck, [{"name": "Don", "legs": 2}], by="name", session=db_session)
    assert type(duck) is Duck
    assert upsert(Animal, [{"name": "Don", "legs": 3}], by="name", session=db_session) == [duck]
    assert (duck.kind, duck.legs) == ("duck", 3)
    with pytest.raises(ValueError, match="cannot be read back as Cow"):
        upsert(Cow, [{"name": "Don", "legs": 4}], by="name", session=db_session)
    db_session.refresh(duck)
    assert duck.legs == 3


def test_rows_hidden_by_loader_criteria_are_not_lost_silently(db_session: Session) -> None:
    """A soft delete hides the row that has the key: the caller has to decide."""
    upsert(Book, [{"slug": "sea", "state": "gone"}], by="slug", session=db_session)
    db_session.expunge_all()

    def hide(state: Any) -> None:
        criteria = with_loader_criteria(Book, Book.state != "gone")
        state.statement = state.statement.options(criteria)

    sa.event.listen(db_session, "do_orm_execute", hide)
    with pytest.raises(ValueError, match="hidden by loader criteria"):
        upsert(Book, [{"slug": "sea", "title": "x"}], by="slug", session=db_session)


def test_other_ways_to_count_versions(db_session: Session) -> None:
    """A version that is no number comes from its own generator; the insert has one too."""
    base = declarative_base()

    class Note(base):
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str | None] = mapped_column(String(10))
        mark: Mapped[str] = mapped_column(String(32))
        __mapper_args__ = {  # noqa: RUF012
            "version_id_col": mark,
            "version_id_generator": lambda _: uuid.uuid4().hex,
        }

    class Tick(base):
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str | None] = mapped_column(String(10))
        count: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": count}  # noqa: RUF012

    base.metadata.create_all(db_session.connection())
    (note,) = upsert(Note, [{"id": 1, "text": "a"}], by="id", session=db_session)
    mark = note.mark
    upsert(Note, [{"id": 1, "text": "a"}], by="id", session=db_session)
    assert note.mark == mark
    upsert(Note, [{"id": 1, "text": "b"}], by="id", session=db_session)
    assert len(note.mark) == 32
    assert note.mark != mark
    for text, count in (("a", 1), ("a", 1), ("b", 2)):
        (tick,) = upsert(Tick, [{"id": 1, "text": text}], by="id", session=db_session)
        assert tick.count == count
        note.text = text
        tick.text = text
        db_session.flush()  # the ORM agrees with the count


def test_every_kind_of_onupdate_is_applied(db_session: Session) -> None:
    """Plain values, functions and SQL, only where a value changed, and never over a given one."""
    base = declarative_base()

    class Note(base):
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str | None] = mapped_column(String(10))
        plain: Mapped[str | None] = mapped_column(String(10), onupdate="changed")
        called: Mapped[int | None] = mapped_column(onupdate=lambda: 7)
        sql: Mapped[str | None] = mapped_column(String(10), onupdate=func.lower("SQL"))
        trigger: Mapped[str | None] = mapped_column(String(10), server_onupdate=sa.FetchedValue())

    base.metadata.create_all(db_session.connection())
    upsert(Note, [{"id": 1, "text": "a"}, {"id": 2, "text": "a"}], by="id", session=db_session)
    one, two, three = upsert(
        Note,
        [{"id": 1, "text": "b"}, {"id": 2, "text": "a"}, {"id": 3, "text": "b"}],
        by="id",
        session=db_session,
    )
    assert (one.plain, one.called, one.sql) == ("changed", 7, "sql")
    assert (two.plain, two.called, two.sql) == (None, None, None)
    assert (three.plain, three.called, three.sql) == (None, None, None)
    (two,) = upsert(Note, [{"id": 2, "text": "c", "called": 1}], by="id", session=db_session)
    assert (two.plain, two.called) == ("changed", 1)


def _told(context: Any) -> str:
    parameters = context.get_current_parameters()
    assert context.current_parameters == parameters
    return f"{context.current_column.key}: {parameters['n']}"


def test_an_onupdate_may_look_at_the_row_and_the_database(db_session: Session) -> None:
    """Functions of the context, sequences and expressions of the old row, as in an UPDATE."""
    base = declarative_base()
    on_sqlite = db_session.get_bind().dialect.name == "sqlite"

    class Note(base):
        __table_args__ = (UniqueConstraint("a", "b"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int]
        b: Mapped[str] = mapped_column(String(5))
        n: Mapped[int]
        first: Mapped[str] = mapped_column(
            String(20), default=lambda context: f"n: {context.get_current_parameters()['n']}"
        )
        told: Mapped[str | None] = mapped_column(String(20), onupdate=_told)
        repeated: Mapped[str | None] = mapped_column(
            String(20), onupdate=lambda context: context.get_current_parameters()["told"]
        )
        asked: Mapped[int | None] = mapped_column(
            onupdate=lambda context: context.connection.scalar(sa.text("SELECT 7"))
        )
        shared: Mapped[str | None] = mapped_column(
            String(20), onupdate=lambda context: context.dialect.name
        )
        older: Mapped[int | None]
        counter: Mapped[int] = mapped_column(default=1)
        ticket: Mapped[int | None] = mapped_column(
            onupdate=None if on_sqlite else sa.Sequence("tickets", start=1)
        )

    counter = Note.__table__.c.counter
    counter.onupdate = sa.ColumnDefault(counter + 10, for_update=True)
    older = Note.__table__.c.older
    older.onupdate = sa.ColumnDefault(Note.__table__.c.n, for_update=True)
    base.metadata.create_all(db_session.connection())
    keys: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]
    for n in (1, 2):
        rows = [{**key, "n": n * key["a"]} for key in keys]
        notes = upsert(Note, rows, by=("a", "b"), session=db_session)
        assert [note.first for note in notes] == ["n: 1", "n: 2", "n: 3"]
    assert [note.told for note in notes] == ["told: 2", "told: 4", "told: 6"]
    assert [note.repeated for note in notes] == ["told: 2", "told: 4", "told: 6"]
    assert [note.older for note in notes] == [1, 2, 3]
    assert {(note.asked, note.counter) for note in notes} == {(7, 11)}
    assert {note.shared for note in notes} == {db_session.get_bind().dialect.name}
    assert on_sqlite or len({note.ticket for note in notes} - {None}) == 3
    upsert(Note, rows, by=("a", "b"), session=db_session)  # equal: nothing moves
    given = {**keys[0], "n": 9, "told": "given"}
    (note,) = upsert(Note, [given], by=("a", "b"), update="told", session=db_session)
    assert (note.told, note.repeated, note.n, note.counter) == ("given", "given", 2, 21)
    upsert(Note, [{**keys[0], "n": 99}], by=("a", "b"), update=(), session=db_session)
    assert (note.n, note.counter) == (2, 21)


def test_a_table_with_a_sentinel_column_is_written(db_session: Session) -> None:
    """A sentinel belongs to SQLAlchemy's own INSERT of many rows."""
    base = declarative_base()

    class Note(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(5), unique=True)
        n: Mapped[int]
        sentinel: Mapped[int | None] = orm_insert_sentinel()

    base.metadata.create_all(db_session.connection())
    for n in (1, 2):
        rows = [{"name": "a", "n": n}, {"name": "b", "n": n}]
        assert [note.n for note in upsert(Note, rows, by="name", session=db_session)] == [n, n]


def test_a_key_made_by_the_mixin_stays(db_session: Session) -> None:
    """A row that is there keeps its UUID, whatever was made for the attempt to insert."""
    base = declarative_base()

    class Note(UUIDPrimaryKey, base):
        name: Mapped[str] = mapped_column(String(10), unique=True)
        text: Mapped[str | None] = mapped_column(String(10))

    base.metadata.create_all(db_session.connection())
    (note,) = upsert(Note, [{"name": "a"}], by="name", session=db_session)
    key = note.id
    given = uuid.uuid4()
    row = {"name": "a", "text": "x", "id": given}
    (same,) = upsert(Note, [row], by="name", session=db_session)
    assert (same.id, same.text) == (key, "x")
    assert same is note
    (new,) = upsert(Note, [{"name": "b", "id": given}], by="name", session=db_session)
    assert new.id == given


def test_a_joined_eager_load_does_not_confuse_the_result(db_session: Session) -> None:
    """A collection that is loaded with its parent makes several rows of one object."""
    base = declarative_base()

    class Shelf(base):
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str | None] = mapped_column(String(10))
        items: Mapped[list[Any]] = relationship("Item", lazy="joined")

    class Item(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id))

    base.metadata.create_all(db_session.connection())
    (shelf,) = upsert(Shelf, [{"id": 1}], by="id", session=db_session)
    shelf.items = [Item(), Item()]
    db_session.flush()
    (same,) = upsert(Shelf, [{"id": 1, "name": "a"}], by="id", session=db_session)
    assert len(same.items) == 2
    assert get_or_create(Shelf, session=db_session, id=1) == (shelf, False)


@pytest.mark.backends("sqlite-memory")
def test_another_database_is_told_apart() -> None:
    """A statement guessed for a database nobody tried could do anything."""

    class Elsewhere(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return sa.create_mock_engine("oracle://", lambda *_: None)

    with pytest.raises(NotImplementedError, match="cannot write to 'oracle'"):
        upsert(Book, [{"slug": "a"}], by="slug", session=Elsewhere())


# --- get_or_create ---------------------------------------------------------------------


def test_the_first_call_creates_and_the_next_one_finds(db_session: Session) -> None:
    """Defaults are for the row that is created; a row that is there stays as it is."""
    book, created = get_or_create(Book, {"title": "Sea"}, session=db_session, slug="sea")
    assert (book.title, book.slug, created) == ("Sea", "sea", True)
    assert book in db_session
    assert not db_session.new
    assert get_or_create(Book, {"title": "Lake"}, session=db_session, slug="sea") == (book, False)
    assert book.title == "Sea"


def test_a_callable_default_is_called_only_for_a_new_row(db_session: Session) -> None:
    """What is costly to compute, or to fetch, is not computed in vain."""
    calls: list[int] = []

    def costly() -> int:
        calls.append(1)
        return 100

    for _ in range(3):
        found, _ = get_or_create(Book, {"pages": costly}, session=db_session, slug="sea")
        assert (found.pages, calls) == (100, [1])


def test_a_lookup_may_name_a_relationship(db_session: Session) -> None:
    """The object on the other side may be new, or nobody."""
    author = Author(name="Ann")
    book, created = get_or_create(Book, session=db_session, author=author, slug="sea")
    assert created
    assert book.author is author
    assert author.books == [book]
    assert get_or_create(Book, session=db_session, author=author, slug="sea") == (book, False)
    alone, created = get_or_create(Book, session=db_session, author=None, slug="solo")
    assert (alone.author, created) == (None, True)


def test_a_lookup_may_be_null_or_a_hybrid(db_session: Session) -> None:
    """Whatever the model can compare with ``==``."""
    book, created = get_or_create(Book, session=db_session, slug="sea", title=None)
    assert created
    assert get_or_create(Book, session=db_session, isbn=None) == (book, False)
    assert get_or_create(Book, session=db_session, slug="sea", initial=None) == (book, False)


def test_several_matches_are_an_error(db_session: Session) -> None:
    """A lookup that is not unique, as NULL is not, must not pick one at random."""
    rows = [{"slug": "a", "pages": 1}, {"slug": "b", "pages": 1}]
    upsert(Book, rows, by="slug", session=db_session)
    with pytest.raises(MultipleResultsFound):
        get_or_create(Book, session=db_session, isbn=None)


def test_an_object_that_is_only_in_the_session_is_found(db_session: Session) -> None:
    """Pending objects are flushed first, with autoflush or without."""
    book = Book(slug="sea")
    db_session.add(book)
    with db_session.no_autoflush:
        assert get_or_create(Book, session=db_session, slug="sea") == (book, False)


def test_a_refused_row_leaves_no_trace(db_session: Session) -> None:
    """Another integrity error passes, and neither session nor transaction is spoilt."""
    author = Author(name="Ann")
    db_session.add_all([author, Book(slug="sea", isbn="1")])
    db_session.flush()
    with pytest.raises(IntegrityError, match="isbn"):
        get_or_create(Book, {"isbn": "1", "author": author}, session=db_session, slug="lake")
    assert not db_session.new
    assert author.books == []
    db_session.commit()
    assert set(_rows(db_session)) == {"sea"}


def _win_the_race(session: Session, engine: sa.Engine, slug: str, **values: Any) -> None:
    """Insert the row from another connection between the SELECT and the INSERT."""

    @sa.event.listens_for(session, "before_flush")
    def insert_first(*_: Any) -> None:
        if session.new and not won:
            won.append(True)
            with engine.begin() as other:
                other.execute(insert(Book).values(slug=slug, **values))

    won: list[bool] = []


@pytest.mark.backends("postgresql", "mariadb")
def test_who_comes_second_gets_the_row_of_the_first(db_session: Session, engine: sa.Engine) -> None:
    """MariaDB's snapshot does not show the row that refused the INSERT: a locking read does."""
    author = Author(name="Ann")
    db_session.add(author)
    db_session.commit()
    assert db_session.scalar(select(func.count()).select_from(Book)) == 0  # the snapshot
    assert author.books == []
    _win_the_race(db_session, engine, "sea", title="theirs")
    defaults = {"title": "mine", "author": author}
    book, created = get_or_create(Book, defaults, session=db_session, slug="sea")
    assert (book.title, created) == ("theirs", False)
    assert author.books == []
    assert not db_session.new
    db_session.commit()
    assert _rows(db_session) == {"sea": "theirs"}


@pytest.mark.backends("postgresql")
def test_a_serializable_transaction_is_told_that_it_cannot_see_the_row(
    db_session: Session, engine: sa.Engine
) -> None:
    """Above READ COMMITTED no read can show it: the transaction has to be run again."""
    db_session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    assert db_session.scalar(select(func.count()).select_from(Book)) == 0
    _win_the_race(db_session, engine, "sea")
    with pytest.raises(IntegrityError):
        get_or_create(Book, session=db_session, slug="sea")


@pytest.mark.backends("postgresql", "mariadb")
@pytest.mark.parametrize("update", [None, ()])
def test_an_upsert_shows_a_row_that_came_after_the_snapshot(
    db_session: Session, engine: sa.Engine, update: Any
) -> None:
    """An equal row is not written, so MariaDB's snapshot would go on without it."""
    assert db_session.scalar(select(func.count()).select_from(Book)) == 0
    with engine.begin() as other:
        other.execute(insert(Book).values(slug="sea", title="Sea"))
    row = {"slug": "sea", "title": "Sea"}
    (book,) = upsert(Book, [row], by="slug", update=update, session=db_session)
    assert (book.title, book.version) == ("Sea", 1)


@pytest.mark.backends("postgresql", "mariadb")
def test_what_others_changed_is_shown_with_a_row_that_was_equal(
    db_session: Session, engine: sa.Engine
) -> None:
    """The snapshot has the old row, nothing is written, and the object is as the row is now."""
    rows = [{"slug": slug, "title": "Sea", "pages": 1} for slug in ("a", "b", "c")]
    books = upsert(Book, rows, by="slug", session=db_session)
    db_session.commit()
    assert [book.pages for book in books] == [1, 1, 1]
    with engine.begin() as other:
        other.execute(sa.update(Book).values(title="Lake", pages=2))
    same = [{"slug": "a", "title": "Lake"}, {"slug": "c", "title": "Lake"}]
    assert upsert(Book, same, by="slug", session=db_session) == [books[0], books[2]]
    assert [book.pages for book in books] == [2, 1, 2]


@pytest.mark.backends("sqlite-memory")
@pytest.mark.parametrize(
    ("defaults", "by", "words"),
    [
        (None, {}, "was given nothing to look for"),
        (None, {"slog": "a"}, "lookup names 'slog'.*Did you mean 'slug'"),
        ({"titel": "a"}, {"slug": "a"}, "defaults names 'titel'.*Did you mean 'title'"),
        ({"slug": "b"}, {"slug": "a"}, "'slug' is in defaults and in the lookup"),
    ],
)
def test_a_mistake_in_the_lookup_is_told_before_any_sql(
    db_session: Session, defaults: Any, by: dict[str, Any], words: str
) -> None:
    """Also one that would show only when the row has to be created."""
    sent = _statements(db_session)
    with pytest.raises(ValueError, match=words):
        get_or_create(Book, defaults, session=db_session, **by)
    assert sent == []


NeverMade: Any = declarative_base()


class Host(NeverMade):
    id: Mapped[int] = mapped_column(primary_key=True)


class Event(NeverMade):
    __table_args__ = (
        UniqueConstraint("place", "author_id"),
        Index("ix_event_open", "title", unique=True, postgresql_where=sa.text("ended IS NULL")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column("no", unique=True)
    title: Mapped[str | None] = mapped_column(String(20))
    name: Mapped[str | None] = mapped_column(String(20))
    place: Mapped[str | None] = mapped_column(String(20))
    ended: Mapped[bool | None]
    author_id: Mapped[int | None] = mapped_column(ForeignKey(Host.id))
    author: Mapped[Host | None] = relationship()
    nr = synonym("number")
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "event"}  # noqa: RUF012


Index("ix_event_lower", func.lower(Event.name), unique=True)


class Concert(Event):
    id: Mapped[int] = mapped_column(ForeignKey(Event.id), primary_key=True)
    band: Mapped[str | None] = mapped_column(String(20))
    stage: Mapped[str | None] = mapped_column(String(20), unique=True)
    __mapper_args__ = {"polymorphic_identity": "concert"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        ("id", True),
        ("number", True),
        ("nr", True),
        ("stage", True),
        ("title band stage", True),
        ("place author", True),
        ("place author_id", True),
        ("author", False),
        ("place", False),
        ("band", False),
        ("name", False),
        ("title", "not postgresql"),
        ("title ended", "not postgresql"),
    ],
)
def test_a_lookup_has_to_be_covered_by_a_unique_key(names: str, covered: bool | str) -> None:
    """Two callers at once would each insert a row, and nobody would ever know.

    Inherited columns, synonyms, other column names and relationships count; a part of a key, a
    partial index and one of an expression do not.
    """
    for url in ("sqlite://", "postgresql+psycopg://", "mysql+pymysql://"):
        session = Session(sa.create_engine(url), autoflush=False)
        may_write = covered if isinstance(covered, bool) else "postgresql" not in url
        by = dict.fromkeys(names.split())
        sa.event.listen(session, "do_orm_execute", _stop)
        words = r"looks for .* covers: two callers .* Add UniqueConstraint\('.* or \(number\) or"
        error, match = (Sent, None) if may_write else (ValueError, words)
        with pytest.raises(error, match=match):
            get_or_create(Concert, session=session, **by)


class Sent(Exception):
    """A statement would have been sent."""


def _stop(state: Any) -> None:
    raise Sent


@pytest.mark.backends("sqlite-memory")
def test_a_collection_is_no_lookup(db_session: Session) -> None:
    """A row has no column for it."""
    with pytest.raises(ValueError, match="'books', which refers to rows of another table"):
        get_or_create(Author, session=db_session, books=[])


@pytest.mark.backends("sqlite-memory")
def test_dataclasses_are_created_through_their_init(db_session: Session) -> None:
    """What ``__init__`` does not take is set right after it."""
    base = declarative_base()

    class Note(MappedAsDataclass, UUIDPrimaryKey, Timestamps, base):
        text: Mapped[str] = mapped_column(String(10))
        seen: Mapped[int] = mapped_column(init=False, default=0)

    base.metadata.create_all(db_session.connection())
    key = uuid.uuid4()
    note, created = get_or_create(Note, {"text": "a", "seen": 3}, session=db_session, id=key)
    assert created
    assert (note.id, note.text, note.seen) == (key, "a", 3)
    with pytest.raises(TypeError, match="text"):
        get_or_create(Note, session=db_session, id=uuid.uuid4(), seen=4)


# --- Sessions --------------------------------------------------------------------------


@pytest.fixture
def kit(make_app: Callable[..., Flask]) -> Iterator[SQLAlchemy]:
    db = SQLAlchemy(model_class=Base)
    app = make_app()
    DBKit(db=db).init_app(app)
    with app.app_context():
        Base.metadata.create_all(db.engine)
        yield db
        db.session.remove()


def test_the_current_applications_session_is_the_default(kit: SQLAlchemy) -> None:
    """Route code names no session."""
    book, _ = get_or_create(Book, slug="sea")
    (other,) = upsert(Book, [{"slug": "lake"}], by="slug")
    assert book in kit.session
    assert other in kit.session
    assert get_or_create(Book, session=kit.session, slug="lake") == (other, False)
    kit.session.rollback()
    assert kit.session.scalars(select(Book)).all() == []


@pytest.mark.backends("sqlite-memory")
def test_without_an_application_a_session_has_to_be_given(engine: sa.Engine) -> None:
    """The error is Flask's own; a scoped session will do."""
    with pytest.raises(RuntimeError, match="application context"):
        get_or_create(Book, slug="sea")
    Base.metadata.create_all(engine)
    registry = scoped_session(sessionmaker(engine))
    book, created = get_or_create(Book, session=registry, slug="sea")
    assert created
    assert book in registry
    registry.remove()


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("begun", [False, True])
def test_a_session_that_has_read_nothing_takes_the_write_lock_first(
    kit: SQLAlchemy, *, begun: bool
) -> None:
    """Otherwise the row may appear between the SELECT and the INSERT, and SQLite is busy."""
    if begun:
        kit.session.begin()
    seen = []

    @sa.event.listens_for(kit.engine, "begin")
    def note(connection: sa.Connection) -> None:
        seen.append(connection.get_execution_options().get("dbkit_sqlite_begin"))

    get_or_create(Book, slug="sea")
    get_or_create(Book, slug="sea")
    upsert(Book, [{"slug": "lake"}], by="slug")
    kit.session.commit()
    kit.session.scalars(select(Book)).all()
    get_or_create(Book, slug="sea")  # has read: goes on as it is, without a warning
    assert seen == ["immediate", None]


@pytest.mark.backends("sqlite-memory")
def test_a_session_on_a_connection_leaves_the_connection_as_it_is(engine: sa.Engine) -> None:
    """Tests that roll everything back bind the session to a connection with a transaction."""
    Base.metadata.create_all(engine)
    with engine.connect() as connection, connection.begin():
        session = Session(connection, join_transaction_mode="create_savepoint")
        assert get_or_create_in(session, Book, {}, {"slug": "sea"})[1]
        assert "dbkit_sqlite_begin" not in connection.get_execution_options()
        session.close()


def test_a_bind_key_leads_to_its_database(kit: SQLAlchemy, make_app: Callable[..., Flask]) -> None:
    """The rows of a model go where the model lives."""
    base = declarative_base()
    db = SQLAlchemy(model_class=base)

    class Log(base):
        __bind_key__ = "logs"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str | None] = mapped_column(String(10))

    app = make_app(SQLALCHEMY_BINDS={"logs": "sqlite://"})
    DBKit(db=db).init_app(app)
    with app.app_context():
        db.create_all(bind_key="logs")
        upsert(Log, [{"id": 1}], by="id")
        (log,) = upsert(Log, [{"id": 1, "text": "a"}], by="id")
        assert get_or_create(Log, id=1) == (log, False)
        db.session.commit()
        with db.engines["logs"].connect() as connection:
            assert connection.scalar(select(Log.text)) == "a"
        db.session.remove()
