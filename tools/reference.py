"""The tables of the reference, written from the code they describe.

Each function returns Markdown; ``pages.py`` puts it where a page asks for it. They need nothing but
the library, so that the tests can compare their text with the code.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name

import click
import code_map
from docstrings import entry
from sqlalchemy import make_url

import flask_dbkit
from flask_dbkit import exceptions
from flask_dbkit.config import Config
from flask_dbkit.databases import EngineContext, database_of, support_for
from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS, PRAGMAS
from flask_dbkit.doctor.checks import Registry
from flask_dbkit.errors.codes import PROBLEMS
from flask_dbkit.features import FEATURES, complete_group
from flask_dbkit.health import CODES
from flask_dbkit.migrations.lint import RULES
from flask_dbkit.settings import Setting, settings_in

_PAGES = (
    "application",
    "models",
    "transactions",
    "lists",
    "errors",
    "queries",
    "health",
    "backups",
    "doctor",
)
_API = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api"
_DATABASES = {
    "postgresql": "PostgreSQL",
    "sqlite": "SQLite",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
}

__all__ = [
    "TEXTS",
    "api",
    "commands",
    "default_pragmas",
    "doctor_checks",
    "engine_defaults",
    "errors",
    "health_codes",
    "lint_rules",
    "names",
    "pragmas",
    "problem_sources",
    "problems",
    "settings",
]


# Error codes from 1000 on are those of MySQL; SQLite's smallest extended ones lie below them too.
_SQLITE_CODES: dict[object, str] = {
    getattr(sqlite3, name): name
    for name in dir(sqlite3)
    if name.startswith(("SQLITE_CONSTRAINT_", "SQLITE_BUSY", "SQLITE_LOCKED"))
    or name.removeprefix("SQLITE_")
    in ("MISMATCH", "TOOBIG", "CANTOPEN", "PROTOCOL", "INTERRUPT", "READONLY")
}


# The heading of each room's settings, and the how-to page on them.
_ROOMS = {
    "engines": ("Databases and connections", "set-up.md"),
    "transactions": ("Transactions", "transactions.md"),
    "lists": ("Lists", "lists.md"),
    "peer_loading": ("Lazy attributes", "peer-loading.md"),
    "errors": ("Errors", "errors.md"),
    "observability": ("Statements and connections", "queries.md"),
    "migrations": ("Migrations", "migrations.md"),
    "health": ("Health", "health.md"),
    "backups": ("Backups", "backups.md"),
    "doctor": ("The doctor", "before-you-ship.md"),
}


def settings_by_room() -> dict[str, list[Setting]]:
    """Return the settings of each room, in the order of the features."""
    found: dict[str, list[Setting]] = {}
    for feature in FEATURES:
        if feature.settings is not None:
            room = feature.settings.__module__.removeprefix("flask_dbkit.")
            found.setdefault(room.removesuffix(".settings"), []).extend(
                settings_in(feature.settings)
            )
    return found


def settings() -> str:
    """Describe every ``DBKIT_*`` key, by rooms, with a table of all in front."""
    rooms = settings_by_room()
    table = ["| about | settings |", "|---|---|"]
    described = []
    for room, of_room in rooms.items():
        title, page = _ROOMS[room]
        keys = [f"[`{each.key}`](#{each.key.lower()})" for each in of_room]
        table.append(f"| [{title}](../how-to/{page}) | {', '.join(keys)} |")
        described.append(f"## {title}\n")
        described += [
            f"### `{each.key}`\n\n{each.meaning}\n\n"
            f"Takes {_literal(each.type)}. Default: `{each.default!r}`.\n"
            for each in of_room
        ]
    return "\n".join([*table, "", *described])


def default_pragmas() -> str:
    """Tabulate the pragmas every connection gets."""
    rows = [f"| `{name}` | `{value}` |" for name, value in DEFAULT_PRAGMAS.items()]
    rows.append("| `busy_timeout` | the value of `DBKIT_SQLITE_BUSY_TIMEOUT_MS` |")
    return "\n".join(["| pragma | value |", "|---|---|", *rows])


def pragmas() -> str:
    """Tabulate every pragma that ``DBKIT_SQLITE_PRAGMAS`` may name."""
    rows = []
    for pragma in PRAGMAS.values():
        given = DEFAULT_PRAGMAS.get(pragma.name)
        default = f"`{given}`" if given is not None else "SQLite's own"
        if pragma.name == "busy_timeout":
            default = "`DBKIT_SQLITE_BUSY_TIMEOUT_MS`"
        allowed = ", ".join(f"`{word}`" for word in pragma.words)
        if pragma.number:
            allowed += ", or a whole number" if allowed else "a whole number"
        link = f"[{pragma.name}](https://www.sqlite.org/pragma.html#pragma_{pragma.name})"
        rows.append(f"| {link} | {allowed} | {default} |")
    return "\n".join(["| pragma | takes | default |", "|---|---|---|", *rows])


def engine_defaults() -> str:
    """Tabulate the options engines are made with, per database."""
    urls = {
        "SQLite file": "sqlite:///app.db",
        "PostgreSQL": "postgresql+psycopg://",
        "MariaDB, MySQL": "mysql+pymysql://",
    }
    columns = {}
    for name, text in urls.items():
        url = make_url(text)
        options = support_for(url).engine_options(url, EngineContext(None, "", Config()))
        arguments = options.pop("connect_args", {})
        columns[name] = options | {f'connect_args["{key}"]': arguments[key] for key in arguments}
    keys = dict.fromkeys(key for options in columns.values() for key in options)
    rows = [
        "| ".join(["", f"`{key}` ", *(_cell(options.get(key)) for options in columns.values())])
        for key in keys
    ]
    head = f"| option | {' | '.join(columns)} |"
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *(f"{row}|" for row in rows)])


def errors() -> str:
    """Draw the tree of errors, then describe each of them."""
    tree = "\n".join(
        f"{'    ' * depth}{error.__name__}" for depth, error in _tree(exceptions.DBKitError)
    )
    described = "\n".join(
        entry(error.__name__, error, level=2, called=False, members=False)
        for _, error in _tree(exceptions.DBKitError)
    )
    return f"```text\n{tree}\n```\n\n{described}"


def names(text: str) -> str:
    """Describe the names of a text, each as it is imported; ``~`` is before what only we make."""
    return "\n".join(
        entry(
            name.rpartition(".")[2],
            resolve_name(name.removeprefix("~")),
            called=not name.startswith("~"),
        )
        for name in text.split()
    )


def api() -> str:
    """Tabulate every public name with the page that describes it."""
    rows = []
    for page in (
        "application",
        "models",
        "transactions",
        "lists",
        "errors",
        "queries",
        "health",
        "backups",
        "doctor",
    ):
        text = (_API / f"{page}.md").read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        found = [
            name
            for name in re.findall(r"^### (\w+)$", text, re.MULTILINE)
            if name in flask_dbkit.__all__ or page in ("health", "backups", "doctor")
        ]
        links = ", ".join(f"[`{name}`]({page}.md#{name.lower()})" for name in dict.fromkeys(found))
        rows.append(f"| [{title}]({page}.md) | {links} |")
    return "\n".join(["| subject | names |", "|---|---|", *rows])


def problems() -> str:
    """Tabulate every code of a database error."""
    rows = [
        f"| `{row.code}` | {row.status} | {row.meaning} | {row.detail} |"
        for row in PROBLEMS.values()
    ]
    head = "| code | status | what happened | what a client reads |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def problem_sources() -> str:
    """Tabulate the drivers' codes behind each code of ours."""
    columns = {"PostgreSQL": "postgresql", "MariaDB, MySQL": "mysql", "SQLite": "sqlite"}
    rows = []
    for code in PROBLEMS:
        cells = [
            ", ".join(
                f"`{_code(key)}`"
                for key, meaning in database_of(name).errors.meanings.items()
                if meaning == code
            )
            for name in columns.values()
        ]
        if any(cells):
            rows.append(f"| `{code}` | {' | '.join(cells)} |")
    head = f"| code | {' | '.join(columns)} |"
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *rows])


