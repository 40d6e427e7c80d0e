"""DK070, DK071 and DK073: whether somebody can ask if the application is well."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from ..doctor.checks import check
from ..doctor.examination import Examination
from ..doctor.findings import Found
from .checks import AppHealth
from .probes_first import mounts_of
from .settings import HealthSettings

__all__: list[str] = []

_LIVE = ("live", "livez", "liveness", "alive", "ping")
_READY = ("ready", "readyz", "readiness", "healthz", "health", "healthcheck", "health-check", "up")
_LOGIN = (
    "login_required",
    "auth_required",
    "jwt_required",
    "roles_required",
    "permission_required",
)
_PROBES = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/"


def _own_rules(given: Examination, words: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield the application's own rules for a probe, with their views."""
    ours = set(mounts_of(given.app).endpoints())
    for rule in given.app.url_map.iter_rules():
        last = rule.rule.rstrip("/").rpartition("/")[2].lower()
        if rule.endpoint not in ours and last in words and "GET" in (rule.methods or ()):
            yield rule, given.app.view_functions.get(rule.endpoint)


def _text_of(function: Callable[..., Any] | None) -> str:
    """Return the source of a function, without what decorators put around it."""
    if function is None:
        return ""
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):  # it has no file
        return ""


def _asks_database(function: Callable[..., Any] | None) -> bool:
    try:
        tree = ast.parse(_text_of(function))
    except SyntaxError:  # a lambda in the middle of an expression
        return False
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("session", "query", "engine", "execute")
        for node in ast.walk(tree)
    )


@check(
    "DK070",
    "Liveness depends on a database",
    level="error",
    tags=("health",),
    cause="When the database is away the orchestrator kills every worker, again and again, although"
    " they are fine: the outage grows.",
    fix="Let liveness answer without asking anybody; what depends on the database is readiness.",
    link=_PROBES,
)
def liveness_asks_database(given: Examination) -> Iterator[Found]:
    """Look at the application's own rules and checks for liveness."""
    for rule, view in _own_rules(given, _LIVE):
        if _asks_database(view):
            yield Found(f"{rule.rule} asks a database", object=rule.rule)
    registry = given.part(AppHealth).registry
    for name, (function, registered) in registry.functions.items():
        if "liveness" in registered.groups and _asks_database(function):
            yield Found(f"The check {name} of liveness asks a database", object=name)


@check(
    "DK071",
    "Nobody can ask whether it is ready",
    tags=("health",),
    cause="A worker that has lost its database goes on getting requests; a deployment goes on"
    " although nothing works.",
    fix="Leave DBKIT_HEALTH_PREFIX at its default, or register health_blueprint().",
    link=_PROBES,
)
def no_readiness(given: Examination) -> Iterator[Found]:
    """Look for the library's probes, and for rules of that kind."""
    is_off = given.settings(HealthSettings).health_prefix is None
    if is_off and not mounts_of(given.app).probes and not list(_own_rules(given, _READY)):
        yield Found("There is no health endpoint", object="DBKIT_HEALTH_PREFIX")


@check(
    "DK073",
    "A probe behind a login",
    level="error",
    tags=("health",),
    cause="An orchestrator has no account: it is sent to a login page and takes the 302 for"
    " healthy, or a 401 for dead.",
    fix="Take the login off this rule; or take the rule out, the library answers the path itself.",
    link=_PROBES,
)
def probe_behind_login(given: Examination) -> Iterator[Found]:
    """Look for decorators at the application's own probes; ours are answered ahead of any hook."""
    for rule, view in _own_rules(given, (*_LIVE, *_READY)):
        names = [line for line in _text_of(view).splitlines() if line.lstrip().startswith("@")]
        wrapped = " ".join(names)
        if any(word in wrapped for word in _LOGIN):
            yield Found(f"{rule.rule} wants a login", object=rule.rule)
