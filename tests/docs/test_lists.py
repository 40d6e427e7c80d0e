"""Every list a reader relies on is the list of the code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from sqlalchemy import make_url

import flask_dbkit
from flask_dbkit.cli import dbkit_group
from flask_dbkit.config import SETTINGS, Config
from flask_dbkit.dialects import EngineContext, support_for
from flask_dbkit.exceptions import ConfigError, DBKitError
from flask_dbkit.pragmas import DEFAULT_PRAGMAS, PRAGMAS
from tests.docs.pages import DOCS, README, ROOT, blocks, load_from_code, pages

FROM_CODE = load_from_code()
KEYS = {setting.key for setting in SETTINGS}
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))


def _text(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_the_settings_page_holds_every_setting_with_its_default() -> None:
    """The reference of the settings is the table of the code."""
    page = FROM_CODE.settings()
    for setting in SETTINGS:
        (entry,) = re.findall(rf"\{{confval}} {setting.key}\n(.*?)```", page, re.DOTALL)
        assert f"`{setting.default!r}`" in entry
        assert setting.meaning in entry
    assert page.count("{confval}") == len(SETTINGS)


def test_every_setting_is_explained_on_a_task_page() -> None:
    """A setting is there for a task, and the page of that task names it."""
    text = _text(*HOW_TO)
    assert [key for key in sorted(KEYS) if key not in text] == []


def test_every_dbkit_key_on_a_page_is_a_setting() -> None:
    """A key that was renamed may not live on in the documentation."""
    found = set(re.findall(r"(?<![\w-])(?:FLASK_)?(DBKIT_[A-Z_]+)", _text(README, *pages())))
    assert {key for key in found if not key.startswith("DBKIT_TEST_")} - {"DBKIT_"} <= KEYS


def test_the_error_shown_for_a_misspelt_value_is_the_one_raised() -> None:
    """What a page quotes from the library is what the library says."""
    (quoted,) = [
        block.body.strip()
        for block in blocks(DOCS / "how-to" / "databases.md")
        if block.body.startswith("DBKIT_")
    ]
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_SQLITE_BEGIN": "immedate"})
    assert str(caught.value) == quoted


def test_the_pragma_page_holds_every_pragma_and_every_default() -> None:
    """Both tables are those of the code."""
    rows = FROM_CODE.pragmas().splitlines()[2:]
    assert [re.match(r"\| \[(\w+)]", row)[1] for row in rows] == list(PRAGMAS)  # type: ignore[index]
    defaults = FROM_CODE.default_pragmas()
    for name, value in DEFAULT_PRAGMAS.items():
        assert f"| `{name}` | `{value}` |" in defaults


def test_the_table_of_engine_options_is_what_engines_are_made_with() -> None:
    """Each default that a page promises is one that ``create_engine`` is given."""
    rows = [row.split("|")[1:-1] for row in FROM_CODE.engine_defaults().splitlines()]
    table = {row[0].strip(" `"): [cell.strip(" `") for cell in row[1:]] for row in rows}
    assert table["option"] == ["SQLite file", "PostgreSQL", "MariaDB, MySQL"]
    assert {len(cells) for cells in table.values()} == {3}
    url = make_url("postgresql+psycopg://")
    options = support_for(url).engine_options(url, EngineContext(None, "shop", Config()))
    assert table["pool_recycle"][1] == str(options["pool_recycle"])
    assert table['connect_args["connect_timeout"]'][1] == str(
        options["connect_args"]["connect_timeout"]
    )


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    """What ``flask_dbkit`` exports is described, and nothing else is."""
    documented = set(
        re.findall(r":: flask_dbkit\.(\w+)$", _text(DOCS / "reference/api.md"), re.MULTILINE)
    )
    errors = set(re.findall(r":: flask_dbkit\.(\w+)$", FROM_CODE.errors(), re.MULTILINE))
    assert documented | errors == set(flask_dbkit.__all__)
    assert documented & errors == set()


def test_the_tree_of_errors_holds_every_error() -> None:
    """A new exception cannot be forgotten on the errors page."""
    every = {
        name
        for name in flask_dbkit.__all__
        if isinstance(getattr(flask_dbkit, name), type)
        and issubclass(getattr(flask_dbkit, name), DBKitError)
    }
    tree = FROM_CODE.errors().split("```")[1]
    assert set(tree.split()[1:]) == every


def test_the_command_page_holds_the_help_of_every_command() -> None:
    """The help a terminal shows and the help on the page are one text."""
    page = FROM_CODE.commands()
    assert isinstance(dbkit_group, click.Group)
    for name, command in dbkit_group.commands.items():
        assert f"Usage: flask dbkit {name}" in page
        assert str(command.help).splitlines()[0] in page


def test_every_command_a_page_names_exists() -> None:
    """``flask dbkit …`` in the text is a command of this version."""
    for name in re.findall(r"flask (?:--app \S+ )?dbkit ([a-z]+)", _text(README, *pages())):
        assert name in dbkit_group.commands, name


def test_the_changelog_names_every_public_name() -> None:
    """Who upgrades learns of everything there is."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in flask_dbkit.__all__ if f"{name}" not in changelog] == []


def test_the_changelog_names_every_setting_and_command() -> None:
    """Who upgrades learns of everything there is."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [key for key in sorted(KEYS) if key not in changelog] == []
    for name in dbkit_group.commands:
        assert f"flask dbkit {name}" in changelog


def test_links_in_the_readme_lead_to_files() -> None:
    """The table of features is a way into the documentation."""
    links = re.findall(r"]\(([^)#]+)(?:#[\w-]+)?\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / link).exists()] == []
    linked = {ROOT / link for link in local}
    assert [page.name for page in HOW_TO if page.name != "index.md" and page not in linked] == []


def test_every_page_is_in_a_table_of_contents() -> None:
    """Sphinx says so as well, but only where Sphinx is installed."""
    listed = {DOCS / "index.md"}
    for page in pages():
        for block in blocks(page):
            if block.language == "{toctree}":
                for line in block.body.splitlines():
                    if line.strip() and not line.startswith(":"):
                        listed.add((page.parent / f"{line.strip()}.md").resolve())
    assert set(pages()) - listed == set()
