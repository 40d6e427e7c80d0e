"""The linter flags what would lock, break or lose, and lets good revisions pass."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from click.testing import Result

from flask_dbkit import declarative_base
from flask_dbkit.migrations.lint import RULES, assured
from flask_dbkit.migrations.lint.squawk import find_squawk
from tests.migrations.conftest import MakeProject, Project

URLS = {
    "postgresql": "postgresql+psycopg://u@127.0.0.1:1/none",
    "sqlite": "sqlite:///none.db",
    "mariadb": "mysql+pymysql://u@127.0.0.1:1/none",
}
BASE = """
op.create_table(
    "team",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("price", sa.Numeric(12, 4)),
    sa.Column("kind", sa.Enum("a", "b", "c", name="kind")),
    sa.Column("note", sa.String(1000)),
    sa.Column("unmapped", sa.Integer),
)
op.create_table(
    "member",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("team_id", sa.Integer, sa.ForeignKey("team.id", ondelete="CASCADE")),
)
op.create_table("shelf", sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.Integer))
op.create_index("ix_shelf_low", "shelf", [sa.text("lower(x)")])
op.create_table("old", sa.Column("id", sa.Integer, primary_key=True))
"""
ALL = ("postgresql", "sqlite", "mariadb")


def models() -> Any:
    base = declarative_base()
    sa.Table(
        "team",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("title", sa.String(80)),
    )
    sa.Table("member", base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    return base


class Case(NamedTuple):
    """One revision.

    Attributes:
        rule: What is found in it.
        dialects: The databases it is tried for.
        upgrade: Its body.
        downgrade: Its body.
        head: Lines above the functions.
    """

    rule: str
    dialects: tuple[str, ...]
    upgrade: str
    downgrade: str = "op.execute('SELECT 1')"
    head: str = ""


def batch(table: str, body: str) -> str:
    return f"with op.batch_alter_table({table!r}) as batch:\n    batch.{body}"


PG, LITE, MY = ("postgresql",), ("sqlite",), ("mariadb",)
BAD = [
    Case("DM001", ALL, "op.create_table('a', sa.Column('id', sa.Integer))", "pass"),
    Case("DM002", ALL, "pass", "pass"),
    Case(
        "DM003",
        ALL,
        "op.create_table('a', sa.Column('id', sa.Integer))",
        head="from tests.migrations.models import Team  # noqa",
    ),
    Case("DM006", ALL, "name = 'a'\nop.execute(f\"INSERT INTO team VALUES ('{name}')\")"),
    Case("DM006", ALL, "op.execute('INSERT INTO team VALUES (%s)' % 1)"),
    Case("DM006", ALL, "op.execute(sa.text('DELETE FROM team WHERE id = ' + str(1)))"),
    Case("DM101", ALL, "op.drop_table('member')"),
    Case("DM101", ALL, batch("team", "drop_column('name')")),
    Case("DM102", ALL, "op.add_column('team', sa.Column('n', sa.Integer, nullable=False))"),
    Case("DM103", PG, "op.alter_column('team', 'name', type_=sa.String(20))"),
    Case("DM103", ALL, batch("team", "alter_column('size', type_=sa.Integer)")),
    Case("DM103", ALL, batch("team", "alter_column('price', type_=sa.Numeric(8, 2))")),
    Case(
        "DM104",
        PG + MY,
        "op.alter_column('team', 'kind', type_=sa.Enum('a', 'b', name='kind'),"
        " existing_type=sa.Enum('a', 'b', 'c', name='kind'))",
    ),
    Case("DM104", PG, "op.execute(\"ALTER TYPE kind RENAME VALUE 'a' TO 'z'\")"),
    Case("DM105", ALL, batch("team", "alter_column('name', new_column_name='title')")),
    Case("DM105", ALL, "op.rename_table('team', 'group')"),
    Case("DM201", PG, "op.create_index('ix', 'team', ['name'])"),
    Case("DM201", PG, "op.execute('CREATE INDEX ix ON team (name)')"),
    Case("DM202", PG, "op.create_index('ix', 'team', ['name'], postgresql_concurrently=True)"),
    Case("DM203", PG, "op.create_foreign_key('fk', 'shelf', 'team', ['x'], ['id'])"),
    Case("DM204", PG, "op.create_check_constraint('ck', 'team', 'size > 0')"),
    Case("DM205", PG, "op.create_unique_constraint('uq', 'team', ['name'])"),
    Case("DM206", PG, "op.alter_column('team', 'size', nullable=False)"),
    Case(
        "DM207",
        PG,
        "op.add_column('team', sa.Column('u', sa.Uuid, server_default=sa.func.gen_random_uuid()))",
    ),
    Case("DM207", PG, "op.alter_column('team', 'id', type_=sa.BigInteger)"),
    Case(
        "DM207",
        PG,
        "op.add_column('team', sa.Column('t', sa.Integer, sa.Computed('id * 2', persisted=True)))",
    ),
    Case(
        "DM208",
        PG,
        "op.add_column('team', sa.Column('a', sa.Integer))\n"
        "op.add_column('shelf', sa.Column('a', sa.Integer))",
    ),
    Case("DM301", ALL, "op.execute('UPDATE team SET size = 0')"),
    Case("DM301", ALL, "op.execute(sa.table('team', sa.column('size')).update().values(size=0))"),
    Case("DM301", ALL, "op.get_bind().execute(sa.text('DELETE FROM shelf WHERE x IS NULL'))"),
    Case(
        "DM302",
        ALL,
        "op.add_column('team', sa.Column('a', sa.Integer))\n"
        "op.execute('UPDATE team SET a = 1 WHERE id BETWEEN 1 AND 9')",
    ),
    Case(
        "DM303",
        ALL,
        "op.bulk_insert(sa.table('user', sa.column('password')), [{'password': 'hunter2'}])",
    ),
    Case("DM401", LITE, batch("team", "alter_column('name', type_=sa.String(99))")),
    Case("DM403", LITE, batch("shelf", "alter_column('x', nullable=False)")),
    Case(
        "DM404",
        LITE,
        "op.add_column('team', sa.Column('at', sa.DateTime, server_default=sa.func.now()))",
    ),
    Case("DM405", LITE, "op.alter_column('team', 'name', nullable=True)"),
    Case(
        "DM501",
        MY,
        "op.alter_column('team', 'size', type_=sa.Numeric(20), existing_type=sa.BigInteger)",
    ),
    Case(
        "DM502",
        MY,
        "op.add_column('team', sa.Column('a', sa.Integer))\n"
        "op.add_column('team', sa.Column('b', sa.Integer))",
    ),
    Case("DM503", MY, "op.create_index('ix', 'team', ['note'])"),
    Case("DM503", MY, "op.create_table('a', sa.Column('n', sa.String(900), unique=True))"),
]
NOT_VALID = (
    "op.create_check_constraint('ck', 'team', 'size IS NOT NULL', postgresql_not_valid=True)"
)
GOOD = [
    Case(
        "",
        PG + LITE,
        "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True),"
        " sa.Column('t', sa.Integer, sa.ForeignKey('team.id')), sa.UniqueConstraint('t'))\n"
        "op.create_index('ix', 'a', ['t'])",
    ),
    Case(
        "",
        ALL,
        "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))",
        "op.drop_table('a')",
    ),
    Case("", ALL, "op.add_column('team', sa.Column('a', sa.Integer))"),
    Case(
        "",
        ALL,
        "op.add_column('team', sa.Column('a', sa.Integer, nullable=False, server_default='0'))",
    ),
    Case("", ALL, "op.add_column('team', sa.Column('b', sa.String(5), server_default='x'))"),
    Case(
        "",
        PG,
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('ix', 'team', ['name'], postgresql_concurrently=True)",
    ),
    Case(
        "",
        PG,
        "op.create_foreign_key('fk', 'shelf', 'team', ['x'], ['id'], postgresql_not_valid=True)",
    ),
    Case("", PG, NOT_VALID),
    Case("", PG, "op.execute('ALTER TABLE team VALIDATE CONSTRAINT ck')"),
    Case(
        "",
        PG,
        NOT_VALID + "\nop.execute('ALTER TABLE team VALIDATE CONSTRAINT ck')\n"
        "op.alter_column('team', 'size', nullable=False)",
    ),
    Case("", PG, "op.alter_column('team', 'name', type_=sa.String(200))"),
    Case("", PG, "op.alter_column('team', 'name', type_=sa.Text)"),
    Case("", PG, "op.alter_column('team', 'size', server_default='1')"),
    Case("", ALL, "op.execute('UPDATE team SET size = 0 WHERE id BETWEEN 1 AND 1000')"),
    Case(
        "",
        ALL,
        "bind = op.get_bind()\nwhile bind.execute(sa.text('UPDATE team SET size = 0 WHERE"
        " id IN (SELECT id FROM team WHERE size IS NULL LIMIT 1000)')).rowcount:\n    pass",
    ),
    Case("", ALL, "op.bulk_insert(sa.table('shelf', sa.column('x')), [{'x': 1}])"),
    Case("", ALL, "op.drop_table('old')"),
    Case("", ALL, "op.drop_column('team', 'unmapped')"),
    Case(
        "",
        ALL,
        "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))",
        "raise NotImplementedError('the rows are gone')",
    ),
    Case("", LITE, batch("member", "alter_column('team_id', nullable=False)")),
    Case("", LITE, batch("team", "add_column(sa.Column('a', sa.Integer))")),
    Case(
        "",
        LITE,
        batch("old", "add_column(sa.Column('at', sa.DateTime, server_default=sa.func.now()))"),
    ),
    Case("", MY, "op.create_index('ix', 'team', ['note'], mysql_length=100)"),
    Case(
        "", MY, "op.alter_column('team', 'name', type_=sa.String(120), existing_type=sa.String(80))"
    ),
    Case(
        "",
        MY,
        "op.create_table('a', sa.Column('id', sa.Integer), if_not_exists=True)\n"
        "op.create_table('b', sa.Column('id', sa.Integer), if_not_exists=True)",
    ),
    Case(
        "",
        PG,
        "with op.get_context().autocommit_block():\n"
        "    op.execute(\"ALTER TYPE kind ADD VALUE IF NOT EXISTS 'd'\")",
    ),
    Case("", PG, "op.execute('ALTER TABLE team ADD CONSTRAINT uq UNIQUE USING INDEX ix')"),
    Case("", PG, "op.alter_column('team', 'name', nullable=True)"),
    Case(
        "",
        PG,
        "with op.get_context().autocommit_block():\n"
        "    op.drop_index('ix', 'team', postgresql_concurrently=True)",
    ),
    Case("", ALL, "op.execute('UPDATE team SET size = 0 WHERE id > 10 AND id <= 20')"),
    Case("", ALL, "op.add_column('team', sa.Column('at', sa.DateTime, nullable=True))"),
]


def write(project: Project, case: Case, *, name: str = "") -> Path:
    """Write the base revision, and the one of the case behind it."""
    if not project.revisions:
        project.write(BASE, "op.drop_table('team')", name="first")
    revision = project.write(case.upgrade, case.downgrade, name=name or "change")
    path = project.path / "versions" / f"{revision}_by_hand.py"
    if case.head:
        path.write_text(
            path.read_text().replace("import sqlalchemy", f"{case.head}\nimport sqlalchemy", 1)
        )
    return path


def found(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code in (0, 1), result.exception
    findings: list[dict[str, Any]] = json.loads(result.output)
    return findings


@pytest.fixture
def lint(make_project: MakeProject) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that lints one revision for one database."""

    def run(case: Case, dialect: str) -> list[dict[str, Any]]:
        project = make_project(URLS[dialect], base=models())
        write(project, case)
        findings = found(project.run("lint", "--json", "--since", "first"))
        assert {one["revision"] for one in findings} <= {"change"}
        return findings

    return run


