"""The commands below ``flask dbkit``: one module each, which adds itself to the group."""

from __future__ import annotations

from . import backup, health, indexes, info, migrate
from .group import dbkit_group
from .interrupts import exit_on_interrupt

__all__ = ["backup", "dbkit_group", "exit_on_interrupt", "health", "indexes", "info", "migrate"]
