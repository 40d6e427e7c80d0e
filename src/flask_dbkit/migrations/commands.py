"""``flask dbkit migrate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask.cli import AppGroup
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import SQLAlchemyError

from ..backups.current import create_backup
from ..backups.exceptions import BackupError
from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json, print_table, progress_bar
from ..databases import DATABASES, database_of
from .exceptions import MigrationError

if TYPE_CHECKING:
    from ..migrations import BindState, Limits
    from .folder import Folder
    from .lint import LintFinding

__all__ = ["migrate"]


@dbkit_group.group("migrate", cls=AppGroup)
def migrate() -> None:
    """Change the schema of the databases, without losing rows."""
    try:
        import alembic  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            "Migrations need Flask-Migrate and Alembic."
            " Run: pip install 'flask-sqlalchemy-dbkit[migrate]'"
        ) from error


_directory = click.option(
    "-d", "--directory", help="The migrations folder, if it is not DBKIT_MIGRATIONS_DIR."
)
_x_arguments = click.option(
    "-x", "x_arguments", multiple=True, help="An argument for env.py; repeatable."
)


def _patience(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--statement-timeout",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds one statement may run. [default: no limit]",
        ),
        click.option(
            "--lock-timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            help="Seconds a statement waits for rows that another transaction changes.",
        ),
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            default=30.0,
            show_default=True,
            help="Seconds to wait for another upgrade, and to try again for each revision's locks.",
        ),
    ):
        function = option(function)
    return function


_backup = click.option(
    "--backup/--no-backup",
    "backup",
    default=None,
    help="Back up each database that will be changed. [default: SQLite files only]",
)


@migrate.command("init")
@_directory
def init(directory: str | None) -> None:
    """Make the migrations folder."""
    from .authoring import create_folder

    folder = _folder(directory)
    with _failures():
        made = create_folder(folder)
    if made:
        click.echo(f"Made {folder.path}. Next: flask dbkit migrate new -m '...'")
    else:
        click.echo(f"{folder.path} is there already.")


@migrate.command("new")
@click.option("-m", "--message", required=True, help="What the revision is about.")
@click.option("--empty", is_flag=True, help="Leave it empty, to be written by hand.")
@click.option("--merge", is_flag=True, help="Join several heads instead.")
@_directory
@_x_arguments
@as_json_option
def new(
    *,
    message: str,
    empty: bool,
    merge: bool,
    directory: str | None,
    x_arguments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a revision. From the differences between the models and the databases."""
    from .authoring import create_revision, merge_heads
    from .lint import lint as lint_files

    folder = _folder(directory, x_arguments)
    with _failures():
        if merge:
            merged = merge_heads(folder, message)
            if as_json:
                print_json({"written": [str(merged)] if merged else []})
            else:
                told = f"Wrote {merged}" if merged else "There is one head only: nothing to join."
                click.echo(told)
            return
        written = create_revision(folder, message, empty=empty, report=_report(as_json))
        findings = lint_files(folder, only=written) if written and not empty else []
        if as_json:
            print_json({"written": [str(path) for path in written]})
        else:
            for path in written:
                click.echo(f"Wrote {path}")
        _print_findings(findings, folder, err=as_json)


@migrate.command("upgrade")
@click.argument("revision", default="head")
@_backup
@click.option("--dry-run", is_flag=True, help="Print the SQL, and change nothing.")
@_patience
@_directory
@_x_arguments
@as_json_option
def upgrade(
    *,
    revision: str,
    backup: bool | None,
    dry_run: bool,
    directory: str | None,
    x_arguments: tuple[str, ...],
    as_json: bool,
    **limits: Any,
) -> None:
    """Apply the revisions that are missing. Up to REVISION, without it the newest.

    Only one upgrade of a database runs at a time. A revision that fails, or would lose rows,
    is rolled back.
    """
    from .. import migrations

    folder = _folder(directory, x_arguments)
    with _failures():
        if dry_run:
            click.echo(migrations.dry_run(revision, folder=folder), nl=False)
            return
        done = migrations.upgrade(
            revision,
            folder=folder,
            limits=_limits(**limits),
            report=_report(as_json),
            back_up=_backing_up(backup, as_json=as_json),
        )
    if as_json:
        print_json(done)
    else:
        _tell_idle(done)


