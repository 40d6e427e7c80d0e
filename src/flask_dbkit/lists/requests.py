"""What a list takes from the request and the application: arguments, path, settings, secret."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

from flask import Flask, Request, current_app, has_app_context, has_request_context, request
from sqlalchemy.orm import Session

from ..application import application_of, current_session
from ..exceptions import ConfigError
from .cursor import Signer
from .query import Limits, Pairs, check_number, pairs_of
from .settings import ListSettings
from .signing_keys import is_signing_key

__all__ = [
    "Secret",
    "application",
    "arguments",
    "limits_of",
    "request_path",
    "session_of",
    "settings_of",
    "signer_of",
]

Secret = str | bytes | Sequence[str | bytes]

_DEFAULTS = ListSettings()


def application() -> Flask | None:
    """Return the current application, ``None`` outside any.

    Asked once per page: each look through a proxy costs as much as reading a parameter.
    """
    proxied: Any = current_app
    # Documented, whatever its name.
    return cast("Flask", proxied._get_current_object()) if has_app_context() else None  # noqa: SLF001


def settings_of(app: Flask | None) -> ListSettings:
    """Return the settings of an application, the defaults without one."""
    kept = app.extensions.get("dbkit") if app is not None else None
    return cast("ListSettings", kept.settings(ListSettings)) if kept is not None else _DEFAULTS


def session_of(app: Flask | None) -> Session:
    """Return the session of an application."""
    return current_session() if app is None else application_of(app).db.session()


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
    settings = settings_of(app)
    most = max_per_page or max(settings.max_page_size, per_page or 0)
    return Limits(per_page or settings.default_page_size, most, oversize, max_offset)


def _current_request() -> Request | None:
    proxied: Any = request
    return cast("Request", proxied._get_current_object()) if has_request_context() else None  # noqa: SLF001


def arguments(given: object) -> Pairs:
    """Return what was given, else the query string of the request.

    Raises:
        QueryError: What was given is no mapping.
    """
    if given is not None:
        # Of a body, an empty list; pairs that code has made would be some.
        return pairs_of(None if given == [] else given)
    found = _current_request()
    if found is None:
        return ()
    try:
        return pairs_of(found.args)
    except UnicodeDecodeError:
        # Bytes that are neither UTF-8 nor quoted: no browser sends them, and Werkzeug fails.
        text = found.query_string.decode("utf-8", "replace")
        return pairs_of(parse_qsl(text, keep_blank_values=True))


def request_path() -> str | None:
    """Return the path of the request with its script root, ``None`` outside one."""
    found = _current_request()
    return None if found is None else found.root_path + found.path


def signer_of(secret: Secret | None, app: Flask | None, max_age_s: int | None) -> Signer:
    """Return what makes and reads the cursors of an application.

    Args:
        secret: In place of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``.
        app: The current application.
        max_age_s: Seconds a cursor stays good; ``None`` is ``DBKIT_CURSOR_MAX_AGE_S``.

    Raises:
        ConfigError: There is no ``SECRET_KEY`` to sign with.
        ValueError: ``secret`` is empty.
    """
    return _signer(_secrets(secret, app), max_age_s or settings_of(app).cursor_max_age_s)


@lru_cache(maxsize=64)
def _signer(secrets: tuple[str | bytes, ...], max_age_s: int | None) -> Signer:
    return Signer(secrets, max_age_s=max_age_s)


def _secrets(given: Secret | None, app: Flask | None) -> tuple[str | bytes, ...]:
    if given is not None:
        found = (given,) if isinstance(given, (str, bytes)) else tuple(given)
        if not found or not all(map(is_signing_key, found)):
            raise ValueError("secret is empty, so anybody could sign a cursor.")
        return found
    key = app.config.get("SECRET_KEY") if app is not None else None
    if app is None or not is_signing_key(key):
        raise ConfigError(
            "Cursors are signed with SECRET_KEY, which is not set. Set it in the configuration,"
            " or give secret= to paginate_keyset().",
            key="SECRET_KEY",
        )
    others = app.config.get("SECRET_KEY_FALLBACKS")
    # Checked at start; what somebody has put there since verifies nothing.
    usable = others if isinstance(others, (list, tuple)) else ()
    return (key, *filter(is_signing_key, usable))
