"""The law of pages: joined, they are the list. Nothing is lost, nothing comes twice."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    case,
    collate,
    event,
    func,
    insert,
    literal,
    select,
    union,
    union_all,
)
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from flask_dbkit import Filter, FilterAllowlist, Listing, SortAllowlist, SortKey

from .catalog import (
    KEY_TYPES,
    Author,
    Base,
    Book,
    Reading,
    Sample,
    Tag,
    assert_walks,
    fill_books,
    fill_samples,
    read,
    walk_forward,
)

# The two kinds of SQLite differ in connections only.
pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


@pytest.fixture(scope="module")
def filled(shared_engine: Engine) -> Engine:
    with Session(shared_engine) as writer:
        fill_books(writer)
        fill_samples(writer)
    return shared_engine


@pytest.fixture
def session(filled: Engine) -> Iterator[Session]:
    """Reads books and samples; what it writes is rolled back."""
    with Session(filled) as made:
        yield made


@pytest.fixture
def fresh(engine: Engine) -> Iterator[Session]:
    """Writes, on a database of its own."""
    with Session(engine) as made:
        yield made


SAMPLES = Listing(
    Sample,
    sort=SortAllowlist(
        {
            name: SortKey(getattr(Sample, column), nulls=nulls)
            for type_ in KEY_TYPES
            for column in (type_, f"{type_}_or_null")
            for name, nulls in (
                (column, None),
                (f"{column}.first", "first"),
                (f"{column}.last", "last"),
            )
        },
        default="integer",
    ),
    max_per_page=100,
)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_key_type_is_walked_exactly_in_every_direction(
    session: Session, key_type: str
) -> None:
    """What a cursor carries is what the database compares, whatever the type."""
    for sign, size in itertools.product(("", "-"), (3, 16)):
        assert_walks(SAMPLES, session, f"{sign}{key_type}", size)
    for nulls, sign in itertools.product(("", ".first", ".last"), ("", "-")):
        assert_walks(SAMPLES, session, f"{sign}{key_type}_or_null{nulls}", 2)


def test_every_mix_of_directions_and_nulls_is_walked_exactly(session: Session) -> None:
    """Several keys, each in its own direction, with NULLs in the first, a later one or all."""
    sizes = itertools.cycle((2, 7, 15, 16, 3))  # each meets every direction
    columns = ("boolean", "mood_or_null", "day_or_null.first")
    for pair in itertools.permutations(columns, 2):
        for signs in itertools.product(("", "-"), repeat=2):
            text = ",".join(sign + name for sign, name in zip(signs, pair, strict=True))
            assert_walks(SAMPLES, session, text, next(sizes))


BOOKS = Listing(
    select(Book).join(Book.author).outerjoin(Book.editor.of_type(editor := aliased(Author))),
    sort=SortAllowlist(
        {
            "title": Book.title,
            "shelf": Book.shelf,
            "score": Book.score,
            "added": Book.added,
            "author": Author.name,
            "editor": editor.name,
            "weight": Book.weight,
            "lower": func.lower(Book.title),
            "case": case((Book.shelf == 2, 0), else_=1),
            "tags": select(func.count()).where(Book.tags.any()).correlate(Book).scalar_subquery(),
            "many": select(func.count(Reading.reader))
            .where(Reading.book_id == Book.id)
            .correlate(Book)
            .scalar_subquery(),
            "id": Book.id,
        },
        default="-added",
    ),
    filter=FilterAllowlist({"shelf": Filter(Book.shelf, ops="in gte"), "author": Author.name}),
)


@pytest.mark.parametrize(
    "sort",
    [
        "",
        "id",
        "-id",
        "title",
        "-title,shelf",
        "author,-editor",
        "-editor,author,title",
        "weight,-score",
        "-lower,id",
        "case,-added",
        "-many,title",
        "-score,-shelf,-added",
    ],
)
def test_joins_aliases_hybrids_and_expressions_are_walked_exactly(
    session: Session, sort: str
) -> None:
    """A key may be anything that has one value per row of the list."""
    # Around the number of rows there is nothing that depends on the key.
    for size in (3, 41) if sort else (3, 20, 40, 41, 42):
        assert_walks(BOOKS, session, sort, size)


def test_filters_and_pages_go_together(session: Session) -> None:
    """A cursor continues in the same filtered list."""
    for size in (1, 3, 10):
        assert_walks(BOOKS, session, "-score,title", size, shelf__in="1,2", author="Ann")


def test_composite_primary_keys_break_ties(session: Session) -> None:
    """All columns of the key are appended, not only the first."""
    readings = Listing(
        Reading,
        sort=SortAllowlist({"stars": Reading.stars, "reader": Reading.reader}, default="stars"),
    )
    for sort, size in itertools.product(("", "-stars", "reader", "-reader,stars"), (1, 3, 7)):
        assert_walks(readings, session, sort, size, key=lambda one: (one.book_id, one.reader))


def test_aggregates_with_group_by_are_walked_exactly(session: Session) -> None:
    """A key may be computed per group, beside columns or a whole entity."""
    count = func.count(Book.id).label("count")
    rows = Listing(
        select(Book.shelf, Book.author_id, count).group_by(Book.shelf, Book.author_id),
        sort=SortAllowlist({"count": count, "shelf": Book.shelf}, default="-count"),
        filter=FilterAllowlist({"count": Filter(count, ops="gte"), "shelf": Filter(Book.shelf)}),
    )
    entities = Listing(
        select(Author, count)
        .outerjoin(Author.books)
        .group_by(Author.id, Author.name, Author.mentor_id),
        sort=SortAllowlist({"count": count, "name": Author.name}, default="-count"),
        filter=FilterAllowlist({"count": Filter(count, ops="gte", type=int)}),
    )
    for sort, size in itertools.product(("", "shelf", "-shelf,count"), (1, 4)):
        assert_walks(rows, session, sort, size, key=tuple)
        assert_walks(rows, session, sort, size, key=tuple, count__gte="2", shelf="1")
    for sort, size in itertools.product(("", "name,-count", "count"), (1, 4)):
        assert_walks(entities, session, sort, size, key=lambda row: row.Author.id)
        assert_walks(entities, session, sort, size, key=lambda row: row.Author.id, count__gte="4")


def test_grouping_by_an_expression_with_values_is_walked_exactly(session: Session) -> None:
    """Bound values inside a grouped expression are the same group in every clause."""
    kind = case((Book.shelf < 2, "low"), else_="high").label("kind")
    listing = Listing(
        select(kind, Book.author_id, func.max(Book.score).label("best")).group_by(
            "kind", Book.author_id
        ),
        sort=SortAllowlist({"kind": kind}, default="-kind", tiebreaker=Book.author_id),
    )
    for size in (1, 3, 5):
        # Two kinds of each author: the pair is unique.
        assert_walks(listing, session, "-kind", size, key=lambda row: (row.kind, row.author_id))


def test_unions_are_walked_exactly(session: Session) -> None:
    """A union is listed like a table, by the columns of its first part."""
    one = select(Book.title.label("name"), Book.shelf.label("number"))
    other = select(Author.name, Author.id)
    distinct_rows = Listing(
        union(one, other),
        sort=SortAllowlist({"name": one.selected_columns.name}, default="name"),
    )
    kinds = union_all(
        select(literal("book").label("kind"), Book.id.label("id"), Book.title.label("name")),
        select(literal("author"), Author.id, Author.name),
    )
    first = kinds.selected_columns
    every_row = Listing(
        kinds,
        sort=SortAllowlist(
            {"name": first.name, "kind": first.kind},
            default="-name",
            tiebreaker=(first.kind, first.id),
        ),
        filter=FilterAllowlist({"kind": Filter(first.kind, type=str)}),
    )
    for size in (1, 3, 20):
        assert_walks(distinct_rows, session, "", size, key=tuple)
        assert_walks(every_row, session, "-kind,name", size, key=lambda row: (row.kind, row.id))
        assert_walks(every_row, session, "", size, key=lambda row: row.id, kind="author")


def test_distinct_rows_stay_distinct(session: Session) -> None:
    """A page of DISTINCT rows has as many rows as it says, and each once."""
    shelves = Listing(
        select(Book.shelf).distinct(), sort=SortAllowlist({"shelf": Book.shelf}, default="-shelf")
    )
    pairs = Listing(
        select(Book.shelf, Book.title).distinct(),
        sort=SortAllowlist({"shelf": Book.shelf, "title": Book.title}, default="shelf"),
    )
    authors = Listing(
        select(Author).join(Author.books).where(Book.shelf > 0).distinct(),
        sort=SortAllowlist({"name": Author.name}, default="name"),
    )
    for size in (1, 2, 3, 10):
        assert assert_walks(shelves, session, "", size, key=lambda one: one) == [3, 2, 1, 0]
        assert_walks(pairs, session, "-title", size, key=tuple)
        assert_walks(authors, session, "-name", size)


def test_a_limited_statement_keeps_its_limit(session: Session) -> None:
    """LIMIT belongs to the statement: pages divide its rows, and add none."""
    best = Listing(
        select(Book).join(Book.author).order_by(Book.score.desc(), Book.id).limit(15),
        sort=SortAllowlist({"title": Book.title, "author": Author.name}, default="title"),
        filter=FilterAllowlist({"shelf": Filter(Book.shelf)}),
    )
    rows = Listing(
        select(Book.id, Book.title).order_by(Book.id).offset(3).limit(15),
        sort=SortAllowlist({"title": Book.title}, default="title", tiebreaker=Book.id),
    )
    for size in (1, 4, 20):
        assert len(assert_walks(best, session, "-author", size)) == 15
        assert len(assert_walks(rows, session, "-title", size)) == 15
    few = assert_walks(best, session, "title", 4, shelf="1")
    assert 0 < len(few) < 15


def test_pairs_of_a_join_are_rows(session: Session) -> None:
    """Selecting both sides of a to-many join lists pairs, told apart by both keys."""
    pairs = Listing(
        select(Author, Book).join(Author.books),
        sort=SortAllowlist({"name": Author.name, "shelf": Book.shelf}, default="name"),
    )
    titles = Listing(
        select(Author.name, Book.title, Book.id).join(Author.books),
        sort=SortAllowlist({"name": Author.name}, default="-name"),
    )
    for size in (1, 5, 20):
        assert_walks(pairs, session, "-shelf,name", size, key=lambda row: (row[0].id, row[1].id))
        assert_walks(titles, session, "", size, key=lambda row: row.id)


def test_a_self_join_through_an_alias_is_walked_exactly(session: Session) -> None:
    """Keys may be columns of an alias of the listed table."""
    mentor = aliased(Author, name="mentor")
    listing = Listing(
        select(Author).outerjoin(mentor, Author.mentor),
        sort=SortAllowlist({"mentor": mentor.name, "name": Author.name}, default="mentor"),
    )
    other_way = aliased(Author)
    of_alias = Listing(
        select(other_way), sort=SortAllowlist({"name": other_way.name}, default="-name")
    )
    for sort, size in itertools.product(("", "-mentor,name", "name,-mentor"), (1, 3)):
        assert_walks(listing, session, sort, size)
    assert_walks(of_alias, session, "name", 2)


def test_a_subquery_with_one_row_per_entity_may_be_joined(session: Session) -> None:
    """Counts from a grouped subquery do not repeat anything."""
    counts = select(Book.author_id, func.count().label("n")).group_by(Book.author_id).subquery()
    listing = Listing(
        select(Author).outerjoin(counts, counts.c.author_id == Author.id),
        sort=SortAllowlist({"books": counts.c.n}, default="-books"),
    )
    for sort, size in itertools.product(("books", "-books"), (1, 3)):
        assert_walks(listing, session, sort, size)


@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_eager_collections_neither_shorten_nor_repeat_a_page(session: Session, load) -> None:
    """Loading a collection beside its parents leaves the pages as they are."""
    listing = Listing(
        select(Book).options(load(Book.tags), load(Book.author)),
        sort=SortAllowlist({"title": Book.title}, default="-title"),
    )
    for size in (1, 10, 20):
        assert_walks(listing, session, "", size)
    session.expire_all()
    page = read(listing, session, per_page="10")
    full = {book.id: {tag.id for tag in book.tags} for book in page.items}
    assert len(full) == 10
    for number, tags in full.items():
        joined = select(Tag.id).join(Book.tags).where(Book.id == number)
        assert tags == set(session.scalars(joined))


def test_a_statement_that_repeats_its_entity_lists_each_once_on_request(session: Session) -> None:
    """``unique=True`` lists the entities that match at all, each once, with whole pages."""
    listing = Listing(
        select(Author).join(Author.books).where(Book.shelf > 0).options(joinedload(Author.books)),
        sort=SortAllowlist({"name": Author.name}, default="name"),
        unique=True,
    )
    composite = Listing(
        select(Reading).join(Book, Book.shelf >= Reading.stars),
        sort=SortAllowlist({"stars": Reading.stars}, default="stars"),
        unique=True,
    )
    matching = set(session.scalars(select(Book.author_id).where(Book.shelf > 0)))
    for size in (1, 2, 3):
        assert set(assert_walks(listing, session, "-name", size)) == matching
    assert_walks(composite, session, "", 7, key=lambda one: (one.book_id, one.reader))


def test_a_filter_with_exists_never_repeats_rows(session: Session) -> None:
    """A callable adds its criterion to the statement, and the cursor belongs to its value."""

    def by_tag(statement, value):
        return statement.where(Book.tags.any(Tag.id == value))

    listing = Listing(
        Book,
        sort=SortAllowlist({"title": Book.title}, default="title"),
        filter=FilterAllowlist({"tag": Filter(by_tag, type=int), "shelf": Book.shelf}),
    )
    for size in (1, 3, 10):
        found = assert_walks(listing, session, "", size, tag="2", shelf__in="0,1,2")
    assert found


@pytest.mark.requires("several_connections")
def test_no_survivor_is_missed_or_repeated_while_rows_come_and_go(
    fresh: Session, engine: Engine
) -> None:
    """Rows written before and deleted behind the place of the cursor change nothing ahead."""
    fill_books(fresh)
    fresh.close()
    r = random.Random(11)
    numbers = itertools.count(1000)
    for sort in ("title", "-added,score", "-score", "score,-title"):
        with Session(engine) as reader:
            alive = set(reader.scalars(select(Book.id)))
        before, seen, cursor = set(alive), [], None
        while True:
            args = {"sort": sort, "per_page": "4"} | ({"cursor": cursor} if cursor else {})
            with Session(engine) as reader:
                page = read(BOOKS, reader, **args)
                seen += [book.id for book in page.items]
                cursor = page.next_cursor
            if cursor is None:
                break
            with Session(engine) as writer:
                gone = writer.get(Book, r.choice(sorted(alive)))
                if gone is not None:
                    alive.discard(gone.id)
                    for reading in writer.scalars(select(Reading).filter_by(book_id=gone.id)):
                        writer.delete(reading)
                    writer.flush()
                    writer.delete(gone)
                template = writer.get_one(Book, min(alive))
                writer.add(
                    Book(
                        id=next(numbers),
                        title=r.choice(["sea", "zoo", ""]),
                        shelf=1,
                        score=r.choice([None, 0, 9]),
                        added=template.added,
                        author_id=1,
                    )
                )
                writer.commit()
        assert set(seen) >= before & alive
        assert len(set(seen)) == len(seen)


def test_what_a_session_has_not_written_moves_no_page(session: Session) -> None:
    """A cursor holds what the database has, and not what an attribute was changed to."""
    sizes = {"sort": "title", "per_page": "5"}
    cursors = [page.next_cursor for page in walk_forward(BOOKS, session, **sizes)]
    with session.no_autoflush:
        for book in session.scalars(select(Book)).all():
            book.id, book.title = book.id + 1000, "changed"
        assert [page.next_cursor for page in walk_forward(BOOKS, session, **sizes)] == cursors
    session.rollback()


def test_a_number_in_the_primary_key_is_not_read_twice(session: Session) -> None:
    """The object is identified by it. What a driver converts is read beside the row."""
    readings = Listing(Reading, sort=SortAllowlist({"stars": Reading.stars}, default="stars"))
    read(BOOKS, session, per_page="3")  # asks the database what the computed keys are, once
    sent: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *a: sent.append(a[2]))
    read(BOOKS, session, sort="title", per_page="3")
    read(readings, session, per_page="3")
    assert "book.title AS dbkit_key0 \n" in sent[0]
    assert "reading.stars AS dbkit_key0, reading.reader AS dbkit_key1 \n" in sent[1]


def test_the_neighbours_are_exact_after_deletions(fresh: Session) -> None:
    """``has_next`` and ``has_prev`` tell what is there now, and an empty page leads back."""
    fill_books(fresh, books=9)
    fresh.query(Reading).delete()
    first, second, third = walk_forward(BOOKS, fresh, sort="id", per_page="3")
    for book in third.items:
        fresh.delete(book)
    fresh.flush()
    again = read(BOOKS, fresh, sort="id", per_page="3", cursor=first.next_cursor)
    assert not again.has_next
    empty = read(BOOKS, fresh, sort="id", per_page="3", cursor=second.next_cursor)
    assert (empty.items, empty.has_next, empty.has_prev) == ([], False, True)
    back = read(BOOKS, fresh, sort="id", per_page="3", cursor=empty.prev_cursor)
    assert [book.id for book in back.items] == [4, 5, 6]
    assert (back.has_next, back.has_prev) == (False, True)
    for book in first.items:
        fresh.delete(book)
    fresh.flush()
    start = read(BOOKS, fresh, sort="id", per_page="3", cursor=second.prev_cursor)
    assert (start.items, start.has_prev, start.has_next) == ([], False, True)
    onward = read(BOOKS, fresh, sort="id", per_page="3", cursor=start.next_cursor)
    assert [book.id for book in onward.items] == [4, 5, 6]


def test_the_last_link_reads_the_end_of_the_list(session: Session) -> None:
    """The last rows are one cursor away, in order, whatever page they would be on."""
    first = read(BOOKS, session, sort="-score,id", per_page="5")
    end = read(BOOKS, session, sort="-score,id", per_page="5", cursor=first._last_cursor())
    everything = BOOKS.paginate(args={"sort": "-score,id", "per_page": "100"}, session=session)
    assert [book.id for book in end.items] == [book.id for book in everything.items[-5:]]
    assert (end.has_next, end.has_prev) == (False, True)


@pytest.mark.parametrize("order", [None, "-score,title"])
def test_iterating_in_batches_reads_every_row_once(session: Session, order: str | None) -> None:
    """Batches are the list, cut: none empty, none longer than asked for."""
    expected = BOOKS.paginate(args={"sort": order or "", "per_page": "100"}, session=session).items
    for batch in (1, 7, 41, 1000):
        found = list(BOOKS.iterate(batch=batch, order=order, session=session))
        assert [book for part in found for book in part] == expected
        assert all(0 < len(part) <= batch for part in found)
    none = BOOKS.iterate(BOOKS.statement.where(Book.id < 0), session=session)
    assert list(none) == []


@pytest.mark.backends("sqlite-file", "postgresql")
def test_collations_decide_equality_and_order_alike(session: Session) -> None:
    """What a collation takes for equal is a tie, on pages as in the order."""
    name = "NOCASE" if session.get_bind().dialect.name == "sqlite" else "en-US-x-icu"
    listing = Listing(
        Book,
        sort=SortAllowlist(
            {"title": SortKey(collate(Book.title, name), nullable=False)}, default="title"
        ),
    )
    for sort, size in itertools.product(("title", "-title"), (1, 4)):
        assert_walks(listing, session, sort, size)


def test_a_long_run_of_equal_keys_is_walked_exactly(fresh: Session) -> None:
    """More than a thousand rows of one key end, and so does the walk through them."""
    fill_books(fresh, books=1)
    rows = [
        {"id": n, "title": "same", "shelf": 1, "score": None if n % 2 else 3, "author_id": 1}
        | {"added": datetime(2026, 1, 1, tzinfo=UTC)}
        for n in range(2, 1_501)
    ]
    fresh.execute(insert(Book), rows)
    for sort in ("-title", "score,-shelf"):
        seen = [
            book.id
            for page in walk_forward(BOOKS, fresh, sort=sort, per_page="100", shelf__in="1")
            for book in page.items
        ]
        assert sorted(seen) == sorted(set(seen))
        assert len(seen) >= 1_499


@pytest.mark.backends("mariadb")
def test_a_collation_that_ignores_case_and_spaces_makes_ties(session: Session) -> None:
    """'a', 'A', 'ä' and 'a ' are one value there, and every emoji is like any other."""
    words = Table(
        "words",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("word", String(20, collation="utf8mb4_general_ci")),
    )
    words.create(session.connection())
    texts = ["a", "A", "ä", "a ", "b", "😀", "🦊", "", " ", "B", "z"]
    session.execute(words.insert(), [{"id": n, "word": w} for n, w in enumerate(texts * 3, 1)])
    listing = Listing(words, sort=SortAllowlist({"word": words.c.word}, default="word"))
    for sort, size in itertools.product(("word", "-word"), (1, 4)):
        assert len(assert_walks(listing, session, sort, size)) == 33


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_order_of_any_rows_is_walked_exactly(fresh: Session, data: st.DataObject) -> None:
    """The law again, for orders, NULLs and page sizes nobody thought of."""
    fresh.rollback()
    Base.metadata.create_all(fresh.connection())
    fresh.execute(Sample.__table__.delete())
    fill_samples(fresh, rows=data.draw(st.integers(0, 12)), seed=data.draw(st.integers(0, 10**6)))
    names = data.draw(
        st.lists(st.sampled_from(list(SAMPLES.sort.entries)), min_size=1, max_size=3, unique=True)
    )
    text = ",".join(data.draw(st.sampled_from(["", "-"])) + name for name in names)
    assert_walks(SAMPLES, fresh, text, data.draw(st.integers(1, 13)))
