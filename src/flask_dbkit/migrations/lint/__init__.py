"""A linter for revisions: what would lock, break or lose."""

from __future__ import annotations

from .findings import LintFinding, assured
from .linter import lint
from .rules import RULES, Rule

__all__ = ["RULES", "LintFinding", "Rule", "assured", "lint"]
