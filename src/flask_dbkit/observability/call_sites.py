"""Which line of the application a statement comes from.

A walk along the frames costs several times what counting costs, so it is made only for statements
that were seen before.
"""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from types import CodeType, FrameType

__all__ = ["Place", "Spot", "place_of_call", "place_of_spot", "spot_of_call"]

Place = tuple[str, int]
"""File and line."""

Spot = tuple[CodeType, int]
"""Code and instruction: what a line is made from when somebody asks for it."""

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


def spot_of_call() -> Spot | None:
    """Return what tells the line of the application later: half the price of the line itself.

    For each connection that is taken, where nobody may ever ask.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    own_of = _known.get
    while frame is not None:
        filename = frame.f_code.co_filename
        own = own_of(filename)
        if own is None:
            own = _known[filename] = _is_application(filename)
        if own:
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def place_of_spot(spot: Spot) -> Place:
    """Return the file and line of an instruction."""
    code, instruction = spot
    for begin, end, line in code.co_lines():
        if begin <= instruction < end and line is not None:
            return code.co_filename, line
    return code.co_filename, code.co_firstlineno


def _is_application(filename: str) -> bool:
    if filename.startswith("<"):
        # A template of a string is the application's; frozen modules and generated code are not.
        return filename in ("<template>", "<stdin>")
    return not filename.startswith((_HERE, *_LIBRARIES))
