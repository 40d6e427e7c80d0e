"""What the application asks the database: counted, found, logged and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand

if TYPE_CHECKING:
    from .current import RequestIdFilter
    from .n_plus_one import NPlusOneError, QueryBudgetExceeded
    from .windows import QueryStats, Repeat, Statement

__all__ = [
    "NPlusOneError",
    "QueryBudgetExceeded",
    "QueryStats",
    "Repeat",
    "RequestIdFilter",
    "Statement",
]

__getattr__ = on_demand(
    __name__,
    current="RequestIdFilter",
    n_plus_one="NPlusOneError QueryBudgetExceeded",
    windows="QueryStats Repeat Statement",
)
