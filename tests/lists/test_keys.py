"""Keys that are not what Python or SQLAlchemy takes them for: right, or refused in words."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    DateTime,
    Engine,
    Enum,
    Float,
    ForeignKey,
    Integer,
    String,
    Text,
    case,
    cast,
    desc,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    composite,
    mapped_column,
    relationship,
)

from flask_dbkit import (
    Filter,
    FilterAllowlist,
    Listing,
    PlanError,
    QueryError,
    SortAllowlist,
    UTCDateTime,
    paginate,
    paginate_keyset,
)
from flask_dbkit.lists.cursor import Keyset, Signer

from .catalog import SECRET, assert_walks, read, walk_forward

pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


class Base(DeclarativeBase):
    pass


class Tag(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("note.id"))


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    pinned: Mapped[bool] = mapped_column(Boolean)
    real: Mapped[float] = mapped_column(Float(24))
    born: Mapped[date]
    due: Mapped[datetime | None] = mapped_column(UTCDateTime)
    word: Mapped[str] = mapped_column(Enum("small", "large", "medium", name="words"))
    body: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(String(700))
    code: Mapped[str] = mapped_column(String(20), unique=True)
    tags: Mapped[list[Tag]] = relationship()


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(shared_engine: Engine) -> Engine:
    with Session(shared_engine) as session:
        fill(session)
    return shared_engine


@pytest.fixture
def notes(filled: Engine) -> Iterator[Session]:
    """Reads notes; what it writes is rolled back."""
    with Session(filled) as made:
        yield made


def fill(session: Session) -> None:
    Base.metadata.create_all(session.connection())
    for n in range(1, 13):
        start = "x" * (300 if n % 2 else 100)
        session.add(
            Note(
                id=n,
                pinned=n % 3 == 0,
                real=[0.1, 1 / 3, 2 / 3, 0.30000001][n % 4],
                born=date(1950, 1, 1) + timedelta(days=n * 2317),
                due=None if n % 4 == 0 else NOON + timedelta(microseconds=n % 3),
                word=["small", "large", "medium"][n % 3],
                body=f"{start}{n * 7 % 12:02}",
                url=f"{'x' * 255}{n * 7 % 12:02}",
                code=f"c{n * 5 % 13}",
                tags=[Tag(id=n * 10 + m) for m in range(n % 3)],
            )
        )
        session.flush()
    session.commit()


KEYS: dict[str, Any] = {
    "not": ~Note.pinned,
    "not or": not_(or_(Note.pinned, Note.real > 0.5)),
    "not exists": ~Note.tags.any(),
    "is": Note.due.is_(None),
    "in": Note.word.in_(["small", "large"]),
    "literal": literal_column("note.id > 6"),
    "minus": -Note.id % 5,
    "op": Note.id.op("%")(5),
    "untyped real": func.coalesce(Note.real, 0.5),
    "real in case": case((Note.pinned, Note.real), else_=literal(0.25)),
    "abs": func.abs(Note.real),
    "word in coalesce": func.coalesce(Note.word, literal("small", Note.word.type)),
    "word in case": case((Note.pinned, Note.word), else_=literal("small", Note.word.type)),
    "lower": func.lower(cast(Note.word, String(10))),
    "concat": Note.url + Note.code,
    "text": Note.body,
    "url": Note.url,
    "moment": func.coalesce(Note.due, NOON),
    "moment in case": case((Note.pinned, Note.due), else_=NOON),
    "code": Note.code,
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_any_kind_is_walked_exactly(notes: Session, key: str) -> None:
    """What an expression is, the database decides: the law holds for what it makes of it."""
    listing = Listing(Note, sort=SortAllowlist({"key": KEYS[key], "id": Note.id}, default="key"))
    rows = select(Note.id, KEYS[key].label("k")).subquery()
    derived = Listing(
        select(rows), sort=SortAllowlist({"key": rows.c.k}, default="key", tiebreaker=rows.c.id)
    )
    for sort in ("key", "-key"):
        # By itself, without a page: the order the database gives it.
        direction = KEYS[key].desc() if sort == "-key" else KEYS[key].asc()
        last = Note.id.desc() if sort == "-key" else Note.id.asc()
        wanted = list(notes.scalars(select(Note.id).order_by(direction, last)))
        for size in (2, 5):
            assert assert_walks(listing, notes, sort, size) == wanted
        assert sorted(assert_walks(derived, notes, sort, 3)) == sorted(wanted)


def test_pages_by_number_and_the_own_order_of_a_statement_have_the_same_order(
    notes: Session,
) -> None:
    """MariaDB sorts the start of a text only when there is a LIMIT: no row may go missing."""
    wanted = sorted(notes.scalars(select(Note)), key=lambda note: note.url)
    for statement in (select(Note).order_by(Note.url), select(Note).order_by(desc(Note.url))):
        seen = []
        for page in range(1, 7):
            found = paginate(statement, page=page, per_page=2, args={}, session=notes).items
            seen += [note.id for note in found]
        assert seen in (
            [note.id for note in wanted],
            [note.id for note in reversed(wanted)],
        )


MOVING: dict[str, Any] = {
    "random": func.random(),
    "rand": func.rand(),
    "now": func.now() - Note.due,
    "overdue": case((Note.due < func.now(), 0), else_=1),
    "age": func.age(Note.born),
    "julianday": func.julianday("now") - func.julianday(Note.born),
    "today": func.date("now"),
    "cast": cast("today", DateTime),
    "text": literal_column("random()"),
    "subquery": select(func.count()).where(Tag.id > func.random()).scalar_subquery(),
    "user": func.current_user(),
    "words": literal_column("CURRENT_TIMESTAMP"),
}


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize("key", MOVING)
def test_a_key_that_depends_on_more_than_the_row_is_refused(notes: Session, key: str) -> None:
    """Between two pages it moves, and no row has changed."""
    listing = Listing(Note, sort=SortAllowlist({"moving": MOVING[key]}, default=""), name="Moves")
    with pytest.raises(PlanError, match="Listing 'Moves', entry 'moving'"):
        read(listing, notes)
    with pytest.raises(PlanError, match="no two pages"):
        paginate(select(Note).order_by(MOVING[key]), args={}, session=notes)
    (finding,) = [one for one in listing.examine_indexes(notes) if one.status == "error"]
    assert "moving" in str(finding.reason)


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize(
    "entry", [desc(Note.code), Note.code.asc(), Note.code.desc().nulls_last(), Note.tags]
)
def test_an_entry_says_which_value_and_nothing_more(notes: Session, entry: Any) -> None:
    """What says how to order, or is no value, is refused by its name before a request."""
    listing = Listing(Note, sort=SortAllowlist({"odd": entry}, default=""))
    for ask in (lambda: read(listing, notes), lambda: listing.paginate(args={}, session=notes)):
        with pytest.raises(PlanError, match="entry 'odd'"):
            ask()


class Span(Base):
    __tablename__ = "span"
    id: Mapped[int] = mapped_column(primary_key=True)
    low: Mapped[int]
    high: Mapped[int]
    both: Mapped[Any] = composite(lambda low, high: (low, high), "low", "high")
    note_id: Mapped[int | None] = mapped_column(ForeignKey("note.id"))
    note: Mapped[Note | None] = relationship()
    code: AssociationProxy[str] = association_proxy("note", "code")


@pytest.mark.backends("sqlite-file")
def test_attributes_that_are_no_column_are_refused_by_their_entry(notes: Session) -> None:
    """A composite or a proxy as an entry is a mistake that is said, without an address."""
    for entry in (Span.both, Span.code):
        listing = Listing(Span, sort=SortAllowlist({"odd": entry}, default=""), name="Spans")
        with pytest.raises(PlanError, match="Listing 'Spans', entry 'odd'") as caught:
            read(listing, notes)
        assert " at 0x" not in str(caught.value)


@pytest.mark.backends("sqlite-file")
def test_a_legacy_query_is_refused_in_words_that_help(notes: Session) -> None:
    """``Model.query`` is no statement, and its ``.statement`` is one."""
    query: Any = notes.query(Note)
    sort = SortAllowlist({"id": Note.id}, default="id")
    for ask in (
        lambda: paginate(query, args={}, session=notes),
        lambda: paginate_keyset(query, sort=sort, args={}, session=notes, secret=SECRET),
        lambda: Listing(query, sort=sort),
        lambda: Listing(Note, sort=sort).paginate(query, args={}, session=notes),
    ):
        with pytest.raises(TypeError, match=r"query\.statement"):
            ask()
    assert len(paginate(query.statement, args={}, session=notes).items) == 12


@pytest.mark.backends("postgresql")
def test_search_ranks_and_spans_of_years_are_walked_exactly_on_postgresql(notes: Session) -> None:
    """``ts_rank()`` is a float of 32 bits; a year of an interval is 360 days to the database."""
    rank = func.ts_rank(func.to_tsvector("english", Note.body), func.to_tsquery("english", "x:*"))
    keys = {
        "rank": rank,
        "age": func.age(cast("2026-01-01", DateTime), Note.born),
        "difference": cast(Note.born, DateTime) - cast("2026-01-01", DateTime),
        "justified": func.justify_interval(
            cast(Note.born, DateTime) - cast("1990-01-01", DateTime)
        ),
    }
    listing = Listing(Note, sort=SortAllowlist(keys, default="rank"))
    for name, key in keys.items():
        for sort, order in ((name, (key, Note.id)), (f"-{name}", (key.desc(), Note.id.desc()))):
            wanted = list(notes.scalars(select(Note.id).order_by(*order)))
            assert assert_walks(listing, notes, sort, 2) == wanted
    for key in (func.to_json(Note.body), func.point(Note.id, 1)):
        refused = Listing(Note, sort=SortAllowlist({"odd": key}, default=""))
        with pytest.raises(PlanError, match="entry 'odd'"):
            read(refused, notes)
        (finding,) = refused.examine_indexes(notes)
        assert (finding.status, finding.sort) == ("error", "odd")


@pytest.mark.backends("sqlite-file")
def test_a_hidden_column_of_a_virtual_table_is_refused(session: Session) -> None:
    """``rank = ?`` sets the ranking function of an FTS5 table; ``bm25()`` is a value."""
    session.execute(text("CREATE VIRTUAL TABLE page USING fts5(body)"))
    for n in range(1, 10):
        session.execute(
            text("INSERT INTO page(rowid, body) VALUES (:n, :body)"),
            {"n": n, "body": "sea " * (n % 2 + 1) + "wind"},
        )

    class Other(DeclarativeBase):
        pass

    class Page(Other):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column("rowid", primary_key=True)
        body: Mapped[str]
        rank: Mapped[float] = mapped_column(Float)

    found = select(Page).where(Page.body.op("MATCH")("sea"))
    hidden = Listing(found, sort=SortAllowlist({"rank": Page.rank}, default="rank"))
    with pytest.raises(PlanError, match=r"entry 'rank'.*bm25"):
        read(hidden, session)
    assert [one.status for one in hidden.examine_indexes(session)] == ["error"]
    best = func.bm25(literal_column("page"))
    listing = Listing(found, sort=SortAllowlist({"best": best}, default="best"))
    assert len(assert_walks(listing, session, "best", 2)) == 9


def test_filters_on_any_expression_mean_what_they_say(notes: Session) -> None:
    """The kit's own operators stand beside the whole expression, not beside its end."""
    targets = {"not": ~Note.pinned, "or": or_(Note.pinned, Note.id > 9), "due": KEYS["moment"]}
    allowlist = FilterAllowlist(
        {
            name: Filter(
                target, ops="eq ne in not_in isnull" + (" gte lt" if name == "due" else "")
            )
            for name, target in targets.items()
        }
    )
    listing = Listing(Note, sort=SortAllowlist({"id": Note.id}, default="id"), filter=allowlist)

    def total(**args: str) -> int | None:
        return listing.paginate(args=args, session=notes).total

    assert total(not__in="true,false") == total(not__isnull="false") == 12
    assert total(**{"not": "true"}) == 8
    assert total(not__ne="true") == total(not__not_in="true") == 4
    assert total(**{"or": "true"}) == 6
    assert total(or__ne="true") == 6
    assert total(due="2026-01-01T12:00:00Z") == 6
    assert total(due__gte="2026-01-01T12:00:00.000001Z") == 6


