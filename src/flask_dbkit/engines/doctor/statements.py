"""DK100: statements that are put together from texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.findings import Found
from ...doctor.flow import Flow
from ...doctor.sources import last_name

__all__: list[str] = []

_CALLS = frozenset(
    {"text", "execute", "exec_driver_sql", "executemany", "executescript", "scalar", "scalars"}
    | {"from_statement", "read_sql", "read_sql_query", "DDL", "literal_column"}
)
_SQL = re.compile(
    r"\b(select|insert\s+into|update|delete\s+from|from|where|order\s+by|group\s+by|values"
    r"|create\s+(table|index|view)|drop\s+(table|index|view)|alter\s+table|truncate|pragma|like"
    r"|having|limit|asc|desc)\b",
    re.IGNORECASE,
)
_LONGEST = 60


@check(
    "DK100",
    "A statement put together from texts",
    tags=("code", "security"),
    cause="A value inside the text of a statement is part of the statement: whoever chooses the"
    " value chooses what the database does.",
    fix='Bind it: text("… WHERE name = :name"), {"name": name}. Names of tables and columns come'
    " from an allowlist.",
    link="https://docs.sqlalchemy.org/en/20/core/sqlelement.html#sqlalchemy.sql.expression.text",
)
def built_statements(given: Examination) -> Iterator[Found]:
    """Follow what is handed to text(), execute() and their like."""
    for source in given.sources:
        flows: dict[ast.AST, Flow] = {}
        for node, around in source.calls:
            if last_name(node.func) not in _CALLS or not node.args:
                continue
            flow = flows.get(around) or flows.setdefault(around, Flow(source, around))
            built = flow.built(node.args[0])
            if built is None or not _is_sql(node, built) or source.is_ignored("DK100", node):
                continue
            from_client = flow.from_client(built)
            yield Found(
                f"{last_name(node.func)}({_short(built)}) in {_name(around)}"
                + (" has a value of the request in it" if from_client else ""),
                object=source.place(node),
                level="error" if from_client else None,
            )


def _is_sql(call: ast.Call, built: ast.expr) -> bool:
    said = " ".join(
        part.value
        for part in ast.walk(built)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    # text() is SQLAlchemy's nearly everywhere, and takes nothing but SQL.
    return bool(_SQL.search(said)) or (
        isinstance(call.func, ast.Attribute) and call.func.attr == "exec_driver_sql"
    )


def _short(node: ast.expr) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _name(around: ast.AST) -> str:
    name = getattr(around, "name", None)
    return f"{name}()" if name else "the module" if isinstance(around, ast.Module) else "a lambda"
