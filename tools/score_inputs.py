"""Which photographs ``edgeiqa score`` is asked about."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..runtime.errors import UsageError
from .options import find_photographs

__all__ = ["Photographs", "photographs_of"]

STDIN = Path("-")


class Photographs:
    """Paths to score, in order, and how many there are; None where a list is still being read."""

    def __init__(self, paths: Iterator[str], count: int | None) -> None:
        self.paths = paths
        self.count = count


def photographs_of(paths: tuple[Path, ...], *, null_separated: bool) -> Photographs:
    """Files, folders and patterns that are named, or the list on stdin that a lone ``-`` stands for.

    Stdin is read as photographs are asked for, so that whoever writes it may go on; a path in it that is not there is
    an error of that photograph.

    Args:
        paths: of the call.
        null_separated: whether the list has a NUL after each path (``find -print0``), for names with line ends.

    Raises:
        UsageError: ``-`` beside other paths, ``null_separated`` without it, or as `find_photographs`.
    """
    if STDIN in paths:
        if len(paths) > 1:
            raise UsageError("- beside other paths", expected="- alone", mend="put the other paths into the list")
        return Photographs(_listed(b"\0" if null_separated else b"\n"), None)
    if null_separated:
        raise UsageError(
            "--null without a list on stdin", expected="a lone - for the list", mend="give - for the paths"
        )
    found = find_photographs(paths)
    return Photographs(map(os.fspath, found), len(found))


def _listed(separator: bytes) -> Iterator[str]:
    rest = b""
    while chunk := _read_stdin():
        *whole, rest = (rest + chunk).split(separator)
        yield from _names(whole, separator)
    yield from _names([rest], separator)


def _read_stdin() -> bytes:
    """What there is, at least a byte; nothing at the end.

    A list that is still being written is not waited for. The system is asked, not Python's stream: its lock would be
    held while another thread ends the program, which the interpreter answers with an abort.
    """
    try:
        return os.read(sys.stdin.fileno(), 1 << 16)
    # A stand-in for stdin has no descriptor.
    except (OSError, ValueError, AttributeError):
        stream = getattr(sys.stdin, "buffer", None)
        return b"" if stream is None else bytes(stream.read1(1 << 16))


def _names(lines: list[bytes], separator: bytes) -> Iterator[str]:
    for line in lines:
        name = line.removesuffix(b"\r") if separator == b"\n" else line
        if name:
            yield os.fsdecode(name)