def any_tag(statement: Any, value: int) -> Any:
    return statement.join(Note.tags).where(Tag.id > value).distinct()


def enough_tags(statement: Any, value: int) -> Any:
    return statement.join(Note.tags).group_by(Note.id).having(func.count(Tag.id) >= value)


def by_tag(statement: Any, value: int) -> Any:
    return statement.where(Note.tags.any(Tag.id > value))


def best_first(statement: Any, value: int) -> Any:
    return statement.where(Note.id > value).order_by(Note.real.desc())


def locked(statement: Any, value: int) -> Any:
    return statement.where(Note.id > value).with_for_update()


@pytest.mark.parametrize("first", [any_tag, enough_tags, by_tag, best_first, locked])
@pytest.mark.parametrize("second", [None, by_tag, best_first])
def test_what_a_filter_function_does_is_planned_as_if_it_were_written(
    notes: Session, first: Any, second: Any
) -> None:
    """The answer is that of the filtered statement, by number and by cursor, counted rightly."""
    functions = {"first": first} | ({"second": second} if second else {})
    listing = Listing(
        Note,
        sort=SortAllowlist(
            {"id": Note.id, "low": func.lower(Note.code), "not": ~Note.pinned}, default="id"
        ),
        filter=FilterAllowlist(
            {name: Filter(function, type=int) for name, function in functions.items()}
        ),
    )
    statement = select(Note)
    for function in functions.values():
        statement = function(statement, 2)
    wanted = sorted({note.id for note in notes.scalars(statement).unique()})
    for sort in ("id", "low", "-not,id"):
        args = dict.fromkeys(functions, "2")
        found = assert_walks(listing, notes, sort, 3, **args)
        assert sorted(found) == wanted
        page = listing.paginate(args=args | {"sort": sort, "per_page": "1"}, session=notes)
        assert page.total == len(wanted)
        capped = listing.paginate(args=args | {"per_page": "1"}, count=2, session=notes)
        assert capped.total == min(2, len(wanted))


