"""Database errors of a request as answers: problem details, or the application's error page.

Flask asks ``app.handle_user_exception`` what to do with an exception, and ``app.handle_exception``
when nobody knew. Both are wrapped on the application, so that an answer of ours can stand where
no registered handler could: behind the application's handlers for the exception and before its
handler for every ``Exception``, whatever was registered first, and in whichever blueprint.
"""

from __future__ import annotations

import logging
import random
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from blinker import Namespace
from flask import (
    Flask,
    current_app,
    got_request_exception,
    has_app_context,
    request,
    request_started,
)
from flask.globals import app_ctx
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.orm import registry
from werkzeug.exceptions import HTTPException, InternalServerError, default_exceptions
from werkzeug.wrappers import Response

from ..application import application_of, known_databases
from ..support.calls import explained
from ..transactions.opening import is_in_scope
from .apis import claims, owner_of, renders_itself
from .bodies import GuardedBody
from .details import BASE_KEY, REQUEST_ID_KEY, head_of_problem, prefers_page, render_problem
from .messages import Errors
from .missing import MissingAdvice, missing_in
from .problems import DBProblem, classify_error
from .redaction import Redact
from .schema import Schema
from .settings import ErrorSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["answer_database_errors", "classify", "db_error", "shows_details"]


def shows_details() -> bool:
    """Tell whether SQL and lines of source are for the current application's developer."""
    return has_app_context() and (current_app.debug or current_app.testing)


logger = logging.getLogger("flask_dbkit.errors")
# Whatever the settings say of the application's loggers: what is told here holds no values.
logger.addFilter(Redact(shows_details))

db_error = Namespace().signal("db_error")
"""Sent once for each database error of a request that is answered here.

The sender is the application; the arguments are ``problem``, a :exc:`DBProblem`, and
``exception``, what was raised.

.. versionadded:: 0.1
"""

Plain = Callable[..., ResponseReturnValue]

_REPORTED_KEY = "flask_dbkit.reported"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}", re.ASCII)
_JITTER_S = 2
_VALIDATION = frozenset({"invalid.null", "invalid.check"})


@explained()
def classify(exc: BaseException) -> DBProblem | None:
    """Tell what a database error means: a stable code, a status, and where it happened.

    Works anywhere. Constraints, columns and attributes are looked up in the models of the
    current application; without one, in those of every application with a ``DBKit``. The
    settings of an application change what it answers, not what this returns.

    Args:
        exc: SQLAlchemy's, a driver's own, or one of a scope.

    Returns:
        The problem, with ``exc`` as ``__cause__``; ``None`` for what is no database error.

    .. versionadded:: 0.1
    """
    return classify_error(exc, _schema(known_databases()))


def _schema(databases: Iterable[SQLAlchemy]) -> Schema:
    known = list(databases)
    return Schema(
        [metadata for db in known for metadata in db.metadatas.values()],
        [mapper for db in known for mapper in _registry(db).mappers],
    )


def _registry(db: SQLAlchemy) -> registry:
    # Its type does not say that it has one; every declarative base does.
    found: registry = getattr(db.Model, "registry")  # noqa: B009
    return found


def answer_database_errors(
    app: Flask, db: SQLAlchemy, config: ErrorSettings, errors: Errors
) -> None:
    """Answer the database errors of an application's requests.

    The order: the application's handlers for the exception's own classes, those for
    :exc:`DBProblem` and its kinds, then problem details; for a browser the application's handler
    of the status, one for ``HTTPException``, and one for ``Exception``.

    Args:
        app: Two of its methods are replaced on the instance; subclasses keep theirs.
        db: Its session is rolled back.
        config: The settings.
        errors: The application's words.
    """
    _Answers(app, db, config, errors).install()


@dataclass(frozen=True)
class Asked:
    """What a log line says of a request, kept for what happens after it."""

    endpoint: str | None
    request_id: str

    @classmethod
    def now(cls) -> Asked:
        """Return it for the current request."""
        return cls(request.endpoint, _request_id(request.environ))


