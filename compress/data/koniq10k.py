"""KonIQ-10k, read from its own files.

Source: V. Hosu, H. Lin, T. Sziranyi and D. Saupe, "KonIQ-10k: An Ecologically Valid Database for Deep Learning of
Blind Image Quality Assessment", IEEE Transactions on Image Processing 29, 2020.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from ...runtime.errors import DataError
from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import Row, read_release_csv

__all__ = ["CATEGORY_RANGE", "CITATION", "SCORE_RANGE", "Scale", "read_koniq10k"]

CITATION = (
    "V. Hosu, H. Lin, T. Sziranyi and D. Saupe, KonIQ-10k: An Ecologically Valid Database for Deep Learning of Blind "
    "Image Quality Assessment, IEEE Transactions on Image Processing 29:4041-4056, 2020."
)
SCORE_RANGE = (1.0, 100.0)
CATEGORY_RANGE = (1.0, 5.0)

Scale = Literal["zscore", "categories"]

_SCORES = "koniq10k_scores_and_distributions.csv"
_SETS = "koniq10k_distributions_sets.csv"
_IMAGES = ("1024x768", "512x384")
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_MEND = "download it again from database.mmsp-kn.de/koniq-10k-database.html"
_MEND_SETS = "download it again from github.com/subpic/koniq, folder metadata"


def read_koniq10k(root: Path, *, scale: Scale = "zscore") -> Dataset:
    """Read the data set as it is distributed: 10,073 photographs.

    Scores are in ``koniq10k_scores_and_distributions.csv`` of the database's page, the official split in
    ``koniq10k_distributions_sets.csv`` of its authors' repository, which has the same scores on the scale
    ``zscore``. Either will do; with the first alone photographs have no split.

    Args:
        root: the folder of the tables, with the photographs in ``1024x768/`` or ``512x384/`` (the larger ones are
            taken where both are there).
        scale: ``zscore``: means of each rater's z-scores, mapped by the authors to 1 to 100, which is what is
            usually reported; they have no deviations. ``categories``: means of the five categories, 1 to 5, with
            the standard deviations of the opinions.

    Returns:
        Photographs in the order of the table, higher is better; splits ``train``, ``validation``, ``test``.

    Raises:
        DataError: a table or a photograph is missing, the tables are not as released, or do not name the same
            photographs.
    """
    images = _image_folder(root)
    scores, sets = root / _SCORES, root / _SETS
    of_sets: list[Row] = []
    if sets.is_file():
        of_sets = read_release_csv(sets, ("image_name", "MOS", "set"), key="image_name", mend=_MEND_SETS)
    if scores.is_file():
        column = "MOS_zscore" if scale == "zscore" else "MOS"
        rows = read_release_csv(scores, ("image_name", column, "SD"), key="image_name", mend=_MEND)
    elif of_sets and scale == "zscore":
        column, rows = "MOS", of_sets
    else:
        raise DataError(
            f"no {scores}" if of_sets else f"no {scores}, no {sets}",
            expected=_SCORES if scale == "categories" else f"{_SCORES}, or {_SETS}",
            mend="download it from database.mmsp-kn.de/koniq-10k-database.html and unpack it there",
        )
    splits = {row.cells["image_name"]: row.one_of("set", _SPLITS) for row in of_sets}
    photos = tuple(_photo(row, images, column, scale, splits) for row in rows)
    if splits and len(splits) != len(photos):
        raise DataError(
            f"{len(photos)} photographs in {scores} and {len(splits)} in {sets}",
            expected="the same ones in both",
            mend=_MEND_SETS,
        )
    require_files([photo.path for photo in photos], images)
    score_range = SCORE_RANGE if scale == "zscore" else CATEGORY_RANGE
    return Dataset(root=images, photos=photos, score_range=score_range, citation=CITATION)


def _image_folder(root: Path) -> Path:
    for name in _IMAGES:
        if (root / name).is_dir():
            return root / name
    raise DataError(
        f"no folder {root / _IMAGES[0]}, no folder {root / _IMAGES[1]}",
        expected="the photographs in one of them",
        mend=f"unpack koniq10k_{_IMAGES[0]}.zip into {root}",
    )


def _photo(row: Row, images: Path, column: str, scale: Scale, splits: dict[str, str]) -> LabelledPhoto:
    name = row.file_name("image_name")
    if splits and name not in splits:
        raise row.refusal("image_name", f"a photograph that {_SETS} names too")
    return LabelledPhoto(
        path=images / name,
        image=name,
        mos=row.number(column, *(SCORE_RANGE if scale == "zscore" else CATEGORY_RANGE)),
        mos_std=row.number("SD", 0.0, math.inf) if scale == "categories" else None,
        split=splits.get(name),
    )
