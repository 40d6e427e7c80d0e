"""What the type checkers are told about an application is also true when it runs."""

from __future__ import annotations

from datetime import UTC

from tests.support.databases import Database


def test_the_typed_application_runs(database: Database) -> None:
    """``make lint`` checks the types of this file; here it does what they say."""
    from tests.typing import library_app

    app = library_app.create_app(database.url)
    db = library_app.db
    with app.app_context():
        library_app.db.create_all()
        books = library_app.fill()
        db.session.commit()
        assert {book.slug for book in books} == {"sea", "a", "b"}
        (sea,) = [book for book in books if book.slug == "sea"]
        assert sea.author is not None
        assert (sea.title, sea.author.name, sea.version) == ("Sea", "Ann", 2)
        assert sea.created_at.tzinfo is UTC
        db.session.remove()
        for path in ("/books", "/feed", "/spot"):
            items = app.test_client().get(path).get_json()["items"]
            shown = {one if isinstance(one, str) else one["title"] for one in items}
            assert "Sea" in shown
        titles = app.test_client().get("/titles").get_json()
        assert titles[:2] == ["/titles?sort=-title", "ascending"]
        db.session.remove()
        db.drop_all()
        db.engine.dispose()
    assert library_app.Note.metadata is library_app.other_db.metadata
