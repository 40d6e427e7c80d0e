"""Sites that fail, and are closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.errors.faults import Site, close_site, make_site
from tests.support.databases import Database


@pytest.fixture
def new_site(database: Database, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a function that makes an application on ``database``, by driver and settings."""
    made: list[Site] = []
    drivers = {"postgresql": "psycopg", "mariadb": "pymysql"}

    def make(driver: str | None = None, **config: Any) -> Site:
        used = driver or drivers.get(database.name, "sqlite")
        made.append(make_site(database, used, tmp_path, **config))
        return made[-1]

    yield make
    for site in made:
        close_site(site)
