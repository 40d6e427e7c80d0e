"""DK05x: revisions, what the databases have of them, and the way back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.exceptions import NotExamined
from ..doctor.findings import Found
from ..doctor.sources import Source, last_name

if TYPE_CHECKING:
    from .folder import Folder
    from .state import BindState

__all__: list[str] = []

_ALEMBIC = "https://alembic.sqlalchemy.org/en/latest"
_BREAKING = (
    *("add_table", "add_column", "add_constraint", "modify_type", "modify_nullable"),
    "remove_constraint",
)
_HARMLESS = ("modify_default", "modify_comment")
_LEVELS = {**dict.fromkeys(_BREAKING, "error"), **dict.fromkeys(_HARMLESS, "info")}
_KINDS = ("pending", "unknown", "unmanaged", "unreachable")


def _folder() -> Folder | None:
    """Return the folder of the current application, if it has one and Alembic is there."""
    if find_spec("alembic") is None:
        return None
    from .current import folder_if_there  # noqa: PLC0415 - Alembic is an extra

    return folder_if_there()


def _reading_folder(given: Examination) -> Folder | None:
    """Return the same, with engines that only read, for the databases that are there."""
    folder = _folder()
    if folder is None:
        return None
    engines = {}
    for bind in given.binds:
        if bind.key in folder.engines and not bind.in_memory:
            with suppress(NotExamined), given.connect(bind):
                engines[bind.key] = given.reading_engine(bind)
    return replace(folder, engines=engines, direct_url=None)


def _states(given: Examination) -> list[BindState]:
    folder = _reading_folder(given)
    if folder is None:
        return []
    from .state import examine  # noqa: PLC0415 - Alembic is an extra

    return examine(folder)


@check(
    "DK050",
    "Models and database differ",
    level="error",
    tags=("migrations", "drift"),
    cause="A table, a column or a constraint is in one and not in the other: a query fails, or a"
    " rule that the code relies on is not enforced.",
    fix="Make a revision for what is missing: flask dbkit migrate new, then upgrade.",
    link=f"{_ALEMBIC}/autogenerate.html",
    database=True,
)
def drift(given: Examination) -> Iterator[Found]:
    """Let Alembic compare each database that is at the newest revision, checks included."""
    folder = _reading_folder(given)
    if folder is None:
        yield from _missing_tables(given)
    if folder is None or not folder.engines:
        return
    from .drift import find_drift  # noqa: PLC0415 - Alembic is an extra
    from .state import examine  # noqa: PLC0415

    if any(state.status != "current" for state in examine(folder)):
        return  # DK051 to DK054 tell
    for difference in find_drift(folder):
        if difference.kind not in _KINDS:
            yield Found(
                f"{difference.kind} {difference.where}: {difference.detail}",
                object=difference.where,
                level=_LEVELS.get(difference.kind, "warning"),
            )


def _missing_tables(given: Examination) -> Iterator[Found]:
    """Compare the names of the tables, for an application without revisions."""
    for bind in given.binds:
        wanted = [table for other, table in given.tables() if other is bind]
        with suppress(NotExamined), given.connect(bind) as connection:
            looked = inspect(connection)
            missing = [
                table.fullname
                for table in wanted
                if not looked.has_table(table.name, schema=table.schema)
            ]
            if missing:
                yield Found(
                    f"Tables of the models that {bind.name} does not have: {', '.join(missing)}",
                    object=bind.name,
                )


@check(
    "DK051",
    "Revisions that were not applied",
    level="error",
    tags=("migrations",),
    cause="The code is newer than the database, and asks for what is not there yet.",
    fix="flask dbkit migrate upgrade",
    link=f"{_ALEMBIC}/tutorial.html#running-our-first-migration",
    database=True,
)
def pending(given: Examination) -> Iterator[Found]:
    """Compare the revision of each database with those of the code."""
    for state in _states(given):
        if state.status == "pending":
            listed = ", ".join(one.revision for one in state.pending)
            yield Found(f"{state.bind} lacks {listed}", object=state.bind)


@check(
    "DK053",
    "A database that is newer than the code",
    level="error",
    tags=("migrations",),
    cause="It is at a revision that this code does not have: somebody deployed an older version,"
    " or a file was not committed.",
    fix="Deploy the code that has the revision; or go back with it: flask db downgrade.",
    database=True,
)
def unknown_revision(given: Examination) -> Iterator[Found]:
    """Compare the revision of each database with those of the code."""
    for state in _states(given):
        if state.unknown:
            yield Found(f"{state.bind} is at {', '.join(state.unknown)}", object=state.bind)


@check(
    "DK052",
    "Revisions with several ends",
    level="error",
    tags=("migrations",),
    cause="Two branches each added a revision after the same one: an upgrade to head refuses, in"
    " the middle of a deployment.",
    fix="Join them: flask db merge heads.",
    link=f"{_ALEMBIC}/branches.html",
)
def several_heads(given: Examination) -> Iterator[Found]:
    """Read the revisions."""
    folder = _folder()
    if folder is not None:
        heads = folder.script().get_heads()
        if len(heads) > 1:
            yield Found(
                f"There are {len(heads)} heads: {', '.join(heads)}", object=str(folder.path.name)
            )


@check(
    "DK054",
    "A database that revisions leave out",
    level="error",
    tags=("migrations",),
    cause="env.py is written for one database: the tables of this one are never made or changed,"
    " and every check says that all is well.",
    fix="flask dbkit migrate adopt",
    link=f"{_ALEMBIC}/cookbook.html#run-multiple-alembic-environments-from-one-ini-file",
)
def unmanaged(given: Examination) -> Iterator[Found]:
    """Compare the binds that have models with those of env.py."""
    folder = _folder()
    if folder is None:
        return
    for bind in given.binds:
        lasts = bind.replica_of is None and not bind.in_memory
        if lasts and bind.key not in folder.managed and given.metadata(bind).tables:
            yield Found(f"{bind.name} has models and no revisions", object=bind.name)


@check(
    "DK057",
    "Tables are made beside migrations",
    tags=("migrations", "code"),
    cause="create_all() makes tables that no revision knows of: the revision that was to make them"
    " fails, and columns that are added later are missing.",
    fix="Take the call out; flask dbkit migrate upgrade makes the tables, in tests too.",
    link=f"{_ALEMBIC}/cookbook.html#building-an-up-to-date-database-from-scratch",
)
def create_all_beside(given: Examination) -> Iterator[Found]:
    """Look for create_all() in code that serves, if there is a migrations folder."""
    if _folder() is None:
        return
    for source in given.sources:
        for node, around in source.calls:
            serves = last_name(node.func) == "create_all" and not _is_script(source, node, around)
            if serves and not source.is_ignored("DK057", node):
                yield Found("create_all() is called", object=source.place(node))


def _is_script(source: Source, node: ast.Call, around: ast.AST) -> bool:
    """Tell whether a call is in a command, or in what only a script does."""
    decorators = [
        last_name(getattr(one, "func", one)) for one in getattr(around, "decorator_list", ())
    ]
    if "command" in decorators or "cli" in source.path.stem or "commands" in source.path.stem:
        return True
    mains = (
        one
        for one in source.tree.body
        if isinstance(one, ast.If) and "__name__" in ast.dump(one.test)
    )
    return any(one.lineno <= node.lineno <= (one.end_lineno or 0) for one in mains)


@check(
    "DK058",
    "No way back from the last revision",
    tags=("migrations",),
    cause="When the new version has to be taken back its database stays: the old code may not"
    " work on it.",
    fix="Write downgrade(), and try it: flask db downgrade, then upgrade. Where no way back"
    " exists say so by raising an error there.",
    link=f"{_ALEMBIC}/tutorial.html#downgrading",
)
def no_way_back(given: Examination) -> Iterator[Found]:
    """Read the newest revision of each branch."""
    folder = _folder()
    if folder is None:
        return
    script = folder.script()
    for head in script.get_heads():
        path = Path(str(getattr(script.get_revision(head), "path", "")))
        if not path.is_file():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        ups = [one for one in functions if one.name.startswith("upgrade_")] or [
            one for one in functions if one.name == "upgrade"
        ]
        downs = {one.name: one for one in functions if one.name.startswith("downgrade")}
        for up in ups:
            down = downs.get(up.name.replace("upgrade", "downgrade", 1))
            if not _is_empty(up) and (down is None or _is_empty(down)):
                yield Found(
                    f"The revision {head} cannot be taken back: downgrade() does nothing",
                    object=path.name,
                )
                break


def _is_empty(function: ast.FunctionDef) -> bool:
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in function.body
    )


@check(
    "DK059",
    "Models without revisions",
    level="info",
    tags=("migrations",),
    cause="The tables cannot be changed together with the models: create_all() makes what is"
    " missing, and changes nothing.",
    fix="flask dbkit migrate init, then flask dbkit migrate new.",
    link=f"{_ALEMBIC}/tutorial.html",
    deploy=True,
)
def no_revisions(given: Examination) -> Iterator[Found]:
    """Look for a migrations folder."""
    lasting = [bind for bind in given.binds if not bind.in_memory and given.metadata(bind).tables]
    others = "alembic" in given.app.extensions  # Flask-Alembic keeps its revisions elsewhere
    if lasting and not others and _folder() is None:
        yield Found("There is no migrations folder", object="migrations")
