"""Listings in an application: query string in, page out, whatever the client sends."""

from __future__ import annotations

import gc
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, render_template_string, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    Engine,
    ForeignKey,
    String,
    Text,
    cast,
    collate,
    func,
    select,
    type_coerce,
)
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    deferred,
    joinedload,
    mapped_column,
    relationship,
)
from werkzeug.exceptions import BadRequest

from flask_dbkit import (
    ConfigError,
    DBKit,
    Filter,
    FilterAllowlist,
    Listing,
    OffsetPage,
    PlanError,
    QueryError,
    SortAllowlist,
    SortKey,
    declarative_base,
    paginate,
    paginate_keyset,
)
from flask_dbkit.lists.current import declared_listings
from flask_dbkit.models import BaseMixin
from flask_dbkit.pagination import Keyset, Links, Signer
from flask_dbkit.testing import isolated
from tests.lists import catalog

CountQueries = Callable[..., AbstractContextManager[list[Any]]]


class Base(BaseMixin, DeclarativeBase):
    pass


class Owner(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    notes: Mapped[list[Note]] = relationship(back_populates="owner")


class Note(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))
    rank: Mapped[int | None]
    about: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    secret: Mapped[str] = mapped_column(String(9), info={"dbkit": {"private": True}})
    body: Mapped[str] = deferred(mapped_column(String(9)))
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="notes")


SORT = SortAllowlist({"title": Note.title, "rank": Note.rank, "owner": Owner.name}, default="title")
FILTER = FilterAllowlist(
    {
        "title": Filter(Note.title, ops="eq icontains startswith"),
        "rank": Filter(Note.rank, ops="eq gte lte in isnull"),
        "owner": Owner.name,
    }
)
NOTES = Listing(select(Note).join(Note.owner), sort=SORT, filter=FILTER, per_page=10)


@pytest.fixture(scope="module")
def filled(shared_engine: Engine) -> Engine:
    """45 notes of two owners."""
    with Session(shared_engine) as session:
        Base.metadata.create_all(session.connection())
        session.add_all([Owner(id=1, name="Ann"), Owner(id=2, name="Bob")])
        session.flush()
        session.add_all(
            Note(
                id=n,
                title=f"note {n % 7}",
                rank=None if n % 5 == 0 else n,
                about={"n": n},
                secret="hidden",
                body="long",
                owner_id=1 + n % 2,
            )
            for n in range(1, 46)
        )
        session.commit()
    return shared_engine


@pytest.fixture
def app(filled: Engine) -> Iterator[Flask]:
    """An application with 45 notes of two owners; what a test writes is undone."""
    db = SQLAlchemy(model_class=Base)
    app = Flask("dbkit_test_app")
    app.config.update(
        SQLALCHEMY_DATABASE_URI=filled.url, TESTING=True, SECRET_KEY="the key of the tests"
    )
    DBKit(app, db=db)

    @app.get("/notes")
    def notes() -> Any:
        return NOTES.paginate().to_response()

    @app.get("/stream")
    def stream() -> Any:
        return NOTES.paginate_keyset().to_response(lambda note: note.id)

    @app.get("/mine/<int:owner>")
    def mine(owner: int) -> Any:
        narrowed = NOTES.statement.where(Note.owner_id == owner)
        return NOTES.paginate_keyset(narrowed, bind=owner).to_response()

    with app.app_context(), isolated(app):
        yield app


pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
quick = pytest.mark.backends("sqlite-file")


def codes(response: Any) -> list[str]:
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    return [error["code"].removeprefix("query.") for error in response.json["errors"]]


def test_a_page_by_number_has_the_published_shape(app: Flask) -> None:
    """Names of the envelope are fixed: clients are written against them."""
    answer = app.test_client().get("/notes?page=5&sort=-rank,title&tag=a&tag=b%20c")
    assert answer.status_code == 200
    assert answer.json["pagination"] == {
        "kind": "offset",
        "page": 5,
        "per_page": 10,
        "pages": 5,
        "total": 45,
        "total_is_exact": True,
        "has_prev": True,
        "has_next": False,
    }
    kept = "sort=-rank%2Ctitle&tag=a&tag=b+c"
    assert answer.json["links"] == {
        "self": f"/notes?{kept}&page=5",
        "first": f"/notes?{kept}&page=1",
        "prev": f"/notes?{kept}&page=4",
        "next": None,
        "last": f"/notes?{kept}&page=5",
    }
    assert 'rel="next"' not in answer.headers["Link"]
    assert f'</notes?{kept}&page=4>; rel="prev"' in answer.headers["Link"]
    assert answer.headers["X-Total-Count"] == "45"
    assert set(answer.json["items"][0]) == {"id", "title", "rank", "about", "owner_id"}


def test_a_page_by_cursor_has_the_published_shape(app: Flask) -> None:
    """The same envelope, with cursors in place of numbers."""
    client = app.test_client()
    first = client.get("/stream?sort=rank&per_page=20").json
    assert set(first["pagination"]) == {
        *("kind", "per_page", "has_prev", "has_next", "next_cursor", "prev_cursor")
    }
    assert first["pagination"]["kind"] == "keyset"
    assert first["links"]["prev"] is None
    seen, url = list(first["items"]), first["links"]["next"]
    while url:
        page = client.get(url).json
        seen += page["items"]
        url = page["links"]["next"]
    assert sorted(seen) == list(range(1, 46))
    end = client.get(first["links"]["last"]).json
    assert end["items"] == seen[-20:]
    assert client.get(page["links"]["first"]).json == first


def test_links_work_below_a_script_root(app: Flask) -> None:
    """An application mounted below a path links to itself, not to the root."""
    answer = app.test_client().get("/notes", base_url="http://localhost/app/")
    assert answer.json["links"]["next"] == "/app/notes?page=2"


