"""Pages by number and by cursor, without Flask: a ``Session`` and plain values in, a page out.

========================  ==============================================================
:mod:`~.query`            a query string as a value, or every mistake at once
:mod:`~.planning`         a statement with order and criteria, built once per form
:mod:`~.keyset`           the rows after a keyset
:mod:`~.offset`           the rows of a page by its number, and how many there are
:mod:`~.cursor`           a keyset as signed text, and back
:mod:`~.codecs`           key values exactly as the database compares them
:mod:`~.page`             pages as values, with their addresses and JSON
========================  ==============================================================
"""

from __future__ import annotations

from .cursor import Direction, Keyset, Signer
from .keyset import KeysetPlan, KeysetRows
from .offset import OffsetPlan, OffsetRows
from .page import KeysetPage, Links, OffsetPage
from .planning import Planner
from .query import Limits, ListQuery, read_query

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
