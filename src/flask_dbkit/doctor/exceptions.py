"""What the doctor raises."""

from __future__ import annotations

from ..exceptions import DBKitError

__all__ = ["BaselineError", "DoctorError", "NotExamined", "UnknownCheck"]


class DoctorError(DBKitError):
    """The doctor was asked for what is not there.

    .. versionadded:: 0.1
    """


class UnknownCheck(DoctorError):
    """There is no check of this id, no such tag, or no such bind.

    .. versionadded:: 0.1
    """


class BaselineError(DoctorError):
    """A file of known findings is missing, or is none.

    .. versionadded:: 0.1
    """


class NotExamined(Exception):
    """A database is not there to be asked, which another check tells. It leaves no check."""
