from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from atlas.extensions import db
from atlas.models import Place
from flask import Flask
from flask.testing import FlaskClient

URL = "/places/3/merge"
Fields = Callable[[str], dict[str, str]]


def choices(client: FlaskClient) -> list[str]:
    return re.findall(r'name="duplicate" value="([^"]+)"', client.get(URL).text)


def count(app: Flask) -> int:
    with app.app_context():
        return db.session.scalars(sa.select(sa.func.count(Place.id))).one()


def test_a_place_offers_its_namesakes(client: FlaskClient) -> None:
    assert "9 more places have this name in France" in client.get("/places/3").text
    assert choices(client) == [f"{number}v1" for number in range(6, 31, 3)]
    assert "merge duplicates" not in client.get("/places/31").text
    assert "No other place in Iceland has this name." in client.get("/places/31/merge").text


def test_ticked_duplicates_are_merged(
    app: Flask, client: FlaskClient, hidden_fields: Fields
) -> None:
    data = hidden_fields(URL) | {"duplicate": ["6v1", "30v1"]}
    assert client.post(URL, data=data).location == "/places/3"
    page = client.get("/places/3").text
    assert "2 merged into this place." in page
    assert "3,000" in page  # the larger population
    assert count(app) == 29
    assert client.get("/places/6").status_code == 404


def test_a_duplicate_somebody_edited_is_left_and_the_others_merged(
    app: Flask, client: FlaskClient, hidden_fields: Fields
) -> None:
    data = hidden_fields(URL) | {"duplicate": ["6v1", "9v1"]}
    edit = hidden_fields("/places/6/edit")
    client.post(
        "/places/6/edit",
        data={"name": "Saint-Martin", "population": "601", "region_code": ""} | edit,
    )
    client.post(URL, data=data)
    page = client.get("/places/3").text
    assert "1 merged into this place." in page
    assert "1 left as they are" in page
    assert count(app) == 30
    assert client.get("/places/6").status_code == 200


def test_nothing_ticked_is_told(app: Flask, client: FlaskClient, hidden_fields: Fields) -> None:
    answer = client.post(URL, data=hidden_fields(URL))
    assert answer.status_code == 422
    assert "Nothing was merged." in answer.text
    assert 'name="sure" required' in answer.text  # the question before anything is deleted
    assert count(app) == 31


@pytest.mark.parametrize("text", ["", "6", "v1", "6v1; DROP", "٣v1", "6v" + "9" * 40])
def test_a_choice_that_is_none_is_refused(
    app: Flask, client: FlaskClient, hidden_fields: Fields, text: str
) -> None:
    assert client.post(URL, data=hidden_fields(URL) | {"duplicate": text}).status_code == 400
    assert count(app) == 31
