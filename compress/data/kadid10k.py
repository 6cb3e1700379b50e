"""KADID-10k, the Konstanz artificially distorted image quality database, read from its own files.

Source: H. Lin, V. Hosu and D. Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX 2019.
"""

from __future__ import annotations

from pathlib import Path

from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import Row, inner_folder, read_release_csv, require_tables

__all__ = ["CITATION", "SCORE_RANGE", "read_kadid10k"]

CITATION = (
    "H. Lin, V. Hosu and D. Saupe, KADID-10k: A Large-scale Artificially Distorted IQA Database, Tenth International "
    "Conference on Quality of Multimedia Experience (QoMEX), pages 1-3, 2019."
)
SCORE_RANGE = (1.0, 5.0)

_MEND = "download it again from database.mmsp-kn.de/kadid-10k-database.html"


def read_kadid10k(root: Path) -> Dataset:
    """Read the data set as it is distributed: 10,125 images, 81 photographs distorted in 25 ways at 5 levels.

    The table's names mislead twice: its ``dmos`` rises with quality, and its ``var`` is a standard deviation. (At
    I01_01_01.png, 4.57 and 0.496, thirty whole ratings can have 0.496 as their deviation, and none have it as
    their variance.)

    Args:
        root: the folder of ``dmos.csv`` and ``images/``, or the one that holds it as ``kadid10k/``.

    Returns:
        Distorted images in the order of the table; MOS and the standard deviations of the opinions on 1 to 5,
        higher is better; the scene is the undistorted photograph, such as ``I01``. There is no official split.

    Raises:
        DataError: the table or an image is missing, or the table is not as released.
    """
    base = inner_folder(root, "kadid10k")
    table, images = base / "dmos.csv", base / "images"
    require_tables([table], mend="unpack kadid10k.zip, and give the folder of dmos.csv and images")
    rows = read_release_csv(table, ("dist_img", "ref_img", "dmos", "var"), key="dist_img", mend=_MEND)
    photos = tuple(_photo(row, images) for row in rows)
    require_files([photo.path for photo in photos], images)
    return Dataset(root=images, photos=photos, score_range=SCORE_RANGE, citation=CITATION)


def _photo(row: Row, images: Path) -> LabelledPhoto:
    name = row.file_name("dist_img")
    scene = Path(row.file_name("ref_img")).stem
    if not name.startswith(f"{scene}_"):
        raise row.refusal("ref_img", f"the photograph that {name} was made of")
    low, high = SCORE_RANGE
    return LabelledPhoto(
        path=images / name,
        image=name,
        mos=row.number("dmos", low, high),
        mos_std=row.number("var", 0.0, high - low),
        scene=scene,
    )
