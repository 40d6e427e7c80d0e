"""The commands below ``flask dbkit``: one module each, which adds itself to the group."""

from __future__ import annotations

from importlib import import_module

from .group import COMMANDS, DBKitGroup, dbkit_group
from .interrupts import exit_on_interrupt

__all__ = ["complete_group", "dbkit_group", "exit_on_interrupt"]


def complete_group() -> DBKitGroup:
    """Import every command and return their group, for the documentation and its tests."""
    for name in COMMANDS:
        import_module(f"flask_dbkit.{COMMANDS[name]}")
    return dbkit_group
