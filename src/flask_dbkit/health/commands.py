"""``flask dbkit health``."""

from __future__ import annotations

from typing import Any

import click
from jinja2.filters import do_filesizeformat

from ..application import current_application
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, as_table, coloured, print_json
from .checks import AppHealth
from .registry import GROUPS
from .report import Report

__all__ = ["health"]


@dbkit_group.command("health")
@click.option(
    "--group",
    type=click.Choice(GROUPS),
    default="readiness",
    show_default=True,
    help="Which checks to run.",
)
@as_json_option
@click.pass_context
def health(context: click.Context, *, group: str, as_json: bool) -> None:
    """Run the health checks of a group. Exits with 1 when one fails.

    A warning exits with 0. What only a serving process knows is not seen: its pool, and whether
    it is draining.
    """
    checks = current_application().part(AppHealth)
    checks.background = False  # a thorough check would not end before this process does
    report = checks.run(group)
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report)
    if report.status == "fail":
        context.exit(FAILED)


def _print(report: Report) -> None:
    click.echo(coloured(report.status))
    found = [(name, entry) for name, entries in report.checks.items() for entry in entries]
    rows = [(name, entry["status"], entry["code"] or "", _observed(entry)) for name, entry in found]
    for line, (name, status, *_) in zip(as_table(rows, indent=2), rows, strict=True):
        # Put in afterwards: a colour has no width.
        place = line.index(status, len(name))
        click.echo(line[:place] + coloured(status) + line[place + len(status) :])


def _observed(entry: dict[str, Any]) -> str:
    value = entry.get("observedValue")
    if value is None:
        return ""
    if entry.get("observedUnit") == "bytes":
        return do_filesizeformat(value)
    return f"{value} {entry.get('observedUnit', '')}".strip()
