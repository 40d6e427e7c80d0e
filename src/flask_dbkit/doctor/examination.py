"""What a check is given: one application, its databases, its models and its code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper

from ..databases import Database, database_of, file_of, reading_engine
from .exceptions import NotExamined
from .process import ServerProcess
from .sources import Sources

__all__ = ["Examination", "ExaminedBind", "configure_models"]

S = TypeVar("S")

_CONNECT_S = 5.0


@dataclass(frozen=True)
class ExaminedBind:
    """One database of the application.

    Attributes:
        key: ``None`` for the default database.
        name: What people call it.
        engine: The application's engine. Its pool is looked at and never used.
        options: The options it was made with, or would have been.
        context: What the engine was prepared with.
        in_memory: Whether it is gone with its connection.
        replica_of: The bind it is a replica of.
    """

    key: str | None
    name: str
    engine: Engine
    options: Mapping[str, Any]
    context: Any
    in_memory: bool = False
    replica_of: str | None = None

    @property
    def url(self) -> URL:
        """The database URL."""
        return self.engine.url

    @property
    def database(self) -> Database:
        """What it is."""
        return database_of(self.engine)

    @property
    def is_server(self) -> bool:
        """Whether it is a server that the library knows."""
        return self.database.is_known and not self.database.is_embedded

    @property
    def file(self) -> Path | None:
        """The file it is in, if it is in one."""
        found = file_of(self.url)
        return None if found is None else Path(found)

    @property
    def driver_options(self) -> Mapping[str, Any]:
        """The arguments of the driver: those of the URL, and ``connect_args`` over them."""
        return {**self.url.query, **(self.options.get("connect_args") or {})}

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as far as the URL tells."""
        host = self.url.host or str(self.driver_options.get("host") or "")
        return host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/")


@dataclass
class Examination:
    """One application that is examined.

    Attributes:
        app: The Flask application.
        db: Its Flask-SQLAlchemy object.
        binds: The databases to look at.
        settings: Returns the settings of one room.
        part: Returns what a room keeps of the application.
        context: Makes an application context.
        deploy: Whether this is the place it is deployed to.
        with_database: Whether databases may be asked.
        sources: The Python files of the application.
        process: What serves it.
    """

    app: Any
    db: Any
    binds: tuple[ExaminedBind, ...]
    settings: Callable[[type[Any]], Any]
    part: Callable[[type[Any]], Any]
    context: Callable[[], AbstractContextManager[object]]
    deploy: bool
    with_database: bool
    sources: Sources
    process: ServerProcess
    _engines: dict[str, Engine] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def servers(self) -> Iterator[ExaminedBind]:
        """The databases that are servers."""
        return (bind for bind in self.binds if bind.is_server)

    def binds_of(self, database: Database) -> Iterator[ExaminedBind]:
        """Return the databases of one kind."""
        return (bind for bind in self.binds if bind.database is database)

    def metadata(self, bind: ExaminedBind) -> MetaData:
        """Return the tables of one database."""
        return self.db.metadatas.get(bind.key) or MetaData()

    def tables(self) -> Iterator[tuple[ExaminedBind, Table]]:
        """Yield each table of the models with its database; replicas have those of others."""
        for bind in self.binds:
            if bind.replica_of is None:
                for table in self.metadata(bind).tables.values():
                    yield bind, table

    @cached_property
    def mappers(self) -> list[Mapper[Any]]:
        """The mapped classes whose tables are in the databases to look at, by their names."""
        self.configure_mappers()
        known = {table for _, table in self.tables()}
        found = [one for one in self.db.Model.registry.mappers if one.local_table in known]
        return sorted(found, key=lambda one: one.class_.__name__)

    def about(self, table: Table, column: Column[Any] | None = None) -> dict[str, Any]:
        """Return the object of a finding, and the place where the model is written.

        Args:
            table: What it is about.
            column: Of the table, if it is about one.
        """
        mapper = next((one for one in self.mappers if one.local_table is table), None)
        name = table.fullname if column is None else f"{table.fullname}.{column.name}"
        place = None
        if mapper is not None:
            key = (
                mapper.get_property_by_column(column).key
                if column is not None and column in mapper.columns.values()
                else None
            )
            place = self.sources.place_of(mapper.class_, key)
        return {"object": name, "place": place}

    def configure_mappers(self) -> None:
        """Let the models find each other.

        Raises:
            NotExamined: They do not fit together.
        """
        configure_models(self.db)

    @contextmanager
    def connect(self, bind: ExaminedBind) -> Iterator[Connection]:
        """Connect to a database, past the pool of the application, to read and never to write.

        Raises:
            NotExamined: It is in memory, its file is not there, or it does not answer.
        """
        engine = self.reading_engine(bind)
        with self._lock:
            if bind.name in self._problems:
                raise NotExamined(self._problems[bind.name])
            try:
                connection = engine.connect()
            except (SQLAlchemyError, OSError, ValueError) as error:
                said = " ".join(str(getattr(error, "orig", None) or error).split())
                self._problems[bind.name] = said
                raise NotExamined(said) from error
        try:
            yield connection
        finally:
            connection.close()

    def problem_of(self, bind: ExaminedBind) -> str | None:
        """Tell why a database does not answer; ``None`` if it does, or is not there to be asked."""
        try:
            with self.connect(bind):
                return None
        except NotExamined:
            return self._problems.get(bind.name)

    def reading_engine(self, bind: ExaminedBind) -> Engine:
        """Return an engine that reads a database past the pool of the application.

        Raises:
            NotExamined: It is in memory, or its file is not there.
        """
        file = bind.file
        if bind.in_memory or (bind.database.is_embedded and (file is None or not file.exists())):
            raise NotExamined(f"{bind.name} is not there yet")
        with self._lock:
            if bind.name not in self._engines:
                self._engines[bind.name] = reading_engine(bind.engine, bind.options, _CONNECT_S)
            return self._engines[bind.name]

    def close(self) -> None:
        """Give everything back."""
        for engine in self._engines.values():
            engine.dispose()


def configure_models(db: Any) -> None:
    """Let the models of an application find each other.

    Args:
        db: Its Flask-SQLAlchemy object.

    Raises:
        NotExamined: They do not fit together.
    """
    try:
        db.Model.registry.configure(cascade=True)
    except (SQLAlchemyError, NameError) as error:
        raise NotExamined(" ".join(str(error).split())) from error
