"""Applications with health checks that show everything and remember nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base


class Kit(NamedTuple):
    """An application, its client and its kit."""

    app: Flask
    client: FlaskClient
    kit: DBKit
    path: Path

    def get(self, path: str = "/health/ready", **headers: str) -> tuple[int, dict[str, Any]]:
        response = self.client.get(path, headers=headers)
        return response.status_code, response.get_json(force=True)

    def codes(self, path: str = "/health/ready") -> set[str]:
        """Return the codes of everything that did not pass."""
        _, body = self.get(path)
        return {
            entry["code"]
            for entries in body["checks"].values()
            for entry in entries
            if entry["status"] != "pass"
        }

    def create_tables(self) -> None:
        with self.app.app_context():
            self.kit.db.create_all()


MakeKit = Callable[..., Kit]


@pytest.fixture
def make_kit(tmp_path: Path) -> Iterator[MakeKit]:
    """Return a function that makes an application with one model.

    On a SQLite file of its own, unless ``url`` says otherwise. Details are shown, nothing is
    cached and a busy machine has time, unless the configuration says otherwise.
    """
    made: list[Kit] = []

    def make(url: str | None = None, *, tables: bool = True, **config: Any) -> Kit:
        path = tmp_path / f"health-{len(made)}.db"
        base = declarative_base()
        db = SQLAlchemy(model_class=base)
        kit = DBKit(db=db)
        app = Flask("shop", instance_path=str(tmp_path / "instance"))
        app.config.update(
            SQLALCHEMY_DATABASE_URI=url or f"sqlite:///{path}",
            DBKIT_HEALTH_DETAILS="always",
            DBKIT_HEALTH_TTL=0,
            DBKIT_HEALTH_TIMEOUT=5,  # tests about deadlines set their own
        )
        app.config.update(config)
        kit.init_app(app)

        class Book(base):  # type: ignore[misc, valid-type]
            id: Mapped[int] = mapped_column(primary_key=True)

        made.append(Kit(app, app.test_client(), kit, path))
        if tables:
            made[-1].create_tables()
        return made[-1]

    yield make
    for each in made:
        with each.app.app_context():
            for engine in each.kit.db.engines.values():
                engine.dispose()
