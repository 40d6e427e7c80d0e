"""``flask dbkit indexes``."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy.exc import DBAPIError

from ..application import current_application
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json
from ..doctor.examination import configure_models
from ..doctor.exceptions import NotExamined
from .current import Listing, listings_of
from .indexes import IndexFinding

__all__ = ["indexes"]


@dbkit_group.command("indexes")
@as_json_option
@click.option("--strict", is_flag=True, help="Exit with 1 when an order has no index.")
@click.pass_context
def indexes(context: click.Context, *, as_json: bool, strict: bool) -> None:
    """Find orders and filters without an index, of every listing.

    Prints the CREATE INDEX that is missing. Exits with 1 when a listing cannot be planned.
    """
    try:
        findings = [finding for listing in _own_listings() for finding in listing.examine_indexes()]
    except NotExamined as error:
        raise click.ClickException(str(error)) from error
    except DBAPIError as error:
        raise click.ClickException(" ".join(str(error.orig).split())) from error
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        click.echo("\n".join(map(_index_line, findings)) or "No listing is declared.")
    # Whether an index for a filter pays depends on how many rows the filter leaves.
    missing = any(one.status == "missing" and one.filter is None for one in findings)
    if any(one.status == "error" for one in findings) or (strict and missing):
        context.exit(FAILED)


def _own_listings() -> list[Listing[Any]]:
    db = current_application().db
    configure_models(db)
    return listings_of(db.metadatas.values())


def _index_line(finding: IndexFinding) -> str:
    about = finding.index or finding.create or finding.reason or ""
    if finding.create and finding.reason:
        about = f"{finding.create}  -- {finding.reason}"
    asked = f"sort={finding.sort}" if finding.filter is None else f"{finding.filter}=…"
    return f"{finding.status:<9}  {finding.listing} ?{asked}  {about}"