def _code(key: object) -> str:
    if isinstance(key, str):
        return key if len(key) == 5 else f"{key}…"
    return _SQLITE_CODES.get(key, str(key))


def commands() -> str:
    """Show the help of every command below ``flask dbkit``."""
    parts = []
    for path, command in _commands("flask dbkit", complete_group()):
        context = click.Context(command, info_name=path, terminal_width=80, max_content_width=80)
        parts.append(f"**`{path}`**\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def health_codes() -> str:
    """Tabulate the codes a health check can answer with."""
    rows = [
        f"| `{name}` | `{code.check}` | {code.status} | {code.meaning} | {code.remedy} |"
        for name, code in CODES.items()
    ]
    head = "| code | check | status | what was found | where to look |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def lint_rules() -> str:
    """Describe every rule of ``flask dbkit migrate lint``."""
    parts = []
    for rule in RULES:
        about = ", ".join(_DATABASES[name] for name in rule.dialects) or "every database"
        parts.append(
            f"## {rule.id}: {rule.title}\n\n{rule.why}\n\n*Instead:* {rule.fix}\n\n"
            f"For {about}; {rule.level}.\n"
        )
    return "\n".join(parts)


def doctor_checks() -> str:
    """Describe every check of ``flask dbkit doctor``."""
    registry = Registry()
    for feature in FEATURES:
        registry.offer(feature.doctor)
    parts = []
    for check in registry:
        asks = "Asks the databases. " if check.database else ""
        deploy = "With `--deploy` only. " if check.deploy else ""
        tags = ", ".join(f"`{tag}`" for tag in sorted(check.tags)) or "none"
        more = f"\n[More of it]({check.link})\n" if check.link else ""
        parts.append(
            f"## {check.id}: {_plain(check.title)}\n\n{_plain(check.cause)}\n\n"
            f"*Fix:* {_plain(check.fix)}\n\n"
            f"Level {check.level}. {asks}{deploy}Tags: {tags}.\n{more}"
        )
    return "\n".join(parts)


def _plain(text: str) -> str:
    """Return text with nothing in it that Markdown would take for a mark."""
    return re.sub(r"([*<>\[\]])", r"\\\1", text)


TEXTS: dict[str, Callable[[], str]] = {
    "api": api,
    "map": code_map.written,
    "settings": settings,
    "default-pragmas": default_pragmas,
    "pragmas": pragmas,
    "engine-defaults": engine_defaults,
    "errors": errors,
    "problems": problems,
    "problem-sources": problem_sources,
    "health-codes": health_codes,
    "commands": commands,
    "lint-rules": lint_rules,
    "doctor-checks": doctor_checks,
}
"""What a page calls them."""


def _cell(value: object) -> str:
    if value is None:
        return "– "
    return f"`{value}` " if value != "" else "the name of the application "


def _literal(text: str) -> str:
    # A description with quotation marks and braces in it shows a Python value.
    return re.sub(r"\{.*?\}", r"`\g<0>`", text)


def _tree(error: type[Exception], depth: int = 0) -> Iterator[tuple[int, type[Exception]]]:
    yield depth, error
    for child in error.__subclasses__():
        if getattr(flask_dbkit, child.__name__, None) is child:
            yield from _tree(child, depth + 1)


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _commands(f"{path} {name}", child)
