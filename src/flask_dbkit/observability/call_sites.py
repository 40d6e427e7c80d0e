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

__all__ = ["Place", "place_of_call"]

Place = tuple[str, int]
"""File and line."""

_DEEPEST = 150
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
_LISTS = os.path.join(_HERE, "lists", "")  # noqa: PTH118
_LIBRARIES = tuple(
    {
        os.path.join(path, "")  # noqa: PTH118
        for name, path in sysconfig.get_paths().items()
        if name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
_known: dict[str, bool] = {}


def place_of_call() -> tuple[Place | None, Place | None]:
    """Return the line of the application, and what tells it from other occurrences.

    The second is ``None`` for what the library repeats on purpose: the batches of ``iterate()``.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - documented; nothing else is as fast
    repeated = False
    for _ in range(_DEEPEST):
        if frame is None:
            return None, None
        code = frame.f_code
        filename = code.co_filename
        own = _known.get(filename)
        if own is None:
            own = _known[filename] = _is_application(filename)
        if own:
            place = (filename, frame.f_lineno)
            return place, None if repeated else place
        if code.co_flags & inspect.CO_GENERATOR and filename.startswith(_LISTS):
            repeated = True
        frame = frame.f_back
    return None, None


def _is_application(filename: str) -> bool:
    if filename.startswith("<"):
        # A template of a string is the application's; frozen modules and generated code are not.
        return filename in ("<template>", "<stdin>")
    return not filename.startswith((_HERE, *_LIBRARIES))
