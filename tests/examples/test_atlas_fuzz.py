"""The API of the atlas under schemathesis: whatever is sent to it, it answers."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from atlas import loader
from atlas.extensions import db
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.examples.small_world import MakeAtlas, make_source

EXAMPLES = 12  # per operation, and per way of making them: what is described, and what is not
OPERATIONS = 5


@pytest.fixture
def atlas(make_atlas: MakeAtlas) -> Flask:
    # What is not answered would be raised.
    app = make_atlas(PROPAGATE_EXCEPTIONS=True)
    with app.app_context():
        db.create_all()
        loader.load(db.session(), make_source, lambda done, total: None)
    return app


@pytest.mark.backends("sqlite-file", "postgresql", "mariadb")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_the_api_fail(atlas: Flask, mode: GenerationMode) -> None:
    """From the OpenAPI description it gives itself, with a fixed seed: never a 5xx.

    References:
        https://schemathesis.readthedocs.io/
    """
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", atlas)
    schema.config.generation.update(modes=[mode])
    statuses: set[int] = set()
    found: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in found]
    assert len(operations) == OPERATIONS
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            response = case.call()
            statuses.add(response.status_code)
            assert response.status_code < 500, (case.as_curl_command(), response.text)

        ask()
    assert statuses - {200}, "nothing of it was refused"
