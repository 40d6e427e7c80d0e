"""What is to be put right before an application is shipped: checks, and what they find.

Each room brings the checks of what it knows; :mod:`.checks` says what one is, :mod:`.examination`
what it is given, :mod:`.runner` runs them. Nothing here writes to a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand

if TYPE_CHECKING:
    from .findings import LEVELS, Finding

__all__ = ["LEVELS", "Finding"]

__getattr__ = on_demand(__name__, findings="LEVELS Finding")
