"""What a transaction was given before a scope is still in force in it, or is named."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from flask_dbkit import OptionMismatch, transaction
from flask_dbkit.databases.statements import goes_beyond_reading

from .conftest import Entry, Ledger

LATER: list[dict[str, Any]] = [
    {"read_only": True},
    {"lock_timeout": 2.0},
    {"statement_timeout": 2.0},
    {"read_only": True, "statement_timeout": 2.0},
]
ANEW: list[dict[str, Any]] = [
    {"isolation": "SERIALIZABLE"},
    {"begin": "deferred", "isolation": "SERIALIZABLE"},
]
GIVEN = {
    "SET LOCAL app.tenant = 'acme'": "SELECT current_setting('app.tenant', true) = 'acme'",
    "SELECT set_config('app.tenant', 'acme', true)": (
        "SELECT current_setting('app.tenant', true) = 'acme'"
    ),
    "SELECT pg_advisory_xact_lock(7)": (
        "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ),
    "SELECT n FROM entry FOR UPDATE": (
        "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'RowShareLock' AND pid = pg_backend_pid()"
    ),
}


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("given", GIVEN)
def test_settings_and_locks_from_before_are_kept_or_named(ledger: Ledger, given: str) -> None:
    """A tenant of SET LOCAL must not vanish: what can come later does, the rest is refused."""
    session = ledger.session
    for options in ({}, *LATER):
        session.execute(text(given))
        with transaction(**options) as tx:
            assert session.scalar(text(GIVEN[given])) is True
            assert tx.read_only is bool(options.get("read_only"))
            if options.get("statement_timeout"):
                assert session.scalar(text("SHOW statement_timeout")) == "2s"
            if options.get("lock_timeout"):
                assert session.scalar(text("SHOW lock_timeout")) == "2s"
            if options.get("read_only"):
                assert session.scalar(text("SHOW transaction_read_only")) == "on"
    for options in ANEW:
        session.execute(text(given))
        with pytest.raises(OptionMismatch, match="given more than reads"), transaction(**options):
            pass
        assert session.scalar(text(GIVEN[given])) is True  # nothing was touched
        session.rollback()


@pytest.mark.parametrize("options", [*LATER, {"isolation": "SERIALIZABLE"}], ids=str)
def test_a_session_that_has_only_read_is_begun_again(
    ledger: Ledger, options: dict[str, Any]
) -> None:
    """Plain SELECTs, with the functions that everybody uses, leave nothing that could be lost."""
    for statement in ("SELECT count(*), max(n) FROM entry", "SELECT upper(note) FROM entry"):
        ledger.session.execute(text(statement))
        with transaction(**options):
            ledger.read()


@pytest.mark.backends("sqlite-file", "mariadb")
def test_functions_of_an_application_s_own_are_not_forgotten(ledger: Ledger) -> None:
    """Nobody knows what they have left to the transaction."""
    name = ledger.engine.dialect.name
    given = "SELECT GET_LOCK('x', 0)" if name != "sqlite" else "PRAGMA case_sensitive_like = 1"
    ledger.session.execute(text(given))
    with transaction():
        ledger.insert(1)
    ledger.session.execute(text(given))
    refused = pytest.raises(OptionMismatch, match="given more than reads")
    with refused, transaction(isolation="SERIALIZABLE"):
        pass
    ledger.session.rollback()
    assert ledger.saved() == [1]


@pytest.mark.backends("postgresql")
@pytest.mark.parametrize("options", [{}, *LATER[1:3], *ANEW[:1]], ids=str)
def test_a_schema_translate_map_is_in_force_or_named(
    ledger: Ledger, options: dict[str, Any]
) -> None:
    """A tenant's row never goes to the default schema: given before the scope, or first in it."""
    tenant: Any = {"schema_translate_map": {None: "acme"}}
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA acme")
        connection.exec_driver_sql("CREATE TABLE acme.entry (LIKE public.entry INCLUDING ALL)")
    session = ledger.session
    with transaction(**options):
        session.connection(execution_options=tenant)
        ledger.add(1)
    session.connection(execution_options=tenant)
    session.scalars(select(Entry)).all()
    if "isolation" in options:
        with pytest.raises(OptionMismatch, match="schema_translate_map"), transaction(**options):
            pass
        session.rollback()
    else:
        with transaction(**options):
            ledger.add(2)
    with transaction(**options):
        ledger.read()
        with pytest.raises(OptionMismatch, match="before the first statement"):
            session.connection(execution_options=tenant)
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM public.entry").scalar() == 0
        found = connection.exec_driver_sql("SELECT count(*) FROM acme.entry").scalar()
        assert found == (1 if "isolation" in options else 2)
    ledger.session.rollback()
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA acme CASCADE")


@pytest.mark.parametrize(
    ("statement", "beyond"),
    [
        ("SELECT a, count(*) FROM t WHERE b IN (1, 2) AND lower(c) = 'for update'", False),
        ("WITH x AS (SELECT 1) SELECT coalesce(max(a), 0) FROM x JOIN t USING (id)", False),
        ("SELECT json_extract(a, '$.b'), date(c) FROM t", False),
        ("SHOW lock_timeout", False),
        ("EXPLAIN SELECT 1", False),
        ("SELECT my_own_function()", True),
        ("SELECT pg_catalog.set_config('a.b', 'c', true)", True),
        ("SELECT a FROM t FOR NO KEY UPDATE", True),
        ("SELECT a FROM t LOCK IN SHARE MODE", True),
        ("SELECT @x := 1", True),
        ("SET LOCAL a.b = 'c'", True),
        ("SET @x = 1", True),
    ],
)
def test_what_goes_beyond_reading_is_told_from_the_text(statement: str, beyond: bool) -> None:
    """In doubt it does: then the transaction is not begun again in silence."""
    assert goes_beyond_reading(statement) is beyond
