"""Snippets of the page "Export a whole table in batches".

Backends: sqlite-file postgresql mariadb
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click
from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, Listing, SortAllowlist, stream, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
dbkit.init_app(app)


# start listing
class Measurement(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    station: Mapped[str] = mapped_column(String(20), index=True)
    value: Mapped[float]
    checked: Mapped[bool] = mapped_column(default=False)


MEASUREMENTS = Listing(
    Measurement,
    sort=SortAllowlist({"id": Measurement.id, "station": Measurement.station}, default="id"),
)
# end listing


# start command
@app.cli.command("export")
@click.argument("file", type=click.File("w"))
def export(file: TextIO) -> None:
    """Write all measurements to FILE."""
    writer = csv.writer(file)
    with transaction(read_only=True):
        for batch in MEASUREMENTS.iterate(batch=500):
            writer.writerows((row.id, row.station, row.value) for row in batch)


# end command


# start stream
def lines() -> Iterator[str]:
    for batch in MEASUREMENTS.iterate(batch=500, order="station"):
        for row in batch:
            yield f"{row.station},{row.value}\n"


@app.get("/measurements.csv")
def download() -> Response:
    return Response(stream(lines()), mimetype="text/csv")


# end stream


# start work
def check_all() -> None:
    unchecked = MEASUREMENTS.statement.where(Measurement.checked.is_(False))
    for batch in MEASUREMENTS.iterate(unchecked, batch=500):
        ids = [row.id for row in batch]
        with transaction():
            done = update(Measurement).where(Measurement.id.in_(ids)).values(checked=True)
            db.session.execute(done)


# end work


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all(
                [Measurement(id=n, station=f"s{n % 7}", value=n / 4) for n in range(1, 1502)]
            )
    result = app.test_cli_runner().invoke(args=["export", "measurements.csv"])
    assert result.exit_code == 0, result.output
    written = Path("measurements.csv").read_text(encoding="utf-8").splitlines()
    assert [int(line.split(",")[0]) for line in written] == list(range(1, 1502))

    answer = app.test_client().get("/measurements.csv")
    stations = [line.split(",")[0] for line in answer.text.splitlines()]
    answer.close()
    assert len(stations) == 1501
    assert stations == sorted(stations)

    with app.app_context():
        check_all()
        unchecked = select(func.count()).where(Measurement.checked.is_(False))
        assert db.session.scalar(unchecked) == 0
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    check()
