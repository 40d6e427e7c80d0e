"""One module per database: engine options, listeners, and what ``info`` shows.

:func:`support_for` picks the module; :mod:`.base` says what each of them offers.
"""

from __future__ import annotations

from sqlalchemy.engine import URL

from .engine import DatabaseSupport, EngineContext
from .mysql.engine import MySQL
from .postgresql.engine import PostgreSQL
from .sqlite.engine import SQLite

__all__ = ["DatabaseSupport", "EngineContext", "support_for"]

_BY_BACKEND: dict[str, DatabaseSupport] = {
    "sqlite": SQLite(),
    "postgresql": PostgreSQL(),
    "mysql": MySQL(),
    "mariadb": MySQL(),
}
_OTHERS = DatabaseSupport()


def support_for(url: URL) -> DatabaseSupport:
    """Return the support for a URL's database; for one we do not know, one that does nothing."""
    return _BY_BACKEND.get(url.get_backend_name(), _OTHERS)
