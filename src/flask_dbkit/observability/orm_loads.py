"""What the ORM says of a statement that loads an attribute: which one, and for whom.

SQLAlchemy's own way to ask, the session event ``do_orm_execute``, costs every statement of the ORM
more than half of what looking for repeats does. What it would tell is read from the statement
itself, by names that are not documented: they stand here and nowhere else. Where one of them is
gone, a repeat is found all the same, and its fix is told in general words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..databases.execution import Execution

__all__ = ["Load", "is_chunk", "load_of"]


class Load(NamedTuple):
    """One attribute that is loaded for one object.

    Attributes:
        relationship: What is loaded, such as ``User.posts``; ``None`` for columns.
        fix: What to write instead.
    """

    relationship: str | None
    fix: str


def is_chunk(execution: Execution) -> bool:
    """Tell whether a statement is a part of an eager load: several of them are no loop."""
    options = execution.context.execution_options.get("_sa_orm_load_options")
    # For everybody but a lazy load there is no object; a query of one's own has no path.
    if options is None or getattr(options, "_lazy_loaded_from", True) is not None:
        return False
    loading = _compile_options(execution)
    path = getattr(loading, "_current_path", None)
    if path is None or path.is_root:
        return False
    return not getattr(loading, "_for_refresh_state", True)


def load_of(execution: Execution) -> Load | None:
    """Return which attribute a statement loads, ``None`` if nothing is known of it."""
    loading = _compile_options(execution)
    if loading is None:
        return None
    try:
        return _columns(execution) if loading._for_refresh_state else _relation(loading)  # noqa: SLF001
    except (AttributeError, KeyError):
        return None


def _compile_options(execution: Execution) -> Any:
    return getattr(execution.context.invoked_statement, "_compile_options", None)


def _columns(execution: Execution) -> Load:
    options = execution.context.execution_options["_sa_orm_load_options"]
    state = options._refresh_state  # noqa: SLF001
    name = state.mapper.class_.__name__ if state is not None else "the object"
    return Load(
        None,
        f"Columns of {name} were loaded one object at a time: ask for them with the objects"
        " (undefer(), populate_existing()), load them for all of them at the first touch"
        " (peerload()), or leave them unexpired (expire_on_commit=False).",
    )


def _relation(loading: Any) -> Load | None:
    steps: tuple[Any, ...] = tuple(loading._current_path.path)  # noqa: SLF001
    relation: Any = next((each for each in reversed(steps) if hasattr(each, "direction")), None)
    if relation is None:
        return None
    name = f"{relation.parent.class_.__name__}.{relation.key}"
    return Load(
        name,
        f"Load it with the objects, .options(selectinload({name})), or at the first touch for all"
        f" of them, .options(peerload({name})).",
    )
