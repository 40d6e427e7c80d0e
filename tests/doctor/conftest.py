"""What is undone after the tests of the doctor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doctor.shop import close_shops


@pytest.fixture(autouse=True, scope="module")
def closed_shops() -> Iterator[None]:
    """Leave no model behind that another test would meet."""
    yield
    close_shops()
