"""Pages of every kind of statement that SQLAlchemy can write: each row once, or refused."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    REAL,
    Column,
    Double,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    bindparam,
    cast,
    column,
    desc,
    event,
    exists,
    func,
    literal,
    select,
    table,
    text,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.hybrid import Comparator, hybrid_property
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    contains_eager,
    defer,
    load_only,
    mapped_column,
    raiseload,
    scoped_session,
    sessionmaker,
    synonym,
    with_loader_criteria,
    with_polymorphic,
)

from flask_dbkit import (
    Filter,
    FilterAllowlist,
    Listing,
    PlanError,
    SortAllowlist,
    SortKey,
    paginate,
)
from flask_dbkit.lists import offset

from . import catalog
from .catalog import SECRET, Author, Book, Reading, assert_walks, fill_books

ROWS = 19
pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


class Base(DeclarativeBase):
    pass


class Worker(Base):
    __tablename__ = "worker"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "worker"}  # noqa: RUF012


class Manager(Worker):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(ForeignKey("worker.id"), primary_key=True)
    level: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    paws: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Star(Base):
    __tablename__ = "star"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "star",
        "with_polymorphic": "*",
    }


class Giant(Star):
    __tablename__ = "giant"
    star_id: Mapped[int] = mapped_column(ForeignKey("star.id"), primary_key=True)
    size: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "giant"}  # noqa: RUF012


class Doc(Base):
    __tablename__ = "doc"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    num: Mapped[int]
    flag: Mapped[bool | None]
    text: Mapped[str] = mapped_column(String(30))
    title = synonym("text")


class Cents(TypeDecorator[Decimal]):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Decimal(value) / 100


class Shouted(TypeDecorator[str]):
    """Kept in lower case, shown in upper case, by the database itself."""

    impl = String(20)
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.lower(bindparam)

    def column_expression(self, column: Any) -> Any:
        return func.upper(column)


class AnyCase(Comparator[str]):  # noqa: PLW1641 - equality makes a criterion
    def __eq__(self, other: object) -> Any:
        return func.lower(self.__clause_element__()) == func.lower(other)


class Offer(Base):
    __tablename__ = "offer"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Cents)
    word: Mapped[str] = mapped_column(Shouted)
    rank: Mapped[int | None] = mapped_column("other_name")

    @hybrid_property
    def folded(self) -> str:
        return self.word.lower()

    @folded.inplace.comparator
    @classmethod
    def _folded(cls) -> AnyCase:
        return AnyCase(cls.word)


Doc.twice = column_property(Doc.__table__.c.num * 2)
DOCS = SortAllowlist({"num": Doc.num}, default="num")


def fill(session: Session) -> None:
    """Write a few rows of each class, with many equal values."""
    Base.metadata.create_all(session.connection())
    r = random.Random(3)
    for n in range(1, ROWS + 1):
        name = r.choice("xyz")
        session.add_all(
            [
                Manager(id=n, name=name, level=n % 3) if n % 2 else Worker(id=n, name=name),
                Dog(id=n, name=name, paws=r.choice([None, 3, 4]))
                if n % 3
                else Animal(id=n, name=name),
                Giant(id=n, name=name, size=n % 3) if n % 2 else Star(id=n, name=name),
                Doc(
                    id=n,
                    data={"a": n % 4, "s": name, "f": r.random()} | ({"o": 1} if n % 2 else {}),
                    num=r.randrange(7),
                    flag=r.choice([None, True, False]),
                    text=r.choice(["a", "A", "b "]),
                ),
            ]
        )
    session.commit()


@pytest.fixture(scope="module")
def filled(shared_engine: Engine) -> Engine:
    with Session(shared_engine) as writer:
        fill(writer)
        fill_books(writer)
    return shared_engine


@pytest.fixture
def session(filled: Engine) -> Iterator[Session]:
    """Reads rows of each class and books; what it writes is rolled back."""
    with Session(filled) as made:
        yield made


def walk(
    session: Session, listing: Listing[Any], *sorts: str, key: Any = lambda one: one.id, **args: Any
) -> list[Any]:
    """Check the law for some orders and page sizes; all of them list the same rows."""
    found = [
        assert_walks(listing, session, sort, size, key=key, **args)
        for sort in ("", *sorts)
        for size in ((3,) if sort else (2, 7))
    ]
    assert all(sorted(one) == sorted(found[0]) for one in found)
    return found[0]


def distinct_on(statement: Any, *columns: Any) -> Any:
    """Say it as the SQLAlchemy line that runs wants it said."""
    extension = getattr(postgresql, "distinct_on", None)
    return statement.ext(extension(*columns)) if extension else statement.distinct(*columns)


def first_of(row: Any) -> Any:
    return row[0]


def test_inheritance_over_joined_tables(session: Session) -> None:
    """A class is listed with the columns of its parent, a parent with those of its children."""
    names = {"name": Manager.name, "level": Manager.level, "id": Manager.id}
    managers = Listing(
        Manager,
        sort=SortAllowlist(names, default="name"),
        filter=FilterAllowlist({"name": Worker.name, "level": Manager.level}),
    )
    assert len(walk(session, managers, "-level", "level,-name", "-id")) == 10
    assert len(walk(session, managers, level__in="1,2")) == 7
    every = with_polymorphic(Worker, [Manager])
    # NOT NULL in its table, and still missing for everybody who is no manager.
    workers = Listing(
        every,
        sort=SortAllowlist(
            {
                "name": every.name,
                "level": every.Manager.level,
                "last": SortKey(every.Manager.level, nulls="last"),
            },
            default="name",
        ),
    )
    assert len(walk(session, workers, "level", "-level", "-last,name")) == ROWS
    flat = with_polymorphic(Worker, [Manager], flat=True, aliased=True)
    of_alias = Listing(flat, sort=SortAllowlist({"level": flat.Manager.level}, default="level"))
    assert len(walk(session, of_alias, "-level")) == ROWS
    stars = Listing(
        Star, sort=SortAllowlist({"name": Star.name, "size": Giant.size}, default="name")
    )
    assert len(walk(session, stars, "size", "-size")) == ROWS
    giants = Listing(Giant, sort=SortAllowlist({"size": Giant.size}, default="-size"))
    assert len(walk(session, giants, "size")) == 10


def test_inheritance_in_one_table(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other classes of the table are neither listed nor counted, on deep pages too."""
    sort = SortAllowlist({"name": Dog.name, "paws": Dog.paws}, default="name")
    for source in (Dog, select(Dog.id, Dog.name)):
        dogs: Listing[Any] = Listing(source, sort=sort)  # type: ignore[arg-type]
        for count in ("exact", 100):
            page = dogs.paginate(args={"per_page": "2"}, session=session, count=count)  # type: ignore[arg-type]
            assert page.total == 13
        assert len(walk(session, dogs, "-paws")) == 13
    monkeypatch.setattr(offset, "_DEEP", 0)
    assert len(walk(session, Listing(Dog, sort=sort), "-paws")) == 13


