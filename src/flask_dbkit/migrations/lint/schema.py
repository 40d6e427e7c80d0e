"""The tables as the revisions so far have left them, worked out from their operations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column, ForeignKeyConstraint, MetaData
from sqlalchemy.schema import Index

__all__ = ["Reference", "Schema", "TableState"]

_VALIDATE = re.compile(r"VALIDATE\s+CONSTRAINT\s+\"?(\w+)", re.IGNORECASE)
_NOT_NULL = re.compile(r"(?<!\w)\"?(\w+)\"?\s+IS\s+NOT\s+NULL", re.IGNORECASE)


@dataclass(frozen=True)
class Reference:
    """A foreign key of another table."""

    table: str
    ondelete: str


@dataclass
class TableState:
    """One table.

    Attributes:
        columns: Types by name.
        fragile_indexes: Names of indexes on expressions, and of partial ones.
        checks: Constraints ``column IS NOT NULL`` by name, and whether they are validated.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    fragile_indexes: set[str] = field(default_factory=set)
    checks: dict[str, tuple[str, bool]] = field(default_factory=dict)


class Schema:
    """What is known of the tables of one database.

    Args:
        metadata: The models, for tables that no revision has made.
        mapped: The tables that models of any database map: the bind by the table.
    """

    def __init__(self, metadata: MetaData, mapped: Mapping[str, str] | None = None) -> None:
        self.metadata = metadata
        self.mapped = mapped or {}
        self.tables: dict[str, TableState] = {}
        self._references: dict[str, list[Reference]] = {}

    def references_to(self, table: str) -> list[Reference]:
        """Return the foreign keys that point to a table, from the revisions and the models."""
        found = list(self._references.get(table, ()))
        found += [
            Reference(other.name, key.ondelete or "")
            for other in self.metadata.tables.values()
            for key in other.foreign_key_constraints
            if _target(key) == table
        ]
        return list(dict.fromkeys(found))

    def type_of(self, table: str, column: str) -> Any:
        """Return the type of a column, ``None`` if nothing is known of it."""
        state = self.tables.get(table)
        if state is not None and column in state.columns:
            return state.columns[column]
        model = self.metadata.tables.get(table)
        return model.c[column].type if model is not None and column in model.c else None

    def fragile_indexes(self, table: str) -> set[str]:
        """Return the indexes of a table that a copy on SQLite may lose."""
        found = set(self.tables[table].fragile_indexes) if table in self.tables else set()
        model = self.metadata.tables.get(table)
        if model is not None:
            found |= {str(index.name) for index in model.indexes if is_fragile(index)}
        return found

    def is_known_not_null(self, table: str, column: str) -> bool:
        """Tell whether a validated check constraint says that a column is not NULL."""
        state = self.tables.get(table)
        return state is not None and (column, True) in state.checks.values()

    def apply(self, operation: MigrateOperation) -> None:
        """Take in one operation."""
        method = getattr(self, f"_{type(operation).__name__}", None)
        if method is not None:
            method(operation)

    def _table(self, name: str) -> TableState:
        return self.tables.setdefault(name, TableState())

    def _CreateTableOp(self, op: ops.CreateTableOp) -> None:  # noqa: N802
        self.tables[op.table_name] = state = TableState()
        for item in op.columns:
            if isinstance(item, Column):
                state.columns[item.name] = item.type
                for key in item.foreign_keys:
                    self._refer(op.table_name, str(key.target_fullname), key.ondelete)
            elif isinstance(item, ForeignKeyConstraint):
                self._refer(op.table_name, _spec(item), item.ondelete)
            elif isinstance(item, Index) and is_fragile(item):
                state.fragile_indexes.add(str(item.name))

    def _DropTableOp(self, op: ops.DropTableOp) -> None:  # noqa: N802
        self.tables.pop(op.table_name, None)
        for references in self._references.values():
            references[:] = [each for each in references if each.table != op.table_name]

    def _RenameTableOp(self, op: ops.RenameTableOp) -> None:  # noqa: N802
        if op.table_name in self.tables:
            self.tables[str(op.new_table_name)] = self.tables.pop(op.table_name)

    def _AddColumnOp(self, op: ops.AddColumnOp) -> None:  # noqa: N802
        self._table(op.table_name).columns[op.column.name] = op.column.type
        for key in op.column.foreign_keys:
            self._refer(op.table_name, str(key.target_fullname), key.ondelete)

    def _DropColumnOp(self, op: ops.DropColumnOp) -> None:  # noqa: N802
        self._table(op.table_name).columns.pop(op.column_name, None)

    def _AlterColumnOp(self, op: ops.AlterColumnOp) -> None:  # noqa: N802
        columns = self._table(op.table_name).columns
        if op.modify_type is not None:
            columns[op.column_name] = op.modify_type
        if op.modify_name and op.column_name in columns:
            columns[op.modify_name] = columns.pop(op.column_name)

    def _CreateForeignKeyOp(self, op: ops.CreateForeignKeyOp) -> None:  # noqa: N802
        self._refer(op.source_table, f"{op.referent_table}.x", op.kw.get("ondelete"))

    def _CreateIndexOp(self, op: ops.CreateIndexOp) -> None:  # noqa: N802
        if any(not isinstance(each, str) for each in op.columns) or _is_partial(op):
            self._table(op.table_name).fragile_indexes.add(str(op.index_name))

    def _DropIndexOp(self, op: ops.DropIndexOp) -> None:  # noqa: N802
        for state in self.tables.values():
            state.fragile_indexes.discard(str(op.index_name))

    def _CreateCheckConstraintOp(self, op: ops.CreateCheckConstraintOp) -> None:  # noqa: N802
        match = _NOT_NULL.search(str(op.condition))
        if match is not None:
            valid = not op.kw.get("postgresql_not_valid")
            self._table(op.table_name).checks[str(op.constraint_name)] = (match[1], valid)

    def _ExecuteSQLOp(self, op: ops.ExecuteSQLOp) -> None:  # noqa: N802
        for name in _VALIDATE.findall(str(op.sqltext)):
            for state in self.tables.values():
                if name in state.checks:
                    state.checks[name] = (state.checks[name][0], True)

    def _refer(self, table: str, target: str, ondelete: Any) -> None:
        parent = target.rpartition(".")[0].rpartition(".")[2]
        self._references.setdefault(parent, []).append(Reference(table, str(ondelete or "")))


def _is_partial(op: ops.CreateIndexOp) -> bool:
    # What it holds is SQL, and SQL has no truth value.
    return any(name.endswith("_where") and value is not None for name, value in op.kw.items())


def is_fragile(index: Index) -> bool:
    """Tell whether an index is on an expression, or partial."""
    plain = all(isinstance(each, Column) for each in index.expressions)
    return not plain or index.dialect_options["sqlite"].get("where") is not None


def _spec(constraint: ForeignKeyConstraint) -> str:
    return str(next(iter(constraint.elements)).target_fullname)


def _target(constraint: ForeignKeyConstraint) -> str:
    return _spec(constraint).rpartition(".")[0].rpartition(".")[2]