def _pairs(cases: list[Case]) -> list[Any]:
    return [
        pytest.param(case, dialect, id=f"{case.rule or 'good'}-{dialect}-{number}")
        for number, case in enumerate(cases)
        for dialect in case.dialects
    ]


@pytest.mark.parametrize(("case", "dialect"), _pairs(BAD))
def test_a_bad_revision_is_flagged(
    lint: Callable[..., list[dict[str, Any]]], case: Case, dialect: str
) -> None:
    """With the rule it breaks, the line, and what to do instead."""
    hits = [one for one in lint(case, dialect) if one["rule"] == case.rule]
    assert hits
    assert all(one["fix"] and one["message"] and one["line"] >= 1 for one in hits)


@pytest.mark.parametrize(("case", "dialect"), _pairs(GOOD))
def test_a_good_revision_passes(
    lint: Callable[..., list[dict[str, Any]]], case: Case, dialect: str
) -> None:
    """No finding at all, of squawk neither."""
    assert lint(case, dialect) == []


def test_the_first_revision_may_make_every_table(make_project: MakeProject) -> None:
    """MariaDB commits each statement, but what is left half done is an empty database."""
    project = make_project(URLS["mariadb"])
    project.write(BASE, "op.drop_table('team')")
    assert found(project.run("lint", "--json", "--all")) == []


