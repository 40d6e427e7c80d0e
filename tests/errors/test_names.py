"""Constraint, table and column are found whatever language and signs their names have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import DBAPIError

from flask_dbkit import DBKit, classify
from tests.support.databases import Database

NAMES = ["größe", "имя", "列", "a b", "a.b", "a, b", "it's", 'a"b', "a`b", "a(b)", "$x%"]


def test_any_name_that_a_database_accepts_is_found(
    make_app: Callable[..., Flask], database: Database
) -> None:
    """The answer's fields and the application's own words depend on it."""
    app = make_app()
    db = SQLAlchemy()
    DBKit(app, db=db)
    tables = []
    for number, name in enumerate(NAMES):
        table = sa.Table(
            f"t {name}",
            db.metadata,
            sa.Column(f"id {name}", sa.Integer, primary_key=True),
            sa.Column(f"u {name}", sa.Integer, info={"n": number}),
            sa.Column(f"n {name}", sa.Integer, nullable=False),
            sa.Column(
                f"f {name}",
                sa.Integer,
                sa.ForeignKey(f"t{number}.id", name=f"fk {name}"),
            ),
            sa.UniqueConstraint(f"u {name}", f"n {name}", name=f"uq {name}"),
            sa.CheckConstraint(sa.column(f"n {name}") < 100, name=f"ck {name}"),
        )
        sa.Table(f"t{number}", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
        tables.append(table)
    wrong = []
    with app.app_context():
        db.create_all()
        try:
            for name, table in zip(NAMES, tables, strict=True):
                row = {f"u {name}": 1, f"n {name}": 1}
                db.session.execute(table.insert().values({f"id {name}": 1, **row}))
                db.session.commit()
                broken: dict[str, dict[str, object]] = {
                    "uq": {f"id {name}": 2, **row},
                    "ck": {f"id {name}": 3, f"n {name}": 101},
                    "nn": {f"id {name}": 4, f"n {name}": None},
                    "fk": {f"id {name}": 5, f"n {name}": 5, f"f {name}": 77},
                }
                for kind, values in broken.items():
                    with pytest.raises(DBAPIError) as caught:
                        db.session.execute(table.insert().values(values))
                    db.session.rollback()
                    problem = classify(caught.value)
                    assert problem is not None
                    columns = {"uq": (f"u {name}", f"n {name}"), "fk": (f"f {name}",)}.get(
                        kind, (f"n {name}",)
                    )
                    constraint = None if kind == "nn" else f"{kind} {name}"
                    found = (problem.table, problem.constraint, tuple(problem.columns))
                    if found != (table.name, constraint, columns):
                        wrong.append((kind, name, found))
        finally:
            db.drop_all()
    assert wrong == []
