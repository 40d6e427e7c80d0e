"""The commands below ``flask dbkit``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import click
from flask.cli import AppGroup

from .fsa import current_engines
from .indexes import IndexFinding
from .inspection import EngineReport, inspect_engine
from .listing import Listing, declared_listings
from .state import current_state

__all__ = ["dbkit_group", "exit_on_interrupt"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells and supervisors expect

dbkit_group = AppGroup("dbkit", help="Look after the application's databases.")


@dbkit_group.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def info(context: click.Context, as_json: bool) -> None:
    """Show each database: driver, version, URL without password, pool and settings.

    Exits with 1 when a database does not answer. A SQLite file that does not exist yet is none
    of that, and is not created.
    """
    engines = current_engines(current_state().db)
    reports = [inspect_engine(engine, key) for key, engine in engines.items()]
    if as_json:
        click.echo(json.dumps(_as_json(reports), indent=2))
    else:
        click.echo(_as_tables(reports))
    if any(report.status == "unreachable" for report in reports):
        context.exit(1)


def _as_json(reports: Sequence[EngineReport]) -> dict[str, object]:
    packages = ("flask-dbkit", "flask", "flask-sqlalchemy", "sqlalchemy")
    return {
        "versions": {name: version(name) for name in packages},
        "binds": [report.as_dict() for report in reports],
    }


def _as_tables(reports: Sequence[EngineReport]) -> str:
    tables = [_as_rows(report) for report in reports]
    width = max((len(name) for rows in tables for name, _ in rows), default=0)
    return "\n\n".join(
        "\n".join(f"{name:<{width}}  {value}" for name, value in rows) for rows in tables
    )


def _as_rows(report: EngineReport) -> list[tuple[str, str]]:
    rows = [
        ("bind", report.bind),
        ("database", f"{report.dialect} {report.version or '(version unknown)'}"),
        ("driver", report.driver),
        ("url", report.url),
        ("pool", " ".join(f"{name}={value}" for name, value in report.pool.items())),
        *report.settings.items(),
    ]
    if report.problem is not None:
        rows.append(("problem", report.problem))
    return rows


def exit_on_interrupt(group: click.Group) -> None:
    """Let every command of an application end with 130 on Ctrl-C; click's own answer is 1.

    The interrupt has left the command's scopes by then, so its work is rolled back.
    """
    plain = group.get_command
    wrapped: set[str] = set()

    def get_command(context: click.Context, name: str) -> click.Command | None:
        command = plain(context, name)
        if command is not None and name not in wrapped:
            wrapped.add(name)
            setattr(command, "invoke", _interruptible(command.invoke))
        return command

    setattr(group, "get_command", get_command)


def _interruptible(plain: Callable[[click.Context], Any]) -> Callable[[click.Context], Any]:
    def invoke(context: click.Context) -> Any:
        try:
            return plain(context)
        except KeyboardInterrupt:
            click.echo("Interrupted: open work was rolled back.", err=True)
            context.exit(_INTERRUPTED)

    return invoke


@dbkit_group.command("indexes")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an index is missing.")
@click.pass_context
def indexes(context: click.Context, *, as_json: bool, strict: bool) -> None:
    """Compare the sort orders of every listing with the indexes of its table.

    Prints the CREATE INDEX that is missing. Exits with 1 when a listing cannot be planned.
    """
    findings = [finding for listing in _own_listings() for finding in listing.examine_indexes()]
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        click.echo("\n".join(map(_index_line, findings)) or "No listing is declared.")
    statuses = {finding.status for finding in findings}
    if "error" in statuses or (strict and "missing" in statuses):
        context.exit(1)


def _own_listings() -> list[Listing[Any]]:
    """Return the listings of this application's models: there may be others in the process."""
    own = set(current_state().db.metadatas.values())
    return [listing for listing in declared_listings() if listing.metadata in own]


def _index_line(finding: IndexFinding) -> str:
    about = finding.index or finding.create or finding.reason or ""
    return f"{finding.status:<9}  {finding.listing} ?sort={finding.sort}  {about}"
