"""Snippets of the page "Use transactions in jobs and scripts"."""

import click
from flask import Flask
from flask.cli import with_appcontext
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, delete, func, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, job, session_scope, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Login(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    day: Mapped[int]


# start command
@click.command("forget-logins")
@click.option("--before", type=int, required=True)
@with_appcontext
def forget_logins(before: int) -> None:
    """Delete the logins of the days before this one."""
    with transaction():
        db.session.execute(delete(Login).where(Login.day < before))


# end command


def create_app() -> Flask:
    app = Flask(__name__)
    dbkit.init_app(app)
    app.cli.add_command(forget_logins)
    return app


# start job
@job(retries=2)
def count_logins(day: int) -> int:
    statement = select(func.count()).select_from(Login).where(Login.day == day)
    return db.session.scalar(statement) or 0


# end job


# start script
def main(dry_run: bool) -> None:
    app = create_app()
    with session_scope(app, commit=not dry_run) as session:
        session.add(Login(name="ada", day=3))


# end script


def check() -> None:
    app = create_app()
    with app.app_context():
        db.create_all()
    main(dry_run=True)
    main(dry_run=False)
    with app.app_context():
        assert count_logins(3) == 1
    result = app.test_cli_runner().invoke(args=["forget-logins", "--before", "4"])
    assert result.exit_code == 0, result.output
    with app.app_context():
        assert count_logins(3) == 0
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
