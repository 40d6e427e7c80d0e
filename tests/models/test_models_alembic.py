"""What Alembic does with tables made from ``Base``."""

# Parents that a fixture picks at run time mean nothing to a type checker; tests/typing is for that.
# mypy: disable-error-code="name-defined,misc,valid-type,no-redef,attr-defined"
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportRedeclaration=false
# pyright: reportIncompatibleVariableOverride=false, reportUntypedBaseClass=false
# pyright: reportCallIssue=false

from __future__ import annotations

import io
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import (
    NAMING_CONVENTION,
    Timestamps,
    UTCDateTime,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)

Base: Any = declarative_base()


class Shelf(UUIDPrimaryKey, Base):
    name: Mapped[str] = mapped_column(String(20), index=True)


class Book(Timestamps, Versioned, Base):
    __table_args__ = (
        UniqueConstraint("shelf_id", "title"),
        CheckConstraint("price > 0", name="positive"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20))
    shelf_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Shelf.id))
    read_at: Mapped[datetime | None]
    price: Mapped[Decimal | None]
    extra: Mapped[dict[str, Any] | None]


@pytest.fixture
def connection(engine: sa.Engine) -> Any:
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection


def test_autogenerate_finds_nothing_to_do(connection: sa.Connection) -> None:
    """Names and types compare equal with what the database made of them."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, Base.metadata) == []


@pytest.mark.backends("sqlite-file", "sqlite-memory")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("uq_book_shelf_id_title", "unique"),
        ("fk_book_shelf_id_shelf", "foreignkey"),
        ("ck_book_positive", "check"),
    ],
)
def test_batch_mode_drops_a_constraint_by_its_name(
    connection: sa.Connection, name: str, kind: str
) -> None:
    """SQLite copies the table; what has no name there can never be dropped."""
    operations = Operations(MigrationContext.configure(connection))
    conventional = {"naming_convention": NAMING_CONVENTION}
    with operations.batch_alter_table("book", **conventional) as batch:  # type: ignore[arg-type]
        batch.drop_constraint(name, type_=kind)
    (ddl,) = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'book'").one()
    assert name not in ddl
    assert "pk_book" in ddl


def test_a_migration_writes_the_type_as_it_is_imported() -> None:
    """The generated file names ``flask_dbkit.types.UTCDateTime()``, and that can be run."""
    column: Any = sa.Column("at", UTCDateTime())
    upgrade = ops.UpgradeOps([ops.AddColumnOp("book", column)])
    code = render_python_code(upgrade)
    assert "sa.Column('at', flask_dbkit.types.UTCDateTime(), nullable=True)" in code


def test_sql_for_an_offline_migration_names_the_column_type() -> None:
    """``--sql`` has no connection to ask."""
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="mysql", opts={"as_sql": True, "output_buffer": out}
    )
    column: Any = sa.Column("at", UTCDateTime())
    Operations(context).add_column("book", column)
    assert "ADD COLUMN at DATETIME(6)" in out.getvalue()
