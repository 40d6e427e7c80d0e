"""Pages as values: what a template, a JSON answer and a ``Link`` header need of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote, quote_plus, urlencode

from ..exceptions import closest
from ..support.calls import explained_methods
from .encoding import EncodeAll, all_as_json
from .query import Pairs

if TYPE_CHECKING:
    from .sorting import SortKey
    from .views import Response

__all__ = ["KeysetPage", "Links", "OffsetPage", "Order"]

T = TypeVar("T")

_MOST_IN_HEADER = 3_000

Item = Callable[[Any], Any]
Respond: TypeAlias = "Callable[[Mapping[str, Any], Mapping[str, str]], Response]"


@dataclass(frozen=True)
class Links:
    """Makes the addresses of the other pages of a list.

    Attributes:
        path: The path of this one, script root included, not yet percent-encoded. ``None``
            outside a request: then only the query is made.
        pairs: Every parameter of the request.
    """

    path: str | None = None
    pairs: Pairs = ()
    # The five addresses of a page differ in one parameter.
    _starts: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False, compare=False)

    def url(self, **changes: object) -> str:
        """Return a path-absolute URL with some parameters set or, with ``None``, left out.

        Args:
            changes: Parameter → new value. All others stay, repeated ones too.
        """
        start = self._starts.get(names := tuple(changes))
        if start is None:
            start = self._starts[names] = self._start(names)
        new = [
            # A number needs no quoting, and most of what changes is the number of a page.
            f"{name}={value if type(value) is int else quote_plus(str(value), errors='replace')}"
            for name, value in changes.items()
            if value is not None
        ]
        if new:
            return start + "&".join(new)
        # What is left of the query, or a path alone, ends in nothing.
        return start[:-1] if self.path is not None or start != "?" else start

    def _start(self, names: tuple[str, ...]) -> str:
        """Return the address up to the parameters that change, the sign before them included."""
        kept = [(name, value) for name, value in self.pairs if name not in names]
        query = urlencode(kept, encoding="utf-8", errors="replace") if kept else ""
        path = quote(self.path or "", safe="/:@!$&'()*+,;=~-._", errors="replace")
        if path.startswith("//"):
            # Two slashes begin a host name. https://url.spec.whatwg.org/#url-serializing
            path = f"/.{path}"
        return f"{path}?{query}&" if query else f"{path}?"


def answer(payload: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Return a JSON response; only this needs Flask.

    Args:
        payload: The body.
        headers: Further headers.
    """
    from .views import respond  # noqa: PLC0415 - pages themselves are made without

    return respond(payload, headers)


def _link_header(links: Mapping[str, str | None]) -> dict[str, str]:
    """Return the header with the links that fit, those first that are followed most.

    Each repeats the query string. Proxies take 4 KiB of headers, and answer more with a 502.
    https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffer_size
    """
    named: dict[str, str] = {}
    left = _MOST_IN_HEADER
    for name in ("next", "prev", "first", "last"):
        link = links[name]
        text = f'<{link}>; rel="{name}"'
        if link is not None and len(text) + 2 <= left:
            named[name] = text
            left -= len(text) + 2
    ordered = [named[name] for name in ("first", "prev", "next", "last") if name in named]
    return {"Link": ", ".join(ordered)} if ordered else {}


@dataclass(frozen=True)
class Order:
    """What a page is sorted by, and what it could be.

    Attributes:
        keys: What clients may sort by, by its published name.
        first: The published name it is sorted by first, if it is.
        descending: The direction of that.
    """

    keys: Mapping[str, SortKey] = field(default_factory=dict)
    first: str | None = None
    descending: bool = False

    def check(self, name: str) -> None:
        """Refuse a name that clients cannot sort by.

        Raises:
            ValueError: It is not published.
        """
        if name not in self.keys:
            near = closest(name, self.keys)
            hint = f" Did you mean {near!r}?" if near else ""
            known = ", ".join(self.keys) or "nothing: the list has no sort="
            raise ValueError(f"The page cannot be sorted by {name!r}. Use one of: {known}.{hint}")


