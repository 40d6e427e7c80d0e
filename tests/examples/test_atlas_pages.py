"""The pages of the demo on every database; ``examples/atlas/tests`` has the fine points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from atlas import loader
from atlas.extensions import db
from atlas.forms import PlaceForm
from atlas.models import DataLoad, Place
from flask import Flask
from flask.testing import FlaskClient

from tests.examples.small_world import MakeAtlas, make_source
from tests.support.warm_python import WarmPython

ATLAS = Path(__file__).parents[2] / "examples" / "atlas"


@pytest.fixture
def app(make_atlas: MakeAtlas) -> Flask:
    app = make_atlas()
    with app.app_context():
        loader.load(db.session(), make_source, lambda done, total: None)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def fill(client: FlaskClient, url: str, **fields: str) -> dict[str, str]:
    page = client.get(url).text
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)) | fields


def test_all_pages_together_show_every_place_once(client: FlaskClient) -> None:
    """Names that occur many times do not make a place appear twice, or never."""
    seen = []
    for number in range(1, 9):
        page = client.get(f"/?page={number}")
        seen += [int(text) for text in re.findall(r'href="/places/(\d+)"', page.text)]
    assert sorted(seen) == list(range(1, 201))


STRANGE_QUERIES = (
    "page=abc", "page=-1", "page=%00", "page=1e3", f"page={10**30}", f"page={'9' * 6000}",
    "page=9", "country=%00%00", "country=ÄÖ", "country=A", "country='--", "page=1&page=%ff",
    "endpoint=x", "_external=1", "sort=nonsense", "cursor=%00",
)  # fmt: skip


def test_no_address_makes_a_server_error(client: FlaskClient) -> None:
    """What a visitor types is at worst a mistake; a number no column can hold is no place."""
    answers = {query: client.get(f"/?{query}").status_code for query in STRANGE_QUERIES}
    assert {query: status for query, status in answers.items() if status >= 500} == {}
    for number in (2**31 - 1, 2**31, 2**63, 10**30):
        assert client.get(f"/places/{number}").status_code == 404


def test_an_edit_is_saved_in_every_script(app: Flask, client: FlaskClient) -> None:
    """The form accepts all of Unicode, and the database keeps it."""
    url = "/places/7/edit"
    data = fill(client, url, name="𠮷野家 الرياض", population="2147483647", region_code="")
    assert client.post(url, data=data).status_code == 303
    with app.app_context():
        place = db.session.get_one(Place, 7)
        assert (place.name, place.population, place.region_code, place.version) == (
            "𠮷野家 الرياض",
            2147483647,
            None,
            2,
        )
        assert place.updated_at > place.created_at


def test_saving_unchanged_values_is_no_new_version(client: FlaskClient) -> None:
    """An editor who saves without a change conflicts with nobody."""
    url = "/places/8/edit"
    data = fill(client, url, name="Springfield", population="200", region_code="")
    assert client.post(url, data=data).status_code == 303
    assert fill(client, url)["version"] == "1"


def test_the_second_of_two_editors_is_told(client: FlaskClient) -> None:
    """Nobody's edit is overwritten unseen."""
    url = "/places/9/edit"
    first = fill(client, url, name="First", population="1", region_code="")
    second = first | {"name": "Second"}
    assert client.post(url, data=first).status_code == 303
    answer = client.post(url, data=second)
    assert answer.status_code == 409
    assert 'value="Second"' in answer.text
    assert "<bdi>First</bdi>" in answer.text


# Not SQLite: there a POST holds the write lock from its start, and nobody comes in between.
@pytest.mark.requires("server")
def test_an_edit_between_reading_and_saving_is_noticed(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is checked by the UPDATE itself, so a race of milliseconds is a conflict."""
    original = PlaceForm.apply

    def apply_after_somebody_else(form: PlaceForm, place: Place) -> None:
        with db.engine.begin() as connection:
            connection.execute(
                sa.update(Place).where(Place.id == 9).values(name="Other", version=2)
            )
        original(form, place)

    monkeypatch.setattr(PlaceForm, "apply", apply_after_somebody_else)
    url = "/places/9/edit"
    answer = client.post(url, data=fill(client, url, name="Mine", population="1"))
    assert answer.status_code == 409
    assert "<bdi>Other</bdi>" in answer.text


def test_an_empty_database_is_named_on_the_page(make_atlas: MakeAtlas) -> None:
    """Whoever forgot to load the data reads how to."""
    page = make_atlas().test_client().get("/")
    assert page.status_code == 503
    assert "flask --app atlas load" in page.text


def test_the_marker_says_what_was_loaded(app: Flask) -> None:
    """The row that guards the load also documents it."""
    with app.app_context():
        marker = db.session.get_one(DataLoad, 1)
        assert (marker.source, marker.places) == ("small world", 200)


def test_the_example_passes_its_own_tests(warm_python: WarmPython) -> None:
    """They run as its readers would run them: from its folder, with its settings."""
    run = warm_python.run("python -m pytest -q -p no:cacheprovider", ATLAS)
    assert run.returncode == 0, run.stdout


def test_duplicates_are_merged_in_savepoints(app: Flask, client: FlaskClient) -> None:
    """One duplicate that was changed meanwhile is left alone; the others are merged."""
    with app.app_context():
        places = db.session.scalars(sa.select(Place).order_by(Place.id).limit(3)).all()
        for place in places:
            place.name, place.country_code = "Twin", places[0].country_code
        db.session.commit()
        kept, first, second = ((place.id, place.version) for place in places)
    url = f"/places/{kept[0]}/merge"
    data = fill(client, url) | {
        "duplicate": [f"{first[0]}v{first[1] + 7}", f"{second[0]}v{second[1]}"]
    }
    assert client.post(url, data=data).status_code == 303
    page = client.get(f"/places/{kept[0]}").text
    assert "1 merged into this place." in page
    assert "1 left as they are" in page
    assert client.get(f"/places/{first[0]}").status_code == 200
    assert client.get(f"/places/{second[0]}").status_code == 404
