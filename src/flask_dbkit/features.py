"""The features of the library, in the order in which they are installed: one line each."""

from __future__ import annotations

from importlib import import_module

from .backups.feature import BACKUPS
from .cli import DBKitGroup, dbkit_group
from .doctor.feature import DOCTOR
from .engines.feature import ENGINES
from .errors.feature import ERRORS
from .feature import Feature
from .health.feature import HEALTH
from .lists.feature import LISTS
from .migrations.feature import MIGRATIONS
from .models.feature import MODELS
from .observability.feature import OBSERVABILITY
from .peer_loading.feature import PEER_LOADING
from .starting.feature import STARTING
from .transactions.feature import TRANSACTIONS

__all__ = ["FEATURES", "complete_group"]

# The order is that of listeners on an engine, of parts of an application, and of the table of
# settings.
FEATURES: tuple[Feature, ...] = (
    ENGINES,  # a database's own listeners come first: they begin its transactions
    MODELS,
    TRANSACTIONS,  # guards what was begun
    LISTS,
    PEER_LOADING,
    ERRORS,
    HEALTH,
    OBSERVABILITY,  # its clock runs around what the others do to a statement
    MIGRATIONS,  # adds to the checks of HEALTH
    BACKUPS,  # so does this
    STARTING,
    DOCTOR,
)


def complete_group() -> DBKitGroup:
    """Import every command and return their group, for the documentation and its tests."""
    for feature in FEATURES:
        dbkit_group.offer(feature.commands)
        for module in feature.commands.values():
            import_module(module)
    return dbkit_group
