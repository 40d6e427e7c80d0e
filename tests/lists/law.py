"""The law of lists at random: every page is the slice of the unpaged query it is a page of.

A round takes a statement of some kind (an entity, joins, DISTINCT, GROUP BY an entity or rows, a
UNION, a limited or derived one, a self join, a narrowed one), one to three keys of its pool
(columns of every type, negated and computed booleans, functions without types, word lists in
expressions, long texts, spans of time), directions, places of NULLs, filters (also functions that
change the statement), and walks: next, previous, first, last, by number, while rows are deleted.
The reference is the statement ordered by hand and read as a whole.

    python -m tests.lists.law                                  # 1,000 pages on SQLite in memory
    python -m tests.lists.law --pages 10000 --seed 7 URL ...   # of databases that may be emptied
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    String,
    and_,
    case,
    cast,
    create_engine,
    delete,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session, aliased

from flask_dbkit import Filter, FilterAllowlist, Listing, SortAllowlist, SortKey

from .catalog import KEY_TYPES, SECRET, Author, Base, Book, Mood, Reading, Sample, Tag

__all__ = ["LawBroken", "run"]

_FAR = datetime(2099, 1, 1, tzinfo=UTC)
_NEAR = datetime(2026, 1, 1, tzinfo=UTC)


class LawBroken(AssertionError):
    """A page that is not the slice of the unpaged query."""


@dataclass
class Statement:
    """One statement and what is needed to check its pages.

    Attributes:
        kind: What it is, for messages.
        source: What the list is made of.
        keys: What it may be sorted by.
        ties: What tells its rows apart, in the order it is appended.
        identify: Returns what tells a row apart.
        reference: Returns the statement, to be ordered by hand.
        ordered: Turns a key into what the reference is ordered by.
        narrow: Returns criteria for one request and the same for the reference.
        filters: Name → its entry, the text of the client, and what it does to the reference.
        deletable: The table to delete rows from while walking, with its key.
        options: Further arguments of the listing.
    """

    kind: str
    source: Any
    keys: dict[str, Any]
    ties: Sequence[Any]
    identify: Callable[[Any], Any]
    reference: Any
    ordered: Callable[[Any], Any] = lambda key: key
    narrow: Any = None
    filters: dict[str, tuple[Filter, dict[str, str], Callable[[Any], Any]]] = field(
        default_factory=dict
    )
    deletable: Any = None
    options: dict[str, Any] = field(default_factory=dict)


def fill(session: Session, r: random.Random) -> None:
    """Write other rows than those of the round before."""
    for model in (Reading, Sample):
        session.execute(delete(model))
    session.execute(delete(Book.tags.property.secondary))  # type: ignore[arg-type]
    session.execute(delete(Book))
    session.execute(delete(Tag))
    session.execute(Author.__table__.update().values(mentor_id=None))  # type: ignore[attr-defined]
    session.execute(delete(Author))
    session.add_all(Author(id=n, name=r.choice(["Ann", "bob", "Zoe", "É"])) for n in range(1, 6))
    session.flush()
    for number in range(2, 6):
        session.get_one(Author, number).mentor_id = r.choice([None, number - 1])
    tags = [Tag(id=n, name=f"t{n}") for n in range(1, 4)]
    session.add_all(tags)
    session.flush()
    for number in range(1, r.randrange(2, 17)):
        session.add(
            Book(
                id=number,
                title=r.choice(["sea", "Sea", "sand", "50%_off", "x\\y", ""]),
                shelf=r.randrange(3),
                score=r.choice([None, 1, 2, 3]),
                added=_NEAR + timedelta(microseconds=r.randrange(4)),
                author_id=r.randint(1, 5),
                editor_id=r.choice([None, 1, 2]),
                tags=r.sample(tags, r.randrange(4)),
            )
        )
    session.flush()
    books = list(session.scalars(select(Book.id)))
    session.add_all(
        Reading(book_id=book, reader=reader, stars=r.choice([None, 1, 2]))
        for book in books
        for reader in ("ann", "bob")
        if r.random() < 0.7
    )
    rows: list[dict[str, Any]] = []
    for number in range(1, r.randrange(2, 14)):
        values: dict[str, Any] = {"id": number}
        for name, (_, make) in KEY_TYPES.items():
            values[name] = make(r)
            values[f"{name}_or_null"] = None if r.random() < 0.3 else make(r)
        rows.append(values)
    session.execute(Sample.__table__.insert(), rows)
    session.commit()


def _computed_samples() -> dict[str, Any]:
    s: Any = Sample
    return {
        "not": ~s.boolean,
        "not_or": not_(or_(s.boolean, s.integer > 0)),
        "both": and_(s.boolean_or_null, s.integer > 0),
        "is_null": s.text_or_null.is_(None),
        "in": s.integer.in_([0, 7]),
        "literal": literal_column("sample.integer > 0"),
        "minus": -cast(s.integer, BigInteger) / 2,
        "lower": func.lower(s.text),
        "untyped": func.coalesce(s.real_or_null, s.real),
        "real_case": case((s.boolean, s.real), else_=s.float),
        "word_case": case((s.boolean, s.word), else_=literal("small", s.word.type)),
        "word_max": func.coalesce(s.word_or_null, s.word),
        "mood_case": case((s.boolean, s.mood), else_=literal(Mood.calm, s.mood.type)),
        "moment": func.coalesce(s.point_or_null, _FAR),
        "moment_case": case((s.boolean, s.point), else_=_NEAR),
        "sum": s.decimal + s.decimal_wide,
        "ratio": s.decimal / 7,
        "length": func.length(s.text),
        "joined": s.text + s.text + cast(s.integer, String(20)),
        "repeated": func.replace(s.text + "aaaa", "a", "b" * 90) + s.text,
        "date": func.coalesce(s.day_or_null, s.day),
        "span": func.coalesce(s.span_or_null, s.span),
        "float_sum": s.float + s.double,
    }


def _any_tag(statement: Any, value: int) -> Any:
    return statement.join(Book.tags).where(Tag.id <= value).distinct()


def _enough_tags(statement: Any, value: int) -> Any:
    return statement.join(Book.tags).group_by(Book).having(func.count(Tag.id) >= value)


def _few(statement: Any, value: int) -> Any:
    return statement.where(Book.id > value).order_by(Book.score)


def _book_filters() -> dict[str, Any]:
    return {
        "shelf": (
            Filter(Book.shelf, ops="gte"),
            {"shelf__gte": "1"},
            lambda s: s.where(Book.shelf >= 1),
        ),
        "free": (
            Filter(~(Book.shelf > 1), ops="in ne"),
            {"free__in": "true"},
            lambda s: s.where(~(Book.shelf > 1)),
        ),
        "score": (
            Filter(func.coalesce(Book.score, 0), ops="eq", type=int),
            {"score": "0"},
            lambda s: s.where(func.coalesce(Book.score, 0) == 0),
        ),
        "added": (
            Filter(func.coalesce(Book.added, _FAR), ops="lt"),
            {"added__lt": "2026-01-01T00:00:00.000002Z"},
            lambda s: s.where(Book.added < _NEAR + timedelta(microseconds=2)),
        ),
    }


def _function_filters() -> dict[str, Any]:
    return {
        "any": (Filter(_any_tag, type=int), {"any": "2"}, lambda s: _any_tag(s, 2)),
        "few": (
            Filter(_few, type=int),
            {"few": "2"},
            lambda s: _few(s, 2).order_by(None),
        ),
        "enough": (Filter(_enough_tags, type=int), {"enough": "2"}, lambda s: _enough_tags(s, 2)),
    }


def _book_keys() -> dict[str, Any]:
    return {
        "title": Book.title,
        "shelf": Book.shelf,
        "score": Book.score,
        "added": Book.added,
        "lower": func.lower(Book.title),
        "high": ~(Book.shelf > 1),
        # With a FROM: of "SELECT count(*) WHERE EXISTS (…)" MariaDB 10.11 makes one number for all
        # rows, in plain SQL too.
        "read": select(func.count(Reading.reader))
        .where(Reading.book_id == Book.id)
        .correlate(Book)
        .scalar_subquery(),
        "tagged": Book.tags.any(),
    }


def statements(r: random.Random) -> list[Statement]:
    """Return one statement of every kind."""
    editor, mentor = aliased(Author), aliased(Author, name="mentor")
    by_id = lambda row: row.id  # noqa: E731
    number = r.randrange(1, 4)
    samples = {name: getattr(Sample, name) for name in KEY_TYPES}
    samples |= {f"{name}_or_null": getattr(Sample, f"{name}_or_null") for name in KEY_TYPES}
    joined = select(Book).join(Book.author).outerjoin(editor, Book.editor)
    joined_keys = _book_keys() | {"author": Author.name, "editor": editor.name}
    count = func.count(Book.id).label("count")
    groups = select(Book.shelf, Book.author_id, count).group_by(Book.shelf, Book.author_id)
    union = union_all(
        select(literal("book").label("kind"), Book.id.label("id"), Book.title.label("name")),
        select(literal("author"), Author.id, Author.name),
    )
    columns, union_rows = union.selected_columns, union.subquery()
    limited = select(Book).order_by(Book.shelf, Book.id).limit(9)
    chosen = select(Book.id).order_by(Book.shelf, Book.id).limit(9).subquery()
    derived = select(Book.id, Book.title, func.coalesce(Book.score, 0).label("score")).subquery()
    sample_table = Sample.__table__
    return [
        Statement(
            "entity",
            Sample,
            samples | _computed_samples(),
            [Sample.id],  # type: ignore[attr-defined]
            by_id,
            select(Sample),
            narrow=lambda: Sample.integer > -number,  # type: ignore[attr-defined]
            deletable=sample_table,
        ),
        Statement(
            "computed",
            Sample,
            _computed_samples(),
            [Sample.id],  # type: ignore[attr-defined]
            by_id,
            select(Sample),
            deletable=sample_table,
        ),
        Statement(
            "joined",
            joined,
            joined_keys,
            [Book.id],
            by_id,
            joined,
            narrow=lambda: Book.author_id.in_([number, number + 1]),
            filters=_book_filters(),
        ),
        Statement(
            "filtered by functions",
            Book,
            _book_keys(),
            [Book.id],
            by_id,
            select(Book),
            filters=_function_filters(),
        ),
        Statement(
            "distinct",
            select(Book).join(Book.tags).distinct(),
            _book_keys(),
            [Book.id],
            by_id,
            select(Book).where(Book.tags.any()),
            filters={"shelf": _book_filters()["shelf"]},
        ),
        Statement(
            "each once",
            select(Book).join(Book.tags),
            _book_keys(),
            [Book.id],
            by_id,
            select(Book).where(Book.tags.any()),
            options={"unique": True},
        ),
        Statement(
            "grouped by the entity",
            select(Book).join(Book.tags).group_by(Book),
            {name: _book_keys()[name] for name in ("title", "score", "added", "lower", "high")},
            [Book.id],
            by_id,
            select(Book).where(Book.tags.any()),
        ),
        Statement(
            "groups",
            groups,
            {"count": count, "shelf": Book.shelf, "odd": (Book.shelf + Book.author_id) % 2},
            [Book.shelf, Book.author_id],
            tuple,
            groups,
        ),
        Statement(
            "union",
            union,
            {"name": columns.name, "lower": func.lower(columns.name), "not": ~(columns.id > 3)},
            [columns.kind, columns.id],
            tuple,
            select(union_rows),
            ordered=lambda key: (
                union_rows.corresponding_column(key)
                if union_rows.corresponding_column(key) is not None
                else {
                    "lower": func.lower(union_rows.c.name),
                }.get(getattr(key, "name", ""), ~(union_rows.c.id > 3))
            ),
            options={"tie": (columns.kind, columns.id)},
        ),
        Statement(
            "limited",
            limited,
            _book_keys(),
            [Book.id],
            by_id,
            select(Book).where(Book.id.in_(select(chosen.c.id))),
        ),
        Statement(
            "derived",
            select(derived),
            {
                "title": derived.c.title,
                "score": derived.c.score,
                "lower": func.lower(derived.c.title),
            },
            [derived.c.id],
            by_id,
            select(derived),
            options={"tie": derived.c.id},
        ),
        Statement(
            "self join",
            select(Author, mentor).outerjoin(mentor, Author.mentor),
            {"name": Author.name, "mentor": mentor.name, "low": func.lower(mentor.name)},
            [Author.id],
            lambda row: row[0].id,
            select(Author, mentor).outerjoin(mentor, Author.mentor),
        ),
        Statement(
            "composite key",
            Reading,
            {"stars": Reading.stars, "reader": Reading.reader, "good": ~(Reading.stars > 1)},
            [Reading.book_id, Reading.reader],
            lambda row: (row.book_id, row.reader),
            select(Reading),
            deletable=Reading.__table__,
        ),
        Statement(
            "books",
            Book,
            _book_keys(),
            [Book.id],
            by_id,
            select(Book),
            filters=_book_filters(),
            narrow=lambda: and_(Book.shelf < number, Book.tags.any(Tag.id <= number)),
        ),
    ]


class Walk:
    """One random walk over one list."""

    def __init__(self, session: Session, r: random.Random, statement: Statement) -> None:
        self.session, self.r, self.statement = session, r, statement
        self.pages = 0
        chosen = r.sample(list(statement.keys), min(len(statement.keys), r.randrange(1, 4)))
        self.order = [(name, r.random() < 0.5) for name in chosen]
        self.nulls = {name: r.choice([None, None, "first", "last"]) for name in chosen}
        picked = r.sample(list(statement.filters), min(len(statement.filters), r.randrange(2)))
        options = dict(statement.options)
        self.listing: Listing[Any] = Listing(
            statement.source,
            sort=SortAllowlist(
                {
                    name: SortKey(key, nulls=self.nulls.get(name))
                    for name, key in statement.keys.items()
                },
                default=chosen[0],
                tiebreaker=options.pop("tie", None),
            ),
            filter=FilterAllowlist({name: one[0] for name, one in statement.filters.items()}),
            max_per_page=100,
            **options,
        )
        self.args = {"sort": ",".join(("-" if down else "") + name for name, down in self.order)}
        reference = statement.reference
        self.narrowed: Any = None
        if statement.narrow is not None and r.random() < 0.4:
            self.narrowed = self.listing.statement.where(statement.narrow())
            reference = reference.where(statement.narrow())
        for name in picked:
            _, args, change = statement.filters[name]
            self.args |= args
            reference = change(reference)
        self.rows = self._read(reference)
        self.where = {row: place for place, row in enumerate(self.rows)}
        self.alive = set(self.rows)

    def __str__(self) -> str:
        return f"{self.statement.kind} {self.args} nulls={self.nulls} narrowed={self.narrowed}"

    def _read(self, reference: Any) -> list[Any]:
        if reference._distinct:
            # ORDER BY of a DISTINCT statement may have what is selected only.
            keys = reference.with_only_columns(Book.id).subquery()
            reference = select(Book).where(Book.id.in_(select(keys.c.id)))
        clauses: list[Any] = []
        for name, down in self.order:
            key = self.statement.ordered(self.statement.keys[name])
            placed = self.nulls[name]
            if placed is not None:
                first = 0 if placed == "first" else 1
                clauses.append(case((key.is_(None), first), else_=1 - first))
            clauses.append(key.desc() if down else key.asc())
        last = self.order[-1][1]
        for tie in self.statement.ties:
            one = self.statement.ordered(tie)
            clauses.append(one.desc() if last else one.asc())
        found = self.session.execute(reference.order_by(*clauses)).unique().all()
        one_each = len(found[0]) == 1 if found else True
        return [self.statement.identify(row[0] if one_each else row) for row in found]

    def go(self) -> int:
        """Walk; return how many pages were read.

        Raises:
            LawBroken: A page is wrong.
        """
        place, backward, cursor = 0, False, None
        for _ in range(self.r.randrange(4, 20)):
            size = self.r.choice([1, 2, 3, 5, 9])
            args = self.args | {"per_page": str(size)} | ({"cursor": cursor} if cursor else {})
            page = self.listing.paginate_keyset(
                self.narrowed, args=args, session=self.session, secret=SECRET
            )
            self.pages += 1
            before = [row for row in self.rows[:place] if row in self.alive]
            after = [row for row in self.rows[place:] if row in self.alive]
            expected = before[-size:] if backward else after[:size]
            got = [self.statement.identify(item) for item in page.items]
            self._same("page", got, expected)
            low, high = (self.where[got[0]], self.where[got[-1]] + 1) if got else (place, place)
            flags = (
                any(row in self.alive for row in self.rows[:low]),
                any(row in self.alive for row in self.rows[high:]),
            )
            self._same("has_prev, has_next", (page.has_prev, page.has_next), flags)
            self._delete(got)
            if self.r.random() < 0.3:
                self._by_number(size)
            step = self.r.random()
            if page.next_cursor and step < 0.6:
                cursor, backward, place = page.next_cursor, False, high
            elif page.prev_cursor and step < 0.9:
                cursor, backward, place = page.prev_cursor, True, low
            else:
                cursor, backward, place = None, False, 0
                last = page.links["last"]
                if last is not None and step > 0.95:
                    cursor, backward, place = page._last_cursor(), True, len(self.rows)
        return self.pages

    def _by_number(self, size: int) -> None:
        now = [row for row in self.rows if row in self.alive]
        number = self.r.randrange(1, 5)
        page = self.listing.paginate(
            self.narrowed,
            page=number,
            args=self.args | {"per_page": str(size)},
            session=self.session,
        )
        self.pages += 1
        got = [self.statement.identify(item) for item in page.items]
        self._same("numbered page", got, now[(number - 1) * size : number * size])
        self._same("total", page.total, len(now))

    def _delete(self, shown: list[Any]) -> None:
        table = self.statement.deletable
        if table is None or not self.alive or self.r.random() > 0.15:
            return
        gone = self.r.choice(shown or sorted(self.alive))
        values = gone if isinstance(gone, tuple) else (gone,)
        keys = zip(table.primary_key.columns, values, strict=True)
        self.session.execute(delete(table).where(*(key == value for key, value in keys)))
        self.session.commit()
        self.alive.discard(gone)

    def _same(self, what: str, got: object, expected: object) -> None:
        if got != expected:
            raise LawBroken(f"{what} of {self}: got {got}, right is {expected} of {self.rows}")


def run(session: Session, pages: int, seed: int) -> dict[str, int]:
    """Walk until so many pages were read.

    Args:
        session: On a database that may be emptied.
        pages: How many.
        seed: Of the random numbers.

    Returns:
        How many pages were read of each kind of statement.

    Raises:
        LawBroken: A page is wrong.
        PlanError: A list was refused, and none of these may be.
    """
    r = random.Random(seed)
    Base.metadata.create_all(session.connection())
    seen: dict[str, int] = {}
    total = 0
    while total < pages:
        fill(session, r)
        for statement in r.sample(statements(r), 7):
            read = Walk(session, r, statement).go()
            seen[statement.kind] = seen.get(statement.kind, 0) + read
            total += read
    return seen


def main() -> int:
    """Run the law from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("urls", nargs="*", default=["sqlite://"], metavar="URL")
    parser.add_argument("--pages", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for url in asked.urls:
        engine = create_engine(url)
        with Session(engine) as session:
            print(engine.dialect.name, run(session, asked.pages, asked.seed))
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
