"""Consistent copies of a live database, verified by restoring them.

This is the core, which works on an engine and a store. An application calls
:mod:`flask_dbkit.backups`, which finds both.

.. code-block:: python

    store = LocalStore(Path("/var/backups/shop"))
    manifest = create(database_for(engine), store)
    assert verify(store, manifest.id, database_for(engine)).ok
"""

from __future__ import annotations

from .creating import Packing, create
from .databases import database_at, database_for
from .manifest import Manifest
from .pruning import list_all, prune
from .restoring import Restored, restore, restore_in_place
from .store import LocalStore, Store
from .stores import store_at
from .verifying import Finding, Verification, verify

__all__ = [
    "Finding",
    "LocalStore",
    "Manifest",
    "Packing",
    "Restored",
    "Store",
    "Verification",
    "create",
    "database_at",
    "database_for",
    "list_all",
    "prune",
    "restore",
    "restore_in_place",
    "store_at",
    "verify",
]
