"""Snippets of the page "Find dangerous migrations before they run"."""

import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations

from flask_dbkit.migrations import assured


# start assured
def upgrade() -> None:
    with assured("the table is new, nobody writes to it yet"):
        op.create_index("ix_shelf_name", "shelf", ["name"])
        op.create_index("ix_shelf_size", "shelf", ["size"])


# end assured


def check() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE shelf (name TEXT, size INTEGER)")
        with Operations.context(MigrationContext.configure(connection)):
            upgrade()
        assert len(sa.inspect(connection).get_indexes("shelf")) == 2
    engine.dispose()


if __name__ == "__main__":
    check()
