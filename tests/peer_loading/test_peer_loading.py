"""Lazy attributes that load for all peers, and everything that is left alone."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, event, select
from sqlalchemy.exc import InvalidRequestError, OperationalError
from sqlalchemy.orm import (
    Mapped,
    defaultload,
    deferred,
    mapped_column,
    raiseload,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError

from flask_dbkit import (
    ConfigError,
    DBKit,
    Listing,
    PeerLoads,
    SortAllowlist,
    declarative_base,
    lazy_loading,
    peerload,
    transaction,
)
from flask_dbkit.peer_loading import listening, private, switch
from flask_dbkit.peer_loading.current import current_settings
from tests.support.databases import Database


class World:
    """Authors with books on shelves, with tags; and what was sent."""

    def __init__(self, url: str, **config: Any) -> None:
        base: Any = declarative_base()
        self.db = SQLAlchemy(model_class=base)
        tag_of = sa.Table(
            "tag_of",
            base.metadata,
            sa.Column("book_id", ForeignKey("book.id")),
            sa.Column("tag_id", ForeignKey("tag.id")),
            sa.Column("position", sa.Integer),
        )

        class Author(base):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(40))
            bio: Mapped[str] = mapped_column(sa.String(40), deferred=True)
            secret: Mapped[str] = mapped_column(
                sa.String(9), deferred=True, deferred_raiseload=True
            )
            books: Mapped[list[Any]] = relationship(
                "Book", back_populates="author", order_by="Book.title"
            )
            worth: Mapped[list[Any]] = relationship(
                "Book",
                viewonly=True,
                primaryjoin="and_(Author.id == Book.author_id, Book.title > Author.name)",
            )

        class Shelf(base):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(40))

        class Tag(base):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(sa.String(40))

        class Book(base):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(sa.String(40))
            author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
            shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
            author: Mapped[Any] = relationship("Author", back_populates="books")
            shelf: Mapped[Any] = relationship("Shelf")
            tags: Mapped[list[Any]] = relationship(
                "Tag", secondary=tag_of, order_by=tag_of.c.position
            )

        self.Author, self.Shelf, self.Tag, self.Book = Author, Shelf, Tag, Book
        self.app = Flask("peers")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, SECRET_KEY="x", **config)
        DBKit(self.app, db=self.db)
        self.sent: list[str] = []

    def fill(self, authors: int = 12) -> None:
        self.db.create_all()
        session = self.db.session
        session.add_all(self.Shelf(id=n, name=f"shelf {n}") for n in range(1, 4))
        session.add_all(self.Tag(id=n, name=f"tag {n}") for n in range(1, 4))
        session.flush()
        tags = {tag.id: tag for tag in session.scalars(select(self.Tag))}
        for n in range(1, authors + 1):
            session.add(self.Author(id=n, name=f"author {n:03}", bio=f"bio {n}", secret="s"))
            for m in range(2):
                book = self.Book(title=f"{m} book {n}", author_id=n, shelf_id=(n + m) % 4 or None)
                book.tags = [tags[1 + (n + m) % 3]]
                session.add(book)
        session.commit()
        session.remove()

    def watch(self) -> None:
        def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.lstrip().startswith("SELECT"):
                self.sent.append(statement)

        for engine in self.db.engines.values():
            event.listen(engine, "before_cursor_execute", note)

    def authors(self, *options: Any) -> list[Any]:
        statement = select(self.Author).options(*options).order_by(self.Author.id)
        found = list(self.db.session.scalars(statement))
        self.sent.clear()
        return found


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(database: Database) -> Iterator[MakeWorld]:
    """Return a function that makes the application; its context is entered."""
    contexts: list[Any] = []

    def make(*, authors: int = 12, **config: Any) -> World:
        world = World(database.url, **config)
        contexts.append(world.app.app_context())
        contexts[-1].push()
        world.fill(authors)
        world.watch()
        return world

    yield make
    for context in reversed(contexts):
        context.pop()


def walk(world: World, authors: list[Any]) -> list[Any]:
    return [
        (a.name, [(b.title, b.shelf and b.shelf.name, [t.name for t in b.tags]) for b in a.books])
        for a in authors
    ]


def test_a_page_with_three_relationships_takes_four_statements(make_world: MakeWorld) -> None:
    """The same graph as one by one."""
    world = make_world()
    with lazy_loading("select"):
        plain = walk(world, world.authors())
    one_by_one = len(world.sent)
    world.db.session.remove()
    with lazy_loading("peers") as loads:
        assert walk(world, world.authors()) == plain
    assert (len(world.sent), loads.batches) == (3, 3)
    assert one_by_one > 30
    assert loads.objects == 12 + 24 + sum(1 for n in range(1, 13) for m in range(2) if (n + m) % 4)
    assert loads.plain == {}


@pytest.mark.backends("sqlite-file")
class TestSwitches:
    """Who says how attributes load."""

    def test_the_setting_batches_and_ignores_case(self, make_world: MakeWorld) -> None:
        world = make_world(DBKIT_LAZY="Peers")
        walk(world, world.authors())
        assert len(world.sent) == 3

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("DBKIT_LAZY", "peer", "Did you mean 'peers'?"),
            ("DBKIT_LAZY_MAX_PEERS", 1, "from 2 to 5000"),
            ("DBKIT_LAZY_MAX_PEERS", "many", "is 'many'"),
        ],
    )
    def test_a_setting_that_cannot_be_used_is_named(
        self, key: str, value: object, said: str
    ) -> None:
        app = Flask("bad")
        app.config.update({"SQLALCHEMY_DATABASE_URI": "sqlite://", key: value})
        with pytest.raises(ConfigError, match=said):
            DBKit(app)

    def test_an_option_goes_along_to_what_it_loads(self, make_world: MakeWorld) -> None:
        world = make_world()
        walk(world, world.authors(peerload()))
        assert len(world.sent) == 3
        world.db.session.remove()
        walk(world, world.authors(peerload(world.Author.books)))
        assert len(world.sent) > 20

    def test_the_nearest_to_the_statement_wins(self, make_world: MakeWorld) -> None:
        """A named attribute, the bare option, the block, the setting."""
        world = make_world(DBKIT_LAZY="peers")
        books, on, off = world.Author.books, 1, 12

        def count(*options: Any, mode: str | None = None) -> int:
            authors = world.authors(*options)
            if mode is None:
                assert [a.books for a in authors]
            else:
                with lazy_loading(mode):
                    assert [a.books for a in authors]
            world.db.session.remove()
            return len(world.sent)

        assert count() == on
        assert count(mode="select") == off
        assert count(peerload(), mode="select") == on
        assert count(peerload(off=True)) == off
        assert count(peerload(books, off=True), peerload()) == off
        assert count(peerload(off=True), peerload(books)) == on
        assert count(peerload(), peerload(off=True)) == off
        assert count(peerload(world.Author.bio), mode="select") == off

    def test_a_block_counts_what_happens_in_it(self, make_world: MakeWorld) -> None:
        world = make_world()

        @lazy_loading("peers")
        def books(authors: list[Any]) -> int:
            return sum(len(a.books) for a in authors)

        with lazy_loading("select") as outer:
            assert books(world.authors()) == books(world.authors()) == 24
            with lazy_loading("peers") as inner:
                assert next(a.bio for a in world.authors()) == "bio 1"
        assert (outer.batches, inner.batches, inner.objects, inner.rows) == (2, 1, 12, 12)
        with pytest.raises(ValueError, match="'select', 'peers'"), lazy_loading("peer"):
            pass

    def test_info_of_an_attribute_says_it_and_a_wrong_word_is_warned_of(self) -> None:
        base: Any = declarative_base()
        db = SQLAlchemy(model_class=base)
        app = Flask("info")
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        DBKit(app, db=db)

        class Node(base):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            up_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
            text = deferred(sa.Column(sa.String(9)), info={"dbkit": {"lazy": "peers"}})
            downs: Mapped[list[Any]] = relationship("Node", info={"dbkit": {"lazy": "peer"}})

        with pytest.warns(RuntimeWarning, match="Node.downs has .*'peer'.*Use 'peers' or 'select'"):
            base.registry.configure()  # not those that another test left broken
        with app.app_context():
            db.create_all()
            db.session.add_all(Node(id=n, text="x") for n in range(5))
            db.session.commit()
            sent: list[str] = []
            event.listen(db.engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
            nodes = list(db.session.scalars(select(Node)))
            assert [n.text for n in nodes] == ["x"] * 5
            assert [n.downs for n in nodes] == [[]] * 5
            assert len(sent) == 1 + 1 + 5

    @pytest.mark.parametrize("wrong", ["books", 7, None])
    def test_what_is_no_attribute_is_refused(self, wrong: object) -> None:
        with pytest.raises(TypeError, match=r"such as Author\.books"):
            peerload(wrong)

    def test_nothing_listens_before_something_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Off is free: a statement costs what it cost without."""
        monkeypatch.setattr(switch, "_used", [])
        base: Any = declarative_base()
        db = SQLAlchemy(model_class=base)
        app = Flask("off")
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        DBKit(app, db=db)
        with app.app_context():
            assert db.session not in listening._listening
            with lazy_loading("select"):
                assert db.session in listening._listening

    def test_outside_any_context_the_setting_is_select(self) -> None:
        assert current_settings().lazy == "select"


