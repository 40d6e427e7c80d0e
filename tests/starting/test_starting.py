"""``flask dbkit init``: an application is written where none is, and is its owner's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from flask import Flask

from flask_dbkit import DBKit
from flask_dbkit.__main__ import main
from flask_dbkit.databases import MYSQL, SQLITE
from flask_dbkit.starting.exceptions import StartError
from flask_dbkit.starting.files import files_of
from flask_dbkit.starting.names import name_after, parse_name
from flask_dbkit.support.files import write_new_file


def init(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["init", *map(str, arguments)])


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_an_application_is_written_with_its_first_revision(tmp_path: Path) -> None:
    """Everything a new project needs, named after its folder, for the library that is installed."""
    folder = tmp_path / "Book-Shop"
    done = init(folder)
    assert done.exit_code == 0, done.output
    assert f"cd {folder}" in done.output
    assert "cp .env" not in done.output  # SQLite needs nothing set
    files = tree(folder)
    assert {path for path in files if "/" not in path} == {
        *(".env.example", ".gitignore", "README.md", "book_shop", "migrations"),
        *("pyproject.toml", "tests", "wsgi.py"),
    }
    assert {"book_shop/models.py", "migrations/env.py", "tests/conftest.py"} <= set(files)
    assert [path for path in files if path.startswith("migrations/versions/")]
    text = b"".join(filter(None, files.values())).decode()
    assert "<<" not in text
    assert "<%" not in files["README.md"].decode()  # type: ignore[union-attr]
    assert '"DBKIT_LAZY": "peers"' in text
    assert 'flask-sqlalchemy-dbkit[migrate]>=0.1.0"' in text


def test_an_application_for_a_server_asks_for_its_url(tmp_path: Path) -> None:
    """It would start on an SQLite file otherwise, and nobody would notice."""
    done = init(tmp_path / "shop", "--database", "PostgreSQL")
    assert done.exit_code == 0, done.output
    assert "cp .env.example .env" in done.output
    read = {
        name: (tmp_path / "shop" / name).read_text()
        for name in ("shop/settings.py", ".env.example", "pyproject.toml", "README.md")
    }
    assert '"DBKIT_REQUIRE_DATABASE_URL": True' in read["shop/settings.py"]
    assert "\nDATABASE_URL=postgresql://user:password@localhost/shop\n" in read[".env.example"]
    assert "[migrate,postgresql]>=" in read["pyproject.toml"]
    assert "--dbkit-database=postgresql" in read["pyproject.toml"]
    assert "cp .env.example .env" in read["README.md"]
    assert "mysql://user" in "".join(files_of("shop", MYSQL).values())


def test_an_application_that_is_there_has_the_command_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``flask dbkit init`` writes the same, into this folder when none is named."""
    app = Flask("elsewhere", instance_path=str(tmp_path / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app)
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = app.test_cli_runner().invoke(args=["dbkit", "init"])
    assert done.exit_code == 0, done.output
    assert "cd " not in done.output
    expected = {str(path): text for path, text in files_of("shop", SQLITE).items()}
    assert {path: b.decode() for path, b in tree(folder).items() if b is not None} == expected


def _file(folder: Path) -> None:
    (folder / "README.md").write_text("mine")


def _link_to_nothing(folder: Path) -> None:
    (folder / "pyproject.toml").symlink_to(folder / "nowhere")


def _folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "wsgi.py").mkdir()


def _link_in_place_of_a_folder(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder / "tests").symlink_to(folder.parent / "other")


def _file_in_place_of_a_folder(folder: Path) -> None:
    (folder / "migrations").write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (_file, "README.md"),
        (_link_to_nothing, "pyproject.toml"),
        (_folder_in_place_of_a_file, "wsgi.py"),
        (_link_in_place_of_a_folder, "tests is no folder"),
        (_file_in_place_of_a_folder, "migrations is no folder"),
    ],
)
def test_nothing_is_overwritten(
    tmp_path: Path, prepare: Callable[[Path], None], named: str
) -> None:
    """What is there stays as it is, no link is followed, and nothing is half written."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")  # in nobody's way
    prepare(folder)
    before = tree(tmp_path)
    done = init(folder)
    assert done.exit_code == 1
    assert named in done.output
    assert "Nothing was written" in done.output
    assert tree(tmp_path) == before


def test_what_cannot_be_written_whole_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle leaves no half of an application."""
    written: list[Path] = []

    def fill_the_disk(path: Path, data: bytes) -> None:
        if len(written) == 7:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write_new_file(path, data)

    monkeypatch.setattr("flask_dbkit.starting.writing.write_new_file", fill_the_disk)
    done = init(tmp_path / "projects" / "shop")
    assert done.exit_code == 1
    assert "No space left on device" in done.output
    assert len(written) == 7
    assert tree(tmp_path) == {}
    (tmp_path / "file").write_text("mine")
    assert "file: File exists" in init(tmp_path / "file").output


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("shop", "shop"),
        ("Book Shop", "book_shop"),
        ("café-3.0", "cafe_3_0"),
        ("2026", "app_2026"),
        ("_", "app"),
        ("日本", "app"),
        ("calendar", "calendar_app"),  # Python's own
        ("tests", "tests_app"),
        ("flask", "flask_app"),
        ("class", "class_app"),
    ],
)
def test_every_folder_gives_a_name(folder: str, name: str) -> None:
    """The package hides no other, and its name is one in Python."""
    assert name_after(Path("/somewhere", folder)) == name
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["Shop", "my-shop", "1shop", "", "class", "json", "wsgi"])
def test_a_name_that_was_chosen_and_does_not_fit_is_wrong_usage(name: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"--name {name!r}"):
        parse_name(name)
    done = init(tmp_path / "shop", "--name", name)
    assert done.exit_code == 2
    assert tree(tmp_path) == {}


def test_a_database_that_is_not_known_is_wrong_usage(tmp_path: Path) -> None:
    done = init(tmp_path / "shop", "--database", "oracle")
    assert done.exit_code == 2
    assert "'sqlite', 'postgresql', 'mysql'" in done.output
    assert isinstance(main, click.Group)
