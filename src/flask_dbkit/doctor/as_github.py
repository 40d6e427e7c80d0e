"""Findings as annotations of GitHub Actions.

References:
    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Iterable

from .findings import Finding

__all__ = ["render_github"]

_WORDS = {"info": "notice", "warning": "warning", "error": "error"}


def render_github(findings: Iterable[Finding]) -> str:
    """Return one workflow command a line."""
    return "\n".join(map(_command, findings))


def _command(finding: Finding) -> str:
    properties = {"title": f"{finding.id} {finding.object or ''}".strip()}
    if finding.file is not None:
        properties = {"file": finding.file, "line": str(finding.line), **properties}
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    text = f"{finding.message}. {finding.cause} Fix: {finding.fix}"
    return f"::{_WORDS[finding.level]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
