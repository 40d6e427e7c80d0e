"""Filter allowlists: what is understood, what is refused, what matches."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    func,
    select,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.datastructures import MultiDict

from flask_dbkit import (
    Filter,
    FilterAllowlist,
    Listing,
    PlanError,
    QueryError,
    SortAllowlist,
    UTCDateTime,
)
from flask_dbkit.lists.converters import BadValue, converter_for
from flask_dbkit.lists.operators import OPERATORS
from tests.lists.catalog import Book, Mood, Sample, Tag, fill_books, fill_samples


def by_tag(statement: Any, value: int) -> Any:
    return statement.where(Book.tags.any(Tag.id == value))


FILTER = FilterAllowlist(
    {
        "title": Filter(
            Book.title,
            ops="eq ne contains icontains startswith istartswith endswith iendswith",
        ),
        "score": Filter(Book.score, ops="eq ne lt lte gt gte in not_in isnull", max_values=3),
        "added": Filter(Book.added, ops="gte lt"),
        "shelf": Book.shelf,
        "tag": Filter(by_tag, type=int),
    }
)


def mistakes(args: Any, allowlist: FilterAllowlist = FILTER) -> list[tuple[str, str]]:
    with pytest.raises(QueryError) as caught:
        allowlist.apply(select(Book), args)
    return [
        (error["parameter"], error["code"].removeprefix("query.")) for error in caught.value.errors
    ]


def test_each_operator_matches_what_it_says(session: Session) -> None:
    """The same rows on every database, as Python would choose them."""
    fill_books(session)
    books = session.scalars(select(Book)).all()
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"title": "sea"}, None),
        ({"shelf": "2"}, lambda b: b.shelf == 2),
        ({"shelf__eq": "2"}, lambda b: b.shelf == 2),
        ({"shelf__in": "1,2"}, lambda b: b.shelf in (1, 2)),
        ({"score": "5"}, lambda b: b.score == 5),
        ({"score__ne": "5"}, lambda b: b.score not in (5, None)),
        ({"score__lt": "3"}, lambda b: b.score is not None and b.score < 3),
        ({"score__lte": "3"}, lambda b: b.score is not None and b.score <= 3),
        ({"score__gt": "3"}, lambda b: b.score is not None and b.score > 3),
        ({"score__gte": "5", "score__lte": "9"}, lambda b: b.score in (5, 8)),
        ({"score__not_in": "1,2"}, lambda b: b.score not in (1, 2, None)),
        ({"score__isnull": "true"}, lambda b: b.score is None),
        ({"score__isnull": "0"}, lambda b: b.score is not None),
        ({"title__contains": "ea"}, lambda b: "ea" in b.title),
        ({"title__contains": "Se"}, lambda b: "Se" in b.title),
        ({"title__contains": "0%_o"}, lambda b: "0%_o" in b.title),
        ({"title__contains": "%"}, lambda b: "%" in b.title),
        ({"title__contains": "_"}, lambda b: "_" in b.title),
        ({"title__contains": "\\"}, lambda b: "\\" in b.title),
        ({"title__icontains": "SEA"}, lambda b: "sea" in b.title.lower()),
        ({"title__icontains": "%_"}, lambda b: "%_" in b.title),
        ({"title__startswith": "se"}, lambda b: b.title.startswith("se")),
        ({"title__istartswith": "SE"}, lambda b: b.title.lower().startswith("se")),
        ({"title__endswith": "ff"}, lambda b: b.title.endswith("ff")),
        ({"title__endswith": ""}, lambda b: True),
        ({"title__iendswith": "FF"}, lambda b: b.title.lower().endswith("ff")),
        ({"added__gte": "2026-01-01T00:00:04Z"}, lambda b: b.added.second >= 4),
        ({"added__lt": "2026-01-01T01:00:04+01:00"}, lambda b: b.added.second < 4),
        ({"added__lt": "2026-01-01"}, lambda b: False),
        ({"tag": "2"}, lambda b: any(tag.id == 2 for tag in b.tags)),
        ({"unrelated": "1", "utm__source": "x"}, lambda b: True),
    ]
    for args, chosen in cases:
        found = {b.id for b in session.scalars(FILTER.apply(select(Book), args))}
        if chosen is not None:
            assert found == {b.id for b in books if chosen(b)}, args
        else:
            assert found  # the collation may ignore case


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"title__in": "a"}, ("title__in", "unknown_operator")),
        ({"title__foo": "a"}, ("title__foo", "unknown_operator")),
        ({"title__": "a"}, ("title__", "unknown_operator")),
        ({"added": "2026-01-01"}, ("added", "unknown_operator")),
        ({"titel__contains": "a"}, ("titel__contains", "unknown_filter")),
        ({"score": "5x"}, ("score", "bad_value")),
        ({"score": ""}, ("score", "bad_value")),
        ({"score": "٥"}, ("score", "bad_value")),
        ({"score": " 5"}, ("score", "bad_value")),
        ({"score": "1_0"}, ("score", "bad_value")),
        ({"score": "2147483648"}, ("score", "bad_value")),
        ({"score": "9" * 5000}, ("score", "bad_value")),
        ({"score__in": ""}, ("score__in", "bad_value")),
        ({"score__in": "1,x"}, ("score__in", "bad_value")),
        ({"score__in": "1,2,3,4"}, ("score__in", "too_many_values")),
        ({"score__isnull": "maybe"}, ("score__isnull", "bad_value")),
        ({"title": "a\0b"}, ("title", "bad_value")),
        ({"title": "\ud800"}, ("title", "bad_value")),
        ({"title": "x" * 1001}, ("title", "bad_value")),
        ({"title": ["a", "b"]}, ("title", "repeated_parameter")),
        ({"score__gte": ["1", "2"]}, ("score__gte", "repeated_parameter")),
        ({"added__gte": "2026-01-01T00:00:00"}, ("added__gte", "bad_value")),
        ({"added__gte": "0001-01-01T00:00:00+14:00"}, ("added__gte", "bad_value")),
        ({"added__gte": "2026-02-30"}, ("added__gte", "bad_value")),
        ({"tag": "x"}, ("tag", "bad_value")),
        ({"tag__in": "1"}, ("tag__in", "unknown_operator")),
    ],
)
def test_each_mistake_has_its_code(args: Any, expected: tuple[str, str]) -> None:
    """Said before any SQL, with the name the client used."""
    assert mistakes(args) == [expected]


@pytest.mark.parametrize(
    "value",
    [None, [], (), set(), frozenset(), {}, {"a": 1}, [None], [[]], ["1", None], object(), {1: 2}],
)
def test_a_value_that_is_nothing_widens_no_result(value: Any) -> None:
    """A parameter that an entry claims is converted or refused, never left out."""
    for op in ("", "__in", "__not_in", "__gte", "__isnull"):
        name = f"score{op}"
        assert mistakes({name: value}) == [(name, "bad_value")]
    bracketed = FilterAllowlist({"score": Book.score}, syntax="brackets")
    for name in ("score", "score[in]"):
        with pytest.raises(QueryError):
            bracketed.apply(select(Book), {name: value})
    assert mistakes({"tag": value}) == [("tag", "bad_value")]
    assert FILTER.parse({"unclaimed": value}) == ()


def test_values_of_python_are_taken_as_a_client_would_write_them() -> None:
    """What is given as ``args=`` follows the same rules as a query string."""
    every = FilterAllowlist(
        {
            "flag": Filter(Book.title, type=bool),
            "number": Filter(Book.score, ops="eq in"),
            "real": Filter(Book.score, type=float),
            "sum": Filter(Book.score, type=Decimal),
            "at": Book.added,
            "day": Filter(Book.added, type=date),
            "mood": Filter(Book.title, type=Mood),
            "code": Filter(Book.title, type=UUID),
            "span": Filter(Book.title, type=timedelta),
            "data": Filter(Book.title, type=bytes),
        }
    )
    moment = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
    for name, value in {
        "flag": True,
        "number": 5,
        "real": 1e-07,
        "sum": Decimal("1E+2"),
        "at": moment,
        "day": date(2026, 1, 31),
        "mood": Mood.calm,
        "code": UUID(int=5),
        "span": timedelta(days=-1, microseconds=1),
        "data": b"\0\xff",
    }.items():
        (condition,) = every.parse({name: value})
        assert condition.value == value, name
    (condition,) = every.parse({"number__in": (1, "2", 3)})
    assert condition.value == [1, 2, 3]
    for name, value in {"flag": 2, "number": True, "sum": Decimal("NaN"), "real": 1e999}.items():
        with pytest.raises(QueryError):
            every.parse({name: value})


@pytest.mark.parametrize("args", [[], [["score", "1"]], "score=1", 5, True, [1], b"x", None])
def test_a_body_that_is_no_mapping_is_a_mistake_of_the_client(args: Any) -> None:
    """A body passed on as ``args=`` may be any JSON: a 400 and not a 500."""
    listing = Listing(Book, sort=SortAllowlist({"id": Book.id}, default="id"), filter=FILTER)
    if args is not None:  # there it means that nothing was given
        for read in (listing.paginate, listing.paginate_keyset):
            with Session() as session, pytest.raises(QueryError) as caught:
                read(args=args, session=session)
            assert caught.value.errors[0]["code"] == "query.bad_value"
    if args != []:  # no pair at all
        with pytest.raises(QueryError):
            FILTER.apply(select(Book), args)


def test_all_mistakes_come_together() -> None:
    """One request, one answer."""
    found = mistakes({"score": "x", "title__foo": "a", "nope__gte": "1", "shelf": ["1", "2"]})
    assert sorted(found) == [
        ("nope__gte", "unknown_filter"),
        ("score", "bad_value"),
        ("shelf", "repeated_parameter"),
        ("title__foo", "unknown_operator"),
    ]


def test_an_error_names_what_is_allowed() -> None:
    """The operators, the names or the values, as far as they are published."""
    with pytest.raises(QueryError) as caught:
        FILTER.parse({"title__gte": "a", "scor__gte": "b", "score__isnull": "c"})
    allowed = {error["parameter"]: error["allowed"] for error in caught.value.errors}
    assert allowed["title__gte"][:2] == ["eq", "ne"]
    assert allowed["scor__gte"] == ["title", "score", "added", "shelf", "tag"]
    assert allowed["score__isnull"] == ["true", "false"]


def test_lists_are_joined_and_everything_else_is_said_once(session: Session) -> None:
    """``in`` may be repeated, in whatever kind of mapping it comes."""
    fill_books(session)
    wanted = set(session.scalars(select(Book.id).where(Book.shelf.in_([0, 1, 3]))))
    for args in (
        {"shelf__in": "0,1,3"},
        {"shelf__in": ["0", "1,3"]},
        MultiDict([("shelf__in", "0"), ("shelf__in", "1"), ("shelf__in", "3")]),
        [("shelf__in", "0,1"), ("shelf__in", "3")],
    ):
        assert set(session.scalars(FILTER.apply(select(Book.id), args))) == wanted


def test_the_number_of_conditions_is_limited() -> None:
    """A query string cannot make a statement without end."""
    few = FilterAllowlist({"score": Filter(Book.score, ops="gte lte ne")}, max_filters=2)
    args = {"score__gte": "1", "score__lte": "2", "score__ne": "3"}
    assert mistakes(args, few) == [("score__ne", "too_many_filters")]
    assert len(few.parse({"score__gte": "1", "score__lte": "2"})) == 2


def test_brackets_are_another_spelling() -> None:
    """The same rules, ``name[op]=value``."""
    brackets = FilterAllowlist({"score": Filter(Book.score, ops="eq gte")}, syntax="brackets")
    found = brackets.parse({"score[gte]": "1", "score": "2", "x[y]": "3", "score__gte": "9"})
    assert [(one.op, one.value) for one in found] == [("eq", 2), ("gte", 1)]
    assert mistakes({"score[lt]": "1"}, brackets) == [("score[lt]", "unknown_operator")]
    assert mistakes({"scor[gte]": "1"}, brackets) == [("scor[gte]", "unknown_filter")]
    assert brackets.parameter("score", "gte") == "score[gte]"
    assert FILTER.parameter("score", "gte") == "score__gte"


def test_reserved_parameters_are_left_alone() -> None:
    """They mean the same in every list."""
    args = {"sort": "x", "page": "1", "per_page": "2", "cursor": "c", "direction": "asc"}
    assert FILTER.parse(args) == ()


def test_an_aggregate_is_filtered_by_having(session: Session) -> None:
    """WHERE does not see it."""
    fill_books(session)
    count = func.count(Book.id)
    allowlist = FilterAllowlist({"books": Filter(count, ops="gte")})
    statement = select(Book.shelf, count).group_by(Book.shelf)
    every = session.execute(statement).all()
    found = session.execute(allowlist.apply(statement, {"books__gte": "10"})).all()
    assert {tuple(row) for row in found} == {tuple(row) for row in every if row[1] >= 10}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("decimal", str),
        ("point", lambda v: v.isoformat()),
        ("naive", lambda v: v.isoformat()),
        ("day", lambda v: v.isoformat()),
        ("clock", lambda v: v.isoformat()),
        ("uuid", str),
        ("boolean", lambda v: str(v).lower()),
        ("mood", lambda v: v.name),
        ("word", lambda v: v),
        ("written", lambda v: v.name),
        ("double", repr),
        ("span", lambda v: repr(v.total_seconds())),
        ("integer", str),
    ],
)
def test_the_text_of_a_value_finds_it(session: Session, column: str, text: Any) -> None:
    """What the JSON of an item says can be asked for, on every database."""
    fill_samples(session, rows=9)
    attribute = getattr(Sample, column)
    allowlist = FilterAllowlist({"it": Filter(attribute, ops="eq in gte")})
    for value in session.scalars(select(attribute)).all():
        asked = text(value)
        found = session.scalars(allowlist.apply(select(attribute), {"it": asked})).all()
        assert set(found) == {value}, asked
        assert value in session.scalars(allowlist.apply(select(attribute), {"it__in": asked})).all()


def test_a_decimal_is_compared_with_all_its_digits(session: Session) -> None:
    """A database that rounds to the column's scale, or fails above it, is not asked to."""
    fill_samples(session, rows=5)
    allowlist = FilterAllowlist({"n": Filter(Sample.decimal, ops="eq gte lte")})
    value = session.scalars(select(Sample.decimal)).first()
    near = {"n": f"{value}0000001"}
    assert session.scalars(allowlist.apply(select(Sample.id), near)).all() == []
    most = {"n__lte": "9" * 40}
    assert len(session.scalars(allowlist.apply(select(Sample.id), most)).all()) == 5


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (int, "-5", -5),
        (SmallInteger(), "32767", 32767),
        (BigInteger, str(2**63 - 1), 2**63 - 1),
        (bool, "1", True),
        (float, "1e3", 1000.0),
        (float, ".5", 0.5),
        (sqltypes.Float(), "-1.5", -1.5),
        (sqltypes.Numeric(asdecimal=False), "1.5", 1.5),
        (Decimal, "+1.50", Decimal("1.50")),
        (date, "2026-01-31", date(2026, 1, 31)),
        (datetime, "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime, "2026-01-31 12:00:00.5+02:00", datetime(2026, 1, 31, 10, 0, 0, 500000, UTC)),
        (sqltypes.DateTime(), "2026-01-31", datetime(2026, 1, 31)),  # noqa: DTZ001
        (sqltypes.DateTime(), "2026-01-31T12:30", datetime(2026, 1, 31, 12, 30)),  # noqa: DTZ001
        (UTCDateTime(), "2026-01-31T12:30Z", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        (time, "12:30", time(12, 30)),
        (timedelta, "-1.5", timedelta(seconds=-1.5)),
        (UUID, "00000000000000000000000000000005", UUID(int=5)),
        (sqltypes.Uuid(as_uuid=False), "0" * 31 + "5", str(UUID(int=5))),
        (bytes, "AP8=", b"\x00\xff"),
        (sqltypes.LargeBinary(), "AP8=", b"\x00\xff"),
        (Mood, "angry", Mood.angry),
        (sqltypes.PickleType(), "AP8=", b"\x00\xff"),
        (str, "x", "x"),
        (str.upper, "x", "X"),
        (lambda text: int(text, 16), "ff", 255),
    ],
)
def test_text_becomes_a_value_of_the_type(type_: Any, text: str, value: Any) -> None:
    """ISO 8601, ASCII digits, names of members."""
    found = converter_for(type_).convert(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (int, "1.0"),
        (int, "+1"),
        (int, str(2**63)),
        (SmallInteger, "32768"),
        (bool, "yes"),
        (float, "nan"),
        (float, "inf"),
        (float, "1e999"),
        (Decimal, "1e5"),
        (Decimal, "NaN"),
        (Decimal, "9" * 66),
        (date, "20260131"),
        (date, "2026-W05-6"),
        (date, "2026-13-01"),
        (datetime, "2026-01-31T12:00:00"),
        (datetime, "2026-01-31T25:00:00Z"),
        (sqltypes.DateTime(), "2026-01-31T12:00:00Z"),
        (time, "25:00"),
        (time, "12:00Z"),
        (timedelta, "9" * 40),
        (timedelta, "99999999999999"),
        (timedelta, "1h"),
        (UUID, "0"),
        (UUID, "{00000000-0000-0000-0000-000000000005}"),
        (bytes, "x"),
        (bytes, "é"),
        (Mood, "h"),
        (str, "\0"),
        (lambda text: int(text, 16), "xyz"),
        (lambda text: 1 / int(text), "0"),
    ],
)
def test_text_that_is_no_value_is_refused(type_: Any, text: str) -> None:
    """Never passed on for the driver to find."""
    with pytest.raises(BadValue):
        converter_for(type_).convert(text)


