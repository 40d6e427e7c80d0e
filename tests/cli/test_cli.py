"""``flask dbkit info`` tells the person on call what the connections are really set to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.features import complete_group
from tests.support.databases import Database
from tests.support.postgres import PostgresServer


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["dbkit", "info", *arguments])


def binds(result: Result) -> dict[str, dict[str, Any]]:
    return {each["bind"]: each for each in json.loads(result.output)["binds"]}


def test_every_database_is_shown_with_what_is_in_force(
    make_app: Callable[..., Flask], database: Database
) -> None:
    """Dialect, driver, version, pool and settings, as a table and as JSON."""
    app = make_app()
    DBKit(app)
    if "file" in database.capabilities:
        Path(database.url.removeprefix("sqlite:///")).touch()
    result = run(app)
    assert result.exit_code == 0, result.output
    rows = [line.partition("  ") for line in result.output.splitlines()]
    shown = {name.strip(): value.strip() for name, _, value in rows}
    assert shown["bind"] == "default"
    (report,) = binds(run(app, "--json")).values()
    assert report["status"] == "ok"
    assert report["problem"] is None
    assert report["version"]
    assert shown["database"] == f"{report['dialect']} {report['version']}"
    assert report["settings"]
    for name, value in report["settings"].items():
        assert shown[name] == value


def test_the_columns_are_aligned_over_all_binds(
    make_app: Callable[..., Flask], make_database: Callable[[str], Database], tmp_path: Path
) -> None:
    """The default database first, every value in the same column."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_BINDS"] = {"memory": "sqlite://", "z": "sqlite:///z.db"}
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app)
    lines = [line for line in run(app).output.splitlines() if line]
    assert [line.split()[1] for line in lines if line.startswith("bind ")] == [
        "default",
        "memory",
        "z",
    ]
    column = lines[0].index("default")
    assert all(line[column - 1] == " " != line[column] for line in lines)


def test_a_file_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    """Looking must not create an empty database; it is no failure either."""
    app = Flask("shop", instance_path=str(tmp_path))
    DBKit(app)
    result = run(app, "--json")
    assert result.exit_code == 0
    report = binds(result)["default"]
    assert report["status"] == "absent"
    assert "does not exist yet" in report["problem"]
    assert not (tmp_path / "shop.db").exists()


def test_a_file_that_is_no_database_is_told_in_one_paragraph(tmp_path: Path) -> None:
    """Exit code 1, no traceback, the file as it was."""
    (tmp_path / "shop.db").write_text("no database, " * 100)
    app = Flask("shop", instance_path=str(tmp_path))
    DBKit(app)
    result = run(app)
    assert result.exit_code == 1
    assert "is not a SQLite database" in result.output
    assert "Traceback" not in result.output
    assert (tmp_path / "shop.db").read_text() == "no database, " * 100


@pytest.mark.backends("postgresql")
def test_one_server_that_does_not_answer_hides_no_other(
    database: Database, postgres_server: Callable[..., PostgresServer]
) -> None:
    """The others are shown, the reason is one line, and the exit code is 1."""
    server = postgres_server()
    server.stop()
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url
    app.config["SQLALCHEMY_BINDS"] = {"down": server.url().replace("postgres@", "u:s3cret@")}
    DBKit(app)
    result = run(app, "--json")
    assert result.exit_code == 1
    reports = binds(result)
    assert reports["default"]["status"] == "ok"
    assert reports["down"]["status"] == "unreachable"
    assert reports["down"]["version"] is None
    assert "refused" in reports["down"]["problem"]
    assert "\n" not in reports["down"]["problem"]
    table = run(app)
    assert table.exit_code == 1
    assert "s3cret" not in table.output + result.output
    with app.app_context():
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


@pytest.mark.parametrize("where", ["u:s3cret@127.0.0.1:1/d", "127.0.0.1:1/d?password=s3cret"])
def test_no_password_is_ever_shown(where: str) -> None:
    """Neither that of the URL nor one in its query."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"postgresql://{where}"
    DBKit(app)
    for arguments in ([], ["--json"]):
        result = run(app, *arguments)
        assert result.exit_code == 1
        assert "s3cret" not in result.output
        assert "***" in result.output


def test_wrong_usage_ends_with_2() -> None:
    """As every command does."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    DBKit(app)
    assert run(app, "--jsn").exit_code == 2


