"""Fifty faults, each put alone into an application that has none, and each is found."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Blueprint, Flask

from flask_dbkit.application import application_of
from flask_dbkit.databases.sqlite import connecting
from flask_dbkit.engines.doctor import configuration, on_sqlite
from flask_dbkit.observability.noticed import NoticedWork
from flask_dbkit.observability.windows import Repeat, Window
from tests.doctor.shop import Defect, found_by, make_shop, source_with

SERVER = "postgresql+psycopg://shop:x@db.example.org/shop"
MARIADB = "mysql+pymysql://shop:x@db.example.org/shop"


def on_server(**config: Any) -> dict[str, Any]:
    return {"SQLALCHEMY_DATABASE_URI": SERVER, **config}


def with_engine(**options: Any) -> dict[str, Any]:
    return on_server(SQLALCHEMY_ENGINE_OPTIONS=options)


def column(text: str) -> dict[str, str]:
    return {"# columns": text}


def model(name: str, text: str) -> dict[str, str]:
    key = "    id: Mapped[int] = mapped_column(primary_key=True)"
    return {"# module": f"class {name}(db.Model):\n{key}\n    {text}"}


def view(text: str) -> dict[str, str]:
    return {"# views": text}


def disable_logger(app: Flask) -> None:
    logging.getLogger(app.name).disabled = True


def protect(app: Flask) -> None:
    def login_required(function: Any) -> Any:
        return function

    @app.before_request  # no fault: the library's probes are answered ahead of it
    def login() -> tuple[str, int]:
        return "who are you?", 401

    @app.get("/internal/healthz")
    @login_required
    def healthz() -> str:
        return "ok"


def ask_when_alive(app: Flask) -> None:
    @app.get("/app/livez")
    def livez() -> str:
        db = app.extensions["sqlalchemy"]
        return str(db.session.scalar(sa.text("SELECT 1")))


def catch_all(app: Flask) -> None:
    @app.errorhandler(sa.exc.SQLAlchemyError)
    def failed(_error: Exception) -> tuple[str, int]:
        return "sorry", 500


def repeat(app: Flask) -> None:
    noticed = application_of(app).part(NoticedWork)
    found = Repeat(9, "SELECT 1", "views.py:7", "Author.books", "Load them.")
    noticed.note(Window("request", keep=False, threshold=5).stats, [found], "/")


def write_often(app: Flask) -> None:
    noticed = application_of(app).part(NoticedWork)
    minute = int(time.time() // 60)
    noticed._fresh.writes.update({minute - ago: 4000 for ago in range(5)})


def show_toolbar(app: Flask) -> None:
    app.config["DEBUG_TB_ENABLED"] = True
    app.register_blueprint(Blueprint("debugtoolbar", "debug_toolbar"))


STATIC = [
    # How it is configured
    Defect("DK001", "DEBUG", {"DEBUG": True}),
    Defect("DK002", "default", {"SQLALCHEMY_ECHO": True}),
    Defect("DK003", "db.prod", code={"# module": 'URL = "postgresql://shop:Tr0ub4dor@db.prod/x"'}),
    Defect("DK004", "development file", {"SQLALCHEMY_DATABASE_URI": None}),
    Defect("DK004", "happens to be", {"SQLALCHEMY_DATABASE_URI": "sqlite:///shop.db"}),
    Defect("DK007", "tutorials", {"SECRET_KEY": "dev"}),
    Defect("DK007", "characters", {"SECRET_KEY": "8c1f"}),
    Defect("DK009", "TRACK", {"SQLALCHEMY_TRACK_MODIFICATIONS": True}),
    # Everything that waits has an end
    Defect("DK010", "default", with_engine(connect_args={"connect_timeout": 0})),
    Defect("DK011", "default", on_server(DBKIT_STATEMENT_TIMEOUT_MS=None)),
    Defect(
        "DK012",
        "statement_timeout",
        {
            **with_engine(connect_args={"options": "-c statement_timeout=1000"}),
            "DBKIT_POOLER": "pgbouncer",
            "DBKIT_DIRECT_URL": SERVER,
        },
    ),
    Defect("DK013", "default", with_engine(connect_args={"tcp_user_timeout": 0})),
    Defect("DK014", "default", on_server(DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS=None)),
    Defect("DK015", "default", with_engine(pool_timeout=60)),
    Defect("DK016", "default", with_engine(pool_pre_ping=False)),
    Defect("DK017", "default", on_server(DBKIT_LOCK_TIMEOUT_MS=None)),
    # As many connections as are needed
    Defect("DK021", "default", {**with_engine(pool_size=2, max_overflow=0), "DBKIT_THREADS": 8}),
    Defect("DK022", "default", with_engine(poolclass=sa.pool.NullPool)),
    Defect("DK025", "DIRECT", on_server(DBKIT_POOLER="pgbouncer")),
    Defect("DK080", ".py:", code={"# module": 'ENGINE = sa.create_engine("sqlite://")'}),
    Defect(
        "DK081",
        "gevent",
        {"SQLALCHEMY_DATABASE_URI": SERVER.replace("psycopg:", "psycopg2:")},
        environ={"GUNICORN_CMD_ARGS": "-k gevent --workers=2"},
    ),
    # SQLite
    Defect("DK030", "default", {"DBKIT_SQLITE_PRAGMAS": {"foreign_keys": "off"}}),
    Defect("DK031", "DELETE", {"DBKIT_SQLITE_PRAGMAS": {"journal_mode": "delete"}}),
    Defect("DK032", "50 ms", {"DBKIT_SQLITE_BUSY_TIMEOUT_MS": 50}),
    Defect("DK033", "default", {"DBKIT_SQLITE_PRAGMAS": {"synchronous": "off"}}),
    Defect("DK036", "memory", {"SQLALCHEMY_DATABASE_URI": "sqlite://"}),
    Defect(
        "DK037",
        "source files",
        code=view('app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{app.root_path}/shop.db"'),
    ),
    Defect("DK038", "40 requests", {"DBKIT_WORKERS": 40}),
    # Models
    Defect("DK066", "Nobody", code={'Mapped[list["Book"]]': 'Mapped[list["Nobody"]]'}),
    Defect(
        "DK040",
        "sale.book_id",
        code=model("Sale", "book_id: Mapped[int] = mapped_column(ForeignKey(Book.id))"),
    ),
    Defect(
        "DK041",
        "ix_book_id",
        code=column('__table_args__ = (sa.Index("ix_book_id", "id"),)'),
    ),
    Defect(
        "DK042",
        "loan.book_id",
        code=model(
            "Loan",
            "book_id: Mapped[str] = mapped_column(String(9), ForeignKey(Book.id), index=True)",
        ),
    ),
    Defect("DK043", "book", on_server()),
    Defect(
        "DK044",
        "tags",
        code={"# module": 'TAGS = sa.Table("tags", db.metadata, sa.Column("name", Text))'},
    ),
    Defect(
        "DK045",
        "CHECK",
        code={
            "Base = declarative_base()": (
                "class Base(sa.orm.DeclarativeBase):\n"
                '    metadata = sa.MetaData(naming_convention={"fk": "fk_%(column_0_name)s",\n'
                '        "uq": "uq_%(column_0_name)s"})'
            ),
            **column('__table_args__ = (sa.CheckConstraint("id > 0"),)'),
        },
    ),
    Defect(
        "DK045",
        "no naming",
        code={
            "Base = declarative_base()": "class Base(sa.orm.DeclarativeBase): pass",
        },
    ),
    Defect(
        "DK065",
        "same pair",
        code={
            **column('signed_by = relationship("Author", secondary="pairs", passive_deletes=True)'),
            "# module": (
                'sa.Table("pairs", db.metadata, sa.Column("id", sa.Integer, primary_key=True),\n'
                '    sa.Column("left_id", ForeignKey(Book.id), index=True),\n'
                '    sa.Column("right_id", ForeignKey(Author.id), index=True))'
            ),
        },
    ),
    Defect("DK046", "book.sold", code=column("sold = mapped_column(sa.Boolean, default=False)")),
    Defect("DK047", "moment", code=column("moment: Mapped[datetime] = mapped_column(sa.DateTime)")),
    Defect(
        "DK048",
        "book.note",
        {"SQLALCHEMY_DATABASE_URI": MARIADB},
        code=column("note: Mapped[str] = mapped_column(String)"),
    ),
    Defect(
        "DK049",
        "Author.books",
        code={', cascade="all, delete-orphan", passive_deletes=True': ""},
    ),
    Defect(
        "DK105",
        "book.added",
        code={"default=lambda: datetime.now(UTC)": "default=datetime.now(UTC)"},
    ),
    Defect(
        "DK060",
        "Author.books",
        code={
            'back_populates="author", cascade': 'back_populates="author", lazy="joined", cascade'
        },
    ),
    Defect(
        "DK061",
        "Author.books",
        code={
            'Mapped[list["Book"]] = relationship(\n        back_populates="author"': (
                'sa.orm.DynamicMapped["Book"] = relationship(\n        back_populates="author"'
            )
        },
    ),
    Defect(
        "DK062",
        "Author.books",
        code={
            'back_populates="author", ': 'backref="author", ',
            '    author: Mapped[Author] = relationship(back_populates="books")\n': "",
        },
    ),
    Defect("DK064", "views.py:7", after=repeat),
    Defect("DK077", "a second wrote", after=write_often),
    Defect("DK063", "Author.books", {"DBKIT_N_PLUS_ONE": "off"}),
    # Who asks, and what is told
    Defect("DK070", "/app/livez", after=ask_when_alive),
    Defect("DK071", "no health", {"DBKIT_HEALTH_PREFIX": None, "DBKIT_HEALTH_ALIASES": None}),
    Defect("DK072", "DBKIT_ERRORS", {"DBKIT_ERRORS": False}),
    Defect("DK072", "SQLAlchemyError", after=catch_all),
    Defect("DK073", "/internal/healthz", after=protect),
    Defect("DK074", "REDACT", {"DBKIT_ERROR_REDACT_LOGS": False}),
    Defect("DK075", "DEBUG_TB", after=show_toolbar),
    Defect("DK076", "disabled", after=disable_logger),
    Defect("DK078", "SLOW", {"DBKIT_SLOW_MS": None}),
    # Code
    Defect(
        "DK100",
        "in find()",
        code=view(
            '@app.get("/find")\n'
            "def find():\n"
            '    name = request.args["name"]\n'
            "    sql = \"SELECT * FROM book WHERE title = '%s'\" % name\n"
            "    return str(db.session.execute(text(sql)).all())"
        ),
    ),
    Defect(
        "DK100",
        "in drop()",
        code=view(
            "def drop(connection, table):\n"
            '    return connection.exec_driver_sql(f"DROP TABLE {table}")'
        ),
    ),
    Defect(
        "DK100",
        "in old()",
        code=view(
            "def old(connection, name):\n"
            '    query = "SELECT 1 FROM book WHERE title = \'" + name + "\'"\n'
            '    query += " ORDER BY id"\n'
            "    return connection.execute(text(query))"
        ),
    ),
    Defect(
        "DK101",
        "getattr(Book",
        code=view(
            "def sorted_books():\n"
            '    key = request.args.get("sort", "title")\n'
            "    return select(Book).order_by(getattr(Book, key))"
        ),
    ),
    Defect(
        "DK102",
        "order_by()",
        code=view(
            'def ordered():\n    return select(Book).order_by(text(request.args.get("sort", "id")))'
        ),
    ),
    Defect("DK103", "SESSION", code={"# module": "SESSION = sa.orm.Session()"}),
    Defect("DK103", "FIRST", code={"# module": 'FIRST = [Author(name="Ada")]'}),
    Defect(
        "DK104",
        ".py:",
        code=view(
            "def later():\n    Thread(target=print, args=(db.session, 1)).start()",
        ),
    ),
    # Lists
    Defect(
        "DK120",
        "book.added",
        code={'{"title": Book.title}': '{"title": Book.title, "added": Book.added}'},
    ),
    Defect(
        "DK122",
        "book.pages",
        code={
            **column("pages: Mapped[int]\nheavy: Mapped[bool]"),
            'default="title"))': (
                'default="title"), filter=FilterAllowlist(\n'
                "    [Book.pages, Book.heavy, Book.title, Book.author_id]))"
            ),
            "DBKit, Listing, ": "DBKit, FilterAllowlist, Listing, ",
        },
    ),
    Defect(
        "DK121",
        "Shelf",
        code={
            "# module": 'SHELF = Listing(Book, name="Shelf",\n'
            '    sort=SortAllowlist({"name": Author.name}, default="name"))'
        },
    ),
    Defect("DK059", "migrations"),
    Defect("DK091", "no backup", {"DBKIT_BACKUP_MAX_AGE_S": 86_400}),
]

ALONE = {"DK001", "DK004", "DK010", "DK036", "DK045", "DK063", "DK066", "DK071", "DK081", "DK105"}
"""Faults that hide others."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)


