from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.kadid10k import CITATION, read_kadid10k
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text

HEAD = "dist_img,ref_img,dmos,var"
LINES = ["I01_01_01.png,I01.png,4.57,0.496", "I01_01_02.png,I01.png,4.33,0.869", "I81_25_05.png,I81.png,1,0"]
NAMES = ["I01_01_01.png", "I01_01_02.png", "I81_25_05.png"]


def write_release(root: Path, *more: str) -> Path:
    write_text(root / "dmos.csv", HEAD, *LINES, *more)
    write_images(root / "images", ["I01.png", "I81.png", *NAMES])
    return root


def test_reads_the_release(tmp_path: Path) -> None:
    root = write_release(tmp_path / "kadid10k")
    dataset = read_kadid10k(root)
    assert dataset.root == root / "images"
    assert [photo.image for photo in dataset.photos] == NAMES
    assert dataset.mos.tolist() == [4.57, 4.33, 1.0]
    assert [photo.mos_std for photo in dataset.photos] == [0.496, 0.869, 0.0]
    assert [photo.scene for photo in dataset.photos] == ["I01", "I01", "I81"]
    assert all(photo.path.is_file() and photo.split is None for photo in dataset.photos)
    assert (dataset.score_range, dataset.comparable, dataset.citation) == ((1.0, 5.0), "global", CITATION)
    assert read_kadid10k(tmp_path) == dataset


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "images" / NAMES[2]).unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*images: I81_25_05\.png"):
        read_kadid10k(root)
    (root / "dmos.csv").unlink()
    with pytest.raises(DataError, match=r"no \S*dmos\.csv; .*to mend: unpack kadid10k\.zip"):
        read_kadid10k(root)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("I02_01_01.png,I02.png,nan,0.5", "dmos 'nan'; expected a number from 1 to 5"),
        ("I02_01_01.png,I02.png,5.2,0.5", "dmos '5.2'"),
        ("I02_01_01.png,I02.png,4.2,-0.5", "var '-0.5'; expected a number from 0 to 4"),
        ("I02_01_01.png,I02.png,4.2,", "var ''"),
        ("../I02_01_01.png,I02.png,4.2,0.5", "dist_img '../I02_01_01.png'"),
        ("I02_01_01.png,a/I02.png,4.2,0.5", "ref_img 'a/I02.png'"),
        ("I02_01_01.png,I03.png,4.2,0.5", "ref_img 'I03.png'; expected the photograph that I02_01_01.png was made of"),
        ("I01_01_01.png,I01.png,4.2,0.5", "dist_img I01_01_01.png again"),
        ("I02_01_01.png,I02.png,4.2", "3 cells"),
    ],
)
def test_rows_that_are_not_as_released_are_named(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read_kadid10k(write_release(tmp_path, line))
    assert "dmos.csv line 5" in caught.value.got
    assert told in str(caught.value)
