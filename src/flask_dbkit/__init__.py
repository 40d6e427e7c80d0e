"""The data layer of a Flask application, done once and done right.

.. code-block:: python

    from flask_dbkit import Base, DBKit
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy(model_class=Base)
    dbkit = DBKit(db=db)
"""

from __future__ import annotations

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
