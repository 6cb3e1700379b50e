"""The photographs that quantization learns from and is judged by: never the same, never of another split."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.errors import DataError, UsageError
from edgeiqa.tools.distill_inputs import PhotographSource
from edgeiqa.tools.export_photographs import ExportPhotographs, find_export_photographs, name_item, whole_photograph
from edgeiqa.tools.quickstart_steps import load_photographs
from edgeiqa.tools.runs import finish_run, start_run
from edgeiqa.tools.sample_photographs import sample_photographs
from edgeiqa.tools.verb_distill import distill
from PIL import Image

from .command import save_photo, write_table
from .teach_runs import save_labelled, teach_run

COUNT, TEST = 68, 6
APART = tuple(f"{place:02}.jpg" for place in range(3, 35))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    data = save_labelled(root / "data", COUNT, test=TEST)
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 for place in range(COUNT - TEST)}
    return teach_run(root / "runs", data, parts | dict.fromkeys(APART, "selection"))


def found(*runs: Path, most: int = 10, **flags: Any) -> ExportPhotographs:
    usual: dict[str, Any] = {"calibration": None, "images": None, "data": None, "split": None, "seed": 0}
    return find_export_photographs(runs, most=most, threads=1, **usual | flags)


def names(items: tuple[Any, ...]) -> set[str]:
    return {item.path.name for item in items}


@pytest.mark.parametrize("place", ["", "members/a"])
def test_those_of_a_checkpoints_run(run: Path, place: str) -> None:
    photographs = found(run / place)
    assert names(photographs.judged) == set(APART) and photographs.mos is not None
    assert len(photographs.judged) == len(APART) == len(photographs.mos)
    train = {f"{number:02}.jpg" for number in range(COUNT - TEST)} - set(APART)
    assert names(photographs.training) <= train and len(names(photographs.training)) == 10
    assert run.name in photographs.source
    # Opinions stay with their photographs.
    table = dict(line.split(",")[:2] for line in (run.parents[1] / "data/mos.csv").read_text().splitlines()[1:])
    for item, mos in zip(photographs.judged, photographs.mos, strict=True):
        assert float(table[item.path.name]) == mos


def test_there_are_twice_as_many_to_choose_from_as_are_wanted(run: Path) -> None:
    few = found(run, most=10)
    assert len(few.training) == 20
    assert {item.distortion is None for item in few.training} == {True, False}
    many = found(run, most=60)
    assert len(many.training) >= 120 and len(names(many.training)) == COUNT - TEST - len(APART)
    assert found(run, most=10).training == few.training
    assert found(run, most=10, seed=1).training != few.training


def folder_of(folder: Path, photographs: Iterable[Path]) -> Path:
    """Copies of photographs, each by a name of its own."""
    folder.mkdir(parents=True)
    for place, photo in enumerate(photographs):
        shutil.copy(photo, folder / f"{place:02}-{photo.name}")
    return folder


def photo_paths(run: Path, places: Iterable[int]) -> list[Path]:
    return [run.parents[1] / f"data/images/{place:02}.jpg" for place in places]


def hashes(photographs: Iterable[Path]) -> set[str]:
    return {hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photographs}


def shown(items: tuple[Any, ...]) -> set[str]:
    return {item.sha256 for item in items}


def test_without_opinions_the_gate_judges_distorted_versions_of_few_photographs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first two were learned from; the others were reserved, or of another split.
    unseen = photo_paths(run, [*range(3, 30), 65, 66, 67])
    folder = folder_of(tmp_path / "mine", [*photo_paths(run, (0, 1)), *unseen])
    photographs = found(run, images=folder)
    assert photographs.mos is None and shown(photographs.judged) == hashes(unseen)
    assert (len(photographs.judged), photographs.versions) == (60, 30)
    assert "30 photographs and 1 distorted versions of each" in photographs.source
    assert "2 photographs that were learned from are not judged" in capsys.readouterr().err


def test_a_photograph_that_is_judged_is_no_calibration_image(run: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", photo_paths(run, range(10, 40)))
    photographs = found(calibration=run.parents[1] / "data/images", images=folder, most=100)
    assert len(shown(photographs.training)) == COUNT - 30
    assert not shown(photographs.judged) & shown(photographs.training)


def test_what_a_run_learned_from_is_not_judged_when_both_sides_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned, unseen = photo_paths(run, range(35, 62)), photo_paths(run, range(3, 35))
    images = folder_of(tmp_path / "images", [*learned, *unseen])
    calibration = folder_of(tmp_path / "calibration", photo_paths(run, [0, 1, 2, *range(35, 50)]))
    photographs = found(run / "members/a", calibration=calibration, images=images)
    assert shown(photographs.judged) == hashes(unseen)
    assert "27 photographs that were learned from are not judged" in capsys.readouterr().err
    only_learned = folder_of(tmp_path / "learned", photo_paths(run, [0, 1, 2, *range(35, 62)]))
    with pytest.raises(DataError, match="0 photographs for the gate to judge: learned"):
        found(run / "members/a", calibration=calibration, images=only_learned)


def test_what_one_run_reserved_and_another_learned_from_is_not_judged(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 for place in range(COUNT - TEST)}
    apart = dict.fromkeys((f"{place:02}.jpg" for place in range(4, 36)), "selection")
    other = teach_run(tmp_path / "runs", run.parents[1] / "data/mos.csv", parts | apart, label="other")
    photographs = found(run / "members/a", other / "members/b", most=100)
    assert names(photographs.judged) == {f"{place:02}.jpg" for place in range(4, 35)}
    # To calibrate on, they will do.
    assert {"03.jpg", "35.jpg"} <= names(photographs.training)
    assert "2 photographs that a run reserved are not judged" in capsys.readouterr().err


def fine_tuned(runs: Path, checkpoint: Path, images: Path, reserved: Iterable[Path]) -> Path:
    """A run that fine-tuned a checkpoint on photographs without opinions."""
    return student_run(runs, "quantize", {"checkpoint": str(checkpoint), **of_folder(images)}, reserved)


def of_folder(images: Path | None) -> dict[str, Any]:
    source = PhotographSource(
        data=None, images=images, unlabelled=(), split=None, score_range=(0.0, 100.0), samples=images is None
    )
    return {"photographs": source.settings}


def student_run(runs: Path, kind: str, settings: dict[str, Any], reserved: Iterable[Path]) -> Path:
    """A finished run, with the table of what it only judged, each photograph as it is and distorted."""
    folder = start_run(runs, kind, "student", settings)
    rows = [f"{photo.name},{sha},{kind},,0,0" for photo in reserved for sha in hashes([photo]) for kind in ("", "blur")]
    (folder / "selection.csv").write_text("\n".join(["image,sha256,kind,mos,teacher,student", *rows]) + "\n")
    finish_run(folder)
    return folder


def test_what_was_learned_before_a_fine_tuning_is_not_judged(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = [save_photo(tmp_path / f"new/{place:02}.jpg", 500 + place, size=(64, 48)) for place in range(52)]
    (old,) = photo_paths(run, [0])
    images = folder_of(tmp_path / "images", [*new, old])
    tuned = fine_tuned(tmp_path / "runs", run / "members/a", images, [*new[:32], old])
    photographs = found(tuned, most=100)
    assert shown(photographs.judged) == hashes(new[:32])
    assert shown(photographs.training) == hashes([*new[32:], old])
    # Also where such photographs are named.
    named = folder_of(tmp_path / "named", [*photo_paths(run, range(35, 60)), *new[:31]])
    assert shown(found(tuned, images=named).judged) == hashes(new[:31])
    capsys.readouterr()
    gone = fine_tuned(tmp_path / "runs", tmp_path / "gone", images, new[:32])
    assert shown(found(gone).judged) == hashes(new[:32])
    assert "what that learned from is not known" in capsys.readouterr().err


def test_a_run_whose_photographs_are_gone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = folder_of(tmp_path / "images", photo_paths(run, range(50)))
    moved = student_run(tmp_path / "runs", "distill", of_folder(images), photo_paths(run, range(30)))
    assert len(found(moved).judged) == 60
    shutil.rmtree(images)
    with pytest.raises(DataError, match="no folder") as caught:
        found(moved, images=run.parents[1] / "data/images")
    assert "--calibration FOLDER" in caught.value.mend
    # With both sides named, all that is lost is the knowledge that they were not learned from.
    calibration = folder_of(tmp_path / "calibration", photo_paths(run, range(16)))
    judged = folder_of(tmp_path / "judged", photo_paths(run, range(16, 60)))
    assert len(found(moved, calibration=calibration, images=judged).judged) == 88
    assert "what it learned from cannot be told" in capsys.readouterr().err


def test_a_table_gives_opinions_and_its_split(run: Path) -> None:
    data = run.parents[1] / "data"
    photographs = found(run, images=data / "images", data=data / "mos.csv", split="train")
    # Those that the run learned from are not judged.
    assert names(photographs.judged) == set(APART) and len(photographs.judged) == len(APART)
    assert photographs.mos is not None and "mos.csv" in photographs.source
    with pytest.raises(DataError, match=r"6 photographs for the gate to judge: mos\.csv"):
        found(run, images=data / "images", data=data / "mos.csv", split="test")


def test_opinions_of_the_same_bytes_are_averaged(run: Path, tmp_path: Path) -> None:
    photos = photo_paths(run, [*range(3, 33), 3])
    images = folder_of(tmp_path / "images", photos)
    rows = [(photo.name, float(place)) for place, photo in enumerate(sorted(images.iterdir()))]
    photographs = found(run, images=images, data=write_table(tmp_path / "mos.csv", rows))
    assert photographs.mos is not None and len(photographs.mos) == 30
    assert photographs.mos[0] == pytest.approx((0 + 30) / 2)


def without_opinions(run: Path, tmp_path: Path, count: int) -> Path:
    """The same run, its first reserved photographs without opinions."""
    whole = shutil.copytree(run, tmp_path / "runs" / run.name)
    lines = (whole / "selection.csv").read_text().splitlines()
    for place in range(1, count + 1):
        cells = lines[place].split(",")
        lines[place] = ",".join([*cells[:2], "", *cells[3:]])
    (whole / "selection.csv").write_text("\n".join(lines) + "\n")
    return whole


def test_opinions_are_of_photographs_as_they_are(run: Path, tmp_path: Path) -> None:
    images = folder_of(tmp_path / "images", photo_paths(run, range(50)))
    student = student_run(tmp_path / "runs", "distill", of_folder(images), photo_paths(run, range(30)))
    table = student / "selection.csv"
    table.write_text(table.read_text().replace(",,,0,0", ",,60,0,0").replace(",blur,,0,0", ",blur,10,0,0"))
    photographs = found(student)
    assert photographs.mos is not None and set(photographs.mos) == {60.0} and photographs.versions == 0


def test_some_without_opinions_are_judged_without(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = found(without_opinions(run, tmp_path, 2), hold_drop=True)
    assert photographs.mos is not None and (len(photographs.judged), photographs.versions) == (32, 0)
    silent = {item.path.name for item, mos in zip(photographs.judged, photographs.mos, strict=True) if np.isnan(mos)}
    assert silent == {"03.jpg", "04.jpg"}
    assert "30 of 32 photographs that the gate judges have opinions" in capsys.readouterr().err


def test_too_few_opinions_are_not_held_and_it_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = without_opinions(run, tmp_path, 3)
    photographs = found(few)
    assert photographs.mos is None and photographs.versions == 32
    assert "29 of 32 photographs that the gate judges have opinions, too few" in capsys.readouterr().err
    with pytest.raises(DataError, match="--max-srcc-drop, and 29 of 32") as caught:
        found(few, hold_drop=True)
    assert "--data mos.csv" in caught.value.mend
    with pytest.raises(DataError, match="--max-srcc-drop, and 0 of 1"):
        found(hold_drop=True)


def test_named_calibration_images_take_the_place_of_the_runs(run: Path, tmp_path: Path) -> None:
    # What the run reserved may be among them; then it is not judged by.
    mine = photo_paths(run, range(35, 52))
    photographs = found(run, calibration=folder_of(tmp_path / "mine", mine), most=100)
    assert shown(photographs.training) == hashes(mine) and names(photographs.judged) == set(APART)


@pytest.mark.parametrize(
    ("calibration", "images", "words"),
    [
        ([0] * 20, range(30, 60), ("1 photographs to calibrate on: calibration", "--calibration FOLDER")),
        (range(15), range(30, 60), ("15 photographs to calibrate on: calibration", "at least 16")),
        (range(16), [40], ("1 photographs for the gate to judge: images", "--images FOLDER")),
        (range(16), [*range(30, 59), 30, 31], ("29 photographs for the gate to judge: images", "at least 30")),
        (range(60), range(60), ("0 photographs to calibrate on", "that the gate does not judge")),
    ],
)
def test_copies_and_versions_of_few_photographs_are_not_enough(
    calibration: Iterable[int], images: Iterable[int], words: tuple[str, ...], run: Path, tmp_path: Path
) -> None:
    named: dict[str, Any] = {
        "calibration": folder_of(tmp_path / "calibration", photo_paths(run, calibration)),
        "images": folder_of(tmp_path / "images", photo_paths(run, images)),
    }
    with pytest.raises(DataError) as caught:
        found(**named)
    assert not [word for word in words if word not in str(caught.value)], caught.value


def test_the_fewest_that_are_enough(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = folder_of(tmp_path / "calibration", photo_paths(run, [*range(16), 0, 1]))
    images = folder_of(tmp_path / "images", photo_paths(run, range(30, 60)))
    photographs = found(calibration=calibration, images=images, most=100)
    assert (len(shown(photographs.training)), len(shown(photographs.judged))) == (16, 30)
    assert "2 of 18 files are copies of others, and count once" in capsys.readouterr().err
    # What is only measured needs no gate.
    two = folder_of(tmp_path / "two", photo_paths(run, range(30, 32)))
    assert len(shown(found(calibration=calibration, images=two, gated=False).judged)) == 2


def test_a_run_that_reserved_few_says_to_name_others(run: Path, tmp_path: Path) -> None:
    images = folder_of(tmp_path / "images", photo_paths(run, range(50)))
    student = student_run(tmp_path / "runs", "distill", of_folder(images), photo_paths(run, range(7)))
    with pytest.raises(DataError, match=rf"7 photographs for the gate to judge: .* of {student.name}") as caught:
        found(student)
    assert "--images FOLDER" in caught.value.mend
    named = folder_of(tmp_path / "named", photo_paths(run, range(40)))
    with pytest.raises(DataError, match="7 photographs for the gate to judge: named"):
        found(student, images=named)


def test_without_a_run_the_samples_that_a_student_of_them_holds_out(capsys: pytest.CaptureFixture[str]) -> None:
    photographs = found()
    assert not names(photographs.training) & names(photographs.judged) and photographs.mos is None
    told = capsys.readouterr().err
    assert "sample photographs" in told and "--calibration FOLDER --images FOLDER" in told
    assert "sample photographs" in photographs.source
    assert shown(photographs.judged) == {photo.sha256 for photo in load_photographs(0, 1).heldout}
    usual: Any = next(option.default for option in distill.params if option.name == "selection")
    held_out = PhotographSource.of(of_folder(None)["photographs"]).load(None, usual, 0, 1).heldout
    assert shown(photographs.judged) == {photo.sha256 for photo in held_out}
    assert len(photographs.judged) == 1 + photographs.versions == 48


@pytest.mark.parametrize("kind", ["quickstart", "distill", "quantize"])
def test_a_run_of_the_samples(kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = sample_photographs()[2:3]
    settings = {"seed": 3} if kind == "quickstart" else of_folder(None)
    student = student_run(tmp_path / "runs", kind, settings, held_out)
    photographs = found(student)
    assert shown(photographs.judged) == hashes(held_out) and photographs.versions == 47
    assert shown(photographs.training) == hashes(set(sample_photographs()) - set(held_out))
    assert "sample photographs" in capsys.readouterr().err
    assert f"{student.name} (sample photographs)" in photographs.source
    # One's own are held to what one's own must be.
    with pytest.raises(DataError, match="1 photographs for the gate to judge: mine"):
        found(student, images=folder_of(tmp_path / "mine", photo_paths(run, [0])))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"data": Path("mos.csv")}, UsageError),
        ({"split": "test"}, UsageError),
        ({"calibration": Path("missing")}, DataError),
        ({"images": Path("missing")}, DataError),
    ],
)
def test_what_does_not_go_together_is_refused(run: Path, flags: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        found(run, **flags)


@pytest.mark.parametrize("side", ["calibration", "images"])
def test_one_side_alone_needs_a_run(run: Path, side: str, tmp_path: Path) -> None:
    named: dict[str, Any] = {side: run.parents[1] / "data/images"}
    for checkpoints in ((), (tmp_path,)):
        with pytest.raises(UsageError, match=f"--{side} alone, and no run"):
            found(*checkpoints, **named)


@pytest.mark.parametrize("table", ["image\n02.jpg\n", None])
def test_a_run_whose_table_is_broken(run: Path, tmp_path: Path, table: str | None) -> None:
    broken = shutil.copytree(run, tmp_path / "runs" / run.name)
    (broken / "selection.csv").unlink()
    if table is not None:
        (broken / "selection.csv").write_text(table)
    with pytest.raises(DataError, match=r"selection\.csv") as caught:
        found(broken)
    assert "--images FOLDER" in caught.value.mend


def test_a_photograph_that_cannot_be_read_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photograph")
    flags: tuple[dict[str, Any], ...] = ({"calibration": tmp_path}, {"images": tmp_path})
    for named in flags:
        with pytest.raises(DataError, match=r"broken\.jpg"):
            found(run, **named)


def test_a_distorted_version_is_given_as_a_file_of_its_pixels(run: Path) -> None:
    photographs = found(run)
    whole, distorted = (
        next(item for item in photographs.training if (item.distortion is None) == plain) for plain in (True, False)
    )
    assert whole_photograph(whole).data == whole.path.read_bytes() and name_item(whole) == whole.path.name
    given = whole_photograph(distorted)
    assert distorted.distortion is not None and distorted.distortion.kind in given.name
    pixels, before = np.asarray(Image.open(io.BytesIO(given.data))), np.asarray(Image.open(distorted.path))
    assert pixels.shape == before.shape and (pixels != before).any()
