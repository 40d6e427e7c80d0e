"""Column types under the name that revisions import; see :mod:`flask_dbkit.models.types`."""

from __future__ import annotations

from .models.types import UTCDateTime

__all__ = ["UTCDateTime"]
