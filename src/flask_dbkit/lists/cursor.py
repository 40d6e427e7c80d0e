"""Cursors: a keyset as opaque, URL-safe, signed text.

.. code-block:: text

    base64url( version 2 | key id 1 | HMAC-SHA256, first 16 bytes | sealed payload )
    payload = JSON [fingerprint, direction, expiry, [values], tie depth]

Signed and sealed: nothing in a cursor can be read, a primary key that is nobody's business
included. The key stream is made of a secret and the signature, as in RFC 5297: the same payload
makes the same cursor, and another one has another key stream.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from .codecs import Value, decode, encode
from .exceptions import QueryError, mistake

__all__ = ["Direction", "Keyset", "Signer", "fingerprint"]

_VERSION = 2
_MAC_SIZE = 16
_HEAD_SIZE = 2 + _MAC_SIZE
# A request line has to fit the server's buffer, often 8 KiB; a little more never gets here.
_LIMIT = 16_384
# With a path and some filters it has to fit a request line of 4,094 bytes, which is what common
# servers take. https://docs.gunicorn.org/en/stable/settings.html#limit-request-line
_MOST_MADE = 3_000
_PARAMETER = "cursor"
# Done in one step each, for every page makes three of them.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder().raw_decode


class Direction(IntEnum):
    """Which rows a cursor asks for. The inclusive ones stand beside a page without rows."""

    AFTER = 0
    BEFORE = 1
    UP_TO = 2
    FROM = 3

    @property
    def backward(self) -> bool:
        """Rows are read towards the start of the order."""
        return self in (Direction.BEFORE, Direction.UP_TO)

    @property
    def inclusive(self) -> bool:
        """A row equal to the keyset belongs to the page."""
        return self in (Direction.UP_TO, Direction.FROM)


_DIRECTIONS = tuple(Direction)


class Keyset(NamedTuple):
    """A place between two rows of an order.

    Attributes:
        values: One per key, as stored. Empty with a backward direction is the end of the order.
        direction: Which side of it is asked for.
        ties: How many leading keys were equal over the whole page. A hint: it costs time when it
            is wrong, never rows.
    """

    values: tuple[Value, ...]
    direction: Direction = Direction.AFTER
    ties: int = 0


def fingerprint(*parts: object) -> str:
    """Return 48 bits that stand for what a cursor belongs to.

    Args:
        parts: Values with a stable ``repr()``.
    """
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return _b64encode(digest[:6])


class _Key(NamedTuple):
    number: int
    signing: hmac.HMAC
    sealing: Any

    def mac(self, head: bytes, payload: bytes) -> bytes:
        made = self.signing.copy()
        made.update(head + payload)
        return made.digest()[:_MAC_SIZE]

    def sealed(self, mac: bytes, payload: bytes) -> bytes:
        """Seal a payload, or open a sealed one."""
        stream = self.sealing.copy()
        stream.update(mac)
        size = len(payload)
        mixed = int.from_bytes(payload) ^ int.from_bytes(stream.digest(size))
        return mixed.to_bytes(size)


@lru_cache(maxsize=32)
def _derive(secret: str | bytes) -> _Key:
    raw = secret.encode() if isinstance(secret, str) else secret
    # Keys of their own: a signature made here means nothing to the session cookie, or back.
    key = hmac.digest(raw, b"flask-dbkit cursor v1", "sha256")
    seal = hmac.digest(raw, b"flask-dbkit cursor seal", "sha256")
    # A copy of one that has read its key is made in half the time of another one.
    number = hashlib.sha256(key).digest()[0]
    return _Key(number, hmac.new(key, digestmod="sha256"), hashlib.shake_256(seal))


class Signer:
    """Makes and reads cursors.

    Args:
        secrets: The first one signs, every one verifies.
        max_age_s: Seconds a cursor made now stays good, or ``None``.
        now: The clock, in seconds since 1970.
    """

    def __init__(
        self,
        secrets: Iterable[str | bytes],
        *,
        max_age_s: int | None = None,
        now: float | None = None,
    ) -> None:
        self._keys = [_derive(secret) for secret in secrets]
        self._max_age_s = max_age_s
        self._now = now

    def dumps(self, keyset: Keyset, mark: str) -> str:
        """Return the cursor for a keyset.

        Args:
            keyset: The place.
            mark: What it belongs to, from :func:`fingerprint`.

        Raises:
            ValueError: A key value is so long that no URL could hold it.
        """
        expiry = None if self._max_age_s is None else int(self._clock()) + self._max_age_s
        values = ",".join([_json_of(encode(value)) for value in keyset.values])
        until = "null" if expiry is None else expiry
        text = f"[{_as_json(mark)},{keyset.direction:d},{until},[{values}],{keyset.ties}]"
        payload = text.encode("utf-8", "surrogatepass")
        key = self._keys[0]
        head = bytes((_VERSION, key.number))
        mac = key.mac(head, payload)
        token = _b64encode(head + mac + key.sealed(mac, payload))
        if len(token) > _MOST_MADE:
            raise ValueError(
                f"A sort key value makes a cursor of {len(token)} characters, more than a URL"
                " can hold. Sort by a shorter expression, for example func.left(column, 200)."
            )
        return token

    def loads(self, token: str, mark: str, width: int) -> Keyset:
        """Verify and read a cursor.

        Args:
            token: What the client sent.
            mark: What it has to belong to.
            width: How many values it has to have.

        Raises:
            QueryError: It is not ours, was changed, belongs to another list or is too old.
        """
        payload = self.verify(token)
        found: Any = None
        values: Any = None
        expiry: Any = None
        keyset: Keyset | None = None
        try:
            (found, direction, expiry, values, ties), end = _from_json(
                text := payload.decode("utf-8", "surrogatepass")
            )
            keyset = Keyset(tuple([decode(one) for one in values]), _DIRECTIONS[direction], ties)
            right = (
                end == len(text)
                and isinstance(found, str)
                and isinstance(values, list)
                and (expiry is None or type(expiry) is int)
                and type(direction) is type(ties) is int
                and direction >= 0
                and ties >= 0
            )
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            right = False
        # Signed with a secret of ours, and not written by us: something else signs with it.
        if not right or keyset is None:
            raise _refused("cursor_malformed", token)
        if found != mark or len(values) not in (0, width):
            raise _refused("cursor_mismatch", token)
        if expiry is not None and self._clock() >= expiry:
            raise _refused("cursor_expired", token)
        return keyset

    def verify(self, token: str) -> bytes:
        """Check that a cursor is ours and unchanged.

        Args:
            token: What the client sent.

        Returns:
            Its payload.

        Raises:
            QueryError: It is not.
        """
        raw = _b64decode(token) if len(token) <= _LIMIT else None
        if raw is None or len(raw) <= _HEAD_SIZE:
            raise _refused("cursor_malformed", token)
        head, mac, sealed = raw[:2], raw[2:_HEAD_SIZE], raw[_HEAD_SIZE:]
        if head[0] != _VERSION:
            raise _refused("cursor_version", token)
        for key in self._keys:
            if key.number == head[1]:
                payload = key.sealed(mac, sealed)
                if hmac.compare_digest(mac, key.mac(head, payload)):
                    return payload
        raise _refused("cursor_signature", token)

    def _clock(self) -> float:
        return time.time() if self._now is None else self._now


def _refused(code: str, token: str) -> QueryError:
    return QueryError([mistake(_PARAMETER, code, token)])


def _json_of(value: bool | int | str | None) -> str:
    # The encoder takes text in one step, but for a number it makes another encoder first.
    return str(value) if type(value) is int else _as_json(value)


def _b64encode(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")


def _b64decode(token: str) -> bytes | None:
    try:
        text = token.encode("ascii").translate(_FROM_URL) + b"=" * (-len(token) % 4)
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    # The last character has bits that no byte uses: without this check several texts would
    # stand for the same cursor.
    return raw if binascii.b2a_base64(raw, newline=False) == text else None


def tie_depth(first: Sequence[Value], last: Sequence[Value]) -> int:
    """Return how many leading keys two rows share, short of the last key."""
    depth = 0
    while depth < len(first) - 1 and first[depth] == last[depth]:
        depth += 1
    return depth
