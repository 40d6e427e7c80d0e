"""Fixtures of the shop's tests."""

import pytest
from shop import create_app
from shop import db as database

pytest_plugins = ["flask_dbkit.pytest_plugin"]


@pytest.fixture(scope="session")
def dbkit_schema():
    def make(url):  # called once, and copied for every process of pytest
        with create_app(url).app_context():
            database.create_all()

    return make


@pytest.fixture(scope="session")
def app(dbkit_database_url):
    return create_app(dbkit_database_url)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def db(app):
    with app.app_context():
        yield database
