"""A file of findings that are known: only what is not in it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .exceptions import BaselineError
from .findings import Finding

__all__ = ["read_baseline", "without_known", "write_baseline"]

_FORMAT = "flask-dbkit doctor baseline"
_VERSION = 1


def write_baseline(path: Path, findings: Iterable[Finding]) -> int:
    """Write what is known from now on, one line for each finding, in an order that stays.

    No line of source is in it: what moves in its file is still known.

    Returns:
        How many there are.
    """
    keys = sorted(finding.key for finding in findings)
    content = {"format": _FORMAT, "version": _VERSION, "known": keys}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(keys)


def read_baseline(path: Path) -> Counter[str]:
    """Return what is known, and how often.

    Raises:
        BaselineError: There is no such file, or it is no baseline.
    """
    advice = f"Write one with: flask dbkit doctor --write-baseline {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"{path} cannot be read: {error.strerror}. {advice}") from error
    except ValueError as error:
        raise BaselineError(f"{path} is no baseline: it is no JSON. {advice}") from error
    known = content.get("known") if isinstance(content, dict) else None
    if not isinstance(known, list) or content.get("version") != _VERSION:
        raise BaselineError(f"{path} is no baseline of this version. {advice}")
    return Counter(map(str, known))


def without_known(findings: Iterable[Finding], known: Counter[str]) -> list[Finding]:
    """Return the findings that are new: of equal ones as many as there are more than known."""
    left = Counter(known)
    new = []
    for finding in findings:
        if left[finding.key] > 0:
            left[finding.key] -= 1
        else:
            new.append(finding)
    return new
