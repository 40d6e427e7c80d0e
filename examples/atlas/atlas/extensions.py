"""The extension objects. They hold no application; ``create_app`` binds them to one."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import Base, DBKit

__all__ = ["db", "dbkit"]

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