MIXED = (
    "op.add_column('team', sa.Column('n', sa.Integer, nullable=False))\n"
    "op.create_index('ix', 'team', ['n'])"
)


def rules(findings: list[dict[str, Any]]) -> set[str]:
    return {one["rule"] for one in findings}


def test_a_column_that_breaks_writers_and_an_index_that_locks_them(
    make_project: MakeProject,
) -> None:
    """Both are told with what to do, once each, although squawk sees them too; exit code 1."""
    project = make_project(URLS["postgresql"])
    path = write(project, Case("", PG, MIXED))
    result = project.run("lint", "--since", "first")
    assert result.exit_code == 1
    assert "change_by_hand.py:7: DM102 error: NOT NULL column without a server default" in (
        result.output
    )
    assert "change_by_hand.py:8: DM201 error: index built with a lock" in result.output
    assert find_squawk() is not None
    found_rules = rules(found(project.run("lint", "--json", "--since", "first")))
    assert found_rules == {"DM102", "DM201"}
    path.write_text(
        path.read_text()
        .replace("nullable=False))", "nullable=False))  # dbkit: ignore DM102 no rows yet")
        .replace("['n'])", "['n'])  # dbkit: ignore DM201 a small table")
    )
    assert project.ok("lint", "--since", "first") == "Nothing found.\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    op.add", "    # dbkit: ignore DM102 the table is empty\n    op.add"),
        ("    op.exec", "    # dbkit: ignore DM101 a\n    # dbkit: ignore DM102 b\n\n    op.exec"),
        ("nullable=False))", "nullable=False))  # dbkit: ignore DM201 a # dbkit: ignore DM102 b"),
        ("def upgrade():", "# dbkit: ignore DM102 reviewed\ndef upgrade():"),
        ("def upgrade():", "def upgrade():  # dbkit: ignore DM1xx reviewed"),
        ("import sqlalchemy", "# dbkit: ignore DM102, DM201 reviewed\nimport sqlalchemy"),
        (
            "    op.add",
            (
                "    from flask_dbkit.migrations import assured\n"
                "    with assured('the table is empty'):\n        op.add"
            ),
        ),
    ],
)
def test_what_the_author_has_looked_at_is_left_out(
    make_project: MakeProject, before: str, after: str
) -> None:
    """Above a statement, for a function, for a file, and for a block."""
    project = make_project(URLS["sqlite"])
    path = write(project, Case("", LITE, "op.execute('SELECT 1')\n" + MIXED.splitlines()[0]))
    assert rules(found(project.run("lint", "--json", "--since", "first"))) == {"DM102"}
    path.write_text(path.read_text().replace(before, after, 1))
    assert project.ok("lint", "--since", "first") == "Nothing found.\n"


