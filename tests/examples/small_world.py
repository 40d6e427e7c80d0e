"""A data set of two hundred places, as the tests of the atlas load it.

It is also a program:

    python -m tests.examples.small_world DATABASE_URL SECONDS_PER_BATCH

loads it in batches of ten, with a pause after each, and prints what happened.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from atlas import create_app, loader
from atlas.extensions import db
from atlas.source import Source
from flask import Flask

MakeAtlas = Callable[..., Flask]

# Every trap of the real data: names twice, ties, zeros, NULLs, other scripts, and a character
# outside the basic plane of Unicode.
NAMES = ("Springfield", "springfield", "Þórshöfn", "上海", "الرياض", "𠮷野家", "O'Fallon", "%_\\")


def make_source(places: int = 200) -> Source:
    return Source(
        name="small world",
        continents=[{"code": "XX", "name": "Nowhere"}],
        countries=[
            {
                "code": code,
                "iso3": f"{code}X",
                "name": name,
                "capital": None,
                "population": 0,
                "area_km2": 0.5,
                "continent_code": "XX",
            }
            for code, name in (("AA", "Country A"), ("BB", "Pays B"))
        ],
        places=[
            {
                "id": number,
                "name": NAMES[number % len(NAMES)],
                "country_code": "AA" if number % 3 else "BB",
                "region_code": None if number % 5 else "01",
                "population": number // 4 * 100,
                "latitude": -90 + number * 0.9,
                "longitude": -180 + number * 1.8,
                "time_zone": "Etc/UTC",
                "alternate_names": None if number % 7 else "a𠮷\nб",
            }
            for number in range(1, places + 1)
        ],
    )


def main(url: str, pause_s: float) -> None:
    loader.BATCH = 10
    app = create_app({"SQLALCHEMY_DATABASE_URI": url, "SECRET_KEY": "test"})

    def report(done: int, total: int) -> None:
        print(f"{done} of {total}", flush=True)
        time.sleep(pause_s)

    with app.app_context():
        loaded: Any = not loader.is_loaded(db.engine) and loader.load(
            db.session(), make_source, report
        )
        print("loaded" if loaded else "was loaded", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