def test_an_option_leaves_the_filters_of_other_options_alone(make_world: MakeWorld) -> None:
    """It is part of the cache key: a cached statement keeps its criteria for lazy loads."""
    world = make_world()
    title = with_loader_criteria(world.Book, world.Book.title.startswith("0"))
    for options in ([title], [peerload(), title], [title, peerload()], [title]):
        authors = world.authors(*options)
        assert {len(a.books) for a in authors} == {1}
        world.db.session.remove()


def test_what_a_filter_hid_from_a_batch_is_found_once_another_query_has_brought_it(
    make_world: MakeWorld,
) -> None:
    """A many-to-one looks into the session first, so a peer's nothing is not kept for it."""
    world = make_world()
    hidden = with_loader_criteria(world.Author, world.Author.id != 1)
    world.db.session.execute(sa.update(world.Book).values(author_id=1).where(world.Book.id < 4))
    books = world.db.session.scalars(
        select(world.Book).options(hidden).where(world.Book.id < 9).order_by(world.Book.id)
    ).all()
    with lazy_loading("peers") as loads:
        assert books[0].author is None
        assert books[1].author is None
        brought = world.db.session.get(world.Author, 1)
        assert [book.author for book in books[:3]] == [None, None, brought]
        world.sent.clear()
        assert books[4].author is not None
        assert world.sent == []  # it came with the first batch
    assert (loads.batches, loads.plain) == (1, {"no single row": 1})


