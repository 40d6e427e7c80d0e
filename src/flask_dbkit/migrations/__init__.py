"""Migrations that lose nothing, over Flask-Migrate and Alembic (extra ``migrate``).

``env.py`` of a folder made by ``flask dbkit migrate init`` calls :func:`run_env`. An application
that upgrades by itself when it starts calls :func:`upgrade`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand
from .exceptions import MigrationError, MigrationLocked, RowsLost

if TYPE_CHECKING:
    from .current import bind_names, find_folder
    from .environment import run_env
    from .folder import Folder
    from .lint import assured
    from .previewing import dry_run
    from .server import Limits
    from .state import BindState, examine
    from .upgrading import downgrade, stamp, upgrade

__all__ = [
    "BindState",
    "Folder",
    "Limits",
    "MigrationError",
    "MigrationLocked",
    "RowsLost",
    "assured",
    "bind_names",
    "downgrade",
    "dry_run",
    "examine",
    "find_folder",
    "run_env",
    "stamp",
    "upgrade",
]

__getattr__ = on_demand(
    __name__,
    current="bind_names find_folder",
    environment="run_env",
    folder="Folder",
    lint="assured",
    previewing="dry_run",
    server="Limits",
    state="BindState examine",
    upgrading="downgrade stamp upgrade",
)
