"""What one process has noticed of its work, another one is told: by a small file."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.application import application_of
from flask_dbkit.observability.noticed import NoticedWork
from flask_dbkit.observability.noticed_file import BUSY, Noticed, NoticedFile, NoticedRepeat
from flask_dbkit.observability.windows import QueryStats, Repeat, Window
from tests.support.forks import fork, succeeded
from tests.support.warm_python import WarmPython

APPLICATION = """
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column
from flask_dbkit import Base, DBKit

class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]

app = Flask(__name__)
app.config.from_prefixed_env()
app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///books.db?timeout=77", DBKIT_N_PLUS_ONE="log")
dbkit = DBKit(app)

@app.get("/titles/<name>")
def titles(name):
    return [dbkit.db.session.scalar(select(Book.title).where(Book.id == n)) for n in range(9)]
"""
SERVER = """
from shop import app, dbkit
with app.app_context():
    dbkit.db.create_all()
assert app.test_client().get("/titles/Tr0ub4dor").status_code == 200
"""


def stats(writes: int) -> QueryStats:
    made = Window("request", keep=False, threshold=5).stats
    made.writes = writes
    return made


def repeat(place: str, count: int = 9) -> Repeat:
    return Repeat(count, "SELECT 'secret'", place, "Author.books", "Load them.")


def test_the_doctor_in_a_shell_tells_what_the_server_process_found(
    tmp_path: Path, warm_python: WarmPython
) -> None:
    """With its age and its line, until that file is changed; nothing of values stands there."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    (tmp_path / "server.py").write_text(SERVER)

    def found(**environment: str) -> list[dict[str, Any]]:
        ask = "flask --app shop dbkit doctor --no-db --tag loading --format json"
        done = warm_python.run(ask, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        return [each for each in json.loads(done.stdout) if each["id"] == "DK064"]

    assert found() == []
    assert warm_python.run("python server.py", tmp_path).returncode == 0
    (told,) = found()
    line = 1 + APPLICATION.splitlines().index(
        next(each for each in APPLICATION.splitlines() if "range(9)" in each)
    )
    assert told["object"] == f"shop.py:{line}"
    assert told["message"] == "A statement was asked for 9 times in /titles/<name>, just now"
    assert "select(...)" in told["fix"]
    file = tmp_path / "instance" / "dbkit-noticed.json"
    text = file.read_text()
    for secret in ("Tr0ub4dor", "timeout", "SELECT", "books.db"):
        assert secret not in text
    file.write_text(text.replace('"at": ', '"at": -1e9, "was": '))
    assert found() == []
    hours = json.loads(text)
    (each,) = hours["repeats"].values()
    each["at"] -= 3 * 3600 + 60
    file.write_text(json.dumps(hours))
    assert found() == []  # the file was made after it
    os.utime(tmp_path / "shop.py", (0, 0))
    for name in ("tests/views.py:7", "test_shop.py:7", "\x1b[31m.py:7"):
        hours["repeats"][f"{tmp_path}/{name}"] = each
    each["route"] += "\x1b[31m"
    file.write_text(json.dumps(hours))
    (told,) = found()
    assert told["message"].endswith("in /titles/<name>[31m, 3 hours ago")
    assert found(FLASK_DBKIT_NOTICED_FILE="null") == []
    file.unlink()
    off = {"FLASK_DBKIT_NOTICED_FILE": "null"}
    assert warm_python.run("python server.py", tmp_path, **off).returncode == 0
    assert not file.exists()


def test_nothing_is_lost_when_several_processes_write_at_once(tmp_path: Path) -> None:
    """What they wrote is added up; each waits for its turn."""
    file = NoticedFile(tmp_path / "noticed.json")
    minute = int(time.time() // 60)

    def work(name: str) -> Callable[[], None]:
        def add() -> None:
            for number in range(20):
                entry = NoticedRepeat(5, None, "", None, time.time())
                fresh = Noticed({f"{name}.py:{number}": entry}, {minute: 10})
                assert file.add(fresh, time.time(), 60)

        return add

    children = [fork(work(name)) for name in "abc"]
    ends = [succeeded(child) for child in children]
    assert all(ends)
    whole = file.read()
    assert whole.writes == {minute: 600}
    assert len(whole.repeats) == 60
    assert list(tmp_path.iterdir()) == [tmp_path / "noticed.json"]


def test_it_is_written_every_few_seconds_and_at_the_end(tmp_path: Path) -> None:
    """And not for each statement or request; a calm application writes nothing."""
    clock = [1_000_000_000.0]
    path = tmp_path / "noticed.json"
    work = NoticedWork(NoticedFile(path), now=lambda: clock[0])
    work.note(stats(BUSY // 20), (), "/calm")
    clock[0] += 60
    work.note(stats(3), (), "/calm")
    work.write()
    assert not path.exists()
    writes = set()
    for number in range(100):  # ten seconds
        work.note(stats(0), [repeat(f"views.py:{number}")], "/")
        writes.add(path.stat().st_ino)
        clock[0] += 0.1
    assert len(writes) == 2
    assert len(NoticedFile(path).read().repeats) == 51
    assert len(work.known().repeats) == 100
    for _ in range(3):
        work.note(stats(BUSY), (), "/busy")
        clock[0] += 60
    work.write()
    known = NoticedFile(path).read()
    assert (len(known.repeats), sorted(known.writes.values())) == (100, [BUSY] * 3)
    assert work.known() == known
    assert "secret" not in path.read_text()


def test_what_is_old_leaves_it_and_it_stays_small(tmp_path: Path) -> None:
    """A week, a hundred lines, and the busiest minutes."""
    clock = [1_000_000_000.0]
    for file in (NoticedFile(tmp_path / "noticed.json"), None):
        work = NoticedWork(file, now=lambda: clock[0])
        work.note(stats(BUSY), [repeat("old.py:1")], "/")
        clock[0] += 8 * 86_400
        for number in range(300):
            work.note(stats(BUSY + number), [repeat(f"views.py:{number}")], "/")
            clock[0] += 60
        work.write()
        known = work.known()
        assert "old.py:1" not in known.repeats
        assert len(known.repeats) == 100
        assert "views.py:299" in known.repeats
        assert 60 <= len(known.writes) <= 63
        assert min(known.writes.values()) >= BUSY + 200


@pytest.mark.parametrize(
    "there",
    [
        b"\x00\xff",
        b"[" * 200_000,
        b"[]",
        b'{"version": 1, "repeats": {"a": 1, "b": {"count": true}}, "writes": {"x": 1, "9": "y"}}',
        b'{"version": 1, "repeats": [], "writes": 7}',
        b'{"version": 9, "repeats": {}}',
        b" " * 300_000,
    ],
)
def test_a_file_that_is_none_counts_as_empty_and_is_replaced(tmp_path: Path, there: bytes) -> None:
    """Nobody is told of it: it is a help, and no data."""
    path = tmp_path / "noticed.json"
    path.write_bytes(there)
    path.chmod(0o640)
    work = NoticedWork(NoticedFile(path))
    assert not work.known()
    work.note(stats(0), [repeat("views.py:1")], "/")
    assert NoticedFile(path).read().repeats.keys() == {"views.py:1"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_where_it_cannot_be_written_the_process_keeps_it(tmp_path: Path) -> None:
    """A folder that cannot be made, a link, another process in the middle of it: no error."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "noticed.json", tmp_path / "missing" / "noticed.json"):
        makes_folder = path.parent.name == "file"
        work = NoticedWork(NoticedFile(path, makes_folder=lambda made=makes_folder: made))  # type: ignore[misc]
        work.note(stats(0), [repeat("views.py:1")], "/")
        work.write()
        assert work.known().repeats.keys() == {"views.py:1"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file"]
    precious = tmp_path / "precious"
    precious.write_text("precious")
    link = tmp_path / "noticed.json"
    link.symlink_to(precious)
    file = NoticedFile(link)
    with file._alone(0):
        assert not file.add(Noticed(writes={1: 1}), 0, 0)
    assert file.add(Noticed(writes={1: 1}), 0, 0)
    assert not link.is_symlink()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(("debug", "made"), [(True, ["dbkit-noticed.json"]), (False, [])])
def test_the_folder_is_made_in_debug_mode_only(
    tmp_path: Path, debug: bool, made: list[str]
) -> None:
    """A server, and tests, leave nothing where nothing was."""
    app = Flask("noticing", instance_path=str(tmp_path / "instance"))
    app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/x.db", DEBUG=debug)
    DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
    application_of(app).part(NoticedWork).note(stats(0), [repeat("views.py:1")], "/")
    assert [path.name for path in tmp_path.glob("instance/*")] == made


def test_a_forked_child_leaves_to_its_parent_what_was_noticed_before(tmp_path: Path) -> None:
    """Else it would be counted twice."""
    path = tmp_path / "noticed.json"
    work = NoticedWork(NoticedFile(path), now=lambda: 1_000_000_000.0)
    work.note(stats(BUSY), (), "/")

    def child() -> None:
        work.note(stats(BUSY + 1), (), "/")
        work.write()

    assert succeeded(fork(child))
    assert list(NoticedFile(path).read().writes.values()) == [BUSY + 1]
    work.write()
    assert list(NoticedFile(path).read().writes.values()) == [2 * BUSY + 1]