@pytest.mark.backends("sqlite-file")
@pytest.mark.parametrize(
    "function",
    [
        lambda s, v: s.limit(v),
        lambda s, v: s.offset(v),
        lambda s, v: None,
        lambda s, v: s.join(Note.tags),
        lambda s, v: select(Tag),
        lambda s, v: s.add_columns(Note.code),
        lambda s, v: s.with_only_columns(Note.code),
        lambda s, v: s.union_all(s),
    ],
)
def test_a_filter_function_that_cannot_be_planned_is_refused_by_its_name(
    notes: Session, function: Any
) -> None:
    """Never a filter that is left out, a 500, or rows of something else."""
    listing = Listing(
        Note,
        sort=SortAllowlist({"id": Note.id}, default="id"),
        filter=FilterAllowlist({"odd": Filter(function, type=int)}),
        name="Notes",
    )
    for ask in (
        lambda: read(listing, notes, odd="2"),
        lambda: listing.paginate(args={"odd": "2"}, session=notes),
    ):
        with pytest.raises(PlanError, match="Listing 'Notes', entry 'odd'"):
            ask()


def test_statements_that_sqlalchemy_runs_are_paged(notes: Session) -> None:
    """An entity in GROUP BY is its columns; a join without ON is the one SQLAlchemy finds."""
    other = aliased(Note)
    for statement in (
        select(Note).group_by(Note),
        select(Note).join(Note.tags).group_by(Note),
        select(Note).distinct().join(Note.tags),
        select(other).group_by(other),
    ):
        entity = other if statement.column_descriptions[0]["entity"] is other else Note
        wanted = len(notes.scalars(statement).unique().all())
        sort = SortAllowlist({"low": func.lower(entity.code), "code": entity.code}, default="low")
        listing = Listing(statement, sort=sort)
        for key in ("low", "-code"):
            assert len(assert_walks(listing, notes, key, 4)) == wanted
        ordered = statement.order_by(entity.code)
        assert paginate(ordered, args={}, session=notes, per_page=3).total == wanted
    pairs = select(Tag, Note).select_from(Note).join(Tag)
    listing = Listing(pairs, sort=SortAllowlist({"code": Note.code}, default="code"))
    wanted = len(notes.execute(pairs).all())
    assert len(assert_walks(listing, notes, "code", 3, key=lambda row: row.Tag.id)) == wanted
    two = select(Note, other).join(other, other.id == Note.id + 1)
    listing = Listing(two, sort=SortAllowlist({"code": Note.code}, default="code"))
    for page in (read(listing, notes), listing.paginate(args={}, session=notes)):
        shown = page.to_dict()["items"][0]
        assert list(shown) == ["Note", "Note_1"]
        assert shown["Note_1"]["id"] == shown["Note"]["id"] + 1


