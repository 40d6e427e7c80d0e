"""An atlas of two countries; what a test does to it is undone by the plugin of Flask-DBKit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from atlas import create_app
from atlas.extensions import db
from atlas.models import Continent, Country, Place
from flask import Flask
from flask.testing import FlaskClient

from flask_dbkit import transaction

pytest_plugins = ["flask_dbkit.pytest_plugin"]


def make_app(url: str, folder: Path) -> Flask:
    config = {"TESTING": True, "SECRET_KEY": "test", "SQLALCHEMY_DATABASE_URI": url}
    return create_app(config, instance_path=str(folder))


@pytest.fixture(scope="session")
def dbkit_schema(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Fill a database once; every process of pytest gets a copy of it."""

    def fill(url: str) -> None:
        with make_app(url, tmp_path_factory.mktemp("filled")).app_context(), transaction():
            db.create_all()
            add_places()

    return fill


def add_places() -> None:
    db.session.add(Continent(code="EU", name="Europe"))
    db.session.add_all(
        Country(
            code=code,
            iso3=iso3,
            name=name,
            population=1_000_000,
            area_km2=1_000.0,
            continent_code="EU",
        )
        for code, iso3, name in (("FR", "FRA", "France"), ("IS", "ISL", "Iceland"))
    )
    # More than a page, and every third with the same name.
    db.session.add_all(
        Place(
            id=number,
            name="Saint-Martin" if number % 3 == 0 else f"Ville {number:02}",
            country_code="FR",
            population=number * 100,
            latitude=46.0,
            longitude=2.0,
            time_zone="Europe/Paris",
        )
        for number in range(1, 31)
    )
    db.session.add(
        Place(
            id=31,
            name="Þórshöfn",
            country_code="IS",
            region_code="40",
            population=0,
            latitude=66.2,
            longitude=-15.3,
            time_zone="Atlantic/Reykjavik",
            alternate_names="Thorshofn\nТоурсхёбн",
        )
    )


@pytest.fixture(scope="session")
def app(dbkit_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(dbkit_database_url, tmp_path_factory.mktemp("instance"))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def hidden_fields(client: FlaskClient) -> Callable[[str], dict[str, str]]:
    """Return a function that reads the hidden fields of the form at an address."""

    def read(url: str) -> dict[str, str]:
        page = client.get(url).text
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))

    return read
