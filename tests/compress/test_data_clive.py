from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.compress.data.clive import read_clive
from edgeiqa.runtime.errors import DataError, MissingExtraError
from scipy.io import savemat

NAMES = [f"t{index}.bmp" for index in range(1, 8)] + ["3.bmp", "4.bmp", "10.JPG"]
MOS = np.linspace(5, 95, len(NAMES))
MOS_STD = np.linspace(10, 20, len(NAMES))


def write_release(folder: Path, mos: np.ndarray = MOS) -> Path:
    """The release's layout: a column of cells, rows of numbers, the first seven photographs apart."""
    root = folder / "ChallengeDB_release"
    (root / "Data").mkdir(parents=True)
    (root / "Images" / "trainingImages").mkdir(parents=True)
    cells = np.empty((len(NAMES), 1), dtype=object)
    cells[:, 0] = NAMES
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": mos[None]})
    savemat(root / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": MOS_STD[None]})
    for index, name in enumerate(NAMES):
        place = root / "Images" / ("trainingImages" if index < 7 else "")
        (place / name).write_bytes(b"pixels of " + name.encode())
    return root


def test_reads_the_release_without_the_seven_training_images(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    dataset = read_clive(root)
    assert [photo.image for photo in dataset.photos] == ["3.bmp", "4.bmp", "10.JPG"]
    np.testing.assert_allclose(dataset.mos, MOS[7:])
    np.testing.assert_allclose([photo.mos_std or 0 for photo in dataset.photos], MOS_STD[7:])
    assert all(photo.path.is_file() for photo in dataset.photos)
    assert dataset.score_range == (0.0, 100.0)
    assert dataset.comparable == "global"
    assert "Ghadiyaram" in dataset.citation
    assert read_clive(tmp_path) == dataset


def test_takes_the_training_images_when_asked(tmp_path: Path) -> None:
    dataset = read_clive(write_release(tmp_path), training_images=True)
    assert len(dataset.photos) == 10
    assert dataset.photos[0].image == "trainingImages/t1.bmp"
    assert dataset.photos[0].path.read_bytes() == b"pixels of t1.bmp"


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "Images" / "4.bmp").unlink()
    with pytest.raises(DataError, match=r"1 of 3 photographs not in .*: 4\.bmp"):
        read_clive(root)
    (root / "Data" / "AllMOS_release.mat").unlink()
    with pytest.raises(DataError, match=r"no .*AllMOS_release\.mat; expected .*unpack ChallengeDB_release\.zip"):
        read_clive(root)


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    (root / "Data" / "AllMOS_release.mat").write_bytes(b"not a MATLAB file")
    with pytest.raises(DataError, match=r"AllMOS_release\.mat cannot be read"):
        read_clive(root)


def test_tables_of_other_lengths_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10 names, 9 scores and 10 deviations"):
        read_clive(write_release(tmp_path, MOS[1:]))


def test_a_score_that_is_not_a_number_is_told(tmp_path: Path) -> None:
    mos = MOS.copy()
    mos[8] = np.nan
    with pytest.raises(DataError, match=r"MOS of 4\.bmp"):
        read_clive(write_release(tmp_path, mos))


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_release(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[evaluate\]"'):
        read_clive(root)
