"""Which line of the application a statement comes from.

A walk along the frames costs several times what counting costs, so it is made only for statements
that were seen before.
"""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from types import FrameType

from sqlalchemy.engine import reflection

__all__ = ["Place", "place_of_call"]

Place = tuple[str, int]
"""File and line."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
_LISTS = os.path.join(_HERE, "lists", "")  # noqa: PTH118
_LIBRARIES = tuple(
    {
        os.path.join(path, "")  # noqa: PTH118
        for name, path in sysconfig.get_paths().items()
        if name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
_CATALOG = reflection.__file__
"""Asks for every table, index and type by itself, whoever asked for the schema."""
_OTHER, _OWN, _OF_LISTS, _OF_CATALOG = range(4)
_known: dict[str, int] = {}
"""Whose code a file is."""


def place_of_call() -> tuple[Place | None, Place | None]:
    """Return the line of the application, and what tells it from other occurrences.

    The second is ``None`` for what a library repeats on purpose: the batches of ``iterate()``, and
    what SQLAlchemy reads from the catalog.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - documented; nothing else is as fast
    repeated, known = False, _known
    while frame is not None:
        filename = frame.f_code.co_filename
        try:  # which costs nothing, and a call of get() does
            whose = known[filename]
        except KeyError:
            whose = known[filename] = _look(filename)
        if whose:
            if whose == _OWN:
                place = (filename, frame.f_lineno)
                return place, None if repeated else place
            if whose == _OF_CATALOG or frame.f_code.co_flags & inspect.CO_GENERATOR:
                repeated = True
        frame = frame.f_back
    return None, None


def _look(filename: str) -> int:
    if filename.startswith("<"):
        # A template of a string is the application's; frozen modules and generated code are not.
        return _OWN if filename in ("<template>", "<stdin>") else _OTHER
    if filename == _CATALOG:
        return _OF_CATALOG
    if filename.startswith(_LISTS):
        return _OF_LISTS
    return _OTHER if filename.startswith((_HERE, *_LIBRARIES)) else _OWN
