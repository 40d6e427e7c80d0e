"""places of the world

The tables may be there: versions of the atlas without migrations made them with create_all().

Revision ID: 4928d80ecfcc
Revises:
Create Date: 2026-11-25 20:32:36.815107
"""

# dbkit: ignore DM502 on MariaDB every statement can be repeated
import sqlalchemy as sa
from alembic import op

import flask_dbkit.types

revision = "4928d80ecfcc"
down_revision = None
branch_labels = None
depends_on = None

UTF8 = {
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_unicode_520_ci",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_unicode_520_ci",
}


def upgrade():
    create_table(
        "continent",
        sa.Column("code", sa.String(2), primary_key=True),
        sa.Column("name", sa.String(50), nullable=False),
    )
    create_table(
        "country",
        sa.Column("code", sa.String(2), primary_key=True),
        sa.Column("iso3", sa.String(3), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("capital", sa.String(100)),
        sa.Column("population", sa.Integer, nullable=False),
        sa.Column("area_km2", sa.Double, nullable=False),
        sa.Column("continent_code", sa.String(2), nullable=False),
        sa.ForeignKeyConstraint(
            ["continent_code"], ["continent.code"], op.f("fk_country_continent_code_continent")
        ),
        sa.UniqueConstraint("iso3", name=op.f("uq_country_iso3")),
    )
    create_index("country", "continent_code")
    create_index("country", "name")
    create_table(
        "place",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("country_code", sa.String(2), nullable=False),
        sa.Column("region_code", sa.String(20)),
        sa.Column("population", sa.Integer, nullable=False),
        sa.Column("latitude", sa.Double, nullable=False),
        sa.Column("longitude", sa.Double, nullable=False),
        sa.Column("time_zone", sa.String(40), nullable=False),
        sa.Column("alternate_names", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", flask_dbkit.types.UTCDateTime, nullable=False),
        sa.Column("updated_at", flask_dbkit.types.UTCDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["country_code"], ["country.code"], op.f("fk_place_country_code_country")
        ),
    )
    create_index("place", "name", "id")
    create_index("place", "country_code", "name", "id")
    create_index("place", "country_code", "population", "id")
    create_index("place", "population", "id")
    create_index("place", "time_zone", "id")
    create_index("place", "created_at")
    create_table(
        "data_load",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("places", sa.Integer, nullable=False),
        sa.Column("started_at", flask_dbkit.types.UTCDateTime, nullable=False),
    )


def downgrade():
    for table in ("data_load", "place", "country", "continent"):
        op.drop_table(table)


def create_table(name, *items):
    op.create_table(name, *items, if_not_exists=True, **UTF8)


def create_index(table, *columns):
    # MySQL, unlike MariaDB, has no CREATE INDEX IF NOT EXISTS.
    dialect = op.get_context().dialect
    may_be_there = dialect.name != "mysql" or dialect.is_mariadb
    name = op.f(f"ix_{table}_{'_'.join(columns)}")
    op.create_index(name, table, list(columns), if_not_exists=may_be_there)
