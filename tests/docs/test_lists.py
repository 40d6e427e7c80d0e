"""Every list a reader relies on is the list of the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import reference
from jinja2 import Environment, PackageLoader
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, create_engine
from sqlalchemy.orm import Session

import flask_dbkit
from flask_dbkit import (
    Filter,
    FilterAllowlist,
    KeysetPage,
    Listing,
    OffsetPage,
    QueryError,
    SortAllowlist,
)
from flask_dbkit.config import SETTINGS, Config
from flask_dbkit.databases import database_of
from flask_dbkit.databases.sqlite.pragmas import DEFAULT_PRAGMAS, PRAGMAS
from flask_dbkit.errors.codes import PROBLEMS
from flask_dbkit.exceptions import ConfigError, DBKitError
from flask_dbkit.features import complete_group
from flask_dbkit.lists.operators import OPERATORS
from flask_dbkit.lists.pages import Links
from flask_dbkit.lists.query import RESERVED
from flask_dbkit.migrations.lint import RULES
from tests.docs.pages import DOCS, README, ROOT, anchors, blocks, pages

KEYS = {setting.key for setting in SETTINGS}
API = sorted((DOCS / "reference" / "api").glob("*.md"))
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
BOOK = Table(
    "book",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("title", String(100)),
    Column("author_id", Integer),
    Column("added", DateTime),
    Column("pages", Integer),
)


def _text(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_the_settings_page_holds_every_setting_with_its_default() -> None:
    """The reference of the settings is the table of the code, by rooms."""
    page = reference.settings()
    for setting in SETTINGS:
        (entry,) = re.findall(rf"(?ms)^### `{setting.key}`\n(.*?)(?=^##|\Z)", page)
        assert f"`{setting.default!r}`" in entry
        assert setting.meaning in entry
        assert f"(#{setting.key.lower()})" in page
    assert page.count("\n### ") == len(SETTINGS)


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
        for block in blocks(DOCS / "how-to" / "set-up.md")
        if block.body.startswith("DBKIT_")
    ]
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"DBKIT_SQLITE_BEGIN": "immedate"})
    assert str(caught.value) == quoted


def test_the_pragma_page_holds_every_pragma_and_every_default() -> None:
    """Both tables are those of the code."""
    rows = reference.pragmas().splitlines()[2:]
    assert [re.match(r"\| \[(\w+)]", row)[1] for row in rows] == list(PRAGMAS)  # type: ignore[index]
    defaults = reference.default_pragmas()
    for name, value in DEFAULT_PRAGMAS.items():
        assert f"| `{name}` | `{value}` |" in defaults


def _rows(page: str) -> list[tuple[str, str]]:
    """Return the first two columns of the first table of a reference page, without backticks."""
    rows = []
    for line in (DOCS / "reference" / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            first, second = [cell.strip().strip("`") for cell in line.split("|")[1:3]]
            rows.append((first, second))
        elif rows:
            break
    return rows[2:]


def test_the_operator_page_holds_every_operator() -> None:
    """What a filter may allow is all on the page, in the order of the code."""
    assert [name for name, _ in _rows("operators.md")] == list(OPERATORS)


@pytest.mark.parametrize(("op", "example"), _rows("operators.md"))
def test_the_example_of_an_operator_is_read_as_that_operator(op: str, example: str) -> None:
    """A reader can copy the parameter."""
    column = BOOK.c[example.partition("=")[0].partition("__")[0]]
    allowlist = FilterAllowlist({column.name: Filter(column, ops=[op])})
    (condition,) = allowlist.parse(parse_qsl(example))
    assert condition.op == op


def test_the_operator_page_names_the_parameters_every_list_has() -> None:
    """Nobody has to find out by an error which names are taken."""
    text = (DOCS / "reference/operators.md").read_text(encoding="utf-8").rpartition("\n\n")[2]
    assert re.findall(r"`(\w+)`", text) == list(RESERVED)


def _codes_in_the_source() -> Iterator[str]:
    """Yield the code of every mistake the source can report."""
    places = {"mistake": 1, "wrong": 1, "_refused": 0}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                place = places.get(name)
                if place is not None and len(node.args) > place:
                    code = node.args[place]
                    if isinstance(code, ast.Constant):
                        yield f"query.{code.value}"


def test_the_page_of_query_errors_holds_every_code() -> None:
    """A program can be written for each code, and none of them is gone."""
    codes = [code for code, _ in _rows("query-errors.md")]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(_codes_in_the_source())


@pytest.mark.parametrize(("code", "example"), [row for row in _rows("query-errors.md") if row[1]])
def test_the_example_of_a_code_is_refused_with_it(code: str, example: str) -> None:
    """What the page calls a mistake is one."""
    books = Listing(
        BOOK,
        sort=SortAllowlist(
            {
                "title": BOOK.c.title,
                "author": BOOK.c.author_id,
                "added": BOOK.c.added,
                "pages": BOOK.c.pages,
            },
            default="title",
        ),
        filter=FilterAllowlist(
            {
                "title": BOOK.c.title,
                "author": BOOK.c.author_id,
                "pages": Filter(BOOK.c.pages, ops="gte"),
            },
            max_filters=2,
            max_values=2,
        ),
    )
    args = parse_qsl(example.removeprefix("?").rstrip("…"), keep_blank_values=True)
    read = books.paginate_keyset if "cursor" in code else books.paginate
    options = {"secret": "a secret"} if "cursor" in code else {}
    with Session(create_engine("sqlite://")) as session, pytest.raises(QueryError) as caught:
        read(args=args, session=session, **options)  # type: ignore[operator]
    assert code in {error["code"] for error in caught.value.errors}


def test_the_page_of_problems_holds_every_code_with_its_status() -> None:
    """Programs are written for them, and so are the drivers' codes behind them."""
    table, sources = reference.problems(), reference.problem_sources()
    for code, row in PROBLEMS.items():
        assert f"| `{code}` | {row.status} |" in table
    for name in ("postgresql", "mysql", "sqlite"):
        assert set(database_of(name).errors.meanings.values()) <= set(PROBLEMS)
    for code in ("`23505`", "`1062`", "`SQLITE_CONSTRAINT_UNIQUE`", "`22…`", "`SQLITE_BUSY`"):
        assert code in sources


