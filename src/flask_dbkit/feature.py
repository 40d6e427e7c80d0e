"""What a feature is, and what it is given: the plug between one room and ``DBKit.init_app``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .application import Application
from .databases import EngineContext

__all__ = ["Bind", "Feature", "Setup"]

S = TypeVar("S")


@dataclass(frozen=True)
class Bind:
    """One database of an application, as every feature sees it.

    Attributes:
        key: ``None`` for the default database.
        engine: The engine, which has not connected yet unless it was there before.
        context: What the engine was prepared with.
        options: The options it was made with, or would have been.
    """

    key: str | None
    engine: Engine
    context: EngineContext
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What people call it, in messages, commands and names of checks."""
        return "default" if self.key is None else self.key

    @property
    def url(self) -> URL:
        """The database URL."""
        return self.engine.url

    @property
    def in_memory(self) -> bool:
        """Whether it is gone with its connection, so that all threads share the one there is."""
        return isinstance(self.engine.pool, (StaticPool, SingletonThreadPool))


@dataclass(frozen=True)
class Setup:
    """One application that is being initialised.

    Attributes:
        app: The Flask application.
        db: Its Flask-SQLAlchemy object.
        application: What is kept of it; features add their parts.
        binds: Its databases, the default one first.
        published: What the extension object shows of each feature, by its name there:
            ``published["health"]`` is ``dbkit.health``.
    """

    app: Flask
    db: SQLAlchemy
    application: Application
    binds: tuple[Bind, ...]
    published: Mapping[str, Any]

    def settings(self, kind: type[S]) -> S:
        """Return the application's settings of one room."""
        return self.application.settings(kind)


def _nothing(*_arguments: object) -> None:
    """Do nothing, for a feature that has nothing to do."""


def _tell_nothing(_settings: object) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Feature:
    """One room, as ``DBKit.init_app`` sees it. Everything but the name is optional.

    Attributes:
        name: Of the room.
        settings: Its class of settings, see :mod:`flask_dbkit.settings`.
        commands: The modules of its commands below ``flask dbkit``, by their names. A module is
            imported when its command is asked for, and adds it to the group.
        check: Called with the settings and the bind keys before anything is registered or made.
            Raises :exc:`ConfigError` for settings that do not fit the databases.
        told_to_engines: Called with the settings; returns what
            :class:`~flask_dbkit.databases.EngineContext` shall hold besides.
        on_engine: Called for each engine, before it connects.
        install: Called once per application, after every ``on_engine``.
        doctor: The modules of its checks for ``flask dbkit doctor``, see
            :mod:`flask_dbkit.doctor.checks`. They are imported when checks are asked for.
    """

    name: str
    settings: type[Any] | None = None
    commands: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Any, Iterable[str | None]], None] = _nothing
    told_to_engines: Callable[[Any], Mapping[str, Any]] = _tell_nothing
    on_engine: Callable[[Bind, Setup], None] = _nothing
    install: Callable[[Setup], None] = _nothing
    doctor: tuple[str, ...] = ()