@migrate.command("downgrade")
@click.argument("revision", default="-1")
@_backup
@_patience
@_directory
@_x_arguments
def downgrade(
    revision: str,
    backup: bool | None,
    directory: str | None,
    x_arguments: tuple[str, ...],
    **limits: Any,
) -> None:
    """Take back the newest revision. With REVISION all that come after it."""
    from .. import migrations

    folder = _folder(directory, x_arguments)
    with _failures():
        done = migrations.downgrade(
            revision,
            folder=folder,
            limits=_limits(**limits),
            report=click.echo,
            back_up=_backing_up(backup),
        )
    _tell_idle(done)


@migrate.command("stamp")
@click.argument("revision", default="head")
@_directory
def stamp(revision: str, directory: str | None) -> None:
    """Note that REVISION is applied. In each database, without applying anything.

    For a database whose tables db.create_all() has made.
    """
    from .. import migrations

    with _failures():
        migrations.stamp(revision, folder=_folder(directory))
    click.echo(f"Stamped {revision}.")


@migrate.command("status")
@as_json_option
@click.option("--exit-code", is_flag=True, help="Exit with 1 unless every database is current.")
@_directory
@click.pass_context
def status(context: click.Context, as_json: bool, exit_code: bool, directory: str | None) -> None:
    """Show which revision each database is at, and what it lacks. Changes nothing."""
    from ..migrations import examine

    with _failures():
        states = examine(_folder(directory))
    if as_json:
        print_json([state.as_dict() for state in states])
    else:
        _print_status(states)
    if any(state.status == "unreachable" for state in states) or (
        exit_code and not all(state.is_fine for state in states)
    ):
        context.exit(FAILED)


# Who comes from Flask-Migrate types this.
migrate.add_command(
    click.Command(
        "current",
        callback=status.callback,
        params=status.params,
        help="The same as status.",
    )
)


@migrate.command("history")
@as_json_option
@_directory
def history(as_json: bool, directory: str | None) -> None:
    """List the revisions, newest first, and who has them.

    Changes nothing.
    """
    from ..migrations import examine

    with _failures():
        folder = _folder(directory)
        script = folder.script()
        states = examine(folder, script)
        revisions = list(script.walk_revisions())
    known = [state for state in states if state.status in ("current", "pending", "absent")]
    lacking = {state.bind: {one.revision for one in state.pending} for state in known}
    found = [
        (
            each.revision,
            [bind for bind, lacks in lacking.items() if each.revision not in lacks],
            each.doc,
        )
        for each in revisions
    ]
    if as_json:
        names = ("revision", "applied", "message")
        print_json([dict(zip(names, one, strict=True)) for one in found])
    elif not found:
        click.echo("No revision yet. Next: flask dbkit migrate new -m '...'")
    else:
        rows = [(revision, ", ".join(binds) or "-", message) for revision, binds, message in found]
        print_table([("revision", "applied to", "message"), *rows])


@migrate.command("check")
@as_json_option
@_directory
@_x_arguments
@click.pass_context
def check(
    context: click.Context, as_json: bool, directory: str | None, x_arguments: tuple[str, ...]
) -> None:
    """Compare the models with each database. Exits with 1 when they differ."""
    from .drift import find_drift

    with _failures():
        found = find_drift(_folder(directory, x_arguments))
    if as_json:
        print_json([difference.as_dict() for difference in found])
    elif not found:
        click.echo("Models and databases agree.")
    else:
        print_table([(one.kind, f"{one.where}: {one.detail}") for one in found])
    if found:
        context.exit(FAILED)


@migrate.command("lint")
@as_json_option
@click.option("--all", "everything", is_flag=True, help="Every revision; the default.")
@click.option("--since", help="Only what came after a revision, or after a commit of git.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(sorted(name for each in DATABASES for name in each.names)),
    help="Read the revisions for this database too; repeatable.",
)
@click.option(
    "--fail-level",
    type=click.Choice(["warning", "error"]),
    default="warning",
    show_default=True,
    help="Exit with 1 from this level on.",
)
@_directory
@click.pass_context
def lint(
    context: click.Context,
    *,
    as_json: bool,
    everything: bool,
    since: str | None,
    dialects: tuple[str, ...],
    fail_level: str,
    directory: str | None,
) -> None:
    """Look for what would lock, break or lose. Connects to no database.

    '# dbkit: ignore DM102 reason' beside a statement leaves it out, and so does
    'with assured(reason):' of flask_dbkit.migrations around it.
    """
    from .lint import lint as examine

    if everything and since:
        raise click.UsageError("--all and --since exclude each other.")
    folder = _folder(directory)
    with _failures():
        findings = examine(folder, since=since, dialects=dialects)
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        _print_findings(findings, folder)
        if not findings:
            click.echo("Nothing found.")
    if any(finding.level == "error" or fail_level == "warning" for finding in findings):
        context.exit(FAILED)


