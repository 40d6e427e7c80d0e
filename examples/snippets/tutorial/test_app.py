from pathlib import Path

from app import Book, db
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select


def add(client: FlaskClient, author: str, title: str) -> None:
    answer = client.post("/books", data={"author": author, "title": title})
    assert answer.status_code == 303


def test_a_book_added_twice_is_on_the_list_once(client: FlaskClient) -> None:
    add(client, "Stanisław Lem", "Solaris")
    add(client, "Stanisław Lem", "Solaris")
    assert client.get("/").text.count("Solaris") == 1


def test_who_saw_an_old_page_cannot_overwrite(app: Flask, client: FlaskClient) -> None:
    add(client, "Stanisław Lem", "Solaris")
    with app.app_context():
        book = db.session.scalars(select(Book)).one()
        finish = f"/books/{book.id}/finish"
    assert client.post(finish, data={"version": "1"}).status_code == 303
    assert client.post(finish, data={"version": "1"}).status_code == 409
    with app.app_context():
        book = db.session.scalars(select(Book)).one()
        assert book.finished_at is not None
        assert book.version == 2


def test_a_file_is_imported_as_a_whole_or_not_at_all(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "books.csv"
    file.write_text("author,title\nStanisław Lem,Solaris\nStanisław Lem\n", encoding="utf-8")
    result = app.test_cli_runner().invoke(args=["import-books", str(file)])
    assert isinstance(result.exception, ValueError)
    assert "Solaris" not in app.test_client().get("/").text
