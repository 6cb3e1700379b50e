"""TID2013, the Tampere image database, read from its own files.

Source: N. Ponomarenko et al., "Image database TID2013: Peculiarities, results and perspectives", Signal Processing:
Image Communication 30, 2015.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...runtime.errors import DataError
from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import Row, checked_rows, inner_folder, require_tables

__all__ = ["CITATION", "SCORE_RANGE", "read_tid2013"]

CITATION = (
    "N. Ponomarenko, L. Jin, O. Ieremeiev, V. Lukin, K. Egiazarian, J. Astola, B. Vozel, K. Chehdi, M. Carli, "
    "F. Battisti and C.-C. J. Kuo, Image database TID2013: Peculiarities, results and perspectives, Signal "
    "Processing: Image Communication 30:57-77, 2015."
)
SCORE_RANGE = (0.0, 9.0)

_TABLE = "mos_with_names.txt"
# Reference, kind of distortion, level.
_NAME = re.compile(r"i(\d\d)_\d\d_\d\.bmp", re.ASCII | re.IGNORECASE)
_MEND = "download tid2013.rar again from www.ponomarenko.info/tid2013.htm"


def read_tid2013(root: Path) -> Dataset:
    """Read the data set as it is distributed: 3,000 images, 25 photographs distorted in 24 ways at 5 levels.

    The release writes the same name in different cases (``i01_11_1.bmp`` in the table, ``I01_11_1.BMP`` among the
    files), so files are found without regard to it; an image is named as its file is. ``mos_std.txt`` is not read:
    it holds the deviations of the mean scores, a sixth or so of those of the opinions, and the number of opinions
    is not told.

    Args:
        root: the folder of ``mos_with_names.txt`` and ``distorted_images/``, or the one that holds it as
            ``tid2013/``.

    Returns:
        Distorted images in the order of the table; MOS on 0 to 9, higher is better, without deviations; the scene
        is the undistorted photograph, ``I01`` to ``I25``. There is no official split.

    Raises:
        DataError: the table or an image is missing, the table is not as released, or two files differ in nothing
            but the case of their names.
    """
    base = inner_folder(root, "tid2013")
    table, images = base / _TABLE, base / "distorted_images"
    require_tables([table], mend="unpack tid2013.rar, and give the folder of mos_with_names.txt and distorted_images")
    rows = checked_rows(table, ("MOS", "name"), _lines(table), ("MOS", "name"), key="name", mend=_MEND)
    files = _files_by_lower_name(images)
    photos = tuple(_photo(row, images, files) for row in rows)
    require_files([photo.path for photo in photos], images)
    return Dataset(root=images, photos=photos, score_range=SCORE_RANGE, citation=CITATION)


def _lines(table: Path) -> list[tuple[str, list[str]]]:
    """A score and a name on each line; empty lines are passed over."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read ({error})", expected="the table as released", mend=_MEND) from error
    return [(f"{table} line {number}", line.split()) for number, line in enumerate(lines, start=1) if line.strip()]


def _files_by_lower_name(images: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(path.name for path in images.iterdir()) if images.is_dir() else ():
        other = found.setdefault(name.lower(), name)
        if other != name:
            raise DataError(
                f"{images} with {other} and {name}",
                expected="names that differ in more than their case",
                mend="remove the one that is not of the release",
            )
    return found


def _photo(row: Row, images: Path, files: Mapping[str, str]) -> LabelledPhoto:
    match = _NAME.fullmatch(row.cells["name"])
    if match is None:
        raise row.refusal("name", "a name such as i01_02_3.bmp")
    # Where the file is missing, its name in the table is what is reported.
    name = files.get(match.group().lower(), match.group())
    return LabelledPhoto(
        path=images / name, image=name, mos=row.number("MOS", *SCORE_RANGE), scene=f"I{match.group(1)}"
    )