@quick
def test_a_head_request_is_answered_like_a_get_without_the_body(app: Flask) -> None:
    """A client may look at the links and the total alone."""
    client = app.test_client()
    for path in ("/notes?page=2", "/stream?sort=rank"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Link"] == get.headers["Link"]
        assert head.headers.get("X-Total-Count") == get.headers.get("X-Total-Count")
    assert client.head("/notes?page=0").status_code == 400


@quick
def test_links_never_leave_the_host(app: Flask) -> None:
    """A path that begins with two slashes would be another host."""

    @app.get("/<path:anything>")
    def anything(anything: str) -> Any:
        return NOTES.paginate().to_response()

    app.url_map.merge_slashes = False
    answer = app.test_client().get(
        "/", environ_overrides={"PATH_INFO": "//evil.example/\xc3\xa4 b"}
    )
    link = answer.json["links"]["next"]
    assert link == "/evil.example/%C3%A4%20b?page=2"
    assert Links("//evil.example").url(page=2) == "/.//evil.example?page=2"


@quick
def test_every_mistake_of_one_request_is_in_one_answer(
    app: Flask, assert_queries: CountQueries
) -> None:
    """The client repairs all of them at once."""
    path = "/notes?sort=nope&rank=x&page=0&per_page=-1&titl__eq=a&owner=a&owner=b"
    with assert_queries(exact=0):
        answer = app.test_client().get(path)
    assert sorted(codes(answer)) == [
        *("bad_page", "bad_per_page", "bad_value", "repeated_parameter"),
        *("unknown_filter", "unknown_sort"),
    ]
    assert {key: answer.json[key] for key in ("type", "title", "status", "code")} == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "query.invalid",
    }
    assert answer.json["detail"] == "6 parameters were not understood."
    assert set(answer.json["errors"][0]) == {"parameter", "code", "value", "allowed"}


@quick
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("page=0", "bad_page"),
        ("page=-1", "bad_page"),
        ("page=abc", "bad_page"),
        ("page=", "bad_page"),
        ("page=1.5", "bad_page"),
        ("page=1e3", "bad_page"),
        ("page=0x1", "bad_page"),
        ("page=1%00", "bad_page"),
        ("page=%202%20", "bad_page"),
        ("page=%2B2", "bad_page"),
        ("page=%EF%BC%92", "bad_page"),
        ("page=1_0", "bad_page"),
        ("page=%D9%A1%D9%A2", "bad_page"),
        ("page=" + "1" * 4301, "bad_page"),
        ("page=1000000000000000000000000000000", "bad_page"),
        ("page=9223372036854775808", "page_too_deep"),
        ("page=1&page=2", "repeated_parameter"),
        ("per_page=0", "bad_per_page"),
        ("per_page=-5", "bad_per_page"),
        ("per_page=", "bad_per_page"),
        ("per_page=ten", "bad_per_page"),
        ("sort=title&sort=rank", "repeated_parameter"),
        ("sort=rank&direction=down", "bad_sort_syntax"),
        ("page=2&cursor=x", "page_and_cursor"),
    ],
)
def test_each_parameter_is_read_strictly(app: Flask, query: str, expected: str) -> None:
    """No other library of its kind answers all of these with a 400."""
    answer = app.test_client().get(f"/notes?{query}")
    assert expected in codes(answer)


