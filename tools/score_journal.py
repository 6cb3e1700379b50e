"""Scores on the disk as they come, so that a large collection that was cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ..runtime.errors import UsageError
from ..runtime.scorer import Score, Scorer

__all__ = ["ScoreJournal", "json_line", "scorer_name"]


def json_line(result: Score) -> dict[str, object]:
    """A score as its line of JSON."""
    return {
        "path": result.path,
        "score": result.value,
        "members": list(result.members),
        "spread": result.spread,
        "width": result.width,
        "height": result.height,
        "error": result.error,
    }


def scorer_name(scorer: Scorer) -> str:
    """What gave a score: the bundle's name and the first digits of its manifest's hash, engine, and precision."""
    manifest = scorer.bundle.manifest
    digest = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
    return f"{manifest.name} {digest[:16]}, {scorer.engine} {scorer.engine_version}, {scorer.precision}"


# What a line that was cut short may be: its path, cut short or whole, and then nothing or the next field's name.
_PATH = re.compile(rb'\{"path":"(?:[^"\\]|\\.)*\\?')
_NEXT = b'","score":'
_SYNC_S = 2.0
"""A machine that loses its power loses at most the lines of so many seconds."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    score: float | None
    members: tuple[float, ...]
    spread: float | None
    width: int | None
    height: int | None
    error: str | None
    scorer: str


class ScoreJournal:
    """A file with a line of JSON a photograph, in the order in which they were asked for; a context manager.

    A line is written whole when its photograph is done. What a kill or a full disk left of a line is cut off when the
    file is opened again, and the photographs that have lines are not scored again, whatever has become of them.
    """

    def __init__(self, path: Path, scorer: Scorer) -> None:
        """Open the file, or make it; what is in it is checked.

        Args:
            path: of the file.
            scorer: that scores from here on.

        Raises:
            UsageError: the file holds something else, scores by another scorer, or another process writes it.
        """
        self.path = path
        self._name = scorer_name(scorer)
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise UsageError(
                f"--resume {path}: {error.strerror or error}",
                expected="a file that may be written",
                mend="name another, or make its folder",
            ) from None
        try:
            self._lock()
            self._end = self._whole_lines()
            self._done = {line.path for line in self._lines()}
            self._cut_off_the_rest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ScoreJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def done(self) -> int:
        """How many photographs had lines when the file was opened."""
        return len(self._done)

    def left(self, paths: Iterable[str]) -> Iterator[str]:
        """The paths without a line, each once."""
        seen = set(self._done)
        for path in paths:
            if path not in seen:
                seen.add(path)
                yield path

    def keep(self, scores: Iterable[Score]) -> Iterator[Score]:
        """The scores, each written before it is handed on."""
        synced = time.monotonic()
        for score in scores:
            line = json.dumps({**json_line(score), "scorer": self._name}, separators=(",", ":"), allow_nan=False)
            data = memoryview(line.encode() + b"\n")
            while data:
                data = data[self._file.write(data) :]
            if time.monotonic() - synced > _SYNC_S:
                os.fsync(self._file.fileno())
                synced = time.monotonic()
            yield score
        os.fsync(self._file.fileno())

    def kept(self) -> Iterator[Score]:
        """The scores that were in the file when it was opened, in its order."""
        for line in self._lines():
            yield Score(line.score, line.members, line.spread, line.width, line.height, line.error, line.path)

    def _lock(self) -> None:
        try:
            import fcntl
        # Windows has no such locks.
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--resume {self.path}, which another process is writing",
                expected="a file of one's own",
                mend="wait for it, or name another file",
            ) from None
        # Some file systems of networks keep no locks.
        except OSError:
            return

    def _whole_lines(self) -> int:
        """Bytes up to the last line end."""
        with self.path.open("rb") as file:
            return sum(len(line) for line in file if line.endswith(b"\n"))

    def _cut_off_the_rest(self) -> None:
        """Of a line that a kill cut short; a file that never was one of scores stays as it is."""
        with self.path.open("rb") as file:
            file.seek(self._end)
            rest = file.read()
        path = _PATH.match(rest)
        after = rest[path.end() :][: len(_NEXT)] if path else rest
        is_ours = _NEXT.startswith(after) if path else b'{"path":"'.startswith(rest)
        if not is_ours:
            raise UsageError(
                f"--resume {self.path}, which ends in no line of scores",
                expected="a file that --resume wrote, or a new one",
                mend="name another file",
            )
        os.truncate(self.path, self._end)

    def _lines(self) -> Iterator[_Line]:
        with self.path.open("rb") as file:
            at = 0
            for number, line in enumerate(file, 1):
                at += len(line)
                if at > self._end:
                    return
                yield self._read(number, line)

    def _read(self, number: int, line: bytes) -> _Line:
        try:
            # Names that are no UTF-8 have lone surrogates, which msgspec's own decoder refuses.
            read = msgspec.convert(json.loads(line), _Line)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            raise UsageError(
                f"--resume {self.path}, whose line {number} is none of scores ({error})",
                expected="a file that --resume wrote, or a new one",
                mend="name another file",
            ) from None
        if read.scorer != self._name:
            raise UsageError(
                f"--resume {self.path}, whose line {number} was scored by {read.scorer}",
                expected=self._name,
                mend="name another file, or go on with that bundle, engine and precision",
            )
        return read
