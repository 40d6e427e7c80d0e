"""What backups raise."""

from __future__ import annotations

from ..exceptions import DBKitError

__all__ = ["BackupError"]


class BackupError(DBKitError):
    """A backup that could not be made, verified, restored or removed.

    Attributes:
        code: What kind of failure it is, for example ``tool.missing``, ``database.busy``,
            ``disk.full`` or ``file.digest``.

    .. versionadded:: 0.1
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)
