"""Findings in SARIF 2.1.0, as code hosts take them.

References:
    * https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    * https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from .checks import Check
from .findings import Finding

__all__ = ["render_sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"info": "note", "warning": "warning", "error": "error"}


def render_sarif(
    findings: Iterable[Finding], checks: Iterable[Check], *, version: str, fallback: str
) -> dict[str, Any]:
    """Return the log of one run.

    Args:
        findings: What was found.
        checks: What was looked for.
        version: Of the library.
        fallback: The file of what has no place in a file: a code host shows no result without one.
    """
    rules = list(checks)
    index = {rule.id: number for number, rule in enumerate(rules)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Flask-DBKit doctor",
                        "semanticVersion": version,
                        "informationUri": "https://pypi.org/project/flask-sqlalchemy-dbkit/",
                        "rules": [_rule(rule) for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, index[each.id], fallback) for each in findings],
            }
        ],
    }


def _rule(check: Check) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.cause},
        "help": {"text": f"{check.cause}\n\nFix: {check.fix}"},
        "defaultConfiguration": {"level": _LEVELS[check.level]},
        "properties": {"tags": sorted(check.tags)},
    }
    return {**rule, "helpUri": check.link} if check.link else rule


def _result(finding: Finding, rule: int, fallback: str) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(finding.file or fallback)},
            "region": {"startLine": finding.line or 1},
        }
    }
    if finding.object and finding.object != f"{finding.file}:{finding.line}":
        location["logicalLocations"] = [{"fullyQualifiedName": finding.object}]
    about = (
        f" ({finding.object})" if finding.object and finding.object not in finding.message else ""
    )
    return {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": _LEVELS[finding.level],
        "message": {"text": f"{finding.message}{about}. {finding.fix}"},
        "locations": [location],
        "partialFingerprints": {
            "flaskDbkitDoctor/v1": hashlib.sha256(finding.key.encode()).hexdigest()
        },
    }


def _uri(path: str) -> str:
    return f"file://{quote(path)}" if PurePosixPath(path).is_absolute() else quote(path)
