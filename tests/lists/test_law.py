"""A bounded sample of the law; the long form is ``python -m tests.lists.law --pages 10000``."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from .law import run


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
def test_a_page_is_the_slice_of_the_unpaged_query(session: Session) -> None:
    """For any statement, keys, filters and walk: nothing lost, nothing twice, counted rightly."""
    seen = run(session, pages=150, seed=2026)
    assert sum(seen.values()) >= 150