def test_expired_and_new_objects_are_refreshed_together(make_world: MakeWorld) -> None:
    """After a commit one statement reads them all; changes stay."""
    world = make_world(DBKIT_LAZY="peers")
    authors = world.authors()
    world.db.session.commit()
    world.sent.clear()
    assert [a.name for a in authors][11] == "author 012"
    assert len(world.sent) == 1
    world.db.session.commit()
    authors[3].name = "changed"
    with world.db.session.no_autoflush:
        assert [a.name for a in authors][3:5] == ["changed", "author 005"]
    added = [world.Shelf(id=n, name="new") for n in range(50, 70)]
    world.db.session.add_all(added)
    world.db.session.commit()
    world.sent.clear()
    assert {s.name for s in added} == {"new"}
    assert len(world.sent) == 1


def test_deferred_columns_load_for_all_and_assigned_values_stay(make_world: MakeWorld) -> None:
    """One that raises, raises."""
    world = make_world(DBKIT_LAZY="peers")
    authors = world.authors()
    authors[2].bio = "mine"
    with world.db.session.no_autoflush:
        assert [a.bio for a in authors[:3]] == ["bio 1", "bio 2", "mine"]
    assert len(world.sent) == 1
    with pytest.raises(InvalidRequestError):
        _ = authors[0].secret


