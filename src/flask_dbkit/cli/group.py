"""The group ``flask dbkit``, and what its commands have in common."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from flask.cli import AppGroup

from ..support.words import closest

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or tell which one was meant: it may be in a group below."""
        name = args[0]
        if not (name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name)):
            below = self._below(ctx)
            meant = [f"flask dbkit {group} {name}" for group in below.get(name, ())]
            if not meant:
                places = {word: [f"flask dbkit {word}"] for word in self.list_commands(ctx)}
                for word, groups in below.items():
                    places.setdefault(word, [f"flask dbkit {group} {word}" for group in groups])
                meant = places.get(closest(name, places) or "", [])
            hint = f" Did you mean {' or '.join(map(repr, meant))}?" if meant else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def _below(self, ctx: click.Context) -> dict[str, list[str]]:
        """Return the groups that have a command, by its name."""
        found: dict[str, list[str]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if isinstance(command, click.Group):
                for inner in command.list_commands(ctx):
                    found.setdefault(inner, []).append(name)
        return found

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or ``None`` if there is none of this name."""
        if cmd_name in self._modules:
            import_module(self._modules[cmd_name])
        return super().get_command(ctx, cmd_name)


dbkit_group = click.version_option(package_name="flask-sqlalchemy-dbkit", prog_name="Flask-DBKit")(
    DBKitGroup("dbkit", help="Look after the application's databases.")
)
