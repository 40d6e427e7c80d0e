"""Cursors without a list around them; see :mod:`flask_dbkit.lists.cursor`."""

from __future__ import annotations

from ..lists.cursor import Direction, Keyset, Signer, fingerprint

__all__ = ["Direction", "Keyset", "Signer", "fingerprint"]
