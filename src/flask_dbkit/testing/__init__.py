"""Tests of applications: isolation, databases, counted statements, faults."""

from __future__ import annotations

from .current import isolated
from .exceptions import NeedsRealTransactions

__all__ = ["NeedsRealTransactions", "isolated"]
