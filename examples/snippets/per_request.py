"""Snippets of the page "Run every request in a transaction"."""

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, non_transactional, on_commit, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
# start config
app.config["DBKIT_TX_PER_REQUEST"] = True
# end config
dbkit.init_app(app)


class Note(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


# start view
@app.post("/notes")
def add_note() -> tuple[str, int]:
    note = Note(text=request.form["text"])
    db.session.add(note)
    if len(note.text) > 40:
        return "That is too long.", 422  # 400 and above: rolled back
    on_commit(app.logger.debug, "A new note.")
    return "Saved.", 201


# end view


# start opt-out
@app.post("/import")
@non_transactional
def import_notes() -> str:
    for line in request.get_data(as_text=True).splitlines():
        with transaction():  # one transaction per line
            db.session.add(Note(text=line))
    return "Done."


# end opt-out


# start replay
@app.post("/notes/last")
@transaction(retry=3)
def repeat_last_note() -> str:
    last = db.session.scalars(select(Note).order_by(Note.id.desc()).limit(1)).one()
    db.session.add(Note(text=last.text))
    return last.text


# end replay


def texts() -> list[str]:
    with app.app_context():
        return list(db.session.scalars(select(Note.text).order_by(Note.id)))


def check() -> None:
    with app.app_context():
        db.create_all()
    client = app.test_client()
    assert client.post("/notes", data={"text": "tea"}).status_code == 201
    assert client.post("/notes", data={"text": "x" * 41}).status_code == 422
    assert texts() == ["tea"]
    assert client.post("/import", data="milk\nbread").text == "Done."
    assert texts() == ["tea", "milk", "bread"]
    assert client.post("/notes/last").text == "bread"
    assert texts() == ["tea", "milk", "bread", "bread"]
    with app.app_context():
        db.engine.dispose()


if __name__ == "__main__":
    check()
