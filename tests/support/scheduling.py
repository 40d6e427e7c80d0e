"""How pytest-xdist shares the tests out among its processes."""

from __future__ import annotations

import re
from functools import cache

from xdist.scheduler import LoadScopeScheduling

_SHARED = re.compile(r"""scope=["'](module|package|session)["']|\bbrowser\b""")


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """One test after another to whoever is free; a file that shares something as a whole.

    A file with a fixture for the whole module starts a server, builds a wheel or loads a
    database: in several processes it would do so several times. The browser is such a fixture
    as well. Files come before single tests, so nobody waits for one at the end.

    References:
        https://pytest-xdist.readthedocs.io/en/stable/distribution.html
    """

    def _split_scope(self, nodeid: str) -> str:
        """Name the unit that a test belongs to."""
        path = nodeid.partition("::")[0]
        return path if self._is_shared(path) else nodeid

    @cache  # noqa: B019 - there is one scheduler per run
    def _is_shared(self, path: str) -> bool:
        return bool(_SHARED.search((self.config.rootpath / path).read_text(encoding="utf-8")))