def test_an_application_without_a_default_database_is_shown(tmp_path: Path) -> None:
    """Binds only."""
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_BINDS"] = {"other": "sqlite://"}
    DBKit(app)
    result = run(app)
    assert result.exit_code == 0
    assert result.output.startswith("bind")
    assert "other" in result.output.splitlines()[0]


def test_the_sentences_of_the_help_fit_the_line() -> None:
    """A group in 80 columns shows what each command does, and cuts none of it off."""

    def groups(path: str, group: click.Group) -> Iterator[tuple[str, click.Group]]:
        yield path, group
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from groups(f"{path} {name}", command)

    for path, group in groups("flask dbkit", complete_group()):
        context = click.Context(group, info_name=path, terminal_width=80, max_content_width=80)
        lines = group.get_help(context).splitlines()
        assert [line for line in lines if line.endswith("...") and "Usage" not in line] == []


def _commands(path: str = "", group: click.Command | None = None) -> Iterator[tuple[str, Any]]:
    group = group or complete_group()
    if not isinstance(group, click.Group):
        yield path, group
        return
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from _commands(f"{path} {name}".strip(), command)


# What writes files for people, or says nothing that a program could use.
_WITHOUT_JSON = {
    "init", "migrate adopt", "migrate downgrade", "migrate init", "migrate stamp",
}  # fmt: skip
# One thing has one name, and the same letters mean the same thing.
_OPTIONS = {"--at": "--to", "--to": "--at", "-m": "--message", "-d": "--directory"}


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*each, id=each[0]) for each in _commands()]
)
def test_every_command_keeps_the_rules_of_all(path: str, command: click.Command) -> None:
    """JSON for what a script reads, help within 80 columns, the same option by the same name."""
    options = {name: each for each in command.params for name in each.opts}
    # The doctor writes for code hosts as well, and so has formats.
    has_json = "--json" in options or "json" in getattr(
        options.get("--format", click.Option(["--format"])).type, "choices", ()
    )
    assert has_json == (path not in _WITHOUT_JSON), path
    for name, other in _OPTIONS.items():
        assert name not in options or other in options[name].opts, (path, name)
    context = click.Context(command, info_name=f"flask dbkit {path}", max_content_width=80)
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80, text
    undocumented = [
        each.name for each in command.params if isinstance(each, click.Option) and not each.help
    ]
    assert undocumented == []


def test_what_a_deployment_script_reads_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision, its upgrade, a backup, a restore: stdout is one value, and no word beside it."""
    monkeypatch.chdir(tmp_path)
    base = declarative_base()
    type("Book", (base,), {"id": sa.Column(sa.Integer, primary_key=True)})
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    DBKit(app, db=SQLAlchemy(model_class=base))

    def ask(*arguments: str) -> Any:
        done = app.test_cli_runner().invoke(args=["dbkit", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    app.test_cli_runner().invoke(args=["dbkit", "migrate", "init"])
    (written,) = ask("migrate", "new", "-m", "books")["written"]
    assert Path(written).is_file()
    (revision,) = ask("migrate", "upgrade")["default"]
    assert revision in Path(written).name
    assert ask("migrate", "history") == [
        {"revision": revision, "applied": ["default"], "message": "books"}
    ]
    assert ask("migrate", "current") == ask("migrate", "status")
    assert ask("migrate", "upgrade") == {"default": []}
    (manifest,) = ask("backup", "create", "--at", "copies")
    assert [each["id"] for each in ask("backup", "list", "--to", "copies")] == [manifest["id"]]
    restored = ask("backup", "restore", manifest["id"], "--at", "copies")
    assert restored["backup"]["id"] == manifest["id"]
    assert "SQLALCHEMY_DATABASE_URI" in restored["switch_lines"][0]
    replaced = ask("backup", "restore", manifest["id"], "--at", "copies", "--in-place", "--yes")
    assert replaced["switch_lines"] == []
