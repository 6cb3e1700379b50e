from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from edgeiqa.compress.data import spreadsheet
from edgeiqa.compress.data.spreadsheet import read_first_sheet
from edgeiqa.runtime.errors import DataError

from .releases import SHEET_NAMES, sheet_of, write_workbook


def replace_part(path: Path, name: str, data: bytes) -> Path:
    with zipfile.ZipFile(path) as book:
        parts = {entry: book.read(entry) for entry in book.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for entry, kept in (parts | {name: data}).items():
            book.writestr(entry, kept)
    return path


def test_texts_numbers_formulas_and_gaps(tmp_path: Path) -> None:
    path = write_workbook(
        tmp_path / "t.xlsx",
        '<row r="1"><c r="A1" t="s"><v>1</v></c><c r="B1" t="s"><v>0</v></c></row>'
        '<row r="2"><c r="A2" t="inlineStr"><is><t>in </t><r><t>line</t></r></is></c><c r="B2"><v>1.5E1</v></c></row>'
        '<row r="3"><c r="A3"/><c r="B3" s="1"/></row>'
        '<row r="7"><c r="AA7"><f>1+1</f><v>2</v></c><c r="C7" t="str"><f>"a"&amp;"b"</f><v>ab</v></c></row>'
        '<row><c t="e"><v>#N/A</v></c><c t="b"><v>1</v></c></row>',
        "<si><t>MOS</t></si><si><r><t>Image </t></r><r><t>name</t></r><rPh><t>reading</t></rPh></si>",
    )
    assert read_first_sheet(path) == [
        (1, {0: "Image name", 1: "MOS"}),
        (2, {0: "in line", 1: "1.5E1"}),
        (7, {26: "2", 2: "ab"}),
        (8, {0: "#N/A", 1: "1"}),
    ]


def test_an_absolute_target_and_the_strict_format(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", "<row><c><v>3</v></c></row>", target="/xl/worksheets/sheet1.xml")
    assert read_first_sheet(path) == [(1, {0: "3"})]
    strict = sheet_of("<row><c><v>4</v></c></row>").replace(SHEET_NAMES, 'xmlns="http://purl.oclc.org/ooxml/sheet"')
    assert read_first_sheet(replace_part(path, "xl/worksheets/sheet1.xml", strict.encode())) == [(1, {0: "4"})]


def test_a_sheet_without_a_cell_has_no_rows(tmp_path: Path) -> None:
    assert read_first_sheet(write_workbook(tmp_path / "t.xlsx", "")) == []


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('<row r="1"><c r="A1" t="s"><v>5</v></c></row>', "IndexError"),
        ('<row r="1"><c r="A1" t="s"></c></row>', "ValueError"),
        ('<row r="x"><c r="A1"><v>1</v></c></row>', "ValueError"),
        ('<row r="1"><c r="11"><v>1</v></c></row>', "'11' as the place of a cell"),
        ('<row r="1"><c r="XFE1"><v>1</v></c></row>', "'XFE1' as the place of a cell"),
        ('<row r="1"><c r="AAAA1"><v>1</v></c></row>', "'AAAA1' as the place of a cell"),
        ('<row r="1"><c r="A1"><v>1</c></row>', "ExpatError"),
    ],
)
def test_sheets_that_are_damaged_are_told(tmp_path: Path, rows: str, told: str) -> None:
    path = write_workbook(tmp_path / "t.xlsx", rows, "<si><t>a</t></si>")
    with pytest.raises(DataError, match=rf"t\.xlsx cannot be read as a workbook .*{told}.*to mend: download it again"):
        read_first_sheet(path)


def test_what_is_no_workbook_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    for data in (b"", b"Image name,MOS\n", b"PK\x03\x04"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"t\.xlsx cannot be read as a workbook"):
            read_first_sheet(path)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("readme.txt", "not a workbook")
    with pytest.raises(DataError, match="KeyError"):
        read_first_sheet(path)
    with pytest.raises(DataError, match="FileNotFoundError"):
        read_first_sheet(tmp_path / "u.xlsx")


def test_a_file_that_is_cut_anywhere_is_told(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", '<row r="1"><c r="A1"><v>1</v></c></row>' * 30, "<si><t>a</t></si>")
    data = path.read_bytes()
    for cut in range(0, len(data), 31):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match="cannot be read as a workbook"):
            read_first_sheet(path)


def test_a_file_with_a_byte_changed_is_told_or_read(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", '<row r="1"><c r="A1"><v>1</v></c></row>' * 30, "<si><t>a</t></si>")
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            read_first_sheet(path)
        except DataError as error:
            assert "cannot be read as a workbook" in error.got


def test_entities_are_not_unfolded(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", "")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + sheet_of("<row><c><v>&b;</v></c></row>")
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(DataError, match="a document type inside a workbook"):
            read_first_sheet(replace_part(path, "xl/worksheets/sheet1.xml", bomb.encode(encoding)))


def test_a_part_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "_PART_BYTES", 1 << 20)
    path = write_workbook(tmp_path / "t.xlsx", " " * (1 << 20))
    with pytest.raises(DataError, match="is larger than 1 MiB"):
        read_first_sheet(path)
