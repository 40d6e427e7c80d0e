"""The commands below ``flask dbkit``: each adds itself to the group."""

from __future__ import annotations

from .group import DBKitGroup, dbkit_group
from .interrupts import exit_on_interrupt

__all__ = ["DBKitGroup", "dbkit_group", "exit_on_interrupt"]
