"""How numbers, coordinates and times are written on the pages."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePath

from flask import Flask

__all__ = ["format_call_site", "format_coordinates", "format_moment", "format_number", "install"]


def install(app: Flask) -> None:
    """Give the templates the filters for numbers, coordinates, times and lines of code."""
    app.add_template_filter(format_number, "number")
    app.add_template_filter(format_coordinates, "coordinates")
    app.add_template_filter(format_moment, "moment")
    app.add_template_filter(format_call_site, "file_and_line")


def format_number(value: float) -> str:
    """Write a number with thousands separators: ``24,874,500``."""
    return f"{value:,.0f}"


def format_coordinates(position: tuple[float, float]) -> str:
    """Write latitude and longitude as a map does: ``31.2222° N, 121.4581° E``."""
    latitude, longitude = position
    north_south = "N" if latitude >= 0 else "S"
    east_west = "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.4f}° {north_south}, {abs(longitude):.4f}° {east_west}"


def format_moment(moment: datetime) -> str:
    """Write a time in UTC to the minute: ``24 November 2026, 17:21 UTC``."""
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def format_call_site(call_site: str) -> str:
    """Write where a statement comes from without the folders: ``places.py:42``."""
    return PurePath(call_site).name
