"""What squawk says about the SQL of a revision for PostgreSQL (extra ``lint``).

https://squawkhq.com/docs/rules
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Squawk", "find_squawk", "run_squawk"]

# Matters of taste, and what 'flask dbkit migrate upgrade' sees to: lock and statement timeouts, a
# transaction per revision. What depends on the models or on the type from before is judged by
# DM101, DM103 and DM207, which know both.
_LEFT_OUT = frozenset(
    {
        "ban-char-field",
        "ban-drop-column",
        "ban-drop-table",
        "ban-drop-not-null",
        "changing-column-type",
        "identifier-too-long",
        "prefer-bigint-over-int",
        "prefer-bigint-over-smallint",
        "prefer-big-int",
        "prefer-identity",
        "prefer-robust-stmts",
        "prefer-text-field",
        "prefer-timestamp-tz",
        "require-lock-timeout",
        "require-statement-timeout",
        "require-timeout-settings",
        "require-table-schema",
        "require-enum-value-ordering",
        "transaction-nesting",
        "ban-uncommitted-transaction",
    }
)


@dataclass(frozen=True)
class Squawk:
    """One finding of squawk.

    Attributes:
        rule: Its name.
        line: Of the SQL, from 0.
        level: ``error`` or ``warning``.
        message: What it found.
        fix: What it advises.
    """

    rule: str
    line: int
    level: str
    message: str
    fix: str


def find_squawk() -> str | None:
    """Find the program: beside this Python, else on the ``PATH``."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.is_file() else shutil.which("squawk")


def run_squawk(program: str, sql: str) -> Sequence[Squawk]:
    """Let squawk read the SQL of one revision.

    Returns:
        What it found, but for matters of taste. Nothing when it cannot read the SQL.
    """
    done = subprocess.run(  # noqa: S603 - found by us, and the SQL goes in by stdin
        [program, "--reporter", "json", "--stdin-filepath", "revision.sql"],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    try:
        found = json.loads(done.stdout or "[]")
    except json.JSONDecodeError:
        return []
    return [
        Squawk(
            each["rule_name"],
            int(each["line"]),
            str(each["level"]).lower(),
            str(each["message"]),
            str(each.get("help") or ""),
        )
        for each in found
        if each["rule_name"] not in _LEFT_OUT and each["rule_name"] != "syntax-error"
    ]
