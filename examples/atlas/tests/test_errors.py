from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

Fields = Callable[[str], dict[str, str]]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
URL = "/countries/FR/edit"
PLACE = {"name": "Þórshöfn", "population": 350, "region_code": "40"}


def test_a_code_that_another_country_has_is_a_page(
    client: FlaskClient, hidden_fields: Fields
) -> None:
    form = {"iso3": "isl", **hidden_fields(URL)}
    answer = client.post(URL, data=form, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (409, "text/html")
    assert "Another country has this code." in answer.text
    assert "Nothing was saved." in answer.text
    assert 'value="ISL"' in answer.text  # as it was typed, with the message beside it
    assert 'aria-describedby="iso3-hint iso3-error"' in answer.text


def test_a_code_that_another_country_has_is_a_problem(client: FlaskClient) -> None:
    answer = client.patch("/api/countries/FR", json={"iso3": "ISL"})
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    problem = answer.get_json()
    assert problem["code"] == "conflict.unique"
    assert (problem["detail"], problem["fields"]) == ("Another country has this code.", ["iso3"])


def test_a_free_code_is_saved(client: FlaskClient, hidden_fields: Fields) -> None:
    answer = client.post(URL, data={"iso3": "fxx", **hidden_fields(URL)})
    assert answer.status_code == 303
    assert "France is saved." in client.get("/countries").text
    assert client.patch("/api/countries/fr", json={"iso3": "FRA"}).get_json()["iso3"] == "FRA"


@pytest.mark.parametrize("iso3", ["", "FR", "FRAN", "fr4", "ФРА"])
def test_what_is_no_code_is_refused(client: FlaskClient, hidden_fields: Fields, iso3: str) -> None:
    form = {"iso3": iso3, **hidden_fields(URL)}
    assert client.post(URL, data=form, headers=BROWSER).status_code == 422
    answer = client.patch("/api/countries/FR", json={"iso3": iso3})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["iso3"])


def test_a_country_that_is_not_there_is_a_404(client: FlaskClient) -> None:
    assert client.get("/countries/ZZ/edit").status_code == 404
    answer = client.patch("/api/countries/ZZ", json={"iso3": "ZZZ"})
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_a_program_replaces_the_place_it_has_seen(client: FlaskClient) -> None:
    seen = client.get("/api/places/31")
    assert seen.headers["ETag"] == '"1"'
    answer = client.put("/api/places/31", json=PLACE, headers={"If-Match": '"1"'})
    assert answer.get_json()["population"] == 350
    assert answer.headers["ETag"] == '"2"'


def test_a_stale_edit_is_a_problem(client: FlaskClient) -> None:
    client.put("/api/places/31", json=PLACE)
    answer = client.put("/api/places/31", json=PLACE, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.get_json()["code"]) == (412, "conflict.stale")
    assert client.put("/api/places/31", json=PLACE, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "population"]),
        ({"name": "", "population": -1}, ["name", "population"]),
        ({"name": ["x"], "population": True}, ["name", "population"]),
        ({"name": "x", "population": 2**70}, ["population"]),
        ([], [""]),
    ],
)
def test_wrong_values_are_told_by_field(
    client: FlaskClient, body: object, fields: list[str]
) -> None:
    answer = client.put("/api/places/31", json=body)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, fields)


def test_text_that_is_no_unicode_is_a_problem(client: FlaskClient) -> None:
    answer = client.put("/api/places/31", json={"name": "\ud800", "population": 1})
    assert (answer.status_code, answer.get_json()["code"]) == (422, "invalid.value")


def test_a_form_cannot_pass_for_json(client: FlaskClient) -> None:
    assert client.put("/api/places/31", data={"name": "x"}).status_code == 400
