"""``edgeiqa score --csv``: what any reader of CSV gets back, whatever the photographs are called."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from edgeiqa.runtime.score_map import Affine, ScoreMap

from ..runtime.bundles import Ingredients, Recipe, build
from .command import edgeiqa
from .grey import bytes_out, light_bundle, save_grey, stdin_of

COLUMNS = ["path", "score", "spread", "width", "height", "error"]
NAMES = [
    *("plain.png", "a,b.png", 'say "cheese".png', "'single'.png", " spaces .png", "semi;colon.png", "tab\there.png"),
    *("two\nlines.png", "end\rback.png", "=1+1.png", "ünï\u2028.png", os.fsdecode(b"caf\xe9,\xff.png")),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("bundle"))


def rows(data: bytes) -> list[list[str]]:
    text = data.decode("utf-8", errors="surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_as_it_is(tmp_path: Path, bundle: Path, name: str) -> None:
    path = save_grey(tmp_path / name, 100, size=(12, 8))
    code, data = bytes_out("score", path, path, "--bundle", bundle, "--csv")
    assert code == 0
    header, first, second = rows(data)
    assert header == COLUMNS
    assert first == second == [str(path), first[1], "", "12", "8", ""]
    # The number is all of the score, to the bit.
    assert float(first[1]) == edgeiqa("score", path, "--bundle", bundle, "--json").object["score"]


def test_the_spread_of_two_members_and_the_errors_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halved = ScoreMap(steps=(Affine(scale=50.0),))
    pair = build(tmp_path / "pair.eiqa", Recipe(members=(Ingredients("one"), Ingredients("two", score_map=halved))))
    (tmp_path / "broken.png").write_bytes(b"no photograph")
    grey, white = save_grey(tmp_path / "grey.png", 51), save_grey(tmp_path / "white.png", 255)
    paths = [grey, tmp_path / "broken.png", tmp_path / "gone, too.png", white]
    arguments = ["score", "-", "--bundle", pair.path]
    listed = b"\n".join(map(os.fsencode, paths))
    stdin_of(monkeypatch, listed)
    code, data = bytes_out(*arguments, "--csv")
    assert code == 1
    stdin_of(monkeypatch, listed)
    lines = edgeiqa(*arguments, "--json").lines
    found = rows(data)
    assert found[0] == COLUMNS and len(found) == 5
    for row, line in zip(found[1:], lines, strict=True):
        assert row == ["" if line[column] is None else str(line[column]) for column in COLUMNS]
    assert [row[1] == "" for row in found[1:]] == [row[5] != "" for row in found[1:]] == [False, True, True, False]
    # Of 20 and 10, and of 100 and 50.
    assert [float(found[index][column]) for index in (1, 4) for column in (1, 2)] == pytest.approx([15, 5, 75, 25])


def test_no_photographs_are_a_header(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin_of(monkeypatch, b"")
    assert bytes_out("score", "-", "--bundle", bundle, "--csv") == (0, b"path,score,spread,width,height,error\n")


def test_the_best_as_csv(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / f"{level}.png", level) for level in (30, 250, 120)]
    code, data = bytes_out("score", *paths, "--bundle", bundle, "--csv", "--best", 2)
    assert code == 0
    assert [row[0] for row in rows(data)] == ["path", str(paths[1]), str(paths[2])]


def test_a_stdout_of_text_alone_is_written_to(tmp_path: Path, bundle: Path) -> None:
    path = save_grey(tmp_path / "a,b.png", 100)
    ran = edgeiqa("score", path, "--bundle", bundle, "--csv")
    assert ran.code == 0
    assert rows(ran.out.encode()) == rows(bytes_out("score", path, "--bundle", bundle, "--csv")[1])