def test_a_type_without_a_text_form_is_named_at_first_use() -> None:
    """The developer's mistake, not the client's."""
    table = Table("t", MetaData(), Column("j", JSON), Column("n", Integer))
    with pytest.raises(PlanError, match="Give the Filter a type="):
        FilterAllowlist({"j": Filter(table.c.j)}).parse({"j": "1"})
    with pytest.raises(PlanError, match="need a text column"):
        FilterAllowlist({"n": Filter(table.c.n, ops="contains")}).parse({"n__contains": "1"})
    with pytest.raises(PlanError, match="is no type"):
        converter_for(5)


@pytest.mark.parametrize(
    "name", ["sort", "page", "per_page", "cursor", "direction", "", "a b", "a[b]", "x__gte", 1]
)
def test_names_that_mean_something_else_are_refused(name: Any) -> None:
    """At import, when the allowlist is made."""
    with pytest.raises(ValueError, match="cannot be a filter name"):
        FilterAllowlist({name: Book.title})


def test_a_union_is_filtered_in_its_parts() -> None:
    """It takes no WHERE; the error says what does."""
    both = select(Book.id).union(select(Tag.id))
    with pytest.raises(PlanError, match="Filter its parts"):
        FILTER.apply(both, {"shelf": "1"})


def test_wrong_arguments_are_found_at_import() -> None:
    """Each names what it takes."""
    for wrong in ("eq foo", "", ["like"]):
        with pytest.raises(ValueError, match="Use some of"):
            Filter(Book.title, ops=wrong)
    with pytest.raises(ValueError, match="only takes 'eq'"):
        Filter(by_tag, ops="eq in", type=int)
    with pytest.raises(TypeError, match="needs type="):
        Filter(by_tag)
    with pytest.raises(TypeError):
        Filter("title")
    with pytest.raises(ValueError):
        Filter(Book.title, max_values=0)
    with pytest.raises(ValueError):
        FilterAllowlist({}, syntax="dots")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        FilterAllowlist({}, max_filters=0)
    assert FILTER.entries["shelf"].ops == ("eq", "in")
    assert FILTER.entries["tag"].ops == ("eq",)
    assert repr(FILTER) == "FilterAllowlist(title, score, added, shelf, tag)"