@pytest.mark.backends("sqlite-file")
def test_a_union_of_moments_and_texts_is_listed(notes: Session) -> None:
    """Below a UNION not even a column has what its declaration says."""
    both: Any = union_all(
        select(Note.id, Note.due.label("at")), select(Tag.id, literal(NOON, UTCDateTime()))
    )
    columns = both.selected_columns
    listing = Listing(
        both, sort=SortAllowlist({"at": columns.at}, default="at", tiebreaker=columns.id)
    )
    rows = len(notes.execute(both).all())
    assert len(assert_walks(listing, notes, "-at", 4, key=tuple)) == rows


def _signed(payload: Any) -> str:
    """Sign a payload of one's own with the secret of the list."""
    signer = Signer([SECRET])
    key = signer._keys[0]
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    head = bytes((2, key.number))
    mac = key.mac(head, raw)
    token = base64.urlsafe_b64encode(head + mac + key.sealed(mac, raw))
    return token.decode().rstrip("=")


def test_a_cursor_that_is_rightly_signed_and_odd_inside_is_refused(notes: Session) -> None:
    """Whatever signs with the same secret: a 400 with its code, and no rows."""
    listing = Listing(
        Note,
        sort=SortAllowlist({"code": Note.code, "real": Note.real, "due": Note.due}, default="code"),
    )
    mark = json.loads(_opened(read(listing, notes, per_page="2").next_cursor or ""))[0]
    good = [mark, 0, None, ["sc1", 1], 0]
    assert read(listing, notes, cursor=_signed(good)).items
    directions: tuple[Any, ...] = (-1, 9, "0", None, True, 1.0, [])
    expiries: tuple[Any, ...] = ("x", [], 1.5)
    ties: tuple[Any, ...] = (-1, 2, 10**9, "0", None, True)
    values: tuple[Any, ...] = ("ab", None, {}, [], [["sc1"], 1], ["sc1", "s1"])
    numbers: tuple[Any, ...] = (10**30, -(10**30), None, True, "t1", "zz", "")
    texts: tuple[Any, ...] = (1, None, "n1", "d2026-01-01", "fnan", "tx", "u0")
    odd: list[Any] = [
        *(
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"null",
            b"[" * 5000,
            b"9" * 5000,
            json.dumps(good).encode() + b"x",
        ),
        *([*good[:i], *good[i + 1 :]] for i in range(5)),
        *([mark, d, None, ["sc1", 1], 0] for d in directions),
        *([mark, 0, e, ["sc1", 1], 0] for e in expiries),
        *([mark, 0, None, ["sc1", 1], t] for t in ties),
        *([mark, 0, None, v, 0] for v in values),
        *([mark, 0, None, ["sc1", v], 0] for v in numbers),
        *([mark, 0, None, [v, 1], 0] for v in texts),
    ]
    for payload in odd:
        with pytest.raises(QueryError) as caught:
            read(listing, notes, cursor=_signed(payload))
            pytest.fail(f"taken: {payload!r}")
        codes = {error["code"] for error in caught.value.errors}
        assert codes <= {"query.cursor_malformed", "query.cursor_mismatch"}, payload


