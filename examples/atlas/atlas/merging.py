"""Merging duplicates: several places become one, each in a savepoint of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.wrappers import Response

from flask_dbkit import on_commit, run, savepoint

from .extensions import db
from .models import Place
from .places import PLACE, find_place, select_namesakes

__all__ = ["blueprint"]

blueprint = Blueprint("merging", __name__)

_MOST = 100  # candidates on the page, and duplicates in one request
_CHOICE = re.compile(r"([1-9][0-9]{0,9})v([1-9][0-9]{0,9})", re.ASCII)


@dataclass
class Outcome:
    """What became of the chosen duplicates."""

    merged: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


class NotTheSame(Exception):
    """The duplicate is gone, was changed since the page was shown, or has another name."""


@blueprint.get(PLACE + "/merge")
def choose(place_id: int) -> str:
    """Show the places that may be duplicates of this one."""
    return _show_choices(place_id)


def _show_choices(place_id: int, *, nothing: bool = False) -> str:
    place = find_place(place_id)
    candidates = db.session.scalars(select_namesakes(place).order_by(Place.id).limit(_MOST))
    return render_template(
        "places/merge.html", place=place, candidates=candidates.all(), nothing=nothing
    )


@blueprint.post(PLACE + "/merge")
def merge(place_id: int) -> Response | tuple[str, int]:
    """Merge the ticked duplicates into this place.

    All of it is one transaction, replayed when another one was in its way. A duplicate that
    cannot be merged any more is left out, and takes nothing else down with it.
    """
    chosen = [_parse_choice(text) for text in request.form.getlist("duplicate")[:_MOST]]
    if not chosen:
        return _show_choices(place_id, nothing=True), 422
    outcome = run(_merge, place_id, chosen)
    if outcome.merged:
        flash(f"{len(outcome.merged)} merged into this place.")
    if outcome.left_out:
        flash(f"{len(outcome.left_out)} left as they are: somebody changed them meanwhile.")
    return redirect(url_for("places.show", place_id=place_id), 303)


def _parse_choice(text: str) -> tuple[int, int]:
    """Return id and version of a ticked box, which says ``<id>v<version>``."""
    match = _CHOICE.fullmatch(text)
    if match is None:
        abort(400, "The form is not one of this page.")
    return int(match[1]), int(match[2])


def _merge(place_id: int, chosen: list[tuple[int, int]]) -> Outcome:
    # Everything is read in here: a replay starts from what is stored then.
    outcome = Outcome()
    place = find_place(place_id)
    for duplicate_id, version in chosen:
        try:
            with savepoint():
                _absorb(place, duplicate_id, version)
        except (NotTheSame, StaleDataError):
            outcome.left_out.append(duplicate_id)
        else:
            outcome.merged.append(duplicate_id)
    on_commit(current_app.logger.info, "Merged %s into place %d.", outcome.merged, place_id)
    return outcome


def _absorb(place: Place, duplicate_id: int, version: int) -> None:
    statement = select_namesakes(place).where(Place.id == duplicate_id, Place.version == version)
    duplicate: Place | None = db.session.scalar(statement)
    if duplicate is None:
        raise NotTheSame
    names = [
        *(place.alternate_names or "").splitlines(),
        *(duplicate.alternate_names or "").splitlines(),
    ]
    place.alternate_names = "\n".join(dict.fromkeys(names)) or None
    place.population = max(place.population, duplicate.population)
    place.region_code = place.region_code or duplicate.region_code
    db.session.delete(duplicate)
