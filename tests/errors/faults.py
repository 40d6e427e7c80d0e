"""An application whose routes each provoke one database error, on purpose and for real."""

from __future__ import annotations

import enum
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, Versioned, declarative_base, in_transaction, transaction
from tests.support.databases import Database

SECRET = "s3cr3t-hash"
MAIL = "victim@example.org"
LEAKS = (
    SECRET,
    MAIL,
    "127.0.0.1",
    "no-such-host",
    "INSERT INTO",
    "SELECT",
    "UPDATE",
    "DELETE FROM",
    "account",
    "uq_",
    "pk_",
    "fk_",
    "ck_",
    "sqlalche.me",
    "Traceback",
    "psycopg",
    "pymysql",
    "sqlite3",
    "site-packages",
    "DETAIL",
)
"""Nothing of this may stand in an answer."""

VALUES = (SECRET, MAIL, "no-such-host", "INSERT INTO", "DETAIL:", "[SQL", "[parameters", 'near "')
"""Nothing of this may stand in a log."""


module = logging.getLogger("dbkit_faults.views")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Models:
    """Made anew for each site: a declarative base belongs to one SQLAlchemy object."""

    base: Any
    account: Any
    note: Any
    pinned: Any
    doc: Any


def make_models() -> Models:
    base = declarative_base()

    class Account(base):  # type: ignore[misc, valid-type]
        __table_args__ = (
            sa.CheckConstraint("age > 0", name="age"),
            sa.UniqueConstraint("given", "family"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        mail: Mapped[str] = mapped_column("email", sa.String(60), unique=True)
        age: Mapped[int] = mapped_column(default=1)
        given: Mapped[str | None] = mapped_column(sa.String(40))
        family: Mapped[str | None] = mapped_column(sa.String(40))
        code: Mapped[int | None] = mapped_column(index=True, unique=True)
        colour: Mapped[Colour | None] = mapped_column(
            sa.Enum(Colour, native_enum=False, validate_strings=True)
        )
        secret: Mapped[str] = mapped_column(sa.String(40), default=SECRET)

    class Note(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int] = mapped_column(sa.ForeignKey("account.id"))

    class Pinned(base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int] = mapped_column(sa.ForeignKey("account.id", ondelete="RESTRICT"))

    class Doc(Versioned, base):  # type: ignore[misc, valid-type]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(40))

    return Models(base, Account, Note, Pinned, Doc)


@dataclass
class Site:
    """One application on one database, with a route per fault."""

    app: Flask
    db: SQLAlchemy
    kit: DBKit
    models: Models
    database: Database
    driver: str
    talkative: bool = False

    @property
    def family(self) -> str:
        return self.database.name.partition("-")[0]

    def faults(self) -> dict[str, Fault]:
        """Every fault that this driver can be made to show."""
        return {
            name: fault
            for name, fault in FAULTS.items()
            if self.driver in fault.codes and self.database.name not in fault.without
        }


def make_site(
    database: Database,
    driver: str,
    folder: Path,
    *,
    create: bool = True,
    talkative: bool = False,
    **config: Any,
) -> Site:
    url = sa.make_url(database.url)
    if driver == "psycopg2":
        url = url.set(drivername="postgresql+psycopg2")
    app = Flask("dbkit_faults", instance_path=str(folder / "instance"))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_BINDS=_binds(url, folder),
        DBKIT_SQLITE_BUSY_TIMEOUT_MS=50,
    )
    app.config.update(config)
    models = make_models()
    db = SQLAlchemy(model_class=models.base)
    kit = DBKit(app, db=db)
    site = Site(app, db, kit, models, database, driver, talkative)
    if create:
        with app.app_context():
            models.base.metadata.create_all(db.engine)
            db.session.add(models.account(id=1, mail=MAIL, given="Ann", family="Lee", code=7))
            db.session.add(models.account(id=2, mail="pinned@example.org"))
            db.session.flush()
            db.session.add(models.note(id=1, account_id=1))
            db.session.add(models.pinned(id=1, account_id=2))
            db.session.add(models.doc(id=1, text="first"))
            db.session.commit()
            if site.family != "mariadb":
                deferred = "DEFERRABLE INITIALLY DEFERRED"
                db.session.execute(
                    sa.text(
                        "CREATE TABLE late (account_id INTEGER CONSTRAINT fk_late"
                        f" REFERENCES account (id) {deferred})"
                    )
                )
                db.session.commit()
    for name, fault in site.faults().items():
        app.add_url_rule(
            f"/{name}",
            name,
            _view(site, fault),
            methods=["GET", "POST"],
            provide_automatic_options=False,
        )
    return site


def _view(site: Site, fault: Fault) -> Callable[[], str]:
    def view() -> str:
        try:
            fault.provoke(site)
        except Exception as error:
            if site.talkative:
                # As applications do, in every way there is to show an exception.
                site.app.logger.exception("It failed with %s", error)
                module.error("It failed: %r", error)
                module.warning(f"It failed: {error}")
                raise RuntimeError(f"Not saved: {error}") from error
            raise
        return "nothing happened"

    return view


def _binds(url: sa.URL, folder: Path) -> dict[str, Any]:
    tiny = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    if url.get_backend_name() == "sqlite":
        missing = folder / SECRET / "missing.db"
        # A URL without a file of its own: the one connection of the pool is what is looked for.
        shared = f"sqlite:///{folder / 'tiny.db'}"
        read_only = folder / "read-only.db"
        with closing(sqlite3.connect(read_only)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER)")
        return {
            "away": f"sqlite:///{missing}",
            "tiny": {"url": shared, **tiny},
            "read-only": f"sqlite:///file:{read_only}?mode=ro&uri=true",
        }
    return {
        "away": url.set(host="127.0.0.1", port=1),
        "unknown": url.set(database=SECRET),
        "stranger": url.set(username="no-such-user", password=SECRET),
        "tiny": {"url": url, **tiny},
    }


def close_site(site: Site) -> None:
    with site.app.app_context():
        site.db.session.remove()
        for engine in site.db.engines.values():
            engine.dispose()


# -- faults ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        provoke: Called in a view.
        codes: The code by driver; a driver that is not named cannot fail this way.
        fields: In the answer, where the driver tells.
        constraint: Of the problem.
        table: Of the problem.
        without: Backends that cannot fail this way.
    """

    provoke: Callable[[Site], object]
    codes: dict[str, str]
    fields: list[str] | None = None
    constraint: str | None = None
    table: str | None = None
    without: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}
ALL = ("sqlite", "psycopg", "psycopg2", "pymysql")
PG = ("psycopg", "psycopg2")
SERVERS = (*PG, "pymysql")


def fault(
    code: str,
    *drivers: str,
    fields: list[str] | None = None,
    constraint: str | None = None,
    table: str | None = None,
    without: tuple[str, ...] = (),
) -> Callable[[Callable[[Site], object]], Callable[[Site], object]]:
    def register(provoke: Callable[[Site], object]) -> Callable[[Site], object]:
        codes = dict.fromkeys(drivers or ALL, code)
        name = provoke.__name__
        if name in FAULTS:
            codes |= FAULTS[name].codes
        FAULTS[name] = Fault(provoke, codes, fields, constraint, table, without)
        return provoke

    return register


def _finish(site: Site) -> None:
    """End the work as the place allows: a scope commits at its own end."""
    if in_transaction():
        site.db.session.flush()
    else:
        site.db.session.commit()


def _send(site: Site, *texts: str, bind: str | None = None) -> None:
    for text in texts:
        options = {} if bind is None else {"bind": site.db.engines[bind]}
        site.db.session.execute(sa.text(text), bind_arguments=options)
    _finish(site)


def _add(site: Site, **values: Any) -> None:
    site.db.session.add(site.models.account(**{"id": 50, "mail": "new@example.org", **values}))
    _finish(site)


@fault("conflict.unique", fields=["mail"], constraint="uq_account_email", table="account")
def unique(site: Site) -> None:
    _add(site, mail=MAIL)


@fault("conflict.unique", fields=["id"], constraint="pk_account", table="account")
def primary_key(site: Site) -> None:
    row = {"id": 1, "mail": "pk@example.org", "age": 1, "secret": SECRET}
    site.db.session.execute(sa.insert(site.models.account).values(row))


@fault(
    "conflict.unique",
    fields=["given", "family"],
    constraint="uq_account_given_family",
    table="account",
)
def several_columns(site: Site) -> None:
    _add(site, given="Ann", family="Lee")


@fault("conflict.unique", fields=["code"], constraint="ix_account_code", table="account")
def unique_index(site: Site) -> None:
    _add(site, code=7)


@fault(
    "conflict.reference",
    fields=["account_id"],
    constraint="fk_note_account_id_account",
    table="note",
)
def reference(site: Site) -> None:
    site.db.session.add(site.models.note(id=9, account_id=4711))
    _finish(site)


@fault(
    "conflict.reference",
    fields=["account_id"],
    constraint="fk_note_account_id_account",
    table="note",
)
def changed_reference(site: Site) -> None:
    site.db.session.execute(sa.update(site.models.note).values(account_id=4711))


@fault("conflict.referenced", constraint="fk_note_account_id_account", table="note")
def referenced(site: Site) -> None:
    site.db.session.execute(sa.delete(site.models.account).filter_by(id=1))


@fault("conflict.referenced")
def changed_parent(site: Site) -> None:
    site.db.session.execute(sa.update(site.models.account).filter_by(id=1).values(id=77))


@fault("conflict.referenced")
def restricted(site: Site) -> None:
    site.db.session.execute(sa.delete(site.models.account).filter_by(id=2))


@fault("conflict.reference", "sqlite", *PG)
def at_commit(site: Site) -> None:
    _send(site, "INSERT INTO late VALUES (4711)")


@fault("invalid.null", fields=["mail"], table="account")
def null(site: Site) -> None:
    _add(site, mail=None)


@fault("invalid.check", fields=["age"], constraint="ck_account_age", table="account")
def check(site: Site) -> None:
    _add(site, age=-5)


@fault("invalid.value", *SERVERS)
def too_long(site: Site) -> None:
    _add(site, mail=SECRET * 10)


@fault("invalid.value")
def too_large(site: Site) -> None:
    _add(site, age=2**70)


@fault("invalid.value", *SERVERS)
def bad_literal(site: Site) -> None:
    _send(site, f"INSERT INTO note (id, account_id) VALUES (9, '{SECRET}')")


@fault("invalid.value", *PG)
def nul_byte(site: Site) -> None:
    _add(site, mail=f"{SECRET}\0")


@fault("invalid.value")
def lone_surrogate(site: Site) -> None:
    _add(site, mail=f"{SECRET}\ud800")


@fault("invalid.value")
def no_such_colour(site: Site) -> None:
    _add(site, colour=SECRET)


@fault("conflict.stale")
def stale(site: Site) -> None:
    doc = site.db.session.get_one(site.models.doc, 1)
    site.db.session.execute(sa.update(site.models.doc.__table__).values(version=doc.version + 1))
    doc.text = SECRET
    _finish(site)


@fault("internal")
def missing_table(site: Site) -> None:
    _send(site, f"SELECT * FROM nowhere WHERE a = '{SECRET}'")


@fault("internal")
def missing_column(site: Site) -> None:
    _send(site, f"UPDATE account SET nothing = '{SECRET}'")


@fault("internal")
def typo(site: Site) -> None:
    _send(site, f"SELEC '{SECRET}'")


@fault("internal")
def pending_rollback(site: Site) -> None:
    try:
        _add(site, mail=MAIL)
    except sa.exc.IntegrityError:
        _add(site)


@fault("missing")
def no_row(site: Site) -> None:
    site.db.session.get_one(site.models.account, 4711)


@fault("internal")
def swallowed(site: Site) -> None:
    with transaction():
        try:
            site.db.session.add(site.models.account(id=50, mail=MAIL))
            site.db.session.flush()
        except sa.exc.IntegrityError:
            pass


@fault("unavailable")
def away(site: Site) -> None:
    _send(site, "SELECT 1", bind="away")


@fault("unavailable", *PG, "pymysql")
def unknown_database(site: Site) -> None:
    _send(site, "SELECT 1", bind="unknown")


@fault("unavailable", *SERVERS)
def stranger(site: Site) -> None:
    _send(site, "SELECT 1", bind="stranger")


@fault("unavailable.pool")
def pool(site: Site) -> None:
    with site.db.engines["tiny"].connect():
        _send(site, "SELECT 1", bind="tiny")


@contextmanager
def _somebody_else(site: Site) -> Iterator[sa.Connection]:
    with site.db.engines[None].connect() as other:
        yield other
        other.rollback()


@fault("retry", *PG, "pymysql")
def locked_row(site: Site) -> None:
    statement = sa.select(site.models.account.id).with_for_update(nowait=True)
    with _somebody_else(site) as other:
        other.execute(statement).all()
        site.db.session.execute(statement)


@fault("retry", "sqlite", without=("sqlite-memory",))
def locked(site: Site) -> None:
    path = sa.make_url(site.database.url).database or ""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            _add(site)
        finally:
            other.rollback()


@fault("retry", *SERVERS)
def deadlock(site: Site) -> None:
    _send(site, _raised(site, "40P01", 1213))


@fault("retry", *PG)
def serialization(site: Site) -> None:
    _send(site, _raised(site, "40001", 0))


def _raised(site: Site, state: str, number: int) -> str:
    if site.driver == "pymysql":
        return f"BEGIN NOT ATOMIC SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {number}; END"
    return (
        f"DO $$ BEGIN RAISE EXCEPTION 'about {SECRET}'"
        f" USING ERRCODE = '{state}', DETAIL = '{SECRET}'; END $$"
    )


@fault("unavailable", *SERVERS)
def killed(site: Site) -> None:
    session = site.db.session
    if site.driver == "pymysql":
        number = session.scalar(sa.text("SELECT CONNECTION_ID()"))
        kill = f"KILL {number}"
    else:
        number = session.scalar(sa.text("SELECT pg_backend_pid()"))
        kill = f"SELECT pg_terminate_backend({number})"
    with _somebody_else(site) as other:
        other.execute(sa.text(kill))
        time.sleep(0.05)
        _send(site, "SELECT 1")


@fault("unavailable", *PG)
def idle_too_long(site: Site) -> None:
    site.db.session.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 10"))
    time.sleep(0.1)
    _send(site, "SELECT 1")


@fault("timeout", *SERVERS)
def too_slow(site: Site) -> None:
    if site.driver == "pymysql":
        _send(site, "SET STATEMENT max_statement_time = 0.05 FOR SELECT SLEEP(5)")
    else:
        _send(site, "SET LOCAL statement_timeout = 30", "SELECT pg_sleep(5)")


@fault("timeout", "sqlite")
def interrupted(site: Site) -> None:
    with transaction(statement_timeout=0.05):
        _send_endless(site)


def _send_endless(site: Site) -> None:
    site.db.session.execute(
        sa.text(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000)"
            " SELECT count(*) FROM n"
        )
    ).all()


@fault("readonly", *SERVERS)
def read_only(site: Site) -> None:
    begin = "START" if site.driver == "pymysql" else "SET"
    ending = " READ ONLY"
    _send(site, f"{begin} TRANSACTION{ending}", "DELETE FROM account")


@fault("readonly", "sqlite")
def read_only_file(site: Site) -> None:
    _send(site, "DELETE FROM account", bind="read-only")
