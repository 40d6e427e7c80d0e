"""``dbkit.doctor``: run the checks of the current application, and add checks to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, current_app, has_app_context

from ..application import application_of
from ..exceptions import closest
from ..feature import Bind
from ..support.calls import explained_methods
from .checks import Check, Registry
from .exceptions import UnknownCheck
from .findings import Finding, Found
from .settings import DoctorSettings

if TYPE_CHECKING:
    from .examination import Examination, ExaminedBind

__all__ = ["AppDoctor", "Doctor"]

F = TypeVar("F", bound=Callable[[], Iterable[Any]])


@explained_methods()
class Doctor:
    """The checks of the applications of one :class:`DBKit`, as ``dbkit.doctor``.

    .. versionadded:: 0.1
    """

    def __init__(self, applications: Callable[[], Iterable[Flask]]) -> None:
        self._applications = applications
        self.registry = Registry()

    def check(
        self,
        id: str,  # noqa: A002 - what it is called everywhere
        *,
        tags: Iterable[str] = (),
        level: str = "warning",
    ) -> Callable[[F], F]:
        """Register a check of the application; a decorator for a function without arguments.

        It yields what it finds, each made by :meth:`finding`, and runs in an application context,
        in a thread of its own with a deadline. Its docstring is what ``--explain`` shows.

        Args:
            id: Capital letters and three digits, such as ``DK900``. DK000 to DK199 are the
                library's. A check of the same id is replaced.
            tags: What it looks at; ``--tag`` chooses by it.
            level: ``error``, ``warning`` or ``info``.

        Raises:
            ValueError: The id or the level cannot be used.

        .. versionadded:: 0.1
        """

        def register(function: F) -> F:
            told = " ".join((function.__doc__ or "").split())
            title = told.partition(". ")[0].rstrip(".") or function.__name__.replace("_", " ")
            self.registry.add(
                Check(
                    id,
                    title,
                    lambda _given: function(),
                    level,
                    cause=told or title,
                    fix="See the function of the check.",
                    tags=frozenset({tags} if isinstance(tags, str) else tags),
                )
            )
            return function

        return register

    @staticmethod
    def finding(message: str, *, object: str | None = None, fix: str | None = None) -> Found:  # noqa: A002
        """Make what a check of the application yields.

        Args:
            message: What is there, in one sentence.
            object: What it is about, such as ``books.author_id`` or ``shop/views.py:12``: findings
                are told apart and left out by it.
            fix: What to do.

        .. versionadded:: 0.1
        """
        return Found(message, object, fix)

    def run(
        self,
        *,
        deploy: bool = False,
        db: bool = True,
        bind: str | None = None,
        tags: Iterable[str] = (),
        deadline_s: float = 10.0,
    ) -> list[Finding]:
        """Examine the current application. Writes nothing, anywhere.

        Args:
            deploy: Whether to check the place the application is deployed to, too: its settings,
                its server, its backups.
            db: Whether to ask the databases, by connections that only read.
            bind: The name of the one database to look at.
            tags: Run only the checks with one of these tags.
            deadline_s: Seconds each check may take.

        Returns:
            What was found, the worst first, without what ``DBKIT_DOCTOR_IGNORE`` names.

        Raises:
            UnknownCheck: There is no such bind, or no check with such a tag.
            RuntimeError: There is no current application, and not exactly one was initialised.

        .. versionadded:: 0.1
        """
        from .runner import examine

        chosen = self.checks(deploy=deploy, db=db, tags=tags)
        given = self.examination(self._app(), deploy=deploy, db=db, bind=bind)
        ignored = given.settings(DoctorSettings).doctor_ignore
        try:
            return examine(given, chosen, ignored=ignored, deadline_s=deadline_s)
        finally:
            given.close()

    def checks(
        self, *, deploy: bool = False, db: bool = True, tags: Iterable[str] = ()
    ) -> list[Check]:
        """Return the checks that :meth:`run` runs, by their ids.

        Raises:
            UnknownCheck: No check has such a tag.

        .. versionadded:: 0.1
        """
        wanted = frozenset({tags} if isinstance(tags, str) else tags)
        for tag in sorted(wanted):
            if tag not in self.registry.tags:
                raise UnknownCheck(_unknown("tag", tag, self.registry.tags))
        return [
            one
            for one in self.registry
            if (not wanted or one.tags & wanted)
            and (db or not one.database)
            and (deploy or not one.deploy)
        ]

    def examination(
        self, app: Flask, *, deploy: bool = False, db: bool = True, bind: str | None = None
    ) -> Examination:
        """Return what the checks are given; to be closed.

        Raises:
            UnknownCheck: There is no such bind.
        """
        from .examination import Examination
        from .process import ServerProcess
        from .sources import Sources

        kept = application_of(app)
        known = kept.part(AppDoctor).binds
        names = [one.name for one in known]
        settings = kept.settings(DoctorSettings)
        if bind is not None and bind not in names:
            raise UnknownCheck(_unknown("bind", bind, names))
        return Examination(
            app,
            kept.db,
            tuple(_examined(one, kept.config) for one in known if bind in (None, one.name)),
            kept.settings,
            kept.part,
            app.app_context,
            deploy,
            db,
            Sources(app.import_name, app.root_path),
            ServerProcess.of(os.environ, settings.workers, settings.threads),
        )

    def _app(self) -> Flask:
        served = list(self._applications())
        if has_app_context():
            served = [app for app in served if app == current_app] or served
        if len(served) != 1:
            raise RuntimeError(
                f"This DBKit serves {len(served)} applications. Call dbkit.doctor.run() inside"
                " 'with app.app_context():'."
            )
        return served[0]


@dataclass(frozen=True)
class AppDoctor:
    """What is kept of one application.

    Attributes:
        binds: Its databases, the default one first.
        doctor: What its ``DBKit`` shows as ``dbkit.doctor``.
    """

    binds: tuple[Bind, ...]
    doctor: Doctor


def _examined(bind: Bind, config: Any) -> ExaminedBind:
    from .examination import ExaminedBind

    replica_of = next(
        (primary for primary, names in config.replicas.items() if bind.name in names), None
    )
    return ExaminedBind(
        bind.key, bind.name, bind.engine, bind.options, bind.context, bind.in_memory, replica_of
    )


def _unknown(what: str, given: str, known: list[str]) -> str:
    nearest = closest(given, known)
    hint = f" Did you mean {nearest!r}?" if nearest is not None else ""
    return f"There is no {what} {given!r}.{hint} Use one of: {', '.join(known)}."
