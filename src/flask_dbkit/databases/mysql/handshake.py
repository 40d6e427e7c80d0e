"""A handshake that is none: what answers at the port is no server of this kind, or a broken one."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Engine

__all__ = ["recognise_broken_handshakes"]

_HANDSHAKE = frozenset({"_get_server_information", "_request_authentication"})
_MALFORMED_PACKET = 2027  # CR_MALFORMED_PACKET


def recognise_broken_handshakes(engine: Engine) -> None:
    """Let one engine raise a driver's error for it, which says that the server is not there.

    PyMySQL reads whatever comes without looking: a proxy's error page is a ``struct.error``, a
    ``ValueError`` or an ``UnboundLocalError``, like a mistake of the application's.
    """
    dialect = engine.dialect
    plain = dialect.connect

    def connect(*args: Any, **options: Any) -> Any:
        try:
            return plain(*args, **options)
        except dialect.loaded_dbapi.Error:
            raise
        except Exception as error:
            if not _is_of_handshake(error):
                raise
            raise dialect.loaded_dbapi.OperationalError(
                _MALFORMED_PACKET, "The answer to the connection is no handshake"
            ) from error

    setattr(dialect, "connect", connect)


def _is_of_handshake(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name in _HANDSHAKE:
            return True
        trace = trace.tb_next
    return False
