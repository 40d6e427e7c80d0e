"""What models are made of: ``Base``, mixins, column types."""

from __future__ import annotations

from .base import (
    NAMING_CONVENTION,
    Base,
    BaseMixin,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)

__all__ = [
    "NAMING_CONVENTION",
    "Base",
    "BaseMixin",
    "Timestamps",
    "UUIDPrimaryKey",
    "Versioned",
    "declarative_base",
]
