"""The law: with peer loading the object graph is what plain lazy loading gives."""

from __future__ import annotations

import logging

import pytest

from tests.peer_loading import law
from tests.support.databases import Database


@pytest.mark.parametrize("first", [7, 19, 28])
def test_random_walks_are_equal_with_and_without_peers(
    database: Database, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Values, order, warnings, errors, and what is saved; the long form is a command."""
    caplog.set_level(logging.CRITICAL)
    world, batches = law.make_world(first, database.url), 0
    try:
        for seed in range(first, first + 6):
            batches += law.compare(world, seed).batches
    finally:
        law.close(world)
    assert batches  # the walks did come across it
