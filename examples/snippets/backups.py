"""Snippets of the page "Back up and restore"."""

import sys

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import BackupError, Base, DBKit, transaction

# start function
from flask_dbkit.backups import create_backup, list_backups, restore_backup, switch_lines


def back_up_before(change: str) -> str:
    manifest = create_backup(verify=True)
    print(f"Before {change}: {manifest.id}, {sum(manifest.tables.values())} rows")
    return manifest.id


# end function

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Book(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))


def create_app() -> Flask:
    app = Flask(__name__)
    # start settings
    app.config["DBKIT_BACKUP_DIR"] = "/var/backups/shop"
    app.config["DBKIT_BACKUP_KEEP"] = {"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12}
    # end settings
    # start encryption
    app.config["DBKIT_BACKUP_FILTER"] = (
        "age -r age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    )
    app.config["DBKIT_BACKUP_UNFILTER"] = "age -d -i /etc/shop/backup.key"
    # end encryption
    # What stands above is for a server; this file runs anywhere.
    app.config["DBKIT_BACKUP_DIR"] = "backups"
    reverse = [
        sys.executable,
        "-c",
        "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])",
    ]
    app.config["DBKIT_BACKUP_FILTER"] = app.config["DBKIT_BACKUP_UNFILTER"] = reverse
    dbkit.init_app(app)
    return app


def check() -> None:
    app = create_app()
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all([Book(title="Emma"), Book(title="Ulysses")])
        made = back_up_before("the deployment")
        (listed,) = list_backups()
        assert (listed.id, listed.manifest.verified) == (made, True)
        restored = restore_backup(made)
        assert switch_lines(restored)[0].startswith('SQLALCHEMY_DATABASE_URI = "sqlite:///')
        try:
            restore_backup(made)
        except BackupError as error:
            assert error.code == "target.not_empty"
        else:
            raise AssertionError("a restore wrote over a file")
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
