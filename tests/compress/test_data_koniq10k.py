from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from edgeiqa.compress.data.dataset import select
from edgeiqa.compress.data.koniq10k import CITATION, Scale, read_koniq10k
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text

SCORES = "koniq10k_scores_and_distributions.csv"
SETS = "koniq10k_distributions_sets.csv"
NAMES = ["10004473376.jpg", "10007357496.jpg", "9999863803.jpg"]
SCORES_HEAD = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"'
SCORES_LINES = [
    '"10004473376.jpg",0,0,25,73,7,105,3.82857142857143,0.527277894494,77.3836206897',
    '"10007357496.jpg",0,3,45,47,1,96,3.47916666666667,0.580003024795,68.7285714286',
    '"9999863803.jpg",20,50,30,4,0,104,2.17307692307692,0.7,35.5',
]
SETS_HEAD = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"
SETS_LINES = [
    "10004473376.jpg,0.0,0.0,0.238095238095,0.695238095238,0.0666666666667,105,77.3836206897,0.527277894494,training",
    "10007357496.jpg,0.0,0.03125,0.46875,0.489583333333,0.0104166666667,96,68.7285714286,0.580003024795,test",
    "9999863803.jpg,0.19,0.48,0.29,0.04,0.0,104,35.5,0.7,validation",
]


def write_release(root: Path, images: str = "1024x768") -> Path:
    write_images(root / images, NAMES)
    write_text(root / SCORES, SCORES_HEAD, *SCORES_LINES)
    write_text(root / SETS, SETS_HEAD, *SETS_LINES)
    return root


def test_reads_scores_of_one_table_and_splits_of_the_other(tmp_path: Path) -> None:
    dataset = read_koniq10k(write_release(tmp_path))
    assert dataset.root == tmp_path / "1024x768"
    assert [photo.image for photo in dataset.photos] == NAMES
    assert dataset.mos.tolist() == [77.3836206897, 68.7285714286, 35.5]
    assert [photo.mos_std for photo in dataset.photos] == [None, None, None]
    assert [photo.split for photo in dataset.photos] == ["train", "test", "validation"]
    assert all(photo.path.is_file() and photo.scene is None for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((1.0, 100.0), "global", CITATION)


def test_the_scale_of_the_categories_has_the_deviations_that_belong_to_it(tmp_path: Path) -> None:
    dataset = read_koniq10k(write_release(tmp_path), scale="categories")
    assert dataset.score_range == (1.0, 5.0)
    assert dataset.mos.tolist() == [3.82857142857143, 3.47916666666667, 2.17307692307692]
    assert [photo.mos_std for photo in dataset.photos] == [0.527277894494, 0.580003024795, 0.7]
    assert [photo.split for photo in dataset.photos] == ["train", "test", "validation"]


def test_either_table_will_do(tmp_path: Path) -> None:
    write_release(tmp_path)
    both = read_koniq10k(tmp_path)
    (tmp_path / SCORES).unlink()
    assert read_koniq10k(tmp_path) == both
    write_release(tmp_path)
    (tmp_path / SETS).unlink()
    alone = read_koniq10k(tmp_path)
    assert alone.mos.tolist() == both.mos.tolist()
    assert {photo.split for photo in alone.photos} == {None}


def test_smaller_photographs_are_taken_where_there_are_no_larger_ones(tmp_path: Path) -> None:
    write_release(tmp_path, "512x384")
    assert read_koniq10k(tmp_path).root == tmp_path / "512x384"
    write_images(tmp_path / "1024x768", NAMES)
    assert read_koniq10k(tmp_path).root == tmp_path / "1024x768"


def test_reads_the_table_of_the_authors_as_it_is(data_root: Path, tmp_path: Path) -> None:
    table = data_root / "fixtures" / SETS
    (tmp_path / SETS).write_bytes(table.read_bytes())
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "512x384").mkdir()
    for row in rows:
        (tmp_path / "512x384" / row["image_name"]).touch()
    dataset = read_koniq10k(tmp_path)
    assert len(dataset.photos) == 10073
    assert Counter(photo.split for photo in dataset.photos) == {"train": 7058, "validation": 1000, "test": 2015}
    assert dataset.mos.tolist() == [float(row["MOS"]) for row in rows]
    assert len(select(dataset, split="test").photos) == 2015


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "1024x768" / NAMES[1]).unlink()
    with pytest.raises(DataError, match=rf"1 of 3 photographs not in .*1024x768: {NAMES[1]}"):
        read_koniq10k(root)
    (root / SCORES).unlink()
    with pytest.raises(DataError, match=rf"no \S*{SCORES}; expected {SCORES}; to mend: download"):
        read_koniq10k(root, scale="categories")
    (root / SETS).unlink()
    with pytest.raises(DataError, match=rf"no \S*{SCORES}, no \S*{SETS}; expected {SCORES}, or {SETS}"):
        read_koniq10k(root)
    with pytest.raises(DataError, match=r"no folder \S*1024x768, no folder \S*512x384"):
        read_koniq10k(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("scale", "line", "told"),
    [
        ("zscore", '"a.jpg",0,0,1,1,0,2,3.5,.5,NaN', "MOS_zscore 'NaN'; expected a number from 1 to 100"),
        ("zscore", '"a.jpg",0,0,1,1,0,2,3.5,.5,100.5', "MOS_zscore '100.5'"),
        ("categories", '"a.jpg",0,0,1,1,0,2,77.4,.5,77.4', "MOS '77.4'; expected a number from 1 to 5"),
        ("categories", '"a.jpg",0,0,1,1,0,2,3.5,inf,77.4', "SD 'inf'"),
        ("zscore", '"../a.jpg",0,0,1,1,0,2,3.5,.5,70', "image_name '../a.jpg'"),
        ("zscore", '"a.jpg",0,0,1,1,0,2,3.5,.5', "9 cells"),
    ],
)
def test_rows_that_are_not_as_released_are_named(tmp_path: Path, scale: Scale, line: str, told: str) -> None:
    write_images(tmp_path / "1024x768", [*NAMES, "a.jpg"])
    write_text(tmp_path / SCORES, SCORES_HEAD, *SCORES_LINES, line)
    with pytest.raises(DataError) as caught:
        read_koniq10k(tmp_path, scale=scale)
    assert f"{SCORES} line 5" in caught.value.got
    assert told in str(caught.value)


def test_a_photograph_twice_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_text(root / SCORES, SCORES_HEAD, *SCORES_LINES, SCORES_LINES[0])
    with pytest.raises(DataError, match=rf"line 5: image_name {NAMES[0]} again, as in .* line 2"):
        read_koniq10k(root)


def test_tables_that_do_not_name_the_same_photographs_are_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_text(root / SETS, SETS_HEAD, *SETS_LINES[:2])
    with pytest.raises(DataError, match=rf"line 4: image_name '{NAMES[2]}'; expected a photograph that {SETS} names"):
        read_koniq10k(root)
    write_text(root / SETS, SETS_HEAD, *SETS_LINES)
    write_text(root / SCORES, SCORES_HEAD, *SCORES_LINES[:2])
    with pytest.raises(DataError, match=r"2 photographs in .* and 3 in .*expected the same ones in both"):
        read_koniq10k(root)


def test_a_set_of_another_name_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_text(root / SETS, SETS_HEAD, *SETS_LINES[:2], SETS_LINES[2].replace("validation", "valid"))
    with pytest.raises(DataError, match=r"line 4: set 'valid'; expected one of training, validation, test"):
        read_koniq10k(root)
