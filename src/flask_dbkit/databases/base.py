"""What a database is: named facts, and the plain answers for one we do not know."""

from __future__ import annotations

from dataclasses import dataclass, field

from .engine import DatabaseSupport
from .errors import ErrorCodes
from .scopes import DatabaseScopes

__all__ = ["Database"]


@dataclass(frozen=True, eq=False)
class Database:
    """One kind of database. Ask it for a fact, never for its name.

    Every fact is false for a database we do not know: what depends on it is left alone there.

    Attributes:
        name: What people call it.
        names: What SQLAlchemy calls its dialects.
        engine: What it offers for engines.
        scopes: What it offers for scopes.
        errors: What the errors of its drivers mean.
        is_known: Whether the library is tested with it.
        is_embedded: It is a library in this process, on a file or in memory; no server.
        rebuilds_tables: Most changes of a table copy its rows into a new one, and drop the old.
        has_one_writer: One transaction at a time can write, whatever it writes to.
        ddl_commits: CREATE, ALTER and DROP commit what came before, and cannot be rolled back.
        snapshot_hides_commits: A plain read inside a transaction does not see a row that made
            its INSERT fail; a locking read does.
        drops_time_zones: A time is kept without its offset, and comes back without one.
        numbers_keep_scale: A NUMERIC without a scale of its own keeps that of each value.
        times_lose_fractions: A column of times keeps whole seconds unless it is told otherwise.
        nulls_are_largest: NULLs sort behind every value, as the SQL of an order leaves it.
        indexes_place_nulls: An index can be told where its NULLs are.
        row_values_use_index: ``(a, b) > (1, 2)`` is looked up in an index.
        row_values_use_first_column: Of such a comparison only ``a``.
        indexes_end_in_key: Each index of a table holds its primary key too, behind its columns.
        rowid_is_key: The same, only for a primary key of one column.
        indexes_foreign_keys: A foreign key gets an index by itself.
    """

    name: str
    names: tuple[str, ...] = ()
    engine: DatabaseSupport = field(default_factory=DatabaseSupport)
    scopes: DatabaseScopes = field(default_factory=DatabaseScopes)
    errors: ErrorCodes = field(default_factory=ErrorCodes)
    is_known: bool = False
    is_embedded: bool = False
    rebuilds_tables: bool = False
    has_one_writer: bool = False
    ddl_commits: bool = False
    snapshot_hides_commits: bool = False
    drops_time_zones: bool = False
    numbers_keep_scale: bool = False
    times_lose_fractions: bool = False
    nulls_are_largest: bool = False
    indexes_place_nulls: bool = False
    row_values_use_index: bool = False
    row_values_use_first_column: bool = False
    indexes_end_in_key: bool = False
    rowid_is_key: bool = False
    indexes_foreign_keys: bool = False

    def __repr__(self) -> str:
        return f"<Database {self.name}>"
