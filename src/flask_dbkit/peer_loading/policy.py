"""Whether an attribute loads for all peers: the nearest to the statement says it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper

from .blocks import MODES, current_mode
from .options import PeerLoad
from .private import options_of

__all__ = ["check_words", "is_wanted", "names_peers"]


def is_wanted(state: InstanceState[Any], keys: Iterable[str], setting: str) -> bool:
    """Decide it for attributes of one object that load together.

    In this order: ``peerload()`` of the statement, an attribute it names before the bare option,
    the later of two equals; the innermost ``lazy_loading()`` block; ``info`` of the attribute;
    the setting.

    Args:
        state: The object.
        keys: The names of the attributes: one, or the columns of an expired object.
        setting: ``DBKIT_LAZY`` of the current application.
    """
    names = list(keys)
    said = _said_by_options(state, names)
    if said is not None:
        return said
    mode = current_mode()
    if mode is None:
        words = {_word(state.mapper, key) for key in names} & set(MODES)
        # An object whose columns load together is for all peers if one of them is.
        mode = "peers" if "peers" in words else "select" if words else setting
    return mode == "peers"


def _said_by_options(state: InstanceState[Any], keys: list[str]) -> bool | None:
    bare: bool | None = None
    named: dict[str, bool] = {}
    for option in options_of(state):
        if isinstance(option, PeerLoad):
            if not option.attributes:
                bare = not option.off
            else:
                owner = state.mapper.class_
                named.update({k: not option.off for k in keys if option.speaks_of(owner, k)})
    if any(named.values()):
        return True
    return False if len(named) == len(keys) else bare


def _word(mapper: Mapper[Any], key: str) -> object:
    info = mapper.attrs[key].info.get("dbkit")
    return info.get("lazy") if isinstance(info, dict) else None


def names_peers(mapper: Mapper[Any]) -> bool:
    """Tell whether an attribute of a class asks for peer loading by its ``info``."""
    return any(_word(mapper, attribute.key) == "peers" for attribute in mapper.attrs)


def check_words(mapper: Mapper[Any]) -> None:
    """Warn of an attribute whose ``info`` says something else than the two words."""
    for attribute in mapper.attrs:
        word = _word(mapper, attribute.key)
        if word is not None and word not in MODES and attribute.parent is mapper:
            name = f"{mapper.class_.__name__}.{attribute.key}"
            warnings.warn(
                f"{name} has info={{'dbkit': {{'lazy': {word!r}}}}}."
                " Use 'peers' or 'select'. It loads as if that were not there.",
                RuntimeWarning,
                stacklevel=2,
            )
