"""Snippets of the page "Run on MariaDB".

Backends: mariadb
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask("shop")
# start isolation
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"isolation_level": "READ COMMITTED"}
# end isolation
dbkit.init_app(app)


def check() -> None:
    with app.app_context():
        assert db.session.scalar(text("SELECT @@SESSION.time_zone")) == "+00:00"
        assert "STRICT_TRANS_TABLES" in str(db.session.scalar(text("SELECT @@SESSION.sql_mode")))
        assert db.session.scalar(text("SELECT @@character_set_connection")) == "utf8mb4"
        level = db.session.connection().get_isolation_level()
        assert level == "READ COMMITTED", level
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
