"""Servers that are frozen, stopped, restarted, full, cut off: really, not in a mock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from flask_dbkit.health import AppHealth
from tests.health.conftest import Kit, MakeKit
from tests.support.databases import Database
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.standby import Standby

TIMEOUT_S = 0.4
SLACK_S = 1.0  # what a busy machine may add to a deadline
DRIVERS = ["psycopg", "psycopg2"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One server for this file; every test leaves it running."""
    with PostgresServer(settings={"max_connections": "20"}) as made:
        yield made


@pytest.fixture(params=DRIVERS)
def made(request: pytest.FixtureRequest, make_kit: MakeKit, server: PostgresServer) -> Kit:
    """An application on that server that has asked it once and holds a pooled connection."""
    made = make_kit(server.url(driver=request.param), tables=False, DBKIT_HEALTH_TIMEOUT=TIMEOUT_S)
    with made.app.app_context():
        assert made.kit.db.session.scalar(sa.text("SELECT 1")) == 1
    _until(lambda: made.codes() == set())
    return made


def _until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _timed(made: Kit) -> tuple[set[str], float]:
    began = time.monotonic()
    codes = made.codes()
    return codes, time.monotonic() - began


def _recovers(made: Kit) -> None:
    """Goal G3: seen within two seconds, and a busy machine may take as long again."""
    began = time.monotonic()
    _until(lambda: made.codes() == set())
    assert time.monotonic() - began < 4


def _health_connections(server: PostgresServer) -> int:
    with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% health'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_frozen_server_is_answered_at_the_deadline(made: Kit, server: PostgresServer) -> None:
    """Its kernel accepts and acknowledges everything: no setting of a driver notices.

    Asked five times, it takes one thread, and it is over soon after the server goes on.
    """
    threads = threading.active_count()
    server.freeze()
    try:
        for _ in range(5):
            codes, took = _timed(made)
            assert codes == {"db.timeout"}
            assert took < TIMEOUT_S + SLACK_S
            assert threading.active_count() <= threads + 1
        assert made.get()[0] == 503
        assert made.get("/health/live")[0] == 200
    finally:
        server.thaw()
    _recovers(made)
    _until(lambda: threading.active_count() <= threads)
    _until(lambda: _health_connections(server) == 0)


def test_a_server_that_freezes_while_it_is_asked_lets_the_thread_go(
    made: Kit, server: PostgresServer
) -> None:
    """The socket is shut at the deadline, so the driver's call ends then, not minutes later."""
    threads = threading.active_count()
    lock = psycopg.connect(server.url().replace("+psycopg", ""))
    probe = _probe_of(made)
    plain = probe._ask

    def ask(connection: Any, attempt: Any) -> Any:
        cursor = connection.cursor()
        cursor.execute("SELECT pg_sleep(60)")
        return plain(connection, attempt)

    probe._ask = ask
    codes, took = _timed(made)
    assert codes == {"db.timeout"}
    assert took < TIMEOUT_S + SLACK_S
    _until(lambda: threading.active_count() <= threads, 2)
    del probe._ask
    lock.close()
    _recovers(made)


def _probe_of(made: Kit) -> Any:
    health = made.app.extensions["dbkit"].part(AppHealth)
    return next(check.work._first.work for check in health._checks if check.name == "db:default")


def test_a_server_that_stopped_and_came_back_is_told(made: Kit, server: PostgresServer) -> None:
    """Refused at once; right at the first question after the restart."""
    server.stop()
    try:
        codes, took = _timed(made)
        assert codes == {"db.refused"}
        assert took < TIMEOUT_S + SLACK_S
    finally:
        server.start()
    _recovers(made)
    server.stop()
    server.start()
    _recovers(made)


def test_a_server_without_a_free_connection_is_told(made: Kit, server: PostgresServer) -> None:
    """A new process would get none, and neither does the probe."""
    held: list[psycopg.Connection[Any]] = []
    url = server.url().replace("+psycopg", "")
    with suppress(psycopg.OperationalError):
        held.extend(psycopg.connect(url, connect_timeout=5) for _ in range(40))
    try:
        assert len(held) < 40
        assert made.codes() == {"db.refused"}
    finally:
        for connection in held:
            connection.close()
    _recovers(made)


