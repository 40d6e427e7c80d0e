"""The group ``flask dbkit``, and what its commands have in common."""

from __future__ import annotations

from importlib import import_module

import click
from flask.cli import AppGroup

__all__ = ["COMMANDS", "FAILED", "DBKitGroup", "dbkit_group"]

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
