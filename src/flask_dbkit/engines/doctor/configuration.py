"""DK00x: how the application is configured."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

from sqlalchemy import make_url

from ...databases import file_of
from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found
from ...doctor.sources import Source
from ..flask_sqlalchemy import given_options, tracks_for_nobody

__all__: list[str] = []

_FLASK = "https://flask.palletsprojects.com/en/stable/config/"
_FSA = "https://flask-sqlalchemy.readthedocs.io/en/stable/config/"
_URL = re.compile(
    r"(postgres(ql)?|mysql|mariadb|cockroachdb|oracle|mssql)(\+\w+)?://"
    r"[^:/@\s]*:(?P<password>[^@\s/]+)@(?P<host>[^/:?\s]*)"
)
_PLACEHOLDERS = re.compile(r"\*+|\.{3}|…|<.*>|\{.*\}|%\(?.*|\$.*|x+|pass(word)?|secret|pw|pwd")
_LOCAL = re.compile(r"|localhost|127\.0\.0\.1|db|database|postgres|mysql|mariadb")
_WEAK_KEY = re.compile(
    r"(dev(elopment)?|test(ing)?|secret[-_ ]?key|secret|change[-_ ]?(me|this).*|super[-_ ]?secret.*"
    r"|your[-_ ].*|you[-_ ]will[-_ ]never.*|my[-_ ]?secret.*|hard[-_ ]to[-_ ]guess.*|insecure.*"
    r"|password|key|foo(bar)?)",
    re.IGNORECASE,
)
_SHORTEST_KEY = 16
_DISCOURAGED = {
    "psycopg2cffi": "psycopg",
    "mysqlconnector": "pymysql",
    "cymysql": "pymysql",
    "oursql": "pymysql",
    "pyodbc": "pymysql",
}
_DRIVERS = {
    "psycopg": ((3, 1), (4,)),
    "psycopg2": ((2, 9), (3,)),
    "pymysql": ((1, 1), (2,)),
}
_TESTED = {
    "sqlalchemy": ((2, 0, 40), (2, 2)),
    "flask-sqlalchemy": ((3, 1), (4,)),
    "flask": ((3, 0), (4,)),
}


@check(
    "DK001",
    "Debug or testing mode",
    level="error",
    tags=("config",),
    cause="The debugger shows source, SQL and values to whoever provokes an error, and runs code"
    " for them; TESTING lets errors through instead of answering them.",
    fix="Leave FLASK_DEBUG, DEBUG and TESTING out of the environment that serves.",
    link=f"{_FLASK}#DEBUG",
    deploy=True,
)
def debug_mode(given: Examination) -> Iterator[Found]:
    """Look at both switches."""
    for key in ("DEBUG", "TESTING"):
        if given.app.config.get(key):
            yield Found(f"{key} is on", object=key)


@check(
    "DK002",
    "Every statement is printed",
    tags=("config", "logging"),
    cause="SQLALCHEMY_ECHO writes each statement with its values to the log, and costs more than"
    " many of the statements.",
    fix="Leave SQLALCHEMY_ECHO and echo=True out; slow statements are logged by DBKIT_SLOW_MS.",
    link=f"{_FSA}#flask_sqlalchemy.config.SQLALCHEMY_ECHO",
    deploy=True,
)
def echo(given: Examination) -> Iterator[Found]:
    """Ask the engines, whatever they were told by."""
    for bind in given.binds:
        if bind.engine.echo:
            yield Found(f"Every statement of {bind.name} is printed", object=bind.name)


@check(
    "DK003",
    "A password of a database in the code",
    level="error",
    tags=("config", "code"),
    cause="Whoever reads the repository, or an image made of it, has the password; and it cannot be"
    " changed without a release.",
    fix="Read the URL from the environment: DATABASE_URL is found without a line of code. Change"
    " the password.",
    link="https://12factor.net/config",
)
def password_in_code(given: Examination) -> Iterator[Found]:
    """Look for database URLs with a password among the texts of the code."""
    for source in given.sources:
        for node, _ in source.nodes:
            match = _password_in(node)
            if match and not source.is_ignored("DK003", node) and not _is_prose(source, node):
                host = match["host"]
                yield Found(
                    f"A URL with a password, for {host or 'this machine'}, is in the code",
                    object=source.place(node),
                    level="warning" if _LOCAL.fullmatch(host) else None,
                )


def _password_in(node: ast.AST) -> re.Match[str] | None:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return None
    match = _URL.search(node.value)
    return match if match and not _PLACEHOLDERS.fullmatch(match["password"].lower()) else None


def _is_prose(source: Source, node: ast.AST) -> bool:
    """Tell whether a text is a docstring, or a text alone in a line."""
    return any(isinstance(other, ast.Expr) and other.value is node for other, _ in source.nodes)


@check(
    "DK004",
    "A database file whose place nobody chose",
    tags=("config", "files"),
    cause="Started from another folder, or deployed anew, the application works on another, empty"
    " file, and nobody is told.",
    fix="Set DATABASE_URL to an absolute path: sqlite:////var/lib/shop/shop.db.",
    link="https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#connect-strings",
    deploy=True,
)
def file_by_accident(given: Examination) -> Iterator[Found]:
    """Look for the development default, and for paths that are relative to something."""
    configured = given_options(given.app, given.db)
    for bind in given.binds:
        if bind.file is None:
            continue
        told = configured.get(bind.key, {}).get("url")
        path = None if told is None else file_of(make_url(told))
        if bind.context.by_default:
            yield Found("No database is configured: this is the development file", bind.name)
        elif path is not None and not PurePath(path).is_absolute():
            yield Found(
                f"{bind.name} is {path}, where the application happens to be: {bind.file}",
                object=bind.name,
            )


@check(
    "DK005",
    "A SQLite file on a network file system",
    level="error",
    tags=("config", "files"),
    cause="Locks of network file systems do not keep two machines apart, and write-ahead logging"
    " needs memory that they cannot share: the file will be damaged.",
    fix="Move the file to a local disk of one machine, or use a server.",
    link="https://www.sqlite.org/useovernet.html",
)
def network_file(given: Examination) -> Iterator[Found]:
    """Look the path up among the mounts."""
    for bind in given.binds:
        kind = bind.database.engine.network_file_system(bind.url)
        if kind is not None:
            yield Found(f"{bind.name} is on {kind}: {bind.file}", object=bind.name)


@check(
    "DK006",
    "A driver that SQLAlchemy advises against",
    tags=("config",),
    cause="It is no longer kept up, or not tested with SQLAlchemy; what its errors mean is not"
    " known.",
    fix="Use postgresql+psycopg:// or mysql+pymysql://.",
    link="https://docs.sqlalchemy.org/en/20/dialects/",
)
def discouraged_driver(given: Examination) -> Iterator[Found]:
    """Compare the drivers with a list."""
    for bind in given.servers:
        better = _DISCOURAGED.get(bind.engine.dialect.driver)
        if better is not None:
            scheme = f"{bind.engine.dialect.name}+{better}://"
            yield Found(
                f"{bind.name} uses the driver {bind.engine.dialect.driver}",
                object=bind.name,
                fix=f"Write {scheme} in the URL, and install {better}.",
            )


@check(
    "DK007",
    "A SECRET_KEY that can be guessed",
    level="error",
    tags=("config", "security"),
    cause="Whoever guesses it signs cursors, sessions and logins of their own.",
    fix="Make one with python -c 'import secrets; print(secrets.token_hex())' and set it by"
    " FLASK_SECRET_KEY.",
    link=f"{_FLASK}#SECRET_KEY",
    deploy=True,
)
def weak_key(given: Examination) -> Iterator[Found]:
    """Look at its length, and for words that are in many tutorials."""
    key = given.app.config.get("SECRET_KEY")
    if not key:
        return
    text = key.decode("latin-1") if isinstance(key, bytes) else str(key)
    if _WEAK_KEY.fullmatch(text.strip()):
        yield Found("SECRET_KEY is a word of tutorials", object="SECRET_KEY")
    elif len(text) < _SHORTEST_KEY:
        yield Found(f"SECRET_KEY has {len(text)} characters", object="SECRET_KEY")


@check(
    "DK008",
    "A version that the library is not tested with",
    tags=("config",),
    cause="What the library promises was tried on other versions.",
    fix="Take a version in the range, or a newer Flask-DBKit.",
)
def untested_version(given: Examination) -> Iterator[Found]:
    """Compare the installed versions, those of the drivers in use too, with the tested ranges."""
    drivers = {bind.engine.dialect.driver for bind in given.servers}
    wanted = {**_TESTED, **{name: _DRIVERS[name] for name in sorted(drivers & _DRIVERS.keys())}}
    for name, (low, high) in wanted.items():
        try:
            text = version(name)
        except PackageNotFoundError:  # it is not installed as a package
            continue
        have = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
        if not low <= have < high:
            tested = f"from {'.'.join(map(str, low))}, below {'.'.join(map(str, high))}"
            yield Found(f"{name} is {text}; tested is {tested}", object=name)


@check(
    "DK009",
    "Flask-SQLAlchemy tracks modifications",
    tags=("config",),
    cause="Each flush then records every object for signals that next to nobody listens to: it"
    " costs time and memory.",
    fix="Leave SQLALCHEMY_TRACK_MODIFICATIONS out: off is its default.",
    link=f"{_FSA}#flask_sqlalchemy.config.SQLALCHEMY_TRACK_MODIFICATIONS",
)
def tracked_modifications(given: Examination) -> Iterator[Found]:
    """Look whether it is on and nobody listens."""
    if tracks_for_nobody(given.app):
        yield Found(
            "SQLALCHEMY_TRACK_MODIFICATIONS is on, and nothing listens to its signals",
            object="SQLALCHEMY_TRACK_MODIFICATIONS",
        )
