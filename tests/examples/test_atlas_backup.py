"""The atlas can be backed up, and comes back."""

from __future__ import annotations

import pytest
from atlas import loader
from atlas.extensions import db
from atlas.models import Place
from sqlalchemy import delete, func, select

from tests.examples.small_world import MakeAtlas, make_source


@pytest.mark.backends("sqlite-file")
def test_the_atlas_is_backed_up_verified_and_restored(make_atlas: MakeAtlas) -> None:
    """The commands of its README."""
    app = make_atlas()
    with app.app_context():
        loader.load(db.session(), make_source, lambda _done, _total: None)
        db.session.remove()
    run = app.test_cli_runner().invoke
    made = run(args=["dbkit", "backup", "create", "--verify"])
    assert made.exit_code == 0, made.output
    backup_id = made.stdout.splitlines()[-1]
    with app.app_context():
        db.session.execute(delete(Place))
        db.session.commit()
        db.session.remove()
    restored = run(args=["dbkit", "backup", "restore", backup_id, "--in-place", "--yes"])
    assert restored.exit_code == 0, restored.output
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Place)) == 200
