"""SPAQ, the Smartphone Photography Attribute and Quality database, read from its own files.

Source: Y. Fang, H. Zhu, Y. Zeng, K. Ma and Z. Wang, "Perceptual Quality Assessment of Smartphone Photography", CVPR
2020.
"""

from __future__ import annotations

from pathlib import Path

from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import checked_rows, inner_folder, require_tables
from .spreadsheet import read_first_sheet

__all__ = ["CITATION", "SCORE_RANGE", "read_spaq"]

CITATION = (
    "Y. Fang, H. Zhu, Y. Zeng, K. Ma and Z. Wang, Perceptual Quality Assessment of Smartphone Photography, IEEE "
    "Conference on Computer Vision and Pattern Recognition, pages 3677-3686, 2020."
)
SCORE_RANGE = (0.0, 100.0)

_TABLE = Path("Annotations") / "MOS and Image attribute scores.xlsx"
_MEND = "download SPAQ again (github.com/h4nwei/SPAQ)"


def read_spaq(root: Path) -> Dataset:
    """Read the data set as it is distributed: 11,125 photographs of 66 smartphones.

    Args:
        root: the folder of ``Annotations/`` and ``TestImage/``, or the one that holds it as ``SPAQ/``.

    Returns:
        Photographs in the order of the table; MOS on 0 to 100, higher is better. The release has no deviations and
        no split; the scores of attributes and the categories of scenes are not read.

    Raises:
        DataError: the table or a photograph is missing, or the table is not as released.
    """
    base = inner_folder(root, "SPAQ")
    table, images = base / _TABLE, base / "TestImage"
    require_tables([table], mend="unpack SPAQ's parts together, and give the folder of Annotations and TestImage")
    sheet = read_first_sheet(table)
    titles = sheet[0][1] if sheet else {}
    width = max(titles, default=-1) + 1
    rows = checked_rows(
        table,
        [titles.get(column, "") for column in range(width)],
        # A row that is longer than the header keeps its further cells, and is refused for them.
        (
            (f"{table} row {number}", [cells.get(column, "") for column in range(max(width, max(cells) + 1))])
            for number, cells in sheet[1:]
        ),
        ("Image name", "MOS"),
        key="Image name",
        mend=_MEND,
    )
    photos = tuple(
        LabelledPhoto(
            path=images / row.file_name("Image name"),
            image=row.file_name("Image name"),
            mos=row.number("MOS", *SCORE_RANGE),
        )
        for row in rows
    )
    require_files([photo.path for photo in photos], images)
    return Dataset(root=images, photos=photos, score_range=SCORE_RANGE, citation=CITATION)
