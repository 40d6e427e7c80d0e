"""The rules a database URL goes through before an engine is made from it.

Pure functions on text and :class:`sqlalchemy.engine.URL`: which driver a URL without one
means, and whether that driver is installed. Nothing here connects, and no message shows a
URL, because a URL may hold a password.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ..exceptions import ConfigError, closest

__all__ = ["drivers_not_taken", "parse_database_url", "without_secrets"]

_DRIVERS: dict[str, tuple[tuple[str, str], ...]] = {
    # backend -> (driver name, module it imports), the preferred one first
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
}
_EXTRAS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")


def parse_database_url(value: object, *, key: str) -> URL:
    """Turn what an application configured into a URL with an installed driver.

    ``postgres://`` and ``postgresql://`` become ``postgresql+psycopg`` when psycopg 3 can be
    imported, else ``postgresql+psycopg2``; ``mysql://`` becomes ``mysql+pymysql``. A URL
    that names its driver keeps it.

    Args:
        value: Text or a :class:`~sqlalchemy.engine.URL`.
        key: Where it was found, for the error.

    Returns:
        The completed URL. The password is kept.

    Raises:
        ConfigError: It is no URL, its database is unknown to SQLAlchemy, or the driver is
            not installed. The text names ``key`` and the ``pip install`` line, never the URL.

    References:
        https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls

    .. versionadded:: 0.1
    """
    url = _parse(value, key)
    backend, plus, driver = url.drivername.partition("+")
    if backend == "postgres":
        # The scheme of libpq and of hosting platforms, which SQLAlchemy 1.4 dropped.
        # https://docs.sqlalchemy.org/en/20/changelog/changelog_14.html#change-3687655465c25a39b968b4f5f6e9170b
        backend = "postgresql"
        url = url.set(drivername=f"{backend}{plus}{driver}")
    if not driver and backend in _DRIVERS:
        url = url.set(drivername=f"{backend}+{_choose_driver(backend)}")
    _check_driver(url, key)
    return url


def drivers_not_taken(value: object, *, key: str) -> tuple[str, ...]:
    """Return the further installed drivers that a URL without one could have meant.

    Args:
        value: As for :func:`parse_database_url`, which tells the one that was taken.
        key: Where it was found, for the error.
    """
    if "+" in _parse(value, key).drivername:
        return ()
    backend, _, taken = parse_database_url(value, key=key).drivername.partition("+")
    known = dict(_DRIVERS.get(backend, ()))
    later = list(known)[list(known).index(taken) + 1 :] if taken in known else []
    return tuple(name for name in later if find_spec(known[name]) is not None)


def _parse(value: object, key: str) -> URL:
    if isinstance(value, URL):
        return value
    if isinstance(value, str) and value.strip():
        try:
            return sa.make_url(value.strip())
        except (ArgumentError, ValueError):
            # ValueError: a port that is no number. The text is not shown: it may hold a password.
            pass
    raise ConfigError(
        f"{key} is no database URL. Write dialect://user:password@host:port/database, for example"
        " sqlite:///app.db or postgresql://user:password@localhost/app, and percent-encode"
        " special characters of the password.",
        key=key,
        allowed="a database URL",
    )


def _choose_driver(backend: str) -> str:
    drivers = [driver for driver, module in _DRIVERS[backend] if _can_import(module)]
    return drivers[0] if drivers else _DRIVERS[backend][0][0]


def _can_import(module: str) -> bool:
    try:
        # Being installed is not enough: psycopg needs a libpq, which only some of its packages
        # bring along.
        import_module(module)
    except ImportError:
        return False
    return True


def _check_driver(url: URL, key: str) -> None:
    backend, _, driver = url.drivername.partition("+")
    try:
        url.get_dialect().import_dbapi()
    except NotImplementedError:
        # A third-party dialect without a DBAPI module of its own: nothing to check.
        return
    except NoSuchModuleError:
        raise _unknown_to_sqlalchemy(url, key) from None
    except ImportError as error:
        extra = _EXTRAS.get(backend)
        install = (
            f"pip install 'flask-sqlalchemy-dbkit[{extra}]'" if extra else f"pip install {driver}"
        )
        raise ConfigError(
            f"{key} names a {backend} database, but its driver {driver!r} is not installed"
            f" ({error}). Run: {install}",
            key=key,
            given=url.drivername,
            allowed=install,
        ) from error


def _unknown_to_sqlalchemy(url: URL, key: str) -> ConfigError:
    backend, _, driver = url.drivername.partition("+")
    if backend in _DRIVERS:
        what, given = f"the driver {driver!r} for {backend}", driver
        words = tuple(name for name, _ in _DRIVERS[backend])
    else:
        what, given, words = f"the database {backend!r}", backend, _BACKENDS
    nearest = closest(given, words)
    hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
    allowed = f"one of: {', '.join(words)}"
    return ConfigError(
        f"{key} names {what}, which SQLAlchemy does not know.{hint} Use {allowed}, or install the"
        " package that provides it.",
        key=key,
        given=url.drivername,
        allowed=allowed,
        nearest=nearest,
    )


def without_secrets(url: URL) -> str:
    """Render a URL with its password hidden, also where drivers take one in the query."""
    secrets = [name for name in url.query if "pass" in name.lower()]
    shown = url.update_query_dict(dict.fromkeys(secrets, "***"))
    return shown.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
