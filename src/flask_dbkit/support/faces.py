"""Names that a package hands on and imports only when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["on_demand"]


def on_demand(package: str, /, **modules: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562).

    A room's ``settings.py`` is imported by every application, and its ``__init__.py`` comes
    along: what the room hands on must not import its core.

    Args:
        package: Its ``__name__``.
        modules: The names it hands on, with blanks between, by the module that has them. A
            module further down is written with ``__`` for the dot: ``lists__pages``. A module
            without names is handed on itself.

    References:
        https://peps.python.org/pep-0562/
    """
    module_of = {
        name: module.replace("__", ".")
        for module, names in modules.items()
        for name in names.split()
    }

    def find(name: str) -> Any:
        value: Any
        if name in module_of:
            value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        elif modules.get(name) == "":
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return find