def test_a_peer_whose_row_is_gone_raises_when_it_is_touched_itself(make_world: MakeWorld) -> None:
    """The others are refreshed."""
    world = make_world(DBKIT_LAZY="peers")
    authors = world.authors()
    world.db.session.commit()
    books = world.Book.__table__
    tag_of = world.Author.metadata.tables["tag_of"]
    gone = select(books.c.id).where(books.c.author_id == 5).scalar_subquery()
    world.db.session.execute(sa.delete(tag_of).where(tag_of.c.book_id.in_(gone)))
    world.db.session.execute(sa.delete(books).where(books.c.author_id == 5))
    world.db.session.execute(sa.delete(world.Author.__table__).where(world.Author.id == 5))
    assert authors[0].name == "author 001"
    with pytest.raises(ObjectDeletedError):
        _ = authors[4].name
    assert authors[5].name == "author 006"


def test_a_join_that_needs_each_parent_loads_one_by_one_and_says_so(make_world: MakeWorld) -> None:
    world = make_world()
    with lazy_loading("peers") as loads:
        assert len([a.worth for a in world.authors()]) == 12
    assert loads.batches == 0
    assert loads.plain["join condition"] >= 11


def test_peers_that_were_changed_loaded_or_are_gone_are_left_alone(make_world: MakeWorld) -> None:
    world = make_world(DBKIT_LAZY="peers")
    session = world.db.session
    authors = world.authors()
    with lazy_loading("select"):
        loaded = authors[1].books
    new = world.Book(title="new", author=authors[2])
    session.add(new)
    session.expunge(authors[3])
    session.delete(authors[4])
    with session.no_autoflush:
        assert len(authors[0].books) == 2
        assert authors[1].books is loaded
        assert [b.title for b in authors[2].books][-1] == "new"
        with pytest.raises(DetachedInstanceError):
            _ = authors[3].books
    assert new in session.new
    session.rollback()


@pytest.mark.backends("sqlite-file", "postgresql")
def test_batches_are_bounded_and_begin_with_who_follows(make_world: MakeWorld) -> None:
    world = make_world(authors=50, DBKIT_LAZY="peers", DBKIT_LAZY_MAX_PEERS=20)
    authors = world.authors()
    assert authors[30].books
    loaded = [n for n, author in enumerate(authors) if "books" in sa.inspect(author).dict]
    assert loaded == list(range(30, 50))
    assert [a.books for a in authors]
    assert len(world.sent) == 3


@pytest.mark.backends("sqlite-file")
class TestLimits:
    """What bounds a batch, and what ends batching."""

    def test_too_many_rows_set_nothing_and_halve_the_next(self, make_world: MakeWorld) -> None:
        world = make_world(DBKIT_LAZY_MAX_ROWS=5)
        with lazy_loading("peers") as loads:
            assert {len(a.books) for a in world.authors()} == {2}
        assert loads.plain["too many rows"] > 1
        assert loads.rows <= 24

    def test_a_commit_in_every_round_does_not_read_all_again(self, make_world: MakeWorld) -> None:
        world = make_world(authors=100)
        authors = world.authors()
        with lazy_loading("peers") as loads:
            for author in authors:
                author.name += "!"
                world.db.session.commit()
        assert loads.rows < 5 * len(authors)

    def test_a_streamed_result_is_batched_by_what_has_arrived(self, make_world: MakeWorld) -> None:
        world = make_world(DBKIT_LAZY="peers")
        statement = select(world.Author).execution_options(yield_per=4)
        world.sent.clear()
        kept = [(author, len(author.books)) for author in world.db.session.scalars(statement)]
        assert len(kept) == 12
        assert len(world.sent) == 1 + 3

    def test_garbage_is_not_read(self, make_world: MakeWorld) -> None:
        world = make_world(DBKIT_LAZY="peers")
        authors = world.authors()
        del authors[1:]
        gc.collect()
        with lazy_loading("peers") as loads:
            assert authors[0].books
        assert loads.objects == 0  # nobody was left to load for

    def test_one_object_of_many_results_does_not_search_the_whole_session(
        self, make_world: MakeWorld
    ) -> None:
        world = make_world(authors=100)
        kept = [world.db.session.get(world.Author, n) for n in range(1, 101)]
        with lazy_loading("peers") as loads:
            assert {len(author.books) for author in kept if author} == {2}
        assert loads.batches == 0


