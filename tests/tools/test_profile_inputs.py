"""Which bundle ``edgeiqa profile`` takes when none is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from edgeiqa.runtime.errors import UsageError
from edgeiqa.tools.profile_inputs import newest_bundle
from edgeiqa.tools.runs import RUN_NAME, finish_run, start_run

from .command import edgeiqa, require_refusal

BRIEF = ("--brief", "--runs", 1, "--warmup", 0, "--json")


def run_of(runs: Path, kind: str, *bundles: str, finished: bool = True) -> Path:
    folder = start_run(runs, kind, "", {})
    for index, name in enumerate(bundles):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, ns=(index, index))
    if finished:
        finish_run(folder)
    return folder


def test_the_newest_finished_run_that_holds_one(tmp_path: Path) -> None:
    assert newest_bundle(tmp_path / "none") is None
    run_of(tmp_path, "distill", "old.eiqa")
    quickstart = run_of(tmp_path, "quickstart", "new.eiqa")
    assert newest_bundle(tmp_path) == quickstart / "new.eiqa"
    # Without a bundle, of another kind, not finished.
    run_of(tmp_path, "distill")
    run_of(tmp_path, "teach", "teachers.eiqa")
    run_of(tmp_path, "distill", "half.eiqa", finished=False)
    assert newest_bundle(tmp_path) == quickstart / "new.eiqa"
    last = run_of(tmp_path, "distill", "b.eiqa", "a.eiqa")
    assert newest_bundle(tmp_path) == last / "a.eiqa"


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    folder = run_of(tmp_path, "distill", "a.eiqa")
    (folder / RUN_NAME).write_text("{")
    with pytest.raises(UsageError, match=RUN_NAME):
        newest_bundle(tmp_path)


def test_it_says_which(small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run_of(tmp_path / "runs", "distill", "student.eiqa")
    shutil.copy(small_bundle, folder / "student.eiqa")
    ran = edgeiqa("profile", *BRIEF)
    assert (ran.code, ran.object["subject"]) == (0, "small")
    assert (
        ran.err
        == f"no BUNDLE named: {Path('runs') / folder.name / 'student.eiqa'}, the newest student with a bundle in runs\n"
    )
    ran = edgeiqa("profile", *BRIEF, "--runs-folder", "elsewhere")
    assert (ran.code, ran.object["subject"]) == (0, "default")
    assert ran.err == "no BUNDLE named, and no finished run in elsewhere holds one: the default bundle\n"


def test_a_student_without_a_bundle_is_not_passed_over_in_silence(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run_of(tmp_path / "runs", "quickstart", "student.eiqa")
    shutil.copy(small_bundle, folder / "student.eiqa")
    newest = run_of(tmp_path / "runs", "distill")
    ran = edgeiqa("profile", *BRIEF)
    said, which = ran.err.splitlines()
    name = Path("runs") / newest.name
    assert said.startswith(
        f"the newest student, {name}, is not measured, as its folder holds no bundle: edgeiqa export"
    )
    assert f"edgeiqa export {name} -o {name / 'student.eiqa'}" in said and "with a bundle" in which
    # An older one is nobody's newest.
    run_of(tmp_path / "runs", "distill", "b.eiqa")
    shutil.copy(small_bundle, newest.with_name("distill-002") / "b.eiqa")
    assert "is not measured" not in edgeiqa("profile", *BRIEF).err


def test_a_newest_bundle_that_is_broken_is_not_passed_over(tmp_path: Path) -> None:
    run_of(tmp_path, "distill", "student.eiqa")
    require_refusal_ran = edgeiqa("profile", *BRIEF, "--runs-folder", tmp_path)
    require_refusal(require_refusal_ran, "student.eiqa", "bundle")
