"""Two real processes ask for the same rows at the same time, on every database."""

from __future__ import annotations

import multiprocessing
import os
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    DBKit,
    Timestamps,
    Versioned,
    declarative_base,
    get_or_create,
    transaction,
    upsert,
)
from tests.support.databases import Database

Base: Any = declarative_base()

pytestmark = pytest.mark.requires("several_processes")

KEYS = int(os.environ.get("DBKIT_TEST_RACE_KEYS", "25"))
ROUNDS = 3
PROCESSES = 2


class Word(Versioned, Timestamps, Base):  # type: ignore[misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20), unique=True)
    owner: Mapped[str | None] = mapped_column(String(20))


def _application(url: str) -> tuple[Flask, SQLAlchemy]:
    db = SQLAlchemy(model_class=Base)
    app = Flask("race")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    DBKit(db=db).init_app(app)
    return app, db


def _create(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Ask for every key, each in a transaction of its own."""
    made: Counter[str] = Counter()
    for number in range(KEYS):
        text = f"w{round_}-{number:03}"
        word, created = get_or_create(Word, {"owner": "first"}, text=text)
        assert (word.text, word.owner) == (text, "first")
        db.session.commit()
        made["created"] += created
    return made


def _create_within_one(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Ask for every key in one transaction that reads before it writes, where that is safe."""
    made: Counter[str] = Counter()
    for number in range(KEYS):
        text = f"w{round_}-{number:03}"
        word, created = get_or_create(Word, {"owner": "first"}, text=text)
        again, second = get_or_create(Word, text=text)
        assert again is word
        assert not second
        made["created"] += created
    db.session.commit()
    return made


def _upsert_one_by_one(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Write every key, with a value that nobody else writes."""
    made: Counter[str] = Counter()
    for number in range(KEYS):
        text = f"w{number:03}"
        value = secrets.token_hex(8)
        (word,) = upsert(Word, [{"text": text, "owner": value}], by="text")
        assert word.owner == value
        db.session.commit()
        made["written"] += 1
    return made


def _upsert_many(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Write all keys at once, in an order nobody else has."""
    rows = [{"text": f"w{n:03}", "owner": secrets.token_hex(8)} for n in range(KEYS)]
    random.shuffle(rows)
    words = upsert(Word, rows, by="text")
    assert [word.owner for word in words] == [row["owner"] for row in rows]
    db.session.commit()
    return Counter(written=KEYS)


def _upsert_new(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Write keys that nobody has written before, after a read, twice in one transaction."""
    count = db.session.scalar(select(func.count()).select_from(Word)) if _may_read(db) else 0
    assert count is not None
    rows = [{"text": f"n{round_}-{n:03}", "owner": secrets.token_hex(8)} for n in range(KEYS)]
    random.shuffle(rows)
    upsert(Word, rows, by="text")
    same = upsert(Word, rows, by="text")
    assert [word.owner for word in same] == [row["owner"] for row in rows]
    db.session.commit()
    return Counter(written=KEYS)


def _create_in_scope(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Ask for every key in one transaction scope."""
    made: Counter[str] = Counter()
    with transaction():
        for number in range(KEYS):
            _, created = get_or_create(Word, text=f"w{round_}-{number:03}")
            made["created"] += created
    return made


def _upsert_in_scope(db: SQLAlchemy, round_: int) -> Counter[str]:
    """Write all keys in one transaction scope, in an order nobody else has."""
    rows = [{"text": f"w{n:03}", "owner": secrets.token_hex(8)} for n in range(KEYS)]
    random.shuffle(rows)
    with transaction():
        words = upsert(Word, rows, by="text")
        assert [word.owner for word in words] == [row["owner"] for row in rows]
    return Counter(written=KEYS)


def _may_read(db: SQLAlchemy) -> bool:
    # One that has read may be too late to write, and is told so: that is SQLite's promise.
    return db.engine.dialect.name != "sqlite"


def _work(name: str, url: str, start: Any, answers: Any) -> None:  # runs in a process of its own
    app, db = _application(url)
    work: Callable[[SQLAlchemy, int], Counter[str]] = globals()[name]
    total: Counter[str] = Counter()
    error = None
    try:
        with app.app_context():
            for round_ in range(ROUNDS):
                db.session.remove()
                start.wait(60)
                total += work(db, round_)
            db.session.remove()
            db.engine.dispose()
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
        start.abort()
    answers.put((dict(total), error))


def _race(name: str, url: str) -> Counter[str]:
    """Run one of the functions above in several processes at once, and add up what they did."""
    # From a process that has imported everything, and has neither threads nor connections.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start, answers = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_work, args=(name, url, start, answers)) for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    results = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
    answers.close()
    answers.join_thread()
    assert [error for _, error in results if error] == []
    total: Counter[str] = Counter()
    for counted, _ in results:
        total += Counter(counted)
    return total


@pytest.fixture
def words(database: Database) -> Callable[..., list[Any]]:
    app, db = _application(database.url)
    with app.app_context():
        Base.metadata.create_all(db.engine)
        db.engine.dispose()

    def read(*columns: Any) -> list[Any]:
        with app.app_context():
            found = list(db.session.execute(select(*columns).select_from(Word)))
            db.session.remove()
            db.engine.dispose()
        return found

    return read


@pytest.mark.parametrize("work", ["_create", "_create_within_one", "_create_in_scope"])
def test_each_key_is_created_once(
    database: Database, words: Callable[..., list[Any]], work: str
) -> None:
    """One process creates a row, the other gets it; nobody gets an error."""
    total = _race(work, database.url)
    assert total["created"] == KEYS * ROUNDS
    assert words(func.count(), func.max(Word.version)) == [(KEYS * ROUNDS, 1)]


@pytest.mark.parametrize("work", ["_upsert_one_by_one", "_upsert_many", "_upsert_in_scope"])
def test_every_upsert_is_counted(
    database: Database, words: Callable[..., list[Any]], work: str
) -> None:
    """As many versions as writes: none was lost, none was made twice, none ended in a deadlock."""
    total = _race(work, database.url)
    assert total["written"] == KEYS * ROUNDS * PROCESSES
    assert words(func.count(), func.min(Word.version), func.max(Word.version)) == [
        (KEYS, ROUNDS * PROCESSES, ROUNDS * PROCESSES)
    ]


def test_new_keys_are_written_by_everybody(
    database: Database, words: Callable[..., list[Any]]
) -> None:
    """Rows that are new to both meet in the index: one inserts, the other waits and updates."""
    total = _race("_upsert_new", database.url)
    assert total["written"] == KEYS * ROUNDS * PROCESSES
    assert words(func.count(), func.min(Word.version), func.max(Word.version)) == [
        (KEYS * ROUNDS, PROCESSES, PROCESSES)
    ]
