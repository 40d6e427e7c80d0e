"""DK055: enumerations of PostgreSQL, and those of the models."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import text

from ...databases import POSTGRESQL
from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found

__all__: list[str] = []


@check(
    "DK055",
    "An enumeration that differs from the database",
    level="error",
    tags=("models", "drift"),
    cause="A value that the type in the database does not have cannot be stored; no revision was"
    " made for it, since autogenerate does not compare them.",
    fix="Add it in a revision: op.execute(\"ALTER TYPE … ADD VALUE '…'\").",
    link="https://www.postgresql.org/docs/current/sql-altertype.html",
    database=True,
)
def enumerations(given: Examination) -> Iterator[Found]:
    """Compare the values of each Enum column with the type of its name."""
    for bind in given.binds_of(POSTGRESQL):
        with given.connect(bind) as connection:
            rows = connection.execute(
                text(
                    "SELECT t.typname, e.enumlabel FROM pg_enum e"
                    " JOIN pg_type t ON t.oid = e.enumtypid"
                )
            ).all()
        stored: dict[str, set[str]] = {}
        for name, value in rows:
            stored.setdefault(name, set()).add(value)
        for other, table in given.tables():
            for column in table.columns if other is bind else ():
                kind = column.type
                if isinstance(kind, sa.Enum) and kind.native_enum and kind.name in stored:
                    missing = [one for one in kind.enums if one not in stored[kind.name]]
                    if missing:
                        yield Found(
                            f"{table.fullname}.{column.name} may be {', '.join(missing)}, which the"
                            f" type {kind.name} does not have",
                            object=f"{table.fullname}.{column.name}",
                        )
