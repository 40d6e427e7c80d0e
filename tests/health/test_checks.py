"""Checks of the application, groups, and what a report says."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import current_app

from flask_dbkit.config import Config
from flask_dbkit.health import HealthRun
from flask_dbkit.health.integrity import IntegrityCheck
from flask_dbkit.health.on_mysql import ask as ask_mysql
from flask_dbkit.health.on_mysql import galera_codes
from flask_dbkit.health.on_server import ServerProbe
from flask_dbkit.health.probe import ProbedBind
from tests.health.conftest import Kit, MakeKit
from tests.support.databases import Database
from tests.support.forks import Child, Talk, fork, succeeded


def test_a_check_returns_or_raises_what_it_found(make_kit: MakeKit) -> None:
    """None and ``passed()`` pass, ``Warn`` warns, ``Fail`` fails; figures stand beside."""
    made = make_kit()
    health = made.kit.health

    @health.check("nothing")
    def nothing() -> None:
        assert current_app.name == "shop"

    @health.check("figure", groups={"readiness"})
    def figure() -> Any:
        return health.passed(observed=3, unit="ms")

    @health.check("slow")
    def slow() -> None:
        raise health.Warn("search.slow", observed=9.5, unit="s", limit=5)

    assert made.get()[0] == 200
    report = health.run("readiness")
    assert report.status == "warn"
    (entry,) = report.checks["nothing"]
    assert (entry["status"], entry["code"]) == ("pass", None)
    (entry,) = report.checks["figure"]
    assert (entry["observedValue"], entry["observedUnit"]) == (3, "ms")
    (entry,) = report.checks["slow"]
    assert (entry["status"], entry["code"], entry["limit"]) == ("warn", "search.slow", 5)
    assert (entry["observedValue"], entry["observedUnit"]) == (9.5, "s")
    assert entry["time"].endswith("Z")

    @health.check("down")
    def down() -> None:
        raise health.Fail("search.down", tried=3)

    status, body = made.get()
    assert (status, body["status"]) == (503, "fail")
    assert body["checks"]["down"][0]["tried"] == 3


def test_the_failure_of_a_check_that_is_not_critical_is_a_warning(make_kit: MakeKit) -> None:
    """Search may be away while the shop goes on selling."""
    made = make_kit()

    @made.kit.health.check("search", critical=False)
    def search() -> None:
        raise made.kit.health.Fail("search.down")

    status, body = made.get()
    assert (status, body["status"]) == (200, "warn")
    assert body["checks"]["search"][0]["code"] == "search.down"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda health: 1 / 0,
        lambda health: False,
        lambda health: {"status": "pass"},
        lambda health: health.passed(observed=object()),
        lambda health: (_ for _ in ()).throw(health.Fail("cannot reach http://10.0.0.1")),
        lambda health: (_ for _ in ()).throw(health.Warn("x", host="10.0.0.1")),
        lambda health: (_ for _ in ()).throw(health.Fail("x", status=3)),
        lambda health: (_ for _ in ()).throw(SystemExit("10.0.0.1")),
    ],
)
def test_anything_else_is_a_failure_that_tells_nothing(
    make_kit: MakeKit, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that is wrong about itself never passes; the log names class and line only."""
    made = make_kit()
    made.kit.health.check("own")(lambda: wrong(made.kit.health))
    status, body = made.get()
    assert status == 503
    (entry,) = body["checks"]["own"]
    assert (entry["status"], entry["code"]) == ("fail", "check.error")
    assert "10.0.0.1" not in str(body)
    record = next(each for each in caplog.records if "Health check own raised" in each.message)
    assert ".py:" in record.message
    assert "10.0.0.1" not in record.message


def test_a_check_that_hangs_is_answered_at_its_deadline_and_not_started_again(
    make_kit: MakeKit,
) -> None:
    """Nobody waits for it, and it takes one thread at most."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=5)
    go_on, started = threading.Event(), []

    @made.kit.health.check("own", timeout=0.1)
    def own() -> None:
        started.append(1)
        go_on.wait(10)

    before = threading.active_count()
    for _ in range(3):
        began = time.monotonic()
        status, body = made.get()
        assert time.monotonic() - began < 4  # it hangs for ten seconds
        assert status == 503
        assert body["checks"]["own"][0]["code"] == "check.timeout"
    assert len(started) == 1
    assert threading.active_count() <= before + 1
    go_on.set()
    _until(lambda: made.get()[0] == 200)
    assert len(started) == 2


def test_a_check_without_a_thread_is_a_failure_and_not_an_error(
    make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may start no more threads is asked all the same, and again later."""
    made = make_kit()

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert made.codes() == {"check.error"}
        assert made.get()[0] == 503
    assert made.get()[0] == 200


