"""Answers and logs are searched for what they must not hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import render_template_string
from werkzeug.debug import DebuggedApplication
from werkzeug.exceptions import HTTPException
from werkzeug.test import Client

from tests.errors.faults import FAULTS, LEAKS, VALUES, Site
from tests.support.databases import Database

NewSite = Callable[..., Site]
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "debugger": ({"DEBUG": True}, {}),
    "debugger and browser": ({"DEBUG": True}, HTML),
    "own pages": ({"DBKIT_TX_PER_REQUEST": True}, HTML),
}

ON_DISK = pytest.mark.backends("sqlite-file", "postgresql", "mariadb")


def drivers_of(database: Database) -> list[str | None]:
    return ["psycopg", "psycopg2"] if database.name == "postgresql" else [None]


@contextmanager
def everything_logged(level: int = logging.DEBUG) -> Iterator[list[str]]:
    """Collect what a handler on the root logger would write, by the usual formatter."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Collect(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield lines
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


def forbidden(text: str, words: tuple[str, ...], extra: tuple[str, ...] = ()) -> list[str]:
    return [word for word in (*words, *extra) if word in text]


def test_there_are_at_least_two_hundred_combinations() -> None:
    """Faults by drivers by configurations, in debug mode and without."""
    assert sum(len(fault.codes) for fault in FAULTS.values()) * len(CONFIGURATIONS) >= 200


@ON_DISK
def test_no_answer_holds_values_sql_hosts_or_names_of_the_schema(
    database: Database, new_site: NewSite, tmp_path: Path
) -> None:
    """In debug mode under the real debugger, and with pages of the application's own."""
    found = []
    for number, driver in enumerate(drivers_of(database)):
        for name, (config, headers) in CONFIGURATIONS.items():
            site = new_site(driver, create=number == 0 and name == "debugger", **config)
            if name == "own pages":
                site.app.register_error_handler(HTTPException, _page)
            client = Client(DebuggedApplication(site.app) if site.app.debug else site.app)
            for fault in site.faults():
                answer = client.get(f"/{fault}", headers=headers)
                # The foreign key is an attribute, which a client may know.
                whole = f"{answer.headers} {answer.text}".replace("account_id", "")
                leaked = forbidden(whole, LEAKS, (str(tmp_path),))
                if leaked or answer.status_code == 200:
                    found.append((name, driver, fault, answer.status_code, leaked))
                assert ("html" in str(answer.mimetype)) == bool(headers), (name, fault)
    assert not found, found


def _page(error: HTTPException) -> tuple[str, int]:
    page = render_template_string("<h1>{{ e.name }}</h1>{{ e.description }}", e=error)
    return page, error.code or 500


@ON_DISK
def test_no_line_of_the_log_holds_values_sql_or_hosts(
    database: Database, new_site: NewSite, tmp_path: Path
) -> None:
    """Neither ours, nor Flask's, nor what the application logs of an error itself."""
    found = []
    for number, driver in enumerate(drivers_of(database)):
        site = new_site(driver, create=number == 0, talkative=True)
        client = site.app.test_client()
        for fault in site.faults():
            with everything_logged() as lines:
                answer = client.get(f"/{fault}")
            text = "\n".join(lines)
            leaked = forbidden(text, VALUES, (str(tmp_path / "s3"),))
            if leaked or "Not saved" not in text or answer.status_code != 500:
                found.append((driver, fault, answer.status_code, leaked))
    assert not found, found
