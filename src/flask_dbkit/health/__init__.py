"""Whether the databases can be used: checks with a deadline, and what they found.

Only the rim knows Flask. :mod:`.checks` holds the checks of one application,
:mod:`.runner` runs one of them, :mod:`.probe` asks the databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.faces import on_demand

if TYPE_CHECKING:
    from .checks import AppHealth
    from .codes import CODES, Code
    from .registry import GROUPS, Check, Registry
    from .report import Fail, Report, Result, Warn, passed
    from .runner import HealthRun

__all__ = [
    "CODES",
    "GROUPS",
    "AppHealth",
    "Check",
    "Code",
    "Fail",
    "HealthRun",
    "Registry",
    "Report",
    "Result",
    "Warn",
    "passed",
]

__getattr__ = on_demand(
    __name__,
    checks="AppHealth",
    codes="CODES Code",
    registry="GROUPS Check Registry",
    report="Fail Report Result Warn passed",
    runner="HealthRun",
)
