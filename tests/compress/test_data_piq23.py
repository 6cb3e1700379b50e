from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.dataset import select
from edgeiqa.compress.data.piq23 import CITATION, Attribute, OfficialSplit, read_piq23
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text

HEAD = (
    "IMAGE PATH,JOD,JOD STD,CI LOW,CI HIGH,CI RANGE,QUALITY LEVEL,CLUSTER,TOTAL COMPARISONS,IMAGE,SCENE,ATTRIBUTE,"
    "SCENE IDX,CONDITION"
)
NAMES = ["66_Indoor_Scene_1.jpg", "31_Indoor_Scene_1.tiff", "1000_Indoor_Scene_10.JPG"]
JODS = [-3.720674450398623, -1.7475344653642728, 2.2557021680944613]
SCENES = ["Indoor_Scene_1", "Indoor_Scene_1", "Indoor_Scene_10"]


def line_of(attribute: str, name: str, jod: object, scene: str) -> str:
    return f"{attribute}\\{name},{jod},0.39,-4.4,-2.8,1.5,0,-1.0,143.0,{name},{scene},{attribute},1,Indoor"


def write_release(
    root: Path, *more: str, attribute: Attribute = "Overall", scores: str = "", splits: str = "Test split"
) -> Path:
    lines = [line_of(attribute, *row) for row in zip(NAMES, JODS, SCENES, strict=True)]
    write_text(root / scores / f"Scores_{attribute}.csv", HEAD, *lines, *more)
    write_images(root / attribute, NAMES)
    device = [f"{name},{part}" for name, part in zip(NAMES, ("Train", "Test", "Train"), strict=True)]
    write_text(root / splits / "Device Split.csv", "IMAGE,SPLIT", *device)
    write_text(
        root / splits / "Scene Split.csv",
        "SCENE,SPLIT,NB IMAGES",
        *("Indoor_Scene_10,Test,125", "Indoor_Scene_1,Train,124", "Outdoor_Scene_46,Test,74"),
    )
    return root


@pytest.mark.parametrize(("scores", "splits"), [("", "Test split"), ("Scores", "Test split"), ("", "")])
def test_reads_the_release(tmp_path: Path, scores: str, splits: str) -> None:
    dataset = read_piq23(write_release(tmp_path, scores=scores, splits=splits))
    assert dataset.root == tmp_path
    assert [photo.image for photo in dataset.photos] == [f"Overall/{name}" for name in NAMES]
    assert dataset.mos.tolist() == JODS
    assert [photo.scene for photo in dataset.photos] == SCENES
    assert [photo.split for photo in dataset.photos] == ["train", "test", "train"]
    assert all(photo.path.is_file() and photo.mos_std is None for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((-10.0, 10.0), "scene", CITATION)


def test_the_split_of_scenes_does_not_take_scene_10_for_scene_1(tmp_path: Path) -> None:
    dataset = read_piq23(write_release(tmp_path), split="scene")
    assert [photo.split for photo in dataset.photos] == ["train", "train", "test"]
    assert [photo.scene for photo in select(dataset, split="test").photos] == ["Indoor_Scene_10"]


def test_reads_another_attribute_and_no_split(tmp_path: Path) -> None:
    write_release(tmp_path, attribute="Exposure", splits="elsewhere")
    dataset = read_piq23(tmp_path, attribute="Exposure", split="none")
    assert [photo.image for photo in dataset.photos] == [f"Exposure/{name}" for name in NAMES]
    assert {photo.split for photo in dataset.photos} == {None}


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path, splits="elsewhere")
    with pytest.raises(DataError, match=r"no \S*Device Split\.csv; .*github.com/DXOMARK-Research/PIQ2023.*'none'"):
        read_piq23(root)
    with pytest.raises(DataError, match=r"no \S*Scores_Details\.csv, no \S*Scene Split\.csv"):
        read_piq23(root, attribute="Details", split="scene")
    write_release(root)
    (root / "Overall" / NAMES[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*: Overall/31_Indoor_Scene_1\.tiff"):
        read_piq23(root)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (line_of("Overall", "5_Indoor_Scene_1.jpg", "nan", "Indoor_Scene_1"), "JOD 'nan'; expected a number from -10"),
        (line_of("Overall", "5_Indoor_Scene_1.jpg", "11", "Indoor_Scene_1"), "JOD '11'"),
        (line_of("Details", "5_Indoor_Scene_1.jpg", "1", "Indoor_Scene_1"), "IMAGE PATH 'Details\\\\5_Indoor"),
        (line_of("..\\Overall", "5_Indoor_Scene_1.jpg", "1", "Indoor_Scene_1"), "IMAGE PATH '..\\\\Overall"),
        (line_of("Overall", "..", "1", "Indoor_Scene_1"), "IMAGE '..'"),
        (line_of("Overall", "5_Indoor_Scene_1.jpg", "1", ""), "SCENE ''"),
        (line_of("Overall", NAMES[0], "1", "Indoor_Scene_1"), f"IMAGE PATH Overall\\{NAMES[0]} again"),
    ],
)
def test_rows_that_are_not_as_released_are_named(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_piq23(write_release(tmp_path, line), split="none")
    assert "Scores_Overall.csv line 5" in caught.value.got
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("device", "IMAGE '5_Indoor_Scene_2.jpg'; expected one that Device Split.csv puts into a part"),
        ("scene", "SCENE 'Indoor_Scene_2'; expected one that Scene Split.csv puts into a part"),
    ],
)
def test_a_photograph_that_the_split_does_not_name_is_told(tmp_path: Path, split: OfficialSplit, told: str) -> None:
    root = write_release(tmp_path, line_of("Overall", "5_Indoor_Scene_2.jpg", 1, "Indoor_Scene_2"))
    with pytest.raises(DataError) as caught:
        read_piq23(root, split=split)
    assert told in str(caught.value)


def test_a_part_of_another_name_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_text(root / "Test split" / "Device Split.csv", "IMAGE,SPLIT", f"{NAMES[0]},Val")
    with pytest.raises(DataError, match=r"Device Split\.csv line 2: SPLIT 'Val'; expected one of Train, Test"):
        read_piq23(root)
