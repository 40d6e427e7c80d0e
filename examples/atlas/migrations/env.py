"""Alembic's environment: every database of the application, migrated by Flask-DBKit.

Options of ``context.configure()``, such as ``include_object``, go into the call below.
"""

from alembic import context

from flask_dbkit.migrations import run_env

run_env(context)
