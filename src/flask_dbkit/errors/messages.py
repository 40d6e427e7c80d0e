"""``dbkit.errors``: what the application says of its constraints."""

from __future__ import annotations

from dataclasses import dataclass

from ..support.calls import explained_methods
from .problems import DBProblem

__all__ = ["Errors"]

_DEFAULT_STATUS = 409


@dataclass(frozen=True)
class _Rule:
    message: str
    field: str | None
    status: int


@explained_methods()
class Errors:
    """What an application says about its constraints: ``dbkit.errors``.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._rules: dict[str, _Rule] = {}

    def constraint(
        self, name: str, message: str, *, field: str | None = None, status: int = 409
    ) -> None:
        """Say what a client reads when a constraint is broken.

        Wins over ``info={"dbkit": {"message": …, "field": …}}`` on the constraint itself.

        Args:
            name: Of a constraint or a unique index, as the models or the database call it.
            message: The ``detail`` of the problem.
            field: The one entry of ``fields``, in place of the attributes of the constraint.
            status: The HTTP status, from 400 to 599. 409 is what these errors have unless the
                settings say otherwise, so the settings still do.

        Raises:
            ValueError: A name or a message is empty, or the status is no error.
        """
        if not name or not message:
            raise ValueError(f"The constraint {name!r} has the message {message!r}. Give both.")
        if not 400 <= status <= 599:
            raise ValueError(f"status is {status!r}. Use one from 400 to 599.")
        self._rules[name] = _Rule(message, field, status)

    def apply(self, problem: DBProblem) -> bool:
        """Put the application's words into a problem; tell whether they came with a status."""
        rule = self._rules.get(problem.constraint) if problem.constraint is not None else None
        if rule is None:
            return False
        problem.detail = rule.message
        if rule.field is not None:
            problem.fields = (rule.field,)
        if rule.status == _DEFAULT_STATUS:
            return False
        problem.status = rule.status
        return True
