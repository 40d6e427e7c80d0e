"""What whoever develops sees of a database error, and nobody else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_dbkit.errors.missing import Missing
from flask_dbkit.migrations.advice import command_for
from tests.errors.faults import SECRET, Site

NewSite = Callable[..., Site]
HEADERS = {"X-Request-ID": "request-0815"}


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_the_terminal_tells_in_debug_mode_and_the_client_reads_the_same(
    new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    """SQL without literals, lines of source, and what makes what is missing; no values."""
    plain, site = new_site(), new_site(create=False)
    site.app.debug = True  # after init_app
    query = sa.text(f"SELECT elsewhere FROM account WHERE email = '{SECRET}'")
    for each in (plain, site):
        each.app.add_url_rule("/column", "column", lambda e=each: str(e.db.session.execute(query)))
    logging.getLogger("flask_dbkit.errors").disabled = True  # as Alembic's env.py does
    for fault, what in {"missing_table": "nowhere", "column": "elsewhere"}.items():
        caplog.clear()
        answers = [
            each.app.test_client().get(f"/{fault}", headers=HEADERS) for each in (plain, site)
        ]
        assert answers[0].data == answers[1].data
        lines = [each.getMessage() for each in caplog.records]
        kind = "Table" if "table" in fault else "Column"
        assert f"{kind} {what!r} is missing: run db.create_all()." in lines
        assert any("DBKIT_ERROR_DEBUG" in line for line in lines)
        assert "[SQL: " in caplog.text
        assert ".db.session.execute(" in caplog.text
        assert SECRET not in caplog.text


@pytest.mark.backends("sqlite-file")
def test_the_command_is_the_one_that_helps(new_site: NewSite, tmp_path: Path) -> None:
    """A revision that names the table has not been run; if none does, one has to be written."""
    folder = tmp_path / "migrations"
    site = new_site(DBKIT_MIGRATIONS_DIR=str(folder))
    missing = Missing("Table", "book")
    assert command_for(site.app, missing) is None
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").touch()
    assert command_for(site.app, missing) == "flask dbkit migrate new"
    (folder / "versions" / "one.py").write_text('op.create_table("book")', encoding="utf-8")
    assert command_for(site.app, missing) == "flask dbkit migrate upgrade"


@pytest.mark.backends("sqlite-file")
def test_outside_a_request_the_error_has_the_sql_in_debug_mode(new_site: NewSite) -> None:
    """In a job, a command or a shell; in production it has not."""
    for debug in (True, False):
        site = new_site(create=debug)
        site.app.debug = debug
        with site.app.app_context(), pytest.raises(sa.exc.OperationalError) as caught:
            site.db.session.execute(sa.text(f"SELECT 1 FROM nowhere WHERE a = '{SECRET}'"))
        assert ("[SQL: SELECT … FROM nowhere WHERE a = '…']" in str(caught.value)) is debug
