"""Filter allowlists; see :mod:`flask_dbkit.lists.filtering`."""

from __future__ import annotations

from .lists.filtering import Condition, Filter, FilterAllowlist

__all__ = ["Condition", "Filter", "FilterAllowlist"]
