"""Snippets of the page "Set SQLite pragmas"."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_dbkit import Base, ConfigError, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


def create_app() -> Flask:
    app = Flask(__name__)
    # start pragmas
    app.config["DBKIT_SQLITE_PRAGMAS"] = {
        "synchronous": "FULL",  # survive a power cut without losing the last commits
        "cache_size": -32_768,  # 32 MiB per connection
        "journal_size_limit": None,  # SQLite's own
    }
    # end pragmas
    dbkit.init_app(app)
    return app


def check() -> None:
    with create_app().app_context():

        def ask(pragma: str) -> object:
            return db.session.scalar(text(f"PRAGMA {pragma}"))

        assert (ask("synchronous"), ask("cache_size")) == (2, -32_768)
        assert ask("journal_size_limit") == -1
        assert (ask("foreign_keys"), ask("journal_mode")) == (1, "wal")

    app = Flask(__name__)
    app.config["DBKIT_SQLITE_PRAGMAS"] = {"sinchronous": "FULL"}
    try:
        dbkit.init_app(app)
    except ConfigError as error:
        assert error.nearest == "synchronous"
    else:
        raise AssertionError("a misspelt pragma was accepted")


if __name__ == "__main__":
    check()
