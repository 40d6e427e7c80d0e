"""What lazy attributes cost: one by one, for all peers, by selectinload(), and in Django.

python benchmarks/peer_loading.py [--rounds 15]

Prints ratios of thread CPU time within one run; the contenders take turns, in another order each
round. The database is SQLite in memory: what is compared is what the libraries do. Django has a
mode of that kind since 6.1; without that version its rows say so.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, event, orm, select
from sqlalchemy.orm import Mapped, deferred, mapped_column, relationship, selectinload

from flask_dbkit import DBKit, declarative_base, lazy_loading

PARENTS = 100


def engine_of(contender: Contender) -> Any:
    """Return the engine of an application."""
    with contender.app.app_context():
        return contender.app.extensions["sqlalchemy"].engine


class Contender(NamedTuple):
    """An application, its sessions and its models."""

    app: Flask
    sessions: Any
    author: Any
    book: Any


def make() -> Contender:
    """Return an application with parents of three relationships each."""
    base: Any = declarative_base()
    db = SQLAlchemy(model_class=base)
    link = sa.Table(
        "link",
        base.metadata,
        sa.Column("b", ForeignKey("book.id")),
        sa.Column("t", ForeignKey("tag.id")),
    )

    class Author(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        bio = deferred(sa.Column(sa.String))
        books: Mapped[list[Any]] = relationship("Book")

    class Shelf(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Tag(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Book(base):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
        shelf: Mapped[Any] = relationship("Shelf")
        tags: Mapped[list[Any]] = relationship("Tag", secondary=link)

    app = Flask("peers")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app, db=db)
    context = app.app_context()
    context.push()
    db.create_all()
    session = db.session()
    session.add_all(Shelf(id=n, name=f"shelf {n}") for n in range(1, 201))
    session.add_all(Tag(id=n, name=f"tag {n}") for n in range(1, 51))
    session.flush()
    tags = list(session.scalars(select(Tag)))
    for n in range(1, PARENTS + 1):
        session.add(Author(id=n, name=f"author {n}", bio="bio"))
        for m in range(2):
            book = Book(title=f"{n} {m}", author_id=n, shelf_id=1 + (2 * n + m) % 200)
            book.tags = [tags[(n + m) % 50], tags[(n + m + 7) % 50]]
            session.add(book)
    session.commit()
    context.pop()
    return Contender(app, db.session, Author, Book)


Work = tuple[Contender, Callable[[Any], object]]


def make_django() -> dict[str, Callable[[], object]]:
    """Return what reads the shelf of each book in Django: one by one, and for all peers.

    Raises:
        ImportError: Django is not there.
        AttributeError: It has no such mode.
    """
    import django
    from django.conf import settings
    from django.db import models

    one_by_one, peers = models.FETCH_ONE, models.FETCH_PEERS  # an AttributeError before 6.1
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.db import connection

    class Shelf(models.Model):  # type: ignore[misc]
        name = models.TextField()

        class Meta:
            app_label = "peers"

    class Book(models.Model):  # type: ignore[misc]
        title = models.TextField()
        shelf = models.ForeignKey(Shelf, models.DO_NOTHING)

        class Meta:
            app_label = "peers"

    with connection.schema_editor() as editor:
        editor.create_model(Shelf)
        editor.create_model(Book)
    Shelf.objects.bulk_create(Shelf(id=n, name=f"shelf {n}") for n in range(1, 201))
    Book.objects.bulk_create(
        Book(title=f"{n}", shelf_id=1 + n % 200) for n in range(1, 2 * PARENTS + 1)
    )

    def read(mode: Any) -> Callable[[], object]:
        return lambda: sum(len(book.shelf.name) for book in Book.objects.fetch_mode(mode))

    return {"one by one": read(one_by_one), "FETCH_PEERS": read(peers)}


def measure_calls(rounds: int, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of the thread CPU time of each call, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for at in range(rounds + 1):
        random.shuffle(names)
        for name in names:
            begin = time.thread_time()
            calls[name]()
            if at:  # the first round fills the caches
                times[name].append((time.thread_time() - begin) * 1000)
    return {name: statistics.median(found) for name, found in times.items()}


def measure(rounds: int, contenders: dict[str, Work]) -> dict[str, float]:
    """Return the median of the thread CPU time of each, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for at in range(rounds + 1):
        random.shuffle(names)
        for name in names:
            who, work = contenders[name]
            with who.app.app_context():
                session = who.sessions()
                keep = list(session.scalars(select(who.author)))
                begin = time.thread_time()
                work(session)
                if at:  # the first round fills the caches
                    times[name].append((time.thread_time() - begin) * 1000)
                del keep
    return {name: statistics.median(found) for name, found in times.items()}


