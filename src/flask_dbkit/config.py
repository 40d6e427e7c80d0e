"""All ``DBKIT_*`` settings of an application, read once: the settings of every room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import make_dataclass
from typing import Any, Self

from .databases.sqlite.pragmas import PRAGMAS
from .exceptions import ConfigError, closest_key, shorten
from .feature import Feature
from .features import FEATURES
from .settings import Setting, settings_in

__all__ = ["SETTINGS", "Config", "config_class"]


def _rooms(features: Iterable[Feature]) -> tuple[type[Any], ...]:
    return tuple(feature.settings for feature in features if feature.settings is not None)


# The first base comes last in the order of the fields.
# https://docs.python.org/3/library/dataclasses.html#inheritance
_Rooms: Any = make_dataclass("_Rooms", [], bases=_rooms(FEATURES)[::-1], frozen=True)


class Config(_Rooms):  # type: ignore[misc] # its bases are made from the list of features
    """The settings of one application: one attribute per setting, and of each room's class.

    Building one touches no database.

    .. versionadded:: 0.1
    """

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any]) -> Self:
        """Read every ``DBKIT_*`` key of a Flask configuration.

        Args:
            mapping: ``app.config``, or any mapping. Keys without the prefix are not looked at.

        Returns:
            A value that no later change of ``mapping`` touches.

        Raises:
            ConfigError: A ``DBKIT_*`` key is unknown, or its value is not allowed.
        """
        by_key = {setting.key: setting for setting in settings_in(cls)}
        parsed: dict[str, Any] = {}
        found = [key for key in mapping if isinstance(key, str) and _is_meant(key, by_key)]
        for key in found:
            setting = by_key.get(key)
            if setting is None:
                raise _unknown(key, mapping[key], by_key)
            parsed[setting.attribute] = setting.parse(key, mapping[key])
        return cls(**parsed, given=frozenset(found))


_PRAGMA = "DBKIT_SQLITE_"

SETTINGS: tuple[Setting, ...] = tuple(settings_in(Config))
"""Every setting, in the order of the reference page."""


def config_class(features: Iterable[Feature]) -> type[Config]:
    """Return :class:`Config` with the settings of further features.

    Args:
        features: All of them; those that :class:`Config` has are not added again.
    """
    further = tuple(room for room in _rooms(features) if not issubclass(Config, room))
    if not further:
        return Config
    return make_dataclass("Config", [], bases=(*further[::-1], Config), frozen=True)


def _is_meant(key: str, known: Mapping[str, Setting]) -> bool:
    """Tell whether a key is a setting of ours, or was to be one: in small letters, say."""
    return key.startswith("DBKIT_") or key.upper() in known


def _unknown(key: str, given: object, known: Mapping[str, Setting]) -> ConfigError:
    pragmas = {f"{_PRAGMA}{name.upper()}": name for name in PRAGMAS}
    # A pragma that a setting stands for is no better answer than the setting.
    pragmas = {
        name: pragma
        for name, pragma in pragmas.items()
        if not any(key.startswith(f"{name}_") for key in known)
    }
    meant = closest_key(key, [*known, *pragmas])
    if meant in pragmas:
        pragma = pragmas[meant]
        place = f'DBKIT_SQLITE_PRAGMAS["{pragma}"]'
        return ConfigError(
            f"{key} (set to {shorten(given)}) is no setting of Flask-DBKit. Use {place}.",
            key=key,
            given=given,
            allowed=place,
            nearest=place,
        )
    return ConfigError.unknown_key(key, given, known)
