"""Fixtures of the shop's tests."""

import pytest
from shop import create_app
from shop import db as database

pytest_plugins = ["flask_dbkit.pytest_plugin"]


@pytest.fixture(scope="session")
def app(dbkit_database_url):
    app = create_app(dbkit_database_url)
    with app.app_context():
        database.create_all()
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def db(app):
    with app.app_context():
        yield database