def test_a_comment_leaves_other_rules_and_other_statements_alone(
    make_project: MakeProject,
) -> None:
    """It counts where it stands, and for what it names."""
    project = make_project(URLS["sqlite"])
    column = "op.add_column('team', sa.Column({!r}, sa.Integer, nullable=False))"
    ignored = column.format("a") + "  # dbkit: ignore DM102 empty"
    other = column.format("c") + "  # dbkit: ignore DM101 something else"
    write(project, Case("", LITE, f"{ignored}\n{column.format('b')}\n{other}"))
    findings = found(project.run("lint", "--json", "--since", "first"))
    assert [one["line"] for one in findings] == [8, 9]


def test_assured_wants_a_reason() -> None:
    """The next reader has to know why."""
    with pytest.raises(ValueError, match="wants the reason"), assured(" "):
        pass


def test_several_heads_are_a_finding(make_project: MakeProject) -> None:
    """An upgrade would be refused."""
    project = make_project(URLS["sqlite"])
    for name in ("left", "right"):
        project.revisions[:] = []
        project.write("op.execute('SELECT 1')", "op.execute('SELECT 1')", name=name)
    findings = found(project.run("lint", "--json"))
    assert [(one["rule"], one["message"]) for one in findings] == [("DM004", "left, right")]


