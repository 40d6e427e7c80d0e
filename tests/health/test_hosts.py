"""Probes of applications whose URL map looks at hosts."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, url_for
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base, health_blueprint

PROBES = ("/health/live", "/health/ready", "/health/startup", "/livez", "/readyz", "/healthz")
HOSTS = ("http://10.0.0.7:8080", "http://shop.example", "http://tenant.shop.example")


def make(**options: Any) -> Flask:
    app = Flask("shop", **options)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    if options.get("subdomain_matching"):
        app.config["SERVER_NAME"] = "shop.example"
    app.config["TRUSTED_HOSTS"] = ["shop.example"] if options.get("host_matching") else None
    DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
    return app


@pytest.mark.filterwarnings("ignore:Current server name")
@pytest.mark.parametrize(
    "options",
    [{}, {"host_matching": True, "static_host": "shop.example"}, {"subdomain_matching": True}],
    ids=["plain", "host_matching", "subdomain_matching"],
)
def test_probes_answer_whatever_host_was_asked_for(options: dict[str, Any]) -> None:
    """Probes, aliases, details, a blueprint mounted by hand; with a slash behind, too."""
    app = make(**options)
    app.register_blueprint(health_blueprint("internal"), url_prefix="/internal")
    client = app.test_client()
    trusted = app.config["TRUSTED_HOSTS"]
    for host in HOSTS:
        for path in (*PROBES, "/health", "/internal/live", "/internal"):
            if path in ("/health", "/internal") and trusted and host != HOSTS[1]:
                continue  # an ordinary view: the application says whom it trusts
            assert client.get(path, base_url=host).status_code == 200, (host, path)
        for path in PROBES:
            assert client.get(f"{path}/", base_url=host).status_code == 200, (host, path)
    with app.test_request_context(base_url="http://shop.example"):
        assert url_for("dbkit_health.ready").endswith("/health/ready")


def test_a_rule_of_the_application_for_a_host_wins() -> None:
    """Whether it names the host or takes any."""
    for host in ("shop.example", "<tenant>"):
        app = make(host_matching=True, static_host="static.example")
        app.config["TRUSTED_HOSTS"] = None
        app.add_url_rule("/health/live", "own", lambda **_: ("own", 418), host=host)
        client = app.test_client()
        assert client.get("/health/live", base_url="http://shop.example").status_code == 418
        assert client.get("/health/ready", base_url="http://shop.example").status_code == 200
