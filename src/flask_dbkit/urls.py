"""The rules a database URL goes through before an engine is made from it.

Pure functions on text and :class:`sqlalchemy.engine.URL`: which driver a URL without one
means, and whether that driver is installed. Nothing here connects, and no message shows a
URL, because a URL may hold a password.
"""

from __future__ import annotations

from importlib.util import find_spec

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from .exceptions import ConfigError, closest

__all__ = ["parse_database_url"]

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

    ``postgres://`` and ``postgresql://`` become ``postgresql+psycopg`` when psycopg 3 is
    installed, else ``postgresql+psycopg2``; ``mysql://`` becomes ``mysql+pymysql``. A URL
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
    if url.drivername == "postgres":
        # The scheme of libpq and of hosting platforms, which SQLAlchemy 1.4 dropped.
        # https://docs.sqlalchemy.org/en/20/changelog/changelog_14.html#change-3687655465c25a39b968b4f5f6e9170b
        url = url.set(drivername="postgresql")
    backend, _, driver = url.drivername.partition("+")
    if not driver and backend in _DRIVERS:
        url = url.set(drivername=f"{backend}+{_choose_driver(backend)}")
    _check_driver(url, key)
    return url


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
    choices = _DRIVERS[backend]
    return next((driver for driver, module in choices if find_spec(module)), choices[0][0])


def _check_driver(url: URL, key: str) -> None:
    backend, _, driver = url.drivername.partition("+")
    try:
        url.get_dialect().import_dbapi()
    except NotImplementedError:
        # A third-party dialect without a DBAPI module of its own: nothing to check.
        return
    except NoSuchModuleError:
        nearest = closest(backend, _BACKENDS)
        hint = f" Did you mean {nearest!r}?" if nearest not in (None, backend) else ""
        raise ConfigError(
            f"{key} names the database {url.drivername!r}, which SQLAlchemy does not know.{hint}"
            f" Use one of: {', '.join(_BACKENDS)}, or install the package that provides it.",
            key=key,
            given=url.drivername,
            allowed="one of: " + ", ".join(_BACKENDS),
            nearest=nearest,
        ) from None
    except ImportError as error:
        extra = _EXTRAS.get(backend)
        install = f"pip install 'flask-dbkit[{extra}]'" if extra else f"pip install {driver}"
        raise ConfigError(
            f"{key} names a {backend} database, but its driver {driver!r} is not installed"
            f" ({error}). Run: {install}",
            key=key,
            given=url.drivername,
            allowed=install,
        ) from error
