"""Cursors: what is refused, and with which code."""

from __future__ import annotations

import math
import string
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_dbkit import QueryError
from flask_dbkit.lists.codecs import decode, encode
from flask_dbkit.lists.cursor import fingerprint, tie_depth
from flask_dbkit.pagination import Direction, Keyset, Signer

SIGNER = Signer(["secret"])
MARK = fingerprint("books", "-added")
KEYSET = Keyset((datetime(2026, 11, 24, 17, 30, 0, 123456, tzinfo=UTC), 1_000_000), ties=1)
ALPHABET = string.ascii_letters + string.digits + "-_=+/. %~é"


def code_of(token: str, *, mark: str = MARK, width: int = 2, signer: Signer = SIGNER) -> str:
    with pytest.raises(QueryError) as caught:
        signer.loads(token, mark, width)
    (error,) = caught.value.errors
    assert error["parameter"] == "cursor"
    return str(error["code"])


def test_a_cursor_gives_back_its_keyset() -> None:
    """Values, direction and hint arrive as they were sent, in at most 120 characters."""
    token = SIGNER.dumps(KEYSET, MARK)
    assert len(token) <= 120
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert SIGNER.loads(token, MARK, 2) == KEYSET


def test_every_single_character_edit_is_refused() -> None:
    """Changed, inserted or removed at any place, by any character: never taken for ours."""
    token = SIGNER.dumps(KEYSET, MARK)
    edits = {token[:n] + token[n + 1 :] for n in range(len(token))}
    for n in range(len(token) + 1):
        edits |= {token[:n] + one + token[n:] for one in ALPHABET}
        edits |= {token[:n] + one + token[n + 1 :] for one in ALPHABET}
    edits.discard(token)
    assert len(edits) > 5_000
    codes = {code_of(edit) for edit in edits}
    assert codes == {
        "query.cursor_malformed",
        "query.cursor_signature",
        "query.cursor_version",
    }


@pytest.mark.parametrize(
    "token", ["", " ", "%%%", "A", "AA==", "invalid", "é", "\0", "A" * 100_000]
)
def test_what_is_no_cursor_is_malformed(token: str) -> None:
    """Empty text too: it never stands for the first page."""
    assert code_of(token) == "query.cursor_malformed"


@given(st.text(max_size=200))
def test_any_text_is_refused_without_another_error(token: str) -> None:
    """Whatever arrives, the answer is a 400."""
    assert code_of(token).startswith("query.cursor_")


def test_a_cursor_belongs_to_what_it_was_made_for() -> None:
    """Another list, order, filter or tenant: mismatch. So is another number of keys."""
    token = SIGNER.dumps(KEYSET, MARK)
    assert code_of(token, mark=fingerprint("books", "title")) == "query.cursor_mismatch"
    assert code_of(token, width=3) == "query.cursor_mismatch"


@pytest.mark.parametrize(
    "values", [(), (None,), (True, False), (1, "1"), (-(2**63), 'a"\\\n😀'), ("", -0.5)]
)
def test_values_of_every_json_type_arrive_as_they_were(values: tuple[object, ...]) -> None:
    """Also a mark that would have to be escaped, and an expiry."""
    signer = Signer(["secret"], max_age_s=60)
    keyset = Keyset(values, Direction.BEFORE, ties=3)
    found = signer.loads(signer.dumps(keyset, 'a "mark"'), 'a "mark"', len(values))
    assert found == keyset
    assert [type(value) for value in found.values] == [type(value) for value in values]


def test_a_cursor_expires() -> None:
    """Good until its last second, whatever the age limit is when it comes back."""
    young = Signer(["secret"], max_age_s=60, now=1000.0).dumps(KEYSET, MARK)
    assert Signer(["secret"], now=1059.0).loads(young, MARK, 2) == KEYSET
    assert code_of(young, signer=Signer(["secret"], now=1060.0)) == "query.cursor_expired"


def test_secrets_can_be_rotated() -> None:
    """Fallback keys verify, the first one signs, a forgotten one is refused."""
    old = SIGNER.dumps(KEYSET, MARK)
    rotated = Signer([b"new", "secret"])
    assert rotated.loads(old, MARK, 2) == KEYSET
    new = rotated.dumps(KEYSET, MARK)
    assert code_of(new) == "query.cursor_signature"
    assert code_of(old, signer=Signer(["new"])) == "query.cursor_signature"


def test_a_key_too_long_for_a_url_is_said_to_the_developer() -> None:
    """A cursor nobody could send back is an error now, not at the next page."""
    with pytest.raises(ValueError, match="more than a URL"):
        SIGNER.dumps(Keyset(("x" * 20_000,)), MARK)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        "",
        "~\\|\n😀\0",
        "\ud800",
        0.1,
        -0.0,
        1e300,
        math.inf,
        Decimal("1.10"),
        Decimal("1E+3"),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001
        date(9999, 12, 31),
        time(23, 59, 59, 999999),
        timedelta(days=-1, microseconds=1),
        UUID(int=5),
        b"\x00\xff",
    ],
)
def test_every_value_keeps_its_type_and_value(value: object) -> None:
    """A key comes back as it went, to the last bit."""
    token = SIGNER.dumps(Keyset((value,), Direction.BEFORE), MARK)
    (back,) = SIGNER.loads(token, MARK, 1).values
    assert (type(back), repr(back)) == (type(value), repr(value))


def test_not_a_number_is_carried_too() -> None:
    """PostgreSQL sorts NaN after every number."""
    assert math.isnan(decode(encode(math.nan)))  # type: ignore[arg-type]


def test_buffers_and_subclasses_are_values_as_well() -> None:
    """Drivers return what is like a known type; anything else is named."""

    class Money(Decimal):
        pass

    assert decode(encode(memoryview(b"ab"))) == b"ab"
    assert decode(encode(Money("1.5"))) == Decimal("1.5")
    with pytest.raises(TypeError, match="list cannot be a key value"):
        encode([1])


def test_ties_are_counted_short_of_the_last_key() -> None:
    """The last key alone tells rows apart, so it is never part of a run."""
    assert tie_depth((1, 2, 3), (1, 2, 4)) == 2
    assert tie_depth((1, 2), (1, 2)) == 1
    assert tie_depth((1, 2), (2, 2)) == 0
