"""Models that no database of the application knows are found, and said."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakSet

from sqlalchemy import event

from ..feature import Feature, Setup
from .on_sqlite import drop_tables_in_any_order
from .orphans import CodePlace, orphaned_models

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

    look()
    # A factory may import its models later. When a connection is made they are there.
    for bind in setup.binds:
        event.listen(bind.engine, "first_connect", look)


def _warn(model: type[Any]) -> None:
    warnings.warn(
        f"The model {model.__module__}.{model.__qualname__} belongs to no database of this"
        " application: db.create_all() makes no table for it, and migrations know none. Give its"
        " base to the SQLAlchemy object: db = SQLAlchemy(model_class=Base).",
        RuntimeWarning,
        stacklevel=4,
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