def test_texts_that_a_collation_calls_equal_load_one_by_one(database: Database) -> None:
    """No row is lost, and none is somebody else's."""
    base: Any = declarative_base()
    db = SQLAlchemy(model_class=base)

    class Land(base):  # type: ignore[misc]
        code: Mapped[str] = mapped_column(sa.String(9), primary_key=True)
        towns: Mapped[list[Any]] = relationship("Town", order_by="Town.id")

    class Town(base):  # type: ignore[misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str | None] = mapped_column(sa.String(9), ForeignKey("land.code"))
        land: Mapped[Any] = relationship("Land", viewonly=True)

    app = Flask("texts")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    DBKit(app, db=db)
    with app.app_context():
        db.create_all()
        mysql = db.engine.dialect.name in ("mysql", "mariadb")
        db.session.add_all([Land(code="abc"), Land(code="de")])
        db.session.flush()
        codes = ["ABC", "abc ", "de"] if mysql else ["abc", "abc", "de"]
        db.session.add_all(Town(id=n, code=code) for n, code in enumerate(codes, 1))
        db.session.commit()
        seen = []
        for mode in ("select", "peers"):
            db.session.remove()
            with lazy_loading(mode) as loads:
                lands = db.session.scalars(select(Land).order_by(Land.code)).all()
                towns = db.session.scalars(select(Town).order_by(Town.id)).all()
                seen.append(
                    (
                        [[t.id for t in land.towns] for land in lands],
                        [t.land for t in towns] == [lands[0], lands[0], lands[1]],
                    )
                )
        assert seen[0] == seen[1]
        assert seen[0][0] == [[1, 2], [3]]
        assert loads.plain.get("text keys", 0) == (2 if mysql else 0)
        db.session.remove()


@pytest.mark.requires("several_connections")
def test_composite_keys_by_the_thousand_are_no_error(database: Database) -> None:
    """Their parameters stay below what any database takes."""
    base: Any = declarative_base()
    db = SQLAlchemy(model_class=base)

    class Up(base):  # type: ignore[misc]
        a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        downs: Mapped[list[Any]] = relationship("Down")

    class Down(base):  # type: ignore[misc]
        __table_args__ = (sa.ForeignKeyConstraint(["up_a", "up_b"], ["up.a", "up.b"]),)
        id: Mapped[int] = mapped_column(primary_key=True)
        up_a: Mapped[int]
        up_b: Mapped[int]

    app = Flask("many")
    app.config.update(SQLALCHEMY_DATABASE_URI=database.url, DBKIT_LAZY_MAX_PEERS=5000)
    DBKit(app, db=db)
    with app.app_context():
        db.create_all()
        db.session.execute(sa.insert(Up), [{"a": n, "b": n % 7} for n in range(5000)])
        db.session.execute(sa.insert(Down), [{"id": 1, "up_a": 4999, "up_b": 4999 % 7}])
        db.session.commit()
        with lazy_loading("peers") as loads:
            assert sum(len(up.downs) for up in db.session.scalars(select(Up))) == 1
        assert (loads.batches, loads.objects) == (1, 5000)
        db.session.remove()


