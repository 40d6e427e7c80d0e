"""How each kind of database is asked whether it can be used: one module per way of asking.

A probe never touches the application's pool, so that an exhausted pool and a database that is
away are told apart. It opens a connection of its own and closes it again: what a new process
would need is what is tried, and nothing is left on the server.
"""

from __future__ import annotations

from ..databases import database_of
from .on_server import ServerProbe
from .on_sqlite import SQLiteProbe, is_probed_as_file
from .probe import Probe, Target

__all__ = ["Probe", "Target", "probe_for"]


def probe_for(target: Target) -> Probe:
    """Return the probe for a bind."""
    if database_of(target.engine).is_embedded and is_probed_as_file(target.engine):
        return SQLiteProbe(target)
    return ServerProbe(target)
