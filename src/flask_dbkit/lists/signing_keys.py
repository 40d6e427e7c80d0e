"""Which keys may sign a cursor: none that anybody could guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from ..exceptions import ConfigError

__all__ = ["check_signing_keys", "is_signing_key"]


def is_signing_key(given: object) -> TypeGuard[str | bytes]:
    """Tell whether something can sign: text or bytes that are not blank."""
    return isinstance(given, (str, bytes)) and bool(given.strip())


def check_signing_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys that anybody could sign with.

    Args:
        config: The configuration of an application.

    Raises:
        ConfigError: ``SECRET_KEY`` is blank, or ``SECRET_KEY_FALLBACKS`` has what is no key.
    """
    key, others = config.get("SECRET_KEY"), config.get("SECRET_KEY_FALLBACKS")
    if key and not is_signing_key(key):
        raise ConfigError(
            f"SECRET_KEY is a {type(key).__name__} that signs nothing. Use text or bytes, for"
            " example of secrets.token_hex().",
            key="SECRET_KEY",
        )
    if others is None or (isinstance(others, (list, tuple)) and all(map(is_signing_key, others))):
        return
    what = "has an empty key" if isinstance(others, (list, tuple)) else "is no list of keys"
    raise ConfigError(
        f"SECRET_KEY_FALLBACKS {what}: anybody could sign a cursor or a session with it. Use a list"
        " of the keys from before, or leave it out.",
        key="SECRET_KEY_FALLBACKS",
    )
