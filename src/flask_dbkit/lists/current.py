"""Listings: a query string in, a page out.

.. code-block:: python

    BOOKS = Listing(select(Book), sort=BOOK_SORT, filter=BOOK_FILTER)  # once, at import


    @app.get("/books")
    def books():
        return BOOKS.paginate_keyset().to_response()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Required,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)
from weakref import WeakSet

from sqlalchemy import Engine, MetaData, Select, Table, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql.selectable import GenerativeSelect

from ..support.calls import explained, explained_methods
from .counting import Count, check_count
from .filter_indexes import Search, examine_filter_indexes, searches_of
from .filtering import FilterAllowlist
from .indexes import IndexFinding, examine_indexes
from .openapi import parameters
from .pages import KeysetPage, OffsetPage
from .planner import Planner, dialect_of
from .probing import range_on
from .query import Limits, check_number
from .reader import PageReader, PageRequest
from .requests import (
    Secret,
    application,
    arguments,
    limits_of,
    request_path,
    session_of,
    settings_of,
    signer_of,
)
from .sorting import SortAllowlist
from .statement import check_source, name_of
from .views import respond

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["Listing", "declared_listings", "listings_of", "paginate", "paginate_keyset"]

T = TypeVar("T")

_declared: WeakSet[Listing[Any]] = WeakSet()


class _ListingOptions(TypedDict, total=False):
    sort: Required[SortAllowlist]
    filter: FilterAllowlist | None
    per_page: int | None
    max_per_page: int | None
    max_offset: int | None
    count: Count | None
    oversize: Literal["clamp", "error"]
    cursor_max_age: int | None
    unique: bool
    name: str | None


class _PageOptions(TypedDict, total=False):
    filter: FilterAllowlist | None
    per_page: int | None
    max_per_page: int | None
    args: Mapping[str, Any] | None
    session: Session | None
    unique: bool


class _OffsetOptions(_PageOptions, total=False):
    sort: SortAllowlist | None
    page: int | None
    count: Count | None
    error_out: bool


class _KeysetOptions(_PageOptions, total=False):
    sort: Required[SortAllowlist]
    cursor: str | None
    bind: object
    secret: Secret | None


def declared_listings() -> list[Listing[Any]]:
    """Return every listing that is still in use, by name."""
    return sorted(_declared, key=lambda listing: listing.name)


def listings_of(metadatas: Iterable[MetaData]) -> list[Listing[Any]]:
    """Return the listings of an application, by name: there may be others in the process.

    Args:
        metadatas: Those of its models, which fit together.
    """
    own = set(metadatas)
    found = []
    for listing in declared_listings():
        with suppress(InvalidRequestError):  # of another application, whose models do not fit
            if listing.metadata in own:
                found.append(listing)
    return found


@explained_methods(sort="For example sort=SortAllowlist({'title': Book.title}, default='title').")
class Listing(Generic[T]):
    """A list that clients sort, filter and page through. Declared once, at import.

    Args:
        entity_or_select: A mapped class, an alias, or a ``select()``. Its own order is not used.
        sort: What it may be sorted by.
        filter: What it may be filtered by.
        per_page: Rows per page; ``None`` is ``DBKIT_DEFAULT_PAGE_SIZE``.
        max_per_page: Most rows a client may ask for; ``None`` is ``DBKIT_MAX_PAGE_SIZE``, or
            ``per_page`` if that is more.
        max_offset: Most rows to skip; ``None`` is no limit of ours.
        count: ``"exact"``, ``"none"`` or at most how many rows to count; ``None`` is
            ``DBKIT_PAGE_COUNT``.
        oversize: ``"clamp"`` a ``per_page`` above the maximum, or make it an ``"error"``.
        cursor_max_age: Seconds a cursor stays good; ``None`` is ``DBKIT_CURSOR_MAX_AGE_S``.
        unique: List each entity once where the statement can repeat it.
        name: Part of what a cursor is bound to; the name of the entity if left out.

    Raises:
        ValueError: A number or word cannot be used.
        TypeError: The source or an allowlist is something else.

    .. versionadded:: 0.1
    """

    @overload
    def __init__(self, entity_or_select: type[T], **options: Unpack[_ListingOptions]) -> None: ...
    @overload
    def __init__(
        self, entity_or_select: Select[tuple[T]], **options: Unpack[_ListingOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        entity_or_select: Select[T],  # type: ignore[type-var,unused-ignore] # pyright: ignore[reportInvalidTypeArguments]
        **options: Unpack[_ListingOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Listing[Any],
        entity_or_select: GenerativeSelect | AliasedClass[Any] | Table,
        **options: Unpack[_ListingOptions],
    ) -> None: ...
    def __init__(
        self,
        entity_or_select: Any,
        *,
        sort: SortAllowlist,
        filter: FilterAllowlist | None = None,  # noqa: A002 - the published name
        per_page: int | None = None,
        max_per_page: int | None = None,
        max_offset: int | None = None,
        count: Count | None = None,
        oversize: Literal["clamp", "error"] = "clamp",
        cursor_max_age: int | None = None,
        unique: bool = False,
        name: str | None = None,
    ) -> None:
        check_source(entity_or_select)
        if not isinstance(sort, SortAllowlist):
            raise TypeError(f"sort is {sort!r}. Use a SortAllowlist.")
        if not isinstance(filter, (FilterAllowlist, type(None))):
            raise TypeError(f"filter is {filter!r}. Use a FilterAllowlist.")
        for key, value, low in (
            ("per_page", per_page, 1),
            ("max_per_page", max_per_page, 1),
            ("cursor_max_age", cursor_max_age, 1),
            ("max_offset", max_offset, 0),
        ):
            if value is not None:
                check_number(key, value, low)
        if per_page and max_per_page and per_page > max_per_page:
            raise ValueError(f"per_page is {per_page}, more than max_per_page, {max_per_page}.")
        if oversize not in ("clamp", "error"):
            raise ValueError(f"oversize is {oversize!r}. Use 'clamp' or 'error'.")
        check_count(count)
        self.sort, self.filter = sort, filter
        self.per_page, self.max_per_page, self.max_offset = per_page, max_per_page, max_offset
        self.count: Count | None = count
        self.oversize: Literal["clamp", "error"] = oversize
        self.cursor_max_age = cursor_max_age
        self.unique = unique
        self._source, self._given_name = entity_or_select, name
        self._planner = Planner(
            entity_or_select, sort, filter, unique=unique, name=lambda: self.name
        )
        _declared.add(self)

    def __repr__(self) -> str:
        return f"<Listing {self.name}>"

    @property
    def name(self) -> str:
        """The name given, else that of the listed entity."""
        return self._given_name or name_of(self._source)

    @property
    def statement(self) -> Select[Any]:
        """The statement. ``statement.where(…)`` narrows it for one request."""
        return cast("Select[Any]", self._planner.statement)

    def paginate(
        self,
        statement: GenerativeSelect | None = None,
        *,
        page: int | None = None,
        per_page: int | None = None,
        count: Count | None = None,
        error_out: bool = False,
        args: Mapping[str, Any] | None = None,
        session: Session | None = None,
    ) -> OffsetPage[T]:
        """Read a page by its number: ``?page=2&per_page=20&sort=-added``.

        Args:
            statement: In place of the listing's own, usually that one with further criteria.
            page: In place of the parameter.
            per_page: In place of the parameter.
            count: In place of the listing's.
            error_out: Raise a 404 for a page past the end.
            args: In place of ``request.args``.
            session: In place of the application's.

        Raises:
            QueryError: With every mistake of the request. Clients see a 400.
            PlanError: The statement cannot be paged rightly.
            ValueError: ``page`` or ``per_page`` is out of range.
        """
        app = application()
        request = PageRequest(
            arguments(args),
            session if session is not None else session_of(app),
            statement=statement,
            page=page,
            per_page=per_page,
            count=_count(count if count is not None else self.count, app),
            error_out=error_out,
            path=request_path(),
            respond=respond,
        )
        return self._reader(app).by_number(request)

    def paginate_keyset(
        self,
        statement: GenerativeSelect | None = None,
        *,
        cursor: str | None = None,
        per_page: int | None = None,
        bind: object = None,
        args: Mapping[str, Any] | None = None,
        session: Session | None = None,
        secret: Secret | None = None,
    ) -> KeysetPage[T]:
        """Read a page by its place: ``?cursor=…&per_page=20&sort=-added``.

        Args:
            statement: In place of the listing's own, usually that one with further criteria.
            cursor: In place of the parameter.
            per_page: In place of the parameter.
            bind: What else a cursor belongs to, a tenant or a user: with another value it is
                refused.
            args: In place of ``request.args``.
            session: In place of the application's.
            secret: In place of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``: one, or several of
                which the first signs.

        Raises:
            QueryError: With every mistake of the request. Clients see a 400.
            PlanError: The statement cannot be paged rightly.
            ConfigError: There is no ``SECRET_KEY`` to sign with.
        """
        app = application()
        request = PageRequest(
            arguments(args),
            session if session is not None else session_of(app),
            statement=statement,
            per_page=per_page,
            cursor=cursor,
            bind=bind,
            signer=signer_of(secret, app, self.cursor_max_age),
            path=request_path(),
            respond=respond,
        )
        return self._reader(app).by_cursor(request)

    def iterate(
        self,
        statement: GenerativeSelect | None = None,
        *,
        batch: int = 1000,
        order: str | None = None,
        session: Session | None = None,
    ) -> Iterator[list[T]]:
        """Read the whole list in batches, for jobs and exports.

        Each batch is a statement of its own that starts where the last one ended, so memory stays
        bounded and no cursor is held open, whatever is written meanwhile.

        Args:
            statement: In place of the listing's own.
            batch: Rows per batch.
            order: As a client would write it; ``None`` is the default order.
            session: In place of the application's.

        Yields:
            Lists of at most ``batch`` rows, none of them empty.

        Raises:
            ValueError: ``batch`` or ``order`` cannot be used.
            PlanError: The statement cannot be paged rightly.
        """
        check_number("batch", batch)
        terms, errors = self.sort.read(order)
        if errors:
            raise ValueError(f"order is {order!r}. Use some of: {', '.join(self.sort.entries)}.")
        app = application()
        used = session if session is not None else session_of(app)
        return self._reader(app).batches(used, terms, batch, statement)

    def openapi_parameters(self) -> list[dict[str, Any]]:
        """Return the OpenAPI 3.1 parameter objects of the list, for both kinds of pages.

        References:
            https://spec.openapis.org/oas/v3.1.0#parameter-object
        """
        app = application()
        limits = self._limits(app)
        if app is None or "dbkit" not in app.extensions:
            return parameters(self.sort, self.filter, limits)
        dialect = dialect_of(session_of(app), self._planner.listed())
        return parameters(self.sort, self.filter, limits, range_on(dialect))

    @property
    def metadata(self) -> MetaData | None:
        """The metadata of the listed entity's table; ``None`` for a list without one."""
        entity = self._planner.entity()
        return inspect(entity).mapper.local_table.metadata if entity is not None else None

    def examine_indexes(self, session: Session | None = None) -> list[IndexFinding]:
        """Compare orders and filters of the list with the indexes that are there. Only reads.

        Args:
            session: In place of the application's.
        """
        used = session if session is not None else session_of(application())
        entity = self._planner.entity()
        mapper = inspect(entity).mapper if entity is not None else None
        bind = used.get_bind(mapper=mapper)
        with bind.connect() if isinstance(bind, Engine) else nullcontext(bind) as connection:
            found = list(examine_indexes(connection, self.name, self._planner, self.sort))
            if any(one.status == "error" for one in found):
                return found
            return found + list(
                examine_filter_indexes(connection, self.name, self._planner, self.filter, found)
            )

    def searches(self) -> list[Search]:
        """Return what clients may search by that an index may serve. Touches no database."""
        return list(searches_of(self._planner, self.filter))

    def check_plan(self) -> None:
        """Read the statement and compare the allowlists with it. Touches no database.

        Raises:
            PlanError: It could not be sorted, filtered or paged rightly.
        """
        self._planner.listed()

    def _reader(self, app: Flask | None) -> PageReader:
        return PageReader(self._planner, self._limits(app), self.name)

    def _limits(self, app: Flask | None) -> Limits:
        return limits_of(
            app,
            self.per_page,
            self.max_per_page,
            oversize=self.oversize,
            max_offset=self.max_offset,
        )