def test_an_exhausted_pool_is_a_warning_in_time(make_kit: MakeKit, server: PostgresServer) -> None:
    """Acceptance case 6: 200 and a warning, and not after the pool's timeout of thirty seconds."""
    made = make_kit(
        server.url(),
        tables=False,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 1, "pool_timeout": 30},
    )
    with made.app.app_context(), made.kit.db.engine.connect(), made.kit.db.engine.connect():
        codes, took = _timed(made)
        assert codes == {"db.pool_full"}
        assert made.get()[1]["status"] == "warn"
    assert took < 10
    assert made.codes() == set()


def test_a_database_that_is_not_there_is_told(make_kit: MakeKit, server: PostgresServer) -> None:
    """What the server says while connecting is text in its language: the code is the general."""
    assert make_kit(server.url("nowhere"), tables=False).codes() == {"db.refused"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_network_that_is_cut_is_answered_at_the_deadline(
    make_kit: MakeKit, server: PostgresServer, driver: str
) -> None:
    """Packets go out and nothing comes back, on connections that are there and on new ones."""
    with Proxy(server.port) as proxy:
        url = server.url(driver=driver).replace(str(server.port), str(proxy.port))
        made = make_kit(url, tables=False, DBKIT_HEALTH_TIMEOUT=TIMEOUT_S)
        _until(lambda: made.codes() == set())
        proxy.freeze()
        for _ in range(2):
            codes, took = _timed(made)
            assert codes == {"db.timeout"}
            assert took < TIMEOUT_S + SLACK_S
        proxy.thaw()
        _recovers(made)


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port where nobody answers the first packet: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_host_that_swallows_packets_is_answered_at_the_deadline(
    make_kit: MakeKit, driver: str
) -> None:
    """A firewall that drops, or a machine that is gone; here the deadline is the bind's own."""
    with _black_hole() as port:
        made = make_kit(
            f"{driver}://user@127.0.0.1:{port}/shop",
            tables=False,
            DBKIT_HEALTH_TIMEOUT=30,
            DBKIT_HEALTH_BINDS={"default": {"timeout": TIMEOUT_S}},
        )
        for _ in range(2):
            codes, took = _timed(made)
            assert codes == {"db.timeout"}
            assert took < TIMEOUT_S + SLACK_S


def test_a_database_that_takes_no_writes_is_told(make_kit: MakeKit, server: PostgresServer) -> None:
    """A failover that left this bind behind; a bind that needs no writes is content with it."""
    with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE archive")
        connection.execute("ALTER DATABASE archive SET default_transaction_read_only = on")
    url = server.url("archive")
    assert make_kit(url, tables=False).codes() == {"db.readonly"}
    reader = {"default": {"writable": False}}
    assert make_kit(url, tables=False, DBKIT_HEALTH_BINDS=reader).codes() == set()


def test_a_standby_takes_no_writes_and_tells_how_far_it_is_behind(
    make_kit: MakeKit,
    server: PostgresServer,
    make_standby: Callable[..., Standby],
    tmp_path: Path,
) -> None:
    """As a writer it fails; as a replica it passes, warns when it is behind, and when promoted.

    A replica that was promoted takes writes that nobody replicates: that is no failure of this
    instance, but whoever reads from it reads something else.
    """
    with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    standby = make_standby(server, delay="1h")
    assert make_kit(standby.url(), tables=False).codes() == {"db.readonly"}
    _is_in_nobodys_way(make_kit, server, standby, tmp_path)

    def made_with(lag_s: float | None) -> Kit:
        return make_kit(
            server.url(),
            tables=False,
            SQLALCHEMY_BINDS={"replica": standby.url()},
            DBKIT_REPLICAS={"default": ["replica"]},
            DBKIT_HEALTH_REPLICA_LAG_WARN=lag_s,
        )

    made, patient = made_with(0.1), made_with(None)
    assert "replica:replica" in made.get()[1]["checks"]
    with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as primary:
        primary.execute("CREATE TABLE written_later ()")
    _until(lambda: made.codes() == {"replica.lag"})
    status, body = made.get()
    assert (status, body["status"]) == (200, "warn")
    assert body["checks"]["replica:replica"][0]["observedUnit"] == "s"
    assert patient.codes() == set()
    standby.promote()
    for each in (made, patient):
        _until(lambda each=each: each.codes() == {"replica.promoted"})  # type: ignore[misc]
        status, body = each.get()
        assert (status, body["status"]) == (200, "warn")


def _is_in_nobodys_way(
    make_kit: MakeKit, server: PostgresServer, standby: Standby, tmp_path: Path
) -> None:
    """Revisions go to the primary, as often as they like; a replica can be backed up by name."""
    made = make_kit(
        server.url("shop"),
        tables=False,
        SQLALCHEMY_BINDS={"replica": standby.url("shop")},
        DBKIT_REPLICAS={"default": ["replica"]},
        DBKIT_HEALTH_REPLICA_LAG_WARN=None,
        DBKIT_MIGRATIONS_DIR=tmp_path / "migrations",
    )
    run = made.app.test_cli_runner().invoke
    for arguments in (
        ["migrate", "init"],
        ["migrate", "new", "-m", "first"],
        *[["migrate", "upgrade"]] * 3,
        ["migrate", "check"],
        ["migrate", "lint"],
    ):
        result = run(args=["dbkit", *arguments])
        assert result.exit_code == 0, result.output
    written = "".join(each.read_text() for each in tmp_path.glob("migrations/versions/*.py"))
    assert "book" in written
    assert "replica" not in written
    assert made.get()[0] == 200
    backups = [["--all"], ["--bind", "replica"]]
    for arguments, bind in zip(backups, ("default", "replica"), strict=True):
        result = run(args=["dbkit", "backup", "create", *arguments])
        assert result.exit_code == 0, result.output
        (made_id,) = result.stdout.split()
        assert made_id.startswith(f"{bind}-")


def test_many_probes_leave_no_connection(server: PostgresServer, make_kit: MakeKit) -> None:
    """Goal G3; the benchmark tries it with a thousand, under the usual deadline."""
    made = make_kit(server.url(), tables=False, DBKIT_HEALTH_TIMEOUT=5)
    with made.app.app_context():
        health = made.app.extensions["dbkit"].part(AppHealth)
        for _ in range(100):
            assert health.run("readiness").status == "pass"
    _until(lambda: _health_connections(server) == 0)


def test_one_question_goes_to_the_server_per_time_to_live(
    make_kit: MakeKit, server: PostgresServer
) -> None:
    """Many probes cost the database one connection."""
    with Proxy(server.port) as proxy:
        url = server.url().replace(str(server.port), str(proxy.port))
        made = make_kit(url, tables=False, DBKIT_HEALTH_TTL=60)
        for _ in range(20):
            assert made.get()[0] == 200
        assert proxy.connections == 1


def test_the_probe_connects_as_the_application_does(
    make_kit: MakeKit, server: PostgresServer
) -> None:
    """A password that is made anew for each connection is made for the probe as well."""
    made = make_kit(server.url().replace("postgres@", "nobody@"), tables=False)
    assert made.codes() == {"db.refused"}
    with made.app.app_context():
        engine = made.kit.db.engine

    @sa.event.listens_for(engine, "do_connect")
    def provide(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        options["user"] = "postgres"

    assert made.codes() == set()
    taken = make_kit("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", tables=False)
    with taken.app.app_context():
        sa.event.listen(
            taken.kit.db.engine,
            "do_connect",
            lambda *_: psycopg.connect(server.url().replace("+psycopg", "")),
        )
    assert taken.codes() == set()
    own = make_kit(
        "postgresql+psycopg://nobody@127.0.0.1:1/nowhere",
        tables=False,
        SQLALCHEMY_ENGINE_OPTIONS={
            "creator": lambda: psycopg.connect(server.url().replace("+psycopg", ""))
        },
    )
    assert own.codes() == set()


# -- MariaDB ------------------------------------------------------------------------------


@pytest.mark.backends("mariadb")
def test_a_mariadb_that_does_not_answer_is_told_at_the_deadline(
    database: Database, make_kit: MakeKit
) -> None:
    """Frozen, gone, and back: on the one probe connection and on new ones."""
    url = sa.make_url(database.url)
    threads = threading.active_count()
    with Proxy(url.port or 3306) as proxy:
        through = url.set(port=proxy.port, host="127.0.0.1").render_as_string(hide_password=False)
        made = make_kit(through, tables=False, DBKIT_HEALTH_TIMEOUT=TIMEOUT_S)
        _until(lambda: made.codes() == set())
        proxy.freeze()
        for _ in range(3):
            codes, took = _timed(made)
            assert codes == {"db.timeout"}
            assert took < TIMEOUT_S + SLACK_S
        proxy.thaw()
        _recovers(made)
        proxy.close()
        assert made.codes() == {"db.refused"}
    _until(lambda: threading.active_count() <= threads)


@pytest.mark.backends("mariadb")
def test_mariadb_tells_what_is_wrong_by_number(database: Database, make_kit: MakeKit) -> None:
    """A wrong password, a database that is not there, and a server that answers."""
    url = sa.make_url(database.url)
    plain = make_kit(url.render_as_string(hide_password=False), tables=False)
    assert plain.codes() == set()
    wrong = url.set(username="nobody_like_that", password="x").render_as_string(False)
    assert make_kit(wrong, tables=False).codes() == {"db.auth"}
    gone = url.set(database="dbkit_test_gone").render_as_string(False)
    assert make_kit(gone, tables=False).codes() == {"db.missing"}
    replica = make_kit(
        url.render_as_string(False),
        tables=False,
        DBKIT_HEALTH_BINDS={"default": {"writable": False}},
    )
    assert replica.codes() == set()
    assert pymysql.threadsafety


# -- in a server --------------------------------------------------------------------------

APPLICATION = """
import os
from flask import Flask
from flask_dbkit.health import AppHealth
from flask_dbkit import DBKit
app = Flask("shop")
app.config.update(
    SQLALCHEMY_DATABASE_URI=os.environ["SHOP_URL"],
    DBKIT_HEALTH_DETAILS="always",
    DBKIT_HEALTH_TIMEOUT=0.5,
)
kit = DBKit(app)

@app.before_request
def load_user():
    from flask import request
    if request.path != "/ping":
        kit.db.session.execute(kit.db.text("SELECT 1"))

@app.get("/ping")
def ping():
    return "pong"
"""


@contextmanager
def _gunicorn(folder: Path, url: str, *arguments: str) -> Iterator[str]:
    """One worker with four threads; its address."""
    (folder / "shop.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"),
                *("--bind", f"127.0.0.1:{port}", "--log-level", "warning", *arguments, "shop:app"),
            ],
            cwd=folder,
            env={**os.environ, "SHOP_URL": url, "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _until(lambda: process.poll() is not None or _get(f"{address}/ping")[0] == 200, 20)
            assert process.poll() is None, (folder / "gunicorn.log").read_text()
            yield address
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: gunicorn's quick way
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def _get(url: str) -> tuple[int, bytes, float]:
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read(), time.monotonic() - began
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), time.monotonic() - began
    except OSError:
        return 0, b"", time.monotonic() - began


def test_other_routes_stay_fast_while_the_database_is_frozen(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Acceptance case 3: twenty probers on four threads, and an unrelated route beside them.

    Without a deadline the fourth probe is the end of the worker.
    """
    with _gunicorn(tmp_path, server.url()) as address:
        assert _get(f"{address}/health/ready")[0] == 200
        server.freeze()
        try:
            stop, probes = threading.Event(), []

            def probe() -> None:
                while not stop.is_set():
                    probes.append(_get(f"{address}/health/ready"))
                    time.sleep(0.3)

            probers = [threading.Thread(target=probe) for _ in range(20)]
            for prober in probers:
                prober.start()
            pings = []
            for _ in range(25):
                pings.append(_get(f"{address}/ping"))
                time.sleep(0.05)
            # A status changes when several checks agree, and on a busy machine these take a while.
            until, last = time.monotonic() + 10, _get(f"{address}/health/ready")
            while last[0] == 200 and time.monotonic() < until:
                last = _get(f"{address}/health/ready")
            alive = _get(f"{address}/livez")
            stop.set()
            for prober in probers:
                prober.join()
        finally:
            server.thaw()
        assert {status for status, _, _ in pings} == {200}
        assert sorted(took for _, _, took in pings)[len(pings) // 2] < 0.25
        assert max(took for _, _, took in pings) < 1.0
        assert max(took for _, _, took in probes) < 0.5 + SLACK_S
        assert json.loads(last[1])["checks"]["db:default"][0]["code"] == "db.timeout"
        assert alive[0] == 200
        _until(lambda: _get(f"{address}/health/ready")[0] == 200, 4)


def test_a_preloading_server_probes_in_its_workers(server: PostgresServer, tmp_path: Path) -> None:
    """What the parent had is not the child's: no thread, no lock, no connection."""
    with _gunicorn(tmp_path, server.url(), "--preload", "--workers", "2") as address:
        found = [_get(f"{address}/health/ready")[0] for _ in range(6)]
    assert found == [200] * 6
