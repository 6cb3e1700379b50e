"""PIQ23, portraits judged by pairwise comparisons inside each scene, read from its own files.

Source: N. Chahine, S. Calarasanu, D. Garcia-Civiero, T. Cayla, S. Ferradans and J. Ponce, "An Image Quality
Assessment Dataset for Portraits", CVPR 2023.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from .dataset import Dataset, LabelledPhoto, require_files
from .release_tables import Row, read_release_csv, require_tables

__all__ = ["CITATION", "SCORE_RANGE", "Attribute", "OfficialSplit", "read_piq23"]

CITATION = (
    "N. Chahine, S. Calarasanu, D. Garcia-Civiero, T. Cayla, S. Ferradans and J. Ponce, An Image Quality Assessment "
    "Dataset for Portraits, Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition, pages "
    "9968-9978, 2023."
)
# JODs have no bounds of their own: they are around 0 in each scene, and a difference of 1 means that three of four
# judges prefer the better one. Those of the release that were looked at are within 6.
SCORE_RANGE = (-10.0, 10.0)

Attribute = Literal["Overall", "Details", "Exposure"]
OfficialSplit = Literal["device", "scene", "none"]

# A split's table, and its column that names what is in a part.
_SPLIT_TABLES = {"device": ("Device Split.csv", "IMAGE"), "scene": ("Scene Split.csv", "SCENE")}
_SPLITS = {"Train": "train", "Test": "test"}
_MEND = "download it again: the scores with the data set, the splits from github.com/DXOMARK-Research/PIQ2023"


def read_piq23(root: Path, *, attribute: Attribute = "Overall", split: OfficialSplit = "device") -> Dataset:
    """Read the data set as it is distributed: 5,116 portraits in 50 scenes, for each of three attributes.

    Args:
        root: the folder of ``Scores_Overall.csv`` and ``Overall/`` and so on. Scores may be in ``Scores/`` and splits
            in ``Test split/``, as in the authors' repository, which alone has the splits.
        attribute: what was judged.
        split: the official split to take: ``device`` (``Device Split.csv``: 30 % of each scene are for the test),
            ``scene`` (``Scene Split.csv``: 15 of the 50 scenes are), or ``none``.

    Returns:
        Photographs in the order of the table; scores in just-objectionable differences (JOD), higher is better, which
        compare only inside a scene; splits ``train`` and ``test``. The table's deviations are those of the scores,
        not of opinions, and are not taken.

    Raises:
        DataError: a table or a photograph is missing, a table is not as released, or the split's does not name a
            photograph or its scene.
    """
    scores = _table(root, "Scores", f"Scores_{attribute}.csv")
    tables = [scores]
    if split != "none":
        tables.append(_table(root, "Test split", _SPLIT_TABLES[split][0]))
    require_tables(
        tables,
        mend="give the folder where PIQ23 is unpacked, and put the splits of github.com/DXOMARK-Research/PIQ2023 there"
        + ("" if split == "none" else ", or take none (split 'none')"),
    )
    parts: dict[str, str] = {}
    column = "IMAGE"
    if split != "none":
        column = _SPLIT_TABLES[split][1]
        rows = read_release_csv(tables[1], (column, "SPLIT"), key=column, mend=_MEND)
        parts = {row.cells[column]: row.one_of("SPLIT", _SPLITS) for row in rows}
    columns = ("IMAGE PATH", "IMAGE", "SCENE", "JOD")
    photos = []
    for row in read_release_csv(scores, columns, key="IMAGE PATH", mend=_MEND):
        if split != "none" and row.cells[column] not in parts:
            raise row.refusal(column, f"one that {tables[1].name} puts into a part")
        photos.append(_photo(row, root, attribute, parts.get(row.cells[column])))
    require_files([photo.path for photo in photos], root)
    return Dataset(root=root, photos=tuple(photos), score_range=SCORE_RANGE, comparable="scene", citation=CITATION)


def _table(root: Path, folder: str, name: str) -> Path:
    inside = root / folder / name
    return inside if inside.is_file() else root / name


def _photo(row: Row, root: Path, attribute: Attribute, split: str | None) -> LabelledPhoto:
    # The table writes paths as Windows does: Overall\66_Indoor_Scene_0.jpg.
    folder, *names = re.split(r"[\\/]", row.cells["IMAGE PATH"])
    if folder != attribute or len(names) != 1 or names[0] != row.cells["IMAGE"]:
        raise row.refusal("IMAGE PATH", f"{attribute}\\ and the row's IMAGE, {row.cells['IMAGE']}")
    image = f"{attribute}/{row.file_name('IMAGE')}"
    if not row.cells["SCENE"]:
        raise row.refusal("SCENE", "the name of a scene")
    return LabelledPhoto(
        path=root / image,
        image=image,
        mos=row.number("JOD", *SCORE_RANGE),
        split=split,
        scene=row.cells["SCENE"],
    )
