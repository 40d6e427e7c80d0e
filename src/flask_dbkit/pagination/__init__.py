"""Pages by number and by cursor without Flask; see :mod:`flask_dbkit.lists`."""

from __future__ import annotations

from ..lists.cursor import Direction, Keyset, Signer
from ..lists.keyset import KeysetPlan, KeysetRows
from ..lists.offset import OffsetPlan, OffsetRows
from ..lists.pages import KeysetPage, Links, OffsetPage
from ..lists.planner import Planner
from ..lists.query import Limits, ListQuery, read_query

__all__ = [
    "Direction",
    "Keyset",
    "KeysetPage",
    "KeysetPlan",
    "KeysetRows",
    "Limits",
    "Links",
    "ListQuery",
    "OffsetPage",
    "OffsetPlan",
    "OffsetRows",
    "Planner",
    "Signer",
    "read_query",
]
