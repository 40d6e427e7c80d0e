"""The listener of the application's sessions, where something can use it."""

from __future__ import annotations

from ..feature import Feature, Setup
from .current import current_settings
from .listening import listen, listen_when_used
from .settings import LazySettings

__all__ = ["PEER_LOADING"]


def _install(setup: Setup) -> None:
    if setup.settings(LazySettings).lazy == "peers":
        listen(setup.db.session, current_settings)
    listen_when_used(setup.db.session, setup.db.Model, current_settings)


PEER_LOADING = Feature("peer_loading", settings=LazySettings, install=_install)