def _opened(token: str) -> bytes:
    return Signer([SECRET]).verify(token)


def test_a_cursor_goes_with_what_its_keys_compile_to(notes: Session) -> None:
    """Names of lists and entries are no meaning: another statement, key or filter is refused."""

    def make(key: Any, source: Any = Note, name: str = "title", target: Any = Note.id) -> Any:
        return Listing(
            source,
            sort=SortAllowlist({name: key}, default=name),
            filter=FilterAllowlist({"at": Filter(target, ops="gte")}),
            name="List",
        )

    first = make(Note.code)
    cursor = read(first, notes, per_page="2").next_cursor
    filtered = read(first, notes, per_page="2", at__gte="1").next_cursor
    for other in (
        make(Note.url),
        make(func.lower(Note.code)),
        make(Note.code, select(Note).where(Note.id > 2)),
        make(Note.code, select(Note).join(Note.tags).distinct()),
        make(type_coerce(Note.code, Integer)),
    ):
        with pytest.raises(QueryError, match="cursor_mismatch"):
            read(other, notes, cursor=cursor)
    constant = make(Note.code, select(Note).where(Note.id > 3))
    same_form = make(Note.code, select(Note).where(Note.id > 4))
    with pytest.raises(QueryError, match="cursor_mismatch"):
        read(same_form, notes, cursor=read(constant, notes, per_page="2").next_cursor)
    with pytest.raises(QueryError, match="cursor_mismatch"):
        read(make(Note.code, target=Note.real), notes, cursor=filtered, at__gte="1")
    # Another release that changes nothing about the list: other objects, another published name.
    again = make(Note.code, name="code")
    assert read(again, notes, cursor=cursor).items == read(first, notes, cursor=cursor).items


