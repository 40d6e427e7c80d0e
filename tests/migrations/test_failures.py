"""What a revision that failed has left behind is told as it is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_dbkit.health import AppHealth
from tests.migrations.conftest import Project

INDEX = """
op.execute("UPDATE shelf SET n = 1")
with op.get_context().autocommit_block():
    op.create_index("ux_n", "shelf", ["n"], unique=True, postgresql_concurrently=True)
"""


@pytest.mark.backends("postgresql")
def test_what_an_autocommit_block_has_committed_is_listed(project: Project) -> None:
    """An index that PostgreSQL left invalid is named, and nobody is told to stamp over it."""
    project.write("op.execute('CREATE TABLE shelf (id int, n int)')")
    project.write("op.execute('INSERT INTO shelf VALUES (1, 7), (2, 7)')")
    project.write(INDEX)
    first = project.run("upgrade")
    assert first.exit_code == 1
    assert "UPDATE shelf SET n = 1" in first.output
    assert "Nothing of it was applied" not in first.output
    assert "DROP INDEX CONCURRENTLY ux_n" in first.output
    second = project.run("upgrade")
    assert second.exit_code == 1
    assert "already exists" in second.output
    assert "stamp" not in second.output
    assert "the index ux_n is invalid" in project.ok("status")
    project.execute("DROP INDEX ux_n", "DELETE FROM shelf WHERE id = 2")
    project.ok("upgrade")
    project.ok("status", "--exit-code")


@pytest.mark.backends("postgresql")
def test_an_invalid_index_is_no_good_end(project: Project) -> None:
    """Not even when its revision was stamped: status says so in its exit code."""
    project.write("op.execute('CREATE TABLE shelf (id int, n int)')")
    project.ok("upgrade")
    project.execute("INSERT INTO shelf VALUES (1, 7), (2, 7)")
    engine = project.engine().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY ux ON shelf (n)")
    assert project.run("status", "--exit-code").exit_code == 1
    project.app.extensions["dbkit"].part(AppHealth)._renew()
    report = project.app.extensions["dbkit"].part(AppHealth).run("readiness").as_dict()
    (found,) = report["checks"]["migrations:default"]
    assert (found["status"], found["code"]) == ("warn", "migrations.index")


def test_stamping_is_advised_only_when_everything_is_there(project: Project) -> None:
    """What create_all() has made, and not what half of a revision or a downgrade has left."""
    sa.Table("shelf", project.db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("book", project.db.metadata, sa.Column("id", sa.Integer, primary_key=True, index=True))
    project.write(
        "op.create_table('shelf', sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.create_table('book', sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.create_index('ix_book_id', 'book', ['id'])"
    )
    project.execute("CREATE TABLE shelf (id INTEGER PRIMARY KEY)")
    half = project.run("upgrade", "--no-backup")
    assert half.exit_code == 1
    assert "already exists" in half.output
    assert "stamp" not in half.output
    with project.app.app_context():
        project.db.create_all()
    whole = project.run("upgrade", "--no-backup")
    assert "flask dbkit migrate stamp" in whole.output
