"""The photographs that quantization learns from and is judged by: never the same, never of another split."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.errors import DataError, UsageError
from edgeiqa.tools.export_photographs import ExportPhotographs, find_export_photographs, name_item, whole_photograph
from PIL import Image

from .teach_runs import save_labelled, sha256_of, teach_run

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


def test_without_opinions_the_gate_judges_distorted_versions_of_few_photographs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    images = run.parents[1] / "data/images"
    for name in ("00.jpg", "10.jpg", "67.jpg"):
        shutil.copy(images / name, folder / name)
    photographs = found(run, images=folder)
    # The first was learned from; the others were reserved, and of another split.
    assert photographs.mos is None and names(photographs.judged) == {"10.jpg", "67.jpg"}
    assert len(photographs.judged) >= 48


def test_a_photograph_that_is_judged_is_no_calibration_image(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(run.parents[1] / "data/images/10.jpg", folder / "10.jpg")
    photographs = found(calibration=run.parents[1] / "data/images", images=folder, most=100)
    (judged,) = sha256_of(run.parents[1] / "data", ["10.jpg"]).values()
    assert len(names(photographs.training)) == COUNT - 1
    assert judged not in {item.sha256 for item in photographs.training}


def test_a_table_gives_opinions_and_its_split(run: Path) -> None:
    data = run.parents[1] / "data"
    photographs = found(run, images=data / "images", data=data / "mos.csv", split="train")
    # Those that the run learned from are not judged.
    assert names(photographs.judged) == set(APART) and len(photographs.judged) == len(APART)
    assert photographs.mos is not None and "mos.csv" in photographs.source


def test_opinions_of_a_few_do_not_make_a_gate(run: Path) -> None:
    data = run.parents[1] / "data"
    photographs = found(run, images=data / "images", data=data / "mos.csv", split="test")
    assert names(photographs.judged) == {f"{number:02}.jpg" for number in range(COUNT - TEST, COUNT)}
    assert photographs.mos is None and len(photographs.judged) >= 48


def test_named_calibration_images_take_the_place_of_the_runs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(run.parents[1] / "data/images/40.jpg", folder / "40.jpg")
    photographs = found(run, calibration=folder)
    assert names(photographs.training) == {"40.jpg"} and names(photographs.judged) == set(APART)


def test_without_a_run_the_sample_photographs(capsys: pytest.CaptureFixture[str]) -> None:
    photographs = found()
    assert not names(photographs.training) & names(photographs.judged) and photographs.mos is None
    assert "sample photographs" in capsys.readouterr().err and "sample" in photographs.source


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


def test_the_same_folder_on_both_sides_leaves_nothing_to_calibrate_on(run: Path) -> None:
    images = run.parents[1] / "data/images"
    with pytest.raises(DataError, match="0 photographs to calibrate on"):
        found(calibration=images, images=images)


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
