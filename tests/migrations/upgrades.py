"""Upgrade one database from several processes at once, or from one that is to be killed.

python -m tests.migrations.upgrades URL FOLDER PROCESSES

Prints one JSON object per process: its exit code and what it applied.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dbkit import DBKit, declarative_base
from flask_dbkit.migrations import Limits, upgrade


def run(url: str, folder: str) -> dict[str, list[str]]:
    app = Flask("shop", instance_path=f"{folder}-instance")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, DBKIT_MIGRATIONS_DIR=folder)
    DBKit(app, db=SQLAlchemy(model_class=declarative_base()))
    with app.app_context():
        return upgrade(
            limits=Limits(wait_s=60), report=lambda line: print(line, file=sys.stderr, flush=True)
        )


def together(url: str, folder: str, processes: int) -> list[dict[str, object]]:
    """Start all at one moment, and wait for their results."""
    start = time.monotonic() + 0.2
    pipes = []
    for _ in range(processes):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            time.sleep(max(0.0, start - time.monotonic()))
            try:
                result: dict[str, object] = {"code": 0, "done": run(url, folder)["default"]}
            except BaseException:
                result = {"code": 1, "error": traceback.format_exc()}
            os.write(write, json.dumps(result).encode())
            os._exit(0)
        os.close(write)
        pipes.append(read)
    results = []
    for read in pipes:
        with os.fdopen(read, "rb") as stream:
            results.append(json.loads(stream.read()))
        os.wait()
    return results


if __name__ == "__main__":
    for each in together(sys.argv[1], sys.argv[2], int(sys.argv[3])):
        print(json.dumps(each))
