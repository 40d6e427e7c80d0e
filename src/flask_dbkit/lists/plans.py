"""What is built once and kept, no more than so much of it."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Plans"]

K = TypeVar("K")
V = TypeVar("V")

# Per list or allowlist. Clients can ask for any number of forms.
_MOST = 256


class Plans(Generic[K, V]):
    """The newest of what was built, by the form it was built for.

    Threads may share it: at worst two build the same, and one of them is kept.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, form: K) -> V | None:
        """Return what was kept for a form, or ``None``."""
        return self._kept.get(form)

    def keep(self, form: K, built: V) -> V:
        """Keep something for a form in place of the oldest, and return it."""
        if len(self._kept) >= _MOST:
            # Another thread may be doing the same.
            self._kept.pop(next(iter(self._kept.copy()), form), None)
        self._kept[form] = built
        return built