def show(title: str, found: dict[str, float], over: str) -> None:
    """Print the medians, and what each is over one of them."""
    print(title)
    for name, value in found.items():
        print(f"  {name:34s} {value:9.3f} ms   {value / found[over]:6.3f}")


def main() -> None:  # noqa: C901 - a table, and the work in its rows
    """Measure page, refresh, deferred columns, and what others pay."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    plain, empty, ours = make(), make(), make()
    with lazy_loading("select"):
        pass  # from here on sessions of the library have its listener
    plain = plain._replace(sessions=orm.scoped_session(orm.sessionmaker(bind=engine_of(plain))))
    empty = empty._replace(sessions=orm.scoped_session(orm.sessionmaker(bind=engine_of(empty))))
    event.listen(empty.sessions, "do_orm_execute", lambda _state: None)

    def peers(work: Callable[[Any], object]) -> Callable[[Any], object]:
        def run(session: Any) -> object:
            with lazy_loading("peers"):
                return work(session)

        return run

    def page(model: Any, *options: Any) -> Callable[[Any], object]:
        def run(session: Any) -> int:
            session.expunge_all()
            total = 0
            for each in session.scalars(select(model).options(*options)):
                for one in each.books:
                    total += len(one.shelf.name) + len(one.tags)
            return total

        return run

    eager = selectinload(ours.author.books)
    options = (eager.selectinload(ours.book.shelf), eager.selectinload(ours.book.tags))
    found = measure(
        rounds,
        {
            "one by one": (plain, page(plain.author)),
            "empty listener, one by one": (empty, page(empty.author)),
            "peers": (ours, peers(page(ours.author))),
            "selectinload() by hand": (ours, page(ours.author, *options)),
        },
    )
    show(f"A page of {PARENTS} with three relationships (goal 0.15)", found, "one by one")

    def shelves(model: Any) -> Callable[[Any], object]:
        def run(session: Any) -> int:
            session.expunge_all()
            return sum(len(each.shelf.name) for each in session.scalars(select(model)))

        return run

    found = measure(
        rounds,
        {
            "one by one": (plain, shelves(plain.book)),
            "empty listener, one by one": (empty, shelves(empty.book)),
            "peers": (ours, peers(shelves(ours.book))),
        },
    )
    show(f"The shelf of each of {2 * PARENTS} books", found, "one by one")
    try:
        found = measure_calls(rounds, make_django())
    except (ImportError, AttributeError) as error:
        print(f"The same in Django: needs Django 6.1 ({error})")
    else:
        show("The same in Django", found, "one by one")

    def refresh(session: Any) -> int:
        objects = list(session.identity_map.values())
        session.expire_all()
        return sum(len(each.name) for each in objects)

    found = measure(rounds, {"one by one": (plain, refresh), "peers": (ours, peers(refresh))})
    show(f"{PARENTS} expired objects (goal 0.12)", found, "one by one")

    def single(model: Any) -> Callable[[Any], object]:
        def run(session: Any) -> int:
            session.expunge_all()
            return len(session.get(model, 7).books)

        return run

    def load(model: Any) -> Callable[[Any], object]:
        def run(session: Any) -> int:
            session.expunge_all()
            return len(session.scalars(select(model)).all())

        return run

    for title, work in {
        "One object, one lazy load (goal 1.12)": single,
        f"{PARENTS} objects, nothing lazy (goal 1.05; 1.08 over an empty listener)": load,
    }.items():
        found = measure(
            rounds * 5,
            {
                "one by one": (plain, work(plain.author)),
                "empty listener": (empty, work(empty.author)),
                "peers": (ours, peers(work(ours.author))),
            },
        )
        show(title, found, "one by one")


if __name__ == "__main__":
    main()
