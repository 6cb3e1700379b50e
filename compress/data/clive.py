"""LIVE In the Wild Image Quality Challenge, read from its own files.

Source: D. Ghadiyaram and A. C. Bovik, "Massive Online Crowdsourced Study of Subjective and Objective Picture
Quality", IEEE Transactions on Image Processing 25(1), 2016.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError, MissingExtraError
from .dataset import Dataset, LabelledPhoto, require_files

__all__ = ["CITATION", "SCORE_RANGE", "read_clive"]

CITATION = (
    "D. Ghadiyaram and A. C. Bovik, LIVE In the Wild Image Quality Challenge Database, Laboratory for Image "
    "and Video Engineering, The University of Texas at Austin, "
    "http://live.ece.utexas.edu/research/ChallengeDB/index.html, 2015; "
    "and Massive Online Crowdsourced Study of Subjective and Objective Picture Quality, IEEE Transactions on "
    "Image Processing 25(1):372-387, 2016."
)
SCORE_RANGE = (0.0, 100.0)

# The first seven photographs taught the study's subjects the task; their scores are usually left out.
_TRAINING_IMAGES = 7
_TABLES = ("AllImages_release", "AllMOS_release", "AllStdDev_release")


def read_clive(root: Path, *, training_images: bool = False) -> Dataset:
    """Read the data set as it is distributed: 1,162 photographs, and seven that taught the subjects.

    Args:
        root: the folder ``ChallengeDB_release`` (with ``Data/`` and ``Images/``), or the one that holds it.
        training_images: take the seven of ``Images/trainingImages/`` too. It is customary not to.

    Returns:
        Photographs in the order of the release; MOS and their standard deviations on a scale of 0 to 100,
        higher is better.

    Raises:
        DataError: a table or a photograph is missing, or the tables are not as the release has them.
        MissingExtraError: scipy, which reads the tables, is not installed.
    """
    release = root / "ChallengeDB_release" if (root / "ChallengeDB_release").is_dir() else root
    paths = {table: release / "Data" / f"{table}.mat" for table in _TABLES}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"no {', no '.join(missing)}",
            expected=f"{', '.join(f'Data/{table}.mat' for table in _TABLES)} and Images/ of the release",
            mend="unpack ChallengeDB_release.zip and give the folder ChallengeDB_release",
        )
    cells, mos, mos_std = (_read_table(paths[table], table) for table in _TABLES)
    if not len(cells) == len(mos) == len(mos_std):
        raise _not_as_released(release, f"{len(cells)} names, {len(mos)} scores and {len(mos_std)} deviations")
    photos = []
    for index, cell in enumerate(cells):
        name = str(np.ravel(cell)[0]) if np.size(cell) == 1 else ""
        if not name or Path(name).name != name:
            raise _not_as_released(release, f"{name!r} as the name of photograph {index + 1}")
        folder = Path("trainingImages") if index < _TRAINING_IMAGES else Path()
        photos.append(
            LabelledPhoto(
                path=release / "Images" / folder / name,
                image=(folder / name).as_posix(),
                mos=_finite(mos[index], release, f"MOS of {name}"),
                mos_std=_finite(mos_std[index], release, f"deviation of {name}"),
            )
        )
    if not training_images:
        photos = photos[_TRAINING_IMAGES:]
    require_files([photo.path for photo in photos], release / "Images")
    return Dataset(root=release / "Images", photos=tuple(photos), score_range=SCORE_RANGE, citation=CITATION)


def _read_table(path: Path, table: str) -> NDArray[Any]:
    """The one array of a MATLAB file, flattened: the release has a column of names and rows of numbers."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError(
            "no scipy, which reads the MATLAB files of LIVE In the Wild",
            expected="the extra 'evaluate' or 'compress'",
            mend='pip install "edgeiqa[evaluate]"',
        ) from error
    try:
        return np.ravel(loadmat(path, variable_names=[table])[table])
    # A damaged file ends in whatever error the bytes lead loadmat's parser to.
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a MATLAB file with {table} ({type(error).__name__}: {error})",
            expected="the file as released",
            mend="download ChallengeDB_release again",
        ) from error


def _finite(value: Any, release: Path, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise _not_as_released(release, f"{value!r} as the {what}")
    return number


def _not_as_released(release: Path, got: str) -> DataError:
    return DataError(
        f"{release / 'Data'} with {got}",
        expected="a name, a score and a deviation for each of the release's photographs",
        mend="download ChallengeDB_release again",
    )