def test_scopes_listings_and_streams_work_with_it(make_world: MakeWorld) -> None:
    world = make_world(DBKIT_LAZY="peers")
    listing = Listing(world.Author, sort=SortAllowlist({"name": world.Author.name}, default="name"))
    with transaction(read_only=True):
        page = listing.paginate_keyset(args={}, per_page=5)
        world.sent.clear()
        assert [len(a.books) for a in page.items] == [2] * 5
        assert len(world.sent) == 1
        pages = list(listing.iterate(batch=4))
        assert [len(a.books) for batch in pages for a in batch] == [2] * 12
        nested = defaultload(world.Author.books).raiseload("*")
        assert {len(a.books) for a in world.authors(nested)} == {2}
    world.db.session.remove()
    with pytest.raises(InvalidRequestError):
        _ = world.authors(raiseload(world.Author.books))[0].books


@pytest.mark.backends("sqlite-file")
class TestErrors:
    """Never an error of its own."""

    @pytest.mark.parametrize(
        "name",
        [
            "with_criterion", "same_origin", "can_be_peer", "lacks", "loaded_values", "options_of",
            "result_number", "is_in_flush", "load_options", "only_columns", "without_refresh",
            "refreshed_state", "reads_columns", "is_for_user", "flushes_first", "notes",
            "is_simple_get",
        ],
    )  # fmt: skip
    def test_without_a_private_name_attributes_load_one_by_one(
        self,
        make_world: MakeWorld,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        name: str,
    ) -> None:
        """The right values, and one warning."""

        def gone(*_arguments: Any, **_keywords: Any) -> Any:
            raise AttributeError(name)

        from flask_dbkit.peer_loading import columns, joins, peers, policy, relationships

        monkeypatch.setattr(private, name, gone)
        for module in (columns, joins, peers, policy, relationships, listening):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, gone)
        monkeypatch.setattr(joins, "_known", WeakKeyDictionary())
        monkeypatch.setattr(listening, "_told", set())
        world = make_world()
        with lazy_loading("peers"), caplog.at_level(logging.WARNING, "flask_dbkit.lazy"):
            authors = world.authors()
            assert {len(a.books) for a in authors} == {2}
            world.db.session.commit()
            assert authors[0].name == "author 001"
        told = [r for r in caplog.records if r.name == "flask_dbkit.lazy"]
        assert len(told) == 1

    def test_an_error_of_the_database_is_that_of_the_load(self, make_world: MakeWorld) -> None:
        world = make_world(DBKIT_LAZY="peers")
        authors = world.authors()

        def fail(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            raise OperationalError(statement, {}, Exception("gone"))

        event.listen(world.db.engine, "before_cursor_execute", fail)
        try:
            with pytest.raises(OperationalError):
                _ = authors[0].books
        finally:
            event.remove(world.db.engine, "before_cursor_execute", fail)
        assert authors[0].books

    def test_listeners_of_the_application_see_the_same_and_may_add_criteria(
        self, make_world: MakeWorld
    ) -> None:
        """Refresh events fire for the same objects; both kinds of criteria hold."""
        world = make_world(DBKIT_LAZY="peers")
        refreshed: list[Any] = []
        event.listen(world.Author, "refresh", lambda target, *_: refreshed.append(target.id))

        def only_first(execution: Any) -> None:
            if execution.is_relationship_load and execution.is_select:
                execution.statement = execution.statement.where(world.Book.title.startswith("0"))

        event.listen(world.db.session, "do_orm_execute", only_first)
        authors = world.authors()
        assert {len(a.books) for a in authors} == {1}
        assert len({a.bio for a in authors}) == 12
        assert sorted(refreshed) == [a.id for a in authors]


def test_what_is_counted_is_a_plain_value() -> None:
    assert PeerLoads() == PeerLoads(0, 0, 0)
