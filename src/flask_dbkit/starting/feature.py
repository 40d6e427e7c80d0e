"""The command that writes a new application."""

from __future__ import annotations

from ..feature import Feature

__all__ = ["STARTING"]

STARTING = Feature("starting", commands={"init": "flask_dbkit.starting.commands"})