def test_deep_and_empty_pages_are_no_errors(app: Flask) -> None:
    """Past the end there is nothing, and that is said; a 404 only where asked for."""
    client = app.test_client()
    for number in (6, 10**6, 2**62 // 10):
        answer = client.get(f"/notes?page={number}")
        assert (answer.status_code, answer.json["items"]) == (200, [])
        assert answer.json["pagination"]["total"] == 45
        assert not answer.json["pagination"]["has_next"]
    with app.test_request_context("/?page=7"):
        assert NOTES.paginate().items == []
        with pytest.raises(Exception, match="404"):
            NOTES.paginate(error_out=True)


def test_a_page_size_is_never_beyond_the_maximum(app: Flask) -> None:
    """Clamped, whatever number is asked for, or refused where the listing says so."""
    client = app.test_client()
    for size in ("101", "1000000", "9" * 40):
        assert client.get(f"/notes?per_page={size}").json["pagination"]["per_page"] == 100
    strict = Listing(Note, sort=SortAllowlist({}, default=""), max_per_page=5, oversize="error")
    with app.test_request_context("/?per_page=6"), pytest.raises(QueryError):
        strict.paginate()
    with app.test_request_context("/"), pytest.raises(ValueError, match="max_per_page"):
        strict.paginate(per_page=6)
    deep = Listing(Note, sort=SortAllowlist({}, default=""), per_page=20, max_offset=10_000)
    assert deep.paginate(args={"page": "501"}).items == []
    with pytest.raises(QueryError) as caught:
        deep.paginate(args={"page": "502"})
    (error,) = caught.value.errors
    assert error["code"] == "query.page_too_deep"
    assert "cursor" in error["allowed"]


@pytest.mark.parametrize("arguments", [{"page": 0}, {"page": "2"}, {"per_page": 0}, {"page": True}])
@quick
def test_wrong_python_arguments_are_value_errors(app: Flask, arguments: dict[str, Any]) -> None:
    """They are the developer's, so no client hears of them."""
    with pytest.raises(ValueError):
        NOTES.paginate(args={}, **arguments)
    with pytest.raises(ValueError):
        NOTES.paginate(args={}, page=2**62)
    with pytest.raises(ValueError, match="max_per_page"):
        paginate(select(Note), max_per_page=0, args={})


@quick
def test_the_count_is_sent_only_when_needed(app: Flask, assert_queries: CountQueries) -> None:
    """A page that shows the end has told the total."""
    sort = SortAllowlist({}, default="")
    cases = [
        ("exact", {"page": "1"}, 2, 45, True),
        ("exact", {"page": "5"}, 1, 45, True),
        ("exact", {"page": "9"}, 2, 45, True),
        ("none", {"page": "1"}, 1, None, False),
        ("none", {"page": "5"}, 1, 45, True),
        (20, {"page": "1"}, 2, 20, False),
        (20, {"page": "3"}, 1, 20, False),
        (100, {"page": "1"}, 2, 45, True),
        (45, {"page": "1"}, 2, 45, True),
        (44, {"page": "5"}, 1, 44, False),
    ]
    for count, args, statements, total, exact in cases:
        with assert_queries(exact=statements):
            page = Listing(Note, sort=sort, per_page=10, count=count).paginate(args=args)
        assert (page.total, page.total_is_exact) == (total, exact), count
        assert page.has_next is (int(args["page"]) < 5)
        pagination = page.to_dict()["pagination"]
        assert pagination["pages"] == (None if total is None else page.pages)
        assert (page.links["last"] is None) is not exact
    unknown = Listing(Note, sort=sort, per_page=10, count="none").paginate(args={})
    assert (unknown.pages, unknown.next_num, list(unknown.iter_pages())) == (0, 2, [1, 2])


def test_the_page_object_is_what_templates_of_flask_sqlalchemy_expect(app: Flask) -> None:
    """Each attribute has the value that their object has."""
    db = app.extensions["sqlalchemy"]
    ordered = select(Note).order_by(Note.title, Note.id)
    for number in (1, 2, 5, 6):
        with app.test_request_context(f"/?page={number}"):
            theirs = db.paginate(ordered, page=number, per_page=10, error_out=False)
            ours = paginate(ordered, per_page=10)
            names = "items page per_page total pages has_prev has_next prev_num next_num"
            for name in names.split():
                assert getattr(ours, name) == getattr(theirs, name), (number, name)
            if ours.items:
                assert (ours.first, ours.last) == (theirs.first, theirs.last)
            assert list(ours) == list(theirs)
            assert list(ours.iter_pages()) == list(theirs.iter_pages())
            edges = {"left_edge": 1, "left_current": 0, "right_current": 1, "right_edge": 1}
            assert list(ours.iter_pages(**edges)) == list(theirs.iter_pages(**edges))
    public = {name for name in {*dir(theirs), *vars(theirs)} if not name.startswith("_")}
    assert public <= set(dir(ours))
    with app.test_request_context("/?page=6"):
        ours = paginate(ordered, per_page=10)
        assert (ours.max_per_page, ours.prev().max_per_page) == (100, 100)
        assert ours.prev().page == 5
        assert ours.prev().per_page == 10
        assert ours.prev().next().items == []
        with pytest.raises(Exception, match="404"):
            ours.next(error_out=True)
        assert ours.url(3) == "/?page=3"


def test_a_statement_on_the_spot_keeps_its_order_and_gets_a_tie_breaker(app: Flask) -> None:
    """An order that is not total would lose rows, so it is made total."""
    for order in (Note.owner_id.desc(), func.length(Note.title), Note.rank.desc()):
        statement = select(Note).order_by(order)
        seen = [
            note.id
            for number in range(1, 8)
            for note in paginate(statement, page=number, per_page=7, args={}).items
        ]
        assert sorted(seen) == list(range(1, 46))
    limited = paginate(select(Note).order_by(Note.id).limit(5), per_page=10, args={})
    assert ([note.id for note in limited], limited.total) == ([1, 2, 3, 4, 5], 5)
    sorted_too = paginate(select(Note), sort=SORT_OF_NOTE, filter=None, args={"sort": "-rank"})
    assert sorted_too.total == 45


SORT_OF_NOTE = SortAllowlist({"rank": Note.rank, "title": Note.title}, default="rank")


def test_a_keyset_page_on_the_spot_needs_no_application(session: Session) -> None:
    """With a session, arguments and a secret the functions are plain."""
    catalog.fill_books(session)
    sort = SortAllowlist({"title": catalog.Book.title}, default="title")
    options: dict[str, Any] = {"sort": sort, "session": session, "secret": "s", "per_page": 7}
    first = paginate_keyset(select(catalog.Book), args={"x": "1"}, **options)
    assert first.links["next"] == f"?x=1&cursor={first.next_cursor}"
    assert first.links["first"] == "?x=1"
    second = paginate_keyset(select(catalog.Book), args={}, cursor=first.next_cursor, **options)
    assert not {b.id for b in first} & {b.id for b in second}
    assert len(second) == 7
    page = paginate(select(catalog.Book), sort=sort, args={"page": 2}, session=session)
    assert page.links["first"] == "?page=1"
    answer = page.to_response(lambda book: {"id": book.id, "on": book.added})
    assert json.loads(answer.get_data())["pagination"]["page"] == 2
    assert answer.mimetype == "application/json"


def test_a_cursor_is_refused_where_it_does_not_belong(app: Flask) -> None:
    """Another order, filter, tenant or list: a 400. Another page size is fine."""
    client = app.test_client()
    cursor = client.get("/stream?sort=rank&rank__gte=3").json["pagination"]["next_cursor"]
    same = client.get(f"/stream?sort=rank&rank__gte=3&per_page=3&cursor={cursor}")
    assert same.status_code == 200
    assert len(same.json["items"]) == 3
    for query in ("sort=-rank&rank__gte=3", "sort=rank&rank__gte=4", "sort=rank", ""):
        assert codes(client.get(f"/stream?{query}&cursor={cursor}")) == ["cursor_mismatch"]
    mine = client.get("/mine/1").json["pagination"]["next_cursor"]
    assert client.get(f"/mine/1?cursor={mine}").status_code == 200
    assert codes(client.get(f"/mine/2?cursor={mine}")) == ["cursor_mismatch"]
    assert codes(client.get("/stream?cursor=")) == ["cursor_malformed"]
    assert codes(client.get(f"/stream?cursor={cursor}x&sort=nope")) == [
        "unknown_sort",
        "cursor_malformed" if len(cursor) % 4 == 0 else "cursor_signature",
    ]
    assert codes(client.get(f"/stream?cursor={mine}&page=2")) == ["page_and_cursor"]


@quick
def test_cursors_expire_and_keys_rotate(app: Flask) -> None:
    """By the configuration alone; the listing's own limit comes first."""
    client = app.test_client()
    cursor = client.get("/stream").json["pagination"]["next_cursor"]
    app.config["SECRET_KEY_FALLBACKS"] = [app.config["SECRET_KEY"]]
    app.config["SECRET_KEY"] = "a new one"
    assert client.get(f"/stream?cursor={cursor}").status_code == 200
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert codes(client.get(f"/stream?cursor={cursor}")) == ["cursor_signature"]
    app.config["SECRET_KEY"] = None
    with pytest.raises(ConfigError, match="SECRET_KEY"):
        NOTES.paginate_keyset(args={})
    with pytest.raises(TypeError, match="bind"):
        NOTES.paginate_keyset(args={}, secret="s", bind=object())
    for empty in ("", b"", [], ["s", ""]):
        with pytest.raises(ValueError, match="secret is empty"):
            NOTES.paginate_keyset(args={}, secret=empty)


@quick
def test_a_cursor_of_another_list_is_refused(app: Flask) -> None:
    """Two lists of the same order tell their cursors apart by name."""
    other = Listing(NOTES.statement, sort=SORT, filter=FILTER, name="others")
    cursor = NOTES.paginate_keyset(args={"per_page": "5"}).next_cursor
    assert len(NOTES.paginate_keyset(args={}, cursor=cursor).items) == 10
    with pytest.raises(QueryError) as caught:
        other.paginate_keyset(args={}, cursor=cursor)
    assert [error["code"] for error in caught.value.errors] == ["query.cursor_mismatch"]


@quick
def test_a_cursor_belongs_to_what_a_filter_asks_for(app: Flask) -> None:
    """The value, however it was written; or its text, if the application makes an object of it."""

    class Band:
        def __init__(self, text: str) -> None:
            self.low, self.high = (int(part) for part in text.split("-"))

    def within(statement: Any, band: Band) -> Any:
        return statement.where(Note.rank.between(band.low, band.high))

    bands = FilterAllowlist({"band": Filter(within, type=Band)})
    listing = Listing(Note, sort=SORT_OF_NOTE, filter=bands)
    first = listing.paginate_keyset(args={"band": "1-20", "per_page": "5"})
    args = {"band": "1-20", "cursor": first.next_cursor}
    assert {note.rank for note in listing.paginate_keyset(args=args)} <= set(range(1, 21))
    with pytest.raises(QueryError):
        listing.paginate_keyset(args=args | {"band": "1-21"})
    cursor = NOTES.paginate_keyset(args={"rank__gte": "5", "per_page": "5"}).next_cursor
    assert NOTES.paginate_keyset(args={"rank__gte": "005", "cursor": cursor}).items


@quick
def test_the_age_of_a_cursor_is_limited(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the listing; its own limit comes before the configuration's."""
    short = Listing(Note, sort=SORT_OF_NOTE, cursor_max_age=60)
    cursor = short.paginate_keyset(args={"per_page": "5"}).next_cursor
    now = time.time()
    monkeypatch.setattr("flask_dbkit.lists.cursor.time.time", lambda: now + 50)
    assert short.paginate_keyset(args={}, cursor=cursor).items
    monkeypatch.setattr("flask_dbkit.lists.cursor.time.time", lambda: now + 70)
    with pytest.raises(QueryError) as caught:
        short.paginate_keyset(args={}, cursor=cursor)
    assert [error["code"] for error in caught.value.errors] == ["query.cursor_expired"]


@quick
def test_a_list_may_fall_back_to_its_default_order(app: Flask) -> None:
    """``on_invalid="default"``, for a repeated parameter too; filters stay strict."""
    sort = SortAllowlist({"rank": Note.rank}, default="-rank", on_invalid="default")
    listing = Listing(Note, sort=sort, filter=FilterAllowlist({"rank": Note.rank}))
    expected = listing.paginate(args={}).items
    for args in ({"sort": "nope"}, {"sort": ["rank", "rank"]}, {"direction": "up"}):
        assert listing.paginate(args=args).items == expected
        assert listing.paginate_keyset(args=args).items == expected
    with pytest.raises(QueryError):
        listing.paginate(args={"sort": "nope", "rank": "x"})


@quick
def test_other_pages_keep_the_size_of_this_one(app: Flask) -> None:
    """Also above the default maximum, when the caller allowed it."""
    page = paginate(select(Note).order_by(Note.id), page=2, per_page=30, max_per_page=200, args={})
    assert (len(page.items), page.max_per_page) == (15, 200)
    assert (page.prev().per_page, page.prev().max_per_page) == (30, 200)
    assert page.prev().next().items == page.items


@quick
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00"),
        (date(2026, 1, 31), "2026-01-31"),
        (clock(12, 30), "12:30:00"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (catalog.Mood.angry, "angry"),
        (b"\x00\xff", "AP8="),
        (timedelta(minutes=1.5), 90.0),
        (math.nan, None),
        ({"a": [Decimal(1), None, True]}, {"a": ["1", None, True]}),
        ((1, {2}), [1, [2]]),
    ],
)
def test_each_type_has_a_form_in_json(app: Flask, value: Any, shown: Any) -> None:
    """The forms that filters read, so that what is shown can be asked for."""
    page = OffsetPage(items=[value], per_page=1, has_next=False, has_prev=False)
    assert page.to_dict()["items"] == [shown]
    with app.test_request_context("/"):
        assert json.loads(page.to_response().get_data())["items"] == [shown]


@quick
def test_a_browser_gets_the_applications_page_and_a_program_the_problem(app: Flask) -> None:
    """The same mistake, told to whom it concerns."""
    client = app.test_client()
    for accept in ("text/html", "text/html,application/xhtml+xml,*/*;q=0.8"):
        page = client.get("/notes?page=<b>", headers={"Accept": accept})
        assert (page.status_code, page.mimetype) == (400, "text/html")
        assert "query.bad_page" in page.text
        assert "<b>" not in page.text
        assert "Accept" in page.headers["Vary"]
    for accept in ("application/json", "*/*", "application/problem+json, text/html;q=0.5"):
        problem = client.get("/notes?page=x", headers={"Accept": accept})
        assert problem.mimetype == "application/problem+json"


@quick
def test_the_applications_own_handler_comes_first(make_app: Callable[..., Flask]) -> None:
    """Nothing is registered for ``QueryError``, so Flask's own rules hold."""
    app = make_app()

    @app.get("/")
    def index() -> Any:
        SORT.parse("nope")

    @app.errorhandler(400)
    def bad_request(error: BadRequest) -> Any:
        assert isinstance(error, QueryError)
        return "our own page", 400

    answer = app.test_client().get("/", headers={"Accept": "text/html"})
    assert (answer.text, answer.status_code) == ("our own page", 400)


@quick
def test_the_configuration_gives_the_defaults(make_app: Callable[..., Flask]) -> None:
    """A listing that says nothing takes the application's numbers."""
    app = make_app(
        DBKIT_DEFAULT_PAGE_SIZE=3,
        DBKIT_MAX_PAGE_SIZE=4,
        DBKIT_PAGE_COUNT="NONE",
        DBKIT_CURSOR_MAX_AGE_S=1,
        SECRET_KEY="s",
    )
    DBKit(app, db=SQLAlchemy(model_class=Base))
    listing = Listing(Note, sort=SortAllowlist({}, default=""))
    generous = Listing(Note, sort=SortAllowlist({}, default=""), per_page=7)
    with app.app_context():
        app.extensions["sqlalchemy"].create_all()
        assert listing.paginate(args={}).per_page == 3
        assert listing.paginate(args={"per_page": "50"}).per_page == 4
        assert generous.paginate(args={}).per_page == 7
        assert {"maximum": 4, "default": 3}.items() <= listing.openapi_parameters()[3][
            "schema"
        ].items()
    for key, value in (
        ("DBKIT_PAGE_COUNT", "some"),
        ("DBKIT_PAGE_COUNT", True),
        ("DBKIT_MAX_PAGE_SIZE", 0),
    ):
        with pytest.raises(ConfigError, match=key):
            DBKit(make_app(**{key: value}), db=SQLAlchemy(model_class=declarative_base()))


def test_one_statement_per_page_and_never_a_count(app: Flask, assert_queries: CountQueries) -> None:
    """A cursor page reads its rows and its neighbours at once."""
    client, pages = app.test_client(), 1
    with assert_queries() as sent:
        with assert_queries(exact=1):
            answer = client.get("/stream?sort=-title")
        while answer.json["links"]["next"]:
            answer, pages = client.get(answer.json["links"]["next"]), pages + 1
    assert not any("count(" in each.sql for each in sent)
    statements = len(sent)
    assert statements <= pages + 3  # each title ends once within a run of ties


@quick
def test_plans_are_built_once_per_form(app: Flask) -> None:
    """Other values of the same form only bind."""
    built: list[object] = []

    def spy(statement: Any, value: Any) -> Any:
        built.append(value)
        return statement.where(Note.id > value)

    listing = Listing(
        Note,
        sort=SORT_OF_NOTE,
        filter=FilterAllowlist(
            {"rank": Filter(Note.rank, ops="gte in"), "from": Filter(spy, type=int)}
        ),
    )
    for rank in ("1", "20", "44"):
        found = listing.paginate(args={"rank__gte": rank, "rank__in": "1,44,2,21,22"}).items
        assert {note.rank for note in found} == {r for r in (1, 44, 2, 21, 22) if r >= int(rank)}
    assert len(listing._planner._plans) == 1
    for start in ("3", "40"):
        assert len(listing.paginate(args={"from": start, "per_page": "100"}).items) == 45 - int(
            start
        )
    assert len(listing._planner._plans) == 1
    narrowed = [
        listing.paginate(listing.statement.where(Note.id <= n), args={}).total for n in (5, 9)
    ]
    assert narrowed == [5, 9]
    assert len(listing._planner._plans) == 2


def test_rows_and_values_are_listed_as_selected(app: Flask) -> None:
    """Several columns are rows, one is a value, and private ones are not shown."""
    rows = paginate(select(Note.id, Note.title, Note.secret), per_page=2, args={})
    assert rows.items[0].title == "note 1"
    assert rows.to_dict()["items"][0] == {"id": 1, "title": "note 1"}
    values = paginate(select(Note.title), per_page=2, args={})
    assert values.items == ["note 1", "note 2"]
    assert len(paginate(select(Note.owner_id), per_page=20, args={}).items) == 20
    counted = select(Note.owner_id, func.count(), func.max(Note.rank)).group_by(Note.owner_id)
    groups = paginate_keyset(counted, sort=SortAllowlist({}, default=""), args={})
    limited = paginate(counted.limit(5), args={})
    for page in (groups, limited):
        assert page.items[0]._fields == ("owner_id", "count", "max")
    pairs = paginate(select(Note, Owner.name).join(Note.owner), per_page=1, args={})
    assert pairs.to_dict()["items"][0]["Note"]["title"] == "note 1"


@quick
def test_private_columns_are_shown_by_no_other_name(app: Flask) -> None:
    """A label, a limit, a union or a window function around one does not publish it."""
    place = func.row_number().over(order_by=Note.id).label("place")
    for statement, shown in (
        (select(Note.id, Note.secret.label("other")), {"id"}),
        (select(Note.id, Note.secret).limit(5), {"id"}),
        (select(Note.id, Note.secret).union_all(select(Owner.id, Owner.name)), {"id"}),
        (select(Note.id, Note.title).union_all(select(Note.id, Note.secret)), {"id"}),
        (select(Note.id, place, Note.secret), {"id", "place"}),
        (
            select(Note.id, Note.secret, func.count()).group_by(Note.id, Note.secret),
            {"id", "count"},
        ),
    ):
        sort = SortAllowlist({}, default="", tiebreaker=statement.selected_columns.id)
        page = paginate(statement, sort=sort, per_page=2, args={})
        stream = paginate_keyset(statement, sort=sort, per_page=2, args={})
        for item in (*page.to_dict()["items"], *stream.to_dict()["items"]):
            assert {key.removesuffix("_1") for key in item} == shown


def test_an_item_shows_loaded_columns_only(app: Flask) -> None:
    """Making JSON never sends SQL, even for what the session has forgotten."""
    db = app.extensions["sqlalchemy"]
    page = paginate(select(Note).options(joinedload(Note.owner)), per_page=1, args={})
    assert page.to_dict()["items"] == [
        {"id": 1, "title": "note 1", "rank": 1, "about": {"n": 1}, "owner_id": 2}
    ]
    db.session.expire_all()
    assert page.to_dict()["items"] == [{}]
    assert page.to_dict(lambda note: note.id)["items"] == [1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Listing(select(Owner).join(Owner.notes), sort=OWNERS), "can repeat Owner"),
        (lambda: Listing(select(Owner.name).join(Owner.notes), sort=OWNERS), "can repeat Owner"),
        (
            lambda: Listing(Owner, sort=SortAllowlist({"n": Note.title}, default="")),
            "entry 'n': Its table is not in the statement",
        ),
        (
            lambda: Listing(Owner, sort=OWNERS, filter=FilterAllowlist({"n": Note.title})),
            "entry 'n': Its table is not in the statement",
        ),
        (
            lambda: Listing(Note, sort=SortAllowlist({"about": Note.about}, default="")),
            "entry 'about': The type JSON",
        ),
        (
            lambda: Listing(
                select(Note.owner_id).distinct(), sort=SortAllowlist({"t": Note.title}, default="t")
            ),
            "DISTINCT and does not select title",
        ),
        (
            lambda: Listing(
                select(Note, func.row_number().over(order_by=Note.id)), sort=SORT_OF_NOTE
            ),
            "window function",
        ),
        (
            lambda: Listing(select(Note).join(Note.owner, full=True), sort=SORT_OF_NOTE),
            "FULL JOIN",
        ),
        (
            lambda: Listing(
                select(Note.title.label("t")).union_all(select(Owner.name)),
                sort=SortAllowlist({}, default=""),
            ),
            "tiebreaker",
        ),
    ],
)
@quick
def test_what_cannot_be_right_is_refused_with_the_reason(
    app: Flask, make: Any, reason: Any
) -> None:
    """At first use, before any page, naming the listing and the entry."""
    listing = make()
    with pytest.raises(PlanError, match=reason) as caught:
        listing.paginate_keyset(args={"sort": "whatever", "page": "x"})
    assert caught.value.listing == listing.name
    assert isinstance(caught.value, TypeError)
    assert not isinstance(caught.value, QueryError)


