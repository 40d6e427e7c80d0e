"""``flask dbkit init``, and ``python -m flask_dbkit init`` where no application is."""

from __future__ import annotations

from pathlib import Path

import click

from ..cli.group import dbkit_group
from ..databases import MYSQL, POSTGRESQL, SQLITE
from .exceptions import StartError
from .files import files_of
from .names import name_after, parse_name
from .writing import write_all

__all__ = ["init"]

_DATABASES = {database.name: database for database in (SQLITE, POSTGRESQL, MYSQL)}


@dbkit_group.command("init", with_appcontext=False)
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option(
    "--database",
    type=click.Choice(list(_DATABASES), case_sensitive=False),
    default=SQLITE.name,
    show_default=True,
    help="What it is made for; it runs on the others as well.",
)
@click.option("--name", help="Of its package. [default: made from the name of the folder]")
def init(folder: Path, database: str, name: str | None) -> None:
    """Write a small application to begin with. No file is overwritten.

    FOLDER is where it goes. [default: this one]
    """
    try:
        package = name_after(folder.resolve()) if name is None else parse_name(name)
    except StartError as error:
        raise click.UsageError(str(error)) from error
    files = files_of(package, _DATABASES[database])
    try:
        write_all(folder, files)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Wrote the application {package!r} to {folder}: {len(files)} files.")
    click.echo("Its README.md tells how to go on. In short:")
    for line in _following(folder, made_for_server=database != SQLITE.name):
        click.echo(f"    {line}")


def _following(folder: Path, *, made_for_server: bool) -> list[str]:
    return [
        *([] if folder == Path() else [f"cd {folder}"]),
        "pip install -e '.[dev]'",
        *(["cp .env.example .env  # and name your database in it"] if made_for_server else []),
        "flask dbkit migrate upgrade",
        "flask run --debug",
    ]
