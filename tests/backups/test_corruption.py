"""A backup that cannot be trusted is found out, and never restored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flask_dbkit.backups import Manifest
from flask_dbkit.backups.packing import sha256_of

from .conftest import Shop

pytestmark = pytest.mark.requires("several_processes")


def flip_a_bit(shop: Shop, made: str, _other: str) -> None:
    content = bytearray(shop.data(made).read_bytes())
    content[len(content) // 2] ^= 0x10
    shop.data(made).write_bytes(content)


def truncate(shop: Shop, made: str, _other: str) -> None:
    content = shop.data(made).read_bytes()
    shop.data(made).write_bytes(content[: len(content) * 3 // 4])


def empty(shop: Shop, made: str, _other: str) -> None:
    shop.data(made).write_bytes(b"")


def swap(shop: Shop, made: str, other: str) -> None:
    shutil.copy(shop.data(other), shop.data(made))


def remove(shop: Shop, made: str, _other: str) -> None:
    shop.data(made).unlink()


def edit(shop: Shop, made: str, _other: str) -> None:
    path = shop.folder / f"{made}.json"
    content = json.loads(path.read_text())
    content["tables"]["book"] += 1
    path.write_text(json.dumps(content))


def edit_the_digest(shop: Shop, made: str, other: str) -> None:
    swap(shop, made, other)
    path = shop.folder / f"{made}.json"
    content = json.loads(path.read_text())
    content["sha256"] = json.loads((shop.folder / f"{other}.json").read_text())["sha256"]
    path.write_text(json.dumps(content))


def swap_both(shop: Shop, made: str, other: str) -> None:
    swap(shop, made, other)
    shutil.copy(shop.folder / f"{other}.json", shop.folder / f"{made}.json")


def scribble(shop: Shop, made: str, _other: str) -> None:
    (shop.folder / f"{made}.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (flip_a_bit, "file.digest"),
        (truncate, "file.size"),
        (empty, "file.size"),
        (swap, "file."),
        (remove, "file.missing"),
        (edit, "manifest.edited"),
        (edit_the_digest, "manifest.edited"),
        (swap_both, "manifest.edited"),
        (scribble, "manifest.unreadable"),
    ],
)
@pytest.mark.backends("sqlite-file")
def test_what_happened_to_a_backup_is_found(
    shop: Shop, harm: Callable[[Shop, str, str], None], code: str
) -> None:
    """By ``verify``, with exit code 1; and ``restore`` refuses and changes nothing."""
    made = shop.create()
    shop.execute("DELETE FROM book WHERE id = 1")
    other = shop.create()
    harm(shop, made, other)
    result = shop.run("verify", made, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert answer["findings"][0]["code"].startswith(code)
    assert shop.run("verify", made).stdout.startswith(code)
    before = sorted(Path(shop.folder).parent.rglob("*"))
    for arguments in ([], ["--in-place", "--yes"]):
        assert shop.run("restore", made, *arguments).exit_code == 1
    assert sorted(Path(shop.folder).parent.rglob("*")) == before
    assert len(shop.rows()) == 2
    assert f"{other} is good" in shop.done("verify", other)
    assert made in shop.done("list")
    assert shop.listed()[made]["verified"] is False


def test_a_dump_that_a_server_cannot_load_is_found(shop: Shop) -> None:
    """Also when digest and size fit: it is really restored."""
    made = shop.create()
    manifest_path = shop.folder / f"{made}.json"
    shop.data(made).write_bytes(b"not what the programs wrote")
    manifest = Manifest.from_json(manifest_path.read_bytes(), backup_id=made)
    forged = replace(
        manifest,
        compression="none",
        sha256=sha256_of(shop.data(made)),
        size_bytes=shop.data(made).stat().st_size,
    )
    manifest_path.write_bytes(forged.to_json())
    result = shop.run("verify", made, "--json")
    assert result.exit_code == 1
    code = json.loads(result.stdout)["findings"][0]["code"]
    assert code in ("restore.failed", "integrity")


def test_a_restored_database_that_differs_from_the_manifest_is_found(shop: Shop) -> None:
    """Tables, rows, views and revision are compared."""
    made = shop.create()
    path = shop.folder / f"{made}.json"
    manifest = Manifest.from_json(path.read_bytes(), backup_id=made)
    tables = {**manifest.tables, "book": 1000, "gone": 1}
    del tables["author"]
    forged = replace(manifest, tables=tables, views=("other",), revision="beef")
    path.write_bytes(forged.to_json())
    findings = json.loads(shop.run("verify", made, "--json").stdout)["findings"]
    assert {each["code"] for each in findings} == {
        "tables.differ",
        "rows.differ",
        "views.differ",
        "revision.differs",
    }
    assert shop.listed()[made]["verified"] is False
