"""Sphinx directives that write the reference from the code it describes.

Each directive puts MyST text made by a function of this module into the page. The functions
need nothing but the library, so that the tests can compare their text with the code.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import click
from sqlalchemy import make_url

import flask_dbkit
from flask_dbkit import exceptions
from flask_dbkit.config import SETTINGS, Config
from flask_dbkit.databases import EngineContext, support_for
from flask_dbkit.databases.errors import faults_for
from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS, PRAGMAS
from flask_dbkit.errors.codes import PROBLEMS
from flask_dbkit.features import complete_group
from flask_dbkit.health import CODES
from flask_dbkit.migrations.lint import RULES

_DATABASES = {
    "postgresql": "PostgreSQL",
    "sqlite": "SQLite",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
}

__all__ = [
    "TEXTS",
    "commands",
    "default_pragmas",
    "engine_defaults",
    "errors",
    "health_codes",
    "lint_rules",
    "pragmas",
    "problem_sources",
    "problems",
    "settings",
    "setup",
]


# Error codes from 1000 on are those of MySQL; SQLite's smallest extended ones lie below them too.
_SQLITE_CODES: dict[object, str] = {
    getattr(sqlite3, name): name
    for name in dir(sqlite3)
    if name.startswith(("SQLITE_CONSTRAINT_", "SQLITE_BUSY", "SQLITE_LOCKED"))
    or name.removeprefix("SQLITE_")
    in ("MISMATCH", "TOOBIG", "CANTOPEN", "PROTOCOL", "INTERRUPT", "READONLY")
}


def settings() -> str:
    """Describe every ``DBKIT_*`` key."""
    entries = (
        f"```{{confval}} {setting.key}\n"
        f":type: {_quoted(_literal(setting.type))}\n"
        f":default: `{setting.default!r}`\n\n"
        f"{setting.meaning}\n\n"
        f"Environment: `FLASK_{setting.key}`.\n"
        "```\n"
        for setting in SETTINGS
    )
    return "\n".join(entries)


def default_pragmas() -> str:
    """Tabulate the pragmas every connection gets."""
    rows = [f"| `{name}` | `{value}` |" for name, value in DEFAULT_PRAGMAS.items()]
    rows.append("| `busy_timeout` | the value of {confval}`DBKIT_SQLITE_BUSY_TIMEOUT_MS` |")
    return "\n".join(["| pragma | value |", "|---|---|", *rows])


def pragmas() -> str:
    """Tabulate every pragma that ``DBKIT_SQLITE_PRAGMAS`` may name."""
    rows = []
    for pragma in PRAGMAS.values():
        given = DEFAULT_PRAGMAS.get(pragma.name)
        default = f"`{given}`" if given is not None else "SQLite's own"
        if pragma.name == "busy_timeout":
            default = "{confval}`DBKIT_SQLITE_BUSY_TIMEOUT_MS`"
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
        f".. autoexception:: flask_dbkit.{error.__name__}\n   :show-inheritance:\n"
        for _, error in _tree(exceptions.DBKitError)
    )
    return f"```text\n{tree}\n```\n\n```{{eval-rst}}\n{described}\n```\n"


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
                for key, meaning in faults_for(name).meanings.items()
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
            f"### {rule.id}: {rule.title}\n\n{rule.why}\n\n*Instead:* {rule.fix}\n\n"
            f"For {about}; {rule.level}.\n"
        )
    return "\n".join(parts)


TEXTS: dict[str, Callable[[], str]] = {
    "dbkit-settings": settings,
    "dbkit-default-pragmas": default_pragmas,
    "dbkit-pragmas": pragmas,
    "dbkit-engine-defaults": engine_defaults,
    "dbkit-errors": errors,
    "dbkit-problems": problems,
    "dbkit-problem-sources": problem_sources,
    "dbkit-health-codes": health_codes,
    "dbkit-commands": commands,
    "dbkit-lint-rules": lint_rules,
}
"""What each directive puts into the page."""


def _cell(value: object) -> str:
    if value is None:
        return "– "
    return f"`{value}` " if value != "" else "the name of the application "


def _literal(text: str) -> str:
    # A description with quotation marks and braces in it shows a Python value.
    return re.sub(r"\{.*?\}", r"`\g<0>`", text)


def _quoted(text: str) -> str:
    # Options of a directive are YAML, where a text that begins with a quotation mark ends at
    # the next one.
    return json.dumps(text, ensure_ascii=False)


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


def setup(app: Any) -> dict[str, Any]:
    """Register the directives, and trim what they and others show."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    def make(text: Callable[[], str]) -> type[SphinxDirective]:
        class FromCode(SphinxDirective):
            def run(self) -> list[Any]:
                self.env.note_reread()  # the code may change when the page does not
                return self.parse_text_to_nodes(text())

        return FromCode

    def trim(app: Any, doctree: nodes.document) -> None:
        # A part of a file that ends before a marker ends with the empty lines before it.
        for block in doctree.findall(nodes.literal_block):
            text = block.astext()
            block.children = [nodes.Text(text.strip("\n"))]
            block.rawsource = text.strip("\n")

    for name, text in TEXTS.items():
        app.add_directive(name, make(text))
    app.connect("doctree-read", trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
