"""What databases are asked, on real ones; and that nothing is ever written to them."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dbkit import DBKit
from flask_dbkit.doctor import Finding, examination
from flask_dbkit.doctor.checks import check
from flask_dbkit.doctor.examination import Examination
from flask_dbkit.doctor.findings import Found
from flask_dbkit.doctor.runner import examine
from flask_dbkit.engines.doctor import capacity, on_postgresql, on_sqlite, servers
from tests.doctor.shop import Defect, make_shop
from tests.support.databases import Database
from tests.support.proxy import Proxy

MakeShop = Callable[..., tuple[Flask, DBKit]]


def ids(findings: list[Finding]) -> set[str]:
    return {each.id for each in findings}


def ask(app: Flask, dbkit: DBKit, **options: Any) -> dict[str, Finding]:
    with app.app_context():
        return {each.id: each for each in dbkit.doctor.run(**options)}


@pytest.fixture
def make_asked(database: Database, tmp_path: Path) -> Iterator[MakeShop]:
    """Return a function that makes the shop on the database of the test, with its tables."""
    made = []

    def make(defect: Defect | None = None, **config: Any) -> tuple[Flask, DBKit]:
        app, dbkit = make_shop(
            tmp_path, defect, **{"SQLALCHEMY_DATABASE_URI": database.url, **config}
        )
        made.append(app)
        with app.app_context():
            dbkit.db.create_all()
        return app, dbkit

    yield make
    for app in made:
        with app.app_context():
            for engine in app.extensions["sqlalchemy"].engines.values():
                engine.dispose()


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_check_cannot_write(make_asked: MakeShop) -> None:
    """Its connection is past the pool of the application, and reads only."""
    app, dbkit = make_asked()
    refused: list[str] = []

    @check("DK199", "It tries", cause="", fix="", database=True)
    def tries(given: Examination) -> Iterator[Found]:
        with given.connect(given.binds[0]) as connection:
            try:
                connection.execute(sa.text("INSERT INTO author (name) VALUES ('x')"))
            except sa.exc.DBAPIError as error:
                refused.append(str(error.orig))
        yield Found("tried")

    with app.app_context():
        given = dbkit.doctor.examination(app)
        try:
            assert ids(examine(given, [tries])) == {"DK199"}
        finally:
            given.close()
        assert dbkit.db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(refused) == 1


@pytest.mark.backends("sqlite-file")
def test_a_sqlite_file_is_as_it_was(make_asked: MakeShop, database: Database) -> None:
    """Its bytes, its time, and the files beside it."""
    app, dbkit = make_asked()
    with app.app_context():
        path = Path(str(dbkit.db.engine.url.database))
        dbkit.db.engine.dispose()
    before = (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.glob("*.db*")))
    ask(app, dbkit, deploy=True)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.glob("*.db*"))) == before


@pytest.mark.backends("sqlite-file")
def test_a_sqlite_file_is_looked_at(
    make_asked: MakeShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that refer to nothing, a log that has grown, its permissions, its disk."""
    app, dbkit = make_asked()
    with app.app_context():
        path = str(dbkit.db.engine.url.database)
    raw = sqlite3.connect(path)
    raw.execute("INSERT INTO book (title, author_id, added, is_new) VALUES ('x', 9, '2026', 1)")
    raw.commit()
    raw.close()
    Path(path).chmod(0o666)
    monkeypatch.setattr(on_sqlite, "_LARGE_LOG_BYTES", 1000)
    reader = sqlite3.connect(path)  # as long as it is open the log stays
    reader.execute("SELECT count(*) FROM book").fetchone()
    usage = os.statvfs_result((4096, 4096, 1000, 50, 50, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: usage)
    found = ask(app, dbkit, deploy=True)
    reader.close()
    assert {"DK099", "DK034", "DK035", "DK093"} <= set(found)
    assert found["DK099"].object == "book"
    assert (
        found["DK099"].message == "Rows of book that refer to rows of author that are not there: 1"
    )
    assert "5.0 %" in found["DK093"].message


@pytest.mark.backends("postgresql")
def test_postgresql_tells_of_itself(make_asked: MakeShop, database: Database) -> None:
    """A superuser, a key that runs out, a broken index, an enumeration, and too many workers."""
    app, dbkit = make_asked(
        Defect(
            "",
            "",
            code={"# columns": "kind: Mapped[str] = mapped_column(sa.Enum('a', 'b', name='kind'))"},
        ),
        DBKIT_WORKERS=900,
    )
    with app.app_context(), dbkit.db.engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in (
            "INSERT INTO author (id, name) VALUES (1, 'x'), (2, 'x')",
            "SELECT setval('author_id_seq', 1600000000)",
            "ALTER TYPE kind RENAME VALUE 'b' TO 'c'",
        ):
            plain.execute(sa.text(statement))
        with pytest.raises(sa.exc.IntegrityError):
            plain.execute(sa.text("CREATE UNIQUE INDEX CONCURRENTLY twice ON author (name)"))
    found = ask(app, dbkit, deploy=True)
    assert {"DK096", "DK113", "DK110", "DK055", "DK020"} <= set(found)
    assert found["DK113"].object == "author.id"
    assert "75%" in found["DK113"].message
    assert found["DK110"].object == "author.twice"
    assert "may be b, which the type kind does not have" in found["DK055"].message
    assert found["DK020"].level == "error"


@pytest.mark.backends("postgresql")
def test_a_pooler_gives_itself_away(make_asked: MakeShop, database: Database) -> None:
    """It makes up the number of the backend that it tells; the backend says another."""
    url = sa.make_url(database.url)

    def another_key(data: bytes) -> bytes:
        at = data.find(b"K\x00\x00\x00\x0c")
        return data if at < 0 else data[: at + 5] + b"\x00\x00\x00\x07" + data[at + 9 :]

    with Proxy(url.port or 5432, answers=another_key) as proxy:
        pooled = url.set(host="127.0.0.1", port=proxy.port)
        app, dbkit = make_asked(
            SQLALCHEMY_DATABASE_URI=pooled.render_as_string(hide_password=False)
        )
        assert "DK024" in ask(app, dbkit)
        with app.app_context():
            dbkit.db.engine.dispose()
    app, dbkit = make_asked()
    assert "DK024" not in ask(app, dbkit)


@pytest.mark.backends("sqlite-file", "postgresql")
def test_a_model_without_a_table_is_found(make_asked: MakeShop) -> None:
    """Where there are no revisions that would tell."""
    app, dbkit = make_asked()
    assert "DK050" not in ask(app, dbkit)
    with app.app_context(), dbkit.db.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE book"))
    found = ask(app, dbkit)["DK050"]
    assert found.message == "Tables of the models that default does not have: book"


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_filter_without_an_index_is_worse_on_many_rows(
    make_asked: MakeShop, database: Database
) -> None:
    """A column of two values, a key and an order are none of it: an index is no use, or is told."""
    filtered = {
        "# columns": "pages: Mapped[int]",
        "DBKit, Listing, ": "DBKit, FilterAllowlist, Listing, ",
        '"title": Book.title}, default="title"))': (
            '"title": Book.title, "added": Book.added}, default="title"),\n'
            "    filter=FilterAllowlist(\n"
            "        [Book.pages, Book.is_new, Book.title, Book.author_id, Book.added]))"
        ),
    }
    app, dbkit = make_asked(Defect("", "", code=filtered))
    with app.app_context():
        every = dbkit.doctor.run(tags=["lists"])
    assert [(each.id, each.object) for each in every] == [
        ("DK120", "book.added"),
        ("DK122", "book.pages"),
    ]
    found = every[1]
    assert (found.level, found.object) == ("info", "book.pages")
    assert str(found.place).startswith(f"{found.file}:")
    assert str(found.file).endswith(f"{app.name}.py")
    rows = {
        "sqlite-file": "INSERT INTO author (id, name) VALUES (1, 'x');"
        "INSERT INTO book VALUES (20000, 'x', 1, '2026-01-01', 1, 7)",
        "postgresql": "UPDATE pg_class SET reltuples = 20000 WHERE relname = 'book'",
        "mariadb": "INSERT INTO author (id, name) VALUES (1, 'x');"
        "INSERT INTO book SELECT seq, 'x', 1, NOW(), 1, 7 FROM seq_1_to_20000;ANALYZE TABLE book",
    }
    with app.app_context(), dbkit.db.engine.begin() as connection:
        for statement in rows[database.name].split(";"):
            connection.execute(sa.text(statement))
    found = ask(app, dbkit, tags=["lists"])["DK122"]
    assert found.level == "warning"
    assert re.search(r"book.pages, of about \d{5} rows", found.message)
    assert ask(app, dbkit, tags=["lists"], db=False)["DK122"].level == "info"


@pytest.mark.backends("mariadb")
def test_mariadb_tells_of_itself(make_asked: MakeShop) -> None:
    """Tables without transactions, an account that may do everything, too many workers."""
    app, dbkit = make_asked(DBKIT_WORKERS=900)
    with app.app_context(), dbkit.db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE book DROP FOREIGN KEY fk_book_author_id_author"))
        connection.execute(sa.text("ALTER TABLE book ENGINE=Aria"))
    found = ask(app, dbkit, deploy=True)
    assert {"DK114", "DK116", "DK020"} <= set(found)
    assert found["DK114"].object == "book"


ELSEWHERE = "db.example.org"


def seen_from_elsewhere(url: str, socket: object) -> str:
    """Return a URL with a name that is not this machine's, and the way to it."""
    way = {"hostaddr": "127.0.0.1"} if socket is None else {"unix_socket": str(socket)}
    made = sa.make_url(url).set(host=ELSEWHERE).update_query_dict(way)
    return made.render_as_string(hide_password=False)


@pytest.mark.backends("postgresql", "mariadb")
def test_a_server_in_a_bad_state_is_found(
    make_asked: MakeShop, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the clear, in another alphabet, past its end, full, without the programs to back it up."""
    monkeypatch.setattr(capacity, "_FULL", 0)
    monkeypatch.setattr(servers, "datetime", Later)
    monkeypatch.setenv("PATH", str(tmp_path))
    server = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    socket = None
    url = sa.make_url(database.url).set(database=f"{server.url.database}_l1")
    with server.connect() as connection:
        if database.name == "mariadb":
            socket = connection.scalar(sa.text("SELECT @@socket"))
            kept_in, drop = "CHARACTER SET latin1", ""
        else:
            kept_in, drop = "ENCODING LATIN1 LOCALE 'C' TEMPLATE template0", "WITH (FORCE)"
        connection.execute(sa.text(f"CREATE DATABASE {url.database} {kept_in}"))
    kept_long = {"pool_recycle": 10_000_000}
    try:
        app, dbkit = make_asked(
            SQLALCHEMY_DATABASE_URI=seen_from_elsewhere(url.render_as_string(False), socket),
            SQLALCHEMY_ENGINE_OPTIONS=kept_long,
        )
        found = ask(app, dbkit, deploy=True)
        with app.app_context():
            dbkit.db.engine.dispose()
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {url.database} {drop}"))
        server.dispose()
    assert {"DK023", "DK092", "DK094", "DK095", "DK097"} <= set(found)
    assert ("DK115" in found) == (database.name == "mariadb")
    assert re.search(r"is kept in latin1", found["DK094"].message, re.IGNORECASE)
    assert re.search(r", which ended on 20\d\d-\d\d-\d\d", found["DK095"].message)
    assert found["DK097"].level == "error"
    assert all(ELSEWHERE not in str(each) for each in found.values() if each.id != "DK092")


@pytest.mark.backends("postgresql")
def test_postgresql_tells_of_its_work(
    make_asked: MakeShop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that sits idle, numbers that run out, blocks that are not in the cache."""
    for name, limit in (("_LONG_IDLE_MIN", 0), ("_WRAPAROUND", 0), ("_ENOUGH_READS", 0)):
        monkeypatch.setattr(on_postgresql, name, limit)
    monkeypatch.setattr(on_postgresql, "_LOW_HITS", 2)
    app, dbkit = make_asked()
    idle = sa.create_engine(database.url, connect_args={"application_name": "night job"})
    with idle.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        found = ask(app, dbkit, deploy=True)
        assert found["DK111"].message.startswith("night job sits idle in a transaction on default")
        assert "transactions behind a VACUUM" in found["DK098"].message
        assert "DK112" in found
    idle.dispose()


@pytest.mark.backends("postgresql", "mariadb")
def test_an_account_of_its_own_is_no_finding(make_asked: MakeShop, database: Database) -> None:
    """With rights on its own database only."""
    server = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    name, owned = f"own_{os.getpid()}", server.url.database
    if database.name == "mariadb":
        make = [
            f"CREATE USER {name}@'%' IDENTIFIED BY 'x'",
            f"GRANT ALL ON {owned}.* TO {name}@'%'",
        ]
        drop = [f"DROP USER {name}@'%'"]
    else:
        make = [f"CREATE ROLE {name} LOGIN PASSWORD 'x'", f"ALTER DATABASE {owned} OWNER TO {name}"]
        drop = [f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP ROLE {name}"]
        make.append(f"GRANT CREATE ON SCHEMA public TO {name}")
        drop.insert(1, f"DROP OWNED BY {name}")
    with server.connect() as connection:
        for statement in make:
            connection.execute(sa.text(statement))
        try:
            url = server.url.set(username=name, password="x").render_as_string(hide_password=False)
            app, dbkit = make_asked(SQLALCHEMY_DATABASE_URI=url)
            found = ask(app, dbkit, deploy=True)
            with app.app_context():
                dbkit.db.engine.dispose()
        finally:
            for statement in drop:
                connection.execute(sa.text(statement))
    server.dispose()
    assert not {"DK096", "DK116"} & set(found)


class Later(datetime):
    """A clock that is fifty years ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Later:
        return cls(2076, 1, 1, tzinfo=tz)


@pytest.mark.backends("postgresql", "mariadb")
def test_a_server_that_is_new_and_in_order_has_no_finding_of_its_own(make_asked: MakeShop) -> None:
    """Except who we are: the tests' account may do everything."""
    app, dbkit = make_asked()
    found = ask(app, dbkit, deploy=True)
    assert set(found) - {"DK043", "DK059", "DK091", "DK092", "DK096", "DK116"} == set()


def test_a_database_that_does_not_answer_is_one_finding(tmp_path: Path) -> None:
    """And not one for each check that would have asked it."""
    app, dbkit = make_shop(
        tmp_path, SQLALCHEMY_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/shop"
    )
    found = ask(app, dbkit)
    assert set(found) == {"DK090"}
    assert found["DK090"].level == "error"
    assert set(ask(app, dbkit, db=False)) == set()


@pytest.mark.backends("postgresql", "mariadb")
def test_a_server_that_stands_still_is_waited_for_once(
    make_asked: MakeShop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and never answers: one finding, and each other check is run."""
    monkeypatch.setattr(examination, "_CONNECT_S", 2.0)
    url = sa.make_url(database.url)
    with Proxy(url.port or 5432) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port)
        app, dbkit = make_asked(
            SQLALCHEMY_DATABASE_URI=through.render_as_string(hide_password=False), DEBUG=True
        )
        with app.app_context():
            dbkit.db.engine.dispose()
        proxy.freeze()
        connections = proxy.connections
        found = ask(app, dbkit, deploy=True)
        assert {"DK090", "DK001"} <= set(found)
        assert "DK000" not in found
        assert proxy.connections == connections + 1


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """It is no finding either: the first upgrade makes it."""
    app, dbkit = make_shop(tmp_path)
    assert ask(app, dbkit) == {}
    assert list(tmp_path.glob("*.db")) == []


def test_a_check_that_hangs_or_breaks_is_one_finding(tmp_path: Path) -> None:
    """Nobody waits longer than its deadline; the others are run."""
    app, dbkit = make_shop(tmp_path)
    ended = threading.Event()

    @dbkit.doctor.check("SHOP001")
    def hangs() -> Iterator[Any]:
        yield dbkit.doctor.finding("before")
        ended.wait(5)

    @dbkit.doctor.check("SHOP002")
    def breaks() -> Iterator[Any]:
        raise ValueError("secret")
        yield

    @dbkit.doctor.check("SHOP003", level="error")
    def works() -> Iterator[Any]:
        """Shelves are full. Books fall down."""
        yield dbkit.doctor.finding("There are 7 of them", object="shelf.3", fix="Build one.")

    with app.app_context():
        began = time.monotonic()
        found = dbkit.doctor.run(db=False, deadline_s=0.2)
        took_s = time.monotonic() - began
    ended.set()
    assert took_s < 3
    own = {each.object: each for each in found if each.id == "DK000"}
    assert set(own) == {"SHOP001", "SHOP002"}
    assert "has not ended after 0.2 s" in own["SHOP001"].message
    assert "raised ValueError at test_asking.py:" in own["SHOP002"].message
    assert "secret" not in own["SHOP002"].message
    first = found[0]
    assert (first.id, first.level, first.object) == ("SHOP003", "error", "shelf.3")
    assert (first.cause, first.fix) == ("Shelves are full. Books fall down.", "Build one.")


@pytest.mark.backends("sqlite-file")
def test_what_requests_repeated_is_told(make_asked: MakeShop) -> None:
    """The doctor of the process that answered them knows the line."""
    loop = """@app.get("/loop")
def loop():
    return [db.session.scalar(select(func.count(Book.id)).where(Book.id == n)) for n in range(9)]
"""
    app, dbkit = make_asked(Defect("", "", code={"# views": loop}), DBKIT_N_PLUS_ONE="log")
    assert "DK064" not in ask(app, dbkit, db=False)
    assert app.test_client().get("/loop").status_code == 200
    found = ask(app, dbkit, db=False)["DK064"]
    assert "9 times in /loop" in found.message
    assert str(found.object).endswith(f"{app.name}.py:{found.line}")
