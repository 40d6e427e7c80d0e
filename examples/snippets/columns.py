"""Snippets of the page "Keep timestamps, UUID keys and versions"."""

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from flask_dbkit import Base, DBKit, Timestamps, UUIDPrimaryKey, Versioned, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


# start model
class Article(UUIDPrimaryKey, Timestamps, Versioned, Base):
    title: Mapped[str] = mapped_column(String(200))


# end model


# start edit
@app.post("/articles/<uuid:article_id>")
def edit(article_id: object) -> str:
    with transaction():
        article = db.session.get(Article, article_id) or abort(404)
        if request.form["version"] != str(article.version):
            abort(409, "Somebody else has changed this article since you opened it.")
        article.title = request.form["title"]
    return "Saved."


# end edit


# start stale
@app.errorhandler(StaleDataError)
def changed_meanwhile(error: StaleDataError) -> tuple[str, int]:
    return "Somebody else has changed this article at the same moment.", 409


# end stale


def check() -> None:
    client = app.test_client()
    with app.app_context():
        db.create_all()
        # start use
        first, second = Article(title="One"), Article(title="Two")
        db.session.add(first)
        db.session.commit()
        db.session.add(second)
        db.session.commit()

        assert first.id < second.id  # version 7: sorts by the time it was made
        assert first.created_at == first.updated_at
        assert first.version == 1

        first.title = "One"  # what it was already: no UPDATE, the same updated_at
        db.session.commit()
        assert first.version == 1

        first.title = "The first"
        db.session.commit()
        assert first.updated_at > first.created_at
        assert first.version == 2
        # end use
        address = f"/articles/{first.id}"
        db.session.remove()
    form = {"version": "2", "title": "First"}
    assert client.post(address, data=form).status_code == 200
    assert client.post(address, data=form).status_code == 409
    with app.app_context():
        db.engine.dispose()


if __name__ == "__main__":
    check()
