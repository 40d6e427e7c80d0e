"""The group ``flask dbkit``, and what its commands have in common."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from flask.cli import AppGroup

__all__ = ["FAILED", "DBKitGroup", "dbkit_group"]

FAILED = 1
"""Exit code for a finding, a failure, or a lock held elsewhere; 0 is success, 2 wrong usage."""


class DBKitGroup(AppGroup):
    """Imports a command when it is asked for: an application that serves requests needs none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules: dict[str, str] = {}

    def offer(self, modules: Mapping[str, str]) -> None:
        """Add commands that are not imported yet.

        Args:
            modules: The module that adds a command to this group, by the command's name.
        """
        self._modules.update(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*self._modules, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or ``None`` if there is none of this name."""
        if cmd_name in self._modules:
            import_module(self._modules[cmd_name])
        return super().get_command(ctx, cmd_name)


dbkit_group = DBKitGroup("dbkit", help="Look after the application's databases.")
