"""``flask dbkit indexes``."""

from __future__ import annotations

from typing import Any

import click

from ..application import current_application
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json
from .current import Listing, declared_listings
from .indexes import IndexFinding

__all__ = ["indexes"]


@dbkit_group.command("indexes")
@as_json_option
@click.option("--strict", is_flag=True, help="Exit with 1 when an index is missing.")
@click.pass_context
def indexes(context: click.Context, *, as_json: bool, strict: bool) -> None:
    """Find sort orders without an index. Looks at every listing of the application.

    Prints the CREATE INDEX that is missing. Exits with 1 when a listing cannot be planned.
    """
    findings = [finding for listing in _own_listings() for finding in listing.examine_indexes()]
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        click.echo("\n".join(map(_index_line, findings)) or "No listing is declared.")
    statuses = {finding.status for finding in findings}
    if "error" in statuses or (strict and "missing" in statuses):
        context.exit(FAILED)


def _own_listings() -> list[Listing[Any]]:
    """Return the listings of this application's models: there may be others in the process."""
    own = set(current_application().db.metadatas.values())
    return [listing for listing in declared_listings() if listing.metadata in own]


def _index_line(finding: IndexFinding) -> str:
    about = finding.index or finding.create or finding.reason or ""
    if finding.create and finding.reason:
        about = f"{finding.create}  -- {finding.reason}"
    return f"{finding.status:<9}  {finding.listing} ?sort={finding.sort}  {about}"