@explained_methods()
@dataclass(frozen=True, eq=False)
class _Page(Generic[T]):
    items: list[T]
    per_page: int
    has_next: bool
    has_prev: bool
    _links: Links = field(default_factory=Links, repr=False)
    _respond: Respond = field(default=answer, repr=False)
    _encode: EncodeAll = field(default=all_as_json, repr=False)
    _order: Order = field(default_factory=Order, repr=False)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_dict(self, item: Item | None = None) -> dict[str, Any]:
        """Return ``{"items": …, "pagination": …, "links": …}``.

        Args:
            item: Turns one item into what goes into the JSON. Without it, a dict of the loaded
                column attributes, or of the columns of a row; never relationships, deferred
                columns or those with ``info={"dbkit": {"private": True}}``.
        """
        shown = self._encode(self.items) if item is None else [item(one) for one in self.items]
        return {
            "items": list(shown),
            "pagination": self._pagination(),
            "links": self.links,
        }

    def to_response(self, item: Item | None = None) -> Response:
        """Return :meth:`to_dict` as a JSON response with an RFC 8288 ``Link`` header.

        Links that would make the headers longer than proxies take are left out of the header; the
        body has all of them.

        Args:
            item: As in :meth:`to_dict`.
        """
        body = self.to_dict(item)
        return self._respond(body, _link_header(body["links"]) | self._headers())

    def sort_state(self, name: str) -> str | None:
        """Tell how the page is sorted by a name, in the words of ``aria-sort``.

        Args:
            name: A published name of its :class:`SortAllowlist`.

        Returns:
            ``"ascending"`` or ``"descending"`` if it is sorted by that name first, else ``None``.

        Raises:
            ValueError: The name is not published.

        .. versionadded:: 0.1
        """
        self._order.check(name)
        if self._order.first != name:
            return None
        return "descending" if self._order.descending else "ascending"

    def next_sort_state(self, name: str) -> str:
        """Tell how :meth:`sort_url` sorts, in the words of ``aria-sort``.

        Args:
            name: A published name of its :class:`SortAllowlist`.

        Returns:
            The opposite of :meth:`sort_state`; for a page in another order ``"ascending"``, or
            ``"descending"`` if the name is a :class:`SortKey` with ``descending_first=True``.

        Raises:
            ValueError: The name is not published.

        .. versionadded:: 0.1
        """
        state = self.sort_state(name)
        if state is None:
            return "descending" if self._order.keys[name].descending_first else "ascending"
        return "ascending" if state == "descending" else "descending"

    def sort_url(self, name: str) -> str:
        """Return the address of the list in the order of a name.

        Every other parameter is kept, but for the place in the list: the first page of the new
        order follows. Its direction is that of :meth:`next_sort_state`: when the page is sorted by
        that name already, the order is turned round.

        Args:
            name: A published name of its :class:`SortAllowlist`.

        Raises:
            ValueError: The name is not published.

        .. versionadded:: 0.1
        """
        order = f"-{name}" if self.next_sort_state(name) == "descending" else name
        return self._links.url(sort=order, direction=None, page=None, cursor=None)

    def size_url(self, per_page: int) -> str:
        """Return the address of the first page with another number of rows on each.

        Args:
            per_page: Rows per page.

        .. versionadded:: 0.1
        """
        return self._links.url(per_page=per_page, page=None, cursor=None)

    @property
    def links(self) -> dict[str, str | None]:
        """The addresses of ``self first prev next last``; ``None`` where there is no such page."""
        raise NotImplementedError

    def _pagination(self) -> dict[str, Any]:
        raise NotImplementedError

    def _headers(self) -> dict[str, str]:
        return {}


