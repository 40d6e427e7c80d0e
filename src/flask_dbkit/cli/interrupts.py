"""Ctrl-C in a command of the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["exit_on_interrupt"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells and supervisors expect


def exit_on_interrupt(group: click.Group) -> None:
    """Let every command of an application end with 130 on Ctrl-C; click's own answer is 1.

    The interrupt has left the command's scopes by then, so its work is rolled back.
    """
    plain = group.get_command
    wrapped: set[str] = set()

    def get_command(context: click.Context, name: str) -> click.Command | None:
        command = plain(context, name)
        if command is not None and name not in wrapped:
            wrapped.add(name)
            setattr(command, "invoke", _interruptible(command.invoke))
        return command

    setattr(group, "get_command", get_command)


def _interruptible(plain: Callable[[click.Context], Any]) -> Callable[[click.Context], Any]:
    def invoke(context: click.Context) -> Any:
        try:
            return plain(context)
        except KeyboardInterrupt:
            click.echo("Interrupted: open work was rolled back.", err=True)
            context.exit(_INTERRUPTED)

    return invoke
