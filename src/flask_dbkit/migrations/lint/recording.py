"""Run ``upgrade()`` of a revision without a database, and write down what it would do."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from alembic.operations import BatchOperations, MigrateOperation, Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData
from sqlalchemy.engine import URL
from sqlalchemy.exc import CompileError

from ..naming import for_revisions

__all__ = ["Batch", "Recorded", "Recording", "record"]


@dataclass(frozen=True)
class Batch:
    """One ``batch_alter_table`` block."""

    table: str
    recreate: str


@dataclass(frozen=True)
class Recorded:
    """One operation.

    Attributes:
        operation: Alembic's; a statement is an ``ExecuteSQLOp``.
        line: Of the revision file.
        batch: The block it is in.
        autocommit: Whether it is outside a transaction.
    """

    operation: MigrateOperation
    line: int
    batch: Batch | None = None
    autocommit: bool = False


@dataclass
class Recording:
    """What a revision does to one database.

    Attributes:
        dialect: The name of the database.
        operations: In order.
        sql: What it would send, each statement with its line. Empty for SQLite, where most of
            it depends on the table that is there.
        problem: Why the rest is not known: the revision asks the database something.
        problem_line: The line of the revision file where it ended.
    """

    dialect: str
    operations: list[Recorded] = field(default_factory=list)
    sql: list[tuple[int, str]] = field(default_factory=list)
    problem: str | None = None
    problem_line: int = 1


def record(
    function: Callable[[], object], file: str, dialect: str, metadata: MetaData
) -> Recording:
    """Call ``upgrade()`` and note every operation. Nothing is sent anywhere.

    Args:
        function: Of the revision.
        file: Its file, as the code object names it.
        dialect: The name of the database.
        metadata: Of the models, for its naming convention.
    """
    recording = Recording(dialect)
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect=URL.create(dialect).get_dialect()(),
        opts={
            "as_sql": True,
            "output_buffer": out,
            "literal_binds": True,
            "target_metadata": for_revisions(metadata, in_batches=dialect == "sqlite"),
            "transactional_ddl": True,
        },
    )
    recorder = _Recorder(recording, context, out, file)
    with recorder.installed():
        try:
            function()
        except Exception as error:
            said = " ".join(str(error).split())
            recording.problem = f"{type(error).__name__}: {said}" if said else type(error).__name__
            recording.problem_line = _line_in(error, file)
    return recording


def _line_in(error: BaseException, file: str) -> int:
    """Return the last line of a file that an error came through."""
    lines = [1]
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1]


class _Recorder:
    def __init__(
        self, recording: Recording, context: MigrationContext, out: io.StringIO, file: str
    ) -> None:
        self._recording, self._context, self._out, self._file = recording, context, out, file
        self._autocommit = False
        self._emits = recording.dialect != "sqlite"

    @contextmanager
    def installed(self) -> Iterator[None]:
        operations: Any = Operations(self._context)
        plain_batch = operations.batch_alter_table
        plain_block = self._context.autocommit_block
        invoke = operations.invoke

        @contextmanager
        def batch_alter_table(
            table_name: str, schema: str | None = None, recreate: str = "auto", **options: Any
        ) -> Iterator[Any]:
            batch = Batch(table_name, recreate)
            if not self._emits:
                impl: Any = SimpleNamespace(table_name=table_name, schema=schema)
                fake: Any = BatchOperations(self._context, impl=impl)
                fake.invoke = lambda operation: self._note(operation, None, batch)
                yield fake
                return
            with plain_batch(table_name, schema=schema, recreate=recreate, **options) as real:
                plain = real.invoke
                real.invoke = lambda operation: self._note(operation, plain, batch)
                # On a server a block collects nothing and sends at its end: send now instead.
                yield real

        @contextmanager
        def autocommit_block() -> Iterator[None]:
            self._autocommit = True
            try:
                if not self._emits:
                    yield
                    return
                start, line = self._out.tell(), self._line()
                with plain_block():
                    self._collect(start, line)  # COMMIT
                    yield
                    start = self._out.tell()
                self._collect(start, line)  # BEGIN
            finally:
                self._autocommit = False

        operations.invoke = lambda operation: self._note(operation, invoke, None)
        operations.batch_alter_table = batch_alter_table
        operations.get_bind = lambda: _Bind(self)
        context: Any = self._context
        context.autocommit_block = autocommit_block
        operations._install_proxy()  # noqa: SLF001 - as Operations.context() does
        try:
            yield
        finally:
            operations._remove_proxy()  # noqa: SLF001

    def _note(self, operation: Any, plain: Any, batch: Batch | None) -> Any:
        line = self._line()
        self._recording.operations.append(Recorded(operation, line, batch, self._autocommit))
        result = None
        if plain is not None and self._emits:
            start = self._out.tell()
            # A value that cannot be written as text is known all the same: it was just noted.
            with contextlib.suppress(CompileError):
                result = plain(operation)
            self._collect(start, line)
        elif isinstance(operation, ops.CreateTableOp):
            result = operation.to_table(self._context)
        return result

    def _collect(self, start: int, line: int) -> None:
        text = self._out.getvalue()[start:].strip()
        if text:
            self._recording.sql.append((line, text))

    def send(self, statement: Any) -> None:
        """Note a statement that the revision sends on ``op.get_bind()``."""
        operation = ops.ExecuteSQLOp(statement)
        line = self._line()
        self._recording.operations.append(Recorded(operation, line, None, self._autocommit))
        if self._emits:
            with contextlib.suppress(Exception):
                start = self._out.tell()
                self._context.impl._exec(statement)  # noqa: SLF001
                self._collect(start, line)

    def _line(self) -> int:
        frame: Any = sys._getframe()  # noqa: SLF001
        while frame is not None:
            if frame.f_code.co_filename == self._file:
                return int(frame.f_lineno)
            frame = frame.f_back
        return 1


class _Bind:
    """Stands in for the connection: it takes every statement, and finds no row."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder
        self.dialect = recorder._context.dialect  # noqa: SLF001
        self.engine = self

    def execute(self, statement: Any, *_: Any, **__: Any) -> _NoRows:
        self._recorder.send(statement)
        return _NoRows()

    exec_driver_sql = execute

    def scalar(self, statement: Any, *_: Any, **__: Any) -> None:
        self._recorder.send(statement)

    def scalars(self, statement: Any, *_: Any, **__: Any) -> _NoRows:
        self._recorder.send(statement)
        return _NoRows()

    @contextmanager
    def begin_nested(self) -> Iterator[None]:
        yield

    begin = begin_nested

    def commit(self) -> None:
        """Do nothing."""

    rollback = close = commit


class _NoRows:
    rowcount = 0

    def fetchall(self) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def first(self) -> None:
        return None

    fetchone = scalar = scalar_one_or_none = one_or_none = first

    def scalars(self) -> _NoRows:
        return self

    mappings = scalars

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return []

    def partitions(self, size: int | None = None) -> Iterator[Any]:
        return iter(())

    def all(self) -> list[Any]:
        return []
