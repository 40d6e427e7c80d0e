"""Where backups are kept, and what they go through on their way there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flask_dbkit import BackupError, ConfigError
from flask_dbkit.backups import LocalStore, Packing, create, prune, restore, store_at, verify
from flask_dbkit.backups.remote_stores import RemoteStore
from flask_dbkit.config import Config

from .conftest import Shop
from .test_sqlite import dump, make_file

pytestmark = pytest.mark.backends("sqlite-file")

REVERSE = [
    sys.executable,
    "-c",
    "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])",
]
_LARGE = (
    "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
    " INSERT INTO t SELECT hex(randomblob(2000)) FROM n"
)


@pytest.fixture
def memory() -> Iterator[Any]:
    """An empty file system of fsspec in memory."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_every_command_works_on_a_remote_place(
    make_shop: Callable[..., Shop], memory: Any, tmp_path: Path
) -> None:
    """``DBKIT_BACKUP_DIR`` may be a URL."""
    shop = make_shop(DBKIT_BACKUP_DIR="memory://bucket/shop", DBKIT_BACKUP_KEEP={})
    shop.fill()
    made = shop.create("--verify")
    names = {path.rpartition("/")[2] for path in memory.ls("/bucket/shop", detail=False)}
    assert names == {f"{made}.json", f"{made}.sqlite3.gz"}
    assert shop.listed()[made]["verified"] is True
    shop.execute("DELETE FROM book")
    second = shop.create()
    shop.done("restore", made, "--in-place", "--yes")
    assert len(shop.rows()) == 3
    assert made in shop.done("list")
    assert second in shop.done("prune")
    assert memory.exists(f"/bucket/shop/{made}.json"), "it is the newest verified one"
    assert not memory.exists(f"/bucket/shop/{second}.sqlite3.gz")
    memory.rm_file(f"/bucket/shop/{made}.sqlite3.gz")
    result = shop.run("verify", made)
    assert result.exit_code == 1
    assert "file.missing" in result.output
    assert shop.run("verify", "default-20200101T000000Z").exit_code == 1
    assert not shop.folder.exists()


@pytest.mark.parametrize("to", ["memory://elsewhere", "file://{}/x y", "{}/relative/../plain"])
def test_one_backup_can_go_elsewhere(shop: Shop, memory: Any, to: str, tmp_path: Path) -> None:
    """``--to`` takes a folder or a URL, and ``--at`` finds it again."""
    place = to.format(tmp_path)
    made = shop.create("--to", place, "--verify")
    assert shop.done("list") == "There are no backups.\n"
    assert made in shop.done("list", "--at", place)
    assert f"{made} is good" in shop.done("verify", made, "--at", place)
    shop.done("restore", made, "--at", place)


def test_two_machines_get_two_ids(memory: Any, tmp_path: Path) -> None:
    """Also where no file can be made exclusively."""
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    one, other = (RemoteStore(memory, "/bucket", location="memory://bucket") for _ in range(2))
    with one.reserve("default") as first, other.reserve("default") as second:
        assert first.id != second.id
    made = [create(database, store).id for store in (one, other, one)]
    assert len(set(made)) == 3
    assert sorted(one.ids()) == sorted(made)
    assert not [path for path in memory.find("/bucket") if ".partial-" in path]


def test_an_upload_that_is_interrupted_is_never_listed(memory: Any, tmp_path: Path) -> None:
    """Its leftovers are removed a day later."""
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    store = RemoteStore(memory, "/bucket", location="memory://bucket")
    good = create(database, store)
    for name in ("default-20200101T000000Z.sqlite3.gz", ".partial-default-20200101T000000Z"):
        memory.pipe_file(f"/bucket/{name}", b"half")
    memory.pipe_file("/bucket/default-notes.txt", b"mine")
    assert store.ids() == [good.id]
    assert prune(store, {}) == []
    left = {path.rpartition("/")[2] for path in memory.find("/bucket")}
    assert left == {f"{good.id}.json", good.file, "default-notes.txt"}


def test_a_protocol_nobody_knows_is_one_sentence(shop: Shop) -> None:
    """With the reason; no password of a URL is repeated."""
    result = shop.run("create", "--to", "gopher://me:s3cret@host/x")
    assert result.exit_code == 1
    assert "gopher:// cannot be used for backups" in result.output
    assert "s3cret" not in result.output


def test_without_fsspec_the_extra_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line to run."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    result = shop.run("create", "--to", "s3://bucket/x")
    assert result.exit_code == 1
    assert "pip install 'flask-sqlalchemy-dbkit[remote]'" in result.output


