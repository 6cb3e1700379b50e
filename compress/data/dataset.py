"""A data set: a folder of photographs and a CSV of their mean opinion scores (MOS)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError
from ..run_files import write_table

__all__ = ["Comparable", "Dataset", "LabelledPhoto", "read_csv", "select", "write_csv"]

Comparable = Literal["global", "scene"]

_REQUIRED = ("image", "mos")
_COLUMNS = (*_REQUIRED, "mos_std", "split", "scene")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledPhoto:
    """A photograph with what people said of it.

    Attributes:
        path: where its file lies.
        image: its name as the data set's own table has it.
        mos: mean opinion score, in the data set's own range, higher is better.
        mos_std: standard deviation of the opinions, in the same unit.
        split: the part of the data set it was put in by those who made it (``train``, ``test``, ...).
        scene: what it shows; photographs of one scene are never divided between parts.
    """

    path: Path
    image: str
    mos: float
    mos_std: float | None = None
    split: str | None = None
    scene: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Photographs with their scores.

    Attributes:
        root: the folder that image names are relative to.
        photos: at least one, no image name twice.
        score_range: lowest and highest score the data set's scale allows.
        comparable: ``global`` when any two scores compare; ``scene`` when only those of one scene do
            (pairwise comparisons scaled inside each), and then every photograph has a scene.
        citation: what a work that uses the data set cites.

    Raises:
        DataError: it is not so.
    """

    root: Path
    photos: tuple[LabelledPhoto, ...]
    score_range: tuple[float, float] = (0.0, 100.0)
    comparable: Comparable = "global"
    citation: str = ""

    def __post_init__(self) -> None:
        low, high = self.score_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise DataError(
                f"a score range of {low:g} to {high:g}",
                expected="two finite numbers, the lower one first",
                mend="state the lowest and the highest score of the data set's scale",
            )
        if self.comparable not in get_args(Comparable):
            raise DataError(
                f"comparable = {self.comparable!r}",
                expected=f"one of {', '.join(get_args(Comparable))}",
                mend="say 'scene' only when scores compare inside a scene alone",
            )
        if not self.photos:
            raise DataError(
                f"a data set in {self.root} without photographs",
                expected="at least one",
                mend="give a table with a row for each photograph",
            )
        self._check_photos()

    def _check_photos(self) -> None:
        seen: set[str] = set()
        for photo in self.photos:
            if photo.image in seen:
                raise DataError(
                    f"the image {photo.image} twice",
                    expected="one score for each image",
                    mend="keep one of the two rows",
                )
            seen.add(photo.image)
            low, high = self.score_range
            if not low <= photo.mos <= high:
                raise DataError(
                    f"{photo.image} with a MOS of {photo.mos:g}",
                    expected=f"a MOS in the stated score range, {low:g} to {high:g}",
                    mend="correct the MOS, or state the range of the data set's own scale",
                )
        if self.comparable == "scene":
            without = [photo.image for photo in self.photos if photo.scene is None]
            if without:
                raise DataError(
                    f"{_some(without)} without a scene",
                    expected="a scene for every photograph, as scores are said to compare only inside one",
                    mend="fill the column 'scene', or say comparable = 'global'",
                )

    @property
    def mos(self) -> NDArray[np.float64]:
        """Scores in the data set's own range: float64 ``[n]``."""
        return np.array([photo.mos for photo in self.photos], dtype=np.float64)

    @property
    def unit_mos(self) -> NDArray[np.float64]:
        """Scores with `score_range` mapped to [0, 1]: float64 ``[n]``."""
        low, high = self.score_range
        return (self.mos - low) / (high - low)


def select(dataset: Dataset, *, split: str) -> Dataset:
    """The photographs of one of the data set's own parts, in their order.

    Raises:
        DataError: no photograph is in that part; the parts there are, are named.
    """
    photos = tuple(photo for photo in dataset.photos if photo.split == split)
    if not photos:
        parts = sorted({photo.split for photo in dataset.photos if photo.split is not None})
        raise DataError(
            f"no photograph of {dataset.root} in the split {split!r}",
            expected=f"one of the splits it has: {', '.join(parts)}" if parts else "a table with a column 'split'",
            mend="name one of these" if parts else "add the column, or leave the split out",
        )
    return replace(dataset, photos=photos)


