"""UUIDs of version 7: laid out as RFC 9562 says, and each greater than the one before."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest

from flask_dbkit.models.identifiers import UUIDv7Generator, uuid7

MS = 1_000_000


def _clock(*times_ns: int) -> Iterator[int]:
    yield from times_ns


def _with_clock(*times_ns: int) -> UUIDv7Generator:
    readings = _clock(*times_ns)
    return UUIDv7Generator(lambda: next(readings))


def test_the_layout_is_that_of_the_standard() -> None:
    """Version 7, the RFC's variant, and the Unix time in milliseconds in front."""
    before = time.time_ns() // MS
    made = uuid7()
    after = time.time_ns() // MS
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= after + 1


def test_the_time_is_the_one_of_the_standards_own_example() -> None:
    """RFC 9562, appendix A.6: 2022-02-22T19:22:22.000Z is 0x017F22E279B0."""
    made = _with_clock(0x017F22E279B0 * MS)()
    assert str(made).startswith("017f22e2-79b0-7")


def test_uuids_made_within_one_millisecond_ascend() -> None:
    """Rows inserted in one go keep their order."""
    generate = _with_clock(*[5 * MS] * 5000)
    made = [generate() for _ in range(5000)]
    assert all(one < other for one, other in pairwise(made))
    assert {value.int >> 80 for value in made} == {5}


def test_a_clock_that_steps_back_is_waited_for_without_waiting() -> None:
    """A correction of the clock must not put new rows before old ones."""
    generate = _with_clock(9 * MS, 3 * MS, 8 * MS, 9 * MS, 10 * MS)
    made = [generate() for _ in range(5)]
    assert made == sorted(made)
    assert [value.int >> 80 for value in made] == [9, 9, 9, 9, 10]


def test_a_full_counter_borrows_the_next_millisecond() -> None:
    """The counter has 42 bits; past its end the order still holds."""
    generate = _with_clock(*[7 * MS] * 3)
    first = generate()
    generate._counter = (1 << 42) - 1
    second, third = generate(), generate()
    assert first < second < third
    assert second.int >> 80 == third.int >> 80 == 8


def test_the_counter_starts_at_random_in_each_millisecond() -> None:
    """Two processes that start in one millisecond must not meet."""
    starts = {(_with_clock(MS)().int >> 32) & 0x3FFFFFFF for _ in range(50)}
    assert len(starts) > 45


def test_threads_never_get_the_same_or_an_earlier_one() -> None:
    """One lock, one order: what a thread gets is greater than all it has seen."""
    made: list[list[uuid.UUID]] = [[] for _ in range(8)]

    def work(own: list[uuid.UUID]) -> None:
        own.extend(uuid7() for _ in range(500))

    threads = [threading.Thread(target=work, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value for own in made for value in own}) == 8 * 500
    assert all(own == sorted(own) for own in made)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child continues neither its parent's counter nor its parent's held lock."""
    from flask_dbkit.models import identifiers

    generator = getattr(identifiers, "_generate", None)
    if generator is not None:
        generator._lock.acquire()  # as if another thread were inside
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "\n".join(str(uuid7()) for _ in range(100)).encode())
        os._exit(0)
    if generator is not None:
        generator._lock.release()
    os.close(writing)
    own = {str(uuid7()) for _ in range(100)}
    with os.fdopen(reading) as answers:
        theirs = set(answers.read().split("\n"))
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 100
    assert not own & theirs