OWNERS = SortAllowlist({"name": Owner.name}, default="name")


@quick
def test_a_filter_that_joins_is_looked_at_again(app: Flask) -> None:
    """A function may join what repeats rows; then the page is refused, not wrong."""

    def with_notes(statement: Any, value: int) -> Any:
        return statement.join(Owner.notes).where(Note.rank > value)

    listing = Listing(
        Owner, sort=OWNERS, filter=FilterAllowlist({"above": Filter(with_notes, type=int)})
    )
    assert listing.paginate(args={}).total == 2
    with pytest.raises(PlanError, match="can repeat Owner"):
        listing.paginate(args={"above": "3"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"per_page": 0},
        {"max_per_page": -1},
        {"max_offset": -1},
        {"max_offset": "20"},
        {"max_offset": 1.5},
        {"cursor_max_age": 0},
        {"count": "some"},
        {"count": True},
        {"oversize": "cut"},
        {"per_page": 10, "max_per_page": 5},
    ],
)
def test_a_listing_checks_its_own_arguments(arguments: dict[str, Any]) -> None:
    """At import, by name."""
    with pytest.raises(ValueError):
        Listing(Note, sort=SORT_OF_NOTE, **arguments)


def test_a_listing_is_made_of_what_can_be_listed() -> None:
    """Text and dicts are none of it."""
    for source, options in (
        ("Note", {"sort": SORT}),
        (Note, {"sort": "title"}),
        (Note, {"sort": SORT, "filter": {}}),
    ):
        with pytest.raises(TypeError):
            Listing(source, **options)  # type: ignore[call-overload]


