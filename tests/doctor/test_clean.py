"""An application that is as it should be: what ``flask dbkit init`` writes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import flask_dbkit
from flask_dbkit.databases import POSTGRESQL, SQLITE, Database
from flask_dbkit.starting.files import files_of
from flask_dbkit.starting.writing import write_all

URLS = {"sqlite": "sqlite:///{}/shop.db", "postgresql": "postgresql://shop:x@127.0.0.1/shop"}


@pytest.mark.parametrize("kind", [SQLITE, POSTGRESQL], ids=lambda one: one.name)
def test_a_new_application_has_no_finding(
    kind: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the machine it is written on nor, with its two variables, where it is deployed."""
    name = f"clean_{kind.name}"
    write_all(tmp_path, files_of(name, kind))
    monkeypatch.setattr(flask_dbkit, "Base", flask_dbkit.declarative_base())  # that of this process
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for variable in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DATABASE_URL", URLS[kind.name].format(tmp_path))
    monkeypatch.setenv("FLASK_SECRET_KEY", "3f0c2a9d5b7e4c1f8a6d")
    package = importlib.import_module(name)
    dbkit = importlib.import_module(f"{name}.extensions").dbkit
    with package.create_app().app_context():
        assert dbkit.doctor.run(db=False) == []
        there = dbkit.doctor.run(db=False, deploy=True)
    # That there is no backup yet, and how many rows its keys are good for.
    assert [each for each in there if each.level != "info"] == []
    assert {each.id for each in there} <= {"DK091", "DK043"}
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[module]