def test_a_pool_of_another_kind_is_never_full(make_kit: MakeKit) -> None:
    """Nor is one without a limit."""
    unlimited = make_kit(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": -1})
    assert "pool:default" not in unlimited.get()[1]["checks"]
    plain = make_kit(SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool})
    assert "pool:default" not in plain.get()[1]["checks"]


def test_a_database_we_do_not_know_is_pinged_by_its_own_dialect() -> None:
    """With its driver, and without a socket that could be shut."""
    engine = sa.create_engine("sqlite://")
    probe = ServerProbe(ProbedBind("default", engine, Config()))
    assert probe(HealthRun(5))["db:default"].status == "pass"
    own = ProbedBind("default", engine, Config(), creator=lambda: 1 / 0)
    assert ServerProbe(own)(HealthRun(5))["db:default"].code == "db.refused"


def test_a_large_file_is_not_read_from_end_to_end(tmp_path: Path) -> None:
    """That is left to whoever can wait for it."""
    path = tmp_path / "large.db"
    path.touch()
    os.truncate(path, 1_100_000_000)
    status = path.stat()
    check = IntegrityCheck(0.001)
    check.start_if_due(str(path), (status.st_dev, status.st_ino))
    assert [thread for thread in threading.enumerate() if "quick" in thread.name] == []
    assert not check.is_damaged((status.st_dev, status.st_ino))


