"""Per-request mode beside other people's extensions, whichever comes first."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import flask_debugtoolbar
import flask_restx
import pytest
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func, select

from flask_dbkit import DBKit, in_transaction

from .conftest import Base, Entry

Patch = Callable[[Flask], None]


def make_site(make_app: Callable[..., Flask], *, before: Patch, after: Patch) -> Any:
    """An application in per-request mode with one view that writes; extensions around the kit."""
    app = make_app(DBKIT_TX_PER_REQUEST=True, DEBUG=True, SECRET_KEY="a key")
    db = SQLAlchemy(model_class=Base)
    before(app)
    DBKit(db=db).init_app(app)
    with app.app_context():
        Base.metadata.create_all(db.engine, tables=[Entry.__table__])

    def add(n: int) -> Any:
        db.session.add(Entry(n=n))
        assert request.endpoint is not None
        return f"in_transaction()={in_transaction()}", 422 if n > 10 else 200

    app.add_url_rule("/<int:n>", "add", add, methods=["POST"])
    after(app)
    api = app.config.get("api")
    if api is not None:

        class Adding(flask_restx.Resource):  # type: ignore[misc]
            def post(self, n: int) -> Any:
                answer, status = add(n)
                return {"answer": answer}, status

        api.add_resource(Adding, "/rest/<int:n>")

    def count() -> int:
        with app.app_context():
            return db.session.scalar(select(func.count()).select_from(Entry)) or 0

    return app, count


def nothing(_app: Flask) -> None:
    """Change nothing."""


def dispatch(app: Flask) -> None:
    def dispatch_request() -> Any:
        assert request.url_rule is not None
        view = app.view_functions[request.url_rule.endpoint]
        return app.ensure_sync(view)(**request.view_args or {})

    setattr(app, "dispatch_request", dispatch_request)


def full_dispatch(app: Flask) -> None:
    def full_dispatch_request() -> Any:
        view: Any = app.view_functions.get(request.endpoint or "")
        return app.make_response(view(**request.view_args or {}))

    setattr(app, "full_dispatch_request", full_dispatch_request)


def views_wrapped(app: Flask) -> None:
    def wrapped(view: Any) -> Any:
        @wraps(view)
        def call(**arguments: Any) -> Any:
            answer, status = view(**arguments)  # as the view returns it
            return answer.upper(), status

        return call

    app.view_functions["add"] = wrapped(app.view_functions["add"])


def table_replaced(app: Flask) -> None:
    app.view_functions = dict(app.view_functions.items())


def toolbar(app: Flask) -> None:
    flask_debugtoolbar.DebugToolbarExtension(app)


def restx(app: Flask) -> None:
    app.config["api"] = flask_restx.Api(app, doc=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (nothing, dispatch),
        (dispatch, nothing),
        (nothing, full_dispatch),
        (full_dispatch, nothing),
        (nothing, views_wrapped),
        (nothing, table_replaced),
        (nothing, toolbar),
        (toolbar, nothing),
        (restx, nothing),
        (nothing, restx),
        (restx, toolbar),
    ],
    ids=lambda patch: patch.__name__,
)
@pytest.mark.backends("sqlite-file")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Could not insert debug toolbar")
def test_views_run_in_a_scope_whoever_dispatches_them(
    make_app: Callable[..., Flask], before: Patch, after: Patch
) -> None:
    """The scope is where the view is looked up, in the table that everybody takes it from."""
    app, count = make_site(make_app, before=before, after=after)
    client = app.test_client()
    answer = client.post("/1")
    assert (answer.status_code, answer.text.lower()) == (200, "in_transaction()=true")
    assert client.post("/11").status_code == 422
    assert count() == 1
    if restx in (before, after):
        assert client.post("/rest/2").status_code == 200
        assert client.post("/rest/12").status_code == 422
        assert count() == 2


@pytest.mark.backends("sqlite-file", "postgresql")
def test_a_view_that_is_called_past_its_scope_is_refused_by_name(
    make_app: Callable[..., Flask],
) -> None:
    """A 200 whose work is lost must not leave: who has kept the views of old is named."""

    def keeps_views(app: Flask) -> None:
        views = dict(app.view_functions)

        def dispatch_request() -> Any:
            return views[request.endpoint or ""](**request.view_args or {})

        setattr(app, "dispatch_request", dispatch_request)

    app, count = make_site(make_app, before=nothing, after=keeps_views)
    app.testing = True
    with pytest.raises(RuntimeError, match=r"app\.dispatch_request by .*keeps_views"):
        app.test_client().post("/1")
    assert count() == 0
