"""What the current application says of lazy loading."""

from __future__ import annotations

from flask import current_app, has_app_context

from .settings import LazySettings

__all__ = ["current_settings"]

_DEFAULTS = LazySettings()


def current_settings() -> LazySettings:
    """Return the settings of the current application; outside any context, the defaults."""
    kept = current_app.extensions.get("dbkit") if has_app_context() else None
    settings: LazySettings = _DEFAULTS if kept is None else kept.settings(LazySettings)
    return settings
