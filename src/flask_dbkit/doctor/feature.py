"""What the doctor keeps of an application: its databases as they were set up."""

from __future__ import annotations

from ..feature import Feature, Setup
from .current import AppDoctor
from .settings import DoctorSettings

__all__ = ["DOCTOR"]


def _install(setup: Setup) -> None:
    setup.application.add(AppDoctor(setup.binds, setup.published["doctor"]))


DOCTOR = Feature(
    "doctor",
    settings=DoctorSettings,
    commands={"doctor": "flask_dbkit.doctor.commands"},
    doctor=("flask_dbkit.doctor.own_checks",),
    install=_install,
)
