"""The settings of transactions."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings, flag, integer, word

__all__ = ["TransactionSettings"]


@dataclass(frozen=True)
class TransactionSettings(Settings):
    """How transactions of requests and scopes behave."""

    tx_per_request: bool = flag(
        "DBKIT_TX_PER_REQUEST",
        False,
        "Run every view in a transaction scope.",
    )
    tx_rollback_status: int | None = integer(
        "DBKIT_TX_ROLLBACK_STATUS",
        400,
        "In per-request mode, roll back when the view returns this status or a higher one; None"
        " never does.",
        low=100,
        high=599,
        nullable=True,
    )
    tx_stray_work: str = word(
        "DBKIT_TX_STRAY_WORK",
        "raise",
        "What a scope does with uncommitted work from before it.",
        ("raise", "adopt"),
    )