def test_the_operators_are_those_of_the_documentation() -> None:
    """Readers rely on the list."""
    assert " ".join(OPERATORS) == (
        "eq ne lt lte gt gte in not_in contains icontains startswith istartswith endswith"
        " iendswith isnull"
    )


class Numbers(DeclarativeBase):
    pass


class Count(Numbers):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    plain: Mapped[int]
    small: Mapped[int] = mapped_column(SmallInteger)
    large: Mapped[int] = mapped_column(BigInteger)
    unsigned: Mapped[int] = mapped_column(
        BigInteger().with_variant(mysql.INTEGER(unsigned=True), "mysql", "mariadb")
    )


COUNTS = Listing(
    Count,
    sort=SortAllowlist({"id": Count.id}, default="id"),
    filter=FilterAllowlist(
        {name: Filter(getattr(Count, name), ops="eq lt in") for name in ("plain", "small", "large")}
        | {"unsigned": Filter(Count.unsigned, ops="eq lt in")}
    ),
)


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_number_is_taken_if_the_column_holds_it_on_that_database(session: Session) -> None:
    """SQLite has 64 bits in every column, MariaDB columns without a sign."""
    Numbers.metadata.create_all(session.connection())
    name = session.connection().dialect.name
    wide = name == "sqlite"
    limits = {
        "plain": (-(2**63), 2**63 - 1) if wide else (-(2**31), 2**31 - 1),
        "small": (-(2**63), 2**63 - 1) if wide else (-(2**15), 2**15 - 1),
        "large": (-(2**63), 2**63 - 1),
        "unsigned": (0, 2**32 - 1) if name == "mysql" else (-(2**63), 2**63 - 1),
    }
    for number in (0, 1):
        values = {column: limit[number] for column, limit in limits.items()}
        session.add(Count(id=number + 1, **values))
    session.commit()
    for column, (low, high) in limits.items():
        for number, value in ((1, low), (2, high)):
            for op in ("", "__in"):
                args = {f"{column}{op}": str(value)}
                found = COUNTS.paginate(args=args, session=session).items
                assert [one.id for one in found] == [number], args
        for value in (low - 1, high + 1):
            with pytest.raises(QueryError, match="bad_value"):
                COUNTS.paginate(args={column: str(value)}, session=session)


