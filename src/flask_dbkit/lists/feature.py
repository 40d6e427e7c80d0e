"""Settings and a command: lists themselves are made by the application."""

from __future__ import annotations

from ..feature import Feature
from .settings import ListSettings

__all__ = ["LISTS"]

LISTS = Feature(
    "lists",
    settings=ListSettings,
    commands={"indexes": "flask_dbkit.lists.commands"},
)
