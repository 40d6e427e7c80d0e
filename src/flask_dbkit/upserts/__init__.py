"""One row per key, however many processes ask for it at once."""

from __future__ import annotations

from .session import AttributeNames, get_or_create, upsert

__all__ = ["AttributeNames", "get_or_create", "upsert"]
