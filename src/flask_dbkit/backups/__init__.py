"""Consistent copies of a live database, verified by restoring them.

In an application context :func:`create_backup` and its companions do what ``flask dbkit backup``
does. :func:`create`, :func:`verify` and :func:`restore` are the core, on an engine and a store:

.. code-block:: python

    store = LocalStore(Path("/var/backups/shop"))
    manifest = create(database_for(engine), store)
    assert verify(store, manifest.id, database_for(engine)).ok
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand

if TYPE_CHECKING:
    from .creating import Packing, create
    from .current import (
        age_check,
        bind_names,
        create_backup,
        list_backups,
        prune_backups,
        restore_backup,
        restore_backup_in_place,
        switch_lines,
        verify_backup,
    )
    from .database import database_at, database_for
    from .manifest import Manifest
    from .pruning import list_all, prune
    from .remote_stores import store_at
    from .restoring import Restored, restore, restore_in_place
    from .store import LocalStore, Store
    from .verifying import Finding, Verification, verify

__all__ = [
    "Finding",
    "LocalStore",
    "Manifest",
    "Packing",
    "Restored",
    "Store",
    "Verification",
    "age_check",
    "bind_names",
    "create",
    "create_backup",
    "database_at",
    "database_for",
    "list_all",
    "list_backups",
    "prune",
    "prune_backups",
    "restore",
    "restore_backup",
    "restore_backup_in_place",
    "restore_in_place",
    "store_at",
    "switch_lines",
    "verify",
    "verify_backup",
]

__getattr__ = on_demand(
    __name__,
    current=(
        "age_check bind_names create_backup list_backups prune_backups restore_backup"
        " restore_backup_in_place switch_lines verify_backup"
    ),
    creating="Packing create",
    database="database_at database_for",
    manifest="Manifest",
    pruning="list_all prune",
    restoring="Restored restore restore_in_place",
    store="LocalStore Store",
    remote_stores="store_at",
    verifying="Finding Verification verify",
)
