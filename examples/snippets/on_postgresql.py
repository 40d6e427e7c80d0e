"""Snippets of the page "Run on PostgreSQL and PgBouncer".

Backends: postgresql
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


def create_app() -> Flask:
    app = Flask("shop")
    # start options
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": 10,
        "connect_args": {"connect_timeout": 2, "application_name": "shop-web"},
    }
    # end options
    dbkit.init_app(app)
    return app


def create_app_behind_pgbouncer() -> Flask:
    app = Flask("shop")
    # start pgbouncer
    app.config["DBKIT_POOLER"] = "pgbouncer"
    # end pgbouncer
    dbkit.init_app(app)
    return app


def check() -> None:
    with create_app().app_context():
        assert db.session.scalar(text("SHOW application_name")) == "shop-web"
        assert db.session.scalar(text("SHOW TimeZone")) == "UTC"
        assert db.engine.pool.size() == 10
        db.session.remove()
        db.engine.dispose()

    with create_app_behind_pgbouncer().app_context():
        assert db.session.scalar(text("SHOW application_name")) == "shop"
        assert db.session.scalar(text("SHOW TimeZone")) == "UTC"
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