def test_a_revision_that_is_edited_after_it_was_applied_is_found(
    make_project: MakeProject, tmp_path: Path
) -> None:
    """By what it does; comments and line breaks are nobody's business."""
    project = make_project(f"sqlite:///{tmp_path / 'a.db'}")
    path = write(project, Case("", LITE, "op.create_table('a', sa.Column('id', sa.Integer))"))
    project.ok("upgrade")
    path.write_text(path.read_text() + "\n# a comment\n")
    assert project.ok("lint", "--since", "first") == "Nothing found.\n"
    path.write_text(path.read_text().replace("'a'", "'b'"))
    assert rules(found(project.run("lint", "--json", "--since", "first"))) == {"DM005"}


def test_a_database_that_a_file_forgot_is_found(make_project: MakeProject) -> None:
    """A file with a function for each database has to have all of them, both ways."""
    binds = {"audit": "sqlite:///audit.db"}
    project = make_project(URLS["sqlite"], SQLALCHEMY_BINDS=binds)
    path = project.path / "versions" / "many.py"
    path.write_text(
        "from alembic import op\nrevision, down_revision = 'many', None\n"
        "def upgrade(engine_name): globals()['upgrade_' + engine_name]()\n"
        "def downgrade(engine_name): globals()['downgrade_' + engine_name]()\n"
        "def upgrade_(): op.execute('SELECT 1')\ndef downgrade_(): op.execute('SELECT 1')\n"
    )
    findings = found(project.run("lint", "--json"))
    assert rules(findings) == {"DM007"}
    assert any("upgrade_audit() is missing" in one["message"] for one in findings)
    path.write_text(
        path.read_text()
        + "def upgrade_audit(): op.create_table('a')\n"
        + "def downgrade_audit(): op.drop_table('a')\n"
    )
    assert project.ok("lint") == "Nothing found.\n"


def test_a_constraint_without_a_name_is_found_in_a_batch(make_project: MakeProject) -> None:
    """Unless the metadata names constraints by a convention."""
    body = batch("member", "create_unique_constraint(None, ['team_id'])")
    plain = type("Plain", (sa_orm.DeclarativeBase,), {})
    for base, expected in ((plain, {"DM402"}), (models(), set())):
        project = make_project(URLS["sqlite"], base=base)
        project.revisions[:] = []
        write(project, Case("", LITE, body))
        findings = found(project.run("lint", "--json", "--since", "first"))
        assert rules(findings) - {"DM001"} == expected


def test_what_came_after_a_commit_is_linted(make_project: MakeProject, tmp_path: Path) -> None:
    """A pull request answers for its own revisions, also for those not yet committed."""
    project = make_project(URLS["sqlite"])

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    write(
        project, Case("", LITE, "op.add_column('team', sa.Column('a', sa.Integer, nullable=False))")
    )
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert rules(found(project.run("lint", "--json"))) == {"DM102"}
    assert project.ok("lint", "--since", "main") == "Nothing found.\n"
    write(project, Case("", LITE, "pass", "pass"), name="third")
    findings = found(project.run("lint", "--json", "--since", "main"))
    assert [(one["revision"], one["rule"]) for one in findings] == [("third", "DM002")]
    refused = project.run("lint", "--since", "nowhere")
    assert refused.exit_code == 1
    assert "--since nowhere is neither a revision" in refused.output
    assert project.run("lint", "--since", "main", "--all").exit_code == 2


def test_another_database_can_be_asked_for(make_project: MakeProject) -> None:
    """Developed on SQLite, deployed on PostgreSQL."""
    project = make_project(URLS["sqlite"])
    write(project, Case("", LITE, "op.create_index('ix', 'team', ['name'])"))
    assert project.ok("lint", "--since", "first") == "Nothing found.\n"
    result = project.run("lint", "--since", "first", "--dialect", "postgresql", "--json")
    assert "DM201" in rules(found(result))
    assert project.run("lint", "--dialect", "oracle").exit_code == 2


def test_warnings_fail_unless_only_errors_shall(make_project: MakeProject) -> None:
    """--fail-level decides about the exit code, not about what is shown."""
    project = make_project(URLS["sqlite"], base=models())
    write(project, Case("", LITE, batch("team", "alter_column('name', type_=sa.String(99))")))
    arguments = ("lint", "--since", "first")
    assert project.run(*arguments).exit_code == 1
    assert "DM401 warning" in project.ok(*arguments, "--fail-level", "error")


