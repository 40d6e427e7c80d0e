"""Snippets of the pages about migrations."""

from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import inspect
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit
from flask_dbkit.migrations import upgrade

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
# start env
ENV = """
from alembic import context
from flask_dbkit.migrations import run_env

run_env(context)
"""
# end env


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)


def create_app(folder: Path) -> Flask:
    app = Flask(__name__, instance_path=str(folder))
    app.config["DBKIT_MIGRATIONS_DIR"] = folder / "migrations"
    dbkit.init_app(app)
    return app


# start upgrade
def bring_up_to_date(app: Flask) -> None:
    with app.app_context():
        for bind, revisions in upgrade().items():
            app.logger.info("%s: %d revisions applied", bind, len(revisions))


# end upgrade


def check() -> None:
    with TemporaryDirectory() as folder:
        app = create_app(Path(folder))
        run = app.test_cli_runner().invoke
        assert run(args=["dbkit", "migrate", "init"]).exit_code == 0
        assert ENV.strip() in (Path(folder) / "migrations" / "env.py").read_text()
        assert run(args=["dbkit", "migrate", "new", "-m", "books"]).exit_code == 0
        bring_up_to_date(app)
        with app.app_context():
            assert inspect(db.engine).has_table("book")
            db.engine.dispose()


if __name__ == "__main__":
    check()