def test_deep_pages_of_a_composite_key(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are selected first, all of their columns, and joined in the same order."""
    monkeypatch.setattr(offset, "_DEEP", 0)
    readings = Listing(Reading, sort=SortAllowlist({"stars": Reading.stars}, default="-stars"))
    walk(session, readings, "stars", key=lambda one: (one.book_id, one.reader))


def test_criteria_of_a_loader_hold_for_every_statement_of_a_page(session: Session) -> None:
    """Rows that are hidden from the list are not counted and no neighbours, either."""
    visible = session.scalar(select(func.count()).where(Doc.num > 2))
    statement = select(Doc).options(with_loader_criteria(Doc, Doc.num > 2))
    limited = select(Doc.id, Doc.num).options(with_loader_criteria(Doc, Doc.num > 2)).limit(99)

    def check() -> None:
        for source, rows in ((statement, visible), (limited, visible)):
            listing: Listing[Any] = Listing(source, sort=DOCS)
            for count in ("exact", 100):
                page = listing.paginate(args={"per_page": "2"}, session=session, count=count)  # type: ignore[arg-type]
                assert page.total == rows
            assert len(walk(session, listing, "-num")) == rows

    check()
    # Hiding what is deleted, for every statement of a session.
    statement, limited = select(Doc), select(Doc.id, Doc.num).limit(99)

    @event.listens_for(session, "do_orm_execute")
    def hide(state: Any) -> None:
        if state.is_select:
            state.statement = state.statement.options(
                with_loader_criteria(Doc, lambda cls: cls.num > 2, include_aliases=True)
            )

    check()


def test_keys_of_every_kind_of_expression(session: Session) -> None:
    """What is compared is what the database computed, digits and all."""
    entries = {
        "json_int": Doc.data["a"].as_integer(),
        "json_text": Doc.data["s"].as_string(),
        "json_float": Doc.data["f"].as_float(),
        "json_missing": Doc.data["o"].as_integer(),
        "synonym": Doc.title,
        "property": Doc.twice,
        "quotient": Doc.num / 3,
        "numeric": cast(Doc.num, Numeric(10, 3)) / 7,
        "third": cast(Doc.num, Float) / 3,
        "negative": -Doc.num,
        "joined": Doc.text + "x",
        "nullif": func.nullif(Doc.num, 3),
        "coalesce": func.coalesce(Doc.flag, False),
        "comparison": Doc.num > 3,
        "is_null": Doc.flag.is_(None),
        "text": cast(Doc.num, String(10)),
        "constant": literal(1),
    }
    listing = Listing(Doc, sort=SortAllowlist(entries, default="json_int"))
    for name in entries:
        for sign in ("", "-"):
            assert len(assert_walks(listing, session, sign + name, 6)) == ROWS


def test_types_and_comparators_of_the_application(session: Session) -> None:
    """A key is what is stored, whatever the application makes of it on the way."""
    Base.metadata.create_all(session.connection())
    r = random.Random(5)
    session.add_all(
        Offer(
            id=n,
            price=r.choice([None, Decimal("0.25"), Decimal("1.10")]),
            word=r.choice(["Ab", "aB", "c"]),
            rank=r.choice([None, 1, 2]),
        )
        for n in range(1, ROWS + 1)
    )
    session.commit()
    names = {"price": Offer.price, "word": Offer.word, "rank": Offer.rank, "folded": Offer.folded}
    filters = {
        "price": Filter(Offer.price, ops="gte", type=Decimal),
        "folded": Filter(Offer.folded),
    }
    offers = Listing(
        Offer, sort=SortAllowlist(names, default="price"), filter=FilterAllowlist(filters)
    )
    walk(session, offers, "-price", "word", "-rank", "folded,-price")
    dear = offers.paginate(args={"price__gte": "1.10"}, session=session)
    assert {offer.price for offer in dear} == {Decimal("1.10")}
    found = offers.paginate(args={"folded": "AB"}, session=session)
    assert {offer.word for offer in found} == {"AB"}


def test_common_table_expressions(session: Session) -> None:
    """As the listed entity, as rows, and joined where it has one row per entity."""
    some = select(Doc).where(Doc.num > 1).cte("some")
    doc = aliased(Doc, some)
    by_num = SortAllowlist({"num": some.c.num}, default="num")
    entity = Listing(select(doc), sort=SortAllowlist({"num": doc.num}, default="num"))
    rows: Listing[Any] = Listing(select(some.c.id, some.c.num), sort=by_num)
    assert walk(session, entity, "-num") == walk(session, rows, "-num")
    counts = select(Doc.num, func.count().label("n")).group_by(Doc.num).cte()
    joined = select(Doc, counts.c.n).join(counts, counts.c.num == Doc.num)
    pairs: Listing[Any] = Listing(joined, sort=SortAllowlist({"n": counts.c.n}, default="n"))
    assert len(walk(session, pairs, "-n", key=lambda row: row.Doc.id)) == ROWS


def test_a_subquery_of_one_row_repeats_nothing(session: Session) -> None:
    """Joined to every row: a total, or the first of what belongs to each."""
    total = select(func.count(Book.id).label("n")).subquery()
    with_total = Listing(
        select(Author).join(total, true()), sort=SortAllowlist({"n": total.c.n}, default="n")
    )
    assert len(walk(session, with_total, "-n")) == 7
    windowed = select(func.count(Book.id).over().label("n")).subquery()
    with pytest.raises(PlanError, match="can repeat Author"):
        Listing(select(Author).join(windowed, true()), sort=SortAllowlist({}, default="")).paginate(
            args={}, session=session
        )
    if session.get_bind().dialect.name == "postgresql":
        latest = (
            select(Book.title)
            .where(Book.author_id == Author.id)
            .order_by(Book.added.desc(), Book.id)
            .limit(1)
            .lateral("latest")
        )
        with_latest = Listing(
            select(Author).outerjoin(latest, true()),
            sort=SortAllowlist({"latest": latest.c.title}, default="latest"),
        )
        assert len(walk(session, with_latest, "-latest")) == 7


@pytest.mark.backends("postgresql")
def test_one_row_of_each_kind(session: Session) -> None:
    """DISTINCT ON: told apart by what is distinct, or by the key of the row that was kept."""
    kinds = session.scalar(select(func.count(Doc.num.distinct())))
    newest = distinct_on(select(Doc.id, Doc.text), Doc.num).order_by(Doc.num, Doc.id.desc())
    with pytest.raises(PlanError, match="DISTINCT ON beside an entity"):
        Listing(distinct_on(select(Doc), Doc.num), sort=DOCS).paginate(args={}, session=session)
    for statement, sort in (
        (newest, SortAllowlist({"text": Doc.text, "id": Doc.id}, default="text")),
        (newest.add_columns(Doc.num), SortAllowlist({"num": Doc.num}, default="-num")),
    ):
        listing: Listing[Any] = Listing(statement, sort=sort)
        assert len(walk(session, listing, *sort.entries, key=first_of)) == kinds


def test_window_functions(session: Session) -> None:
    """Beside columns they are columns; where pages cannot be cut by one, it is said."""
    place = func.row_number().over(partition_by=Doc.num, order_by=Doc.id).label("place")
    sort = SortAllowlist({"place": place, "num": Doc.num}, default="place")
    rows: Listing[Any] = Listing(
        select(Doc.id, Doc.num, place),
        sort=sort,
        filter=FilterAllowlist({"place": Filter(place, type=int)}),
    )
    assert len(walk(session, rows, "-place", "num,-place")) == ROWS
    ranked = select(Doc, place).subquery()
    doc = aliased(Doc, ranked)
    firsts = Listing(
        select(doc).where(ranked.c.place == 1), sort=SortAllowlist({"num": doc.num}, default="num")
    )
    assert len(walk(session, firsts, "-num")) == session.scalar(
        select(func.count(Doc.num.distinct()))
    )
    of_entity = Listing(Doc, sort=sort, name="ranked")
    assert len(of_entity.paginate(args={}, session=session).items) == ROWS
    with pytest.raises(PlanError, match="window function"):
        of_entity.paginate_keyset(args={}, session=session, secret=SECRET)
    with pytest.raises(PlanError, match="window function"):
        Listing(Doc, sort=DOCS, filter=FilterAllowlist({"p": Filter(place, type=int)})).paginate(
            args={}, session=session
        )


def test_labels_that_look_like_other_columns(session: Session) -> None:
    """A key is the expression that was published, whatever it is called in the row."""
    swapped: Listing[Any] = Listing(
        select(Doc.id.label("num"), Doc.num.label("id"), Doc.text.label("text")),
        sort=SortAllowlist({"num": Doc.num, "id": Doc.id}, default="num"),
    )
    assert len(walk(session, swapped, "-num", "id", key=lambda row: row.num)) == ROWS
    twins: Listing[Any] = Listing(
        select(Doc.id, Worker.id, Doc.num).join(Worker, Worker.id == Doc.id),
        sort=SortAllowlist({"num": Doc.num, "name": Worker.name}, default="num"),
    )
    assert len(walk(session, twins, "-num", "name", key=first_of)) == ROWS
    both = union_all(
        select(Doc.id.label("i"), Doc.num.label("id")), select(Worker.id + 100, literal(4))
    )
    names = both.selected_columns
    union: Listing[Any] = Listing(
        both, sort=SortAllowlist({"id": names.id}, default="id", tiebreaker=names.i)
    )
    assert len(walk(session, union, "-id", key=lambda row: row.i)) == 2 * ROWS


def test_tables_without_classes(session: Session) -> None:
    """With a key they are listed by it, without one they need a tie-breaker."""
    docs: Any = Doc.__table__
    listing: Listing[Any] = Listing(docs, sort=SortAllowlist({"num": docs.c.num}, default="num"))
    assert listing.name == "doc"
    assert len(walk(session, listing, "-num")) == ROWS
    view = table("doc", column("id", Integer), column("num", Integer))
    sort = SortAllowlist({"num": view.c.num}, default="num")
    with pytest.raises(PlanError, match="tiebreaker"):
        Listing(select(view), sort=sort).paginate(args={}, session=session)
    told = SortAllowlist({"num": view.c.num}, default="num", tiebreaker=view.c.id)
    assert len(walk(session, Listing(select(view), sort=told), "-num")) == ROWS


def test_unique_columns_with_nulls_tell_no_rows_apart(session: Session) -> None:
    """UNIQUE lets NULL in many times, so it is no key."""
    meta = MetaData()
    loose = Table("loose", meta, Column("code", Integer, unique=True), Column("n", Integer))
    tight = Table(
        "tight",
        meta,
        Column("a", Integer, nullable=False),
        Column("b", Integer, nullable=False),
        UniqueConstraint("a", "b"),
    )
    meta.create_all(session.connection())
    session.execute(tight.insert(), [{"a": n % 3, "b": n} for n in range(9)])
    with pytest.raises(PlanError, match="tiebreaker"):
        Listing(loose, sort=SortAllowlist({"n": loose.c.n}, default="n")).paginate(
            args={}, session=session
        )
    listing: Listing[Any] = Listing(tight, sort=SortAllowlist({"a": tight.c.a}, default="a"))
    walk(session, listing, "-a", key=tuple)


def test_entities_of_a_group(session: Session) -> None:
    """Aggregates and columns that the group fixes are keys, of rows and of entities."""
    number, mean = func.count(Book.id).label("number"), func.avg(Book.score).label("mean")
    mentor = aliased(Author, name="mentor")
    names = {
        "number": number,
        "name": Author.name,
        "mean": mean,
        "sum": func.sum(Book.score),
        "last": func.max(Book.title),
        "different": func.count(Book.shelf.distinct()),
    }
    sort = SortAllowlist(names, default="number")
    grouped = select(Author).join(Author.books).group_by(Author.id)
    pairs: Listing[Any] = Listing(grouped.add_columns(number), sort=sort)
    walk(session, pairs, "-number", "name,-number", "mean", "-sum,last", key=lambda r: r[0].id)
    authors = Listing(grouped.having(number > 2), sort=sort)
    walk(session, authors, "-mean", "name,-different")
    with_mentor = grouped.outerjoin(mentor, Author.mentor).group_by(mentor.id).add_columns(number)
    mentored: Listing[Any] = Listing(
        with_mentor, sort=SortAllowlist({"mentor": mentor.name, "n": number}, default="mentor")
    )
    walk(session, mentored, "-mentor,n", key=lambda row: row[0].id)


def test_loading_options_change_no_page(session: Session) -> None:
    """Keys are read beside the rows, so deferred columns may be keys."""
    for option in (load_only(Doc.id), defer(Doc.num, raiseload=True), raiseload("*")):
        listing = Listing(select(Doc).options(option), sort=DOCS)
        assert len(walk(session, listing, "-num")) == ROWS
        session.expunge_all()


def test_eager_loading_from_the_joins_of_the_statement(session: Session) -> None:
    """Of a parent it repeats nothing; of children, the statement is refused."""
    by_author = SortAllowlist({"author": Author.name}, default="author")
    books = Listing(
        select(Book).join(Book.author).options(contains_eager(Book.author)), sort=by_author
    )
    assert len(walk(session, books, "-author")) == 41
    children = select(Author).join(Author.books).options(contains_eager(Author.books))
    for unique, reason in ((False, "can repeat Author"), (True, "contains_eager")):
        with pytest.raises(PlanError, match=reason):
            Listing(children, sort=by_author, unique=unique).paginate(args={}, session=session)


def test_aliases_made_anew_for_each_request(session: Session) -> None:
    """A statement of the same form is not the same statement."""
    sort = SortAllowlist({}, default="")
    listing = Listing(Doc, sort=sort)
    for _ in range(3):
        doc = aliased(Doc)
        assert len(session.scalars(sort.apply(select(doc))).all()) == ROWS
        assert listing.paginate(select(doc), args={}, session=session).total == ROWS
        page = listing.paginate_keyset(
            select(doc).where(doc.num >= 0), args={"per_page": "2"}, session=session, secret=SECRET
        )
        assert len(page.items) == 2


def test_locked_rows_are_those_of_the_page(session: Session) -> None:
    """``FOR UPDATE`` belongs to the rows that are listed, and not to a count of all."""
    listing = Listing(select(Doc).with_for_update(), sort=DOCS)
    assert len(walk(session, listing, "-num")) == ROWS
    for count in ("exact", 5):
        page = listing.paginate(args={"per_page": "2"}, session=session, count=count)  # type: ignore[arg-type]
        assert page.total == (ROWS if count == "exact" else 5)


def test_parameters_and_criteria_of_the_statement_stay(session: Session) -> None:
    """EXISTS, implicit joins, bundles, values bound later."""
    by_title = SortAllowlist({"title": Book.title, "author": Author.name}, default="title")
    implicit = select(Book, Author).where(Book.author_id == Author.id)
    walk(session, Listing(implicit, sort=by_title), "-title,author", key=lambda row: row[0].id)
    read = select(Book).join(Book.author).where(exists().where(Reading.book_id == Book.id))
    walk(session, Listing(read, sort=by_title), "-title")
    bundle: Any = Bundle("book", Book.id, Book.title)
    titles: Listing[Any] = Listing(
        select(bundle), sort=SortAllowlist({"title": Book.title}, default="title")
    )
    walk(session, titles, "-title", key=lambda row: row.id if hasattr(row, "id") else row.book.id)
    bound = Listing(
        select(Book).where(Book.shelf >= bindparam("least", 0)),
        sort=SortAllowlist({"title": Book.title}, default="title"),
    )
    few = bound.statement.params(least=3)
    every = bound.paginate(args={}, session=session).total
    assert 0 < (bound.paginate(few, args={}, session=session).total or 0) < (every or 0)


def test_a_registry_of_sessions_is_a_session(filled: Engine) -> None:
    """``db.session`` is one."""
    registry = scoped_session(sessionmaker(filled))
    listing = Listing(Doc, sort=DOCS)
    assert listing.paginate(args={}, session=registry).total == ROWS  # type: ignore[arg-type]
    page = listing.paginate_keyset(args={}, session=registry, secret=SECRET)  # type: ignore[arg-type]
    assert len(page.items) == ROWS
    registry.remove()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (func.random(), "another value each time"),
        (func.count(), "no GROUP BY"),
        (Doc.data, "JSON"),
        (Doc.data["a"], "JSON"),
    ],
)
@pytest.mark.backends("sqlite-file")
def test_keys_that_order_nothing_are_refused(session: Session, entry: Any, reason: str) -> None:
    """Before the first page, naming the entry."""
    listing = Listing(Doc, sort=SortAllowlist({"it": entry}, default="it"))
    with pytest.raises(PlanError, match=reason) as caught:
        listing.paginate_keyset(args={}, session=session, secret=SECRET)
    assert caught.value.key == "it"


@pytest.mark.parametrize("relation", [Book.author, Book.tags])
@pytest.mark.backends("sqlite-file")
def test_a_relationship_is_no_key_and_no_filter(session: Session, relation: Any) -> None:
    """Its columns are."""
    catalog.Base.registry.configure()
    sort = SortAllowlist({}, default="")
    for listing in (
        Listing(Book, sort=SortAllowlist({"it": relation}, default="it")),
        Listing(Book, sort=sort, filter=FilterAllowlist({"it": relation})),
    ):
        with pytest.raises(PlanError, match="'it': It is a relationship"):
            listing.paginate(args={"it": "1"}, session=session)


@pytest.mark.backends("postgresql")
def test_numbers_that_are_none_have_a_place(session: Session) -> None:
    """PostgreSQL sorts NaN after infinity; an array is refused."""
    numbers = Table(
        "numbers",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("double", Double),
        Column("real", REAL),
        Column("numeric", Numeric),
        Column("array", ARRAY(Integer)),
    )
    numbers.create(session.connection())
    r = random.Random(1)
    texts: Sequence[str] = [r.choice(["nan", "inf", "-inf", "1.5", "0", "-0.0"]) for _ in range(15)]
    rows = [
        {"id": n, "double": float(x), "real": float(x), "numeric": Decimal(x)}
        for n, x in enumerate(texts)
    ]
    session.execute(numbers.insert(), rows)
    for name in ("double", "real", "numeric"):
        sort = SortAllowlist({"it": numbers.c[name]}, default="it")
        listing: Listing[Any] = Listing(numbers, sort=sort)
        assert len(walk(session, listing, "-it")) == 15
    arrays = SortAllowlist({"it": numbers.c.array}, default="it")
    with pytest.raises(PlanError, match="ARRAY"):
        Listing(numbers, sort=arrays).paginate_keyset(args={}, session=session, secret=SECRET)


def test_the_own_order_of_a_statement_is_kept_however_it_is_written(session: Session) -> None:
    """By text, label, expression or number of a row; pages joined are the statement."""
    number = func.count().label("number")
    place = func.rank().over(order_by=Book.title).label("place")
    names = select(Book.title.label("name"))
    grouped = select(Author.name, number).group_by(Author.name)
    some = select(Book.id, Book.title).where(Book.shelf > 0).cte("some")
    statements: list[Any] = [
        select(Book).order_by("title", Book.id),
        select(Book).order_by(text("title"), Book.id),
        grouped.order_by(desc("number"), Author.name),
        grouped.order_by(number.desc(), Author.name),
        select(Book).order_by(Book.score.is_(None), Book.score.desc(), Book.id),
        select(Book.title).distinct().order_by(Book.title),
        select(Book).order_by(Book.score, Book.id).offset(2).limit(10),
        select(Book.id, Book.title.label("t")).order_by(desc("t"), Book.id).limit(10),
        union(names, select(Author.name)).order_by("name"),
        union(names, select(Author.name)).order_by("name").limit(4),
        select(Book.id, place).order_by("place", Book.id),
        select(some).order_by(some.c.title, some.c.id),
        select(Author, Book).join(Author.books).order_by(Author.name.desc(), Author.id, Book.id),
    ]
    for statement in statements:
        everything = session.execute(statement).all()
        first = paginate(statement, session=session, args={}, per_page=7)
        found, page = list(first), first
        while page.has_next:
            page = page.next()
            found += page
        rows = [tuple(one) if isinstance(one, Row) else (one,) for one in found]
        assert rows == [tuple(row) for row in everything], statement
        assert first.total == len(rows)