@explained_methods()
@dataclass(frozen=True, eq=False)
class OffsetPage(_Page[T]):
    """A page by its number. Has all that Flask-SQLAlchemy's ``Pagination`` has.

    Attributes:
        items: The rows of the page.
        page: Its number, from 1.
        per_page: The most rows a page has.
        total: The number of rows, or the cap if there are more, or ``None`` if not counted.
        total_is_exact: ``total`` is the number of rows.
        has_next: A row follows. Seen, and not computed from a count.
        has_prev: This is not page 1.
        max_per_page: The most rows a client could have asked for.

    .. versionadded:: 0.1
    """

    page: int = 1
    total: int | None = None
    total_is_exact: bool = False
    max_per_page: int | None = None
    _fetch: Callable[[int, bool], OffsetPage[T]] | None = field(default=None, repr=False)

    @property
    def pages(self) -> int:
        """The number of pages that ``total`` makes; 0 when it is not known."""
        return 0 if self.total is None else math.ceil(self.total / self.per_page)

    @property
    def prev_num(self) -> int | None:
        """The number of the previous page, or ``None``."""
        return self.page - 1 if self.has_prev else None

    @property
    def next_num(self) -> int | None:
        """The number of the next page, or ``None``."""
        return self.page + 1 if self.has_next else None

    @property
    def first(self) -> int:
        """The number of the first row of the page, from 1; 0 when it has none."""
        return (self.page - 1) * self.per_page + 1 if self.items else 0

    @property
    def last(self) -> int:
        """The number of the last row of the page; 0 when it has none."""
        return self.first + len(self.items) - 1 if self.items else 0

    def prev(self, *, error_out: bool = False) -> OffsetPage[T]:
        """Read the previous page.

        Args:
            error_out: Raise a 404 if it is empty.
        """
        return self._other(max(1, self.page - 1), error_out)

    def next(self, *, error_out: bool = False) -> OffsetPage[T]:
        """Read the next page.

        Args:
            error_out: Raise a 404 if it is empty.
        """
        return self._other(self.page + 1, error_out)

    def iter_pages(
        self,
        *,
        left_edge: int = 2,
        left_current: int = 2,
        right_current: int = 4,
        right_edge: int = 2,
    ) -> Iterator[int | None]:
        """Yield page numbers for a row of links, ``None`` where some are left out.

        Without an exact count they end with the furthest page known to exist.

        Args:
            left_edge: How many from the start.
            left_current: How many before this page.
            right_current: How many after this page.
            right_edge: How many from the end.
        """
        known = max(self.pages, self.page + 1 if self.has_next else 0)
        if self.items:
            known = max(known, self.page)
        # The rules, corner cases included, are those of Flask-SQLAlchemy's object, so that a
        # template shows the same links.
        stop = known + 1
        left_stop = min(1 + left_edge, stop)
        yield from range(1, left_stop)
        if left_stop == stop:
            return
        middle = max(left_stop, self.page - left_current)
        middle_stop = min(self.page + right_current + 1, stop)
        if middle > left_stop:
            yield None
        yield from range(middle, middle_stop)
        if middle_stop == stop:
            return
        right = max(middle_stop, stop - right_edge)
        if right > middle_stop:
            yield None
        yield from range(right, stop)

    def url(self, number: int) -> str:
        """Return the address of a page.

        Args:
            number: Its number.
        """
        return self._links.url(page=number)

    @property
    def links(self) -> dict[str, str | None]:
        """The addresses of ``self first prev next last``; ``None`` where there is no such page."""
        prev, following = self.prev_num, self.next_num
        return {
            "self": self.url(self.page),
            "first": self.url(1),
            "prev": None if prev is None else self.url(prev),
            "next": None if following is None else self.url(following),
            "last": self.url(max(1, self.pages)) if self.total_is_exact else None,
        }

    def _other(self, number: int, error_out: bool) -> OffsetPage[T]:
        if self._fetch is None:
            raise RuntimeError("This page was built by hand and cannot read another.")
        return self._fetch(number, error_out)

    def _pagination(self) -> dict[str, Any]:
        return {
            "kind": "offset",
            "page": self.page,
            "per_page": self.per_page,
            "pages": None if self.total is None else self.pages,
            "total": self.total,
            "total_is_exact": self.total_is_exact,
            "has_prev": self.has_prev,
            "has_next": self.has_next,
        }

    def _headers(self) -> dict[str, str]:
        return {"X-Total-Count": str(self.total)} if self.total_is_exact else {}


@explained_methods()
@dataclass(frozen=True, eq=False)
class KeysetPage(_Page[T]):
    """A page by its place in the order.

    Attributes:
        items: The rows of the page.
        per_page: The most rows a page has.
        has_next: A row followed when the page was read.
        has_prev: A row preceded when the page was read.
        next_cursor: Opaque text for the next page, or ``None``.
        prev_cursor: Opaque text for the previous page, or ``None``.

    .. versionadded:: 0.1
    """

    next_cursor: str | None = None
    prev_cursor: str | None = None
    _cursor: str | None = field(default=None, repr=False)
    _last_cursor: Callable[[], str | None] = field(default=lambda: None, repr=False)

    @property
    def links(self) -> dict[str, str | None]:
        """The addresses of ``self first prev next last``; ``None`` where there is no such page.

        ``last`` has the last rows of the list, whatever page they would be on.
        """

        def url(cursor: str | None) -> str | None:
            return None if cursor is None else self._links.url(cursor=cursor, page=None)

        return {
            "self": self._links.url(cursor=self._cursor, page=None),
            "first": self._links.url(cursor=None, page=None),
            "prev": url(self.prev_cursor),
            "next": url(self.next_cursor),
            "last": url(self._last_cursor()),
        }

    def _pagination(self) -> dict[str, Any]:
        return {
            "kind": "keyset",
            "per_page": self.per_page,
            "has_prev": self.has_prev,
            "has_next": self.has_next,
            "next_cursor": self.next_cursor,
            "prev_cursor": self.prev_cursor,
        }
