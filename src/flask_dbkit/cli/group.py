"""The group ``flask dbkit``, and what its commands have in common."""

from __future__ import annotations

import json
from typing import Any

import click
from flask.cli import AppGroup

__all__ = ["FAILED", "as_json_option", "dbkit_group", "print_json"]

FAILED = 1
"""Exit code for a finding, a failure, or a lock held elsewhere; 0 is success, 2 wrong usage."""

dbkit_group = AppGroup("dbkit", help="Look after the application's databases.")

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of a table."
)


def print_json(value: Any) -> None:
    """Print a value of plain dicts, lists, texts and numbers."""
    click.echo(json.dumps(value, indent=2))
