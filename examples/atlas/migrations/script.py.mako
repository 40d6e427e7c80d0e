<%
from flask_dbkit.migrations import bind_names
names = bind_names()
%>"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

import sqlalchemy as sa
from alembic import op
% if imports:
${imports}
% endif

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

% if names == [""]:

def upgrade():
    ${context.get("_upgrades") or "pass"}


def downgrade():
    ${context.get("_downgrades") or "pass"}
% else:

def upgrade(engine_name):
    globals()["upgrade_" + engine_name]()


def downgrade(engine_name):
    globals()["downgrade_" + engine_name]()
% for name in names:


def upgrade_${name}():
    ${context.get(name + "_upgrades") or "pass"}


def downgrade_${name}():
    ${context.get(name + "_downgrades") or "pass"}
% endfor
% endif
