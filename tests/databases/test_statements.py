"""What a statement does to its transaction is told from its text, and in doubt it writes."""

from __future__ import annotations

import pytest

from flask_dbkit.databases import statements
from flask_dbkit.databases.statements import Kind, classify_statement


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1", Kind.READ),
        ("  (select 1)", Kind.READ),
        ("-- insert\nSELECT 1", Kind.READ),
        ("/* update */ VALUES (1)", Kind.READ),
        ("WITH a AS (SELECT 1) SELECT * FROM a", Kind.READ),
        ("WITH a AS (SELECT 1) DELETE FROM b", Kind.WRITE),
        ("; INSERT INTO a VALUES (1)", Kind.WRITE),
        ("create table a (b)", Kind.WRITE),
        ("VACUUM", Kind.WRITE),
        ("SAVEPOINT a", Kind.SAVEPOINT),
        ("ROLLBACK TO a", Kind.SAVEPOINT),
        ("COMMIT", Kind.CONTROL),
        ("# so\ncommit", Kind.CONTROL),
        ("/*!50000 COMMIT */", Kind.CONTROL),
        ("/*M! rollback */", Kind.SAVEPOINT),
        ("PREPARE TRANSACTION 'a'", Kind.CONTROL),
        ("PREPARE a AS SELECT 1", Kind.WRITE),
        ("XA END 'a'", Kind.CONTROL),
        ("SELECT 1;", Kind.READ),
        ("SELECT 1; SELECT 2", Kind.READ),
        ("SELECT 1; INSERT INTO a VALUES (1)", Kind.WRITE),
        ("INSERT INTO a VALUES (1); /* so */ COMMIT", Kind.CONTROL),
        ("INSERT INTO a VALUES (1); release b; SELECT 1", Kind.SAVEPOINT),
        ("INSERT INTO a VALUES ('1; COMMIT')", Kind.WRITE),
        ("SELECT 'it''s; commit', \"; end\" -- ; rollback", Kind.READ),
        ("CREATE TRIGGER a AFTER INSERT ON b BEGIN DELETE FROM c; END", Kind.WRITE),
        ("DO $$ BEGIN PERFORM 1; COMMIT; END $$", Kind.WRITE),
        ("SELECT $x$; commit$x$", Kind.READ),
        ("EXPLAIN INSERT INTO a VALUES (1)", Kind.NEUTRAL),
        ("PRAGMA table_info('a')", Kind.READ),
        ("PRAGMA user_version", Kind.READ),
        ("PRAGMA user_version = 3", Kind.WRITE),
        ("-- migrate\npragma main.user_version(3)", Kind.WRITE),
        ("PRAGMA defer_foreign_keys = ON", Kind.WRITE),
        ("PRAGMA optimize", Kind.WRITE),
        ("PRAGMA cache_size = 10", Kind.NEUTRAL),
        ("", Kind.NEUTRAL),
        (" -- nothing", Kind.NEUTRAL),
        ("1", Kind.WRITE),
        ("\x00", Kind.WRITE),
    ],
)
def test_the_first_word_tells_the_kind(statement: str, kind: Kind) -> None:
    """Reads are repeated and compared, writes take the lock: a wrong answer would lose work."""
    assert classify_statement(statement) is kind
    assert classify_statement(statement) is kind  # from memory


def test_a_deep_indentation_costs_no_time() -> None:
    """The pattern looks at each character once; otherwise this would not end."""
    assert classify_statement(" " * 5000 + "!") is Kind.WRITE


def test_the_memory_for_statements_is_bounded() -> None:
    """Statements with values in their text do not fill the memory, and long ones are not kept."""
    for n in range(3000):
        classify_statement(f"SELECT {n}")
    assert classify_statement("SELECT '" + "x" * 10_000 + "'") is Kind.READ
    assert len(statements._known) <= 1024
    assert max(len(known) for known in statements._known) <= 4096
