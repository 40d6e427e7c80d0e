"""Client programs that are broken or interrupted, and what killed commands left on a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_dbkit import BackupError
from flask_dbkit.backups import LocalStore, create, database_at
from flask_dbkit.backups.servers import fit_name
from flask_dbkit.backups.tools import find_program
from tests.support.databases import Database

from .conftest import Shop, database_names

PROGRAMS = {"postgresql": "pg_dump", "mariadb": "mariadb-dump"}
servers = pytest.mark.backends("postgresql", "mariadb")


@pytest.mark.parametrize("script", ["echo broken >&2; exit 127", "echo nothing to see"])
@pytest.mark.backends("sqlite-memory")
def test_a_program_that_does_not_tell_its_version_is_as_good_as_missing(
    fake_program: Callable[[str, str], Path], script: str
) -> None:
    """A wrapper without a program behind it, say."""
    fake_program("pg_dump", script)
    with pytest.raises(BackupError, match="--version failed") as caught:
        find_program(["pg_dump"], "postgresql")
    assert caught.value.code == "tool.missing"


@servers
def test_an_interrupted_dump_ends_its_program(
    shop: Shop, database: Database, fake_program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Ctrl-C: nothing is left in the folder, and nothing goes on writing."""
    script = (
        'case "$1" in --version|--help) exec "$REAL" "$@";; esac;'
        ' echo $$ > "$NOTES/pid"; exec sleep 60'
    )
    notes = fake_program(PROGRAMS[database.name], script)

    def interrupt(_done: int, _total: int | None) -> None:
        if (notes / "pid").exists() and (notes / "pid").read_text().strip():
            raise KeyboardInterrupt

    store, live = LocalStore(tmp_path / "other"), database_at(database.url)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        create(live, store, progress=interrupt)
    assert time.monotonic() - began < 50
    assert list(store.directory.iterdir()) == []
    pid = int((notes / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    live.engine.dispose()


@servers
def test_databases_that_killed_commands_left_behind_are_removed_a_day_later(
    shop: Shop, database: Database
) -> None:
    """Told by the time in their name; a fresh one may belong to a command that runs."""
    name = str(sa.make_url(database.url).database)
    old = fit_name(name, "_verify_5f5e10000a0b", 63)
    fresh = fit_name(name, f"_verify_{int(time.time()):08x}0a0b", 63)
    engine = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for each in (old, fresh):
            connection.exec_driver_sql(f"CREATE DATABASE {each}")
        shop.create("--verify")
        assert {old, fresh} & database_names(database) == {fresh}
        connection.exec_driver_sql(f"DROP DATABASE {fresh}")
    engine.dispose()
