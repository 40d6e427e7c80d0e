"""The text of a CREATE TABLE of SQLite: taken apart, changed in places, and put together again.

Nothing is judged here: SQLite reads what comes out.

References:
    https://www.sqlite.org/lang_createtable.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "TableText",
    "altered",
    "mentions",
    "renamed",
    "same_sql",
    "unquoted",
    "without_generation",
]

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<blank>\s+)|(?P<token>[^\W\d][\w$]*"""
    r"""|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*(?:\]|\Z)|'(?:[^']|'')*'|.)""",
    re.DOTALL,
)
_TABLE_WORDS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})
_CLAUSE_WORDS = frozenset(
    {"CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES"}
    | {"GENERATED", "AS"}
)


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The keyword it may be; a quoted name is none."""
        return self.text.upper()

    @property
    def is_name(self) -> bool:
        return self.text[0] in '"`[' or self.text[0].isidentifier()


def _tokens(sql: str) -> list[_Token]:
    return [
        _Token(match["token"], match.start(), match.end())
        for match in _TOKEN.finditer(sql)
        if match["token"] is not None
    ]


def unquoted(token: str) -> str:
    """Return the name that a token stands for."""
    if token[:1] == "[":
        return token[1:-1]
    if token[:1] in "\"`'" and len(token) > 1:
        return token[1:-1].replace(token[0] * 2, token[0])
    return token


def same_sql(one: str, other: str) -> bool:
    """Tell whether two statements differ in blanks, comments, quotes and case only."""
    return _plain(one) == _plain(other)


def _plain(sql: str) -> list[str]:
    return [
        each.text if each.text[0] == "'" else unquoted(each.text).lower() for each in _tokens(sql)
    ]


def mentions(sql: str, names: Collection[str]) -> bool:
    """Tell whether a statement has one of these names in it."""
    wanted = {name.lower() for name in names}
    return any(each.is_name and unquoted(each.text).lower() in wanted for each in _tokens(sql))


def renamed(sql: str, names: Mapping[str, str]) -> str:
    """Put new names in the place of old ones."""
    wanted = {old.lower(): new for old, new in names.items()}
    parts, end = [], 0
    for each in _tokens(sql) if wanted else ():
        new = wanted.get(unquoted(each.text).lower()) if each.is_name else None
        if new is not None:
            escaped = new.replace('"', '""')
            parts += [sql[end : each.start], f'"{escaped}"']
            end = each.end
    return "".join([*parts, sql[end:]])


@dataclass(frozen=True)
class TableText:
    """The parts of a CREATE TABLE.

    Attributes:
        columns: Name and definition of each.
        constraints: Those of the table: name, if it has one, and text.
        options: What stands behind the brackets.
    """

    columns: tuple[tuple[str, str], ...]
    constraints: tuple[tuple[str | None, str], ...]
    options: str

    @classmethod
    def parse(cls, sql: str) -> TableText:
        """Take a statement apart.

        Raises:
            ValueError: It has no list of columns.
        """
        tokens = _tokens(sql)
        opening = next((n for n, each in enumerate(tokens) if each.text == "("), None)
        if opening is None:
            raise ValueError(sql)
        columns, constraints = [], []
        depth, start = 0, opening + 1
        for number in range(opening, len(tokens)):
            text = tokens[number].text
            depth += {"(": 1, ")": -1}.get(text, 0)
            if (depth == 1 and text == ",") or depth == 0:
                item = tokens[start:number]
                words = sql[item[0].start : item[-1].end]
                if item[0].word in _TABLE_WORDS:
                    name = unquoted(item[1].text) if item[0].word == "CONSTRAINT" else None
                    constraints.append((name, words))
                else:
                    columns.append((unquoted(item[0].text), words))
                start = number + 1
            if depth == 0:
                options = sql[tokens[number].end :].strip()
                return cls(tuple(columns), tuple(constraints), options)
        raise ValueError(sql)

    def parts(self) -> Iterator[str]:
        """Yield every part."""
        for _, text in (*self.columns, *self.constraints):
            yield text
        if self.options:
            yield self.options

    def sql(self, name: str) -> str:
        """Return the statement for a table of another name."""
        escaped = name.replace('"', '""')
        inside = ",\n\t".join(text for _, text in (*self.columns, *self.constraints))
        return f'CREATE TABLE "{escaped}" (\n\t{inside}\n) {self.options}'.rstrip()


def altered(before: str, after: str, options: Mapping[str, Any]) -> str:
    """Return the definition of a column with what ``alter_column()`` changes in it.

    Args:
        before: As it was.
        after: As Alembic has made it, which has lost some clauses and has the changed ones.
        options: What was given to ``alter_column()``.
    """
    name, kind, clauses = _column(before)
    _, new_kind, new_clauses = _column(after)
    if options.get("type_") is not None:
        kind = new_kind
    if options.get("nullable") is not None:
        clauses = [each for each in clauses if _clause_word(each) not in ("NOT", "NULL")]
        clauses += [each for each in new_clauses if _clause_word(each) == "NOT"]
    if options.get("server_default", False) is not False:
        clauses = [each for each in clauses if _clause_word(each) != "DEFAULT"]
        clauses += [each for each in new_clauses if _clause_word(each) == "DEFAULT"]
    return " ".join(part for part in (name, kind, *clauses) if part)


def without_generation(text: str) -> str:
    """Return the definition of a column whose value is written, and not worked out."""
    name, kind, clauses = _column(text)
    if not any(_clause_word(each) in ("GENERATED", "AS") for each in clauses):
        return text
    return f"{name} {kind}".strip()


def _column(text: str) -> tuple[str, str, list[str]]:
    """Take the definition of a column apart: name, type, clauses."""
    tokens = _tokens(text)
    starts = list(_clause_starts(tokens))
    first = starts[0] if starts else len(tokens)
    kind = text[tokens[1].start : tokens[first - 1].end] if first > 1 else ""
    ends = [*starts[1:], len(tokens)]
    clauses = [
        text[tokens[a].start : tokens[b - 1].end] for a, b in zip(starts, ends, strict=False)
    ]
    return tokens[0].text, kind, clauses


def _clause_starts(tokens: list[_Token]) -> Iterator[int]:
    depth, number = 0, 1
    while number < len(tokens):
        each = tokens[number]
        depth += {"(": 1, ")": -1}.get(each.text, 0)
        if depth == 0 and each.word in _CLAUSE_WORDS and _begins(tokens, number):
            yield number
            if each.word == "CONSTRAINT":
                number += 2  # its name comes first
            number += _inside(tokens, number)
        number += 1


def _word_at(tokens: list[_Token], number: int) -> str:
    return tokens[number].word if 0 <= number < len(tokens) else ""


def _begins(tokens: list[_Token], number: int) -> bool:
    """Tell whether a word begins a clause here, and does not belong to a foreign key."""
    if _word_at(tokens, number) == "NOT":
        return _word_at(tokens, number + 1) != "DEFERRABLE"
    return _word_at(tokens, number - 1) != "SET"  # ON DELETE SET NULL


def _inside(tokens: list[_Token], number: int) -> int:
    """Return how many words behind this one belong to its clause, and begin none."""
    word, following = _word_at(tokens, number), _word_at(tokens, number + 1)
    if word == "NOT" or (word == "DEFAULT" and following == "NULL"):
        return 1
    return 2 if (word, following) == ("GENERATED", "ALWAYS") else 0


def _clause_word(clause: str) -> str:
    words = [each.word for each in _tokens(clause)]
    return words[2] if words[0] == "CONSTRAINT" and len(words) > 2 else words[0]