def _until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_parallel_probes_share_one_run_and_do_not_all_wait_for_it(make_kit: MakeKit) -> None:
    """Two may wait for a check that hangs; the threads of the server are for the others."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=2)
    hang, go_on, started = threading.Event(), threading.Event(), []

    @made.kit.health.check("own")
    def own() -> None:
        started.append(1)
        if hang.is_set():
            go_on.wait(10)

    assert made.get()[0] == 200
    hang.set()
    times: list[float] = []

    def probe() -> None:
        began = time.monotonic()
        made.client.get("/health/ready")
        times.append(time.monotonic() - began)

    threads = [threading.Thread(target=probe) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 2
    assert max(times) < 6
    assert len([each for each in times if each > 1.5]) <= 4
    assert made.get()[0] == 503
    go_on.set()


def test_an_answer_is_given_again_while_it_is_fresh(make_kit: MakeKit) -> None:
    """A check is asked once per its time to live, however many probes there are."""
    made = make_kit()
    asked = []
    made.kit.health.check("own", ttl=60)(lambda: asked.append(1))
    for _ in range(5):
        assert made.get()[0] == 200
    assert len(asked) == 1


def test_a_status_flips_after_so_many_results(make_kit: MakeKit) -> None:
    """``FAIL_AFTER`` and ``PASS_AFTER`` count results in a row; the code tells what goes on."""
    made = make_kit(DBKIT_HEALTH_FAIL_AFTER=3, DBKIT_HEALTH_PASS_AFTER=2)
    broken = threading.Event()

    @made.kit.health.check("own")
    def own() -> None:
        if broken.is_set():
            raise made.kit.health.Fail("own.down")

    assert made.get()[0] == 200
    broken.set()
    assert [made.get()[0] for _ in range(2)] == [200, 200]
    assert made.get()[0] == 503
    broken.clear()
    status, body = made.get()
    assert (status, body["checks"]["own"][0]["code"]) == (503, "own.down")
    assert made.get()[0] == 200
    broken.set()
    assert made.get()[0] == 200  # counted anew
    broken.clear()
    assert made.get()[0] == 200
    broken.set()
    assert [made.get()[0] for _ in range(3)] == [200, 200, 503]


def test_a_startup_that_has_passed_stays_passed(make_kit: MakeKit) -> None:
    """It tells that the application has come up, not that it is well."""
    made = make_kit(tables=False)
    assert made.get("/health/startup")[0] == 503
    assert made.codes("/health/startup") == {"db.missing"}
    made.create_tables()
    assert made.get("/health/startup")[0] == 200
    broken = threading.Event()

    @made.kit.health.check("late", groups=("startup",))
    def late() -> None:
        broken.set()

    made.path.unlink()
    assert made.get("/health/startup")[0] == 200
    assert not broken.is_set()
    assert made.get("/health/ready")[0] == 503


def test_liveness_asks_the_checks_that_belong_to_it_and_no_database(make_kit: MakeKit) -> None:
    """A process that is stuck is restarted; one whose database is away is not."""
    made = make_kit(tables=False)
    assert made.get("/health/live") == (200, {"status": "pass", "checks": {}})

    @made.kit.health.check("worker", groups="liveness")
    def worker() -> None:
        raise made.kit.health.Fail("worker.stuck")

    assert made.get("/health/live")[0] == 503
    made.create_tables()
    assert made.get("/health/ready")[0] == 200
    assert made.get("/health")[0] == 503


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {}),
        ("db:default", {}),
        ("migrations", {}),
        ("own", {"groups": ("redyness",)}),
        ("own", {"groups": ()}),
        ("own", {"timeout": 0}),
        ("own", {"timeout": "1"}),
        ("own", {"ttl": -1}),
    ],
)
def test_a_check_that_cannot_be_registered_says_why(
    make_kit: MakeKit, name: str, options: dict[str, Any]
) -> None:
    """At import, not at the first probe."""
    with pytest.raises(ValueError, match="Use"):
        make_kit().kit.health.check(name, **options)(lambda: None)


def test_an_unknown_group_names_the_nearest(make_kit: MakeKit) -> None:
    """The groups are words, and words are mistyped."""
    with pytest.raises(ValueError, match="Did you mean 'readiness'"):
        make_kit().kit.health.run("readyness")


def test_every_bind_is_checked_and_may_be_uncritical(make_kit: MakeKit, tmp_path: Any) -> None:
    """A failing bind that is not critical is a warning, and no part of startup."""
    away = f"sqlite:///{tmp_path / 'away.db'}"
    made = make_kit(
        SQLALCHEMY_BINDS={"audit": away, "cache": "sqlite://"},
        DBKIT_HEALTH_BINDS={"audit": {"critical": False}},
    )
    (tmp_path / "away.db").unlink(missing_ok=True)
    status, body = made.get()
    assert (status, body["status"]) == (200, "warn")
    assert body["checks"]["db:audit"][0]["code"] == "db.missing"
    assert body["checks"]["db:cache"][0]["status"] == "pass"
    assert "db:audit" not in made.get("/health/startup")[1]["checks"]


def test_a_database_that_everybody_shares_may_be_a_warning(make_kit: MakeKit) -> None:
    """Readiness would take every instance out at once; startup still needs it."""
    made = make_kit(tables=False, DBKIT_HEALTH_READINESS_DB="warn")
    status, body = made.get()
    assert (status, body["status"]) == (200, "warn")
    assert body["checks"]["db:default"][0]["code"] == "db.missing"
    assert made.get("/health/startup")[0] == 503


def test_a_failure_is_logged_once_and_its_end_too(
    make_kit: MakeKit, caplog: pytest.LogCaptureFixture
) -> None:
    """A log line per flip, not per probe; it names the check and the code."""
    caplog.set_level(logging.INFO, "flask_dbkit.health")
    made = make_kit()
    made.path.rename(made.path.with_suffix(".away"))
    made.get()
    made.get()
    made.path.with_suffix(".away").rename(made.path)
    made.get()
    made.get()
    assert [record.message for record in caplog.records if record.name == "flask_dbkit.health"] == [
        "Health check db:default: fail (db.missing)",
        "Health check db:default: pass again",
    ]


@pytest.fixture
def restore_sigterm() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("restore_sigterm")
def test_sigterm_drains_if_asked_and_the_server_hears_of_it(make_kit: MakeKit) -> None:
    """The handler of the server runs afterwards."""
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    made = make_kit(DBKIT_HEALTH_DRAIN_ON_SIGTERM=True)
    second = make_kit(DBKIT_HEALTH_DRAIN_ON_SIGTERM=True)
    other = make_kit()
    assert made.get()[0] == 200
    os.kill(os.getpid(), signal.SIGTERM)
    assert made.codes() == {"draining"}
    assert second.codes() == {"draining"}
    assert heard == [1]
    assert other.get()[0] == 200


def _serving(make_kit: MakeKit, work: Callable[[Talk, Callable[[], Kit]], object]) -> list[str]:
    """Let a process of its own work with an application that drains; return what it says."""

    def serve(talk: Talk) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(talk, lambda: make_kit(url="sqlite://", DBKIT_HEALTH_DRAIN_ON_SIGTERM=True))

    child = Child(serve)
    said = list(iter(child.hear, ""))
    return [*said, str(child.exit_code())]


def test_without_a_server_the_first_sigterm_drains_and_the_second_ends(make_kit: MakeKit) -> None:
    """The process goes on serving what is on its way, and is not immortal."""

    def work(talk: Talk, make: Callable[[], Kit]) -> None:
        app = make()
        talk.say(app.get()[0])
        os.kill(os.getpid(), signal.SIGTERM)
        talk.say(app.get()[0])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    assert _serving(make_kit, work) == ["200", "503", str(-signal.SIGTERM)]


def test_a_process_that_ignores_sigterm_goes_on_ignoring_it(make_kit: MakeKit) -> None:
    """It drains, and that is all."""

    def work(talk: Talk, make: Callable[[], Kit]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        app = make()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        talk.say(app.get()[0])

    assert _serving(make_kit, work) == ["503", "0"]


def test_an_application_made_in_another_thread_cannot_hear_signals(make_kit: MakeKit) -> None:
    """Python delivers them to the main thread only, and the log says what to do."""

    def work(talk: Talk, make: Callable[[], Kit]) -> None:
        made: list[Kit] = []
        thread = threading.Thread(target=lambda: made.append(make()))
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        talk.say(made[0].get()[0])

    assert _serving(make_kit, work) == ["200", "0"]


def test_a_forked_child_checks_for_itself(make_kit: MakeKit) -> None:
    """A run of the parent that hangs is not the child's, nor are the answers."""
    made = make_kit(DBKIT_HEALTH_TIMEOUT=1.5, DBKIT_HEALTH_TTL=60)
    go_on = threading.Event()
    parent = os.getpid()

    @made.kit.health.check("own")
    def own() -> None:
        if os.getpid() == parent:
            go_on.wait(10)

    assert made.get()[0] == 503

    def ask() -> None:
        assert made.get()[0] == 200

    assert succeeded(fork(ask))
    go_on.set()


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        ({}, (None, None)),
        ({"wsrep_cluster_status": "Disconnected", "wsrep_cluster_size": "0"}, (None, None)),
        ({"wsrep_cluster_size": "3", "wsrep_cluster_status": "Primary"}, (None, None)),
        (
            {
                "wsrep_cluster_size": "1",
                "wsrep_cluster_status": "non-Primary",
                "wsrep_ready": "OFF",
            },
            ("db.no_quorum", None),
        ),
        (
            {"wsrep_cluster_size": "3", "wsrep_cluster_status": "Primary", "wsrep_ready": "OFF"},
            ("db.no_quorum", None),
        ),
        (
            {
                "wsrep_cluster_size": "3",
                "wsrep_cluster_status": "Primary",
                "wsrep_ready": "ON",
                "wsrep_local_state": "2",
            },
            (None, "db.desynced"),
        ),
    ],
)
def test_the_state_of_a_galera_node_is_told(
    status: dict[str, str], codes: tuple[str | None, str | None]
) -> None:
    """Without quorum it fails; a donor is a warning; a server in no cluster is none of it."""
    assert galera_codes(status) == codes


