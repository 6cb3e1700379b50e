"""The photographs of the runs that checkpoints come from: learned from, or reserved and only judged."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import DataError, MissingExtraError, UsageError
from .distill_inputs import PhotographSource
from .runs import RUN_NAME, Run, read_run
from .show import say

if TYPE_CHECKING:
    from ..compress.data.items import Photograph

__all__ = ["NAME_BOTH", "RunPhotographs", "photographs_of_runs", "sample_source"]

NAME_BOTH = "--calibration FOLDER of the training side, --images FOLDER of others"
_SELECTION = "selection.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPhotographs:
    """What runs looked at.

    Attributes:
        training: photographs that a run learned from.
        judged: those that a run reserved, and that none learned from.
        learned: SHA-256 of all that was learned from, also before a fine-tuning.
        opinions: of reserved photographs, by SHA-256, where they have one.
        samples: whether all are the sample photographs.
        name: of the runs, for people.
    """

    training: tuple[Photograph, ...]
    judged: tuple[Photograph, ...]
    learned: Set[str]
    opinions: Mapping[str, float]
    samples: bool
    name: str


def photographs_of_runs(
    checkpoints: Sequence[Path], threads: int | None = None, *, needed: bool = True
) -> RunPhotographs | None:
    """What the runs of checkpoints learned from and reserved.

    Runs that a checkpoint was fine-tuned from have been learned from, too; where their photographs are not there any
    more, that is said.

    Args:
        checkpoints: their folders.
        threads: that read files.
        needed: whether the photographs are wanted, and not only known to be others than those that are named: then what
            is not there is an error, else it is said.

    Returns:
        None where no checkpoint is in a run's folder.

    Raises:
        DataError: photographs or a table of a run are not there any more.
        UsageError: a run does not say what it looked at.
        MissingExtraError: the sample photographs are not installed.
    """
    runs: dict[Path, None] = {}
    for checkpoint in checkpoints:
        folder = _run_of(checkpoint)
        if folder is None:
            say(f"{checkpoint} is of no run: what it learned from is not known, and may be among what the gate judges")
        else:
            runs[folder] = None
    if not runs:
        return None
    looked = {folder: _look(folder, threads, needed=needed) for folder in runs}
    seen = set(runs)
    earlier = [one for last in looked.values() for one in _earlier(last, seen, threads)]
    found: dict[str, Photograph] = {}
    opinions: dict[str, float] = {}
    reserved: set[str] = set()
    for one in looked.values():
        found |= one.found
        reserved |= one.reserved.keys()
        opinions |= {sha: mos for sha, mos in one.reserved.items() if mos is not None}
    learned = {sha for one in (*looked.values(), *earlier) for sha in one.found.keys() - one.reserved.keys()}
    if both := len(reserved & learned):
        say(f"{both} photographs that a run reserved are not judged, as another one learned from them")
    judged = reserved - learned
    samples = all(one.samples for one in looked.values())
    return RunPhotographs(
        training=tuple(photo for sha, photo in found.items() if sha not in judged),
        judged=tuple(photo for sha, photo in found.items() if sha in judged),
        learned=learned,
        opinions=opinions,
        samples=samples,
        name=", ".join(folder.name for folder in runs) + (" (sample photographs)" if samples else ""),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Looked:
    """At what one run looked.

    Attributes:
        found: its photographs, by SHA-256.
        reserved: those it only judged, with their opinions.
        samples: whether they are the sample photographs.
        before: the checkpoint that it fine-tuned; None for none.
    """

    found: Mapping[str, Photograph] = field(default_factory=dict)
    reserved: Mapping[str, float | None] = field(default_factory=dict)
    samples: bool = False
    before: Path | None = None


def _look(folder: Path, threads: int | None, *, needed: bool) -> _Looked:
    try:
        run = read_run(folder)
        source = _source_of(run)
        reserved: dict[str, float | None] = {}
        for sha, mos in _selection_of(folder / _SELECTION):
            # A photograph may be followed by its distorted versions.
            reserved[sha] = reserved.get(sha) if mos is None else mos
        found = source.photographs(threads)
    except (DataError, UsageError, MissingExtraError) as error:
        if needed:
            # Whatever else would mend it, other photographs do.
            mend = f"{error.mend}; or name photographs: {NAME_BOTH}"
            raise type(error)(f"{folder}: {error.got}", expected=error.expected, mend=mend) from error
        say(f"{folder}: what it learned from cannot be told, and may be among what the gate judges ({error.got})")
        return _Looked()
    before = run.settings.get("checkpoint") if run.kind == "quantize" else None
    return _Looked(
        found={photo.sha256: photo for photo in found},
        reserved=reserved,
        samples=source.samples,
        before=None if before is None else Path(before),
    )


def _run_of(checkpoint: Path) -> Path | None:
    """The folder with ``run.json``: the checkpoint's own, or the one whose ``members`` it is among."""
    whole = checkpoint.resolve()
    return next((folder for folder in (whole, *whole.parents[:2]) if (folder / RUN_NAME).is_file()), None)


def _earlier(looked: _Looked, seen: set[Path], threads: int | None) -> Iterator[_Looked]:
    """At what the runs looked that a network was fine-tuned from, the last one first; each is seen once."""
    while looked.before is not None:
        folder = _run_of(looked.before)
        if folder is None:
            say(
                f"{looked.before}, from which it was fine-tuned, is of no run here: what that learned from is not known"
            )
            return
        if folder in seen:
            return
        seen.add(folder)
        looked = _look(folder, threads, needed=False)
        yield looked


def _source_of(run: Run) -> PhotographSource:
    settings = run.settings
    try:
        if run.kind == "quickstart":
            return sample_source()
        if run.kind in ("distill", "quantize"):
            return PhotographSource.of(settings["photographs"])
        data = settings["recipe"]["data"]
        low, high = data["score_range"]
        return PhotographSource(
            data=Path(settings["data"]),
            images=Path(settings["images"]),
            unlabelled=(),
            split=data.get("split"),
            score_range=(low, high),
            samples=False,
        )
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{RUN_NAME}, of a run of {run.kind}, which names no photographs ({error!r})",
            expected="a run of distill, quantize, quickstart or teach",
            mend="restore it",
        ) from error


def sample_source() -> PhotographSource:
    """The sample photographs."""
    return PhotographSource(data=None, images=None, unlabelled=(), split=None, score_range=(0.0, 100.0), samples=True)


def _selection_of(path: Path) -> Iterator[tuple[str, float | None]]:
    """sha256 and opinion of each row of a run's ``selection.csv``; distorted versions have none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield row["sha256"], float(row["mos"]) if row.get("mos") and not row.get("kind") else None
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path.name} ({error!r})", expected="the table that the run wrote", mend="restore it"
        ) from error
