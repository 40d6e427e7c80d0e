"""The settings of lazy loading."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings, integer, word

__all__ = ["LazySettings"]


@dataclass(frozen=True)
class LazySettings(Settings):
    """How attributes load that were not asked for with the query."""

    lazy: str = word(
        "DBKIT_LAZY",
        "select",
        "How a lazy attribute loads: for its own object, or for all peers of the same result.",
        ("select", "peers"),
    )
    lazy_max_peers: int = integer(
        "DBKIT_LAZY_MAX_PEERS",
        500,
        "Most objects whose attribute is loaded by one statement, the asking one included.",
        low=2,
        high=5000,
    )
    lazy_max_rows: int = integer(
        "DBKIT_LAZY_MAX_ROWS",
        10_000,
        "Most rows that one such statement may read for a collection.",
        low=1,
        high=10_000_000,
    )