@overload
def paginate(statement: Select[tuple[T]], **options: Unpack[_OffsetOptions]) -> OffsetPage[T]: ...
@overload
def paginate(
    statement: Select[T],  # type: ignore[type-var,unused-ignore] # pyright: ignore[reportInvalidTypeArguments]
    **options: Unpack[_OffsetOptions],
) -> OffsetPage[T]: ...
@overload
def paginate(statement: GenerativeSelect, **options: Unpack[_OffsetOptions]) -> OffsetPage[Any]: ...
@explained()
def paginate(
    statement: Any,
    *,
    sort: SortAllowlist | None = None,
    filter: FilterAllowlist | None = None,  # noqa: A002 - the published name
    page: int | None = None,
    per_page: int | None = None,
    max_per_page: int | None = None,
    count: Count | None = None,
    error_out: bool = False,
    args: Mapping[str, Any] | None = None,
    session: Session | None = None,
    unique: bool = False,
) -> OffsetPage[Any]:
    """Read a page of a statement written on the spot, by its number.

    Args:
        statement: A ``select()``.
        sort: What it may be sorted by. Without it the statement's own order is kept, and its
            primary key added as tie-breaker.
        filter: What it may be filtered by.
        page: In place of the parameter.
        per_page: In place of the parameter.
        max_per_page: Most rows a client may ask for.
        count: As for :class:`Listing`.
        error_out: Raise a 404 for a page past the end.
        args: In place of ``request.args``.
        session: In place of the application's.
        unique: As for :class:`Listing`.

    Raises:
        QueryError: With every mistake of the request. Clients see a 400.
        PlanError: The statement cannot be paged rightly.

    .. versionadded:: 0.1
    """
    app = application()
    reader = _reader_of(statement, sort, filter, app, max_per_page, unique=unique)
    return reader.by_number(
        PageRequest(
            arguments(args),
            session if session is not None else session_of(app),
            page=page,
            per_page=per_page,
            count=_count(count, app),
            error_out=error_out,
            path=request_path(),
            respond=respond,
        )
    )


