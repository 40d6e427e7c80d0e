"""Start the demo: make the database when it is not there, serve it, say where.

    python run.py

Reads ``HOST`` (127.0.0.1), ``PORT`` (5000; 0 takes a free one), ``DATABASE_URL`` (a SQLite
file in the instance folder) and ``FLASK_DEBUG`` (1).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

import click
from atlas import create_app
from atlas.cli import ensure_loaded
from werkzeug.serving import make_server

from flask_dbkit import ConfigError


def main() -> None:
    """Run until Ctrl-C.

    Raises:
        click.ClickException: It cannot start; the text says why.
    """
    host = os.environ.get("HOST") or "127.0.0.1"
    port = _parse_port(os.environ.get("PORT") or "5000")
    click.echo("Starting the atlas of the world …", err=True)  # at once: the imports take a while
    # Each page tells what it asked the database; FLASK_DEBUG=0 keeps that to itself.
    os.environ.setdefault("FLASK_DEBUG", "1")
    try:
        app = create_app()
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    # Before the data is loaded: whoever waits for that shall not be told of a taken port then.
    with _listen(host, port) as listener:
        with app.app_context():
            ensure_loaded()
        # Werkzeug's server is for development, which is what a demo is.
        # https://werkzeug.palletsprojects.com/en/stable/serving/
        server = make_server(host, port, app, threaded=True, fd=listener.fileno())
    with contextlib.suppress(KeyboardInterrupt):
        _announce(host, server.port)
        server.serve_forever()


def _parse_port(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise click.ClickException(f"PORT is {text!r}. Use a number from 0 to 65535.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(
            f"Cannot listen at HOST={host!r}, PORT={port}: {reason}."
            " Name another port, for example PORT=5001, or an address of this machine."
        ) from error


def _announce(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    if host in {"0.0.0.0", "::"}:
        shown = "127.0.0.1"
        click.echo("Every machine that can reach this one can open and edit the atlas.")
    click.echo(f"Places:    http://{shown}:{port}/")
    click.echo(f"Countries: http://{shown}:{port}/countries")
    click.echo(f"JSON:      http://{shown}:{port}/api/places")
    click.echo(f"OpenAPI:   http://{shown}:{port}/api/openapi.json")
    click.echo(f"Health:    http://{shown}:{port}/health")
    click.echo("Press Ctrl-C to stop.")
    # A pipe would keep the lines until it has more of them.
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("\nStopped before the atlas was ready. The next start begins again.")
        sys.exit(130)
