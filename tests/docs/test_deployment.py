"""The files of ``examples/deployment`` ask what there is, and understand the answer."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.config import Config
from flask_dbkit.health import AppHealth
from tests.docs.pages import DOCS, ROOT
from tests.support.serving import served
from tests.support.warm_python import WarmPython

FOLDER = ROOT / "examples" / "deployment"
PAGE = DOCS / "how-to" / "health.md"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
    DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
    (tmp_path / "shop.db").touch()
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Serve the application; ``http://127.0.0.1:8000`` in the files is this address."""
    with served(app) as address:
        yield address


def _directives(name: str, key: str) -> list[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / name)
    return [section[key] for section in parser.values() if key in section]


def _health_command(name: str) -> list[str]:
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*])$", text, re.MULTILINE)
    command: list[str] = json.loads(line)
    return command


def test_every_file_is_shown_on_the_page() -> None:
    """And every file the page shows is there."""
    shown = set(re.findall(r"examples/deployment/([\w.-]+)", PAGE.read_text()))
    assert shown == {path.name for path in FOLDER.iterdir()}


def test_the_probes_of_kubernetes_are_answered(app: Flask) -> None:
    """By the address of the pod, and with time to spare for our own deadline."""
    app.config["TRUSTED_HOSTS"] = ["shop.example"]
    deployment = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    asked = {
        kind: container[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert list(asked.values()) == ["/health/startup", "/health/ready", "/health/live"]
    client = app.test_client()
    for path in asked.values():
        assert client.get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200
    assert container["readinessProbe"]["timeoutSeconds"] > Config().health_timeout
    assert container["livenessProbe"]["timeoutSeconds"] > Config().health_timeout


def test_the_check_of_the_container_tells_by_its_exit_code(app: Flask, address: str) -> None:
    """0 while it is ready, another one when it is not."""
    command = [
        part.replace("http://127.0.0.1:8000", address) for part in _health_command("Dockerfile")
    ]
    command[0] = sys.executable
    assert subprocess.run(command, check=False).returncode == 0
    app.extensions["dbkit"].part(AppHealth).drain()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_the_check_of_a_container_without_a_server_is_a_command(
    warm_python: WarmPython, tmp_path: Path
) -> None:
    """It makes the application and asks its databases."""
    program, *arguments = _health_command("Dockerfile.worker")
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom flask_dbkit import DBKit\n"
        "app = Flask(__name__)\n"
        "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///shop.db'\nDBKit(app)\n"
    )
    assert program == "flask"
    command = [program, *arguments]
    assert warm_python.run(command, tmp_path).returncode == 1
    (tmp_path / "instance" / "shop.db").touch()
    assert warm_python.run(command, tmp_path).returncode == 0


def test_compose_waits_for_a_healthy_container() -> None:
    """Which needs the HEALTHCHECK of the Dockerfile beside it."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert services["proxy"]["depends_on"]["web"]["condition"] == "service_healthy"
    assert services["web"]["build"] == "."


@pytest.mark.parametrize(
    ("name", "key", "path"),
    [
        ("shop.service", "ExecStartPost", "/health/startup"),
        ("shop-live.service", "ExecStart", "/health/live"),
    ],
)
def test_the_commands_of_systemd_ask_the_application(
    address: str, name: str, key: str, path: str
) -> None:
    """With curl where the machine has it; the path is answered in any case."""
    (command,) = _directives(name, key)
    words = shlex.split(command)
    assert words[-1] == f"http://127.0.0.1:8000{path}"
    words[-1] = words[-1].replace("http://127.0.0.1:8000", address)
    words[0] = shutil.which("curl") or ""
    if not words[0]:
        words = [sys.executable, "-c", f"import urllib.request as r; r.urlopen({words[-1]!r})"]
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0


def test_the_timer_starts_the_unit_of_its_name() -> None:
    """A timer without a Unit= starts the service called like it."""
    assert (FOLDER / "shop-live.timer").with_suffix(".service").exists()
    assert _directives("shop-live.timer", "OnUnitActiveSec") == ["30s"]


def test_the_check_of_haproxy_is_answered(app: Flask) -> None:
    """With the status it expects."""
    text = (FOLDER / "haproxy.cfg").read_text()
    (found,) = re.findall(r"http-check send meth (\w+) uri (\S+)", text)
    (status,) = re.findall(r"http-check expect status (\d+)", text)
    method, path = found
    response: Any = app.test_client().open(path, method=method)
    assert response.status_code == int(status)
