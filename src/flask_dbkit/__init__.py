"""The data layer of a Flask application, done once and done right.

.. code-block:: python

    from flask_dbkit import Base, DBKit
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy(model_class=Base)
    dbkit = DBKit(db=db)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Config
from .errors import Errors, classify, db_error
from .exceptions import (
    BackupError,
    CommitOutcomeUnknown,
    ConfigError,
    DBKitError,
    DurabilityError,
    MigrationError,
    MigrationLocked,
    NoTransaction,
    OnCommitError,
    OptionMismatch,
    OwnershipError,
    PartialCommit,
    PlanError,
    QueryError,
    ReadOnlyViolation,
    Rollback,
    RowsLost,
    TransactionError,
    UnexpectedRollback,
)
from .extension import DBKit
from .health_views import health_blueprint
from .models import (
    NAMING_CONVENTION,
    Base,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)
from .problems import (
    ConflictProblem,
    DBProblem,
    InternalProblem,
    InvalidProblem,
    ReadonlyProblem,
    RetryProblem,
    TimeoutProblem,
    UnavailableProblem,
)
from .scopes import (
    after_end,
    attempts,
    before_commit,
    current_transaction,
    in_transaction,
    job,
    non_transactional,
    on_commit,
    on_rollback,
    require_transaction,
    run,
    savepoint,
    session_scope,
    stream,
    transaction,
)
from .transactions import Retry, TransactionInfo
from .types import UTCDateTime

if TYPE_CHECKING:
    from .filtering import Filter, FilterAllowlist
    from .listing import Listing, paginate, paginate_keyset
    from .pagination import KeysetPage, OffsetPage
    from .shortcuts import get_or_create, upsert
    from .sorting import SortAllowlist, SortKey

__all__ = [
    "NAMING_CONVENTION",
    "BackupError",
    "Base",
    "CommitOutcomeUnknown",
    "Config",
    "ConfigError",
    "ConflictProblem",
    "DBKit",
    "DBKitError",
    "DBProblem",
    "DurabilityError",
    "Errors",
    "Filter",
    "FilterAllowlist",
    "InternalProblem",
    "InvalidProblem",
    "KeysetPage",
    "Listing",
    "MigrationError",
    "MigrationLocked",
    "NoTransaction",
    "OffsetPage",
    "OnCommitError",
    "OptionMismatch",
    "OwnershipError",
    "PartialCommit",
    "PlanError",
    "QueryError",
    "ReadOnlyViolation",
    "ReadonlyProblem",
    "Retry",
    "RetryProblem",
    "Rollback",
    "RowsLost",
    "SortAllowlist",
    "SortKey",
    "TimeoutProblem",
    "Timestamps",
    "TransactionError",
    "TransactionInfo",
    "UTCDateTime",
    "UUIDPrimaryKey",
    "UnavailableProblem",
    "UnexpectedRollback",
    "Versioned",
    "after_end",
    "attempts",
    "before_commit",
    "classify",
    "current_transaction",
    "db_error",
    "declarative_base",
    "get_or_create",
    "health_blueprint",
    "in_transaction",
    "job",
    "non_transactional",
    "on_commit",
    "on_rollback",
    "paginate",
    "paginate_keyset",
    "require_transaction",
    "run",
    "savepoint",
    "session_scope",
    "stream",
    "transaction",
    "upsert",
]

# An application without lists, or upserts, does not wait for what these are made of.
# https://peps.python.org/pep-0562/
_ON_DEMAND = {
    **dict.fromkeys(("Filter", "FilterAllowlist"), "filtering"),
    **dict.fromkeys(("Listing", "paginate", "paginate_keyset"), "listing"),
    **dict.fromkeys(("KeysetPage", "OffsetPage"), "pagination"),
    **dict.fromkeys(("SortAllowlist", "SortKey"), "sorting"),
    **dict.fromkeys(("get_or_create", "upsert"), "shortcuts"),
}


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        value = getattr(import_module(f".{_ON_DEMAND[name]}", __name__), name)
    elif name in _ON_DEMAND.values():
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
