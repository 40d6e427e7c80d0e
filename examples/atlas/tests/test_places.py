from __future__ import annotations

import pytest
from flask import redirect
from flask.testing import FlaskClient


def test_the_front_page_lists_the_largest_places_first(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "<b>31</b> places" in page.text
    order = [page.text.index(name) for name in ("Saint-Martin", "Ville 29", "Ville 28")]
    assert order == sorted(order)
    assert 'rel="next"' in page.text


def test_the_second_page_goes_on_where_the_first_ends(client: FlaskClient) -> None:
    first, second = client.get("/").text, client.get("/?page=2").text
    for number in (1, 2, 4, 29):
        assert (f"Ville {number:02}" in first) != (f"Ville {number:02}" in second)
    assert "Þórshöfn" in second


def test_a_country_has_a_list_of_its_own(client: FlaskClient) -> None:
    page = client.get("/?country=is").text
    assert "Þórshöfn" in page
    assert "Ville" not in page


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/?page=abc", 400),
        ("/?page=0", 400),
        ("/?page=-1", 400),
        ("/?page=", redirect("/").status_code),
        ("/?page=%00", 400),
        ("/?page=٣", 400),
        ("/?page=3", 404),
        (f"/?page={10**30}", 400),
        (f"/?page={'9' * 6000}", 400),
        ("/?country=ZZ", 404),
        ("/?country=%00%00", 404),
        ("/?endpoint=x&_scheme=y&_anchor=z", 200),
        ("/places/404", 404),
        (f"/places/{2**31}", 404),
        (f"/places/{10**30}", 404),
        ("/nowhere", 404),
    ],
)
def test_a_strange_address_gets_a_page_that_says_so(
    client: FlaskClient, url: str, status: int
) -> None:
    page = client.get(url)
    assert page.status_code == status
    assert "<h1>" in page.text


def test_a_place_shows_its_facts_and_its_neighbours_in_size(client: FlaskClient) -> None:
    page = client.get("/places/10").text
    assert "1,000" in page
    assert [f"Ville {number:02}" in page for number in (7, 8, 11, 13, 14)] == [
        True,
        True,
        True,
        True,
        False,
    ]


def test_a_place_of_unknown_population_says_so(client: FlaskClient) -> None:
    page = client.get("/places/31").text
    assert "unknown" in page
    assert "Тоурсхёбн" in page
    assert "66.2000° N, 15.3000° W" in page


def test_countries_are_listed_with_the_number_of_their_places(client: FlaskClient) -> None:
    page = client.get("/countries").text
    assert "France" in page
    assert ">30<" in page