def test_nothing_in_a_cursor_can_be_read(notes: Session) -> None:
    """A primary key that is nobody's business is appended as tie-breaker to every order."""
    listing = Listing(Note, sort=SortAllowlist({"url": Note.pinned}, default="url"))
    for page in walk_forward(listing, notes, per_page="4"):
        for cursor in (page.next_cursor, page.prev_cursor):
            if cursor is not None:
                raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
                assert json.dumps(_opened(cursor).decode())[-12:].encode() not in raw
                assert b"null" not in raw
    keyset = Keyset(("secret", 48213))
    assert b"secret" not in base64.urlsafe_b64decode(Signer(["k"]).dumps(keyset, "m") + "==")
    # The same place makes the same cursor, and another place shares no bytes of its key stream.
    one, other = (Signer(["k"]).dumps(Keyset((n, 1)), "m") for n in (1, 2))
    assert one == Signer(["k"]).dumps(Keyset((1, 1)), "m")
    assert not hmac.compare_digest(one[30:], other[30:])


@pytest.mark.backends("sqlite-file")
def test_a_key_too_long_for_a_link_names_list_and_key(notes: Session) -> None:
    """A next link that no server takes would put the rows behind it out of reach."""
    for note in notes.scalars(select(Note)):
        note.body = str(note.id) * 3_100
    notes.flush()
    listing = Listing(Note, sort=SortAllowlist({"body": Note.body}, default="body"), name="Notes")
    with pytest.raises(PlanError, match=r"Listing 'Notes', entry 'body'.*func.left"):
        read(listing, notes, per_page="2")
