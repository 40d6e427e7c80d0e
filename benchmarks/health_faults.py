"""Break databases for real, and time readiness and a route that needs no database.

    python benchmarks/health_faults.py [--seconds 4] [--only frozen]

For each fault a gunicorn with one worker and four threads runs a small application twice: with
the health endpoints of Flask-DBKit, and with the usual ``/healthz`` that sends ``SELECT 1`` on
``db.session``. While the fault lasts, three probers ask readiness and one client asks another
route, each every 100 ms. The table shows what they got:

    readiness   statuses seen, "ok" if every answer to a question that was asked a second after
                the beginning or later is right, the longest time to an answer, how many got none
                in 5 s
    other       median, 99th percentile and maximum of the other route, how many got no answer
    recovery    seconds from the end of the fault to the first 200

PostgreSQL is a server of the benchmark's own; MariaDB is looked for on 127.0.0.1:3306 and frozen
through a proxy. Then a thousand healthy probes are timed, and the connections they left counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402

from tests.support.postgres import PostgresServer  # noqa: E402
from tests.support.proxy import Proxy  # noqa: E402

APPLICATION = """
import os
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

app = Flask("shop")
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP_URL"]
if os.environ["SHOP_KIND"] == "dbkit":
    from flask_dbkit import DBKit
    app.config["DBKIT_HEALTH_SQLITE_QUICK_CHECK"] = 1
    kit = DBKit(app)
    db = kit.db
else:
    db = SQLAlchemy(app)

    @app.get("/health/ready")
    def ready():
        db.session.execute(text("SELECT 1"))
        return {"status": "pass"}

with app.app_context():
    class Book(db.Model):
        id = db.Column(db.Integer, primary_key=True)


@app.get("/other")
def other():
    return "no database needed"


@app.get("/use")
def use():
    db.session.execute(text("SELECT count(*) FROM book"))
    return "used"


@app.get("/hold")
def hold():
    held.append([db.engine.connect() for _ in range(15)])
    return "held"


