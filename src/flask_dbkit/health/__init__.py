"""Whether the databases can be used: checks with a deadline, and what they found.

Nothing in here knows Flask. :mod:`.checks` holds the checks of one application,
:mod:`.runner` runs one of them, :mod:`.probes` asks the databases.
"""

from __future__ import annotations

from .checks import GROUPS, AppHealth, Check, Registry
from .codes import CODES, Code
from .report import Fail, Report, Result, Warn, passed
from .runner import Attempt

__all__ = [
    "CODES",
    "GROUPS",
    "AppHealth",
    "Attempt",
    "Check",
    "Code",
    "Fail",
    "Registry",
    "Report",
    "Result",
    "Warn",
    "passed",
]
