"""MySQL and MariaDB, through PyMySQL or mysqlclient: what they are."""

from __future__ import annotations

from ..base import Database
from .engine import MySQL
from .errors import MySQLErrors
from .scopes import MySQLScopes

__all__ = ["MYSQL"]

MYSQL = Database(
    "mysql",
    names=("mysql", "mariadb"),
    engine=MySQL(),
    scopes=MySQLScopes(),
    errors=MySQLErrors(),
    is_known=True,
    drops_time_zones=True,
    ddl_commits=True,
    snapshot_hides_commits=True,
    times_lose_fractions=True,
    indexes_end_in_key=True,
    indexes_foreign_keys=True,
)
