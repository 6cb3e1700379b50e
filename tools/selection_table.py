"""The table that a teach run leaves of its selection part: what each member scored of each photograph."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError

__all__ = ["SelectionScores", "read_selection"]

_NAME = "selection.csv"
_BEFORE, _LAST = ["image", "sha256", "mos"], "ensemble"


class SelectionScores(NamedTuple):
    """Scores of the K members of a teach run on the n photographs of its selection part, 0 to 100.

    Attributes:
        names: of the members, in the table's order.
        scores: mapped, float64 ``[K, n]``.
        mos: opinions, float64 ``[n]``.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    mos: NDArray[np.float64]


def read_selection(folder: Path) -> SelectionScores:
    """Read ``selection.csv`` of a teach run; every column between ``mos`` and ``ensemble`` is a member.

    Raises:
        DataError: it is not there, or is not such a table.
    """
    path = folder / _NAME
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if header[:3] != _BEFORE or header[-1] != _LAST or len(header) < 5:
            raise ValueError(f"its columns are {', '.join(header)}")
        table = np.array([[float(cell) for cell in row[2:]] for row in rows], dtype=np.float64)
        if table.shape != (len(rows), len(header) - 2):
            raise ValueError(f"{len(rows)} rows, not all of {len(header)} cells")
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} ({error})",
            expected=f"the table that the run wrote: {', '.join(_BEFORE)}, a column a member, {_LAST}",
            mend=f"write it again: edgeiqa teach --resume {folder}",
        ) from error
    return SelectionScores(tuple(header[3:-1]), table[:, 1:-1].T.copy(), table[:, 0])