@pytest.mark.backends("mariadb")
def test_a_node_that_refuses_queries_fails(database: Database) -> None:
    """It accepts connections, shows its status, and answers every SELECT with 1047."""
    engine = sa.create_engine(database.url)
    raw = engine.raw_connection()
    try:
        assert ask_mysql(raw, writable=True).failure is None

        class Refusing:
            def cursor(self) -> Any:
                cursor = raw.cursor()
                plain = cursor.execute

                def execute(statement: str) -> object:
                    if statement.startswith("SELECT"):
                        statement = "SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = 1047"
                    return plain(statement)

                setattr(cursor, "execute", execute)
                return cursor

        assert ask_mysql(Refusing(), writable=True).failure == "db.refused"
    finally:
        raw.close()
        engine.dispose()


def test_what_a_process_does_once_is_not_charged_to_a_check() -> None:
    """An import that takes longer than the deadline is no answer that came too late."""
    run, ended = HealthRun(0.5), []

    def work() -> None:
        with run.off_the_clock():
            time.sleep(0.8)
        ended.append(run.left_s() > 0)
        run.end()

    thread = threading.Thread(target=work)
    thread.start()
    assert run.wait()
    thread.join()
    assert ended == [True]
    assert run.elapsed_ms() < 800
    assert not HealthRun(0.05).wait()