class _Answers:
    def __init__(self, app: Flask, db: SQLAlchemy, config: ErrorSettings, errors: Errors) -> None:
        self._app, self._db, self._config, self._errors = app, db, config, errors
        self._user: Any = None

    def install(self) -> None:
        self._come_first()
        # Extensions that are initialised later wrap the same methods, and take what passes.
        request_started.connect(self._stay_first, self._app)
        self._app.after_request(self._guard_body)

    def _come_first(self) -> None:
        """Wrap what the application has now; what was wrapped before stays as it is inside."""
        plain_user, plain_last = self._app.handle_user_exception, self._app.handle_exception
        self._user = partial(self._handle_user_exception, plain_user)
        setattr(self._app, "handle_user_exception", self._user)
        setattr(self._app, "handle_exception", partial(self._handle_exception, plain_last))

    def _stay_first(self, _app: Flask, **_others: object) -> None:
        if self._app.handle_user_exception is not self._user:
            self._come_first()
        # From its first request on, Flask lets nothing be set up; and to be told of each one costs.
        request_started.disconnect(self._stay_first, self._app)

    def _handle_user_exception(self, wrapped: Plain, *given: Any) -> ResponseReturnValue:
        *context, error = given  # Flask hands its context too, from 3.2 on
        plain = partial(wrapped, *context)
        if isinstance(error, HTTPException):  # a QueryError renders itself
            request.environ[BASE_KEY] = self._config.problem_base
            owned = owner_of(wrapped, request.endpoint) is not None
            if owned and renders_itself(error) and not claims(wrapped, request.endpoint, error):
                return type(self._app).handle_user_exception(self._app, *given)
        problem = self._classify(error)
        if problem is None or claims(wrapped, request.endpoint, error):
            return plain(error)
        own = self._handler(error) if problem is not error else None
        if own is not None:
            return own(error)
        handler = self._handler(problem)
        taken = handler is not None or claims(wrapped, request.endpoint, problem)
        if not taken and self._is_for_developer(problem):
            return plain(error)
        self._report(problem, error)
        if handler is not None:
            return handler(problem)
        return plain(problem) if taken else self._answer(problem, error)

    def _handle_exception(self, plain: Plain, *given: Any) -> Response:
        """Answer what no handler took, or what a handler or an ``after_request`` raised."""
        *context, error = given
        problem = self._classify(error)
        if problem is None or self._is_for_developer(problem):
            return self._app.make_response(plain(*given))
        self._report(problem, error)
        finalize = cast("Callable[..., Response]", self._app.finalize_request)
        return finalize(*context, self._answer(problem, error), from_error_handler=True)

    def _guard_body(self, response: Response) -> Response:
        """Keep an error of a streamed body from the server, which would log it in its own words."""
        if response.is_streamed and not response.direct_passthrough:
            made = Asked.now()
            response.response = GuardedBody(
                response.response, lambda error: self._stand_in(error, made)
            )
        return response

    def _stand_in(self, error: Exception, made: Asked) -> Exception:
        with self._app.app_context():
            problem = None if isinstance(error, HTTPException) else self._classify_alone(error)
            if problem is None or self._is_for_developer(problem):
                return error
            self._log(problem, error, made)
        said = f"{problem.code}: the body broke off, request {made.request_id}"
        return type(problem)(problem.code, detail=said, sqlstate=problem.sqlstate)

    def _classify(self, error: Exception) -> DBProblem | None:
        if isinstance(error, HTTPException):
            return None
        problem = self._classify_alone(error)
        if problem is not None and not self._errors.apply(problem):
            problem.status = self._status(problem)
        return problem

    def _classify_alone(self, error: Exception) -> DBProblem | None:
        return classify_error(error, _schema([self._db]))

    def _status(self, problem: DBProblem) -> int:
        config = self._config
        if problem.code == "conflict.stale" and "If-Match" in request.headers:
            return 412
        if problem.code in config.error_status:
            return config.error_status[problem.code]
        return config.error_validation_status if problem.code in _VALIDATION else problem.status

    def _is_for_developer(self, problem: DBProblem) -> bool:
        """Tell whether a mistake of the code is raised: to a test, or to the debugger."""
        wanted = self._config.error_debug
        here = self._app.testing or (wanted is True and self._app.debug)
        return here and wanted is not False and problem.code == "internal"

    def _handler(self, error: Exception) -> Callable[[Any], ResponseReturnValue] | None:
        """Find a handler for the classes of an exception, but not one for every exception."""
        for name in (*request.blueprints, None):
            handlers = self._app.error_handler_spec.get(name, {}).get(None, {})
            for kind in type(error).__mro__:
                if kind is Exception:
                    break
                if kind in handlers:
                    found: Callable[[Any], ResponseReturnValue]
                    found = self._app.ensure_sync(handlers[kind])
                    return found
        return None

    # -- what happens beside the answer ---------------------------------------------------

    def _report(self, problem: DBProblem, error: Exception) -> None:
        reported = request.environ.setdefault(_REPORTED_KEY, [])
        if any(each is error for each in reported):
            return  # a handler raised it again
        reported += [error, problem]
        self._roll_back()
        self._log(problem, error, Asked.now())

    def _log(self, problem: DBProblem, error: Exception, asked: Asked) -> None:
        serious = problem.status >= 500
        facts = {
            "code": problem.code,
            "status": problem.status,
            "sqlstate": problem.sqlstate,
            "vendor_code": problem.vendor_code,
            "constraint": problem.constraint,
            "table": problem.table,
            "statement": problem.statement_hash,
            "endpoint": asked.endpoint,
            "request_id": asked.request_id,
            "raised": type(error).__name__,
        }
        # Where a mistake of ours was made has to be found; of the others the code says all.
        trace = error if problem.code == "internal" else None
        if shows_details():
            # Alembic's env.py disables the loggers that exist when it sets up its own.
            # https://docs.python.org/3/library/logging.config.html#logging.config.fileConfig
            logger.disabled = False
        logger.log(
            _level(problem),
            " ".join(f"{name}=%s" for name, value in facts.items() if value is not None),
            *(value for value in facts.values() if value is not None),
            exc_info=trace,
            extra={"dbkit_error": facts},
        )
        if trace is not None and self._app.debug:
            self._advise(error)
        db_error.send(self._app, problem=problem, exception=error)
        if serious:
            # Flask sends it for what nobody handled, and error trackers live on it.
            got_request_exception.send(
                self._app, _async_wrapper=self._app.ensure_sync, exception=error
            )

    def _advise(self, error: Exception) -> None:
        """Say to whoever develops what makes what is missing, and where the debugger is."""
        missing = missing_in(error)
        if missing is not None:
            logger.error("%s", application_of(self._app).part(MissingAdvice).sentence(missing))
        if self._config.error_debug is None:
            logger.error("To see it in Flask's debugger, set DBKIT_ERROR_DEBUG = True.")

    def _roll_back(self) -> None:
        session = self._db.session
        if not session.registry.has() or is_in_scope(session()):
            return  # the scope around the request rolls back, and must be the one that does
        try:
            session.rollback()
        except (SQLAlchemyError, SAWarning):
            # Where warnings are errors: objects were added after a flush had failed.
            session.remove()

    # -- the answer -----------------------------------------------------------------------

    def _answer(self, problem: DBProblem, error: Exception) -> Response:
        wait_s = None
        if problem.status == 503:
            # Not all at once: whoever was turned away together must not return together.
            jitter_s = random.randint(0, _JITTER_S)  # noqa: S311 - no secret
            wait_s = max(1, self._config.error_retry_after + jitter_s)
        if prefers_page(request.environ):
            response = self._page(problem, error)
        else:
            response = render_problem(self._members(problem))
        # One address, two representations: a cache must tell them apart.
        response.vary.add("Accept")
        if wait_s is not None:
            response.headers.setdefault("Retry-After", str(wait_s))
        return response

    def _members(self, problem: DBProblem) -> dict[str, Any]:
        base = self._config.problem_base
        members = head_of_problem(problem.code, problem.status, problem.detail, base)
        if problem.fields and self._config.error_fields:
            members["fields"] = list(problem.fields)
        return {**members, "request_id": _request_id(request.environ)}

    def _page(self, problem: DBProblem, error: Exception) -> Response:
        page = _http_exception(problem, error)
        try:
            shown: Plain = self._app.handle_http_exception
            return self._app.make_response(shown(*_context(), page))
        except Exception as failure:
            # The page asks the database too, for the user's name perhaps.
            failed = self._classify(failure)
            if failed is None:
                raise
            self._report(failed, failure)
            return self._app.make_response(page)


