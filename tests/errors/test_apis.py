"""Applications whose resources belong to an extension that answers errors itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Blueprint, Flask
from flask.views import MethodView
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import IntegrityError

from flask_dbkit import ConflictProblem, DBKit, QueryError, SortAllowlist, declarative_base

JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html"}


def provoke(db: SQLAlchemy, what: str) -> str:
    if what == "sort":
        SortAllowlist({"id": sa.column("id")}, default="id").apply(sa.select(1), "name")
    if what == "away":
        db.session.execute(sa.text("SELECT 1"), bind_arguments={"bind": db.engines["away"]})
    db.session.execute(sa.text("INSERT INTO u VALUES (1)"))
    return "not reached"


def restx(app: Flask, db: SQLAlchemy, where: Any) -> Any:
    from flask_restx import Api, Resource

    api = Api(where)

    @api.route("/resource/<what>")
    class Users(Resource):  # type: ignore[misc]
        def get(self, what: str) -> str:
            return provoke(db, what)

    return api


def restful(app: Flask, db: SQLAlchemy, where: Any) -> Any:
    from flask_restful import Api, Resource

    class Users(Resource):  # type: ignore[misc]
        def get(self, what: str) -> str:
            return provoke(db, what)

    api = Api(where)
    api.add_resource(Users, "/resource/<what>")
    return api


def smorest(app: Flask, db: SQLAlchemy, where: Any) -> Any:
    from flask_smorest import Api
    from flask_smorest import Blueprint as Resources

    app.config.update(API_TITLE="shop", API_VERSION="1", OPENAPI_VERSION="3.0.3")
    api = Api(app)
    resources = Resources("resources", __name__)

    @resources.route("/resource/<what>")
    class Users(MethodView):
        def get(self, what: str) -> str:
            return provoke(db, what)

    api.register_blueprint(resources)
    return api


def apiflask(app: Flask, db: SQLAlchemy, where: Any) -> Any:
    app.add_url_rule("/resource/<what>", view_func=lambda what: provoke(db, what))
    return None


MAKERS: dict[str, Callable[[Flask, SQLAlchemy, Any], Any]] = {
    "Flask-RESTX": restx,
    "Flask-RESTful": restful,
    "flask-smorest": smorest,
    "APIFlask": apiflask,
}


def make(name: str, *, api_first: bool, on_blueprint: bool = False) -> tuple[Flask, Any]:
    kind: Any = Flask
    if name == "APIFlask":
        from apiflask import APIFlask

        kind = APIFlask
    app: Flask = kind("shop")
    app.config.update(
        SQLALCHEMY_DATABASE_URI="sqlite://",
        SQLALCHEMY_BINDS={"away": "sqlite:////nowhere/at/all.db"},
    )
    db = SQLAlchemy(model_class=declarative_base())
    where: Any = Blueprint("api", __name__) if on_blueprint else app
    if api_first:
        api = MAKERS[name](app, db, where)
        DBKit(app, db=db)
    else:
        DBKit(app, db=db)
        api = MAKERS[name](app, db, where)
    if on_blueprint:
        app.register_blueprint(where, url_prefix="")
    app.add_url_rule("/view/<what>", "view", lambda what: provoke(db, what))
    with app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE u (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO u VALUES (1)")
    return app, api


@pytest.mark.parametrize("api_first", [False, True], ids=["kit first", "api first"])
@pytest.mark.parametrize(
    ("name", "on_blueprint"),
    [*((name, False) for name in MAKERS), ("Flask-RESTX", True), ("Flask-RESTful", True)],
)
def test_a_resource_answers_as_a_plain_view(name: str, api_first: bool, on_blueprint: bool) -> None:
    """Status, code and header are the same, in whichever order the two were initialised."""
    app, _ = make(name, api_first=api_first, on_blueprint=on_blueprint)
    client = app.test_client()
    for what, status, code in (
        ("double", 409, "conflict.unique"),
        ("away", 503, "unavailable"),
        ("sort", 400, "query.invalid"),
    ):
        if what == "sort" and name in ("flask-smorest", "APIFlask"):
            continue  # they register a handler for HTTPException, which a QueryError is
        for path in (f"/view/{what}", f"/resource/{what}"):
            answer = client.get(path, headers=JSON)
            assert (answer.status_code, answer.get_json()["code"]) == (status, code), path
            assert answer.mimetype == "application/problem+json"
            assert ("Retry-After" in answer.headers) == (status == 503)
            assert client.get(path, headers=HTML).status_code == status
    # What is no error of a database is answered as ever.
    assert client.get("/nothing/here").status_code == 404


@pytest.mark.parametrize("kind", [IntegrityError, ConflictProblem])
@pytest.mark.parametrize("api_first", [False, True], ids=["kit first", "api first"])
def test_a_handler_of_the_api_for_the_class_wins(api_first: bool, kind: type[Exception]) -> None:
    """For the exception's own class, or for the problem it is; not one for every exception."""
    app, api = make("Flask-RESTX", api_first=api_first)
    api.errorhandler(kind)(lambda error: ({"message": type(error).__name__}, 418))
    api.errorhandler(Exception)(lambda error: ({"message": "any"}, 500))
    client = app.test_client()
    answer = client.get("/resource/double", headers=JSON)
    assert (answer.status_code, answer.get_json()["message"]) == (418, kind.__name__)
    assert client.get("/resource/away", headers=JSON).status_code == 503
    assert client.get("/view/double", headers=JSON).status_code == 409


def test_messages_by_the_name_of_a_class_win() -> None:
    """As Flask-RESTful has them."""
    app, api = make("Flask-RESTful", api_first=False)
    api.errors = {"IntegrityError": {"message": "taken", "status": 410}}
    answer = app.test_client().get("/resource/double", headers=JSON)
    assert (answer.status_code, answer.get_json()["message"]) == (410, "taken")


def test_the_text_of_a_bad_query_is_not_lost() -> None:
    """A QueryError renders itself; the API would keep its description alone."""
    app, _ = make("Flask-RESTX", api_first=False)
    errors = app.test_client().get("/resource/sort", headers=JSON).get_json()["errors"]
    assert errors[0]["code"] == "query.unknown_sort"
    assert issubclass(QueryError, Exception)
