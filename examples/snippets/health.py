"""Snippets of the page "Tell an orchestrator how the application is"."""

import hmac
import os

from flask import Flask, Request
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import Base, DBKit, health_blueprint

os.environ.setdefault("PROBE_TOKEN", "a long random text")
db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
# start details
app.config["DBKIT_HEALTH_DETAILS"] = "authorized"


@dbkit.health.authorize
def may_see_details(request: Request) -> bool:
    given = request.headers.get("X-Probe-Token", "")
    return hmac.compare_digest(given.encode(), os.environ["PROBE_TOKEN"].encode())


# end details


class Search:
    """Stands for the client of a service."""

    waiting = 3

    def queue_length(self, timeout: float) -> int:
        return self.waiting


search = Search()


# start own
@dbkit.health.check("search", critical=False, timeout=0.5, ttl=5)
def search_queue() -> object:
    waiting = search.queue_length(timeout=0.4)
    if waiting > 1000:
        raise dbkit.health.Fail("search.overloaded", waiting=waiting)
    if waiting > 100:
        raise dbkit.health.Warn("search.slow", waiting=waiting)
    return dbkit.health.passed(observed=waiting, unit="jobs")


# end own

dbkit.init_app(app)
# start mount
app.register_blueprint(health_blueprint(name="internal_health"), url_prefix="/internal")
# end mount


def stop() -> None:
    # start drain
    dbkit.health.drain()
    # end drain


def check() -> None:
    with app.app_context():
        db.create_all()
    client = app.test_client()
    token = {"X-Probe-Token": "a long random text"}
    assert client.get("/health").get_json(force=True) == {"status": "pass"}
    checks = client.get("/health", headers=token).get_json(force=True)["checks"]
    assert checks["search"][0]["observedValue"] == 3
    assert client.get("/internal/ready").status_code == 200
    # start run
    with app.app_context():
        report = dbkit.health.run("readiness")
    print(report.status, report.checks["db:default"][0]["code"])
    # end run
    assert report.status == "pass"
    stop()
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    with app.app_context():
        db.engine.dispose()


if __name__ == "__main__":
    check()
