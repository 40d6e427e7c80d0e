"""One table of settings; a wrong key or value is refused with the way to put it right."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from unittest import mock

import pytest
from flask import Flask

from flask_dbkit import Config, ConfigError, DBKit
from flask_dbkit.config import SETTINGS


def test_the_table_and_the_value_are_the_same() -> None:
    """Every setting is an attribute of ``Config`` with the same default, and the reverse."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    fields.pop("given")
    assert [setting.attribute for setting in SETTINGS] == list(fields)
    config = Config()
    for setting in SETTINGS:
        assert getattr(config, setting.attribute) == setting.default
        assert setting.meaning.endswith(".")
        assert setting.type


def test_an_empty_configuration_is_the_defaults() -> None:
    """Nothing has to be set."""
    assert Config.from_mapping({"SECRET_KEY": "x", "SQLALCHEMY_ECHO": True}) == Config()


def test_what_the_application_set_is_remembered() -> None:
    """A default never overrules the application's own driver options; a set value does."""
    config = Config.from_mapping({"DBKIT_SQLITE_BUSY_TIMEOUT_MS": 5000})
    assert config.given == {"DBKIT_SQLITE_BUSY_TIMEOUT_MS"}


def test_a_config_does_not_change_with_its_mapping() -> None:
    """It is read once; pragmas are copied."""
    mapping = {"DBKIT_SQLITE_PRAGMAS": {"synchronous": "FULL"}}
    config = Config.from_mapping(mapping)
    mapping["DBKIT_SQLITE_PRAGMAS"]["synchronous"] = "OFF"
    assert config.sqlite_pragmas == {"synchronous": "FULL"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.pooler = "pgbouncer"


@pytest.mark.parametrize("given", [True, "true", "True", " YES ", "on", "1", 1])
def test_a_flag_is_on_in_any_spelling(given: object) -> None:
    """The environment knows words only."""
    assert Config.from_mapping({"DBKIT_TX_PER_REQUEST": given}).tx_per_request is True


@pytest.mark.parametrize("given", [False, "false", "No", "off", "0", 0])
def test_a_flag_is_off_in_any_spelling(given: object) -> None:
    """A word like ``false`` must not be taken for something that is true."""
    assert Config.from_mapping({"DBKIT_SQLITE_WRITER_GATE": given}).sqlite_writer_gate is False


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("DBKIT_SQLITE_BEGIN", "DEFERRED", "deferred"),
        ("DBKIT_POOLER", " PgBouncer ", "pgbouncer"),
        ("DBKIT_POOLER", None, None),
        ("DBKIT_TX_STRAY_WORK", "Adopt", "adopt"),
        ("DBKIT_STATEMENT_TIMEOUT_MS", "250", 250),
        ("DBKIT_STATEMENT_TIMEOUT_MS", 0, 0),
        ("DBKIT_STATEMENT_TIMEOUT_MS", None, None),
        ("DBKIT_LOCK_TIMEOUT_MS", 2**31 - 1, 2**31 - 1),
    ],
)
def test_values_are_taken_in_the_usual_spellings(key: str, given: object, expected: object) -> None:
    """Words ignore case, numbers may come as text, ``None`` where it means something."""
    config = Config.from_mapping({key: given})
    assert getattr(config, key.removeprefix("DBKIT_").lower()) == expected


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("DBKIT_SQLITE_BEGIN", "imediate", "Did you mean 'immediate'?"),
        ("DBKIT_SQLITE_BEGIN", None, "one of: 'immediate', 'deferred'"),
        ("DBKIT_SQLITE_BEGIN", 7, "DBKIT_SQLITE_BEGIN is 7."),
        ("DBKIT_POOLER", "pgbounce", "Did you mean 'pgbouncer'?"),
        ("DBKIT_SQLITE_BUSY_TIMEOUT_MS", -1, "a whole number from 0 to 2147483647"),
        ("DBKIT_SQLITE_BUSY_TIMEOUT_MS", 2**31, "a whole number"),
        ("DBKIT_SQLITE_BUSY_TIMEOUT_MS", None, "a whole number"),
        ("DBKIT_SQLITE_BUSY_TIMEOUT_MS", True, "is True"),
        ("DBKIT_SQLITE_BUSY_TIMEOUT_MS", 1.5, "is 1.5"),
        ("DBKIT_STATEMENT_TIMEOUT_MS", "5s", "is '5s'"),
        ("DBKIT_STATEMENT_TIMEOUT_MS", "5s", "or None"),
        ("DBKIT_SQLITE_WRITER_GATE", "flase", "Did you mean 'false'?"),
        ("DBKIT_SQLITE_WRITER_GATE", None, "True or False"),
        ("DBKIT_SQLITE_WRITER_GATE", 2, "True or False"),
        ("DBKIT_SQLITE_WRITER_GATE", [], "is []"),
        ("DBKIT_SQLITE_PRAGMAS", "synchronous=FULL", "a dict such as"),
        ("DBKIT_SQLITE_PRAGMAS", None, "a dict such as"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key: str, given: object, said: str) -> None:
    """The key, the value, what is allowed, and the nearest match: all in one sentence or two."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({key: given})
    assert said in str(caught.value)
    assert key in str(caught.value)
    assert caught.value.key == key
    assert caught.value.given == given
    assert caught.value.allowed
    assert caught.value.allowed in str(caught.value)


def test_a_very_long_value_is_cut() -> None:
    """A message stays one paragraph."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_SQLITE_BEGIN": "x" * 5000})
    assert len(str(caught.value)) < 300
    assert "…" in str(caught.value)


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    """A typo in a key would silently be the default."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_SQLITE_WRITER_GAET": False})
    assert "Did you mean DBKIT_SQLITE_WRITER_GATE?" in str(caught.value)
    assert caught.value.nearest == "DBKIT_SQLITE_WRITER_GATE"
    assert caught.value.given is False
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_BANANA": "yellow"})
    assert "'yellow'" in str(caught.value)
    assert caught.value.nearest is None
    assert caught.value.allowed is not None
    for setting in SETTINGS:
        assert setting.key in caught.value.allowed


UNITS = ("_MS", "_S")


def misspelt(key: str) -> Iterator[str]:
    """Yield what people write for a key."""
    stem = next((key.removesuffix(unit) for unit in UNITS if key.endswith(unit)), key)
    if stem != key:
        yield from (stem, f"{stem}_SECONDS", f"{stem}_MIN")
        yield stem[:-1]
    yield key.lower()
    yield key[:-2] + key[-1] + key[-2]
    yield key + "S"
    shorter = key.rpartition("_")[0]
    if [each.key for each in SETTINGS if each.key.startswith(f"{shorter}_")] == [key]:
        yield shorter


def test_every_key_is_named_to_who_misspells_it() -> None:
    """Without its unit, with another, in small letters, with a letter changed; in any source."""
    known = {setting.key for setting in SETTINGS}
    for key in known:
        for name in set(misspelt(key)) - known:
            with pytest.raises(ConfigError) as caught:
                Config.from_mapping({name: 1})
            assert caught.value.nearest == key, name
            assert key in str(caught.value)
    app = Flask("typo")
    with mock.patch.dict(os.environ, {"FLASK_DBKIT_SQLITE_BUSY_TIMEOUT": "5000"}):
        app.config.from_prefixed_env()
    with pytest.raises(ConfigError, match="Did you mean DBKIT_SQLITE_BUSY_TIMEOUT_MS"):
        DBKit(app)


@pytest.mark.parametrize(
    "key",
    ["DBKIT_TX_OWNER", "DBKIT_TX_POISON", "DBKIT_TX_RETRY", "DBKIT_TEST_POSTGRES_URL"],
)
def test_keys_that_were_decided_against_are_unknown(key: str) -> None:
    """They read like settings and are none."""
    with pytest.raises(ConfigError, match=key):
        Config.from_mapping({key: 1})


def test_a_pragma_written_as_a_setting_is_told_its_place() -> None:
    """``DBKIT_SQLITE_JOURNAL_MODE`` is no key; the message says where the pragma goes."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_SQLITE_JOURNAL_MODE": "wal"})
    assert caught.value.nearest == 'DBKIT_SQLITE_PRAGMAS["journal_mode"]'
    assert 'Use DBKIT_SQLITE_PRAGMAS["journal_mode"].' in str(caught.value)


