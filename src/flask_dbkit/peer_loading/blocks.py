"""``lazy_loading()``: a block that says how lazy attributes load, and counts what happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..support.calls import explained
from .switch import use

__all__ = [
    "MODES",
    "Block",
    "PeerLoads",
    "count_batch",
    "count_plain",
    "current_mode",
    "is_counted",
    "lazy_loading",
]

MODES = ("select", "peers")


@dataclass
class PeerLoads:
    """What peer loading did inside a :func:`lazy_loading` block, inner blocks included.

    Attributes:
        batches: Statements that loaded an attribute for several objects.
        objects: Objects whose attribute was set by one, the asking ones included.
        rows: Rows read by them.
        plain: By reason, the loads that were left to SQLAlchemy although peer loading was wanted
            and there were peers.

    .. versionadded:: 0.1
    """

    batches: int = 0
    objects: int = 0
    rows: int = 0
    plain: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Block:
    """One open block: what it says, and what it counts."""

    mode: str
    loads: PeerLoads


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("flask_dbkit_lazy_loading", default=())


@contextmanager
@explained()
def lazy_loading(mode: str) -> Iterator[PeerLoads]:
    """Say how lazy attributes load inside a block or a function.

    It is asked at the moment of the touch, so it reaches objects that were loaded before, too.
    Blocks nest, and the innermost one counts. :func:`peerload` of the statement is nearer.

    Args:
        mode: ``"peers"``, or ``"select"``: one by one, as SQLAlchemy does.

    Yields:
        What is counted, see :class:`PeerLoads`.

    Raises:
        ValueError: The mode is another word.

    .. code-block:: python

        with lazy_loading("peers") as loads:
            render(authors)
        loads.batches, loads.objects  # 3, 300

    .. versionadded:: 0.1
    """
    if mode not in MODES:
        raise ValueError(f"lazy_loading({mode!r}): use one of: 'select', 'peers'.")
    use()
    loads = PeerLoads()
    token = _blocks.set((*_blocks.get(), Block(mode, loads)))
    try:
        yield loads
    finally:
        _blocks.reset(token)


def current_mode() -> str | None:
    """Return what the innermost block says; ``None`` outside any."""
    blocks = _blocks.get()
    return blocks[-1].mode if blocks else None


def is_counted() -> bool:
    """Tell whether a block is open, so that somebody wants to know."""
    return bool(_blocks.get())


def count_batch(objects: int, rows: int) -> None:
    """Tell every open block of a batch."""
    for block in _blocks.get():
        block.loads.batches += 1
        block.loads.objects += objects
        block.loads.rows += rows


def count_plain(reason: str) -> None:
    """Tell every open block of a load that was left to SQLAlchemy."""
    for block in _blocks.get():
        block.loads.plain[reason] += 1
