"""How commands show what they found: one table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

__all__ = [
    "ProgressBar",
    "as_json_option",
    "as_table",
    "coloured",
    "print_json",
    "print_table",
    "progress_bar",
]

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


class ProgressBar:
    """What is drawn of long work, on a terminal; without one nothing is.

    Args:
        bar: Click's, or ``None``.
    """

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def show(self, done: int, total: int | None) -> None:
        """Draw how much is done, of how much if that is known."""
        if self._bar is not None:
            self._bar.length = max(total or done, 1)
            self._bar.update(done - self._bar.pos)

    def beside(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return what tells a line without writing into the one of the bar."""

        def told(text: str) -> None:
            if self._bar is not None:
                click.echo(err=True)
            tell(text)

        return told


@contextmanager
def progress_bar(label: str, *, as_json: bool = False) -> Iterator[ProgressBar]:
    """Yield what draws a bar on a terminal; nothing is drawn into a file or a pipe.

    It goes to standard error: the output is the result.

    Args:
        label: What is done.
        as_json: Whether a program reads the output. Then nothing is drawn.
    """
    if as_json or not sys.stderr.isatty():
        yield ProgressBar()
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:
        yield ProgressBar(bar)
