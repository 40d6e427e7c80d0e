from collections.abc import Callable

import pytest
from app import create_app, db
from flask import Flask
from flask.testing import FlaskClient

pytest_plugins = ["flask_dbkit.pytest_plugin"]


def make_app(url: str) -> Flask:
    return create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": url})


@pytest.fixture(scope="session")
def dbkit_schema() -> Callable[[str], None]:
    def create_tables(url: str) -> None:
        with make_app(url).app_context():
            db.create_all()

    return create_tables


@pytest.fixture(scope="session")
def app(dbkit_database_url: str) -> Flask:
    return make_app(dbkit_database_url)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
