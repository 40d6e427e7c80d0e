"""An atlas of two countries, in a database of the test's own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from atlas import create_app
from atlas.extensions import db
from atlas.models import Continent, Country, Place
from flask import Flask
from flask.testing import FlaskClient


def make_app(folder: Path) -> Flask:
    """Make the application; its database and what else it keeps is in ``folder``."""
    url = f"sqlite:///{folder / 'atlas.db'}"
    config = {"TESTING": True, "SECRET_KEY": "test", "SQLALCHEMY_DATABASE_URI": url}
    return create_app(config, instance_path=str(folder))


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a database once; every test gets a copy of it."""
    folder = tmp_path_factory.mktemp("filled")
    with make_app(folder).app_context():
        db.create_all()
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
        db.session.commit()
        db.engine.dispose()
    return folder


@pytest.fixture
def app(filled_folder: Path, tmp_path: Path) -> Iterator[Flask]:
    shutil.copytree(filled_folder, tmp_path, dirs_exist_ok=True)
    app = make_app(tmp_path)
    yield app
    with app.app_context():
        db.engine.dispose()


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
