"""The key that signs the session cookie, made once and kept in the instance folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

__all__ = ["read_or_create"]


def read_or_create(folder: str) -> str:
    """Return the key in ``folder``, making folder and key when they are not there.

    All processes of the application get the same key. In production set
    ``FLASK_SECRET_KEY`` instead; then this function is not called.
    """
    path = Path(folder, "secret_key")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written elsewhere first and linked into place: of two processes one wins, and nobody
        # ever reads half a key. mkstemp() makes a file that only its owner can read.
        handle, draft = tempfile.mkstemp(dir=folder, prefix="secret_key.")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            Path(draft).unlink()
    return path.read_text(encoding="ascii")