def test_a_revision_that_asks_the_database_is_read_as_far_as_it_goes(
    make_project: MakeProject,
) -> None:
    """There is no database: what came before the question is known; the rest is a finding."""
    project = make_project(URLS["sqlite"])
    body = f"{MIXED.splitlines()[0]}\nsa.inspect(op.get_bind()).get_table_names()"
    write(project, Case("", LITE, body))
    findings = found(project.run("lint", "--json", "--since", "first"))
    assert rules(findings) == {"DM102", "DM008"}
    (unread,) = [each for each in findings if each["rule"] == "DM008"]
    assert "NoInspectionAvailable" in unread["message"]
    assert unread["line"] == 8


def test_a_file_that_cannot_be_read_is_told(make_project: MakeProject) -> None:
    """One paragraph, no traceback."""
    project = make_project(URLS["sqlite"])
    write(project, Case("", LITE, "pass", head="import no_such_module"))
    result = project.run("lint")
    assert result.exit_code == 1
    assert "No module named 'no_such_module'" in result.output
    assert isinstance(result.exception, SystemExit)


def test_every_rule_is_shown_by_a_bad_revision() -> None:
    """A rule without one could be dead."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [rule.id for rule in RULES if not re.search(rf'"{rule.id}"', text)] == []
    assert len({case.upgrade for case in BAD}) >= 30
    assert len({case.upgrade for case in GOOD}) >= 20


ARGUMENTS = [
    "op.create_index('ix', 'shelf', ['n'], unique=True, {dialect}_where=sa.text('n > 5'))",
    "op.create_index('ix', 'shelf', [sa.text('lower(n)'), sa.desc('n')])",
    "op.add_column('shelf', sa.Column('m', sa.Integer, server_default=sa.func.abs(1)))",
    "op.add_column('shelf', sa.Column('m', sa.Integer, sa.Computed(sa.column('n') + 1)))",
    "op.alter_column('shelf', 'n', existing_server_default=sa.text('1'), server_default=sa.null())",
    "op.create_check_constraint('ck', 'shelf', sa.column('n') > 5)",
    "op.execute(sa.update(sa.table('shelf', sa.column('n'))).values(n=1).where(sa.text('n > 5')))",
    "op.execute(insert(sa.table('shelf', sa.column('n'))).values(n=1).on_conflict_do_nothing())",
    "with op.batch_alter_table('shelf') as b: b.alter_column('n', server_default=sa.text('1'))",
]


def test_no_argument_that_is_sql_ends_the_linter(make_project: MakeProject) -> None:
    """SQL has no truth value, and one database's constructs no text for the others."""
    project = make_project(URLS["sqlite"])
    for argument in ARGUMENTS:
        for dialect in ("sqlite", "postgresql"):
            head = "from sqlalchemy.dialects.postgresql import insert\n"
            project.write(head + argument.format(dialect=dialect))
    flags = [f"--dialect={name}" for name in ("sqlite", "postgresql", "mariadb")]
    findings = found(project.run("lint", "--json", *flags))
    assert [each["message"] for each in findings if each["rule"] == "DM008"] == []


def test_an_unreadable_revision_is_a_finding_and_the_others_are_linted(
    make_project: MakeProject,
) -> None:
    """'Nothing found' means that all was read."""
    project = make_project(URLS["sqlite"])
    project.write("op.create_table('shelf', sa.Column('n', sa.Integer))", "op.drop_table('shelf')")
    for text in ("import no_such_module", "def broken(:", "1 / 0"):
        project.write("pass")
        file = next((project.path / "versions").glob(f"{project.revisions[-1]}_*"))
        file.write_text(file.read_text() + text)
    project.write("op.add_column('shelf', sa.Column('m', sa.Integer, nullable=False))")
    result = project.run("lint", "--json")
    assert result.exit_code == 1
    findings = found(result)
    assert [each["revision"] for each in findings if each["rule"] == "DM008"] == [
        "002",
        "003",
        "004",
    ]
    assert {"DM102"} == {each["rule"] for each in findings if each["revision"] == "005"} - {"DM001"}
    assert "SyntaxError" in result.output
    assert str(project.path) in result.output
