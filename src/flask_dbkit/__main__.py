"""``python -m flask_dbkit init``: what can be done before there is an application."""

from __future__ import annotations

import click

from .starting.commands import init

__all__ = ["main"]


@click.group(
    epilog="All other commands are about an application: 'flask dbkit --help', where it is."
)
@click.version_option(package_name="flask-sqlalchemy-dbkit", prog_name="Flask-DBKit")
def main() -> None:
    """Begin an application with Flask-DBKit."""


main.add_command(init)

if __name__ == "__main__":
    main(prog_name="python -m flask_dbkit")
