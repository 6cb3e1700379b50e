from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.spaq import CITATION, read_spaq
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_table_workbook

TABLE = Path("Annotations") / "MOS and Image attribute scores.xlsx"
HEAD = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
ROWS: list[list[str | float]] = [
    ["00001.jpg", 48.86, 52.0, 51.5, 50.25, 49.0, 44.0],
    ["00002.jpg", 62.5, 60.0, 61.0, 59.0, 63.0, 64.0],
    ["00003.jpg", 77.25, 70.0, 71.0, 69.0, 73.0, 74.0],
]


def write_release(root: Path, *more: list[str | float], head: list[str] = HEAD) -> Path:
    write_table_workbook(root / TABLE, [head, *ROWS, *more])
    write_images(root / "TestImage", [str(row[0]) for row in ROWS])
    return root


def test_reads_the_release(tmp_path: Path) -> None:
    root = write_release(tmp_path / "SPAQ")
    dataset = read_spaq(root)
    assert dataset.root == root / "TestImage"
    assert [photo.image for photo in dataset.photos] == ["00001.jpg", "00002.jpg", "00003.jpg"]
    assert dataset.mos.tolist() == [48.86, 62.5, 77.25]
    assert all(photo.path.is_file() for photo in dataset.photos)
    assert all((photo.mos_std, photo.split, photo.scene) == (None, None, None) for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((0.0, 100.0), "global", CITATION)
    assert read_spaq(tmp_path) == dataset


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "TestImage" / "00002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*TestImage: 00002\.jpg"):
        read_spaq(root)
    (root / TABLE).unlink()
    with pytest.raises(DataError, match=r"no .*MOS and Image attribute scores\.xlsx; .*to mend: unpack SPAQ's parts"):
        read_spaq(root)


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / TABLE).write_bytes(b"Image name,MOS\n00001.jpg,48.86\n")
    with pytest.raises(DataError, match="cannot be read as a workbook"):
        read_spaq(root)


def test_tables_of_other_columns_or_without_rows_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns name, MOS, .*expected Image name, MOS, each once"):
        read_spaq(write_release(tmp_path, head=["name", *HEAD[1:]]))
    write_table_workbook(tmp_path / TABLE, [])
    with pytest.raises(DataError, match="columns none"):
        read_spaq(tmp_path)
    write_table_workbook(tmp_path / TABLE, [HEAD])
    with pytest.raises(DataError, match="without a row"):
        read_spaq(tmp_path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (["00004.jpg", "NaN", 1.0], "MOS 'NaN'; expected a number from 0 to 100"),
        (["00004.jpg", 101.5, 1.0], "MOS '101.5'"),
        (["00004.jpg", "", 1.0], "MOS ''"),
        (["", 50.0, 1.0], "Image name ''"),
        (["../00004.jpg", 50.0, 1.0], "Image name '../00004.jpg'"),
        (["00001.jpg", 50.0, 1.0], "Image name 00001.jpg again, as in"),
        (["00004.jpg", 50.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "8 cells; expected 7, as in the header"),
    ],
)
def test_rows_that_are_not_as_released_are_named(tmp_path: Path, row: list[str | float], told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_spaq(write_release(tmp_path, row))
    assert f"{TABLE} row 5" in caught.value.got
    assert told in str(caught.value)
