"""SQLite: a table that is copied keeps every part of its definition, and what hangs on it."""

from __future__ import annotations

import pytest

from flask_dbkit.migrations.table_text import TableText, altered, renamed, same_sql
from tests.migrations.conftest import Project

pytestmark = pytest.mark.backends("sqlite-file")

TABLE = """
CREATE TABLE team (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out again
    name VARCHAR(10) NOT NULL ON CONFLICT IGNORE DEFAULT 'it''s, (so)' COLLATE NOCASE,
    email TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE,
    n INT CHECK (n > 0),
    "odd, name" DECIMAL(10, 2) DEFAULT (1 + 1),
    lead INTEGER REFERENCES person (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    twice INT GENERATED ALWAYS AS (n * 2) VIRTUAL,
    CHECK (length(name) < 1000),
    CONSTRAINT uq_team_pair UNIQUE (n, lead),
    FOREIGN KEY (n) REFERENCES person (id) ON UPDATE CASCADE
)
"""
OBJECTS = [
    "CREATE TABLE person (id INTEGER PRIMARY KEY)",
    "CREATE TABLE log (text TEXT)",
    TABLE,
    "CREATE TABLE member (id INTEGER PRIMARY KEY, team INT REFERENCES team (id) ON DELETE CASCADE)",
    "CREATE UNIQUE INDEX ix_lower ON team (lower(email))",
    "CREATE INDEX ix_desc ON team (n DESC)",
    "CREATE INDEX ix_part ON team (n) WHERE n > 5",
    "CREATE INDEX ix_collate ON team (name COLLATE BINARY)",
    "CREATE TRIGGER audit AFTER UPDATE ON team BEGIN INSERT INTO log VALUES (NEW.name); END",
    "CREATE TRIGGER follow AFTER INSERT ON member BEGIN UPDATE team SET n = n; END",
    "CREATE VIEW names AS SELECT name, lead FROM team",
    "CREATE VIEW counted AS SELECT count(*) AS c FROM names",
    "INSERT INTO person VALUES (1), (7)",
    "INSERT INTO team (id, name, n, lead) VALUES (100, 'x', 7, 1), (200, 'gone', 1, 1)",
    "DELETE FROM team WHERE id = 200",
    "INSERT INTO member VALUES (1, 100)",
]


@pytest.fixture
def teams(project: Project) -> Project:
    """A project whose first revision makes a table with everything a table can have."""
    project.write("\n".join(f"op.execute({text!r})" for text in OBJECTS))
    project.ok("upgrade", "--no-backup")
    return project


def schema(project: Project) -> dict[str, str]:
    return dict(project.rows("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def batch(*lines: str) -> str:
    inside = "\n".join(f"    {line}" for line in lines)
    return f"with op.batch_alter_table('team') as batch:\n{inside}"


LONGER = "batch.alter_column('name', existing_type=sa.String(10), type_=sa.String(50))"


def test_a_longer_name_changes_nothing_else(teams: Project) -> None:
    """Every clause, index, trigger and view is as it was, and the counter goes on."""
    before = schema(teams)
    teams.write(batch(LONGER))
    teams.ok("upgrade", "--no-backup")
    after = schema(teams)
    assert after.keys() == before.keys()
    for name, sql in before.items():
        assert same_sql(after[name], sql.replace("VARCHAR(10)", "VARCHAR(50)")), after[name]
    assert teams.rows("SELECT id, name, n, lead, twice FROM team") == [(100, "x", 7, 1, 14)]
    teams.execute("INSERT INTO team (name, n) VALUES ('y', 1)")
    assert teams.rows("SELECT max(id) FROM team") == [(201,)]
    teams.execute("DELETE FROM log", "UPDATE team SET name = 'Z'")
    assert {text for (text,) in teams.rows("SELECT text FROM log")} == {"Z"}
    assert teams.rows("SELECT c FROM counted") == [(2,)]
    assert teams.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        (
            "alter_column('n', nullable=False)",
            "n INT CHECK (n > 0)",
            "n INT CHECK (n > 0) NOT NULL",
        ),
        ("alter_column('name', nullable=True)", "NOT NULL ON CONFLICT IGNORE", ""),
        ("alter_column('name', server_default=None)", "DEFAULT 'it''s, (so)'", ""),
        (
            "alter_column('name', server_default='b')",
            "DEFAULT 'it''s, (so)' COLLATE NOCASE",
            "COLLATE NOCASE DEFAULT 'b'",
        ),
        (
            "drop_constraint('uq_team_pair', type_='unique')",
            "CONSTRAINT uq_team_pair UNIQUE (n, lead),",
            "",
        ),
        (
            "create_check_constraint('ck_new', 'n < 1000')",
            "CASCADE\n)",
            "CASCADE, CONSTRAINT ck_team_ck_new CHECK (n < 1000))",
        ),
    ],
)
def test_what_a_batch_changes_is_changed_and_nothing_else(
    teams: Project, line: str, old: str, new: str
) -> None:
    """The text of the old definition is kept around it."""
    before = schema(teams)
    teams.write(batch(f"batch.{line}"))
    teams.ok("upgrade", "--no-backup")
    after = schema(teams)
    expected = before.pop("team")
    assert old in expected
    assert same_sql(after.pop("team"), expected.replace(old, new))
    assert after == before


