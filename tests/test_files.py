"""Files in folders that another account may write to: nothing of ours follows a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, transaction
from flask_dbkit.migrations.locking import LOCK_SUFFIX
from flask_dbkit.support.files import copy_to_new_file, open_side_file, write_file, write_new_file

SECRET = b"root's own"


def symbolic(place: Path, target: Path) -> None:
    place.symlink_to(target)


def dangling(place: Path, target: Path) -> None:
    place.symlink_to(target.with_name("not there"))


def hard(place: Path, target: Path) -> None:
    place.hardlink_to(target)


def fifo(place: Path, target: Path) -> None:
    os.mkfifo(place)


KINDS = [symbolic, dangling, hard, fifo]


class Precious:
    """A file that nobody may change, and that stands behind a link."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "precious"
        self.path.write_bytes(SECRET)
        self.path.chmod(0o600)

    def assert_untouched(self) -> None:
        status = self.path.stat()
        assert self.path.read_bytes() == SECRET
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        assert not self.path.with_name("not there").exists()


@pytest.fixture
def precious(tmp_path: Path) -> Precious:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return Precious(folder)


@pytest.mark.parametrize("put", KINDS)
def test_no_file_of_ours_follows_what_is_put_in_its_place(
    tmp_path: Path, precious: Precious, put: Callable[[Path, Path], None]
) -> None:
    """What is there is refused, or replaced; what it points to keeps content, owner and mode."""
    like = tmp_path / "like"
    like.write_bytes(b"")
    like.chmod(0o666)
    put(tmp_path / "side", precious.path)
    with pytest.raises(OSError, match=r"is a link|no regular file|another name") as caught:
        open_side_file(tmp_path / "side", like.stat())
    assert "Remove it" in str(caught.value)
    put(tmp_path / "new", precious.path)
    for make in (
        lambda: write_new_file(tmp_path / "new", b"x"),
        lambda: copy_to_new_file(like, tmp_path / "new", like=like.stat()),
    ):
        with pytest.raises(FileExistsError):
            make()
    put(tmp_path / "whole", precious.path)
    write_file(tmp_path / "whole", b"x")
    assert (tmp_path / "whole").read_bytes() == b"x"
    precious.assert_untouched()


def test_what_is_made_beside_a_file_takes_after_it_and_what_is_there_does_not(
    tmp_path: Path,
) -> None:
    """Whoever may write the database may take turns, whatever the umask says."""
    like = tmp_path / "like"
    like.write_bytes(b"")
    like.chmod(0o666)
    os.close(open_side_file(tmp_path / "side", like.stat()))
    assert stat.S_IMODE((tmp_path / "side").stat().st_mode) == 0o666
    (tmp_path / "side").chmod(0o640)
    os.close(open_side_file(tmp_path / "side", like.stat()))
    assert stat.S_IMODE((tmp_path / "side").stat().st_mode) == 0o640
    (tmp_path / "whole").write_bytes(b"")
    (tmp_path / "whole").chmod(0o604)
    write_file(tmp_path / "whole", b"x")
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == 0o604
    with pytest.raises(OSError, match="folder"):
        write_file(tmp_path, b"x")


@pytest.mark.parametrize("put", KINDS)
def test_every_command_leaves_what_a_link_points_to_alone(
    tmp_path: Path,
    precious: Precious,
    put: Callable[[Path, Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At each place where the library writes beside the database, in the instance or a folder."""
    app = Flask("linked", instance_path=str(tmp_path / "instance"))
    (tmp_path / "instance").mkdir()
    live = tmp_path / "instance" / "app.db"
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{live}", DBKIT_MIGRATIONS_DIR=tmp_path / "migrations"
    )
    db = SQLAlchemy()
    DBKit(app, db=db)

    def run(*arguments: str) -> tuple[int, str]:
        result = app.test_cli_runner().invoke(args=["dbkit", *arguments])
        return result.exit_code, result.output

    with app.app_context():
        for suffix in ("-dbkit-writers", LOCK_SUFFIX):
            put(Path(f"{live}{suffix}"), precious.path)
        with transaction():
            db.session.execute(sa.text("CREATE TABLE t (i INTEGER)"))
        assert "No advisory lock" in caplog.text
        assert run("migrate", "init")[0] == 0
        (tmp_path / "migrations" / "versions" / "1.py").write_text(
            "from alembic import op\nrevision, down_revision = '1', None\n"
            "def upgrade(): op.execute('CREATE TABLE u (i INTEGER)')\ndef downgrade(): pass\n"
        )
        code, output = run("migrate", "upgrade")
        assert code == 1
        assert "Remove it" in output
        Path(f"{live}{LOCK_SUFFIX}").unlink()
        put(tmp_path / "instance" / "dbkit-migrations.json", precious.path)
        assert run("migrate", "upgrade")[0] == 0
        code, made = run("backup", "create")
        assert code == 0
        manifest = tmp_path / "instance" / "backups" / f"{made.split()[-1]}.json"
        manifest.unlink()
        put(manifest, precious.path)
        assert run("backup", "list")[0] in (0, 1)
        assert run("backup", "prune")[0] == 0
        env = tmp_path / "migrations" / "env.py"
        env.write_text("# somebody else's\n")
        put(env.with_name("env.py.before-dbkit"), precious.path)
        assert run("migrate", "adopt", "--yes")[0] == 0
        for engine in db.engines.values():
            engine.dispose()
    assert "run_env" in env.read_text()
    precious.assert_untouched()
