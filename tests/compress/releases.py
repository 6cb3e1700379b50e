"""Releases of data sets in small, as the tests of their readers write them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

SHEET_NAMES = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATION_NAMES = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'


def write_images(folder: Path, names: Iterable[str]) -> Path:
    """Tiny images, in the format that each name's suffix says."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), (index % 256, 90, 50)).save(folder / name)
    return folder


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def write_workbook(path: Path, sheet: str, texts: str | None = None, target: str = "worksheets/sheet1.xml") -> Path:
    """A workbook whose first sheet has these rows of XML, and whose second one is not to be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "xl/workbook.xml",
            f'<workbook {SHEET_NAMES} {RELATION_NAMES}><sheets><sheet name="a" sheetId="4" r:id="rId7"/>'
            '<sheet name="b" sheetId="1" r:id="rId1"/></sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            '<Relationship Id="rId1" Type="t" Target="worksheets/sheet9.xml"/>'
            f'<Relationship Id="rId7" Type="t" Target="{target}"/></Relationships>',
        )
        book.writestr("xl/worksheets/sheet1.xml", sheet_of(sheet))
        book.writestr("xl/worksheets/sheet9.xml", sheet_of('<row r="1"><c r="A1"><v>9</v></c></row>'))
        if texts is not None:
            book.writestr("xl/sharedStrings.xml", f"<sst {SHEET_NAMES}>{texts}</sst>")
    return path


def sheet_of(rows: str) -> str:
    return f"<worksheet {SHEET_NAMES}><sheetData>{rows}</sheetData></worksheet>"


def write_table_workbook(path: Path, rows: Sequence[Sequence[str | float]]) -> Path:
    """A workbook as Excel writes one: texts are shared, numbers stand in their cells."""
    texts: list[str] = []
    sheet = ""
    for number, row in enumerate(rows, start=1):
        cells = ""
        for letter, value in zip("ABCDEFGH", row, strict=False):
            if isinstance(value, str):
                texts.append(value)
                cells += f'<c r="{letter}{number}" t="s"><v>{len(texts) - 1}</v></c>'
            else:
                cells += f'<c r="{letter}{number}"><v>{value!r}</v></c>'
        sheet += f'<row r="{number}">{cells}</row>'
    return write_workbook(path, sheet, "".join(f"<si><t>{escape(text)}</t></si>" for text in texts))
