"""Comments behind statements, so that the database's own logs name the route.

What is said is constant for a route, so that prepared statements are kept: a comment that is new
with every request would make each of them a statement of its own.

References:
    https://google.github.io/sqlcommenter/spec/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from ..databases.execution import Execution, Order, Watcher

__all__ = ["CommentWatcher", "comment"]


class CommentWatcher(Watcher):
    """Adds a comment to the statements of one engine.

    Args:
        said: Returns the comment for now, which is kept with the request; empty outside any.
    """

    order = Order.STATISTICS

    def __init__(self, said: Callable[[], str]) -> None:
        self._said = said

    def before(self, execution: Execution) -> None:
        """Put the comment behind the statement."""
        said = self._said()
        if said:
            execution.keep(self, execution.statement)
            execution.statement = f"{execution.statement} {said}"

    def after(self, execution: Execution) -> None:
        """Take it off again, for those who count statements by their text."""
        execution.statement = execution.kept(self) or execution.statement

    def failed(self, execution: Execution, error: BaseException) -> None:
        """Take it off again."""
        self.after(execution)


@lru_cache(maxsize=1024)
def comment(facts: tuple[tuple[str, str], ...]) -> str:
    """Return a comment in the form of sqlcommenter: percent-encoded, so that nothing ends it."""
    said = ",".join(f"{name}='{quote(value, safe='-_.~')}'" for name, value in sorted(facts))
    return f"/*{said}*/"