def merged(one: Defect, other: Defect) -> Defect | None:
    """Return both faults in one, if neither hides the other."""
    apart = {"SQLALCHEMY_DATABASE_URI", "SQLALCHEMY_ENGINE_OPTIONS", "DBKIT_SQLITE_PRAGMAS"}
    if one.id in ALONE or other.id in ALONE or one.environ != other.environ:
        return None
    if {key: one.config.get(key) for key in apart} != {key: other.config.get(key) for key in apart}:
        return None
    if one.config.keys() & other.config.keys() - apart:
        return None
    code = dict(one.code)
    for place, text in other.code.items():
        if place in code and not place.startswith("# "):
            return None
        code[place] = f"{code[place]}\n\n\n{text}" if place in code else text
    try:
        source_with(code)
    except AssertionError:  # both change the same lines
        return None

    def after(app: Flask) -> None:
        for each in (one, other):
            if each.after is not None:
                each.after(app)

    return Defect("", "", {**one.config, **other.config}, code, one.environ, after)


def batches() -> list[tuple[Defect, list[Defect]]]:
    """Put faults together that can be in one application: to make one takes most of the time."""
    found: list[tuple[Defect, list[Defect]]] = []
    for defect in STATIC:
        for number, (whole, parts) in enumerate(found):
            both = merged(whole, defect) if parts[0].id not in ALONE else None
            if both is not None:
                found[number] = (both, [*parts, defect])
                break
        else:
            found.append((defect, [defect]))
    return found


