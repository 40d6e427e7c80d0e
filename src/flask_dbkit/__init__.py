"""The data layer of a Flask application, done once and done right.

.. code-block:: python

    from flask_dbkit import Base, DBKit
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy(model_class=Base)
    dbkit = DBKit(db=db)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .backups.exceptions import BackupError
from .config import Config
from .errors.messages import Errors
from .errors.problems import (
    ConflictProblem,
    DBProblem,
    InternalProblem,
    InvalidProblem,
    MissingProblem,
    ReadonlyProblem,
    RetryProblem,
    TimeoutProblem,
    UnavailableProblem,
)
from .errors.requests import classify, db_error
from .exceptions import ConfigError, DBKitError
from .extension import DBKit
from .health.views import health_blueprint
from .lists.exceptions import PlanError, QueryError
from .migrations.exceptions import MigrationError, MigrationLocked, RowsLost
from .models.base import (
    NAMING_CONVENTION,
    Base,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)
from .models.types import UTCDateTime
from .observability.current import (
    allow_n_plus_one,
    prometheus_collector,
    query_budget,
    query_stats,
    record_queries,
    request_id,
)
from .observability.n_plus_one import NPlusOneError, QueryBudgetExceeded
from .observability.windows import QueryStats, Repeat, Statement
from .peer_loading.blocks import PeerLoads, lazy_loading
from .peer_loading.options import peerload
from .support.faces import on_demand
from .transactions.current import (
    after_end,
    attempts,
    before_commit,
    current_transaction,
    in_transaction,
    on_commit,
    on_rollback,
    require_transaction,
    run,
    savepoint,
    transaction,
)
from .transactions.exceptions import (
    CommitOutcomeUnknown,
    DurabilityError,
    NoTransaction,
    OnCommitError,
    OptionMismatch,
    OwnershipError,
    PartialCommit,
    ReadOnlyViolation,
    Rollback,
    TransactionError,
    UnexpectedRollback,
)
from .transactions.jobs import job, session_scope
from .transactions.options import Retry
from .transactions.requests import non_transactional
from .transactions.state import TransactionInfo
from .transactions.streaming import stream

if TYPE_CHECKING:
    from .lists.current import Listing, paginate, paginate_keyset
    from .lists.filtering import Filter, FilterAllowlist
    from .lists.pages import KeysetPage, OffsetPage
    from .lists.sorting import SortAllowlist, SortKey
    from .upserts.current import get_or_create, upsert

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
    "MissingProblem",
    "NPlusOneError",
    "NoTransaction",
    "OffsetPage",
    "OnCommitError",
    "OptionMismatch",
    "OwnershipError",
    "PartialCommit",
    "PeerLoads",
    "PlanError",
    "QueryBudgetExceeded",
    "QueryError",
    "QueryStats",
    "ReadOnlyViolation",
    "ReadonlyProblem",
    "Repeat",
    "Retry",
    "RetryProblem",
    "Rollback",
    "RowsLost",
    "SortAllowlist",
    "SortKey",
    "Statement",
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
    "allow_n_plus_one",
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
    "lazy_loading",
    "non_transactional",
    "on_commit",
    "on_rollback",
    "paginate",
    "paginate_keyset",
    "peerload",
    "prometheus_collector",
    "query_budget",
    "query_stats",
    "record_queries",
    "request_id",
    "require_transaction",
    "run",
    "savepoint",
    "session_scope",
    "stream",
    "transaction",
    "upsert",
]

# An application without lists, or upserts, does not wait for what these are made of.
__getattr__ = on_demand(
    __name__,
    lists__filtering="Filter FilterAllowlist",
    lists__current="Listing paginate paginate_keyset",
    lists__pages="KeysetPage OffsetPage",
    lists__sorting="SortAllowlist SortKey",
    upserts__current="get_or_create upsert",
    filtering="",
    pagination="",
    sorting="",
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
