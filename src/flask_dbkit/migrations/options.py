"""The options of Alembic's ``context.configure()`` for one database, as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .binds import bind_title, suffix_of
from .defaults import defaults_differ, defaults_plugin
from .folder import Folder
from .inclusion import own_tables_only
from .rendering import rendering

__all__ = ["context_options", "writes_each_database"]

_CHECKS = "alembic.ext.checkconstraint_byname"


def context_options(
    folder: Folder,
    key: str | None,
    given: Mapping[str, Any],
    *,
    ddl_rolls_back: bool | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Return the options for one database.

    Args:
        folder: Its revisions, and what the application gave to ``Migrate(...)``.
        key: The bind key.
        given: What ``env.py`` says; it wins over what ``Migrate(...)`` was given.
        ddl_rolls_back: Whether a rollback undoes DDL, where Alembic does not know it itself.
        tell: Called with a sentence about what is left alone.
    """
    options: dict[str, Any] = {
        "target_metadata": folder.metadata(key),
        **folder.options,
        **given,
        "transaction_per_migration": True,
    }
    # Alembic compares check constraints since 1.19.2, and only when it is asked to.
    # https://alembic.sqlalchemy.org/en/latest/autogenerate.html
    if find_spec(_CHECKS) is not None:
        options.setdefault("autogenerate_plugins", ["alembic.autogenerate.*", _CHECKS])
    if options.get("compare_server_default", True) is True:
        plugin = defaults_plugin()
        if plugin is None:
            options["compare_server_default"] = defaults_differ
        else:
            options["compare_server_default"] = True
            plugins = options.get("autogenerate_plugins", ["alembic.autogenerate.*"])
            options["autogenerate_plugins"] = [*plugins, plugin]
    if writes_each_database(folder.path):
        options["upgrade_token"] = f"{suffix_of(key)}_upgrades"
        options["downgrade_token"] = f"{suffix_of(key)}_downgrades"
    if ddl_rolls_back is not None:
        options["transactional_ddl"] = ddl_rolls_back
    options["include_object"] = own_tables_only(
        options.get("include_object"),
        patterns=folder.ignore_tables,
        elsewhere=folder.mapped_elsewhere(key),
        tell=lambda line: tell(f"{bind_title(key)}: {line}"),
    )
    options["render_item"] = rendering(options.get("render_item"))
    return options


def writes_each_database(path: Path) -> bool:
    """Tell whether the folder's template has a function for each database."""
    template = path / "script.py.mako"
    return template.is_file() and "_upgrades" in template.read_text(encoding="utf-8")
