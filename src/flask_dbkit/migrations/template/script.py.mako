<%
from flask_dbkit.migrations import bind_names
names = bind_names()
needed = {"import sqlalchemy as sa", "from alembic import op", *(imports or "").splitlines()}
%>"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision or "-" | comma,n}
Create Date: ${create_date}
"""

% for line in sorted(filter(None, needed), key=lambda line: (line.startswith("from"), line)):
${line}
% endfor

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

% if names == [""]:

def upgrade() -> None:
    ${context.get("_upgrades") or "pass"}


def downgrade() -> None:
    ${context.get("_downgrades") or "pass"}
% else:

def upgrade(engine_name: str) -> None:
    globals()["upgrade_" + engine_name]()


def downgrade(engine_name: str) -> None:
    globals()["downgrade_" + engine_name]()
% for name in names:


def upgrade_${name}() -> None:
    ${context.get(name + "_upgrades") or "pass"}


def downgrade_${name}() -> None:
    ${context.get(name + "_downgrades") or "pass"}
% endfor
% endif
