"""Snippets of the page "Configure databases"."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import Base, ConfigError, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


def create_app() -> Flask:
    app = Flask(__name__)
    # start config
    app.config.update(
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.db",
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 4},
        SQLALCHEMY_BINDS={
            "archive": "sqlite:///archive.db",
            "metrics": {"url": "sqlite:///metrics.db", "echo": False},
        },
    )
    # end config
    dbkit.init_app(app)
    return app


def create_production_app() -> Flask:
    app = Flask(__name__)
    # start production
    app.config["DBKIT_REQUIRE_DATABASE_URL"] = True
    dbkit.init_app(app)
    # end production
    return app


def check() -> None:
    import os

    app = create_app()
    with app.app_context():
        assert set(db.engines) == {None, "archive", "metrics"}
        assert db.engine.pool.size() == 4
        assert str(db.engine.url).endswith("/instance/shop.db")

    os.environ["DATABASE_URL"] = "postgres://reader:secret@db.example/shop"
    app = create_production_app()
    with app.app_context():
        assert db.engine.url.drivername == "postgresql+psycopg"

    del os.environ["DATABASE_URL"]
    try:
        create_production_app()
    except ConfigError as error:
        assert error.key == "SQLALCHEMY_DATABASE_URI"
    else:
        raise AssertionError("the production check let the development file pass")


if __name__ == "__main__":
    check()
