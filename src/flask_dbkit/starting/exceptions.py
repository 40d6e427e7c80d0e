"""Why no application was written."""

from __future__ import annotations

from ..exceptions import DBKitError

__all__ = ["StartError"]


class StartError(DBKitError):
    """An application cannot be written there. Nothing was.

    .. versionadded:: 0.1
    """
