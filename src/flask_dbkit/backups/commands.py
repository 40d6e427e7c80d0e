"""``flask dbkit backup``: create, list, verify, restore, prune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click
from flask.cli import AppGroup

from ..cli.group import FAILED, dbkit_group
from ..cli.printing import as_json_option, print_json, print_table, progress_bar
from ..exceptions import ConfigError
from . import current as backups
from .exceptions import BackupError
from .retention import is_ahead

if TYPE_CHECKING:
    from .manifest import Manifest
    from .pruning import Listed

__all__ = ["backup"]

_at_option = click.option(
    "--at",
    "--to",
    "at",
    metavar="PLACE",
    help="A folder or URL to use instead of DBKIT_BACKUP_DIR.",
)
_jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, help="Connections at once, on PostgreSQL."
)

backup = AppGroup("backup", help="Back up, verify and restore the application's databases.")
dbkit_group.add_command(backup)


@backup.command("create")
@click.option("--bind", metavar="NAME", help="The bind to back up; without it the default one.")
@click.option("--all", "every", is_flag=True, help="Back up every bind that is no replica.")
@click.option(
    "--at", "--to", "to", metavar="PLACE", help="A folder or URL instead of DBKIT_BACKUP_DIR."
)
@click.option("--verify", is_flag=True, help="Restore the copy into a scratch database.")
@click.option("--compact", is_flag=True, help="Leave out free pages, on SQLite.")
@_jobs_option
@as_json_option
@click.pass_context
def create(
    context: click.Context,
    *,
    bind: str | None,
    every: bool,
    to: str | None,
    verify: bool,
    compact: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Copy a database while the application goes on working.

    Prints the id of the backup as its last line; with --all one id per bind. With --json it
    prints the manifests instead.
    """
    if bind is not None and every:
        raise click.UsageError("Give either --bind or --all.")
    names = backups.bind_names()
    if bind is not None and bind not in names:
        raise click.BadParameter(
            f"there is no bind {bind!r}. Use one of: {', '.join(names)}.", param_hint="'--bind'"
        )
    made: list[Manifest] = []
    failed = False
    for name in backups.primary_names() if every else [bind or "default"]:
        with _reporting() as outcome:
            with progress_bar(f"Backing up {name}", as_json=as_json) as bar:
                manifest = backups.create_backup(
                    name, to=to, verify=verify, compact=compact, jobs=jobs, progress=bar.show
                )
            made.append(manifest)
            _warn(manifest)
        failed = failed or outcome.failed
    if as_json:
        print_json([manifest.as_dict() for manifest in made])
    else:
        for manifest in made:
            click.echo(manifest.id)
    if failed:
        context.exit(FAILED)


@backup.command("list")
@_at_option
@as_json_option
@click.pass_context
def list_(context: click.Context, *, at: str | None, as_json: bool) -> None:
    """Show every backup, the oldest first."""
    with _reporting() as outcome:
        listed = backups.list_backups(at=at)
        if as_json:
            print_json([each.as_dict() for each in listed])
        elif listed:
            print_table(_rows(listed))
        else:
            click.echo("There are no backups.")
    outcome.exit(context)


@backup.command("verify")
@click.argument("backup_id", metavar="ID")
@_at_option
@as_json_option
@click.pass_context
def verify(context: click.Context, *, backup_id: str, at: str | None, as_json: bool) -> None:
    """Restore a backup into a scratch database and compare it.

    The live database is not touched. Exits with 1 when anything is wrong.
    """
    with _reporting() as outcome:
        with progress_bar(f"Verifying {backup_id}", as_json=as_json) as bar:
            result = backups.verify_backup(backup_id, at=at, progress=bar.show)
        if as_json:
            print_json(result.as_dict())
        else:
            for finding in result.findings:
                click.echo(f"{finding.code}: {finding.message}")
            if result.ok:
                click.echo(
                    f"{backup_id} is good: restored and compared in {result.duration_s:.1f} s."
                )
        outcome.failed = not result.ok
    outcome.exit(context)


