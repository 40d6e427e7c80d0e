"""The script of a backup: first tables and rows, then what is programmed on top of them.

Views, triggers, routines and events are checked against the rights of the account that defined
them, and those may be for one database only. A copy under a passing name is therefore loaded
without them, and they are made where they belong, out of the backup's own script.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

__all__ = ["begin_programs", "split_script", "with_own_definers"]

_MARK = b"\n-- Flask-DBKit: views, triggers, routines and events follow\n"
_CHUNK = 1 << 20
_NAME = r"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|[\w.%-]+)"
_DEFINER = re.compile(rf"\bDEFINER\s*=\s*{_NAME}(?:@{_NAME})?".encode(), re.IGNORECASE)


def begin_programs(script: Path) -> None:
    """End the tables and rows of a script."""
    with script.open("ab") as file:
        file.write(_MARK)


def split_script(plain: Path) -> Path | None:
    """Cut what is programmed on the tables off a script.

    Args:
        plain: The script. Its tables and rows stay in it.

    Returns:
        The file with the rest; ``None`` when the script does not tell both apart.
    """
    place = _find_mark(plain)
    if place is None:
        return None
    programs = plain.with_name(f"{plain.name}.programs")
    with plain.open("r+b") as source, programs.open("xb") as target:
        source.seek(place + len(_MARK))
        shutil.copyfileobj(source, target, _CHUNK)
        source.truncate(place)
    return programs


def _find_mark(script: Path) -> int | None:
    """Return where the mark is. Inside a value every line end is escaped, so it cannot be there."""
    place, rest = 0, b""
    with script.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found = (rest + chunk).find(_MARK)
            if found >= 0:
                return place - len(rest) + found
            place += len(chunk)
            rest = (rest + chunk)[-len(_MARK) :]
    return None


def with_own_definers(script: Path) -> None:
    """Let whoever loads a script of programs define them."""
    script.write_bytes(_DEFINER.sub(b"DEFINER=CURRENT_USER", script.read_bytes()))
