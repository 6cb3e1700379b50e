"""What trainings of students leave: a score map, figures on what was held out, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..profiles.fit_score_map import fit_sigmoid
from ..profiles.metrics import Accuracy, evaluate
from ..runtime.errors import DataError, UsageError
from ..runtime.score_map import Affine, ScoreMap
from .checkpoint import Checkpoint, load_checkpoint
from .data.items import Item
from .models.network import QualityNet
from .run_files import write_table
from .watch import Watch

__all__ = ["HIGH", "LOW", "accuracy_of", "fit_student_map", "read_finished", "write_selection"]

LOW, HIGH = 0.0, 100.0
"""The outer scale of students."""


def fit_student_map(raw: NDArray[np.float64], truth: NDArray[np.float64], whose: str, watch: Watch) -> ScoreMap:
    """Fit a sigmoid to held-out images; where raw scores do not rise with the truth, the straight line from [0, 1].

    Args:
        raw: scores ``[n]``.
        truth: in [0, 1], ``[n]``.
        whose: scores these are, for the map's record.
        watch: is told of a straight line.
    """
    fitted_on = f"{whose} on {len(raw)} held-out images"
    try:
        return fit_sigmoid(raw, LOW + (HIGH - LOW) * truth, LOW, HIGH, fitted_on=fitted_on)
    except DataError as error:
        watch.say(
            f"its raw scores do not rise with {fitted_on} ({error.got}): its map is the straight line from [0, 1], "
            "which it was trained towards"
        )
        step = Affine(scale=HIGH - LOW, offset=LOW)
        return ScoreMap(steps=(step,), low=LOW, high=HIGH, fitted_on="nothing")


def accuracy_of(scores: NDArray[np.float64], truth: NDArray[np.float64] | None) -> Accuracy | None:
    """None too of fewer than three images, and where one side gives one score to all: there is no correlation."""
    if truth is None:
        return None
    try:
        return evaluate(scores, truth)
    except DataError:
        return None


def write_selection(
    path: Path,
    judged: Sequence[Item],
    images: Mapping[str, str],
    people: NDArray[np.float64] | None,
    said: NDArray[np.float64] | None,
    student: NDArray[np.float64],
) -> None:
    """Write the table of what was held out: image, sha256, kind, severity, mos, teacher, student.

    Args:
        path: of the CSV.
        judged: n items.
        images: names of photographs by sha256.
        people: opinions on the outer scale ``[n]``; None for none, likewise the next.
        said: the teacher's scores.
        student: its scores.
    """
    rows = []
    for row, item in enumerate(judged):
        kind = ("", "") if item.distortion is None else (item.distortion.kind, repr(item.distortion.severity))
        known = ["" if scores is None else repr(float(scores[row])) for scores in (people, said, student)]
        rows.append([images[item.sha256], item.sha256, *kind, *known])
    write_table(path, ["image", "sha256", "kind", "severity", "mos", "teacher", "student"], rows)


def read_finished(folder: Path, facts: dict[str, Any]) -> tuple[Checkpoint, QualityNet]:
    """The student that a run has finished already.

    Raises:
        UsageError: it is that of another run.
    """
    record, network = load_checkpoint(folder)
    # Through JSON, as the record was.
    wanted = msgspec.json.decode(msgspec.json.encode(facts))
    # Records of earlier versions say nothing of it.
    found = {"transfer_fingerprint": wanted["transfer_fingerprint"], **record.provenance}
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise UsageError(
            f"{folder}, a finished student of another run (its {', '.join(differing)} differ)",
            expected="a student of this recipe, teacher and photographs",
            mend="name another folder with -o",
        )
    return record, network
