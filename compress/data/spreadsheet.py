"""The first sheet of an Office Open XML workbook (.xlsx), as text, by the standard library alone.

Source: ECMA-376, Part 1, 18.3 (worksheets), 18.4 (shared strings), and Part 2 (the package).
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from ...runtime.errors import DataError

__all__ = ["read_first_sheet"]

# A sheet of eleven thousand rows is 3 MB; what unpacks to far more is no table of scores.
_PART_BYTES = 64 << 20
_COLUMNS = 16384


def read_first_sheet(path: Path) -> list[tuple[int, dict[int, str]]]:
    """Read the cells of a workbook's first sheet.

    Args:
        path: the workbook.

    Returns:
        The number (from 1) and the cells, by their columns (from 0), of each row that is not empty: texts stripped,
        numbers as the file writes them, formulas as what they came to.

    Raises:
        DataError: it cannot be read, is no such workbook, or one of its parts is larger than 64 MiB.
    """
    try:
        with zipfile.ZipFile(path) as book:
            texts = _Texts()
            if "xl/sharedStrings.xml" in book.namelist():
                _parse(book, "xl/sharedStrings.xml", texts)
            sheet = _Sheet(texts.found)
            _parse(book, _first_sheet(book), sheet)
    # What a damaged archive or sheet leads to: a part that is absent, a text that is not, bytes that do not inflate.
    except (
        *(OSError, zipfile.BadZipFile, zlib.error, EOFError, expat.ExpatError),
        *(KeyError, IndexError, ValueError, RuntimeError),
    ) as error:
        raise DataError(
            f"{path} cannot be read as a workbook ({type(error).__name__}: {error})",
            expected="an .xlsx file as released",
            mend="download it again",
        ) from error
    return sheet.rows


def _parse(book: zipfile.ZipFile, part: str, reader: _Part) -> None:
    with book.open(part) as file:
        data = file.read(_PART_BYTES + 1)
    if len(data) > _PART_BYTES:
        raise ValueError(f"{part} is larger than {_PART_BYTES >> 20} MiB")
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    # A workbook has no document type; entities that unfold without end would need one.
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = lambda name, marks: reader.start(_local(name), {_local(k): marks[k] for k in marks})
    parser.EndElementHandler = lambda name: reader.end(_local(name))
    parser.CharacterDataHandler = reader.text
    parser.Parse(data, True)


def _local(name: str) -> str:
    """A name without its namespace, which differs between the strict and the transitional format."""
    return name.rpartition(" ")[2]


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("a document type inside a workbook")


def _first_sheet(book: zipfile.ZipFile) -> str:
    """The part that holds the sheet that the workbook names first."""
    sheets, relations = _Marks("sheet"), _Marks("Relationship")
    _parse(book, "xl/workbook.xml", sheets)
    _parse(book, "xl/_rels/workbook.xml.rels", relations)
    targets = {marks["Id"]: marks["Target"] for marks in relations.found}
    # An absolute target is one inside the package.
    return posixpath.normpath(posixpath.join("/xl", targets[sheets.found[0]["id"]])).lstrip("/")


class _Part:
    """What listens to one part of a workbook."""

    def start(self, name: str, marks: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """Text stands in it."""


class _Marks(_Part):
    """The attributes of every element of one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.found: list[dict[str, str]] = []

    def start(self, name: str, marks: dict[str, str]) -> None:
        if name == self._name:
            self.found.append(marks)


class _Texts(_Part):
    """The strings that cells share: the runs of each joined, their phonetic readings left out."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._runs: list[str] | None = None
        self._phonetic = False

    def start(self, name: str, marks: dict[str, str]) -> None:  # noqa: ARG002
        if name == "si":
            self.found.append("")
        elif name == "rPh":
            self._phonetic = True
        elif name == "t" and not self._phonetic:
            self._runs = []

    def end(self, name: str) -> None:
        if name == "rPh":
            self._phonetic = False
        elif name == "t" and self._runs is not None:
            self.found[-1] += "".join(self._runs)
            self._runs = None

    def text(self, text: str) -> None:
        if self._runs is not None:
            self._runs.append(text)


class _Sheet(_Part):
    """The rows of a sheet: their numbers, and the text of each cell by its column, counted from 0."""

    def __init__(self, texts: list[str]) -> None:
        self.rows: list[tuple[int, dict[int, str]]] = []
        self._texts = texts
        self._row = 0
        self._column = -1
        self._cells: dict[int, str] = {}
        self._kind = "n"
        self._value: list[str] = []
        self._listens = False

    def start(self, name: str, marks: dict[str, str]) -> None:
        # Rows and cells need not say where they stand; then they follow the one before.
        if name == "row":
            self._row = int(marks.get("r", self._row + 1))
            self._column, self._cells = -1, {}
        elif name == "c":
            self._column = _column(marks["r"]) if "r" in marks else self._column + 1
            self._kind, self._value = marks.get("t", "n"), []
        elif name in ("v", "t"):
            self._listens = True

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._listens = False
        elif name == "c":
            value = "".join(self._value)
            self._cells[self._column] = (self._texts[int(value)] if self._kind == "s" else value).strip()
        elif name == "row" and any(self._cells.values()):
            self.rows.append((self._row, self._cells))

    def text(self, text: str) -> None:
        if self._listens:
            self._value.append(text)


def _column(reference: str) -> int:
    """The column of ``BC17``, counted from 0."""
    letters = reference.rstrip("0123456789")
    if not (letters.isascii() and letters.isalpha() and letters.isupper() and len(letters) <= 3):
        raise ValueError(f"{reference!r} as the place of a cell")
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - ord("A") + 1
    if column > _COLUMNS:
        raise ValueError(f"{reference!r} as the place of a cell")
    return column - 1
