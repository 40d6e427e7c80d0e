"""Sort allowlists; see :mod:`flask_dbkit.lists.sorting`."""

from __future__ import annotations

from .lists.sorting import SortAllowlist, SortKey, SortTerm

__all__ = ["SortAllowlist", "SortKey", "SortTerm"]
