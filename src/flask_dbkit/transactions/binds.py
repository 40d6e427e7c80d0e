"""How the databases of a scope begin that asks for more than a transaction, or has lost its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.util import immutabledict

from ..databases import database_of
from .exceptions import OptionMismatch

if TYPE_CHECKING:
    from .tree import ScopeTree

__all__ = ["watch_binds"]


def watch_binds(tree: ScopeTree) -> None:
    """Look at every database that the session chooses, before it is used.

    On the instance, like the other methods of a scope's own: nobody else's session is touched.
    """
    methods: dict[str, Any] = tree.session.__dict__
    if "get_bind" in methods:
        return
    plain_get_bind = tree.session.get_bind

    def get_bind(*args: Any, **kwargs: Any) -> Engine | Connection:
        tree.check()
        bind: Engine | Connection = plain_get_bind(*args, **kwargs)
        # A scope that asks for no more than a way to begin leaves the connecting to the session.
        if not tree.begins_plainly and isinstance(bind, Engine) and bind not in tree.works:
            _begin_with_options(tree, bind)
        return bind

    methods["get_bind"] = get_bind


def _begin_with_options(tree: ScopeTree, engine: Engine) -> None:
    if tree.acquiring:
        return
    timeouts = tree.frame_behind(None).timeouts
    database = database_of(engine).scopes
    if tree.session.twophase and not database.two_phase:
        raise OptionMismatch(
            "multi_bind",
            "two_phase",
            None,
            f"{engine.dialect.name} cannot prepare a transaction over several databases. Use"
            " multi_bind='best_effort', or write to one database.",
        )
    options = database.begin_options(
        read_only=tree.options.read_only, isolation=tree.options.isolation, timeouts=timeouts
    )
    # By the root: inside a savepoint SQLAlchemy 2.0 would apply the options a second time,
    # to the savepoint, and refuse them.
    tree.acquiring = True
    try:
        tree.root.connection(None, bind=engine, execution_options=immutabledict(options))
    finally:
        tree.acquiring = False