def test_declaring_a_listing_configures_no_mapper() -> None:
    """Models may refer to others that are not imported yet."""
    base: Any = declarative_base()

    class Early(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        late: Mapped[Late] = relationship()  # type: ignore[name-defined]  # noqa: F821
        late_id: Mapped[int] = mapped_column(ForeignKey("late.id"))

    listing = Listing(
        Early,
        sort=SortAllowlist({"name": Early.name}, default="-name", tiebreaker=Early.id),
        filter=FilterAllowlist({"name": Filter(Early.name, ops="icontains")}),
    )
    assert listing.name == "Early"
    assert repr(listing) == "<Listing Early>"


def test_listings_are_known_as_long_as_they_live() -> None:
    """By weak reference, for the command line."""
    listing = Listing(Note, sort=SORT_OF_NOTE, name="a listing to forget")
    assert listing in declared_listings()
    del listing
    gc.collect()
    assert "a listing to forget" not in [one.name for one in declared_listings()]


def test_openapi_parameters_are_parameter_objects(app: Flask) -> None:
    """Ready for the ``parameters`` of an operation."""
    found = {one["name"]: one for one in NOTES.openapi_parameters()}
    assert list(found)[:5] == ["sort", "direction", "page", "per_page", "cursor"]
    assert {one["in"] for one in found.values()} == {"query"}
    assert not any(one["required"] for one in found.values())
    assert found["per_page"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 10,
    }
    assert found["rank__in"]["explode"] is False
    assert found["rank__in"]["schema"]["items"]["type"] == "integer"
    assert found["rank__isnull"]["schema"] == {"type": "boolean"}
    import re

    pattern = re.compile(found["sort"]["schema"]["pattern"])
    assert pattern.match("-title,rank")
    assert not pattern.match("password")
    json.dumps(NOTES.openapi_parameters())


@quick
def test_bytes_that_are_no_text_are_read_as_such(app: Flask) -> None:
    """Werkzeug fails for what a browser would never send unquoted; a list does not."""
    environ = app.test_client().get("/notes").request.environ
    status, body = _ask(app, environ | {"QUERY_STRING": "title__icontains=\xee&per_page=0"})
    assert status == 400
    assert [error["code"] for error in json.loads(body)["errors"]] == ["query.bad_per_page"]
    status, body = _ask(app, environ | {"QUERY_STRING": "x=\xff\xee&page=2"})
    assert (status, json.loads(body)["pagination"]["page"]) == (200, 2)


@quick
def test_no_query_string_breaks_a_route(app: Flask) -> None:
    """Two thousand of them: a page or a 400, never anything else, and never any SQL."""
    r = random.Random(2026)
    app.config["PROPAGATE_EXCEPTIONS"] = False  # a server's answer, and not the test's traceback
    small = Listing(NOTES.statement, sort=SORT, filter=FILTER, per_page=2, name="Note")

    @app.get("/by-number")
    def by_number() -> Any:
        return small.paginate(count="none").to_response(lambda note: note.id)

    @app.get("/by-cursor")
    def by_cursor() -> Any:
        return small.paginate_keyset().to_response(lambda note: note.id)

    good = app.test_client().get("/stream").json["pagination"]["next_cursor"]
    names = [
        *("sort", "direction", "page", "per_page", "cursor", "title", "rank", "owner", "x", ""),
        *("title__icontains", "rank__gte", "rank__in", "rank__isnull", "rank__foo", "secret__eq"),
        *("sort[]", "page__gte", "title__", "__eq", "rank__in__in", "%00", "cursor__eq", "%ff"),
    ]
    values = [
        *("", "1", "0", "-1", "2", "5", "title", "-rank", "title,-owner", "nope", "true", "null"),
        *(
            "'",
            '"',
            "' OR 1=1 --",
            ";",
            "%25",
            "_",
            "\\",
            "%00",
            "%F0%9F%92%A5",
            "%C3%A9",
            "%ED%A0%80",
        ),
        *("9" * 30, "-" * 50, "," * 50, "a" * 2000, "2026-01-01", "1,2,3", "[1]", "{}", good),
        *(good[:-1], good + "A", "AAAA", "....", "%EF%BC%91", "%", "%zz", "%2B1", "+1+", "0x10"),
        *("%D9%A3", "1e3", "NaN", "%ff%fe", "%ED%A0%80", "1&1", "=", "#"),
    ]
    environ = app.test_client().get("/notes").request.environ
    seen = {200: 0, 400: 0}
    for _ in range(2_000):
        query = "&".join(
            f"{r.choice(names)}={r.choice(values) if r.random() < 0.8 else _noise(r)}"
            for _ in range(r.randrange(1, 5))
        )
        path = r.choice(["/by-number", "/by-cursor"])
        status, body = _ask(app, environ | {"PATH_INFO": path, "QUERY_STRING": query})
        assert status in seen, query
        seen[status] += 1
        if status == 400:
            allowed = json.dumps([error["allowed"] for error in json.loads(body)["errors"]])
            for word in ("SELECT", "note.", 'secret"', "sqlite", "Traceback"):
                assert word not in allowed
    assert min(seen.values()) > 200


def _noise(r: random.Random) -> str:
    return "".join(chr(r.randrange(1, 256)) for _ in range(9))


def _ask(app: Flask, environ: dict[str, Any]) -> tuple[int, bytes]:
    """Ask as a server does: what is no text, or no encoding, arrives as it was sent."""
    answers: list[str] = []

    def start(status: str, *_: Any) -> Any:
        answers.append(status)

    body = app(environ, start)
    try:
        return int(answers[0].split()[0]), b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


PAGER = """{% from "flask_dbkit/pager.html" import render_pager %}{{ render_pager(page) }}"""


@quick
def test_the_pager_marks_the_current_page_and_what_leads_nowhere(app: Flask) -> None:
    """One landmark with a name, a list, the current page said and shown."""
    with app.test_request_context("/notes?page=1&title__icontains=%22%3E"):
        page = NOTES.paginate(args={"page": "1", "title__icontains": "n"})
        html = render_template_string(PAGER, page=page)
    assert html.count("<nav") == 1
    assert 'aria-label="Pages"' in html
    assert html.count('aria-current="page"') == 1
    assert html.count('aria-disabled="true"') == 1
    assert 'href="/notes?title__icontains=n&amp;page=2"' in html
    with app.test_request_context("/stream"):
        html = render_template_string(PAGER, page=NOTES.paginate_keyset())
        assert html.count('aria-disabled="true"') == 2
        assert html.count("cursor=") == 2
        assert request.path == "/stream"


def test_placed_nulls_are_walked_with_real_cursors(app: Flask) -> None:
    """From the first page to the last by the links a client follows."""
    listing = Listing(
        Note, sort=SortAllowlist({"rank": SortKey(Note.rank, nulls="last")}, default="-rank")
    )
    seen, cursor = [], None
    while True:
        page = listing.paginate_keyset(args={"per_page": "4"}, cursor=cursor)
        seen += [note.rank for note in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [*sorted((n for n in range(1, 46) if n % 5), reverse=True), *[None] * 9]


@quick
def test_private_columns_leave_by_no_door(app: Flask) -> None:
    """Hidden in every form in which the value is the column's; what is computed of it is shown."""
    once = aliased(Note)
    columns: tuple[Any, ...] = (
        Note.secret,
        Note.secret.label("other"),
        once.secret,
        cast(Note.secret, Text),
        type_coerce(Note.secret, Text),
        collate(Note.secret, "NOCASE").label("secret"),
        select(once.secret).where(once.id == Note.id).scalar_subquery(),
        Bundle("b", Note.title, Note.secret),
        Bundle("b", Note.title, Bundle("c", Note.rank, Note.secret)),
    )
    for column in columns:
        sort = SortAllowlist({"id": Note.id}, default="id", tiebreaker=Note.id)
        statement = select(Note.id, column).limit(50)
        if column is once.secret:
            statement = select(Note.id, column).join(once, once.id == Note.id)
        for page in (
            paginate(statement, sort=sort, args={}),
            paginate_keyset(statement, sort=sort, args={}),
        ):
            assert "hidden" not in str(page.to_dict()["items"]), column
    computed = paginate(select(Note.id, func.upper(Note.secret).label("up")), args={})
    assert computed.to_dict()["items"][0]["up"] == "HIDDEN"


@quick
def test_headers_fit_what_proxies_take(app: Flask) -> None:
    """An allowed request is never a 502: links that would not fit are in the body only."""
    long = "&".join(f"tag={number:0>36}" for number in range(100))
    for path in (f"/notes?page=2&{long}", f"/stream?{long}", f"/notes?x={'%C3%A9' * 1000}"):
        response = app.test_client().get(path)
        assert response.status_code == 200
        assert sum(len(name) + len(value) + 4 for name, value in response.headers) < 4096
        for link in filter(None, response.headers.get("Link", "").split(", ")):
            assert link.startswith("<")
            assert ">; rel=" in link
        assert app.test_client().get("/notes?page=2").headers["Link"].count("rel=") == 4


@quick
@pytest.mark.parametrize(
    "config",
    [
        {"SECRET_KEY_FALLBACKS": [""]},
        {"SECRET_KEY_FALLBACKS": [None]},
        {"SECRET_KEY_FALLBACKS": ["good", " "]},
        {"SECRET_KEY_FALLBACKS": "old"},
        {"SECRET_KEY_FALLBACKS": {"old": 1}},
        {"SECRET_KEY": "   "},
        {"SECRET_KEY": 5},
    ],
)
def test_a_key_that_anybody_could_sign_with_is_refused_at_start(
    app: Flask, config: dict[str, Any]
) -> None:
    """And what is put there later verifies nothing, and breaks no page."""
    refused = Flask("refused")
    refused.config.update({"SECRET_KEY": "k", "SQLALCHEMY_DATABASE_URI": "sqlite://", **config})
    with pytest.raises(ConfigError, match=next(iter(config))):
        DBKit(refused, db=SQLAlchemy(model_class=Base))
    forged = Signer([""]).dumps(Keyset((1, 1)), "mark")
    if "SECRET_KEY" not in config:
        app.config.update(config)
        assert app.test_client().get("/stream").status_code == 200
        assert codes(app.test_client().get(f"/stream?cursor={forged}")) == ["cursor_signature"]


@quick
def test_sort_links_lead_to_both_orders_of_every_name(app: Flask) -> None:
    """Followed twice, each published name gives both orders, equal to the unpaged query."""
    columns = {"title": Note.title, "rank": Note.rank, "owner": Owner.name}
    start = "/notes?rank__gte=4&tag=a&tag=b&per_page=3&page=2"
    for read in (NOTES.paginate, NOTES.paginate_keyset):
        for name, column in columns.items():
            path = start if read == NOTES.paginate else start.replace("&page=2", "")
            seen = []
            for _ in range(3):
                first_page = "page=2" not in path
                with app.test_request_context(path):
                    page = read()
                    state, path = page.sort_state(name), page.sort_url(name)
                assert path.startswith("/notes?rank__gte=4&tag=a&tag=b&per_page=3&sort=")
                assert "page=2" not in path
                seen.append(state)
                if state is not None and first_page:
                    down = state == "descending"
                    order = (column.desc(), Note.id.desc()) if down else (column, Note.id)
                    wanted = select(Note.id).join(Note.owner).where(Note.rank >= 4).order_by(*order)
                    session = app.extensions["sqlalchemy"].session
                    assert [note.id for note in page] == list(session.scalars(wanted.limit(3)))
            assert {"ascending", "descending"} <= set(seen)


@quick
def test_sort_links_understand_every_way_to_say_an_order(app: Flask) -> None:
    """Several names, the pair sort and direction, nothing at all, and no request."""

    def page(query: str) -> Any:
        with app.test_request_context(f"/notes{query}"):
            found = NOTES.paginate()
            return found.sort_state("title"), found.sort_url("title")

    assert page("") == ("ascending", "/notes?sort=-title")
    assert page("?sort=-title,rank") == ("descending", "/notes?sort=title")
    assert page("?sort=rank,title") == (None, "/notes?sort=title")
    assert page("?sort=title&direction=desc") == ("descending", "/notes?sort=title")
    outside = NOTES.paginate(args={"rank__gte": "4"})
    assert outside.sort_url("rank") == "?rank__gte=4&sort=rank"
    for ask in (outside.sort_url, outside.sort_state):
        with pytest.raises(ValueError, match=r"'titel'.*Did you mean 'title'"):
            ask("titel")
    with pytest.raises(ValueError, match="nothing"):
        paginate(select(Note), args={}).sort_url("title")


@quick
def test_a_sort_link_of_a_number_can_lead_to_the_largest_first(app: Flask) -> None:
    """descending_first=True turns the first of the two directions round, and nothing else."""
    largest = SortKey(Note.rank, descending_first=True)
    listing = Listing(Note, sort=SortAllowlist({"title": Note.title, "rank": largest}, default=""))
    links = {
        query: (page.next_sort_state("rank"), page.sort_url("rank"), page.sort_url("title"))
        for query in ("", "-rank", "rank")
        for page in (listing.paginate(args={"sort": query}),)
    }
    assert links == {
        "": ("descending", "?sort=-rank", "?sort=title"),
        "-rank": ("ascending", "?sort=rank", "?sort=title"),
        "rank": ("descending", "?sort=-rank", "?sort=title"),
    }
    with app.test_request_context("/notes"):
        macro = "{% from 'flask_dbkit/pager.html' import render_sort_header %}"
        macro += "{{ render_sort_header(page, 'rank', 'Rank', class='number') }}"
        html = render_template_string(macro, page=listing.paginate())
    assert '<th scope="col" class="number">' in html
    assert "Rank, sort descending" in " ".join(html.split())
    with pytest.raises(TypeError, match="descending_first is 'yes'"):
        SortKey(Note.rank, descending_first="yes")  # type: ignore[arg-type]


HEADERS = """{% from "flask_dbkit/pager.html" import render_pager, render_sort_header -%}
{{ render_sort_header(page, "title", "<Title>") }}{{ render_sort_header(page, "rank", "Rank") }}
{{ render_pager(page, sizes=(10, 25)) }}"""


@quick
def test_the_macros_tell_order_range_and_size(app: Flask) -> None:
    """One header says how the table is sorted; labels are escaped, numbers are grouped."""
    with app.test_request_context("/notes?page=2&sort=-title&x=%22%3E"):
        html = render_template_string(HEADERS, page=NOTES.paginate())
        assert html.count("aria-sort=") == 1
        assert '<th scope="col" aria-sort="descending">' in html
        assert "&lt;Title&gt;, descending, sort ascending" in " ".join(html.split())
        assert 'href="/notes?x=%22%3E&amp;sort=title"' in html
        assert "11–20 of 45" in html
        assert 'aria-current="true">10</a>' in html
        assert 'href="/notes?sort=-title&amp;x=%22%3E&amp;per_page=25"' in html
        keyset = render_template_string(HEADERS, page=NOTES.paginate_keyset(args={}))
        assert "dbkit-pager-range" not in keyset
        assert keyset.count("aria-sort=") == 1
    many = OffsetPage(
        items=[None] * 25, per_page=25, has_next=True, has_prev=True, page=1001, total=234_908
    )
    html = render_template_string(PAGER, page=many)
    assert "25,001–25,025 of 234,908 or more" in html
    assert ">1,001</a>" in html
