"""The atlas on the databases of the suite, with a small world in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from atlas import create_app
from atlas.extensions import db
from flask import Flask

from tests.examples.small_world import MakeAtlas
from tests.support.databases import Database


@pytest.fixture
def make_atlas(database: Database, tmp_path: Path) -> Iterator[MakeAtlas]:
    """Return a function that makes the atlas on ``database``, without tables."""
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        defaults = {
            "TESTING": True,
            "SECRET_KEY": "test",
            "SQLALCHEMY_DATABASE_URI": database.url,
        }
        made.append(create_app(defaults | config, instance_path=str(tmp_path / "instance")))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()
