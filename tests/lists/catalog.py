"""The models and rows the page tests walk through, and the walk itself."""

from __future__ import annotations

import enum
import random
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from flask_dbkit import KeysetPage, Listing, UTCDateTime

SECRET = "the secret of the tests"


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    # Neither the names nor the order of the members is alphabetical.
    happy = "h"
    angry = "a"
    calm = "c"
    bored = "b"


book_tag = Table(
    "book_tag",
    Base.metadata,
    Column("book_id", ForeignKey("book.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    mentor_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    mentor: Mapped[Author | None] = relationship(remote_side=lambda: Author.id)
    books: Mapped[list[Book]] = relationship(back_populates="author", foreign_keys="Book.author_id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))
    shelf: Mapped[int]
    score: Mapped[int | None]
    added: Mapped[datetime] = mapped_column(UTCDateTime)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    editor_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books", foreign_keys=author_id)
    editor: Mapped[Author | None] = relationship(foreign_keys=editor_id)
    tags: Mapped[list[Tag]] = relationship(secondary=book_tag)

    @hybrid_property
    def weight(self) -> int:
        return self.shelf * 10 + self.id % 3


class Reading(Base):
    """A composite primary key."""

    __tablename__ = "reading"
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    reader: Mapped[str] = mapped_column(String(10), primary_key=True)
    stars: Mapped[int | None]


KEY_TYPES: dict[str, tuple[Any, Callable[[random.Random], Any]]] = {
    "integer": (Integer, lambda r: r.choice([-(2**31), -1, 0, 1, 7, 2**31 - 1])),
    "text": (
        String(60),
        lambda r: r.choice(["", "~", "\\", "a|b", "new\nline", "😀", "ä", "Z", "a"]),
    ),
    "boolean": (Boolean, lambda r: r.random() < 0.5),
    "decimal": (Numeric(18, 6), lambda r: Decimal(r.randrange(-(10**9), 10**9)) / 10**6),
    "decimal_wide": (Numeric(30, 15), lambda r: Decimal(r.randrange(10**12)) / 10**10),
    "float": (Float, lambda r: r.choice([0.1, 0.2, 0.3, 1 / 3, -1e9 / 7, 1e-9])),
    "real": (
        Float(24).with_variant(mysql.FLOAT(), "mysql", "mariadb"),
        lambda r: r.choice([0.1, 0.2, 0.3, 1 / 3, 16777217.0, 1.1e-7]),
    ),
    "double": (Double, lambda r: r.choice([0.1, 0.1 + 2**-55, 0.3, 1 / 3, 2 / 3, 1e300])),
    "point": (
        UTCDateTime,
        lambda r: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=r.randrange(5)),
    ),
    "naive": (
        DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
        lambda r: (
            datetime(2026, 1, 1)  # noqa: DTZ001
            + timedelta(microseconds=r.randrange(5) * 250_000)
        ),
    ),
    "zoned": (
        DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
        lambda r: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=r.randrange(5)),
    ),
    "big": (BigInteger, lambda r: r.choice([-(2**63), 0, 2**53 + 1, 2**53, 2**63 - 1])),
    "day": (Date, lambda r: date(2026, 1, 1) + timedelta(days=r.randrange(5))),
    "clock": (
        Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb"),
        lambda r: time(r.randrange(24), 0, 0, r.choice([0, 1, 999999])),
    ),
    "span": (
        Interval(second_precision=6),
        lambda r: timedelta(days=r.randrange(-3, 3), microseconds=r.randrange(3)),
    ),
    "uuid": (Uuid, lambda r: uuid.UUID(int=r.getrandbits(128), version=4)),
    "mood": (Enum(Mood), lambda r: r.choice(list(Mood))),
    "word": (
        Enum("small", "large", "medium", name="size"),
        lambda r: r.choice(["small", "large", "medium"]),
    ),
    "written": (
        Enum(Mood, native_enum=False, length=10, name="written_mood"),
        lambda r: r.choice(list(Mood)),
    ),
    "blob": (LargeBinary(20), lambda r: bytes([r.randrange(4), 0, 255])),
}


class Sample(Base):
    """One nullable column and one without NULLs for each type a key can have."""

    __table__ = Table(
        "sample",
        Base.metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, type_, nullable=False) for name, (type_, _) in KEY_TYPES.items()),
        *(Column(f"{name}_or_null", type_) for name, (type_, _) in KEY_TYPES.items()),
    )


