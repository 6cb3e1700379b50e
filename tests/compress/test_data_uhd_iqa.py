from __future__ import annotations

import csv
from pathlib import Path

import pytest
from edgeiqa.compress.data.uhd_iqa import CITATION, read_uhd_iqa
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text

TABLE = "uhd-iqa-metadata.csv"
HEAD = '"image_name","quality_mos","set","subset","orig_width","user_name","page_url"'
LINES = [
    '"1.jpg",0.76,"training",NA,5515,"congerdesign","https://pixabay.com/photos/book-2363881/"',
    '"4.jpg",0.5745,"test","exclusive",5456,"Efraimstochter","https://pixabay.com/photos/gnome-785555/"',
    '"8.jpg",0.613,"validation",NA,4272,"Amber_Avalona","https://pixabay.com/photos/light-1422440/"',
]
IMAGES = ["training/1.jpg", "test/4.jpg", "validation/8.jpg"]
CHALLENGE_HEAD = '"image_name","quality_mos","set","orig_width"'
CHALLENGE_LINES = ['"1.jpg",0.76,"training",5515', '"2.jpg",0.7585,"training",4850']


def write_release(root: Path, lines: list[str] = LINES) -> Path:
    write_text(root / TABLE, HEAD, *lines)
    write_images(root, IMAGES)
    return root


def test_reads_the_database(tmp_path: Path) -> None:
    root = write_release(tmp_path / "UHD-IQA-database")
    dataset = read_uhd_iqa(root)
    assert dataset.root == root
    assert [photo.image for photo in dataset.photos] == IMAGES
    assert dataset.mos.tolist() == [0.76, 0.5745, 0.613]
    assert [photo.split for photo in dataset.photos] == ["train", "test", "validation"]
    assert all(photo.path.is_file() and photo.mos_std is None and photo.scene is None for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((0.0, 1.0), "global", CITATION)
    assert read_uhd_iqa(tmp_path) == dataset


@pytest.mark.parametrize("beside", ["", "challenge"])
def test_reads_what_the_challenge_gave_out(tmp_path: Path, beside: str) -> None:
    write_text(tmp_path / beside / "uhd-iqa-training-metadata.csv", CHALLENGE_HEAD, *CHALLENGE_LINES)
    write_images(tmp_path / "challenge", ["training/1.jpg", "training/2.jpg", "validation/8.jpg"])
    dataset = read_uhd_iqa(tmp_path)
    assert dataset.root == tmp_path / "challenge"
    assert [(photo.image, photo.split) for photo in dataset.photos] == [
        ("training/1.jpg", "train"),
        ("training/2.jpg", "train"),
    ]
    write_text(tmp_path / "uhd-iqa-validation-metadata.csv", CHALLENGE_HEAD, '"8.jpg",0.613,"validation",4272')
    assert [photo.image for photo in read_uhd_iqa(tmp_path).photos][2:] == ["validation/8.jpg"]
    write_text(tmp_path / TABLE, HEAD, LINES[2])
    assert [photo.image for photo in read_uhd_iqa(tmp_path).photos] == ["validation/8.jpg"]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_reads_real_scores(data_root: Path, tmp_path: Path, part: str) -> None:
    with (data_root / "fixtures" / f"uhd_iqa_{part}_lar_iqa.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / part).mkdir()
    for row in rows:
        (tmp_path / part / row["image"]).touch()
    write_text(tmp_path / TABLE, "image_name,quality_mos,set", *(f"{row['image']},{row['mos']},{part}" for row in rows))
    dataset = read_uhd_iqa(tmp_path)
    assert len(dataset.photos) == {"validation": 904, "test": 900}[part]
    assert dataset.mos.tolist() == [float(row["mos"]) for row in rows]


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "test" / "4.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*: test/4\.jpg"):
        read_uhd_iqa(root)
    (root / TABLE).unlink()
    with pytest.raises(DataError, match=r"no \S*uhd-iqa-metadata\.csv, no \S*uhd-iqa-training-metadata\.csv"):
        read_uhd_iqa(root)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('"5.jpg",NA,"training",NA,1,"u","p"', "quality_mos 'NA'; expected a number from 0 to 1"),
        ('"5.jpg",76,"training",NA,1,"u","p"', "quality_mos '76'"),
        ('"5.jpg",nan,"training",NA,1,"u","p"', "quality_mos 'nan'"),
        ('"5.jpg",0.5,"..",NA,1,"u","p"', "set '..'; expected one of training, validation, test"),
        ('"../5.jpg",0.5,"test",NA,1,"u","p"', "image_name '../5.jpg'"),
        ('"8.jpg",0.5,"validation",NA,1,"u","p"', "image_name 8.jpg again"),
    ],
)
def test_rows_that_are_not_as_released_are_named(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_uhd_iqa(write_release(tmp_path, [*LINES, line]))
    assert f"{TABLE} line 5" in caught.value.got
    assert told in str(caught.value)


def test_an_image_in_two_tables_of_the_challenge_is_told(tmp_path: Path) -> None:
    write_images(tmp_path, ["training/1.jpg", "training/2.jpg"])
    for part in ("training", "validation"):
        write_text(tmp_path / f"uhd-iqa-{part}-metadata.csv", CHALLENGE_HEAD, *CHALLENGE_LINES)
    with pytest.raises(DataError, match=r"the image training/1\.jpg twice"):
        read_uhd_iqa(tmp_path)
