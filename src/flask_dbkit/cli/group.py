"""The group ``flask dbkit``, and what its commands have in common."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import click
from flask.cli import AppGroup

__all__ = ["COMMANDS", "FAILED", "DBKitGroup", "as_json_option", "dbkit_group", "print_json"]

FAILED = 1
"""Exit code for a finding, a failure, or a lock held elsewhere; 0 is success, 2 wrong usage."""

COMMANDS = {
    "backup": "backups.commands",
    "health": "health.commands",
    "indexes": "lists.commands",
    "info": "engines.commands",
    "migrate": "migrations.commands",
}
"""The commands, and the module of the room that adds each."""


class DBKitGroup(AppGroup):
    """Imports a command when it is asked for: an application that serves requests needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or ``None`` if there is none of this name."""
        if cmd_name in COMMANDS:
            import_module(f"flask_dbkit.{COMMANDS[cmd_name]}")
        return super().get_command(ctx, cmd_name)


dbkit_group = DBKitGroup("dbkit", help="Look after the application's databases.")

as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of a table."
)


def print_json(value: Any) -> None:
    """Print a value of plain dicts, lists, texts and numbers."""
    click.echo(json.dumps(value, indent=2))
