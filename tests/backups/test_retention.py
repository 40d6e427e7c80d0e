"""What ``prune`` keeps, and what it never touches."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_dbkit import ConfigError
from flask_dbkit.backups import LocalStore, Manifest, create, database_at, list_all, prune
from flask_dbkit.backups.retention import PERIODS, superfluous
from flask_dbkit.config import SETTINGS, Config

from .test_sqlite import make_file

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
TEMPLATE = Manifest(
    id="",
    bind="default",
    dialect="sqlite",
    database="x",
    created_at=NOW,
    duration_s=0,
    file="x",
    size_bytes=0,
    sha256="",
    format="sqlite",
    compression="none",
    filter=None,
    tool="",
    server_version="",
    library_version="",
    revision=None,
    tables={},
    views=(),
    row_counts="exact",
)


def at(moment: datetime, *, bind: str = "default", verified: bool = False) -> Manifest:
    return replace(
        TEMPLATE,
        id=f"{bind}-{moment:%Y%m%dT%H%M%SZ}",
        bind=bind,
        created_at=moment,
        verified_at=moment if verified else None,
    )


def kept(manifests: list[Manifest], keep: dict[str, int]) -> list[Manifest]:
    gone = {each.id for each in superfluous(manifests, keep)}
    return [each for each in manifests if each.id not in gone]


def test_a_year_of_hourly_backups_is_thinned_out() -> None:
    """24 hours, then 7 days, 4 weeks and 12 months: 42 of 8,760."""
    hourly = [at(NOW - timedelta(hours=n)) for n in range(365 * 24)]
    left = kept(hourly, {"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12})
    assert hourly[:24] == left[:24]
    days = {each.created_at.date() for each in left}
    assert {(NOW - timedelta(days=n)).date() for n in range(7)} <= days
    assert {(each.created_at.year, each.created_at.month) for each in left} == {
        (2025, 12),
        *((2026, month) for month in range(1, 12)),
    }
    assert len(left) == 24 + 5 + 2 + 11
    for each in left[24:]:
        assert each.created_at.hour in (23, 12), "the newest of its day"


def test_gaps_do_not_count(tmp_path: Path) -> None:
    """Seven days *that have a backup*: who was on holiday keeps the older ones."""
    weekly = [at(NOW - timedelta(days=7 * n)) for n in range(10)]
    assert kept(weekly, {"daily": 7}) == weekly[:7]


def test_the_newest_verified_backup_of_every_bind_stays() -> None:
    """However old it is, and also when nothing at all is to be kept."""
    manifests = [
        at(NOW),
        at(NOW - timedelta(days=1)),
        at(NOW - timedelta(days=400), verified=True),
        at(NOW - timedelta(days=500), verified=True),
        at(NOW - timedelta(days=600), bind="audit"),
    ]
    assert kept(manifests, {}) == [manifests[0], manifests[2], manifests[4]]
    assert kept(manifests, {"hourly": 0}) == [manifests[0], manifests[2], manifests[4]]


@given(
    hours=st.lists(st.integers(0, 20_000), min_size=1, max_size=60, unique=True),
    verified=st.sets(st.integers(0, 59)),
    keep=st.dictionaries(st.sampled_from(sorted(PERIODS)), st.integers(0, 9)),
)
def test_pruning_again_removes_nothing_more(
    hours: list[int], verified: set[int], keep: dict[str, int]
) -> None:
    """And the newest, the newest verified, and the newest of each period are among the rest."""
    manifests = [
        at(NOW - timedelta(hours=hour), verified=number in verified)
        for number, hour in enumerate(sorted(hours))
    ]
    left = kept(manifests, keep)
    assert kept(left, keep) == left
    assert left[0] == manifests[0]
    assert [each for each in manifests if each.verified][:1] == [
        each for each in left if each.verified
    ][:1]
    for name, number in keep.items():
        periods = list(dict.fromkeys(PERIODS[name](each.created_at) for each in manifests))
        assert {PERIODS[name](each.created_at) for each in left} >= set(periods[:number])


def test_prune_removes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    """Foreign files, damaged backups and the rest stay; ``dry_run`` changes nothing."""
    store = LocalStore(tmp_path / "backups")
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    made = [create(database, store) for _ in range(3)]
    for name in ("notes.txt", "notes.json", "default-20200101T000000Z.sqlite3.gz"):
        (store.directory / name).write_text("mine")
    (store.directory / "default-20190101T000000Z.json").write_text(json.dumps({"id": "x"}))
    before = sorted(store.directory.iterdir())
    assert [each.id for each in prune(store, {}, dry_run=True)] == [made[0].id, made[1].id]
    assert sorted(store.directory.iterdir()) == before
    assert [each.id for each in prune(store, {})] == [made[0].id, made[1].id]
    gone = {
        store.directory / f"{each.id}{end}" for each in made[:2] for end in (".json", ".sqlite3.gz")
    }
    assert set(store.directory.iterdir()) == set(before) - gone
    assert [each.id for each in list_all(store) if each.manifest] == [made[2].id]
    assert prune(store, {}) == []


@pytest.mark.parametrize(
    "value", [{"daily": -1}, {"daily": True}, {"dayly": 7}, {"daily": "7"}, [7], "daily", None]
)
def test_a_bad_rule_is_refused_at_start_up(value: object) -> None:
    """Before it removes anything."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_BACKUP_KEEP": value})
    assert "DBKIT_BACKUP_KEEP" in str(caught.value)


def test_the_periods_of_the_setting_are_those_of_the_rules() -> None:
    """Two modules name them."""
    (setting,) = [each for each in SETTINGS if each.key == "DBKIT_BACKUP_KEEP"]
    assert list(setting.default) == list(PERIODS)  # type: ignore[call-overload]


def test_a_database_in_the_wrong_place_is_not_pruned(tmp_path: Path) -> None:
    """A store that does not exist has nothing to remove, and is not made."""
    store = LocalStore(tmp_path / "nowhere")
    assert prune(store, {}) == []
    assert not store.directory.exists()
    assert database_at("sqlite://").other_connections() == []
