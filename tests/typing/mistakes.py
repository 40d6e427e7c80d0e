"""Mistakes that a type checker must find. Never imported.

Each comment hides one error. ``make lint`` fails if there is nothing to hide.
"""

# mypy: disallow-untyped-defs, disallow-incomplete-defs, disallow-untyped-calls
# mypy: disallow-any-generics
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from flask_dbkit import get_or_create, upsert
from tests.typing.library_app import Book, Loan


def make_mistakes(session: Session) -> None:
    """Do what a checker must find; never called."""
    book, _ = get_or_create(Book, session=session, slug="sea")
    print(book.titel)  # type: ignore[attr-defined]
    book.version = "one"  # type: ignore[assignment]
    print(Book.query)  # type: ignore[attr-defined]
    Loan("Bob", created_at=datetime.now(UTC))  # type: ignore[call-arg]
    Loan()  # type: ignore[call-arg]
    upsert(Book, [])  # type: ignore[call-arg]
    get_or_create(book, slug="sea")  # type: ignore[arg-type]
    get_or_create(Book, {1: "one"}, slug="sea")  # type: ignore[dict-item]
