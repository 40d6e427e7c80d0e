"""``flask dbkit doctor``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from ..application import current_app_object, current_application
from ..cli.group import FAILED, dbkit_group
from .as_github import render_github
from .as_sarif import render_sarif
from .as_text import explain, render_text
from .baseline import read_baseline, without_known, write_baseline
from .current import AppDoctor, Doctor
from .exceptions import DoctorError
from .findings import LEVELS, Finding, rank

__all__ = ["doctor"]

_WIDEST = 100


@dbkit_group.command("doctor")
@click.option(
    "--deploy", is_flag=True, help="Check the place it is deployed to, too: run it there."
)
@click.option("--db/--no-db", "db", default=True, help="Whether to ask the databases.")
@click.option("--bind", metavar="NAME", help="Look at this database only.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Run the checks with this tag.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="For people, programs, code hosts, or as annotations.",
)
@click.option(
    "--fail-level",
    type=click.Choice(LEVELS),
    help="Exit with 1 for findings from this level on.  [default: error; warning with --deploy]",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Leave out what this file knows.",
)
@click.option(
    "--write-baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what is found to this file, and exit with 0.",
)
@click.option("--explain", "explained", metavar="ID", help="Tell all of one check, and run none.")
@click.pass_context
def doctor(
    context: click.Context,
    *,
    deploy: bool,
    db: bool,
    bind: str | None,
    tags: tuple[str, ...],
    form: str,
    fail_level: str | None,
    baseline: Path | None,
    write_baseline: Path | None,
    explained: str | None,
) -> None:
    """Examine the application before it is shipped. Writes to no database.

    Exits with 1 when there is a finding at or above the level.
    """
    own = current_application().part(AppDoctor).doctor
    try:
        if explained is not None:
            click.echo(explain(own.registry[explained], width=_width(), colour=_colour()))
            return
        known = read_baseline(baseline) if baseline is not None else None
        checked = len(own.checks(deploy=deploy, db=db, tags=tags))
        findings = own.run(deploy=deploy, db=db, bind=bind, tags=tags)
    except DoctorError as error:
        raise click.UsageError(str(error)) from error
    if write_baseline is not None:
        _write(write_baseline, findings)
        return
    if known is not None:
        findings = without_known(findings, known)
    click.echo(_render(own, findings, form, checked))
    level = fail_level or ("warning" if deploy else "error")
    if any(rank(finding.level) >= rank(level) for finding in findings):
        context.exit(FAILED)


def _render(own: Doctor, findings: Sequence[Finding], form: str, checked: int) -> str:
    if form == "json":
        return json.dumps([finding.as_dict() for finding in findings], indent=2)
    if form == "github":
        return render_github(findings)
    if form == "sarif":
        return json.dumps(
            render_sarif(
                findings,
                own.registry,
                version=version("flask-sqlalchemy-dbkit"),
                fallback=_file_of_application(),
            ),
            indent=2,
        )
    return render_text(findings, width=_width(), colour=_colour(), checked=checked)


def _write(path: Path, findings: Sequence[Finding]) -> None:
    try:
        count = write_baseline(path, findings)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}.") from error
    click.echo(f"{path}: {count} findings are known from now on.")


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org


def _file_of_application() -> str:
    """Return the file that the application is made in."""
    app = current_app_object()
    file = getattr(sys.modules.get(app.import_name), "__file__", None) or "app.py"
    try:
        return Path(file).resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return Path(file).name
