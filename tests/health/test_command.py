"""``flask dbkit health``: the check of a container, and of a deploy script."""

from __future__ import annotations

import json
import re
import threading

import pytest

from flask_dbkit.health import GROUPS
from tests.health.conftest import MakeKit


def test_the_exit_code_tells_whether_it_may_have_traffic(make_kit: MakeKit) -> None:
    """0 for pass and warn, 1 for fail; the table names check, status and code."""
    made = make_kit(DBKIT_HEALTH_DETAILS="never")
    runner = made.app.test_cli_runner()
    done = runner.invoke(args=["dbkit", "health"])
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[0] == ["pass"]
    assert lines[1][:2] == ["db:default", "pass"]
    made.path.rename(made.path.with_suffix(".away"))
    done = runner.invoke(args=["dbkit", "health"])
    assert done.exit_code == 1
    assert done.output.startswith("fail\n")
    assert "db.missing" in done.output
    assert str(made.path) not in done.output

    made.path.with_suffix(".away").rename(made.path)

    @made.kit.health.check("own")
    def own() -> None:
        raise made.kit.health.Warn("own.slow")

    done = runner.invoke(args=["dbkit", "health"])
    assert (done.exit_code, done.output.splitlines()[0]) == (0, "warn")


def test_a_terminal_shows_sizes_as_people_write_them_and_colours(
    make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No colour in a pipe, nor where NO_COLOR is set; the columns stay where they are."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    runner = make_kit().app.test_cli_runner()

    def lines(**options: bool) -> list[str]:
        return runner.invoke(args=["dbkit", "health"], **options).output.splitlines()

    piped, shown = lines(), lines(color=True)
    assert shown[0] == "\x1b[32mpass\x1b[0m"
    assert all("\x1b[32mpass\x1b[0m" in line for line in shown)
    (disk,) = [line for line in piped if line.startswith("  disk:default")]
    assert re.fullmatch(r"  disk:default +pass +\d+\.\d [kMGT]B", disk)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join([*piped, *lines(color=True)])


@pytest.mark.parametrize("group", GROUPS)
def test_the_report_is_printed_as_json(make_kit: MakeKit, group: str) -> None:
    """The same keys as over HTTP, of each group."""
    made = make_kit()
    done = made.app.test_cli_runner().invoke(args=["dbkit", "health", "--json", "--group", group])
    report = json.loads(done.output)
    assert report["status"] == "pass"
    assert ("db:default" in report["checks"]) is (group != "liveness")


@pytest.mark.parametrize("arguments", [["--group", "redyness"], ["--grup", "liveness"], ["now"]])
def test_wrong_usage_exits_with_two(make_kit: MakeKit, arguments: list[str]) -> None:
    """A typo in a manifest is no failing database."""
    done = make_kit().app.test_cli_runner().invoke(args=["dbkit", "health", *arguments])
    assert done.exit_code == 2


def test_a_process_that_ends_soon_starts_nothing_in_the_background(make_kit: MakeKit) -> None:
    """Otherwise every probe of a container would begin to read the whole file."""
    made = make_kit(DBKIT_HEALTH_SQLITE_QUICK_CHECK=1)
    assert made.app.test_cli_runner().invoke(args=["dbkit", "health"]).exit_code == 0
    assert [thread.name for thread in threading.enumerate() if "quick" in thread.name] == []
