"""Settings, a command and a look at the keys that sign: the application makes lists itself."""

from __future__ import annotations

from ..feature import Feature, Setup
from .settings import ListSettings
from .signing_keys import check_signing_keys

__all__ = ["LISTS"]


def _install(setup: Setup) -> None:
    check_signing_keys(setup.app.config)


LISTS = Feature(
    "lists",
    settings=ListSettings,
    commands={"indexes": "flask_dbkit.lists.commands"},
    install=_install,
    doctor=("flask_dbkit.lists.doctor",),
)
