"""The data layer of a Flask application, done once and done right.

.. code-block:: python

    from flask_dbkit import Base, DBKit
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy(model_class=Base)
    dbkit = DBKit(db=db)
"""

from __future__ import annotations

from .config import Config
from .exceptions import ConfigError, DBKitError
from .extension import DBKit
from .models import (
    NAMING_CONVENTION,
    Base,
    Timestamps,
    UUIDPrimaryKey,
    Versioned,
    declarative_base,
)
from .shortcuts import get_or_create, upsert
from .types import UTCDateTime

__all__ = [
    "NAMING_CONVENTION",
    "Base",
    "Config",
    "ConfigError",
    "DBKit",
    "DBKitError",
    "Timestamps",
    "UTCDateTime",
    "UUIDPrimaryKey",
    "Versioned",
    "declarative_base",
    "get_or_create",
    "upsert",
]
