"""The socket under a driver's connection: whether anything came in, and how to end every wait.

References:
    * https://man7.org/linux/man-pages/man2/shutdown.2.html
    * ``tcpi_last_data_recv``: https://man7.org/linux/man-pages/man7/tcp.7.html
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["OpenSocket", "is_quiet", "socket_of"]

_LAST_DATA = struct.Struct("@52xI")  # struct tcp_info: milliseconds since data came


class OpenSocket:
    """A descriptor of our own for the socket under a driver's connection.

    The driver may close its own at any moment, and another thread get the number.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)

    @contextmanager
    def _opened(self) -> Iterator[socket.socket]:
        opened = socket.socket(fileno=self._descriptor)
        try:
            yield opened
        finally:
            opened.detach()

    def shut(self) -> None:
        """End every call on the connection, in whatever thread it is."""
        with contextlib.suppress(OSError), self._opened() as opened:  # it is gone already
            opened.shutdown(socket.SHUT_RDWR)

    def silent_s(self) -> float:
        """Return for how long nothing came; for ever where the system does not tell."""
        with contextlib.suppress(OSError, AttributeError), self._opened() as opened:
            if opened.family in (socket.AF_INET, socket.AF_INET6):
                told = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
                if len(told) == _LAST_DATA.size:
                    return float(_LAST_DATA.unpack(told)[0]) / 1000
        return float("inf")


def socket_of(dbapi_connection: Any) -> OpenSocket | None:
    """Return the socket of a driver's connection: psycopg 3, psycopg2 and PyMySQL."""
    with contextlib.suppress(OSError):
        descriptor = _descriptor_of(dbapi_connection)
        return None if descriptor is None else OpenSocket(descriptor)
    return None


def is_quiet(dbapi_connection: Any) -> bool:
    """Tell whether nothing has come in on an idle connection: no word, and no end of it.

    No round trip: a server that ends a session closes the connection, and the kernel knows.
    """
    descriptor = _descriptor_of(dbapi_connection)
    if descriptor is None:
        return False
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)
    except (AttributeError, OSError, ValueError):  # Windows has no poll(); a closed one is -1
        return False


def _descriptor_of(dbapi_connection: Any) -> int | None:
    with contextlib.suppress(Exception):  # the connection broke meanwhile
        if hasattr(dbapi_connection, "pgconn"):
            return int(dbapi_connection.pgconn.socket)
        if hasattr(dbapi_connection, "_sock"):  # PyMySQL has no public door
            return int(dbapi_connection._sock.fileno())  # noqa: SLF001
        if hasattr(dbapi_connection, "fileno"):
            return int(dbapi_connection.fileno())
    return None
