"""``Timestamps`` and ``Versioned`` move exactly when something else is stored, and lose nothing."""

# Classes are made in a loop, with columns from a table: mypy cannot follow.
# mypy: disable-error-code="attr-defined,misc,assignment,var-annotated,comparison-overlap"
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Session, composite, mapped_column, synonym
from sqlalchemy.orm.attributes import flag_modified

from flask_dbkit import Timestamps, Versioned, declarative_base, get_or_create, upsert
from flask_dbkit.models.types import UTCDateTime
from tests.support.databases import Database


class Truths(list[bool]):
    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")


class Vector(list[int]):
    """Compares element by element, as the arrays of numpy do, and cannot be hashed."""

    __hash__ = None

    def __eq__(self, other: object) -> Any:
        others = other if isinstance(other, list) else [other] * len(self)
        return Truths(one == another for one, another in zip(self, others, strict=False))


class VectorText(sa.TypeDecorator[Any]):
    impl, cache_ok = sa.String(50), True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Vector(map(int, value.split(",")))


class DecimalText(sa.TypeDecorator[Any]):
    impl, cache_ok = sa.String(50), True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value)


class LoadedTrimmed(sa.TypeDecorator[Any]):
    """Loads what it never stores: trimmed, and nothing as an empty text."""

    impl, cache_ok = sa.String(50), True

    def process_result_value(self, value: Any, dialect: Any) -> str:
        return (value or "").strip()


class Wrapped(DecimalText):
    """A decorator around a decorator."""

    impl, cache_ok = DecimalText, True


