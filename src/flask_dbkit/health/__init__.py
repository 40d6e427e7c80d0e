"""Whether the databases can be used: checks with a deadline, and what they found.

Only the rim knows Flask. :mod:`.checks` holds the checks of one application,
:mod:`.runner` runs one of them, :mod:`.probe` asks the databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand

if TYPE_CHECKING:
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

__getattr__ = on_demand(
    __name__,
    checks="GROUPS AppHealth Check Registry",
    codes="CODES Code",
    report="Fail Report Result Warn passed",
    runner="Attempt",
)