def test_columns_come_go_and_get_other_names(teams: Project) -> None:
    """What is dropped with a column is no loss, and what names a renamed one names it anew."""
    teams.execute("DROP VIEW counted", "DROP VIEW names")
    teams.write(
        batch(
            "batch.drop_column('email')",
            "batch.add_column(sa.Column('more', sa.Integer, server_default='1'))",
            LONGER,
        )
    )
    teams.ok("upgrade", "--no-backup")
    after = schema(teams)
    assert "ix_lower" not in after
    assert {"ix_desc", "ix_part", "ix_collate", "audit"} <= after.keys()
    assert "email" not in after["team"]
    assert "AUTOINCREMENT" in after["team"]
    assert teams.rows("SELECT more FROM team") == [(1,)]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["batch.drop_column('lead')", LONGER], "the view names"),
        (["batch.drop_column('name')"], "audit"),
    ],
)
def test_what_cannot_be_kept_is_listed_and_nothing_is_applied(
    teams: Project, lines: list[str], named: str
) -> None:
    """With a way out."""
    if named == "audit":
        teams.execute("DROP VIEW counted", "DROP VIEW names")
    before = schema(teams)
    teams.write(batch(*lines))
    result = teams.run("upgrade", "--no-backup")
    assert result.exit_code == 1
    assert named in result.output
    assert "table_args=" in result.output
    assert schema(teams) == before
    assert teams.rows("PRAGMA legacy_alter_table") == [(0,)]


def test_a_definition_is_taken_apart_and_put_together() -> None:
    """Quotes, brackets, commas and comments are where SQLite sees them."""
    parsed = TableText.parse(TABLE)
    assert same_sql(parsed.sql("team"), TABLE)
    assert [name for name, _ in parsed.columns] == [
        "id",
        "name",
        "email",
        "n",
        "odd, name",
        "lead",
        "twice",
    ]
    assert [name for name, _ in parsed.constraints] == [None, "uq_team_pair", None]
    text = "a INT CONSTRAINT nn NOT NULL DEFAULT NULL REFERENCES t (i) ON DELETE SET NULL"
    assert altered(text, "a TEXT", {"type_": "x"}) == text.replace("INT", "TEXT", 1)
    assert altered(text, "a TEXT", {"nullable": True}) == text.replace(
        "CONSTRAINT nn NOT NULL ", ""
    )
    assert altered(text, "a INT DEFAULT 3", {"server_default": "3"}).endswith("SET NULL DEFAULT 3")
    assert renamed("CHECK (a > 'a' AND [A] < 1)", {"a": "b"}) == 'CHECK ("b" > \'a\' AND "b" < 1)'