class PlainVector(sa.types.UserDefinedType[Any]):
    """A type that is no decorator, as extensions of databases bring along."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "VARCHAR(50)"

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: None if value is None else ",".join(map(str, value))

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: None if value is None else Vector(map(int, value.split(",")))


class Shouted(sa.TypeDecorator[Any]):
    """What is stored is made by the database."""

    impl, cache_ok = sa.String(50), True

    def bind_expression(self, bindparam: Any) -> Any:
        return sa.func.upper(bindparam)


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


ID = uuid.UUID("0190d9e0-0000-7000-8000-000000000000")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TYPES: dict[str, Any] = {
    "doc": sa.JSON,
    "mutable": MutableDict.as_mutable(sa.JSON),
    "vector": VectorText,
    "plain_vector": PlainVector,
    "decimal": DecimalText,
    "wrapped": Wrapped,
    "trimmed": LoadedTrimmed,
    "shouted": Shouted,
    "pickled": sa.PickleType,
    "price": sa.Numeric(10, 2),
    "ratio": sa.Double,
    "number": sa.Integer,
    "yes": sa.Boolean,
    "raw": sa.LargeBinary,
    "at": UTCDateTime,
    "wait": sa.Interval,
    "size": sa.Enum(Size, native_enum=False),
    "uid": sa.Uuid(native_uuid=False),
    "text": sa.String(50),
}
POSTGRESQL_TYPES: dict[str, Any] = {
    "exact": sa.Numeric(),
    "binary_doc": postgresql.JSONB,
    "list": sa.ARRAY(sa.Integer),
    "decimals": sa.ARRAY(sa.Numeric()),
    "docs": sa.ARRAY(sa.JSON),
    "ranges": postgresql.INT4RANGE,
}
ASSIGNED: list[tuple[str, Any, Any]] = [
    ("doc", {"a": 1}, {"a": True}),
    ("doc", {"a": 0, "b": [1, {"c": 1}]}, {"a": 0, "b": [1, {"c": 1.0}]}),
    ("doc", {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ("doc", {"a": [1, "x", None, 1.5]}, {"a": [1, "x", None, 1.5]}),
    ("doc", sa.null(), None),
    ("mutable", {"a": 1}, {"a": True}),
    ("mutable", {"a": 1}, {"a": 1}),
    ("vector", Vector([1, 2]), Vector([1, 3])),
    ("vector", Vector([1, 2]), Vector([1, 2])),
    ("plain_vector", Vector([1, 2]), Vector([1, 3])),
    ("plain_vector", Vector([1, 2]), Vector([1, 2])),
    ("decimal", Decimal("1.0"), Decimal("1.00")),
    ("decimal", Decimal("1.0"), Decimal("1.0")),
    ("wrapped", Decimal("1.0"), Decimal("1.00")),
    ("trimmed", " sea ", "sea"),
    ("trimmed", "sea", "sea"),
    ("trimmed", None, ""),
    ("pickled", {"a": 1}, {"a": True}),
    ("price", Decimal("1.0"), Decimal("1.00")),
    ("price", Decimal("1.0"), 1),
    ("price", Decimal("1.0"), Decimal("1.01")),
    ("ratio", 1.0, 1),
    ("number", 1, 2),
    ("yes", True, 1),
    ("raw", b"sea", bytearray(b"sea")),
    ("at", NOON, NOON.astimezone(timezone(timedelta(hours=2)))),
    ("wait", timedelta(seconds=60), timedelta(minutes=1)),
    ("size", Size.SMALL, Size.SMALL),
    ("uid", ID, uuid.UUID(str(ID))),
    ("text", "sea", "Sea"),
    ("text", None, None),
]
POSTGRESQL_ASSIGNED: list[tuple[str, Any, Any]] = [
    ("exact", Decimal("1.0"), Decimal("1.00")),
    ("exact", Decimal("1.0"), Decimal("1.0")),
    ("exact", Decimal(1), 1),
    ("binary_doc", {"a": 1}, {"a": True}),
    ("binary_doc", {"a": 1}, {"a": 1.0}),
    ("binary_doc", {"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"d": 3, "c": 2}], "a": 1}),
    ("list", [1, 2], [1, 2]),
    ("list", [1, 2], [2, 1]),
    ("decimals", [Decimal("1.0")], [Decimal("1.00")]),
    ("docs", [{"a": 1}], [{"a": True}]),
    ("docs", [{"a": 1}], [{"a": 1}]),
    ("ranges", postgresql.Range(1, 3), postgresql.Range(1, 3)),
]


@pytest.fixture
def engines(database: Database) -> Iterator[list[sa.Engine]]:
    """One engine per driver of the database."""
    urls = [sa.make_url(database.url)]
    if database.name == "postgresql":
        urls.append(urls[0].set(drivername="postgresql+psycopg2"))
    made = [sa.create_engine(url) for url in urls]
    yield made
    for engine in made:
        engine.dispose()


def _models(types: dict[str, Any]) -> tuple[Any, Any]:
    """One table twice: without the mixins, and with them."""
    base: Any = declarative_base()
    columns = {"id": lambda: mapped_column(sa.Integer, primary_key=True)} | {
        name: lambda type_=type_: mapped_column(type_, nullable=True)
        for name, type_ in types.items()
    }
    return tuple(
        type(name, (*mixins, base), {key: make() for key, make in columns.items()})
        for name, mixins in (("Plain", ()), ("Kept", (Timestamps, Versioned)))
    )  # type: ignore[return-value]


def _raw(session: Session, model: Any, attribute: str) -> Any:
    """What the database says it has stored, in its own words."""
    column = sa.literal_column(session.get_bind().dialect.identifier_preparer.quote(attribute))
    shown = {
        "sqlite": sa.func.quote(column),
        "postgresql": sa.cast(column, sa.Text),
        "mysql": sa.cast(sa.func.concat(column), sa.LargeBinary),
    }
    name = session.get_bind().dialect.name
    return session.scalar(select(shown["mysql" if name == "mariadb" else name]).select_from(model))


def _store(engine: sa.Engine, model: Any, attribute: str, old: Any) -> Any:
    with Session(engine) as session:
        session.execute(sa.delete(model))
        session.add(model(id=1, **{attribute: old}))
        session.commit()
        return _raw(session, model, attribute)


def _expired(session: Session, model: Any, attribute: str) -> Any:
    obj = session.get_one(model, 1)
    session.expire(obj)
    return obj


def _deferred(session: Session, model: Any, attribute: str) -> Any:
    query = select(model).options(sa.orm.defer(getattr(model, attribute)))
    return session.scalars(query).one()


def test_what_is_stored_is_the_same_with_and_without_the_mixins(
    database: Database, engines: list[sa.Engine]
) -> None:
    """A value that Python calls equal may be stored differently; its change is never dropped.

    And the time and the version move exactly when the stored form does.
    """
    on_postgresql = database.name == "postgresql"
    plain, kept = _models(TYPES | (POSTGRESQL_TYPES if on_postgresql else {}))
    plain.metadata.create_all(engines[0])
    wrong = []
    for engine in engines:
        for attribute, old, new in ASSIGNED + (POSTGRESQL_ASSIGNED if on_postgresql else []):
            for load in (_expired, _deferred):
                stored, moved = {}, None
                for model in (plain, kept):
                    before = _store(engine, model, attribute, old)
                    with Session(engine) as session:
                        obj = load(session, model, attribute)
                        setattr(obj, attribute, new)
                        session.commit()
                        stored[model] = _raw(session, model, attribute)
                        if model is kept:
                            moved = obj.version > 1, obj.updated_at > obj.created_at
                changed = stored[kept] != before
                if stored[kept] != stored[plain] or moved != (changed, changed):
                    wrong.append((engine.driver, load.__name__, attribute, old, new, stored, moved))
    assert not wrong, "\n".join(map(str, wrong))


def test_an_upsert_stores_what_an_update_stores(
    database: Database, engines: list[sa.Engine]
) -> None:
    """The comparison inside the statement is no coarser than that of a flush."""
    on_postgresql = database.name == "postgresql"
    plain, kept = _models(TYPES | (POSTGRESQL_TYPES if on_postgresql else {}))
    plain.metadata.create_all(engines[0])
    wrong = []
    for engine in engines:
        for attribute, old, new in ASSIGNED + (POSTGRESQL_ASSIGNED if on_postgresql else []):
            before = _store(engine, kept, attribute, old)
            expected = _store(engine, plain, attribute, new)
            with Session(engine) as session:
                row = {"id": 1, attribute: new}
                (obj,) = upsert(kept, [row], by="id", session=session)
                stored = _raw(session, kept, attribute)
                moved = obj.version > 1, obj.updated_at > obj.created_at
                session.rollback()
            changed = stored != before
            if attribute != "pickled" and (stored != expected or moved != (changed, changed)):
                wrong.append((engine.driver, attribute, old, new, stored, expected, moved))
    assert not wrong, "\n".join(map(str, wrong))


def test_keys_of_any_type_find_their_row(database: Database, engines: list[sa.Engine]) -> None:
    """Also those that Python cannot hash, compare or tell apart."""
    on_postgresql = database.name == "postgresql"
    base: Any = declarative_base()
    keys: dict[str, tuple[Any, list[Any]]] = {
        "vector": (VectorText, [Vector([1, 2]), Vector([1]), Vector([1, 2])]),
        "decimal": (DecimalText, [Decimal("1.0"), Decimal("1.00"), Decimal("1.0")]),
    }
    if on_postgresql:
        keys["list"] = (sa.ARRAY(sa.Integer), [[1, 2], [3], [1, 2]])
        keys["lists"] = (sa.ARRAY(sa.Text, dimensions=2), [[["a"]], [["b"]], [["a"]]])
        keys["doc"] = (postgresql.JSONB, [{"a": 1}, {"a": True}, {"a": 1}])

    class Thing(base):
        id = mapped_column(sa.Integer, primary_key=True)
        text = mapped_column(sa.String(10))
        other = mapped_column(sa.ARRAY(sa.JSON) if on_postgresql else sa.JSON)

    for name, (type_, _) in keys.items():
        setattr(Thing, name, mapped_column(type_, unique=True))
    base.metadata.create_all(engines[0])
    for engine in engines:
        for name, (_, values) in keys.items():
            with Session(engine) as session:
                for text in "ab":
                    rows = [
                        {name: value, "text": f"{text}{number}", "other": [{"a": text}]}
                        for number, value in enumerate(values)
                    ]
                    one, two, again = upsert(Thing, rows, by=name, session=session)
                    assert one is again, name
                    assert (one.text, two.text) == (f"{text}2", f"{text}1"), name
                    assert one.other == [{"a": text}]
                assert session.scalar(select(sa.func.count(getattr(Thing, name)))) == 2
                found, created = get_or_create(Thing, session=session, **{name: values[0]})
                assert (found, created) == (one, False)


def _in_place(obj: Any) -> None:
    obj.mutable["beta"] = True


def _in_place_and_flagged(obj: Any) -> None:
    obj.doc["beta"] = True
    flag_modified(obj, "doc")


def _flagged_only(obj: Any) -> None:
    flag_modified(obj, "number")


def _flagged_then_assigned(obj: Any) -> None:
    flag_modified(obj, "number")
    obj.number = 1


def _made_by_the_database(obj: Any) -> None:
    obj.shouted = "SEA"


@pytest.mark.parametrize(
    "change",
    [
        _in_place,
        _in_place_and_flagged,
        _flagged_only,
        _flagged_then_assigned,
        _made_by_the_database,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
@pytest.mark.backends("sqlite-file", "postgresql")
def test_what_was_flagged_or_is_not_known_is_always_written(
    engine: sa.Engine, change: Callable[[Any], None]
) -> None:
    """``flag_modified()`` says that a value is to be written, equal or not."""
    _, kept = _models(TYPES)
    kept.metadata.create_all(engine)
    with Session(engine) as session:
        obj = kept(id=1, doc={"beta": 1}, mutable={"beta": 1}, number=1, shouted="sea")
        session.add(obj)
        session.commit()
        assert (obj.doc, obj.mutable, obj.number) == ({"beta": 1}, {"beta": 1}, 1)
        if change is _made_by_the_database:
            session.expire(obj)
        change(obj)
        session.commit()
        assert obj.version == 2
        assert obj.updated_at > obj.created_at
        assert "flask_dbkit.flagged" not in sa.inspect(obj).info


@pytest.mark.backends("sqlite-memory")
def test_a_flag_ends_with_the_object_being_expired(engine: sa.Engine) -> None:
    """What was flagged is gone then; an assignment after it is one like any other."""
    _, kept = _models(TYPES)
    kept.metadata.create_all(engine)
    with Session(engine) as session:
        obj = kept(id=1, doc={"beta": 1})
        session.add(obj)
        session.commit()
        assert obj.doc == {"beta": 1}
        flag_modified(obj, "doc")
        session.expire(obj)
        obj.doc = {"beta": 1}
        session.commit()
        assert obj.version == 1


@pytest.mark.backends("sqlite-memory")
def test_composites_synonyms_and_bad_values_are_left_to_sqlalchemy(engine: sa.Engine) -> None:
    """The comparison raises nothing of its own: the UPDATE says what is wrong, and where."""
    base: Any = declarative_base()

    class Point(Timestamps, base):
        id = mapped_column(sa.Integer, primary_key=True)
        x, y = mapped_column(sa.Integer), mapped_column(sa.Integer)
        place = composite(lambda x, y: (x, y), "x", "y")
        across = synonym("x")
        seen = mapped_column(UTCDateTime)

    base.metadata.create_all(engine)
    with Session(engine) as session:
        point = Point(id=1, x=1, y=2, seen=NOON)
        session.add(point)
        session.commit()
        point.across = 1
        session.commit()
        assert point.updated_at == point.created_at
        session.expire(point)
        point.seen = datetime(2026, 1, 1)  # noqa: DTZ001 - naive, which is the mistake
        with pytest.raises(sa.exc.StatementError, match=r"point\.seen was given the naive"):
            session.commit()
