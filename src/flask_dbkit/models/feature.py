"""Models that no database of the application knows are found, and said."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext

from ..databases import errors_of
from ..feature import Feature, Setup
from .on_sqlite import drop_tables_in_any_order
from .orphans import CodePlace, orphaned_models, stranger_in

__all__ = ["MODELS"]


def _install(setup: Setup) -> None:
    place = CodePlace.of_caller(setup.app.import_name, setup.app.root_path)
    said: WeakSet[type[Any]] = WeakSet()
    metadatas = setup.db.metadatas  # and not the application, which an engine must not keep alive

    def look(*_: object) -> None:
        for metadata in metadatas.values():
            drop_tables_in_any_order(metadata)
        for model in orphaned_models(metadatas.values(), place):
            if model not in said:
                said.add(model)
                _warn(model)

    def explain(context: ExceptionContext) -> None:
        error, run = context.sqlalchemy_exception, context.execution_context
        compiled = getattr(run, "compiled", None)
        if error is None or compiled is None or context.is_disconnect:
            return
        codes = errors_of(context.original_exception)
        # A broken constraint or a conflict means that the table is there.
        if codes is None or codes.meaning(context.original_exception, context.statement):
            return
        model = stranger_in(compiled.statement, metadatas.values())
        if model is not None:
            error.add_note(_words(model))

    look()
    for bind in setup.binds:
        event.listen(bind.engine, "handle_error", explain)
    # A factory may import its models later. When a connection is made they are there.
    for bind in setup.binds:
        event.listen(bind.engine, "first_connect", look)


def _warn(model: type[Any]) -> None:
    warnings.warn(_words(model), RuntimeWarning, stacklevel=4)


def _words(model: type[Any]) -> str:
    return (
        f"The model {model.__module__}.{model.__qualname__} belongs to no database of this"
        " application: db.create_all() makes no table for it, and migrations know none. Give its"
        " base to the SQLAlchemy object: db = SQLAlchemy(model_class=Base)."
    )


MODELS = Feature(
    "models",
    install=_install,
    doctor=(
        "flask_dbkit.models.doctor.schema",
        "flask_dbkit.models.doctor.relationships",
        "flask_dbkit.models.doctor.on_postgresql",
    ),
)