def read_csv(
    csv_path: Path,
    images: Path,
    *,
    score_range: tuple[float, float] = (0.0, 100.0),
    comparable: Comparable = "global",
    citation: str = "",
) -> Dataset:
    """Read a CSV (UTF-8, a header line) and find its photographs.

    Args:
        csv_path: columns ``image`` (path relative to ``images``, with ``/``) and ``mos``; if they are there,
            ``mos_std``, ``split`` and ``scene`` are read, where an empty cell means none. Other columns are
            passed over.
        images: folder of the photographs.
        score_range: lowest and highest score of the scale that ``mos`` is on.
        comparable: see `Dataset`.
        citation: see `Dataset`.

    Returns:
        The photographs in the order of the rows.

    Raises:
        DataError: the file, a column or a photograph is missing, there is no row, a cell is not what it
            should be (its line is told), an image comes twice, or its path leaves the folder.
    """
    if not images.is_dir():
        raise DataError(
            f"no folder {images}",
            expected="the folder of the photographs",
            mend="give the folder that holds them",
        )
    photos = []
    lines: dict[PurePosixPath, int] = {}
    for line, cells in _rows(csv_path):
        where = f"{csv_path} line {line}"
        name = _inside(cells["image"], where)
        if name in lines:
            raise DataError(
                f"{where}: the image {cells['image']} again, as on line {lines[name]}",
                expected="one row for each image",
                mend="keep one of the two rows",
            )
        lines[name] = line
        photos.append(
            LabelledPhoto(
                path=images / name,
                image=cells["image"],
                mos=_number(cells["mos"], "mos", where, score_range),
                mos_std=_number(cells["mos_std"], "mos_std", where, (0.0, math.inf)) if cells["mos_std"] else None,
                split=cells["split"] or None,
                scene=cells["scene"] or None,
            )
        )
    if not photos:
        raise DataError(
            f"{csv_path} without a row",
            expected="a row for each photograph",
            mend="give a table that holds scores",
        )
    require_files([photo.path for photo in photos], images)
    return Dataset(root=images, photos=tuple(photos), score_range=score_range, comparable=comparable, citation=citation)


def write_csv(dataset: Dataset, csv_path: Path) -> None:
    """Write the table that `read_csv` reads, whole or not at all.

    What the table does not hold (the folder, the score range, what compares, the citation) is for the caller to keep.

    Args:
        dataset: whose images are named relative to its root.
        csv_path: replaced where it is there. Columns ``image`` and ``mos``, and those of ``mos_std``, ``split`` and
            ``scene`` that a photograph has; scores in as many digits as they need to be read as the same numbers.

    Raises:
        OSError: it cannot be written.
    """
    columns = [
        column
        for column in _COLUMNS
        if column in _REQUIRED or any(getattr(photo, column) is not None for photo in dataset.photos)
    ]
    # The writer leaves the cell of None empty.
    write_table(csv_path, columns, ([getattr(photo, column) for column in columns] for photo in dataset.photos))


def require_files(paths: list[Path], folder: Path) -> None:
    """Raise a `DataError` with the first few names and the number of the photographs that are not there."""
    missing = [str(path.relative_to(folder)) for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} photographs not in {folder}: {_some(missing)}",
            expected="every photograph that has a score",
            mend="give the folder that image names are relative to, or remove the rows",
        )


def _rows(csv_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers (the header's is 1) with the cells of `_COLUMNS`, stripped; empty for an absent column."""
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [title.strip() for title in next(reader, [])]
            _require_columns(header, csv_path)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{csv_path} line {reader.line_num}: {len(row)} cells",
                        expected=f"{len(header)}, as in the header",
                        mend="put cells that hold a comma into double quotes",
                    )
                cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
                yield reader.line_num, {column: cells.get(column, "") for column in _COLUMNS}
    except OSError as error:
        raise DataError(
            f"{csv_path} cannot be read ({error.strerror or error})",
            expected="a CSV with the columns image, mos",
            mend="give the path of the table",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{csv_path} is not a CSV in UTF-8 ({error})",
            expected="comma-separated values in UTF-8 with a header line",
            mend="save the table as CSV UTF-8",
        ) from error


def _require_columns(header: list[str], csv_path: Path) -> None:
    missing = [column for column in _REQUIRED if column not in header]
    there = ", ".join(header) or "none"
    if missing:
        raise DataError(
            f"{csv_path} without the column {' and '.join(missing)}; its columns: {there}",
            expected="columns image, mos (and, if there are such, mos_std, split, scene)",
            mend="name the columns so in the header line",
        )
    twice = [column for column in _COLUMNS if header.count(column) > 1]
    if twice:
        raise DataError(
            f"{csv_path} with the column {twice[0]} twice; its columns: {there}",
            expected="each column once",
            mend="rename or remove one of the two",
        )


def _inside(cell: str, where: str) -> PurePosixPath:
    """The cell as a relative path that stays inside the folder, on any system."""
    windows, posix = PureWindowsPath(cell), PurePosixPath(cell)
    if not cell or windows.drive or windows.root or ".." in windows.parts or "\0" in cell or not posix.parts:
        raise DataError(
            f"{where}: the image {cell!r}",
            expected="a path inside the folder of the photographs",
            mend="write it relative to that folder, without '..'",
        )
    return posix


def _number(cell: str, column: str, where: str, bounds: tuple[float, float]) -> float:
    low, high = bounds
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{where}: {column} {cell!r}",
            expected="a finite number",
            mend="correct the cell or remove the row",
        )
    if not low <= value <= high:
        raise DataError(
            f"{where}: {column} {value:g}",
            expected="a number of at least 0"
            if high == math.inf
            else f"a score in the stated range, {low:g} to {high:g}",
            mend="correct the cell, or state the range (--score-range LOW HIGH) of the scale the scores are on",
        )
    return value


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