def _context() -> list[Any]:
    """Return what methods of Flask's want as their first argument, from 3.2 on: the context."""
    proxy: Any = app_ctx
    context = proxy._get_current_object()  # noqa: SLF001 - documented, for all its name
    return [context] if hasattr(context, "request") else []


def _http_exception(problem: DBProblem, error: Exception) -> HTTPException:
    """Build the exception that an application's error pages know."""
    page: HTTPException
    if problem.status == 500:
        page = InternalServerError(problem.detail, original_exception=error)
    else:
        page = default_exceptions.get(problem.status, HTTPException)(problem.detail)
        page.code = problem.status
    page.__cause__ = problem
    return page


def _level(problem: DBProblem) -> int:
    if problem.kind == "missing":
        return logging.INFO
    return logging.ERROR if problem.status >= 500 else logging.WARNING


def _request_id(environ: WSGIEnvironment) -> str:
    """Return the id the client or its proxy sent, if it can be trusted in a log, or a new one."""
    known: str | None = environ.get(REQUEST_ID_KEY)
    if known is not None:
        return known
    sent: str = environ.get("HTTP_X_REQUEST_ID", "")
    made = sent if _REQUEST_ID.fullmatch(sent) else str(uuid.uuid4())
    environ[REQUEST_ID_KEY] = made
    return made
