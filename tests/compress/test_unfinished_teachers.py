"""A teach run that has no member yet, named as a teacher: it is said how to go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.teachers import load_teacher
from edgeiqa.runtime.errors import ModelError, UsageError
from edgeiqa.tools.runs import finish_run, start_run

# What is there while a run goes on: of an ensemble, and of a grid, whose candidates may be trained already.
BEGUN = ((), ("members",), ("members/a/resume.pt",), ("candidates/a/checkpoint.json", "views/image.npy"))


@pytest.mark.parametrize("there", BEGUN)
def test_a_run_without_members_is_to_go_on(tmp_path: Path, there: tuple[str, ...]) -> None:
    folder = start_run(tmp_path, "teach", "a", {})
    for name in there:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"") if path.suffix else path.mkdir()
    with pytest.raises(UsageError, match="a run of edgeiqa teach that is not finished") as caught:
        load_teacher(str(folder), device="cpu")
    assert caught.value.mend == f"let it finish: edgeiqa teach --resume {folder}"


def test_candidates_alone_are_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "grid" / "candidates").mkdir(parents=True)
    with pytest.raises(UsageError, match="grid, a run of edgeiqa teach that is not finished"):
        load_teacher(str(tmp_path / "grid"), device="cpu")


def test_other_folders_without_a_checkpoint_are_none(tmp_path: Path) -> None:
    finished = start_run(tmp_path, "teach", "a", {})
    finish_run(finished)
    other = start_run(tmp_path, "quantize", "a", {})
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    for folder in (finished, other, broken):
        with pytest.raises(ModelError, match=r"which holds \['run.json'\]") as caught:
            load_teacher(str(folder), device="cpu")
        assert "name the folder" in caught.value.mend
