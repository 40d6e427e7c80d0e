"""An application with a few tables, and the commands as its operator types them."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from flask_dbkit import DBKit
from flask_dbkit.backups import database_at
from tests.support.databases import Database
from tests.support.postgres import find_binaries

TABLES = {
    "author": "CREATE TABLE author (id int PRIMARY KEY, name varchar(50) NOT NULL)",
    "book": (
        "CREATE TABLE book (id int PRIMARY KEY, title varchar(100),"
        " author_id int REFERENCES author (id))"
    ),
    "alembic_version": "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
}


class Shop:
    """An application on one database, with its backups in a folder of its own."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.db = SQLAlchemy()
        DBKit(app, db=self.db)
        self.folder = Path(app.instance_path, "backups")
        with app.app_context():
            self.engine: Engine = self.db.engine

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def fill(self) -> None:
        self.execute(
            *TABLES.values(),
            "CREATE VIEW titles AS SELECT title FROM book",
            "INSERT INTO author VALUES (1, 'Jane Austen'), (2, 'Émile Zola')",
            "INSERT INTO book VALUES (1, 'Emma', 1), (2, 'Nana', 2), (3, '東京', NULL)",
            "INSERT INTO alembic_version VALUES ('f00dcafe')",
        )

    def rows(self, url: Any = None) -> list[tuple[Any, ...]]:
        """Return the books, of the live database or of another one."""
        engine = self.engine if url is None else sa.create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            return [
                tuple(row) for row in connection.execute(sa.text("SELECT * FROM book ORDER BY id"))
            ]

    def run(self, *arguments: str) -> Result:
        result = self.app.test_cli_runner().invoke(args=["dbkit", "backup", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def done(self, *arguments: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def create(self, *arguments: str) -> str:
        """Make a backup and return its id, as a script would."""
        return self.done("create", *arguments).splitlines()[-1]

    def listed(self) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in json.loads(self.done("list", "--json"))}

    def data(self, made: str) -> Path:
        """Return the data file of a backup."""
        (path,) = [each for each in self.folder.glob(f"{made}.*") if each.suffix != ".json"]
        return path

    def dispose(self) -> None:
        with self.app.app_context():
            self.db.session.remove()
            for engine in self.db.engines.values():
                engine.dispose()


@pytest.fixture
def make_shop(make_app: Callable[..., Flask]) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**config: Any) -> Shop:
        made.append(Shop(make_app(**config)))
        return made[-1]

    yield make
    for shop in made:
        shop.dispose()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    made = make_shop()
    made.fill()
    return made


@pytest.fixture
def restored_name(shop: Shop, database: Database) -> Iterator[Callable[[str], Any]]:
    """Return a function that tells the URL of ``<name>-<id>``; what is there is removed."""
    made: list[Any] = []

    def url(suffix: str) -> Any:
        live = sa.make_url(database.url)
        made.append(live.set(database=f"{live.database}-{suffix}"))
        return made[-1]

    yield url
    for each in made:
        drop(each)


def drop(url: Any) -> None:
    """Remove a database that a restore has made."""
    url = sa.make_url(url)
    if url.get_backend_name() == "sqlite":
        return
    base = url.set(database="postgres" if url.get_backend_name() == "postgresql" else "")
    engine = sa.create_engine(base, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        quoted = engine.dialect.identifier_preparer.quote_identifier(url.database)
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted}")


def database_names(database: Database) -> set[str]:
    """Return the databases of the server, or the files of the folder."""
    url = sa.make_url(database.url)
    if url.get_backend_name() == "sqlite":
        return {path.name for path in Path(url.database or "").parent.glob("*.sqlite3*")}
    statement = {
        "postgresql": "SELECT datname FROM pg_database",
        "mysql": "SELECT schema_name FROM information_schema.schemata",
    }[url.get_backend_name()]
    beside = url.set(database="postgres") if url.get_backend_name() == "postgresql" else url
    with database_at(beside).engine.connect() as connection:
        # Other tests use the same server.
        return {name for name in connection.scalars(sa.text(statement)) if url.database in name}


@pytest.fixture(autouse=True)
def client_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the client programs of the tests' own PostgreSQL on the PATH, behind the machine's.

    The server may be one from a wheel, of which the machine has no client programs.
    """
    binaries = find_binaries()
    if binaries is not None and binaries.parts[:3] != ("/", "usr", "lib"):
        monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    elif binaries is not None:
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{binaries}")


@pytest.fixture
def fake_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return a function that puts a shell script in front of a program.

    ``$REAL`` is the program itself, ``$NOTES`` a folder to write into, which is returned.
    """
    folder, notes = tmp_path / "bin", tmp_path / "notes"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        real = shutil.which(name)
        folder.mkdir(exist_ok=True)
        notes.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\nREAL='{real}'\nNOTES='{notes}'\n{script}\n")
        (folder / name).chmod(0o755)
        return notes

    return put


@contextmanager
def watching_command_lines(secret: str) -> Iterator[list[str]]:
    """Look at the command line of every process all the time; yield those with the secret."""
    found: list[str] = []
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    line = path.read_bytes().decode(errors="replace")
                    seen.add(line)
                    if secret in line:
                        found.append(line)
            stop.wait(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
    assert seen, "there is no /proc here"
