"""Read the revisions of a folder, and report what would lock, break or lose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from sqlalchemy.orm import Mapper

from ..binds import bind_title, suffix_of
from ..folder import Folder
from ..history import AppliedRevisions, changed_since
from ..revisions import function_for
from ..upgrading import translated
from .files import FolderFacts, examine_file
from .findings import LintFinding, RevisionSource
from .operations import examine_operations
from .reading import Revisions, readable_revisions
from .recording import Recording, record
from .rules import BY_ID
from .schema import Schema
from .squawk import find_squawk, run_squawk
from .view import Hit

__all__ = ["lint"]


@dataclass(frozen=True)
class _LintedDatabase:
    """One database that a revision is read for."""

    suffix: str
    dialect: str
    schema: Schema


def lint(
    folder: Folder,
    *,
    since: str | None = None,
    dialects: Iterable[str] = (),
    only: Collection[Path] | None = None,
) -> list[LintFinding]:
    """Lint the revisions of a folder. Connects to no database.

    Args:
        folder: The folder, and the application it is for.
        since: Only what came after: a revision of the folder, or a commit of git.
        dialects: Also read the revisions of the default database for these, such as
            ``postgresql`` for an application that runs on SQLite here and there on PostgreSQL.
        only: Report what is in these files only.

    Returns:
        The findings by revision, in the order of an upgrade, and by line.

    Raises:
        MigrationError: ``since`` is neither.
    """
    with translated(), readable_revisions(folder) as revisions:
        found = _lint(folder, revisions, since, dialects)
    if only is None:
        return found
    files = {path.resolve() for path in only}
    return [each for each in found if each.file is not None and each.file.resolve() in files]


def _lint(
    folder: Folder, revisions: Revisions, since: str | None, dialects: Iterable[str]
) -> list[LintFinding]:
    script = revisions.script
    order = list(reversed(list(script.walk_revisions())))
    wanted = _wanted(folder, script, order, since)
    linter = _Linter(folder, order, _databases(folder, dialects), revisions)
    findings = list(_several_heads(script))
    for one in order:
        findings += linter.examine(one, report=str(one.revision) in wanted)
    return findings


def _wanted(
    folder: Folder, script: ScriptDirectory, order: Sequence[Script], since: str | None
) -> set[str]:
    every = {str(one.revision) for one in order}
    if since is None:
        return every
    if since in every:
        return (
            every
            - {
                str(one.revision)
                for one in script.iterate_revisions(since, "base", inclusive=False)
            }
            - {since}
        )
    changed = changed_since(folder, since)
    return {str(one.revision) for one in order if one.path in changed}


def _databases(folder: Folder, dialects: Iterable[str]) -> list[_LintedDatabase]:
    targets = [
        _LintedDatabase(
            suffix_of(key), engine.dialect.name, Schema(folder.metadata(key), folder.mapped)
        )
        for key, engine in folder.managed.items()
    ]
    there = {target.dialect for target in targets if target.suffix == ""}
    return targets + [
        _LintedDatabase("", name, Schema(folder.metadata(None), folder.mapped))
        for name in dialects
        if name not in there
    ]


def _several_heads(script: ScriptDirectory) -> Iterator[LintFinding]:
    heads = script.get_heads()
    if len(heads) > 1:
        rule = BY_ID["DM004"]
        yield LintFinding(rule.id, rule.level, heads[0], None, 0, ", ".join(heads), rule.fix)


class _Linter:
    def __init__(
        self,
        folder: Folder,
        order: Sequence[Script],
        databases: list[_LintedDatabase],
        revisions: Revisions,
    ) -> None:
        self._revisions = revisions
        self._databases = databases
        self._squawk = find_squawk()
        self._applied = AppliedRevisions.of(folder)
        self._modules, self._names, self._packages = _models(folder)
        self._since = _first_mention(folder, order)
        self._position = {str(one.revision): n for n, one in enumerate(order)}

    def examine(self, script: Script, *, report: bool) -> list[LintFinding]:
        """Lint one revision; without ``report`` only learn what it does to the tables."""
        path = self._revisions.original(Path(script.path))
        reason = self._revisions.broken.get(path)
        if reason is not None:
            rule = BY_ID["DM008"]
            message = f"{rule.title}: it cannot be loaded: {reason}"
            found_only = LintFinding(
                rule.id, rule.level, str(script.revision), path, 1, message, rule.fix
            )
            return [found_only] if report else []
        source = RevisionSource(path)
        found: dict[tuple[str, int, str], LintFinding] = {}

        def add(hit: Hit) -> None:
            rule = BY_ID[hit.rule]
            if report and not source.is_ignored((rule.id,), hit.line):
                found[rule.id, hit.line, hit.message] = LintFinding(
                    rule.id,
                    rule.level,
                    str(script.revision),
                    source.path,
                    hit.line,
                    f"{rule.title}: {hit.message}",
                    rule.fix,
                )

        if report:
            for hit in examine_file(source, self._around(script)):
                add(hit)
            if self._applied.was_edited(str(script.revision), source.text):
                add(Hit("DM005", 1, "it differs from what was applied here"))
        for target in self._databases:
            function = function_for(script.module, "upgrade", target.suffix)
            if function is None:
                continue
            recording = record(
                function, str(script.module.__file__), target.dialect, target.schema.metadata
            )
            for hit in _examined(recording, target.schema):
                add(hit)
            if report and target.dialect == "postgresql" and self._squawk is not None:
                ours = {(rule, line) for rule, line, _ in found}
                for finding in self._ask_squawk(script, source, recording, ours):
                    found[finding.rule, finding.line, finding.message] = finding
        return sorted(found.values(), key=lambda one: (one.line, one.rule))

    def _around(self, script: Script) -> FolderFacts:
        position = self._position[str(script.revision)]
        due = {suffix for suffix, first in self._since.items() if first <= position}
        return FolderFacts(
            self._modules,
            self._names,
            self._packages,
            frozenset(due),
            joins=isinstance(script.down_revision, (tuple, list)),
        )

    def _ask_squawk(
        self,
        script: Script,
        source: RevisionSource,
        recording: Recording,
        ours: set[tuple[str, int]],
    ) -> Iterator[LintFinding]:
        assert self._squawk is not None
        lines: list[int] = []
        texts: list[str] = []
        for line, text in [(1, "BEGIN;"), *recording.sql, (1, "COMMIT;")]:
            texts.append(text)
            lines += [line] * (text.count("\n") + 1)
        for each in run_squawk(self._squawk, "\n".join(texts)):
            line = lines[each.line] if each.line < len(lines) else 1
            same = [rule.id for rule in BY_ID.values() if each.rule in rule.squawk]
            if any((rule, line) in ours for rule in same):
                continue  # the same fact once is enough
            if not source.is_ignored((f"sq:{each.rule}", *same), line):
                yield LintFinding(
                    f"sq:{each.rule}",
                    each.level,
                    str(script.revision),
                    source.path,
                    line,
                    each.message,
                    each.fix,
                )


def _examined(recording: Recording, schema: Schema) -> Iterator[Hit]:
    """Yield what is wrong, and whether anything was left unread."""
    try:
        yield from examine_operations(recording, schema)
    except Exception as error:
        yield Hit("DM008", 1, f"for {recording.dialect}: {type(error).__name__}: {error}")
    if recording.problem is not None:
        message = f"for {recording.dialect}: {recording.problem}"
        yield Hit("DM008", recording.problem_line, message)


def _models(folder: Folder) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the modules of the mapped classes, their names, and the packages they are in."""
    base: Any = folder.db.Model
    mappers: Iterable[Mapper[Any]] = base.registry.mappers
    classes = [mapper.class_ for mapper in mappers]
    modules = {each.__module__ for each in classes}
    packages = {module.partition(".")[0] for module in modules} | {folder.package}
    names = {each.__name__ for each in classes} | {"db"}
    return frozenset(modules), frozenset(names), frozenset(packages)


def _first_mention(folder: Folder, order: Sequence[Script]) -> dict[str, int]:
    """Return where in the history each database first has a function of its own."""
    first: dict[str, int] = {}
    suffixes = {suffix_of(key): bind_title(key) for key in folder.engines}
    for position, script in enumerate(order):
        for suffix in suffixes:
            if hasattr(script.module, f"upgrade_{suffix}"):
                first.setdefault(suffix, position)
    # One that no revision knows yet was forgotten in the newest.
    return {suffix: first.get(suffix, len(order) - 1) for suffix in suffixes}
