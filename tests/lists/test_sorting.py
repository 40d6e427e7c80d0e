"""Sort allowlists: what is understood, what is refused, what is sent."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, literal, select, union
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, aliased, joinedload

from flask_dbkit import Filter, FilterAllowlist, PlanError, QueryError, SortAllowlist, SortKey
from tests.lists.catalog import Author, Book, Reading, fill_books

SORT = SortAllowlist(
    {"title": Book.title, "added": Book.added, "shelf": Book.shelf, "score": Book.score},
    default="-added",
)


def order_of(statement: Any, dialect: Any = None) -> str:
    text = str(statement.compile(dialect=dialect or sqlite.dialect()))
    return " ".join(text.rpartition("ORDER BY ")[2].split())


def codes(text: str | None, direction: str | None = None, sort: SortAllowlist = SORT) -> list[str]:
    with pytest.raises(QueryError) as caught:
        sort.apply(select(Book), text, direction=direction)
    return [error["code"].removeprefix("query.") for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (None, "book.added DESC, book.id DESC"),
        ("", "book.added DESC, book.id DESC"),
        ("title", "book.title ASC, book.id ASC"),
        ("-added,title", "book.added DESC, book.title ASC, book.id ASC"),
        ("title,-added", "book.title ASC, book.added DESC, book.id DESC"),
    ],
)
def test_text_becomes_an_order_with_the_primary_key_last(text: str | None, order: str) -> None:
    """The tie-breaker goes the way of the last key, so one index serves both directions."""
    assert order_of(SORT.apply(select(Book), text)) == order


def test_the_order_of_the_statement_is_replaced() -> None:
    """Otherwise the client's order would only break ties."""
    assert order_of(SORT.apply(select(Book).order_by(Book.score), "title")).startswith("book.title")


@pytest.mark.parametrize(("direction", "way"), [("asc", "ASC"), ("desc", "DESC")])
def test_a_pair_of_parameters_is_understood(direction: str, way: str) -> None:
    """``sort=added&direction=desc``, as HTML tables often send it."""
    applied = SORT.apply(select(Book), "title", direction=direction)
    assert order_of(applied) == f"book.title {way}, book.id {way}"
    default = SortAllowlist({"title": Book.title}, default="title")
    assert order_of(default.apply(select(Book), direction=direction)).startswith(
        f"book.title {way}"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password", ["unknown_sort"]),
        ("Title", ["unknown_sort"]),
        ("title,-title", ["duplicate_sort"]),
        ("title,,added", ["bad_sort_syntax"]),
        (",", ["bad_sort_syntax", "bad_sort_syntax"]),
        ("--title", ["bad_sort_syntax"]),
        ("-", ["bad_sort_syntax"]),
        (" title", ["bad_sort_syntax"]),
        ("title ", ["bad_sort_syntax"]),
        ("+title", ["bad_sort_syntax"]),
        ("title,added,shelf,score", ["too_many_sorts"]),
        ("nope,title,title", ["unknown_sort", "duplicate_sort"]),
    ],
)
def test_what_is_not_offered_is_refused(text: str, expected: list[str]) -> None:
    """Each mistake has its code, and all of one text come together."""
    assert codes(text) == expected


def test_a_thousand_mistakes_are_not_a_thousand_errors() -> None:
    """The answer stays small, however long the question."""
    assert len(codes("," * 10_000)) <= 4


@pytest.mark.parametrize(
    ("text", "direction"),
    [("title", "up"), ("title", "DESC"), ("-title", "asc"), ("title,added", "desc")],
)
def test_a_direction_that_does_not_fit_is_refused(text: str, direction: str) -> None:
    """It stands beside one name without a sign."""
    assert codes(text, direction) == ["bad_sort_syntax"]


def test_the_error_names_only_what_is_published() -> None:
    """The client learns the names it may use."""
    with pytest.raises(QueryError) as caught:
        SORT.parse("password")
    assert caught.value.errors == [
        {
            "parameter": "sort",
            "code": "query.unknown_sort",
            "value": "password",
            "allowed": ["title", "added", "shelf", "score"],
        }
    ]


def test_falling_back_silently_is_a_choice() -> None:
    """``on_invalid="default"`` takes the default for every mistake."""
    sort = SortAllowlist({"title": Book.title}, default="-title", on_invalid="default")
    for text, direction in (("nope", None), ("title,title", None), ("title", "up")):
        assert sort.parse(text, direction=direction) == sort.parse()


def test_the_default_may_have_more_keys_than_a_client_may_ask_for() -> None:
    """The limit is for clients. An empty default is the order of the key."""
    sort = SortAllowlist({"a": Book.title, "b": Book.shelf}, default="a,b", max_keys=1)
    assert order_of(sort.apply(select(Book))) == "book.title ASC, book.shelf ASC, book.id ASC"
    assert codes("a,b", sort=sort) == ["too_many_sorts"]
    assert order_of(SortAllowlist({}, default="").apply(select(Book))) == "book.id ASC"


def test_the_primary_key_is_not_sent_twice() -> None:
    """Where the client sorts by it, nothing is appended."""
    sort = SortAllowlist({"id": Book.id}, default="-id")
    assert order_of(sort.apply(select(Book))) == "book.id DESC"


def test_every_column_of_a_composite_key_is_appended() -> None:
    """In the direction of the last key, as ever."""
    sort = SortAllowlist({"stars": Reading.stars}, default="-stars")
    order = "reading.stars DESC, reading.book_id DESC, reading.reader DESC"
    assert order_of(sort.apply(select(Reading))) == order


