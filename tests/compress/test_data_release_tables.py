from __future__ import annotations

import math
from pathlib import Path

import pytest
from edgeiqa.compress.data.release_tables import Row, inner_folder, read_release_csv, require_tables
from edgeiqa.runtime.errors import DataError

from .releases import write_text


def read(path: Path) -> list[Row]:
    return read_release_csv(path, ("name", "mos"), key="name", mend="download it again")


def row_of(cell: str) -> Row:
    return Row(where="t.csv line 2", cells={"c": cell}, mend="download it again")


def test_rows_know_their_lines_and_pass_over_what_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('﻿"mos","views", "name"\r\n1,"2", a.jpg \r\n\r\n"3","4","b, c.jpg"\r\n'.encode())
    with pytest.raises(DataError, match="columns"):
        read(path)  # the space before a quote belongs to the title
    path.write_bytes('﻿"mos","views","name"\r\n1,"2", a.jpg \r\n\r\n"3","4","b, c.jpg"\r\n'.encode())
    first, second = read(path)
    assert (first.where, first.cells) == (f"{path} line 2", {"name": "a.jpg", "mos": "1"})
    assert (second.where, second.cells) == (f"{path} line 4", {"name": "b, c.jpg", "mos": "3"})


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], r"t\.csv with the columns none; expected name, mos, each once; to mend: download it again"),
        (["name,score", "a.jpg,1"], "with the columns name, score; expected name, mos, each once"),
        (["name,mos,mos", "a.jpg,1,2"], "columns name, mos, mos; expected name, mos, each once"),
        (["name,mos"], r"t\.csv without a row"),
        (["name,mos", "a.jpg,1,2"], r"t\.csv line 2: 3 cells; expected 2, as in the header"),
        (["name,mos", "a.jpg,1", "b.jpg,2", "a.jpg,3"], r"line 4: name a\.jpg again, as in .*t\.csv line 2"),
        (["name,mos", '"a.jpg,1'], "not a CSV in UTF-8"),
    ],
)
def test_tables_that_are_not_as_released_are_told(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(write_text(tmp_path / "t.csv", *lines))


def test_a_table_that_is_not_text_or_not_readable_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"name,mos\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="not a CSV in UTF-8"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"t\.csv cannot be read \(Is a directory\)"):
        read(path)


@pytest.mark.parametrize("cell", ["", "x", "nan", "inf", "-inf", "1e999", "0.9", "5.1"])
def test_what_is_no_number_of_the_range_is_refused(cell: str) -> None:
    with pytest.raises(DataError, match=r"t\.csv line 2: c .*expected a number from 1 to 5; to mend: download"):
        row_of(cell).number("c", 1, 5)


def test_numbers_in_the_range_are_taken() -> None:
    assert [row_of(cell).number("c", 1, 5) for cell in ("1", "5.0", "2.5e0")] == [1, 5, 2.5]
    assert row_of("1e9").number("c", 0, math.inf) == 1e9
    with pytest.raises(DataError, match="expected a finite number, at least 0"):
        row_of("-0.1").number("c", 0, math.inf)


@pytest.mark.parametrize(
    "cell",
    ["", ".", "..", "../a.jpg", "/a.jpg", "b/a.jpg", "b\\a.jpg", "..\\a.jpg", "C:a.jpg", "\\\\h\\s\\a", "a\0.jpg"],
)
def test_names_that_leave_their_folder_are_refused(cell: str) -> None:
    with pytest.raises(DataError, match="expected the name of a file, without a folder"):
        row_of(cell).file_name("c")


def test_plain_names_are_taken() -> None:
    assert [row_of(name).file_name("c") for name in ("a.jpg", "..a", "ä b.JPG")] == ["a.jpg", "..a", "ä b.JPG"]


def test_one_of_a_few_words_means_something() -> None:
    assert row_of("Train").one_of("c", {"Train": "train", "Test": "test"}) == "train"
    with pytest.raises(DataError, match=r"line 2: c 'train'; expected one of Train, Test"):
        row_of("train").one_of("c", {"Train": "train", "Test": "test"})


def test_all_missing_tables_are_named(tmp_path: Path) -> None:
    there = write_text(tmp_path / "a.csv")
    require_tables([there], mend="unpack it")
    with pytest.raises(DataError, match=r"no \S*b\.csv, no \S*c\.csv; expected a\.csv, b\.csv, c\.csv of the release"):
        require_tables([there, tmp_path / "b.csv", tmp_path / "c.csv"], mend="unpack it")


def test_a_folder_may_hold_the_release_or_be_it(tmp_path: Path) -> None:
    assert inner_folder(tmp_path, "SPAQ") == tmp_path
    write_text(tmp_path / "SPAQ")
    assert inner_folder(tmp_path, "SPAQ") == tmp_path
    (tmp_path / "SPAQ").unlink()
    (tmp_path / "SPAQ").mkdir()
    assert inner_folder(tmp_path, "SPAQ") == tmp_path / "SPAQ"
