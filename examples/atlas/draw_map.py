"""Draw ``atlas/static/world.svg``: one dot where anybody lives, from the atlas's own data.

    python draw_map.py

The file is kept with the code; this is how it was made.
"""

from __future__ import annotations

from pathlib import Path

from atlas.source import read_geonames

STEP = 2  # degrees
NORTH, SOUTH = 84, -62


def main() -> None:
    """Write the file."""
    cells = sorted(
        {
            (int((NORTH - place["latitude"]) // STEP), int((place["longitude"] + 180) // STEP))
            for place in read_geonames().places
            if SOUTH < place["latitude"] < NORTH
        }
    )
    path = "".join(f"M{x * STEP + STEP // 2} {y * STEP + STEP // 2}h0" for y, x in cells)
    Path(__file__).parent.joinpath("atlas/static/world.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {NORTH - SOUTH}">\n'
        f'<path id="land" fill="none" stroke="currentColor" stroke-width="1.5"'
        f' stroke-linecap="round" d="{path}"/>\n</svg>\n',
        encoding="ascii",
    )


if __name__ == "__main__":
    main()
