from pathlib import Path

from app import Book, db
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

SOLARIS = {"author": "Stanisław Lem", "title": "Solaris"}


def test_a_book_added_twice_is_on_the_list_once(client: FlaskClient) -> None:
    for _ in range(2):
        assert client.post("/books", data=SOLARIS).status_code == 303
    assert client.get("/").text.count("<td>Solaris</td>") == 1


def test_the_list_is_searched_sorted_and_paged(client: FlaskClient) -> None:
    for number in range(12):
        client.post("/api/books", json={"author": "Somebody", "title": f"Volume {number:02}"})
    answer = client.get("/api/books?title__icontains=volume&sort=-title").json
    assert answer["pagination"]["total"] == 12
    assert [book["title"] for book in answer["items"]][:2] == ["Volume 11", "Volume 10"]
    assert client.get("/?page=2&sort=title").text.count("<td>Volume") == 2


def test_a_second_book_of_the_same_title_is_a_conflict(client: FlaskClient) -> None:
    assert client.post("/api/books", json=SOLARIS).status_code == 201
    answer = client.post("/api/books", json=SOLARIS)
    assert answer.status_code == 409
    assert answer.json["code"] == "conflict.unique"
    assert answer.json["fields"] == ["author_id", "title"]


def test_who_saw_an_old_page_cannot_overwrite(app: Flask, client: FlaskClient) -> None:
    client.post("/books", data=SOLARIS)
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
    assert result.exit_code == 1
    assert "Solaris" not in app.test_client().get("/").text
