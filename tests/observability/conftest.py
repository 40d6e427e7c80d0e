"""A shop on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.observability.shop import Shop, make_shop
from tests.support.databases import Database


@pytest.fixture
def new_shop(database: Database) -> Iterator[Callable[..., Shop]]:
    """Return a function that makes a shop, by settings."""
    made: list[Shop] = []

    def make(**config: Any) -> Shop:
        made.append(make_shop(database.url, **config))
        return made[-1]

    yield make
    for shop in made:
        with shop.app.app_context():
            shop.db.session.remove()
            for engine in shop.db.engines.values():
                engine.dispose()


@pytest.fixture
def shop(new_shop: Callable[..., Shop]) -> Shop:
    return new_shop()