def fill_books(session: Session, *, books: int = 41) -> None:
    """Write authors, books and what hangs on them; the same ones every time."""
    Base.metadata.create_all(session.connection())
    r = random.Random(4)
    names = ["Ann", "bob", "Zoe", "Ann", "Émile", "carl", "Dee"]
    session.add_all(Author(id=n, name=name) for n, name in enumerate(names, 1))
    session.flush()
    for number in (3, 4, 5):
        session.get_one(Author, number).mentor_id = number - 2
    tags = [Tag(id=n, name=name) for n, name in enumerate(["new", "old", "rare"], 1)]
    session.add_all(tags)
    session.flush()
    for number in range(1, books + 1):
        session.add(
            Book(
                id=number,
                title=r.choice(["sea", "Sea", "sand", "50%_off", "x\\y", "moon"]),
                shelf=r.randrange(4),
                score=r.choice([None, 1, 2, 3, 5, 8]),
                added=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=r.randrange(9)),
                author_id=r.randint(1, 7),
                editor_id=r.choice([None, 1, 2]),
                tags=r.sample(tags, r.randrange(4)),
            )
        )
    session.flush()
    session.add_all(
        Reading(book_id=n, reader=reader, stars=r.choice([None, 1, 2]))
        for n in range(1, books + 1)
        for reader in ("ann", "bob")
        if r.random() < 0.7
    )
    session.commit()


def fill_samples(session: Session, *, rows: int = 16, seed: int = 7) -> None:
    """Write one row after another with few different values, a fifth of them NULL."""
    Base.metadata.create_all(session.connection())
    r = random.Random(seed)
    written: list[dict[str, Any]] = []
    for number in range(1, rows + 1):
        values: dict[str, Any] = {"id": number}
        for name, (_, make) in KEY_TYPES.items():
            values[name] = make(r)
            values[f"{name}_or_null"] = None if r.random() < 0.2 else make(r)
        written.append(values)
    if written:
        session.execute(Sample.__table__.insert(), written)
    session.commit()


def read(
    listing: Listing[Any],
    session: Session,
    *,
    statement: Any = None,
    bind: object = None,
    **args: Any,
) -> KeysetPage[Any]:
    """Read one keyset page with the parameters of a client."""
    return listing.paginate_keyset(statement, args=args, session=session, secret=SECRET, bind=bind)


def walk_forward(listing: Listing[Any], session: Session, **args: Any) -> list[KeysetPage[Any]]:
    """Follow ``next_cursor`` from the first page to the last."""
    pages = [read(listing, session, **args)]
    while pages[-1].next_cursor is not None:
        assert len(pages) < 500, "the walk does not end"
        pages.append(read(listing, session, **args, cursor=pages[-1].next_cursor))
    return pages


def walk_backward(
    listing: Listing[Any], session: Session, start: KeysetPage[Any], **args: Any
) -> list[KeysetPage[Any]]:
    """Follow ``prev_cursor`` from a page to the first."""
    pages = [start]
    while pages[-1].prev_cursor is not None:
        assert len(pages) < 500, "the walk does not end"
        pages.append(read(listing, session, **args, cursor=pages[-1].prev_cursor))
    return pages


def assert_walks(
    listing: Listing[Any],
    session: Session,
    sort: str,
    per_page: int,
    key: Callable[[Any], Any] = lambda item: item.id,
    **args: Any,
) -> list[Any]:
    """Check the law: pages joined are the list, forward, backward and by number."""
    args |= {"sort": sort, "per_page": str(per_page)}
    total = listing.paginate(args=args | {"per_page": "100"}, session=session)
    assert not total.has_next, "more rows than one page holds"
    expected = [key(item) for item in total.items]
    assert len(set(expected)) == len(expected)
    forward = walk_forward(listing, session, **args)
    assert [key(item) for page in forward for item in page.items] == expected
    assert all(len(page.items) == per_page for page in forward[:-1])
    assert [page.has_prev for page in forward] == [n > 0 for n in range(len(forward))]
    backward = walk_backward(listing, session, forward[-1], **args)
    assert [key(item) for page in reversed(backward) for item in page.items] == expected
    assert all(page.has_next for page in backward[1:])
    last = len(forward)
    for number in {1, 2, last - 1, last} & set(range(1, last + 1)):
        numbered = listing.paginate(args=args, page=number, session=session)
        start = (number - 1) * per_page
        assert [key(item) for item in numbered.items] == expected[start : start + per_page]
    return expected
