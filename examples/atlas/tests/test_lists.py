from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient


def names(text: str) -> list[str]:
    return re.findall(r'href="/places/\d+"><bdi>([^<]+)', text)


def test_a_column_head_sorts_by_it_and_the_other_way_next_time(client: FlaskClient) -> None:
    page = client.get("/?sort=-population").text
    assert names(page)[:2] == ["Saint-Martin", "Ville 29"]
    assert 'aria-sort="descending"' in page
    assert 'href="/?sort=population"' in page
    assert 'href="/?sort=name"' in page


def test_a_filter_narrows_the_list_and_stays_in_its_links(client: FlaskClient) -> None:
    page = client.get("/?name__icontains=ville&population__gte=500&population__lte=800").text
    assert names(page) == ["Ville 08", "Ville 07", "Ville 05"]
    assert "name__icontains=ville" in page
    assert 'value="ville"' in page


def test_what_looks_like_a_pattern_is_text(client: FlaskClient) -> None:
    assert names(client.get("/?name__icontains=%25").text) == []
    assert "No place matches." in client.get("/?name__icontains=_").text


def test_empty_fields_of_the_form_leave_the_address(client: FlaskClient) -> None:
    answer = client.get("/?name__icontains=&country=FR&population__gte=&population__lte=")
    assert (answer.status_code // 100, answer.location) == (3, "/?country=FR")


def test_pages_by_cursor_show_every_place_once(client: FlaskClient) -> None:
    url: str | None = "/api/places/feed?sort=-population&per_page=7"
    seen: list[int] = []
    while url is not None:
        body = client.get(url).get_json()
        seen += [item["id"] for item in body["items"]]
        url = body["links"]["next"]
    assert seen == [*range(30, 0, -1), 31]


def test_the_feed_page_pages_by_cursor(client: FlaskClient) -> None:
    first = client.get("/feed").text
    following = re.search(r'href="([^"]*cursor=[^"]+)" rel="next"', first)
    assert following is not None
    second = client.get(following[1].replace("&amp;", "&")).text
    assert len(names(first)) == 25
    assert set(names(first)) - {"Saint-Martin"} != set(names(second))
    assert "Þórshöfn" in second


def test_the_api_answers_pages_by_number(client: FlaskClient) -> None:
    answer = client.get("/api/places?page=2&per_page=10&sort=-population")
    body = answer.get_json()
    assert [item["id"] for item in body["items"]] == list(range(20, 10, -1))
    assert body["pagination"]["total"] == 31
    assert 'rel="next"' in answer.headers["Link"]


def test_the_api_collects_the_mistakes_of_a_request(client: FlaskClient) -> None:
    answer = client.get("/api/places?sort=secret&population__gte=many&page=0")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    codes = {error["code"] for error in answer.get_json()["errors"]}
    assert codes == {"query.unknown_sort", "query.bad_value", "query.bad_page"}


@pytest.mark.parametrize("query", ["sort=secret", "cursor=x", "population__gte=many"])
def test_a_visitor_sees_a_page_that_says_what_was_not_understood(
    client: FlaskClient, query: str
) -> None:
    answer = client.get(f"/feed?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == 400
    assert "not understood" in answer.text
    assert len(names(answer.text)) == 25  # the list stays, without what was wrong


def test_a_wrong_value_stays_in_its_field_with_the_message_beside_it(client: FlaskClient) -> None:
    answer = client.get("/?population__gte=1.000.000&name__icontains=ville&sort=name")
    assert answer.status_code == 400
    assert names(answer.text)[0] == "Ville 01"  # what was right is done
    assert 'value="1.000.000"' in answer.text
    assert 'aria-describedby="population__gte-error"' in answer.text
    assert answer.text.count("Write a whole number in digits only") == 2  # above, and beside


def test_every_page_leads_behind_itself(client: FlaskClient) -> None:
    page = client.get("/?country=FR&sort=name").text
    assert 'href="/api/places?country=FR&amp;sort=name">This list as JSON' in page
    strip = page.partition('<aside class="behind"')[2].partition("</aside>")[0]
    links = dict(re.findall(r'<a href="([^"]+)">([^<]+)</a>', strip))
    assert " · ".join(links.values()) == (
        "This list as JSON · OpenAPI · Health · Source of this view · Conflict in two tabs"
        " · One query for each row"
    )
    for href in links:
        assert client.get(href.replace("&amp;", "&")).status_code == 200
    source = client.get("/behind/source/places.index").text
    assert "def index()" in source
    assert "PLACE_SORT = SortAllowlist(" in source
    assert "def _store" in client.get("/behind/source/places.save").text
    assert client.get("/behind/source/static").status_code == 404
    assert "This place as JSON" in client.get("/places/31").text
    with client.get("/favicon.ico") as icon:
        assert icon.mimetype == "image/svg+xml"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/", "Listing"),
        ("/feed", "OFFSET"),
        ("/places/3", "Timestamps"),
        ("/places/3/edit", "Versioned"),
        ("/places/3/merge", "savepoint()"),
        ("/countries/FR/edit", "ConflictProblem"),
        ("/behind/source/places.edit", "transaction()"),
    ],
)
def test_every_page_says_what_the_library_does_there(
    client: FlaskClient, url: str, name: str
) -> None:
    strip = client.get(url).text.partition("<b>Flask-DBKit here:</b>")[2].partition("</p>")[0]
    assert f"<code>{name}</code>" in strip
    error = client.get("/places/404404").text
    assert "become pages such as this one" in error


def test_the_section_is_marked_on_all_its_pages(client: FlaskClient) -> None:
    for url in ("/", "/feed", "/places/3", "/places/3/edit", "/places/3/merge"):
        assert re.search(r'href="/"\s+aria-current="(page|true)"', client.get(url).text), url
    assert "Show all" not in client.get("/?sort=name").text
    assert "Show all" in client.get("/?country=FR").text


def test_the_foot_of_the_page_tells_its_queries(client: FlaskClient) -> None:
    for url in ("/", "/places/3", "/countries", "/behind/n-plus-one"):
        page = client.get(url).text
        assert re.search(r"\d quer(y|ies), \d+\.\d ms in the database", page), url
        assert "SELECT" in page
    assert re.search(r"ms · places\.py:\d+\nSELECT", client.get("/places/3").text)


def test_in_production_no_page_tells_its_queries(app: Flask) -> None:
    app.testing = False
    assert "in the database" not in app.test_client().get("/").text


def test_a_page_shows_one_query_for_each_row_and_two_cures(client: FlaskClient) -> None:
    page = client.get("/behind/n-plus-one").text
    assert "<b>11 queries</b>" in page
    assert "10 times the same statement" in page
    assert "undefer()" in page
    for cure, queries in {"option": "1 query", "peers": "2 queries"}.items():
        cured = client.get(f"/behind/n-plus-one?cure={cure}").text
        assert f"<b>{queries}</b>" in cured
        assert "No statement was repeated" in cured
        assert re.findall("<li><bdi>.*", cured) == re.findall("<li><bdi>.*", page)


def test_the_description_names_the_parameters(client: FlaskClient) -> None:
    paths = client.get("/api/openapi.json").get_json()["paths"]
    by_number = {item["name"] for item in paths["/api/places"]["get"]["parameters"]}
    assert {"sort", "page", "per_page", "country", "name__icontains"} <= by_number
    assert "cursor" not in by_number