def test_the_markup_of_the_pager_is_what_the_macro_renders() -> None:
    """A style sheet written from the page fits."""
    page = DOCS / "how-to/lists.md"
    (shown,) = [block.body for block in blocks(page) if block.body.startswith("<nav")]
    macros = Environment(loader=PackageLoader("flask_dbkit"), autoescape=True)
    render = macros.get_template("flask_dbkit/pager.html").module.render_pager  # type: ignore[attr-defined]
    offset = OffsetPage(
        items=[None],
        per_page=50,
        has_next=True,
        has_prev=False,
        total=1250,
        total_is_exact=True,
        _links=Links("/events"),
    )
    squeezed = [re.sub(r">\s+<", "><", text).strip() for text in (shown, render(offset))]
    assert squeezed[0] == squeezed[1]
    keyset = KeysetPage(items=[None], per_page=50, has_next=False, has_prev=False)
    classes = set(re.findall(r"dbkit-pager-\w+", render(offset) + render(keyset)))
    assert set(re.findall(r"dbkit-pager-\w+", page.read_text(encoding="utf-8"))) == classes


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    """What ``flask_dbkit`` exports is described once, and found from the first page."""
    described = set(re.findall(r"^### (\w+)$", _text(*API), re.MULTILINE))
    errors = set(re.findall(r"^## (\w+)$", _text(DOCS / "reference/errors.md"), re.MULTILINE))
    listed = re.findall(r"\[`(\w+)`]", _text(DOCS / "reference/api/index.md"))
    assert set(flask_dbkit.__all__) <= described | errors
    assert described & errors == set()
    assert set(flask_dbkit.__all__) - errors <= set(listed)
    assert len(listed) == len(set(listed))


def test_the_tree_of_errors_holds_every_error() -> None:
    """A new exception cannot be forgotten on the errors page."""
    every = {
        name
        for name in flask_dbkit.__all__
        if isinstance(getattr(flask_dbkit, name), type)
        and issubclass(getattr(flask_dbkit, name), DBKitError)
    }
    tree = reference.errors().split("```")[1]
    assert set(tree.split()[1:]) == every


