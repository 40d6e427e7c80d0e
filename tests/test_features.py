"""A feature is one folder and one line in the list of features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dbkit import Config, ConfigError, DBKit, features
from flask_dbkit.application import current_application
from flask_dbkit.cli import dbkit_group
from flask_dbkit.config import SETTINGS
from flask_dbkit.settings import settings_in

ROOM = {
    "settings.py": """
from dataclasses import dataclass
from flask_dbkit.settings import Settings, integer

@dataclass(frozen=True)
class ToySettings(Settings):
    toy_limit: int = integer("DBKIT_TOY_LIMIT", 3, "Most statements of a toy.", low=1, high=9)
""",
    "feature.py": """
from sqlalchemy import event
from flask_dbkit.feature import Feature
from flask_dbkit.health.checks import AppHealth, Check
from flask_dbkit.health.report import FAIL, Result
from .settings import ToySettings

class Toy:
    def __init__(self, limit):
        self.limit, self.seen = limit, []

    def work(self, attempt):
        over = len(self.seen) > self.limit
        return {"toy": Result(FAIL if over else "pass", "toy.over" if over else None)}

def on_engine(bind, setup):
    toy = Toy(setup.settings(ToySettings).toy_limit)
    setup.application.add(toy)
    event.listen(bind.engine, "before_cursor_execute", lambda *a: toy.seen.append(a[2]))

def install(setup):
    toy = setup.application.part(Toy)
    setup.application.part(AppHealth).add(Check("toy", toy.work))

TOY = Feature("toy", settings=ToySettings, commands={"toy": "toy_room.commands"},
              on_engine=on_engine, install=install, doctor=("toy_room.doctor",))
""",
    "doctor.py": """
from flask_dbkit.doctor.checks import check
from flask_dbkit.doctor.findings import Found

@check("DK198", "A toy that is broken", cause="It squeaks.", fix="Oil it.")
def broken(given):
    yield Found(f"{given.app.name} has a toy that is broken")
""",
    "commands.py": '''
import click
from flask_dbkit.application import current_application
from flask_dbkit.cli import dbkit_group
from .feature import Toy

@dbkit_group.command("toy")
def toy():
    """Play."""
    click.echo(f"limit {current_application().part(Toy).limit}")
''',
}


@pytest.fixture
def toy_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "toy_room"
    folder.mkdir()
    for name, text in {"__init__.py": "", **ROOM}.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    from toy_room.feature import TOY  # type: ignore[import-not-found]

    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, TOY))
    yield
    dbkit_group.commands.pop("toy", None)
    dbkit_group._modules.pop("toy", None)


@pytest.mark.usefixtures("toy_room")
def test_a_room_brings_a_setting_a_listener_a_command_and_checks() -> None:
    """Without touching a module of the library."""
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", DBKIT_TOY_LIMIT="2")
    dbkit = DBKit(app)
    assert app.test_cli_runner().invoke(args=["dbkit", "toy"]).output == "limit 2\n"
    with app.app_context():
        assert current_application().config.toy_limit == 2
        assert dbkit.health.run("readiness").checks["toy"][0]["status"] == "pass"
        found = {each.id: each for each in dbkit.doctor.run(db=False)}
        assert found["DK198"].message == "shop has a toy that is broken"
        for number in range(3):
            dbkit.db.session.execute(sa.text(f"SELECT {number}"))
    with app.app_context():
        assert app.test_client().get("/readyz").status_code in (200, 503)
        report = dbkit.health.run("startup")
        assert "toy" not in report.checks  # it belongs to readiness
    assert [key for key in Config.__dataclass_fields__ if "toy" in key] == []


@pytest.mark.usefixtures("toy_room")
def test_the_settings_of_a_room_are_refused_like_all_others() -> None:
    """With the key, the value and what is allowed; and the nearest match knows them."""
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", DBKIT_TOY_LIMIT=10)
    with pytest.raises(ConfigError, match="DBKIT_TOY_LIMIT is 10. Use a whole number from 1 to 9"):
        DBKit(app)
    app.config.update(DBKIT_TOY_LIMIT=1, DBKIT_TOY_LIMITS=1)
    with pytest.raises(ConfigError, match="Did you mean DBKIT_TOY_LIMIT?"):
        DBKit(app)


def test_each_setting_stands_in_one_room_and_is_called_as_its_key() -> None:
    """The field of ``DBKIT_HEALTH_TTL`` is ``health_ttl``; no room has another's setting."""
    found: list[str] = []
    for feature in features.FEATURES:
        if feature.settings is not None:
            for setting in settings_in(feature.settings):
                assert setting.attribute in feature.settings.__dataclass_fields__
                found.append(setting.key)
    assert found == [setting.key for setting in SETTINGS]
    assert len(found) == len(set(found))