@migrate.command("adopt")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_directory
def adopt(yes: bool, directory: str | None) -> None:
    """Rewrite env.py of an existing folder. 'flask db upgrade' is as safe then.

    Shows the difference first, and keeps a copy of each old file.
    """
    from .adopting import adopt as replace
    from .adopting import kept_rules, left_behind, plan_adoption

    with _failures():
        planned = plan_adoption(_folder(directory))
    if not planned:
        click.echo("The folder is adopted already: nothing to do.")
        return
    for replacement in planned:
        click.echo(replacement.diff())
    for name in kept_rules(planned):
        click.echo(f"Your {name} is kept: it is asked first.")
    if left := left_behind(planned):
        click.echo(
            f"Of your own and not in the new env.py: {', '.join(left)}. Give what you still need to"
            " run_env(context, …)."
        )
    if not yes:
        click.confirm("Write this?", abort=True)
    with _failures():
        for copy in replace(planned):
            click.echo(f"The old file is kept as {copy}.")


def _report(as_json: bool) -> Callable[[str], None]:
    """Return what tells people on the way: beside the JSON, when a program reads that."""
    return partial(click.echo, err=as_json)


def _print_findings(findings: Iterable[LintFinding], folder: Folder, *, err: bool = False) -> None:
    for finding in findings:
        place = f"{finding.file.name}:{finding.line}" if finding.file else str(folder.path)
        click.echo(f"{place}: {finding.rule} {finding.level}: {finding.message}", err=err)
        click.echo(f"    {finding.fix}", err=err)


def _folder(directory: str | None, x_arguments: tuple[str, ...] = ()) -> Folder:
    from ..migrations import find_folder

    return find_folder(directory, x_arguments=x_arguments)


def _limits(wait: float, lock_timeout: float, statement_timeout: float | None) -> Limits:
    from ..migrations import Limits

    return Limits(wait_s=wait, lock_timeout_s=lock_timeout, statement_timeout_s=statement_timeout)


@contextmanager
def _failures() -> Iterator[None]:
    """Show an error that says what to do without its traceback."""
    try:
        yield
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None)
        if original is None:
            raise
        raise click.ClickException(" ".join(str(original).split())) from error


def _backing_up(
    wanted: bool | None, *, as_json: bool = False
) -> Callable[[str | None, Engine], None] | None:
    """Return what backs up a database before it is changed."""
    if wanted is False:
        return None

    def back_up(key: str | None, engine: Engine) -> None:
        from .binds import bind_title, sqlite_file

        file = sqlite_file(engine)
        if database_of(engine).is_embedded and (file is None or not _holds_data(file, engine)):
            return
        if wanted is None and file is None:
            return
        name = bind_title(key)
        try:
            with progress_bar(f"Backing up {name}", as_json=as_json) as bar:
                manifest = create_backup(name, progress=bar.show)
        except BackupError as error:
            raise MigrationError(
                f"The database {name!r} could not be backed up, so nothing was changed: {error}"
                " Use --no-backup to go on without."
            ) from error
        _report(as_json)(f"{name}: backed up as {manifest.id}")

    return back_up


def _holds_data(file: Path, engine: Engine) -> bool:
    return file.is_file() and bool(inspect(engine).get_table_names())


def _tell_idle(done: dict[str, list[str]]) -> None:
    for bind, revisions in done.items():
        if not revisions:
            click.echo(f"{bind}: nothing to do.")


def _print_status(states: Sequence[BindState]) -> None:
    rows = [("bind", "status", "at", "newest")]
    rows += [
        (state.bind, state.status, ", ".join(state.current) or "-", ", ".join(state.heads) or "-")
        for state in states
    ]
    print_table(rows)
    for state in states:
        for one in state.pending:
            click.echo(f"{state.bind} lacks {one.revision}  {one.message}")
        for index in state.invalid_indexes:
            click.echo(
                f"{state.bind}: the index {index} is invalid; DROP INDEX CONCURRENTLY {index}"
            )
        if state.problem:
            click.echo(f"{state.bind}: {state.problem}")
