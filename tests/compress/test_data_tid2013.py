from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.tid2013 import CITATION, read_tid2013
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text

TABLE = "mos_with_names.txt"
LINES = ["5.51429 I01_01_1.bmp", "5.91429 i01_11_1.bmp", "0.42105 i25_24_5.bmp"]
FILES = ["I01_01_1.bmp", "I01_11_1.BMP", "i25_24_5.bmp"]


def write_release(root: Path, *more: str) -> Path:
    write_text(root / TABLE, *(f"{line}\r" for line in (*LINES, *more)))
    write_images(root / "distorted_images", FILES)
    write_images(root / "reference_images", ["I01.BMP", "i25.bmp"])
    return root


def test_reads_the_release_whatever_the_case_of_a_name(tmp_path: Path) -> None:
    root = write_release(tmp_path / "tid2013", "")
    dataset = read_tid2013(root)
    assert dataset.root == root / "distorted_images"
    assert [photo.image for photo in dataset.photos] == FILES
    assert dataset.mos.tolist() == [5.51429, 5.91429, 0.42105]
    assert [photo.scene for photo in dataset.photos] == ["I01", "I01", "I25"]
    assert all(photo.path == dataset.root / photo.image and photo.path.is_file() for photo in dataset.photos)
    assert all(photo.mos_std is None and photo.split is None for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((0.0, 9.0), "global", CITATION)
    assert read_tid2013(tmp_path) == dataset


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "distorted_images" / FILES[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*distorted_images: i01_11_1\.bmp"):
        read_tid2013(root)
    (root / TABLE).unlink()
    with pytest.raises(DataError, match=r"no \S*mos_with_names\.txt; .*to mend: unpack tid2013\.rar"):
        read_tid2013(root)
    write_text(root / TABLE, *LINES)
    for path in (root / "distorted_images").iterdir():
        path.unlink()
    (root / "distorted_images").rmdir()
    with pytest.raises(DataError, match="3 of 3 photographs not in"):
        read_tid2013(root)


def test_files_that_differ_in_case_alone_are_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    write_images(root / "distorted_images", ["i01_11_1.bmp"])
    with pytest.raises(DataError, match=r"with I01_11_1\.BMP and i01_11_1\.bmp; .*more than their case"):
        read_tid2013(root)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nan i02_01_1.bmp", "MOS 'nan'; expected a number from 0 to 9"),
        ("9.5 i02_01_1.bmp", "MOS '9.5'"),
        ("5.5 ../i02_01_1.bmp", "name '../i02_01_1.bmp'; expected a name such as i01_02_3.bmp"),
        ("5.5 i02.bmp", "name 'i02.bmp'"),
        ("5.5 i\u0660\u0662_01_1.bmp", "name 'i\u0660\u0662_01_1.bmp'"),
        ("5.5 I01_01_1.bmp", "name I01_01_1.bmp again, as in"),
        ("5.5", "1 cells; expected 2"),
        ("5.5 i02_01_1.bmp 0.13", "3 cells; expected 2"),
    ],
)
def test_lines_that_are_not_as_released_are_named(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tid2013(write_release(tmp_path, line))
    assert f"{TABLE} line 4" in caught.value.got
    assert told in str(caught.value)


def test_one_image_in_two_cases_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the image I01_01_1\.bmp twice"):
        read_tid2013(write_release(tmp_path, "5.5 i01_01_1.bmp"))


def test_a_table_without_lines_or_of_other_bytes_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / TABLE).write_bytes(b"\n")
    with pytest.raises(DataError, match=r"mos_with_names\.txt without a row"):
        read_tid2013(root)
    (root / TABLE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"mos_with_names\.txt cannot be read"):
        read_tid2013(root)