def test_the_command_page_holds_the_help_of_every_command() -> None:
    """The help a terminal shows and the help on the page are one text."""
    page = reference.commands()
    for name, command in complete_group().commands.items():
        assert f"Usage: flask dbkit {name}" in page
        assert str(command.help).splitlines()[0] in page


def test_the_page_of_lint_rules_holds_every_rule() -> None:
    """An id in the output of the linter can be looked up."""
    page = reference.lint_rules()
    assert re.findall(r"^## (DM\d{3}): ", page, re.MULTILINE) == [rule.id for rule in RULES]
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_every_command_a_page_names_exists() -> None:
    """``flask dbkit …`` in the text is a command of this version."""
    for name in re.findall(r"flask (?:--app \S+ )?dbkit ([a-z]+)", _text(README, *pages())):
        assert name in complete_group().commands, name


def test_the_changelog_names_every_public_name() -> None:
    """Who upgrades learns of everything there is."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in flask_dbkit.__all__ if f"{name}" not in changelog] == []


def test_the_changelog_names_every_setting_and_command() -> None:
    """Who upgrades learns of everything there is."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [key for key in sorted(KEYS) if key not in changelog] == []
    for name in complete_group().commands:
        assert f"flask dbkit {name}" in changelog


def test_links_lead_to_pages_and_to_places_on_them() -> None:
    """On a code host as well as on the site; a heading that was renamed takes its links along."""
    broken = []
    for page in [README, ROOT / "CONTRIBUTING.md", ROOT / "examples/atlas/README.md", *pages()]:
        text = re.sub(
            r"```.*?```|`[^`\n]*`(?!\])", "", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for link in re.findall(r"]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_old_addresses_lead_to_the_pages_that_took_their_place() -> None:
    """With the anchors: a bookmark goes where its section is now."""
    for old, new in json.loads((DOCS / "redirects.json").read_text(encoding="utf-8")).items():
        wanted = [(new["page"], new["anchor"])]
        for to in new["anchors"].values():
            page, _, anchor = to.rpartition("#")
            wanted.append((page or new["page"], anchor))
        for page, anchor in wanted:
            assert anchor in {"", *anchors(DOCS / f"{page}.md")}, (old, page, anchor)


def test_links_in_the_readme_lead_to_files() -> None:
    """The table of features is a way into the documentation."""
    links = re.findall(r"]\(([^)#]+)(?:#[\w-]+)?\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / link).exists()] == []
    linked = {ROOT / link for link in local}
    assert [page.name for page in HOW_TO if page.name != "index.md" and page not in linked] == []


def test_each_helper_of_an_application_is_found_by_its_question() -> None:
    """The page of questions leads to every function and decorator, once."""
    text = _text(DOCS / "how-to/which.md")
    linked = re.findall(r"\[`(\w+)`]\(\.\./reference/api/", text)
    helpers = {
        name for name in flask_dbkit.__all__ if inspect.isfunction(getattr(flask_dbkit, name))
    }
    # What is set up once, or asked of an error.
    elsewhere = {"classify", "declarative_base", "health_blueprint"}
    assert helpers - elsewhere - set(linked) == set()
    assert len(linked) == len(set(linked))


# What newcomers search for, and the page whose headings or tables have the words.
SEARCHES = {
    "many-to-many": "chores", "seed data": "chores", "login": "chores", "last seen": "chores",
    "flask shell": "chores", "Model.query": "chores", "soft delete": "chores",
    "passwords": "chores",
    "row locks": "chores", "JSON columns": "chores", "marshmallow": "chores", "pydantic": "chores",
    "CSV export": "chores", "N+1": "queries", "pytest": "testing", "factories": "testing",
    "DetachedInstanceError": "errors", "database is locked": "sqlite", "PgBouncer": "servers",
}  # fmt: skip


@pytest.mark.parametrize(("words", "name"), SEARCHES.items())
def test_a_search_finds_the_page_with_the_answer(words: str, name: str) -> None:
    """The search of the site counts words, and gives those of titles the most weight."""
    text = (DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    assert re.search(rf"(?i)\b{re.escape(words)}(?!\w)", text)


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