@backup.command("restore")
@click.argument("backup_id", metavar="ID")
@click.option("--into", metavar="URL", help="A database that is empty or does not exist yet.")
@click.option("--in-place", is_flag=True, help="Replace the live database.")
@click.option("--yes", is_flag=True, help="Really replace it.")
@click.option("--force", is_flag=True, help="Replace it although others are connected.")
@click.option(
    "--no-owner", is_flag=True, help="Leave out owners and privileges, and definers on MariaDB."
)
@_at_option
@_jobs_option
@as_json_option
@click.pass_context
def restore(
    context: click.Context,
    *,
    backup_id: str,
    into: str | None,
    in_place: bool,
    yes: bool,
    force: bool,
    no_owner: bool,
    at: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Restore a backup into a new database, or in place of the live one.

    Without --into the new database is made beside the live one, as <name>-<id>. With --in-place
    what is there now is backed up first.
    """
    if in_place and into is not None:
        raise click.UsageError("Give either --into or --in-place.")
    if force and not in_place:
        raise click.UsageError("--force belongs to --in-place.")
    if in_place and not yes:
        raise click.UsageError(
            "--in-place replaces the live database. Add --yes to do it. Nothing was changed."
        )
    lines: list[str] = []
    with _reporting() as outcome:
        with progress_bar(f"Restoring {backup_id}", as_json=as_json) as bar:
            if in_place:
                restored = backups.restore_backup_in_place(
                    backup_id,
                    force=force,
                    at=at,
                    jobs=jobs,
                    tell=bar.beside(partial(click.echo, err=as_json)),
                    progress=bar.show,
                )
            else:
                restored = backups.restore_backup(
                    backup_id, into=into, at=at, jobs=jobs, owner=not no_owner, progress=bar.show
                )
        if in_place:
            said = [f"{restored.manifest.database} is as it was in {backup_id}."]
        else:
            lines = backups.switch_lines(restored)
            said = [
                f"{backup_id} was restored. To switch to it, configure:",
                *(f"    {line}" for line in lines),
            ]
        if as_json:
            print_json({"backup": restored.manifest.as_dict(), "switch_lines": lines})
        else:
            click.echo("\n".join(said))
    outcome.exit(context)


@backup.command("prune")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@_at_option
@as_json_option
@click.pass_context
def prune(context: click.Context, *, dry_run: bool, at: str | None, as_json: bool) -> None:
    """Remove the backups that DBKIT_BACKUP_KEEP does not keep.

    The newest backup of a bind and its newest verified one always stay.
    """
    with _reporting() as outcome:
        removed = backups.prune_backups(at=at, dry_run=dry_run)
        if as_json:
            print_json([manifest.as_dict() for manifest in removed])
        else:
            verb = "would be removed" if dry_run else "removed"
            lines = [f"{manifest.id}  {verb}" for manifest in removed]
            click.echo("\n".join(lines) or "Nothing to remove.")
    outcome.exit(context)


class _Outcome:
    failed = False

    def exit(self, context: click.Context) -> None:
        if self.failed:
            context.exit(FAILED)


@contextmanager
def _reporting() -> Iterator[_Outcome]:
    """Print a failure as one paragraph, and remember that there was one."""
    outcome = _Outcome()
    try:
        yield outcome
    except (BackupError, ConfigError) as error:
        click.echo(f"Error: {error}", err=True)
        outcome.failed = True


def _warn(manifest: Manifest) -> None:
    if not manifest.tables:
        click.echo(f"Warning: {manifest.database} has no tables.", err=True)
    for sentence in manifest.details.get("left_out", ()):
        click.echo(f"Warning: this backup lacks part of the data: {sentence}", err=True)
    violations = manifest.details.get("foreign_key_violations")
    if violations:
        click.echo(f"Warning: {violations} rows break a foreign key in the source.", err=True)


def _rows(listed: Sequence[Listed]) -> list[tuple[str, ...]]:
    return [
        ("id", "bind", "created (UTC)", "size", "revision", "state"),
        *(_row(each) for each in listed),
    ]


def _row(listed: Listed) -> tuple[str, ...]:
    manifest = listed.manifest
    if manifest is None:
        return (listed.id, "", "", "", "", f"damaged: {listed.problem}")
    state = "verified" if manifest.verified else "not verified"
    return (
        manifest.id,
        manifest.bind,
        f"{manifest.created_at:%Y-%m-%d %H:%M:%S}",
        _size(manifest.size_bytes),
        manifest.revision or "-",
        f"{state}, from the future" if is_ahead(manifest) else state,
    )


def _size(size_bytes: float) -> str:
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    units = iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while size_bytes >= 1000:
        size_bytes, unit = size_bytes / 1000, next(units)
    return f"{size_bytes:.1f} {unit}"