def _fits(schema: dict[str, Any], text: str) -> bool:
    """Validate a text as a query parameter, formats included."""
    if "anyOf" in schema:
        return any(_fits(one, text) for one in schema["anyOf"])
    words = ["true", "false", "1", "0"] if schema["type"] == "boolean" else [text]
    right = text in schema.get("enum", words) and len(text) <= schema.get("maxLength", 10**6)
    right &= re.search(schema.get("pattern", ""), text) is not None
    if schema["type"] == "integer":
        whole = re.fullmatch("-?[0-9]+", text, re.ASCII) is not None
        return whole and schema["minimum"] <= int(text) <= schema["maximum"]
    if schema.get("format") == "date":
        with contextlib.suppress(ValueError):
            return len(text) == len("2026-01-31") and bool(date.fromisoformat(text))
        return False
    return right


@pytest.mark.parametrize(
    "type_", [bool, date, datetime, sqltypes.DateTime(), time, Decimal, Mood, SmallInteger()]
)
def test_the_documented_texts_are_those_that_are_taken(type_: Any) -> None:
    """A client that validates by the schema is told nothing else than the endpoint says."""
    converter = converter_for(type_)
    for text in (
        *("true", "false", "1", "0", "yes", "", "2026-01-31", "2026-01-31T12:00:00", "12:30:00"),
        *("2026-01-31T12:00:00Z", "2026-01-31 12:00:00.5+02:00", "12:30", "1.5", "-1", ".5", "x"),
        *("happy", "h", "40000", "32767", "2026-01-31T12:00:00+0000", "1e5", "12:30:00.1234567"),
    ):
        try:
            converter.convert(text)
        except BadValue:
            assert not _fits(converter.schema, text), (type_, text)
        else:
            assert _fits(converter.schema, text), (type_, text)


def test_a_function_reads_the_values_of_an_enum_and_numbers_as_people_write_them() -> None:
    """What a form sends is not always what a column is called; a mistake is a 400 all the same."""

    def decimal(text: str) -> Decimal:
        try:
            return Decimal(text.replace(",", "."))
        except ArithmeticError as error:
            raise ValueError(text) from error

    allowlist = FilterAllowlist(
        {
            "mood": Filter(Sample.mood, type=lambda text: Mood(text)),
            "score": Filter(Book.score, ops="gte", type=decimal),
        }
    )
    value = next(iter(Mood)).value
    conditions = allowlist.parse([("mood", value), ("score__gte", "2,5")])
    assert [each.value for each in conditions] == [Mood(value), Decimal("2.5")]
    with pytest.raises(QueryError) as caught:
        allowlist.parse([("mood", "nobody's"), ("score__gte", "2;5")])
    assert [each["code"] for each in caught.value.errors] == ["query.bad_value"] * 2
