"""What a balancer and an operator see of the atlas."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient


def test_the_atlas_is_ready_and_says_that_it_has_no_data_yet(client: FlaskClient) -> None:
    answer = client.get("/readyz").get_json(force=True)
    assert answer["status"] == "warn"
    assert answer["checks"]["data"][0]["code"] == "data.missing"


def test_details_are_for_this_machine(client: FlaskClient) -> None:
    assert "checks" in client.get("/health").get_json(force=True)
    elsewhere = client.get("/health", environ_base={"REMOTE_ADDR": "203.0.113.9"})
    assert elsewhere.get_json(force=True).keys() == {"status"}


def test_details_are_for_the_token_if_there_is_one(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "HEALTH_TOKEN", "a long random text")
    assert "checks" not in client.get("/health").get_json(force=True)
    allowed = client.get("/health", headers={"X-Health-Token": "a long random text"})
    assert "checks" in allowed.get_json(force=True)


def test_an_operator_reads_a_page(client: FlaskClient) -> None:
    page = client.get("/health", headers={"Accept": "text/html"})
    assert page.mimetype == "text/html"
    assert "db:default" in page.text