def test_each_fault_of_code_and_configuration_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asking a database; and nothing is found that is none of them."""
    assert len(STATIC) >= 50
    missed, besides = [], []
    for whole, parts in batches():
        with monkeypatch.context() as patched:
            for name, value in whole.environ.items():
                patched.setenv(name, value)
            app, dbkit = make_shop(tmp_path, whole)
            with app.app_context():
                findings = dbkit.doctor.run(deploy=True, db=False)
        meant = {id(one) for each in parts for one in found_by(findings, each)}
        missed += [(each.id, each.about) for each in parts if not found_by(findings, each)]
        besides += [
            (each.id, each.object, each.message)
            for each in findings
            if id(each) not in meant and each.level != "info"
        ]
    assert missed == []
    assert besides == []


def test_what_is_found_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, drivers and the file system: compared with other tables than those of today."""
    app, dbkit = make_shop(tmp_path)
    monkeypatch.setattr(configuration, "_TESTED", {"flask": ((9,), (10,))})
    monkeypatch.setattr(on_sqlite, "_OLDEST", (99,))
    here = connecting.file_system(str(tmp_path))
    monkeypatch.setattr(connecting, "_NETWORK_TYPES", (here,))
    with app.app_context():
        found = {each.id: each.message for each in dbkit.doctor.run(db=False)}
    assert found.keys() == {"DK005", "DK008", "DK039"}
    assert f"default is on {here}: " in found["DK005"]
    assert found["DK008"].endswith("tested is from 9, below 10")
    assert found["DK039"].startswith("SQLite is 3.")
    monkeypatch.setattr(on_sqlite, "_LAYERS", (here,))
    with app.app_context():
        assert "DK037" in {each.id for each in dbkit.doctor.run(db=False, deploy=True)}
    monkeypatch.setattr(configuration, "_DISCOURAGED", {"pymysql": "mysqldb"})
    app, dbkit = make_shop(tmp_path, SQLALCHEMY_DATABASE_URI=MARIADB)
    with app.app_context():
        (old,) = [each for each in dbkit.doctor.run(db=False) if each.id == "DK006"]
    assert old.fix == "Write mysql+mysqldb:// in the URL, and install mysqldb."


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        (Defect("DK018", "default", code=view("db.init_app(app)")), "ran before DBKit's init_app"),
        (
            Defect(
                "DK056",
                "Lost",
                code={
                    "# module": "class Lost(declarative_base()):\n"
                    "    id: Mapped[int] = mapped_column(primary_key=True)"
                },
            ),
            "belongs to no database",
        ),
    ],
    ids=lambda one: getattr(one, "id", ""),
)
def test_what_was_warned_of_at_start_is_found(tmp_path: Path, defect: Defect, said: str) -> None:
    """The warning is seen by nobody who looks at a deployment."""
    with pytest.warns(RuntimeWarning, match=said):
        app, dbkit = make_shop(tmp_path, defect)
    with app.app_context():
        assert found_by(dbkit.doctor.run(db=False), defect)