def test_a_tiebreaker_replaces_the_primary_key() -> None:
    """For a key of one's own, or where there is none."""
    sort = SortAllowlist({"s": Book.shelf}, default="s", tiebreaker=(Book.title, Book.added))
    assert order_of(sort.apply(select(Book))) == "book.shelf ASC, book.title ASC, book.added ASC"


@pytest.mark.parametrize(
    ("nulls", "sign", "postgres", "maria"),
    [
        (None, "", "book.score ASC", "book.score ASC"),
        ("first", "", "book.score ASC NULLS FIRST", "book.score ASC"),
        ("last", "", "book.score ASC NULLS LAST", "book.score IS NULL, book.score ASC"),
        ("first", "-", "book.score DESC NULLS FIRST", "book.score IS NULL DESC, book.score DESC"),
        ("last", "-", "book.score DESC NULLS LAST", "book.score DESC"),
    ],
)
def test_nulls_are_placed_on_every_database(
    nulls: Any, sign: str, postgres: str, maria: str
) -> None:
    """MariaDB has no NULLS LAST; its own order is left alone, for the index."""
    sort = SortAllowlist({"score": SortKey(Book.score, nulls=nulls)}, default=f"{sign}score")
    applied = sort.apply(select(Book))
    assert order_of(applied, postgresql.dialect()).startswith(postgres + ", book.id")
    assert order_of(applied, mysql.dialect()).startswith(maria + ", book.id")


def test_a_placement_is_not_sent_for_a_column_without_nulls() -> None:
    """It would only cost the index."""
    sort = SortAllowlist({"title": SortKey(Book.title, nulls="last")}, default="title")
    assert "NULLS" not in order_of(sort.apply(select(Book)))


def test_a_sorted_statement_runs_everywhere(session: Session) -> None:
    """Unions, limits, joined loading: still one total order."""
    fill_books(session)
    placed = SortAllowlist({"score": SortKey(Book.score, nulls="last")}, default="-score")
    books = session.scalars(placed.apply(select(Book))).all()
    assert [b.score is None for b in books] == sorted(b.score is None for b in books)
    loaded = placed.apply(select(Book).options(joinedload(Book.tags)).limit(5))
    assert session.scalars(loaded).unique().all() == books[:5]
    both = union(select(Author.name.label("n")), select(Book.title))
    named = SortAllowlist({"n": both.selected_columns.n}, default="n")
    found = session.scalars(named.apply(both)).all()
    assert len(found) == len(set(found)) > 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"default": "nope"},
        {"default": "title,title"},
        {"default": "title", "max_keys": 0},
        {"default": "title", "on_invalid": "ignore"},
        {"default": "title", "tiebreaker": ()},
    ],
)
def test_wrong_arguments_are_found_at_import(arguments: dict[str, Any]) -> None:
    """No request is needed to find them."""
    with pytest.raises(ValueError):
        SortAllowlist({"title": Book.title}, **arguments)


@pytest.mark.parametrize("name", ["", "-a", "+a", "a,b", "a b", 1, "a&b"])
def test_names_that_no_client_could_send_are_refused(name: Any) -> None:
    """A comma or a sign means something else."""
    with pytest.raises(ValueError, match="cannot be a sort name"):
        SortAllowlist({name: Book.title}, default="")


@pytest.mark.parametrize("entry", ["title", 5, None, object()])
def test_entries_that_are_no_expression_are_refused(entry: Any) -> None:
    """Text fails only when it is compiled, or is sent as it is."""
    with pytest.raises(TypeError):
        SortAllowlist({"title": entry}, default="title")
    with pytest.raises(TypeError):
        SortAllowlist({"title": Book.title}, default="title", tiebreaker=entry or "x")


def test_a_sort_key_checks_its_arguments() -> None:
    """The words are few."""
    with pytest.raises(ValueError, match="'first' or 'last'"):
        SortKey(Book.title, nulls="top")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SortKey(Book.title, nullable="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SortAllowlist({"t": Book.title}, default=None)  # type: ignore[arg-type]


def test_rows_without_a_known_key_need_a_tiebreaker() -> None:
    """An order that is not total would lose rows."""
    sort = SortAllowlist({"kind": literal("x").label("kind")}, default="kind")
    with pytest.raises(PlanError, match="tiebreaker"):
        sort.apply(select(func.generate_series(1, 3).table_valued("n")))


def test_an_alias_is_sorted_by_its_own_key() -> None:
    """The tie-breaker is that of the listed alias."""
    other = aliased(Author, name="other")
    sort = SortAllowlist({"name": other.name}, default="name")
    assert order_of(sort.apply(select(other))) == "other.name ASC, other.id ASC"


def test_an_allowlist_shows_its_names() -> None:
    """For the debugger."""
    assert repr(SORT) == "SortAllowlist(title, added, shelf, score, default='-added')"
    assert [term.text for term in SORT.parse("-title,shelf")] == ["-title", "shelf"]


def test_a_list_of_columns_publishes_them_by_their_own_names() -> None:
    """Whatever can be gone through once, and the same for filters."""
    columns = [Book.title, SortKey(Book.score, nulls="last")]
    for given in (columns, tuple(columns), iter(columns)):
        assert list(SortAllowlist(given, default="-score").entries) == ["title", "score"]
    assert list(FilterAllowlist([Filter(Book.title, ops="eq"), Book.score]).entries) == [
        "title",
        "score",
    ]
