"""Photographs of one grey, and a bundle whose score is how light they are: scores that are known beforehand."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgeiqa.runtime.scorer import Score
from edgeiqa.tools.command import main
from PIL import Image

from ..runtime.bundles import build
from .command import rewritten

# What float32 arithmetic leaves of a score of 100.
FLOAT32 = 1e-4


def save_grey(path: Path, level: int, size: tuple[int, int] = (12, 8)) -> Path:
    """A photograph that scores ``level / 2.55``; a PNG, whatever it is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.new("RGB", size, (level,) * 3).save(file, "PNG")
    return path


def score_of(level: int) -> float:
    return level / 255 * 100


def light_bundle(folder: Path, *, higher_is_better: bool = True) -> Path:
    """One member, of which the score is the mean of the photograph's pixels, in percent."""
    made = build(folder / "light.eiqa").path
    if higher_is_better:
        return made
    return rewritten(made, folder / "dark.eiqa", lambda manifest: manifest["scale"].update(higher_is_better=False))


def bytes_out(*arguments: object) -> tuple[int, bytes]:
    """Run ``edgeiqa ARGUMENTS`` in this process; its exit status, and stdout as bytes."""
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    text.flush()
    assert isinstance(stop.value.code, int)
    return stop.value.code, raw.getvalue()


def stdin_of(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let the command find this on its stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def scored(*values: float | None) -> list[Score]:
    """Scores of photographs ``0``, ``1``, ...; None could not be read."""
    return [
        Score(value, path=str(index), error=None if value is not None else f"{index} is broken")
        for index, value in enumerate(values)
    ]


@contextlib.contextmanager
def untouched(path: Path) -> Iterator[None]:
    """What is done leaves the file as it is, to the byte."""
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before
