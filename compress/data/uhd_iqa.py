"""UHD-IQA, read from its own files.

Source: V. Hosu, L. Agnolucci, O. Wiedemann, D. Iso and D. Saupe, "UHD-IQA Benchmark Database: Pushing the Boundaries
of Blind Photo Quality Assessment", ECCV Workshops, 2024.
"""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import DataError
from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import Row, inner_folder, read_release_csv

__all__ = ["CITATION", "SCORE_RANGE", "read_uhd_iqa"]

CITATION = (
    "V. Hosu, L. Agnolucci, O. Wiedemann, D. Iso and D. Saupe, UHD-IQA Benchmark Database: Pushing the Boundaries of "
    "Blind Photo Quality Assessment, Computer Vision - ECCV 2024 Workshops, 2024, arXiv:2406.17472."
)
SCORE_RANGE = (0.0, 1.0)

_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_TABLE = "uhd-iqa-metadata.csv"
_CHALLENGE_TABLES = tuple(f"uhd-iqa-{name}-metadata.csv" for name in _SPLITS)
_MEND = "download it again from database.mmsp-kn.de/uhd-iqa-benchmark-database.html"


def read_uhd_iqa(root: Path) -> Dataset:
    """Read the data set as it is distributed: 6,073 photographs, 3840 pixels wide.

    The database has ``uhd-iqa-metadata.csv`` beside ``training/``, ``validation/`` and ``test/``. What was given
    out for the AIM 2024 challenge has ``uhd-iqa-training-metadata.csv`` (4,269 photographs) and the folders inside
    ``challenge/``; its scores of the other two parts are read from tables named alike where there are such.

    Args:
        root: the folder of the table, or the one that holds it as ``UHD-IQA-database/``.

    Returns:
        Photographs in the order of the table; MOS on 0 to 1, higher is better, without deviations; splits
        ``train``, ``validation``, ``test``.

    Raises:
        DataError: no table is there, a photograph is missing, or a table is not as released.
    """
    base = inner_folder(root, "UHD-IQA-database")
    images = inner_folder(base, "challenge")
    photos = tuple(
        _photo(row, images)
        for table in _tables(base, images)
        for row in read_release_csv(table, ("image_name", "quality_mos", "set"), key="image_name", mend=_MEND)
    )
    require_files([photo.path for photo in photos], images)
    return Dataset(root=images, photos=photos, score_range=SCORE_RANGE, citation=CITATION)


def _tables(base: Path, images: Path) -> list[Path]:
    """The table of all photographs, or else those of the challenge's parts, beside the folders or above them."""
    for names in ((_TABLE,), _CHALLENGE_TABLES):
        tables = [base / name if (base / name).is_file() else images / name for name in names]
        found = [table for table in tables if table.is_file()]
        if found:
            return found
    raise DataError(
        f"no {base / _TABLE}, no {base / _CHALLENGE_TABLES[0]}",
        expected=f"{_TABLE} of the database, or {_CHALLENGE_TABLES[0]} of the challenge",
        mend="unpack the database and its metadata into one folder, and give that",
    )


def _photo(row: Row, images: Path) -> LabelledPhoto:
    split = row.one_of("set", _SPLITS)
    image = f"{row.cells['set']}/{row.file_name('image_name')}"
    return LabelledPhoto(path=images / image, image=image, mos=row.number("quality_mos", *SCORE_RANGE), split=split)
