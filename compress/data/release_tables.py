"""Tables of data sets as they are distributed: rows that know where they stand, so that every refusal names its row."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...runtime.errors import DataError

__all__ = ["Row", "checked_rows", "inner_folder", "read_release_csv", "require_tables"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table that others made.

    Attributes:
        where: its table and its line or row, for messages.
        cells: the text in each column, stripped.
        mend: what mends a table that is not as released.
    """

    where: str
    cells: Mapping[str, str]
    mend: str

    def number(self, column: str, low: float, high: float) -> float:
        """The cell as a finite number in [low, high]; a `DataError` says what else it is."""
        try:
            value = float(self.cells[column])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            raise self.refusal(
                column,
                f"a finite number, at least {low:g}" if high == math.inf else f"a number from {low:g} to {high:g}",
            )
        return value

    def file_name(self, column: str) -> str:
        """The cell as the name of a file, without any folder; a `DataError` says what else it is."""
        text = self.cells[column]
        names = {text, PurePosixPath(text).name, PureWindowsPath(text).name}
        if not text or text == ".." or "\0" in text or len(names) > 1:
            raise self.refusal(column, "the name of a file, without a folder")
        return text

    def one_of(self, column: str, meanings: Mapping[str, str]) -> str:
        """What the cell means, of the few things it may say; a `DataError` says what else it is."""
        if self.cells[column] not in meanings:
            raise self.refusal(column, f"one of {', '.join(meanings)}")
        return meanings[self.cells[column]]

    def refusal(self, column: str, expected: str) -> DataError:
        """What to raise when the cell of a column is not what the release has there."""
        return DataError(f"{self.where}: {column} {self.cells[column]!r}", expected=expected, mend=self.mend)


def inner_folder(root: Path, name: str) -> Path:
    """``root / name`` where that is a folder, else ``root``: an archive may be unpacked into a folder or be one."""
    return root / name if (root / name).is_dir() else root


def require_tables(paths: Sequence[Path], *, mend: str) -> None:
    """Raise a `DataError` that names all of the files that are not there."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"no {', no '.join(missing)}",
            expected=f"{', '.join(path.name for path in paths)} of the release",
            mend=mend,
        )


def read_release_csv(path: Path, columns: Sequence[str], *, key: str, mend: str) -> list[Row]:
    """Read a CSV (UTF-8, a header line) of a release.

    Args:
        path: the table.
        columns: those that are needed; others are passed over.
        key: the column that names what a row is about; no two rows may have the same there.
        mend: see `Row`.

    Returns:
        Rows in their order, at least one; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or is not such a table; its line is told.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [title.strip() for title in next(reader, [])]
            lines = ((f"{path} line {reader.line_num}", [cell.strip() for cell in row]) for row in reader if row)
            return checked_rows(path, header, lines, columns, key=key, mend=mend)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error})",
            expected="a readable file",
            mend="check its permissions",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a CSV in UTF-8 ({error})", expected="the table as released", mend=mend
        ) from error


def checked_rows(
    path: Path,
    header: Sequence[str],
    lines: Iterable[tuple[str, Sequence[str]]],
    columns: Sequence[str],
    *,
    key: str,
    mend: str,
) -> list[Row]:
    """Rows with the needed columns, out of any kind of table; see `read_release_csv`.

    Args:
        path: for messages.
        header: the title of each column.
        lines: where each row stands, and its cells.
        columns: as in `read_release_csv`.
        key: as in `read_release_csv`.
        mend: as in `read_release_csv`.

    Raises:
        DataError: a column is missing or there twice, a row has more or fewer cells, a key comes again, or there is
            no row.
    """
    if any(header.count(column) != 1 for column in columns):
        raise DataError(
            f"{path} with the columns {', '.join(header) or 'none'}",
            expected=f"{', '.join(columns)}, each once",
            mend=mend,
        )
    rows = list(_rows(header, lines, columns, key, mend))
    if not rows:
        raise DataError(f"{path} without a row", expected="a row for each photograph", mend=mend)
    return rows


def _rows(
    header: Sequence[str], lines: Iterable[tuple[str, Sequence[str]]], columns: Sequence[str], key: str, mend: str
) -> Iterator[Row]:
    places = {column: header.index(column) for column in columns}
    seen: dict[str, str] = {}
    for where, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} cells", expected=f"{len(header)}, as in the header", mend=mend)
        row = Row(where=where, cells={column: cells[place] for column, place in places.items()}, mend=mend)
        before = seen.setdefault(row.cells[key], where)
        if before != where:
            raise DataError(
                f"{where}: {key} {row.cells[key]} again, as in {before}", expected="one row for each", mend=mend
            )
        yield row
