"""A list narrowed for one request: planned once per form, with the values of the request."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event, exists, select
from sqlalchemy.orm import Session, aliased

from flask_dbkit import Filter, FilterAllowlist, Listing, SortAllowlist

from .catalog import SECRET, Author, Book, Tag, fill_books

pytestmark = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


def make_listing(source: Any = Book) -> Listing[Any]:
    return Listing(
        source,
        sort=SortAllowlist({"title": Book.title}, default="title"),
        filter=FilterAllowlist({"shelf": Filter(Book.shelf, ops="eq in")}),
        max_per_page=100,
    )


def ids(listing: Listing[Any], session: Session, statement: Any, **args: str) -> list[list[int]]:
    """Return what both kinds of pages list."""
    given = {"per_page": "100", **args}
    pages = (
        listing.paginate(statement, args=given, session=session),
        listing.paginate_keyset(statement, args=given, session=session, secret=SECRET, bind=1),
    )
    return [sorted(book.id for book in page.items) for page in pages]


def test_every_form_of_criteria_has_the_values_of_its_own_request(session: Session) -> None:
    """What one tenant's request planned never shows another tenant's rows."""
    fill_books(session)
    books = session.scalars(select(Book)).all()
    listing, other = make_listing(), make_listing(select(Book))
    mentor, written = aliased(Author), aliased(Book)
    forms: dict[str, tuple[Any, Any]] = {
        "equal": (lambda n: Book.author_id == n, lambda b, n: b.author_id == n),
        "in": (lambda n: Book.shelf.in_([n, n + 1]), lambda b, n: b.shelf in (n, n + 1)),
        "exists": (
            lambda n: Book.tags.any(Tag.id == n),
            lambda b, n: any(tag.id == n for tag in b.tags),
        ),
        "alias": (
            lambda n: Book.author_id.in_(select(mentor.id).where(mentor.id <= n)),
            lambda b, n: b.author_id <= n,
        ),
        "alias of a subquery": (
            lambda n: Book.author_id.in_(
                select(select(Author.id).where(Author.id <= n).subquery().c.id)
            ),
            lambda b, n: b.author_id <= n,
        ),
        "correlated alias": (
            lambda n: ~exists().where(written.author_id == Book.author_id, written.id < n),
            lambda b, n: not any(x.author_id == b.author_id and x.id < n for x in books),
        ),
        "alias of the request": (
            lambda n: Book.id.in_(select(aliased(Book).id).where(Book.id < n)),
            lambda b, n: b.id < n,
        ),
        "or": (
            lambda n: (Book.shelf == n) | (Book.title > str(n)),
            lambda b, n: b.shelf == n or b.title > str(n),
        ),
    }

    def same_twice(n: int) -> Any:
        mine = Book.author_id == n
        return (mine & (Book.shelf > 0)) | (mine & (Book.id < 9))

    forms["twice"] = (same_twice, lambda b, n: b.author_id == n and (b.shelf > 0 or b.id < 9))
    for criterion, holds in forms.values():
        for number in (1, 3):
            for one in (listing, other):
                # The same form, compiled for somebody else before.
                session.execute(one.statement.where(criterion(9))).all()
                expected = sorted(b.id for b in books if holds(b, number))
                narrowed = one.statement.where(criterion(number))
                assert ids(one, session, narrowed) == [expected, expected]
                further = [b for b in books if holds(b, number) and b.id < number * 9]
                twice = narrowed.where(Book.id < number * 9)
                expected = sorted(b.id for b in further if b.shelf == 1)
                assert ids(one, session, twice, shelf="1") == [expected, expected]


@pytest.mark.backends("sqlite-file")
def test_a_form_is_planned_once_and_what_hooks_may_read_is_kept(session: Session) -> None:
    """Plans are built once per form, and an execution option is not part of SQLAlchemy's key.

    An alias is a form too, one that is made in the request included.
    """
    fill_books(session)
    listing = make_listing(select(Book).where(Book.id > 0))
    for number in range(1, 6):
        ids(listing, session, listing.statement.where(Book.author_id == number))
        ids(listing, session, listing.statement.where(Book.tags.any(Tag.id == number)))
        mentor = aliased(Author)
        known = select(mentor.id).where(mentor.id < number)
        ids(listing, session, listing.statement.where(Book.author_id.in_(known)))
    assert len(listing._planner._plans) == 6
    seen: list[object] = []

    def note(state: Any) -> None:
        seen.append(state.execution_options.get("tenant"))

    event.listen(session, "do_orm_execute", note)
    for number in (1, 2):
        narrowed = listing.statement.where(Book.author_id == 1)
        ids(listing, session, narrowed.execution_options(tenant=number))
    assert {one for one in seen if one} == {1, 2}
    assert re.search(r"Listing Book", repr(listing))
