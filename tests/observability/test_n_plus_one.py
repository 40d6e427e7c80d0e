"""What is a finding, and what is none: each case asks in its own way."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from flask import render_template_string
from sqlalchemy.orm import joinedload, selectinload, subqueryload

from flask_dbkit import (
    Listing,
    NPlusOneError,
    Repeat,
    Retry,
    SortAllowlist,
    allow_n_plus_one,
    get_or_create,
    job,
    lazy_loading,
    peerload,
    record_queries,
    transaction,
)
from flask_dbkit.observability import orm_loads
from tests.observability.shop import COUNT, Shop

SQLITE = pytest.mark.backends("sqlite-file")
ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
Case = Callable[[Shop], object]
FOUND: dict[str, tuple[Case, str | None, str]] = {}
INNOCENT: dict[str, Case] = {}


def found(relationship: str | None = None, fix: str = "") -> Callable[[Case], Case]:
    def register(case: Case) -> Case:
        FOUND[case.__name__] = (case, relationship, fix)
        return case

    return register


def innocent(case: Case) -> Case:
    INNOCENT[case.__name__] = case
    return case


def users(shop: Shop) -> list:
    return list(shop.db.session.scalars(sa.select(shop.User).order_by(shop.User.id)))


def posts(shop: Shop) -> list:
    return list(shop.db.session.scalars(sa.select(shop.Post).order_by(shop.Post.id)))


@found("User.posts", "selectinload(User.posts)")
def lazy_collection(shop: Shop) -> None:
    for user in users(shop):
        len(user.posts)


@found("User.posts", "selectinload(User.posts)")
def lazy_collection_in_a_comprehension(shop: Shop) -> None:
    assert [len(user.posts) for user in users(shop)]


@found("Post.user", "selectinload(Post.user)")
def lazy_parent(shop: Shop) -> None:
    for post in posts(shop):
        assert post.user.name
        shop.db.session.expunge(post.user)


@found("User.posts", "selectinload(User.posts)")
def in_a_template(shop: Shop) -> None:
    text = "{% for user in users %}{{ user.posts|length }}{% endfor %}"
    with shop.app.test_request_context():
        render_template_string(text, users=users(shop))


@found("User.posts", "selectinload(User.posts)")
def in_a_serializer(shop: Shop) -> None:
    def dump(user: object) -> dict:
        return {"posts": [post.title for post in user.posts]}  # type: ignore[attr-defined]

    list(map(dump, users(shop)))


@found("User.posts", "selectinload(User.posts)")
def in_a_generator(shop: Shop) -> None:
    for _ in (post for user in users(shop) for post in user.posts):
        pass


@found("User.posts", "selectinload(User.posts)")
def with_a_property(shop: Shop) -> None:
    shop.User.count = property(lambda self: len(self.posts))
    sum(user.count for user in users(shop))


@found(None, "in_(keys)")
def get_in_a_loop(shop: Shop) -> None:
    for number in range(1, COUNT + 1):
        shop.db.session.get(shop.User, number)


@found(None, "in_(keys)")
def get_one_in_a_loop(shop: Shop) -> None:
    for number in range(1, COUNT + 1):
        shop.db.session.get_one(shop.User, number)


@found(None, "in_(keys)")
def select_in_a_loop(shop: Shop) -> None:
    for number in range(COUNT):
        shop.db.session.scalars(sa.select(shop.User).filter_by(name=f"u{number}")).first()


@found(None, "in_(keys)")
def core_select_in_a_loop(shop: Shop) -> None:
    table = shop.User.__table__
    for number in range(COUNT):
        shop.db.session.execute(sa.select(table.c.name).where(table.c.id == number)).all()


@found(None, "in_(keys)")
def text_in_a_loop(shop: Shop) -> None:
    for number in range(COUNT):
        shop.db.session.execute(sa.text("SELECT title FROM post WHERE id = :n"), {"n": number})


@found(None, "in_(keys)")
def driver_sql_in_a_loop(shop: Shop) -> None:
    with shop.db.engine.connect() as connection:
        for number in range(COUNT):
            mark = "?" if shop.db.engine.dialect.paramstyle == "qmark" else "%s"
            connection.exec_driver_sql(f"SELECT title FROM post WHERE id = {mark}", (number,)).all()


@found(None, "in_(keys)")
def count_in_a_loop(shop: Shop) -> None:
    for user in users(shop):
        shop.db.session.scalar(sa.select(sa.func.count()).where(shop.Post.user_id == user.id))


@found(None, "in_(keys)")
def exists_in_a_loop(shop: Shop) -> None:
    for number in range(COUNT):
        shop.db.session.scalar(sa.select(sa.exists().where(shop.User.id == number)))


@found(None, "in_(keys)")
def legacy_query_in_a_loop(shop: Shop) -> None:
    for number in range(COUNT):
        shop.db.session.query(shop.User).filter_by(id=number).first()


@found(None, "in_(keys)")
def in_a_helper(shop: Shop) -> None:
    def find(number: int) -> object:
        return shop.db.session.scalar(sa.select(shop.User).where(shop.User.id == number))

    for number in range(COUNT):
        find(number)


@found(None, "UPDATE")
def update_in_a_loop(shop: Shop) -> None:
    for number in range(COUNT):
        shop.db.session.execute(sa.update(shop.User).filter_by(id=number).values(name="x"))


@found(None, "DELETE")
def delete_in_a_loop(shop: Shop) -> None:
    for number in range(900, 900 + COUNT):
        shop.db.session.execute(sa.delete(shop.Post).filter_by(id=number))


@found(None, "add_all()")
def core_insert_in_a_loop(shop: Shop) -> None:
    for number in range(100, 100 + COUNT):
        shop.db.session.execute(sa.insert(shop.User.__table__).values(id=number, name="x"))


@found(None, "add_all()")
def flush_for_each_row(shop: Shop) -> None:
    for number in range(100, 100 + COUNT):
        shop.db.session.add(shop.User(id=number, name="x"))
        shop.db.session.flush()


@found(None, "add_all()")
def commit_for_each_row(shop: Shop) -> None:
    for number in range(200, 200 + COUNT):
        shop.db.session.add(shop.User(id=number, name="x"))
        shop.db.session.commit()
    shop.db.session.execute(sa.delete(shop.User).where(shop.User.id >= 200))
    shop.db.session.commit()


@found(None, "UPDATE")
def change_and_flush_for_each_row(shop: Shop) -> None:
    for user in users(shop):
        user.name = "y"
        shop.db.session.flush()


@found(None, "Columns of User")
def deferred_column(shop: Shop) -> None:
    for user in users(shop):
        assert user.bio


@found(None, "Columns of User")
def expired_objects(shop: Shop) -> None:
    everybody = users(shop)
    shop.db.session.expire_all()
    for user in everybody:
        assert user.name


@found(None, "Columns of User")
def refresh_in_a_loop(shop: Shop) -> None:
    for user in users(shop):
        shop.db.session.refresh(user)


@found(None, "in_(keys)")
def get_or_create_in_a_loop(shop: Shop) -> None:
    for number in range(1, COUNT + 1):
        get_or_create(shop.User, id=number)


@found("User.posts", "selectinload(User.posts)")
def in_a_scope(shop: Shop) -> None:
    with transaction():
        for user in users(shop):
            len(user.posts)


@found("User.posts", "selectinload(User.posts)")
def in_a_job(shop: Shop) -> None:
    @job
    def work() -> None:
        for user in users(shop):
            len(user.posts)

    work()


@innocent
def one_query(shop: Shop) -> None:
    users(shop)


@innocent
def four_times(shop: Shop) -> None:
    for number in range(1, 5):
        shop.db.session.get(shop.User, number)


@innocent
def selectin_loading(shop: Shop) -> None:
    for user in shop.db.session.scalars(
        sa.select(shop.User).options(selectinload(shop.User.posts))
    ):
        len(user.posts)


@innocent
def joined_loading(shop: Shop) -> None:
    statement = sa.select(shop.User).options(joinedload(shop.User.posts))
    for user in shop.db.session.scalars(statement).unique():
        len(user.posts)


@innocent
def subquery_loading(shop: Shop) -> None:
    for user in shop.db.session.scalars(
        sa.select(shop.User).options(subqueryload(shop.User.posts))
    ):
        len(user.posts)


@innocent
def chunks_of_an_eager_load(shop: Shop) -> None:
    statement = sa.select(shop.User).options(selectinload(shop.User.posts))
    for user in shop.db.session.scalars(statement.execution_options(yield_per=1)):
        len(user.posts)


@innocent
def rows_in_partitions(shop: Shop) -> None:
    statement = sa.select(shop.User).execution_options(yield_per=1)
    for rows in shop.db.session.scalars(statement).partitions():
        list(rows)


@innocent
def keys_in_chunks(shop: Shop) -> None:
    for begin in range(0, 60, 6):
        keys = list(range(begin, begin + 6))
        shop.db.session.scalars(sa.select(shop.User).where(shop.User.id.in_(keys))).all()


@innocent
def pages_of_iterate(shop: Shop) -> None:
    listing = Listing(shop.User, sort=SortAllowlist({"id": shop.User.id}, default="id"))
    for _ in listing.iterate(batch=1):
        pass


@innocent
def one_flush_of_many_rows(shop: Shop) -> None:
    for number in range(100, 100 + COUNT):
        shop.db.session.add(shop.User(id=number, name="x"))
    shop.db.session.flush()
    shop.db.session.rollback()


@innocent
def many_flushes_of_many_rows(shop: Shop) -> None:
    for begin in range(100, 130, 3):
        shop.db.session.add_all(shop.User(id=begin + n, name="x") for n in range(3))
        shop.db.session.flush()
    shop.db.session.rollback()


@innocent
def one_flush_of_many_changes(shop: Shop) -> None:
    for number, user in enumerate(users(shop)):
        user.name = f"z{number}"
    shop.db.session.flush()
    shop.db.session.rollback()


@innocent
def an_executemany(shop: Shop) -> None:
    rows = [{"id": 100 + n, "name": "x"} for n in range(COUNT)]
    shop.db.session.execute(sa.insert(shop.User), rows)
    shop.db.session.rollback()


@innocent
def savepoints(shop: Shop) -> None:
    with transaction():
        for _ in range(COUNT):
            with shop.db.session.begin_nested():
                pass


@innocent
def attempts_of_a_transaction(shop: Shop) -> None:
    tried = []

    @transaction(retry=Retry(attempts=8, base=0))
    def work() -> None:
        tried.append(users(shop))
        if len(tried) < 8:
            raise sa.exc.OperationalError("x", {}, CONFLICTS[shop.db_name]())

    work()
    assert len(tried) == 8


@innocent
def the_same_statement_from_several_places(shop: Shop) -> None:
    for _ in range(2):
        shop.db.session.get(shop.User, 1, populate_existing=True)
        shop.db.session.get(shop.User, 2, populate_existing=True)
        shop.db.session.get(shop.User, 3, populate_existing=True)


@innocent
def batches_of_peer_loading(shop: Shop) -> None:
    with lazy_loading("peers") as loads:
        assert {len(user.posts) for user in users(shop)} == {2}
    assert loads.batches == COUNT // 2 >= 5


@innocent
def batches_of_late_columns(shop: Shop) -> None:
    with lazy_loading("peers") as loads:
        assert {user.bio for user in users(shop)} == {"bio"}
    assert loads.batches == COUNT // 2


@innocent
def what_is_read_of_every_table(shop: Shop) -> None:
    """SQLAlchemy asks the catalog table by table, and for the types of a column one by one."""
    tables = sa.inspect(shop.db.session.connection()).get_table_names() * COUNT
    for name in tables:
        sa.inspect(shop.db.session.connection()).get_columns(name)


@innocent
def on_purpose(shop: Shop) -> None:
    with allow_n_plus_one("the export is chunked"):
        for user in users(shop):
            len(user.posts)


def _busy() -> Exception:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


CONFLICTS: dict[str, Callable[[], Any]] = {
    "sqlite": _busy,
    "postgresql": lambda: psycopg.errors.SerializationFailure("x"),
    "mysql": lambda: pymysql.err.OperationalError(1213, "Deadlock found"),
}


def repeats_of(shop: Shop, case: Case) -> tuple[Repeat, ...]:
    with shop.app.app_context(), record_queries() as stats:
        case(shop)
        shop.db.session.rollback()
    return stats.repeats


@ON_DISK
def test_every_loop_is_found_and_nothing_else(new_shop: Callable[..., Shop]) -> None:
    """By relationship, count, file and line, with a fix; no false alarm."""
    shop = new_shop(DBKIT_LAZY_MAX_PEERS=2)
    quiet = dict(INNOCENT)
    if shop.db_name == "mysql":  # where nothing may be sent while rows are still coming in
        del quiet["chunks_of_an_eager_load"]
    wrong: list[object] = []
    for name, (case, relationship, fix) in FOUND.items():
        repeats = repeats_of(shop, case)
        if len(repeats) < 1:
            wrong.append((name, "not found"))
            continue
        first = repeats[0]
        if first.count < COUNT or first.relationship != relationship or fix not in first.fix:
            wrong.append((name, first))
        if not (first.call_site or "").startswith(__file__) and name != "in_a_template":
            wrong.append((name, first.call_site))
    wrong += [(name, r) for name, case in quiet.items() for r in repeats_of(shop, case)]
    assert not wrong, wrong
    assert len(FOUND) >= 26
    assert len(quiet) >= 14


PASTED = re.compile(r"\.options\((\w+\([\w.]+\))\)")


@SQLITE
@pytest.mark.parametrize("model", ["User", "Post"])
def test_a_fix_works_when_it_is_pasted(shop: Shop, model: str) -> None:
    """Each option that the text offers, on the statement of the objects."""
    asked = sa.select(getattr(shop, model))

    def load(statement: Any) -> None:
        for each in shop.db.session.scalars(statement).all():
            assert each.posts if model == "User" else each.user
            if model == "Post":
                shop.db.session.expunge(each.user)

    (found,) = repeats_of(shop, lambda _: load(asked))
    options = PASTED.findall(found.fix)
    assert [each.partition("(")[0] for each in options] == ["selectinload", "peerload"]
    names = {"selectinload": selectinload, "peerload": peerload, "User": shop.User}
    for option in options:
        made = eval(option, {**names, "Post": shop.Post})
        with shop.app.app_context(), record_queries() as stats:
            everybody = shop.db.session.scalars(asked.options(made)).all()
            assert all(each.posts if model == "User" else each.user for each in everybody)
        assert stats.queries == 2
        assert stats.repeats == ()
        assert stats.peer_batches == (1 if "peerload" in option else 0)


@SQLITE
@pytest.mark.parametrize(
    "left", [None, object(), SimpleNamespace(_current_path=SimpleNamespace(is_root=False))]
)
def test_where_sqlalchemy_says_less_a_loop_is_found_all_the_same(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, left: object
) -> None:
    """Its inner names may go: then the fix is told in general words."""
    monkeypatch.setattr(orm_loads, "_compile_options", lambda _execution: left)
    assert repeats_of(shop, selectin_loading) == ()
    (found,) = repeats_of(shop, lazy_collection)
    assert found.count >= COUNT
    assert found.relationship is None
    assert found.fix.startswith("Ask once before the loop")


@SQLITE
def test_under_testing_a_request_raises_and_in_debug_mode_it_logs(
    new_shop: Callable[..., Shop], caplog: pytest.LogCaptureFixture
) -> None:
    """The error names relationship, count, line and fix; a view's own exception is not replaced."""
    for config in ({"TESTING": True}, {"DEBUG": True}, {}):
        shop = new_shop(**config)

        @shop.app.get("/users")
        def view(shop: Shop = shop) -> str:
            return str([len(user.posts) for user in users(shop)])

        @shop.app.get("/broken")
        def broken(shop: Shop = shop) -> str:
            lazy_collection(shop)
            raise KeyError("of the view")

        @shop.app.get("/allowed")
        @allow_n_plus_one("an export")
        def allowed_view(shop: Shop = shop) -> str:
            return str([len(user.posts) for user in users(shop)])

        client = shop.app.test_client()
        caplog.clear()
        assert client.get("/allowed").status_code == 200
        if shop.app.testing:
            with pytest.raises(
                NPlusOneError, match=rf"User\.posts was asked for {COUNT} times at .*:\d+"
            ):
                client.get("/users")
            with pytest.raises(KeyError):
                client.get("/broken")
        else:
            assert client.get("/users").status_code == 200
            lines = [each for each in caplog.records if each.name == "flask_dbkit.n_plus_one"]
            assert len(lines) == (1 if shop.app.debug else 0)
