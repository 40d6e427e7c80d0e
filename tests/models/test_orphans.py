"""Models on a base that no ``SQLAlchemy`` object has are found at start, and said."""

from __future__ import annotations

import gc
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.models.orphans import CodePlace, orphaned_models

pytestmark = pytest.mark.backends("sqlite-memory")
MakeApp = Callable[..., Flask]
WORDS = r"Author belongs to no database .* SQLAlchemy\(model_class=Base\)"


def _author(base: Any, **attributes: Any) -> Any:
    columns = {"id": mapped_column(primary_key=True), "__annotations__": {"id": Mapped[int]}}
    return type("Author", (base,), {**columns, **attributes, "__module__": __name__})


@pytest.fixture(autouse=True)
def forget_models() -> None:
    """Those of the test before are no models of this one's application."""
    gc.collect()


@pytest.mark.parametrize("bind_key", [None, "logs"])
@pytest.mark.parametrize("model_class", [None, declarative_base])
def test_a_model_of_no_database_is_said_when_the_application_starts(
    make_app: MakeApp, model_class: Any, bind_key: str | None
) -> None:
    """Whether its base is forgotten or another one was given; today, or with a bind key."""
    base = declarative_base()
    author = _author(base, **({"__bind_key__": bind_key} if bind_key else {}))
    db = SQLAlchemy(model_class=model_class()) if model_class else SQLAlchemy()
    with pytest.warns(RuntimeWarning, match=WORDS):
        DBKit(db=db).init_app(make_app())
    assert author.metadata.tables


def test_a_model_that_is_imported_later_is_said_before_its_first_statement(
    make_app: MakeApp,
) -> None:
    """A factory may import its blueprints, and with them the models, after ``init_app``."""
    app, db = make_app(), SQLAlchemy()
    DBKit(db=db).init_app(app)
    author = _author(declarative_base())
    with app.app_context(), pytest.warns(RuntimeWarning, match=WORDS):
        db.create_all()
    with app.app_context():
        db.engine.dispose()
        db.create_all()  # said once
    assert author.metadata.tables


def test_a_base_that_is_in_use_is_not_mentioned(make_app: MakeApp) -> None:
    """By another object, by its metadata, or with models of both kinds in one database."""
    shared, by_metadata = declarative_base(), declarative_base()
    models = [_author(shared), _author(by_metadata)]
    other = SQLAlchemy(model_class=shared)
    db = SQLAlchemy(metadata=by_metadata.metadata)

    class Plain(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DBKit(db=db).init_app(make_app())
    assert [model.metadata for model in models] == [other.metadata, db.metadata]


@pytest.mark.parametrize("write", [True, False])
def test_a_model_of_another_database_is_said_when_its_table_is_not_there(
    make_app: MakeApp, write: bool
) -> None:
    """Its base was given to an object that this application does not have."""
    base = declarative_base()
    author = _author(base)
    elsewhere, db = SQLAlchemy(model_class=base), SQLAlchemy()
    app = make_app()
    DBKit(db=db).init_app(app)
    with app.app_context():
        with pytest.raises(OperationalError) as caught:
            if write:
                db.session.add(author())
                db.session.flush()
            else:
                db.session.scalars(select(author)).all()
        assert re.search(WORDS, "".join(caught.value.__notes__))
        db.session.rollback()
        author.metadata.create_all(db.engine)  # on purpose, and now it is there
        with pytest.raises(IntegrityError) as broken:
            db.session.execute(insert(author), [{"id": 1}, {"id": 1}])
        assert getattr(broken.value, "__notes__", []) == []
    assert elsewhere.metadata is author.metadata


def test_whose_model_it_is_follows_from_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's package or folder; other code of the process has its own ways."""
    package = tmp_path / "orphanage"
    package.mkdir()
    model = textwrap.dedent("""
        from sqlalchemy.orm import Mapped, mapped_column
        from flask_dbkit import declarative_base
        Base = declarative_base()
        class Author(Base):
            id: Mapped[int] = mapped_column(primary_key=True)
    """)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(model)
    (package / "shop").mkdir()
    for name in ("__init__.py", "models.py"):
        (package / "shop" / name).write_text(model if name == "models.py" else "")
    monkeypatch.syspath_prepend(str(tmp_path))
    import orphanage.models as found  # type: ignore[import-not-found]
    import orphanage.shop.models as deeper  # type: ignore[import-not-found]

    nobody: frozenset[str] = frozenset()
    for place, expected in (
        (CodePlace("orphanage", "/", nobody), [found.Author, deeper.Author]),
        (CodePlace("orphanage.app", "/", nobody), [found.Author, deeper.Author]),
        (CodePlace("app", str(package), nobody), [found.Author]),
        (CodePlace("app", "/", frozenset({"orphanage.models"})), [found.Author]),
        (CodePlace("elsewhere", "/", nobody), []),
    ):
        told = sorted(orphaned_models([], place), key=lambda model: model.__module__)
        assert told == expected, place
    for name in [name for name in sys.modules if name.partition(".")[0] == "orphanage"]:
        del sys.modules[name]
