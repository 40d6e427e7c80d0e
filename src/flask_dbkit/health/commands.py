"""``flask dbkit health``."""

from __future__ import annotations

import click

from ..application import current_application
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json, print_table
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
    click.echo(report.status)
    print_table(
        [
            (name, entry["status"], entry["code"] or "", _observed(entry))
            for name, entries in report.checks.items()
            for entry in entries
        ],
        indent=2,
    )


def _observed(entry: dict[str, object]) -> str:
    value = entry.get("observedValue")
    return "" if value is None else f"{value} {entry.get('observedUnit', '')}".strip()
