"""``flask dbkit info``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import click

from ..application import current_application
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json
from .flask_sqlalchemy import current_engines
from .replicas import primary_of
from .report import EngineReport, inspect_engine
from .settings import EngineSettings

__all__ = ["info"]


@dbkit_group.command("info")
@as_json_option
@click.pass_context
def info(context: click.Context, as_json: bool) -> None:
    """Show how each database is set up.

    Driver, version, URL without password, pool, and the settings of a connection. Exits with 1
    when a database does not answer. A SQLite file that does not exist yet is none of that, and
    is not created.
    """
    engines = current_engines(current_application().db)
    replicas = current_application().settings(EngineSettings).replicas
    reports = [
        inspect_engine(engine, key, replica_of=primary_of(replicas, key or "default"))
        for key, engine in engines.items()
    ]
    if as_json:
        print_json(_as_json(reports))
    else:
        click.echo(_as_tables(reports))
    if any(report.status == "unreachable" for report in reports):
        context.exit(FAILED)


def _as_json(reports: Sequence[EngineReport]) -> dict[str, object]:
    packages = ("flask-sqlalchemy-dbkit", "flask", "flask-sqlalchemy", "sqlalchemy")
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
        *([("replica of", report.replica_of)] if report.replica_of is not None else []),
        ("database", f"{report.dialect} {report.version or '(version unknown)'}"),
        ("driver", report.driver),
        ("url", report.url),
        ("pool", " ".join(f"{name}={value}" for name, value in report.pool.items())),
        *report.settings.items(),
    ]
    if report.problem is not None:
        rows.append(("problem", report.problem))
    return rows
