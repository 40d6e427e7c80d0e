"""DK09x: what every server is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found

__all__: list[str] = []


@check(
    "DK094",
    "A database that is not UTF-8",
    tags=("operations",),
    cause="Texts in other alphabets, and most emoji, are refused or changed when they are written.",
    fix="Make a new database with UTF-8 (utf8mb4 on MariaDB and MySQL), and copy the rows.",
    link="https://www.postgresql.org/docs/current/multibyte.html",
    database=True,
)
def encoding(given: Examination) -> Iterator[Found]:
    """Ask for the encoding of each database."""
    for bind in given.servers:
        with given.connect(bind) as connection:
            found = bind.database.engine.encoding(connection)
        if found is not None and found.lower().replace("-", "") not in ("utf8", "utf8mb4"):
            yield Found(f"{bind.name} is kept in {found}", object=bind.name)


@check(
    "DK095",
    "A server that nobody mends any more",
    tags=("operations",),
    cause="Its version is past the end of its life: holes stay open, and new drivers drop it.",
    fix="Plan the upgrade of the server.",
    link="https://endoflife.date/",
    database=True,
    deploy=True,
)
def end_of_life(given: Examination) -> Iterator[Found]:
    """Compare the version with a table."""
    today = datetime.now(UTC).date()
    for bind in given.servers:
        with given.connect(bind) as connection:
            shown, end = bind.database.engine.end_of_life(connection)
        if end is not None and date.fromisoformat(end) < today:
            yield Found(f"{bind.name} is {shown}, which ended on {end}", object=bind.name)


@check(
    "DK097",
    "A connection in the clear",
    level="error",
    tags=("operations", "security"),
    cause="Whoever is on the way to the server reads every row, and the password.",
    fix="Add sslmode=verify-full to a URL for PostgreSQL, ssl_ca=… to one for MariaDB or MySQL.",
    link="https://www.postgresql.org/docs/current/libpq-ssl.html",
    database=True,
    deploy=True,
)
def no_tls(given: Examination) -> Iterator[Found]:
    """Ask each server that is elsewhere whether this connection is encrypted."""
    for bind in given.servers:
        if bind.is_local:
            continue
        with given.connect(bind) as connection:
            if bind.database.engine.is_encrypted(connection) is False:
                yield Found(f"The connection to {bind.name} is not encrypted", object=bind.name)
