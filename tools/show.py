"""Printing for people: tables on stdout, progress on stderr. rich is loaded only when something is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

__all__ = ["print_json", "print_table", "printable", "say", "with_progress"]

Item = TypeVar("Item")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table; the first column is text, the others are numbers and stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # A pipe has no width of its own, and a path that is cut in two is of no use to a script.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    table = Table(title=None if title is None else _escaped(title), box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    console.print(table)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def printable(text: str) -> str:
    """The text as terminals and pages take it: a file name that is not UTF-8 has lone surrogates in Python."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def print_json(value: object) -> None:
    """One line of JSON on stdout, in ASCII: any stdout takes it, and file names that are not UTF-8 come through."""
    line = json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def with_progress(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    """The items, with a bar and the time left on stderr where that is a terminal; ``total`` is None where not known."""
    if not sys.stderr.isatty() or (total is not None and total < 2):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # rich would write what is printed meanwhile above the bar: to stderr, whatever stdout is.
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    with progress:
        yield from progress.track(items, total=total, description=what)