@overload
def paginate_keyset(
    statement: Select[tuple[T]], **options: Unpack[_KeysetOptions]
) -> KeysetPage[T]: ...
@overload
def paginate_keyset(
    statement: Select[T],  # type: ignore[type-var,unused-ignore] # pyright: ignore[reportInvalidTypeArguments]
    **options: Unpack[_KeysetOptions],
) -> KeysetPage[T]: ...
@overload
def paginate_keyset(
    statement: GenerativeSelect, **options: Unpack[_KeysetOptions]
) -> KeysetPage[Any]: ...
@explained(sort="For example sort=SortAllowlist({'title': Book.title}, default='title').")
def paginate_keyset(
    statement: Any,
    *,
    sort: SortAllowlist,
    filter: FilterAllowlist | None = None,  # noqa: A002 - the published name
    cursor: str | None = None,
    per_page: int | None = None,
    max_per_page: int | None = None,
    bind: object = None,
    args: Mapping[str, Any] | None = None,
    session: Session | None = None,
    unique: bool = False,
    secret: Secret | None = None,
) -> KeysetPage[Any]:
    """Read a page of a statement written on the spot, by its place.

    Args:
        statement: A ``select()``.
        sort: What it may be sorted by.
        filter: What it may be filtered by.
        cursor: In place of the parameter.
        per_page: In place of the parameter.
        max_per_page: Most rows a client may ask for.
        bind: What else a cursor belongs to.
        args: In place of ``request.args``.
        session: In place of the application's.
        unique: As for :class:`Listing`.
        secret: In place of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``.

    Raises:
        QueryError: With every mistake of the request. Clients see a 400.
        PlanError: The statement cannot be paged rightly.
        ConfigError: There is no ``SECRET_KEY`` to sign with.

    .. versionadded:: 0.1
    """
    app = application()
    reader = _reader_of(statement, sort, filter, app, max_per_page, unique=unique)
    return reader.by_cursor(
        PageRequest(
            arguments(args),
            session if session is not None else session_of(app),
            per_page=per_page,
            cursor=cursor,
            bind=bind,
            signer=signer_of(secret, app, None),
            path=request_path(),
            respond=respond,
        )
    )


def _reader_of(
    statement: Any,
    sort: SortAllowlist | None,
    filters: FilterAllowlist | None,
    app: Flask | None,
    max_per_page: int | None,
    *,
    unique: bool,
) -> PageReader:
    check_source(statement)
    planner = Planner(statement, sort, filters, unique=unique, name=lambda: name_of(statement))
    return PageReader(planner, limits_of(app, None, max_per_page), name_of(statement))


def _count(count: Count | None, app: Flask | None) -> Count:
    check_count(count)
    return count if count is not None else settings_of(app).page_count
