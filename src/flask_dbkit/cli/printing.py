"""How commands show what they found: one table for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["as_json_option", "as_table", "coloured", "print_json", "print_table"]

_GAP = "  "
_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of a table."
)


def print_json(value: Any) -> None:
    """Print a value of plain dicts, lists, texts and numbers."""
    click.echo(json.dumps(value, indent=2))


def print_table(rows: Iterable[Sequence[str]], *, indent: int = 0) -> None:
    """Print rows with their cells below each other.

    Args:
        rows: As many cells each. The last column may be as long as it is: nothing follows it.
        indent: Blanks before each row.
    """
    for line in as_table(rows, indent=indent):
        click.echo(line)


def as_table(rows: Iterable[Sequence[str]], *, indent: int = 0) -> list[str]:
    """Return the lines that :func:`print_table` prints."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [" " * indent + _GAP.join(map(str.ljust, row, widths)).rstrip() for row in cells]


def coloured(status: str) -> str:
    """Return a status in its colour. A pipe gets it without: Click takes colours out there.

    References:
        NO_COLOR: https://no-color.org
    """
    if os.environ.get("NO_COLOR"):
        return status
    return click.style(status, fg=_COLOURS.get(status))
