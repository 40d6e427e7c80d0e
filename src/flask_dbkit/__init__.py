"""The data layer of a Flask application, done once and done right.

.. code-block:: python

    from flask_dbkit import Base, DBKit
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy(model_class=Base)
    dbkit = DBKit(db=db)
"""

from __future__ import annotations

from .config import Config
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
from .filtering import Filter, FilterAllowlist
from .health_views import health_blueprint
from .listing import Listing, paginate, paginate_keyset
from .models import (
    NAMING_CONVENTION,
    Base,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)
from .pagination import KeysetPage, OffsetPage
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
from .shortcuts import get_or_create, upsert
from .sorting import SortAllowlist, SortKey
from .transactions import Retry, TransactionInfo
from .types import UTCDateTime

__all__ = [
    "NAMING_CONVENTION",
    "BackupError",
    "Base",
    "CommitOutcomeUnknown",
    "Config",
    "ConfigError",
    "DBKit",
    "DBKitError",
    "DurabilityError",
    "Filter",
    "FilterAllowlist",
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
    "Retry",
    "Rollback",
    "RowsLost",
    "SortAllowlist",
    "SortKey",
    "Timestamps",
    "TransactionError",
    "TransactionInfo",
    "UTCDateTime",
    "UUIDPrimaryKey",
    "UnexpectedRollback",
    "Versioned",
    "after_end",
    "attempts",
    "before_commit",
    "current_transaction",
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
