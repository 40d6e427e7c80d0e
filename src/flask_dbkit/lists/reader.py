"""From the arguments of a request to a page: what the application and the request add.

The core below takes a ``Session`` and plain values; here they come from ``request.args``, the
configuration and ``SECRET_KEY``, wherever the caller left them out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

from flask import Flask, Request, abort, current_app, has_app_context, has_request_context, request
from sqlalchemy import Table, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql.selectable import GenerativeSelect

from ..application import application_of, current_session
from ..exceptions import ConfigError
from .arguments import Pairs, check_number, pairs_of
from .cursor import Direction, Keyset, Signer, fingerprint
from .filtering import Condition, FilterAllowlist
from .keyset import KeysetPlan, KeysetRows
from .offset import Count
from .pages import KeysetPage, Links, OffsetPage, answer
from .planner import Planner
from .query import Limits, ListQuery, read_query
from .settings import ListSettings
from .sorting import SortAllowlist

__all__ = [
    "Secret",
    "application",
    "check_count",
    "check_source",
    "limits_of",
    "name_of",
    "read_batches",
    "read_keyset_page",
    "read_page",
]

Secret = str | bytes | Sequence[str | bytes]

_DEFAULTS = ListSettings()
_STABLE = (
    *(type(None), str, int, float, bytes, uuid.UUID, Decimal, Enum),
    *(date, datetime, time, timedelta),
)


def read_page(
    planner: Planner,
    sort: SortAllowlist | None,
    filters: FilterAllowlist | None,
    limits: Limits,
    *,
    statement: GenerativeSelect | None = None,
    page: int | None,
    per_page: int | None,
    count: Count | None,
    error_out: bool,
    args: Mapping[str, Any] | None,
    session: Session | None,
    app: Flask | None,
) -> OffsetPage[Any]:
    """Read one page by its number.

    Args:
        planner: The plans of the list.
        sort: Its orders.
        filters: Its filters.
        limits: How much may be asked for.
        statement: In place of the list's own.
        page: In place of the parameter.
        per_page: In place of the parameter.
        count: How to count; ``None`` is ``DBKIT_PAGE_COUNT``.
        error_out: Raise a 404 for a page past the end.
        args: In place of ``request.args``.
        session: In place of the application's.
        app: The current application, from :func:`application`.
    """
    check_count(count)
    counted = count if count is not None else _config(app).page_count
    pairs = _pairs(args)
    planner.shape(statement)  # before the client's mistakes: this one is the developer's
    query = read_query(pairs, sort, filters, limits, kind="offset", page=page, per_page=per_page)
    used = session if session is not None else _session(app)
    plan, values = planner.offset(used, query.terms, query.conditions, statement)
    hidden = planner.hidden(plan.shape)

    def fetch(number: int, must_have_rows: bool) -> OffsetPage[Any]:
        rows = plan.fetch(used, number, query.per_page, count=counted, values=values)
        if must_have_rows and not rows.items and number > 1:
            abort(404)
        return OffsetPage(
            items=rows.items,
            per_page=query.per_page,
            has_next=rows.has_next,
            has_prev=number > 1,
            page=number,
            total=rows.total,
            total_is_exact=rows.total_is_exact,
            max_per_page=limits.max_per_page,
            _links=_links(pairs),
            _respond=_respond,
            _hidden=hidden,
            _fetch=fetch,
        )

    return fetch(query.page, error_out)


def read_keyset_page(
    planner: Planner,
    sort: SortAllowlist,
    filters: FilterAllowlist | None,
    limits: Limits,
    name: str,
    *,
    statement: GenerativeSelect | None = None,
    cursor: str | None,
    per_page: int | None,
    bind: object,
    args: Mapping[str, Any] | None,
    session: Session | None,
    secret: Secret | None,
    max_age_s: int | None,
    app: Flask | None,
) -> KeysetPage[Any]:
    """Read one page by its place.

    Args:
        planner: The plans of the list.
        sort: Its orders.
        filters: Its filters.
        limits: How much may be asked for.
        name: Part of what a cursor is bound to.
        statement: In place of the list's own.
        cursor: In place of the parameter.
        per_page: In place of the parameter.
        bind: What else a cursor belongs to.
        args: In place of ``request.args``.
        session: In place of the application's.
        secret: In place of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``.
        max_age_s: Seconds a cursor stays good; ``None`` is ``DBKIT_CURSOR_MAX_AGE_S``.
        app: The current application, from :func:`application`.
    """
    _check_bind(bind)
    signer = _signer(_secrets(secret, app), max_age_s or _config(app).cursor_max_age_s)
    pairs = _pairs(args)
    used = session if session is not None else _session(app)
    # Before the client's mistakes: these are the developer's.
    dialect = planner.check(used, statement)
    query = read_query(
        pairs,
        sort,
        filters,
        limits,
        kind="keyset",
        per_page=per_page,
        cursor=cursor,
        check_cursor=signer.verify,
    )
    plan, values = planner.keyset(dialect, query.terms, query.conditions, statement)
    mark = _mark(name, plan, query, bind)
    at = None if query.cursor is None else signer.loads(query.cursor, mark, len(plan.keys))
    rows = plan.fetch(used, query.per_page, at, values=values)
    return KeysetPage(
        items=rows.items,
        per_page=query.per_page,
        has_next=rows.has_next,
        has_prev=rows.has_prev,
        next_cursor=None if rows.next is None else signer.dumps(rows.next, mark),
        prev_cursor=None if rows.prev is None else signer.dumps(rows.prev, mark),
        _cursor=query.cursor,
        _last_cursor=lambda: _last_cursor(rows, signer, mark),
        _links=_links(pairs),
        _respond=_respond,
        _hidden=planner.hidden(plan.shape),
    )


def _last_cursor(rows: KeysetRows, signer: Signer, mark: str) -> str | None:
    if not (rows.items or rows.has_prev):
        return None
    return signer.dumps(Keyset((), Direction.BEFORE), mark)


def read_batches(
    plan: Any, session: Session, batch: int, values: Mapping[str, Any]
) -> Iterator[Any]:
    """Read a whole list, each batch from where the last one ended.

    Args:
        plan: A keyset plan.
        session: Runs one statement per batch.
        batch: Rows per batch.
        values: Bound values of the statement's own criteria.
    """
    at: Keyset | None = None
    while True:
        rows = plan.fetch(session, batch, at, values=values, neighbours=False)
        if rows.items:
            yield rows.items
        at = rows.next
        if at is None:
            return


@lru_cache(maxsize=64)
def _signer(secrets: tuple[str | bytes, ...], max_age_s: int | None) -> Signer:
    return Signer(secrets, max_age_s=max_age_s)


def _mark(name: str, plan: KeysetPlan, query: ListQuery, bind: object) -> str:
    if not query.conditions and bind is None:
        # The same for every page of the order.
        found = plan.marks.get(name)
        if found is None:
            found = plan.marks[name] = fingerprint(name, plan.signature, (), None)
        return found
    asked = tuple((one.name, one.op, _written(one)) for one in query.conditions)
    return fingerprint(name, plan.signature, asked, bind)


def application() -> Flask | None:
    """Return the current application, ``None`` outside any.

    Asked once per page: each look through a proxy costs as much as reading a parameter.
    """
    proxied: Any = current_app
    # Documented, whatever its name.
    return cast("Flask", proxied._get_current_object()) if has_app_context() else None  # noqa: SLF001


def limits_of(
    app: Flask | None,
    per_page: int | None,
    max_per_page: int | None,
    *,
    oversize: Literal["clamp", "error"] = "clamp",
    max_offset: int | None = None,
) -> Limits:
    """Return how much a client may ask for; what is ``None`` is the configuration's.

    Args:
        app: The current application, from :func:`application`.
        per_page: Rows per page without the parameter.
        max_per_page: Most rows per page.
        oversize: What happens above it.
        max_offset: Most rows to skip.
    """
    for key, value in (("per_page", per_page), ("max_per_page", max_per_page)):
        if value is not None:
            check_number(key, value)
    config = _config(app)
    most = max_per_page or max(config.max_page_size, per_page or 0)
    return Limits(per_page or config.default_page_size, most, oversize, max_offset)


def _config(app: Flask | None) -> ListSettings:
    state = app.extensions.get("dbkit") if app is not None else None
    return state.config if state is not None else _DEFAULTS


def _session(app: Flask | None) -> Session:
    return current_session() if app is None else application_of(app).db.session()


def _request() -> Request | None:
    proxied: Any = request
    return cast("Request", proxied._get_current_object()) if has_request_context() else None  # noqa: SLF001


def _pairs(args: Mapping[str, Any] | None) -> Pairs:
    found = _request() if args is None else None
    if found is not None:
        try:
            args = found.args
        except UnicodeDecodeError:
            # Bytes that are neither UTF-8 nor quoted: no browser sends them, and Werkzeug fails.
            text = found.query_string.decode("utf-8", "replace")
            return pairs_of(parse_qsl(text, keep_blank_values=True))
    return pairs_of(args)


def _links(pairs: Pairs) -> Links:
    found = _request()
    return Links(None if found is None else found.root_path + found.path, pairs)


def _respond(payload: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
    if not has_app_context():
        return answer(payload, headers)
    response = current_app.json.response(dict(payload))
    response.headers.update(dict(headers))
    return response


def _secrets(given: Secret | None, app: Flask | None) -> tuple[str | bytes, ...]:
    if given is not None:
        found = (given,) if isinstance(given, (str, bytes)) else tuple(given)
        if not found or not all(found):
            raise ValueError("secret is empty, so anybody could sign a cursor.")
        return found
    key = app.config.get("SECRET_KEY") if app is not None else None
    if app is None or not key:
        raise ConfigError(
            "Cursors are signed with SECRET_KEY, which is not set. Set it in the configuration,"
            " or give secret= to paginate_keyset().",
            key="SECRET_KEY",
        )
    return (key, *(app.config.get("SECRET_KEY_FALLBACKS") or ()))


def _written(condition: Condition) -> str:
    value = condition.value
    values = value if isinstance(value, list) else [value]
    # What a function of the application returns may have another repr() in every process.
    return repr(value) if all(isinstance(one, _STABLE) for one in values) else condition.text


def _check_bind(bind: object) -> None:
    if isinstance(bind, (tuple, list)):
        for one in bind:
            _check_bind(one)
    elif not isinstance(bind, _STABLE):
        raise TypeError(
            f"bind is a {type(bind).__name__}, whose text is not the same in every process. Use"
            " a key such as current_user.id, or a tuple of some."
        )


def check_count(count: Any) -> None:
    """Refuse what is no way to count."""
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    if count not in (None, "exact", "none") and not whole:
        raise ValueError(f"count is {count!r}. Use 'exact', 'none' or a whole number.")


def name_of(source: Any) -> str:
    """Return the name of the entity that is listed."""
    if isinstance(source, type):
        return source.__name__
    if isinstance(source, GenerativeSelect):
        descriptions = getattr(source, "column_descriptions", None)
        if descriptions is None:
            return "union"
        entity = next((d["entity"] for d in descriptions if d.get("entity") is not None), None)
        return name_of(entity) if entity is not None else "select"
    if isinstance(source, AliasedClass):
        return str(inspect(source).mapper.class_.__name__)
    return str(getattr(source, "name", source))


def check_source(source: Any) -> None:
    """Refuse what cannot be listed."""
    if not isinstance(source, (type, GenerativeSelect, AliasedClass, Table)):
        raise TypeError(
            f"A list was made of {source!r}. Use a mapped class, an alias or a select()."
        )
