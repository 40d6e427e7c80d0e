"""A token in every form, so that only our own pages can make a browser submit one.

A dozen lines over Flask's signed session do what this application needs; an application
with many forms would rather use Flask-WTF.

References:
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import hmac
import secrets

from flask import Flask, abort, request, session

__all__ = ["csrf_token", "install"]

FIELD = "csrf_token"


def install(app: Flask) -> None:
    """Check every form that arrives, and give the templates ``csrf_token()``."""
    app.before_request(_check)
    app.jinja_env.globals["csrf_token"] = csrf_token


def csrf_token() -> str:
    """Return the token of this visitor's session."""
    if FIELD not in session:
        session[FIELD] = secrets.token_urlsafe()
    token: str = session[FIELD]
    return token


def _check() -> None:
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    if request.mimetype == "application/json":
        # A browser sends no JSON to another site before that site has agreed, which ours never
        # does. https://fetch.spec.whatwg.org/#cors-safelisted-request-header
        return
    expected = str(session.get(FIELD, ""))
    given = request.form.get(FIELD, "")
    # Bytes, because compare_digest() refuses text that is not ASCII.
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        abort(400, "This form has expired. Go back, reload the page, and send it again.")