held = []
"""
PATIENCE_S = 5.0
SETTLED_S = 1.0  # above the deadline: from here on every answer has to be right


@dataclass
class Answers:
    """What one kind of client got."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, url: str) -> None:
        """Ask once."""
        late = time.monotonic() - self.began > SETTLED_S
        status, took = ask(url)
        self.statuses.append(status)
        self.seconds.append(took)
        if late:
            self.settled.append(status)

    @property
    def lost(self) -> int:
        """How many got no answer."""
        return self.statuses.count(0)

    def seen(self) -> str:
        """The statuses in the order they were first seen."""
        return " ".join(str(each) for each in dict.fromkeys(self.statuses) if each) or "none"

    def ms(self, share: float) -> float:
        """A percentile in milliseconds."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] * 1000


def ask(url: str) -> tuple[int, float]:
    """Return status and seconds; 0 when there was no answer."""
    began = time.perf_counter()
    status = 0
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except OSError:
        pass
    return status, time.perf_counter() - began


@contextmanager
def served(kind: str, url: str) -> Iterator[str]:
    """Run the application in gunicorn; its address."""
    with tempfile.TemporaryDirectory(prefix="dbkit-health-") as folder:
        Path(folder, "shop.py").write_text(APPLICATION)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "4"),
                    *("-b", f"127.0.0.1:{port}", "--timeout", "120", "shop:app"),
                ],
                cwd=folder,
                env={**os.environ, "SHOP_URL": url, "SHOP_KIND": kind, "PYTHONPATH": folder},
                stdout=log,
                stderr=log,
            )
            try:
                deadline = time.monotonic() + 30
                while ask(f"http://127.0.0.1:{port}/other")[0] != 200:
                    if process.poll() is not None or time.monotonic() > deadline:
                        sys.exit(Path(folder, "log").read_text())
                    time.sleep(0.05)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGQUIT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(3)
                process.kill()
                process.wait()


def watch(address: str, seconds: float) -> tuple[Answers, Answers]:
    """Ask readiness by three probers and the other route by one client."""
    ready, other = Answers(), Answers()
    end = time.monotonic() + seconds

    def keep_asking(answers: Answers, path: str) -> None:
        while time.monotonic() < end:
            answers.add(address + path)
            time.sleep(0.1)

    clients = [
        *(threading.Thread(target=keep_asking, args=(ready, "/health/ready")) for _ in range(3)),
        threading.Thread(target=keep_asking, args=(other, "/other")),
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return ready, other


def recovery(address: str) -> float | None:
    """Return the seconds until readiness says 200 again."""
    began = time.monotonic()
    while time.monotonic() - began < 15:
        if ask(f"{address}/health/ready")[0] == 200:
            return time.monotonic() - began
        time.sleep(0.05)
    return None


@dataclass(frozen=True)
class Fault:
    """One way in which a database fails.

    Attributes:
        name: For the table.
        expected: The status readiness should have.
        place: A context manager that gives the URL, a function that breaks and one that mends.
        mends: Whether readiness is expected to come back by itself.
    """

    name: str
    expected: int
    place: Callable[[], Any]
    mends: bool = True


Breaking = tuple[str, Callable[[str], object], Callable[[], object]]


def measure(fault: Fault, seconds: float) -> None:
    """Print the two lines of one fault."""
    for kind in ("SELECT 1", "dbkit"):
        with fault.place() as (url, break_it, mend), served(kind, url) as address:
            ask(f"{address}/use")
            ask(f"{address}/health/ready")
            break_it(address)
            time.sleep(1.1)  # let the answer from before grow old
            ready, other = watch(address, seconds)
            mend()
            back = recovery(address) if fault.mends else None
        right = set(ready.settled) == {fault.expected}
        print(
            f"{fault.name:34} {kind:9} {ready.seen():>12} {'ok' if right else 'WRONG':>6}"
            f" {ready.ms(1):9.0f} {ready.lost:5} {other.ms(0.5):8.1f} {other.ms(0.99):8.1f}"
            f" {other.ms(1):8.1f} {other.lost:5}"
            f" {'-' if back is None else format(back, '.2f'):>9}",
            flush=True,
        )


def _nothing(*_: object) -> None:
    pass


# -- PostgreSQL ---------------------------------------------------------------------------


def postgres_faults(server: PostgresServer) -> list[Fault]:
    """Return the faults of a server we own."""
    plain = server.url().replace("+psycopg", "")

    def prepare() -> str:
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS book (id serial PRIMARY KEY)")
        return server.url()

    @contextmanager
    def with_server(
        break_it: Callable[[], object], mend: Callable[[], object]
    ) -> Iterator[Breaking]:
        url = prepare()
        try:
            yield url, lambda _address: break_it(), mend
        finally:
            mend()

    @contextmanager
    def through_proxy() -> Iterator[Breaking]:
        prepare()
        with Proxy(server.port) as proxy:
            url = server.url().replace(str(server.port), str(proxy.port))
            yield url, lambda _address: proxy.freeze(), proxy.thaw

    @contextmanager
    def full() -> Iterator[Breaking]:
        url = prepare()
        held: list[psycopg.Connection[Any]] = []

        def fill(_address: str) -> None:
            with contextlib.suppress(psycopg.OperationalError):
                held.extend(psycopg.connect(plain) for _ in range(200))

        def free() -> None:
            while held:
                held.pop().close()

        try:
            yield url, fill, free
        finally:
            free()

    @contextmanager
    def exhausted() -> Iterator[Breaking]:
        url = prepare()
        yield url, lambda address: ask(f"{address}/hold"), _nothing

    def restart() -> None:
        server.stop()
        server.start()

    return [
        Fault("PG healthy", 200, lambda: with_server(_nothing, _nothing)),
        Fault("PG frozen (SIGSTOP)", 503, lambda: with_server(server.freeze, server.thaw)),
        Fault("PG stopped", 503, lambda: with_server(server.stop, server.start)),
        Fault("PG killed", 503, lambda: with_server(server.kill, server.start)),
        Fault("PG restarted", 200, lambda: with_server(restart, _nothing)),
        Fault("PG network cut", 503, through_proxy),
        Fault("PG max_connections reached", 503, full),
        Fault("PG pool exhausted", 200, exhausted, mends=False),
    ]


# -- MariaDB ------------------------------------------------------------------------------


def mariadb_faults() -> list[Fault]:
    """Return the faults of the server on the standard port, or none."""
    import pymysql

    try:
        connection = pymysql.connect(host="127.0.0.1", user="root", autocommit=True)
    except pymysql.err.OperationalError:
        print("MariaDB: no server on 127.0.0.1:3306, left out")
        return []
    name = f"dbkit_bench_{os.getpid()}"

    @contextmanager
    def frozen() -> Iterator[Breaking]:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name}")
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {name}.book (id int PRIMARY KEY)")
        try:
            with Proxy(3306) as proxy:
                url = f"mysql+pymysql://root@127.0.0.1:{proxy.port}/{name}"
                yield url, lambda _address: proxy.freeze(), proxy.thaw
        finally:
            connection.ping()
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}")

    return [Fault("MariaDB frozen (behind a proxy)", 503, frozen)]


# -- SQLite -------------------------------------------------------------------------------


def sqlite_faults() -> list[Fault]:
    """Return the states of B-a, each made by hand."""

    @contextmanager
    def broken(
        break_it: Callable[[Path], object],
        mend: Callable[[Path, bytes], object] | None = None,
        *,
        query: str = "",
    ) -> Iterator[Breaking]:
        with tempfile.TemporaryDirectory(prefix="dbkit-health-") as folder:
            path = Path(folder, "data", "shop.db")
            path.parent.mkdir()
            with contextlib.closing(sqlite3.connect(path)) as raw:
                raw.execute("CREATE TABLE book (id integer PRIMARY KEY, text TEXT)")
                raw.executemany("INSERT INTO book (text) VALUES (?)", [("x" * 2000,)] * 400)
                raw.execute("CREATE INDEX ix ON book (text)")
                raw.commit()
            whole = path.read_bytes()
            url = f"sqlite:///file:{path}?{query}&uri=true" if query else f"sqlite:///{path}"
            yield (
                url,
                lambda _address: break_it(path),
                lambda: mend(path, whole) if mend is not None else None,
            )

    holders: list[sqlite3.Connection] = []

    def hold(path: Path) -> None:
        holders.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        holders[-1].execute("PRAGMA busy_timeout = 5000")
        holders[-1].execute("BEGIN EXCLUSIVE")

    def let_go(_path: Path, _whole: bytes) -> None:
        holders.pop().close()

    def overwrite(at: int, data: bytes) -> Callable[[Path], object]:
        def change(path: Path) -> None:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(data)

        return change

    def put_back(path: Path, whole: bytes) -> None:
        path.write_bytes(whole)

    def replace(path: Path) -> None:
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)

    def away(path: Path) -> None:
        path.rename(path.with_name("away"))

    def return_it(path: Path, _whole: bytes) -> None:
        path.with_name("away").rename(path)

    def folder_away(path: Path) -> None:
        path.parent.rename(path.parent.with_name("gone"))

    def folder_back(path: Path, _whole: bytes) -> None:
        path.parent.with_name("gone").rename(path.parent)

    corrupt = b"no database at all" * 6
    return [
        Fault("SQLite healthy", 200, lambda: broken(_nothing)),
        Fault("SQLite locked by another process", 503, lambda: broken(hold, let_go)),
        Fault("SQLite file moved away and back", 503, lambda: broken(away, return_it)),
        Fault("SQLite folder moved away and back", 503, lambda: broken(folder_away, folder_back)),
        Fault("SQLite file deleted", 503, lambda: broken(Path.unlink), mends=False),
        Fault("SQLite file replaced", 503, lambda: broken(replace), mends=False),
        Fault("SQLite header overwritten", 503, lambda: broken(overwrite(0, corrupt), put_back)),
        Fault(
            "SQLite inner page overwritten",
            503,
            lambda: broken(overwrite(100 * 4096, b"\xff" * 4096), put_back),
        ),
        Fault(
            "SQLite file cut in half",
            503,
            lambda: broken(lambda path: os.truncate(path, path.stat().st_size // 2), put_back),
        ),
        Fault(
            "SQLite file of zero length",
            503,
            lambda: broken(lambda path: os.truncate(path, 0), put_back),
        ),
        Fault(
            "SQLite opened with mode=ro",
            503,
            lambda: broken(_nothing, query="mode=ro"),
            mends=False,
        ),
    ]


def healthy(name: str, url: str, count: Callable[[], int] | None) -> None:
    """Time a thousand probes that find everything well."""
    from flask import Flask

    from flask_dbkit import DBKit

    with tempfile.TemporaryDirectory() as folder:
        app = Flask("shop", instance_path=folder)
        app.config.update(SQLALCHEMY_DATABASE_URI=url, DBKIT_HEALTH_TTL=0)
        kit = DBKit(app)
        client = app.test_client()
        threads = threading.active_count()
        times, cpu = [], time.process_time()
        for _ in range(1000):
            began = time.perf_counter()
            client.get("/health/ready")
            times.append((time.perf_counter() - began) * 1000)
        cpu_ms = time.process_time() - cpu
        time.sleep(0.1)
        left = count() if count is not None else 0
        live = []
        for _ in range(1000):
            began = time.perf_counter()
            client.get("/health/live")
            live.append((time.perf_counter() - began) * 1000)
        print(
            f"{name:34} p50 {statistics.median(times):6.2f}  p99 {sorted(times)[989]:6.2f} ms"
            f"  cpu {cpu_ms:5.2f} ms each  connections left {left}"
            f"  threads left {threading.active_count() - threads}"
            f"  | live p99 {sorted(live)[989]:5.2f} ms"
        )
        with app.app_context():
            kit.db.engine.dispose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="How long each fault is watched.")
    parser.add_argument("--only", default="", help="Faults with this text in their name.")
    options = parser.parse_args()
    print(
        f"{'fault':34} {'health':9} {'readiness':>12} {'':>6} {'max ms':>9} {'lost':>5}"
        f" {'other p50':>8} {'p99':>6} {'max ms':>8} {'lost':>5} {'recovery':>9}"
    )
    with PostgresServer(settings={"max_connections": "40"}) as server:
        for fault in [*postgres_faults(server), *mariadb_faults(), *sqlite_faults()]:
            if options.only in fault.name:
                measure(fault, options.seconds)
        print("\nA thousand healthy probes, one after the other, without a cache")

        def left() -> int:
            with psycopg.connect(server.url().replace("+psycopg", "")) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%health'"
                ).fetchone()
                return int(row[0]) if row else 0

        for driver in ("psycopg", "psycopg2"):
            healthy(f"PostgreSQL, {driver}", server.url(driver=driver), left)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(sqlite3.connect(f"{folder}/shop.db")) as raw:
            raw.execute("CREATE TABLE book (id)")
        healthy("SQLite", f"sqlite:///{folder}/shop.db", None)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 3306), timeout=1):
        healthy("MariaDB, PyMySQL", "mysql+pymysql://root@127.0.0.1/mysql", None)


if __name__ == "__main__":
    main()