def test_a_store_is_called_by_its_name_without_a_password(memory: Any) -> None:
    """In every message."""
    store = store_at("memory://me:s3cret@bucket/x?key=s3cret", relative_to=Path())
    assert store.location == "memory://bucket/x"
    with pytest.raises(BackupError, match="memory://bucket/x"):
        store.read_manifest("default-20200101T000000Z")


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_filter_encrypts_what_is_kept(tmp_path: Path, compression: str) -> None:
    """The copy comes back only through the reverse command, and the digest needs no key."""
    path, store = tmp_path / "live.db", LocalStore(tmp_path / "backups")
    database = make_file(path, "wal", "CREATE TABLE t (a TEXT)", _LARGE)
    packing = Packing(compression, REVERSE, REVERSE)
    manifest = create(database, store, packing=packing)
    assert manifest.file.endswith(".filtered")
    content = (store.directory / manifest.file).read_bytes()
    assert not content.startswith((b"SQLite", b"\x1f\x8b"))
    assert verify(store, manifest.id, database, packing=packing).ok
    restored = restore(store, manifest.id, database, packing=packing)
    assert dump(Path(str(restored.url.database))) == dump(path)
    with pytest.raises(BackupError, match="DBKIT_BACKUP_UNFILTER") as caught:
        verify(store, manifest.id, database)
    assert caught.value.code == "filter.missing"
    # A command that does not undo it.
    wrong = verify(store, manifest.id, database, packing=Packing(compression, (), ["cat"]))
    assert not wrong.ok


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "echo no key >&2; exit 4"], "'sh' failed with exit code 4: no key"),
        (["sh", "-c", "cat > /dev/null; exit 1"], "failed with exit code 1: no message"),
        (["dbkit-no-such-program"], "cannot be started"),
    ],
)
def test_a_filter_that_fails_leaves_no_backup(
    make_shop: Callable[..., Shop], command: list[str], words: str
) -> None:
    """Whether it reads everything before, or nothing."""
    shop = make_shop(DBKIT_BACKUP_FILTER=command)
    shop.execute("CREATE TABLE t (a TEXT)", _LARGE)
    result = shop.run("create")
    assert result.exit_code == 1
    assert words in result.output
    assert list(shop.folder.iterdir()) == []


def test_settings_are_read_as_a_shell_would_read_them() -> None:
    """Text from the environment, or a list."""
    read = Config.from_mapping(
        {"DBKIT_BACKUP_FILTER": "age -r 'a b'", "DBKIT_BACKUP_DIR": Path("/x")}
    )
    assert read.backup_filter == ("age", "-r", "a b")
    assert read.backup_dir == "/x"
    assert Config.from_mapping({"DBKIT_BACKUP_UNFILTER": ["cat"]}).backup_unfilter == ("cat",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DBKIT_BACKUP_FILTER", ""),
        ("DBKIT_BACKUP_FILTER", "age 'a"),
        ("DBKIT_BACKUP_FILTER", 5),
        ("DBKIT_BACKUP_UNFILTER", ["cat", 5]),
        ("DBKIT_BACKUP_DIR", " "),
        ("DBKIT_BACKUP_DIR", None),
        ("DBKIT_BACKUP_COMPRESSION", "bzip2"),
        ("DBKIT_BACKUP_MAX_AGE_S", 0),
        ("DBKIT_BACKUP_SCRATCH_URL", ""),
    ],
)
def test_bad_settings_are_refused_at_start_up(key: str, value: object) -> None:
    """By their name."""
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({key: value})
    assert caught.value.key == key


def test_zstandard_is_used_where_python_has_it(tmp_path: Path) -> None:
    """And told with the way out where it has not."""
    store = LocalStore(tmp_path / "backups")
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a TEXT)")
    if sys.version_info >= (3, 14):
        manifest = create(database, store, packing=Packing("zstd"))
        assert manifest.file.endswith(".zst")
        assert verify(store, manifest.id, database).ok
    else:
        with pytest.raises(BackupError, match=r"3\.14"):
            create(database, store, packing=Packing("zstd"))
        assert list(store.directory.iterdir()) == []


def test_a_file_system_without_exclusive_files_is_used_all_the_same(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many object stores are; a marker keeps the ids apart."""
    plain = type(memory)._open

    def without(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        if "x" in mode:
            raise ValueError(mode)
        return plain(self, path, mode=mode, **options)

    monkeypatch.setattr(type(memory), "_open", without)
    database = make_file(tmp_path / "live.db", "wal", "CREATE TABLE t (a)")
    store = RemoteStore(memory, "/bucket", location="memory://bucket")
    with store.reserve("default") as first, store.reserve("default") as second:
        assert first.id != second.id
    assert verify(store, create(database, store).id, database).ok
