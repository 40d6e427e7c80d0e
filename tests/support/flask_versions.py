"""What differs between the versions of Flask that the library runs on."""

from __future__ import annotations

import inspect

from flask.ctx import AppContext

__all__ = ["CONTEXTS_ARE_SHARED"]

CONTEXTS_ARE_SHARED = "request" not in inspect.signature(AppContext).parameters
"""A request inside an open application context uses that one. From Flask 3.2 on it never does:
https://github.com/pallets/flask/issues/5639"""