def test_other_keys_are_none_of_our_business() -> None:
    """Also keys that are no text at all."""
    assert Config.from_mapping({"DEBUG": 1, 7: 8, "dbkit_x": 1}) == Config()


ENVIRONMENT = {
    "DBKIT_REQUIRE_DATABASE_URL": ("true", True),
    "DBKIT_SQLITE_PRAGMAS": (
        '{"synchronous": "full", "mmap_size": null}',
        {"synchronous": "FULL", "mmap_size": None},
    ),
    "DBKIT_SQLITE_BEGIN": ("Deferred", "deferred"),
    "DBKIT_SQLITE_BEGIN_BY_METHOD": ("yes", True),
    "DBKIT_SQLITE_BUSY_TIMEOUT_MS": ("250", 250),
    "DBKIT_SQLITE_WRITER_GATE": ("off", False),
    "DBKIT_STATEMENT_TIMEOUT_MS": ("1000", 1000),
    "DBKIT_LOCK_TIMEOUT_MS": ('"1000"', 1000),
    "DBKIT_IDLE_IN_TRANSACTION_TIMEOUT_MS": ("null", None),
    "DBKIT_TX_PER_REQUEST": ("True", True),
    "DBKIT_TX_ROLLBACK_STATUS": ("null", None),
    "DBKIT_TX_STRAY_WORK": ("adopt", "adopt"),
    "DBKIT_POOLER": ("pgbouncer", "pgbouncer"),
}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_works_from_the_environment(
    setting: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``FLASK_DBKIT_*`` and ``app.config.from_prefixed_env()``, for each row of the table."""
    key = setting.key  # type: ignore[attr-defined]
    # A setting without a row above is told its own default.
    default = setting.default  # type: ignore[attr-defined]
    text, expected = ENVIRONMENT.get(key, (json.dumps(default), default))
    monkeypatch.setenv(f"FLASK_{key}", text)
    app = Flask("test_config")
    app.config.from_prefixed_env()
    config = Config.from_mapping(app.config)
    assert getattr(config, setting.attribute) == expected  # type: ignore[attr-defined]
    assert config.given == {key}


def test_one_pragma_works_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask's double underscore reaches into the dict."""
    monkeypatch.setenv("FLASK_DBKIT_SQLITE_PRAGMAS__synchronous", "FULL")
    monkeypatch.setenv("FLASK_DBKIT_SQLITE_PRAGMAS__CACHE_SIZE", "-2000")
    app = Flask("test_config")
    app.config.from_prefixed_env()
    pragmas = Config.from_mapping(app.config).sqlite_pragmas
    assert pragmas == {"synchronous": "FULL", "cache_size": -2000}


def test_a_bad_configuration_registers_nothing() -> None:
    """The application is as it was, so that it can be put right and tried again."""
    app = Flask("test_config")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["DBKIT_SQLITE_BEGIN"] = "now"
    with pytest.raises(ConfigError):
        DBKit(app)
    assert app.extensions == {}
    assert "dbkit" not in app.cli.commands
    app.config["DBKIT_SQLITE_BEGIN"] = "deferred"
    DBKit(app)
    assert "dbkit" in app.extensions
