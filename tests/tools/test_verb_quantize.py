"""``edgeiqa quantize --aware``: as its users call it, and all that is refused before any work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress import quant_aware
from edgeiqa.compress.checkpoint import load_checkpoint
from edgeiqa.compress.quant_aware_records import QuantAwareReport
from edgeiqa.tools.runs import newest_run, read_run

from .command import Ran, edgeiqa, files_in, require_refusal
from .teach_runs import save_labelled, sha256_of, teach_run

SHORT = ("--batch", "4", "--steps", "2", "--threads", "1", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` (20 photographs, 4 of them the test's), and in ``runs`` an ensemble and a student."""
    root = tmp_path_factory.mktemp("distilled")
    data = save_labelled(root / "data", 20, test=4)
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 for place in range(16)}
    teach_run(root / "runs", data, parts | dict.fromkeys(("02.jpg", "05.jpg", "08.jpg", "11.jpg"), "selection"))
    student = ("--student", "test_efficientnet", "--size", "32x32", "--weights", "none", "--crops", "2")
    ran = edgeiqa("distill", *student, *SHORT, "--runs", root / "runs", "--cache", root / "cache")
    assert ran.code == 0, ran.err
    return root


@pytest.fixture(scope="module")
def tuned(distilled: Path) -> tuple[Path, Ran]:
    ran = edgeiqa("quantize", "--aware", *SHORT, "--runs", distilled / "runs", "--json")
    assert ran.code == 0, ran.err
    return Path(ran.object["run"]), ran


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training fails the test: what can be refused is refused before."""

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("a training was begun before the call was refused")

    monkeypatch.setattr(quant_aware, "quantization_aware", worked)


def test_the_newest_student_and_its_photographs(distilled: Path, tuned: tuple[Path, Ran]) -> None:
    run, ran = tuned
    report = msgspec.convert(ran.object["report"], QuantAwareReport)
    assert report == msgspec.json.decode((run / "report.json").read_bytes(), type=QuantAwareReport)
    student = newest_run(distilled / "runs", "distill")
    assert student is not None and f"student: {student}" in ran.err and f"photographs: those of {student}" in ran.err
    # Of 16 photographs of split=train four are the ensemble's selection part: it is not learned from here either.
    assert (report.photographs, report.heldout, report.heldout_is, report.steps) == (12, 4, "selection part", 2)
    reserved = sha256_of(distilled / "data", ["02.jpg", "05.jpg", "08.jpg", "11.jpg"])
    with (run / "selection.csv").open() as file:
        lines = [line.strip().split(",") for line in file][1:]
    assert {line[0]: line[1] for line in lines} == reserved
    found = read_run(run)
    assert (found.kind, found.settings["mode"]) == ("quantize", "aware") and found.finished is not None
    before, after = load_checkpoint(student), load_checkpoint(run)
    assert (before[0].system, before[0].name) == (after[0].system, after[0].name)
    assert after[0].provenance["quantization_aware"] is True


def test_what_it_says_to_people_and_a_run_that_is_finished(distilled: Path, tuned: tuple[Path, Ran]) -> None:
    run, ran = tuned
    again = edgeiqa("quantize", "--resume", run, "--threads", "1", "--accelerator", "cpu")
    assert again.code == 0, again.err
    assert "finished already" in again.err and f"edgeiqa export {run} --precision int8" in again.err
    assert "learned 2 steps on 24 items of 12 photographs" in again.out and "points on average" in again.out
    assert ran.object["report"]["quantized"] > 5
    require_refusal(edgeiqa("quantize", "--resume", run, "--epochs", "3"), "--epochs", "--resume alone")
    student = newest_run(distilled / "runs", "distill")
    require_refusal(edgeiqa("quantize", "--resume", student), "a run of distill", "quantize --aware")
    other = edgeiqa("quantize", student, "--aware", *SHORT, "--seed", "3", "-o", run)
    require_refusal(other, "another run: its recipe differ", f"edgeiqa quantize --resume {run}")


def test_its_checkpoint_is_exported_as_any_other(tuned: tuple[Path, Ran], tmp_path: Path) -> None:
    ran = edgeiqa("export", tuned[0], "-o", tmp_path / "tuned.eiqa")
    assert ran.code == 0, ran.err
    assert (tmp_path / "tuned.eiqa").is_file()


def test_the_newest_student_is_the_one_that_was_fine_tuned(
    distilled: Path, tuned: tuple[Path, Ran], tmp_path: Path
) -> None:
    ran = edgeiqa("export", "--runs", distilled / "runs", "-o", tmp_path / "newest.eiqa")
    assert ran.code == 0, ran.err
    assert f"the newest run: {tuned[0]}" in ran.err


def test_options_reach_the_recipe(distilled: Path, tmp_path: Path) -> None:
    student = newest_run(distilled / "runs", "distill")
    ran = edgeiqa(
        *("quantize", student, "--aware", *SHORT, "--learning-rate", "1e-4", "--epochs", "2", "--distortions", "2"),
        *("--float-block", "head", "--float-block", "backbone.conv_stem", "--activations", "asymmetric"),
        *("--float-sums", "--mos-weight", "0", "--rank-weight", "0.5", "-o", tmp_path / "run"),
    )
    assert ran.code == 0, ran.err
    recipe: Any = read_run(tmp_path / "run").settings["recipe"]
    (stage,) = recipe["stages"]
    assert (stage["learning_rate"], stage["head_learning_rate"], stage["epochs"], stage["batch"]) == (1e-4, 1e-4, 2, 4)
    assert recipe["quantization"] == {
        "activations": "asymmetric",
        "float_gates": True,
        "float_sums": True,
        "float_blocks": ["head", "backbone.conv_stem"],
    }
    assert (recipe["losses"]["mos"], recipe["losses"]["rank"], recipe["transfer"]["distortions"]) == (0.0, 0.5, 2)


@pytest.mark.usefixtures("no_work")
def test_photographs_that_are_named_and_what_the_student_reserved(
    distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = newest_run(distilled / "runs", "distill")
    seen: list[Any] = []
    monkeypatch.setattr(quant_aware, "require_quantization_aware", lambda _, photographs: seen.append(photographs))
    with pytest.raises(AssertionError, match="a training was begun"):
        edgeiqa("quantize", student, "--aware", "--images", distilled / "data" / "images", "-o", tmp_path / "run")
    (photographs,) = seen
    reserved = set(sha256_of(distilled / "data", ["02.jpg", "05.jpg", "08.jpg", "11.jpg"]).values())
    assert {photo.sha256 for photo in photographs.heldout} == reserved
    assert len(photographs.training) == 16 and not photographs.mos


@pytest.mark.usefixtures("no_work")
def test_what_is_refused(distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    student = newest_run(distilled / "runs", "distill")
    require_refusal(edgeiqa("quantize"), "--aware", "edgeiqa export --precision int8")
    require_refusal(edgeiqa("quantize", "--aware"), "no finished run of distill", "edgeiqa distill --student")
    require_refusal(
        edgeiqa("quantize", tmp_path, "--aware", "--images", distilled / "data" / "images"), "checkpoint.json"
    )
    member = distilled / "runs" / "teach-pair-001" / "members" / "a"
    require_refusal(edgeiqa("quantize", member, "--aware"), "what photographs it learned from", "--images FOLDER")
    few = edgeiqa("quantize", student, "--aware", "--batch", "64")
    require_refusal(few, "12 photographs to learn from, 24 with", "--batch")
    alone = ("--score-weight", "0", "--feature-weight", "0", "--mos-weight", "1")
    unlabelled = edgeiqa("quantize", student, "--aware", *alone, "--images", distilled / "data" / "images")
    require_refusal(unlabelled, "photographs without opinions", "--data mos.csv")
    require_refusal(edgeiqa("quantize", student, "--aware", *alone[:2], "--mos-weight", "0"), "weights of losses")
    require_refusal(edgeiqa("quantize", student, "--aware", "--learning-rate", "-1"), "learning rates of")
    assert files_in(tmp_path) == set()


def test_without_the_extra(distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "timm" else find(name, *more))
    ran = edgeiqa("quantize", "--aware", "--runs", distilled / "runs", "-o", tmp_path / "run")
    require_refusal(ran, "no timm", 'pip install "edgeiqa[compress]"')
    assert not (tmp_path / "run").exists()


def test_a_broken_table_of_what_was_reserved(distilled: Path, tmp_path: Path) -> None:
    student = newest_run(distilled / "runs", "distill")
    assert student is not None
    shutil.copytree(student, tmp_path / "student")
    (tmp_path / "student" / "selection.csv").write_text("image\n02.jpg\n")
    ran = edgeiqa("quantize", tmp_path / "student", "--aware", *SHORT, "-o", tmp_path / "run")
    require_refusal(ran, "selection.csv", "the table that the run wrote")
    assert not (tmp_path / "run").exists()
