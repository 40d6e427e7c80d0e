"""The files of a new application, as text: templates, with its names put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from ..databases import Database
from ..migrations.template_files import NAMES, template_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["files_of"]

_SUFFIX = ".txt"
"""Of each template, so that no tool takes it for a file of ours."""
_PACKAGE = "application"
"""The folder of the templates that go into the package."""

_ROOT = PurePosixPath()

# The pages of the application are templates themselves: hence other brackets.
_TEMPLATES = Environment(
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
    keep_trailing_newline=True,
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - the names are checked, and most of it is no HTML
)


def files_of(name: str, database: Database) -> Mapping[PurePosixPath, str]:
    """Return the files of a new application, by their places in its folder.

    The migrations folder is the one that ``flask dbkit migrate init`` makes.

    Args:
        name: Of the package.
        database: What it is made for. It runs on the others as well.
    """
    facts = _facts(name, database)
    found = {
        _place(path, name): _TEMPLATES.from_string(text).render(facts)
        for path, text in _templates(files("flask_dbkit.starting") / "template")
    }
    for file in NAMES:
        found[PurePosixPath("migrations", file)] = template_text(file)
    return dict(sorted(found.items()))


def _facts(name: str, database: Database) -> Mapping[str, Any]:
    extras: Sequence[str] = ["migrate"] if database.is_embedded else ["migrate", database.name]
    return {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "distribution": name.replace("_", "-"),
        "database": database.name,
        "required": not database.is_embedded,
        "extras": ",".join(extras),
        "url": f"{database.name}://user:password@localhost/{name}",
        "version": version("flask-sqlalchemy-dbkit"),
    }


def _templates(
    folder: Traversable, inside: PurePosixPath = _ROOT
) -> Iterator[tuple[PurePosixPath, str]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _templates(each, inside / each.name)
        elif each.name.endswith(_SUFFIX):
            text = each.read_text(encoding="utf-8")
            yield inside / each.name.removesuffix(_SUFFIX), text


def _place(path: PurePosixPath, name: str) -> PurePosixPath:
    first, *rest = path.parts
    return PurePosixPath(name if first == _PACKAGE else first, *rest)
