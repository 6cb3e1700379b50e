"""Whoever is told how far a training is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .fit import Step

__all__ = ["SILENT", "Watch"]


class Watch(Protocol):
    """Told how far a training is."""

    def say(self, text: str) -> None:
        """A line for people."""

    def cut(self, done: int, total: int) -> None:
        """So many of all photographs have their views."""

    def ask(self, done: int, total: int) -> None:
        """The teacher has looked at so many of all items."""

    def step(self, name: str, step: Step) -> None:
        """A training has taken a step."""

    def epoch(self, name: str, line: Mapping[str, float]) -> None:
        """A training has ended an epoch."""


class _Silent:
    def say(self, text: str) -> None:
        pass

    def cut(self, done: int, total: int) -> None:
        pass

    def ask(self, done: int, total: int) -> None:
        pass

    def step(self, name: str, step: Step) -> None:
        pass

    def epoch(self, name: str, line: Mapping[str, float]) -> None:
        pass


SILENT: Watch = _Silent()
"""Keeps it all to itself."""
