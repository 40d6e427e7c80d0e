"""Snippets of the page "Before you ship"."""

from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)


class Parcel(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(sa.String(80))


app = Flask(__name__)
app.config["LABELS"] = Path(app.instance_path, "labels")
# start ignore
app.config["DBKIT_DOCTOR_IGNORE"] = ["DK062", "DK040:parcel.sender_id"]
# end ignore
dbkit.init_app(app)


# start own
@dbkit.doctor.check("SHOP001", tags=["files"], level="error")
def folder_of_labels():
    """The folder of the labels is missing. No parcel can be sent without one."""
    folder = Path(app.config["LABELS"])
    if not folder.is_dir():
        yield dbkit.doctor.finding(
            f"There is no folder {folder.name}", object="LABELS", fix=f"mkdir -p {folder.name}"
        )


# end own


# start test
def test_the_doctor_finds_nothing_new():
    with app.app_context():
        found = dbkit.doctor.run(db=False, tags=["models", "code"])
    assert [f"{each.id} {each.object}: {each.message}" for each in found] == []


# end test

if __name__ == "__main__":
    test_the_doctor_finds_nothing_new()
    with app.app_context():
        (found,) = [each for each in dbkit.doctor.run(db=False) if each.id == "SHOP001"]
    assert found.cause.startswith("The folder of the labels is missing")
    print(found.id, found.level, found.message)
