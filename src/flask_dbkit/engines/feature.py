"""Listeners of the databases, their pools after a fork, templates, and the command group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakSet

from flask import Blueprint, has_request_context, request
from flask_sqlalchemy import SQLAlchemy

from ..cli import dbkit_group, exit_on_interrupt
from ..databases import support_for
from ..databases.forking import after_fork_in_child, renew_after_fork
from ..feature import Bind, Feature, Setup
from .flask_sqlalchemy import forget_sessions
from .replicas import check_replica_databases, check_replica_names, replica_names
from .routing import name_statements, refuse_joined_databases
from .settings import EngineSettings

__all__ = ["ENGINES"]

_WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_databases: WeakSet[SQLAlchemy] = WeakSet()


def _told(settings: EngineSettings) -> Mapping[str, Any]:
    return {"wants_write": _request_announces_write} if settings.sqlite_begin_by_method else {}


def _on_engine(bind: Bind, setup: Setup) -> None:
    support_for(bind.url).install(bind.engine, bind.context)


def _check(settings: EngineSettings, keys: Iterable[str | None]) -> None:
    check_replica_names(settings.replicas, keys)


def _install(setup: Setup) -> None:
    replicas = setup.settings(EngineSettings).replicas
    check_replica_databases(replicas, {bind.name: bind.url for bind in setup.binds})
    for name in replica_names(replicas):
        # db.create_all() and db.drop_all() go through these.
        metadata = setup.db.metadatas.get(name)
        if metadata is not None and not metadata.tables:
            del setup.db.metadatas[name]
    for bind in setup.binds:
        if not bind.in_memory:
            renew_after_fork(bind.engine)
            if bind.context.late:
                bind.engine.dispose()
    _databases.add(setup.db)
    if len(setup.binds) > 1:
        name_statements(setup.db.session)
        engines = {bind.key: bind.engine for bind in setup.binds}
        for engine in engines.values():
            refuse_joined_databases(engine, engines)
    setup.app.cli.add_command(dbkit_group)
    exit_on_interrupt(setup.app.cli)
    if "flask_dbkit" not in setup.app.blueprints:  # the application had another database before
        # Only for its templates: an application's own file of the same name comes first.
        setup.app.register_blueprint(
            Blueprint("flask_dbkit", "flask_dbkit", template_folder="templates")
        )


def _request_announces_write() -> bool:
    return has_request_context() and request.method in _WRITING_METHODS


def _forget_inherited_sessions() -> object:
    return [forget_sessions(db) for db in list(_databases)]


after_fork_in_child(_forget_inherited_sessions)

ENGINES = Feature(
    "engines",
    settings=EngineSettings,
    commands={"info": "flask_dbkit.engines.commands"},
    check=_check,
    told_to_engines=_told,
    on_engine=_on_engine,
    install=_install,
    doctor=(
        "flask_dbkit.engines.doctor.configuration",
        "flask_dbkit.engines.doctor.timeouts",
        "flask_dbkit.engines.doctor.capacity",
        "flask_dbkit.engines.doctor.servers",
        "flask_dbkit.engines.doctor.on_sqlite",
        "flask_dbkit.engines.doctor.on_postgresql",
        "flask_dbkit.engines.doctor.on_mysql",
        "flask_dbkit.engines.doctor.statements",
    ),
)
