from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

URL = "/places/31/edit"
Fields = Callable[[str], dict[str, str]]


def fill(hidden: dict[str, str], **changes: str) -> dict[str, str]:
    return {"name": "Þórshöfn", "population": "350", "region_code": "40"} | hidden | changes


def test_a_saved_edit_is_shown(client: FlaskClient, hidden_fields: Fields) -> None:
    answer = client.post(URL, data=fill(hidden_fields(URL)))
    assert (answer.status_code, answer.location) == (303, "/places/31")
    page = client.get("/places/31").text
    assert "350" in page
    assert "Þórshöfn is saved." in page


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", " ", "A place needs a name."),
        ("name", "x" * 201, "at most 200 characters"),
        ("name", "a\x00b", "letters, digits and punctuation"),
        ("population", "many", "whole number"),
        ("population", "-1", "whole number"),
        ("population", str(2**31), "whole number"),
        ("population", "٣", "whole number"),
        ("population", "9" * 6000, "whole number"),
        ("region_code", "x" * 21, "at most 20 characters"),
    ],
)
def test_a_mistake_is_shown_at_its_field_and_nothing_is_saved(
    client: FlaskClient, hidden_fields: Fields, field: str, value: str, message: str
) -> None:
    answer = client.post(URL, data=fill(hidden_fields(URL), **{field: value}))
    assert answer.status_code == 422
    assert message in answer.text
    assert f'id="{field}-error"' in answer.text
    assert hidden_fields(URL)["version"] == "1"


def test_the_second_of_two_editors_sees_what_the_first_saved(
    client: FlaskClient, hidden_fields: Fields
) -> None:
    before = hidden_fields(URL)
    client.post(URL, data=fill(before, population="351"))
    answer = client.post(URL, data=fill(before, population="349"))
    assert answer.status_code == 409
    assert "Stored now: <b><bdi>351</bdi></b>" in answer.text
    assert "351" in client.get("/places/31").text


def test_a_conflict_can_be_settled_by_saving_again(
    client: FlaskClient, hidden_fields: Fields
) -> None:
    before = hidden_fields(URL)
    client.post(URL, data=fill(before, population="351"))
    client.post(URL, data=fill(before, population="349"))
    answer = client.post(URL, data=fill(before, version="2", population="349"))
    assert answer.status_code == 303
    assert "349" in client.get("/places/31").text


@pytest.mark.parametrize("token", [None, "", "wrong", "ü"])
def test_a_form_without_its_token_is_refused(
    client: FlaskClient, hidden_fields: Fields, token: str | None
) -> None:
    data = fill(hidden_fields(URL))
    del data["csrf_token"]
    if token is not None:
        data["csrf_token"] = token
    assert client.post(URL, data=data).status_code == 400
    assert hidden_fields(URL)["version"] == "1"
