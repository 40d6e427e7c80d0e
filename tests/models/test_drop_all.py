"""``drop_all()`` on SQLite, for tables that no order can drop one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import mapped_column

from flask_dbkit import DBKit, declarative_base, transaction

MakeApp = Callable[..., Flask]


def _ring(base: Any, length: int, **attributes: Any) -> list[Any]:
    """Make models of which each refers to the next one, and the last to the first."""
    models = []
    for number in range(length):
        target = f"ring{(number + 1) % length}.id"
        key = sa.ForeignKey(target, use_alter=number == 0, name=f"fk_{number}")
        columns = {
            "id": mapped_column(sa.Integer, primary_key=True),
            "other_id": mapped_column(sa.Integer, key),
        }
        name = f"Ring{number}"
        models.append(type(name, (base,), {"__tablename__": name.lower(), **columns, **attributes}))
    return models


@pytest.mark.parametrize("bind_key", [None, "rings"])
def test_drop_all_drops_tables_that_refer_to_each_other(
    make_app: MakeApp, database: Any, bind_key: str | None
) -> None:
    """Rings of any length and rows that refer to themselves; and keys are checked afterwards."""
    on_sqlite = database.name.startswith("sqlite")
    for length in (1, 2, 3) if on_sqlite else (1,):
        base = declarative_base()
        db = SQLAlchemy(model_class=base)
        given = {"SQLALCHEMY_BINDS": {"rings": database.url}} if bind_key else {}
        app = make_app(**given)
        DBKit(db=db).init_app(app)
        models = _ring(base, length, **({"__bind_key__": bind_key} if bind_key else {}))
        with app.app_context():
            db.create_all()
            with transaction(multi_bind="best_effort"):
                db.session.add_all([model(id=1) for model in models])
                db.session.flush()
                for model in models:
                    db.session.get_one(model, 1).other_id = 1
            db.drop_all(bind_key=bind_key)
            engine = db.engines[bind_key]
            assert sa.inspect(engine).get_table_names() == []
            if on_sqlite:
                _check_foreign_keys(db, engine, models)
            db.session.remove()


def _check_foreign_keys(db: SQLAlchemy, engine: sa.Engine, models: list[Any]) -> None:
    """In this connection, and one statement at a time."""
    tables = [model.__table__ for model in models]
    models[0].metadata.create_all(engine)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1
        assert connection.scalar(sa.text("PRAGMA defer_foreign_keys")) == 0
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            connection.execute(tables[-1].insert().values(id=1, other_id=9))
    models[0].metadata.drop_all(engine, tables=tables)


@pytest.mark.backends("sqlite-memory")
def test_unfinished_work_in_memory_names_what_ends_it(make_app: MakeApp) -> None:
    """The one connection is the session's; a test that forgot to end it is told how to."""
    base = declarative_base()
    db = SQLAlchemy(model_class=base)
    (ring,) = _ring(base, 1)
    app = make_app()
    DBKit(db=db).init_app(app)
    with app.app_context():
        db.create_all()
        db.session.add(ring(id=1))
        db.session.flush()
        with pytest.raises(OperationalError, match=r"db\.session\.remove\(\)"):
            db.drop_all()
        db.session.remove()
        db.drop_all()
