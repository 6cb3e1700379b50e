"""Which networks ``edgeiqa export`` takes when none are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edgeiqa.tools.export_inputs import find_members
from edgeiqa.tools.runs import finish_run, start_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def newest(runs: Path) -> Path:
    _, (folder,) = find_members((), None, None, None, None, runs)
    return folder


def begun(runs: Path, kind: str, checkpoint: Path | None) -> Path:
    folder = start_run(runs, kind, "small", {})
    if checkpoint is not None:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    return folder


def test_the_student_that_was_finished_last_distilled_or_fine_tuned(run_folder: Path, runs: Path) -> None:
    checkpoint = run_folder / "first"
    ensemble = begun(runs, "teach", checkpoint)
    finish_run(ensemble)
    assert newest(runs) == ensemble
    student, tuned = begun(runs, "distill", checkpoint), begun(runs, "quantize", checkpoint)
    finish_run(student)
    # What was only begun is no student yet.
    assert newest(runs) == student
    finish_run(tuned)
    assert newest(runs) == tuned
    # What was measured is none either.
    finish_run(begun(runs, "quantize", None))
    finish_run(begun(runs, "teach", checkpoint))
    assert newest(runs) == tuned
    again = begun(runs, "distill", checkpoint)
    finish_run(again)
    assert newest(runs) == again
