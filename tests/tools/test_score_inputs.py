"""Which photographs ``edgeiqa score`` is asked about: patterns, and lists on stdin however they come."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from edgeiqa.runtime.errors import UsageError
from edgeiqa.tools.options import find_photographs
from edgeiqa.tools.score_inputs import photographs_of
from hypothesis import given
from hypothesis import strategies as st

from .command import edgeiqa, require_refusal
from .grey import FLOAT32, light_bundle, save_grey, score_of, stdin_of

LIST = (Path("-"),)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("bundle"))


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with photographs in it."""
    for level, name in enumerate(["b.png", "a.png", "c.txt", "in/d.png", "in/deep/e.png", "in/deep/f.jpg", "[ab].png"]):
        save_grey(tmp_path / name, level)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*.png"], ["[ab].png", "a.png", "b.png"]),
        (["?.png"], ["a.png", "b.png"]),
        (["[b-c].*"], ["b.png", "c.txt"]),
        (["in/*/*"], ["in/deep/e.png", "in/deep/f.jpg"]),
        (["**/*.png"], ["[ab].png", "a.png", "b.png", "in/d.png", "in/deep/e.png"]),
        # Each in its turn, and again where it is named again.
        (["b.png", "*.png", "a.png"], ["b.png", "[ab].png", "a.png", "b.png", "a.png"]),
        # A folder that matches is walked as one that is named.
        (["i*"], ["in/d.png", "in/deep/e.png", "in/deep/f.jpg"]),
        (["in/d*"], ["in/d.png", "in/deep/e.png", "in/deep/f.jpg"]),
        # A file of that name is no pattern.
        (["[ab].png"], ["[ab].png"]),
    ],
)
def test_a_pattern_is_what_it_matches_in_order(tree: Path, patterns: list[str], found: list[str]) -> None:
    assert find_photographs(tuple(map(Path, patterns))) == [Path(name) for name in found]
    absolute = tuple(tree / pattern for pattern in patterns)
    assert find_photographs(absolute) == [tree / name for name in found]


@pytest.mark.parametrize(
    ("path", "words"),
    [("*.gif", "matches nothing"), ("no/*.png", "matches nothing"), ("a?.png", "matches nothing"), ("x.png", "there")],
)
def test_what_matches_nothing_is_refused(tree: Path, bundle: Path, path: str, words: str) -> None:
    with pytest.raises(UsageError, match="correct the") as caught:
        find_photographs((Path("a.png"), Path(path)))
    assert path in caught.value.got and words in caught.value.got
    require_refusal(edgeiqa("score", "a.png", path, "--bundle", bundle, "--json"), path, words)


def test_a_pattern_is_scored(tree: Path, bundle: Path) -> None:
    ran = edgeiqa("score", "?.png", "--bundle", bundle, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [(line["path"], line["score"]) for line in ran.lines] == [
        ("a.png", pytest.approx(score_of(1), abs=FLOAT32)),
        ("b.png", pytest.approx(score_of(0), abs=FLOAT32)),
    ]


def test_files_are_counted_and_a_list_is_not(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = photographs_of((Path("*.png"), Path("in")), null_separated=False)
    assert named.count == 6 == len(list(named.paths))
    stdin_of(monkeypatch, b"a.png\n")
    assert photographs_of(LIST, null_separated=False).count is None


# --- a list on stdin --------------------------------------------------------------------------------------------------


class Pieces:
    """A stream that gives its bytes piece by piece, as a pipe does."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read1(self, size: int) -> bytes:
        assert all(0 < len(piece) <= size for piece in self.pieces)
        return self.pieces.pop(0) if self.pieces else b""


def listed(*pieces: bytes, null_separated: bool = False) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=Pieces(*pieces)))
        return list(photographs_of(LIST, null_separated=null_separated).paths)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a.png", ["a.png"]),
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"a.png\n\n\nb.png", ["a.png", "b.png"]),
        (b"a.png\r\nb.png\r\n", ["a.png", "b.png"]),
        (b"a.png\r\nb.png\r", ["a.png", "b.png"]),
        # Only a line end is taken off, and spaces are a name's own.
        (b" a.png \n\tb.png\r\r\n", [" a.png ", "\tb.png\r"]),
        (b"caf\xe9.png\n\xff\n", [os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xff")]),
        ("é\u2028ü.png\n\u0085".encode(), ["é\u2028ü.png", "\u0085"]),
        (b"a\0b\n", ["a\0b"]),
    ],
)
def test_a_line_is_a_path(data: bytes, names: list[str]) -> None:
    assert listed(*([data] if data else [])) == names


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", []),
        (b"a.png\0", ["a.png"]),
        (b"a.png\0b\nc.png\0\0d\r.png", ["a.png", "b\nc.png", "d\r.png"]),
        (b"e\r\0\n\0", ["e\r", "\n"]),
        (b"caf\xe9\n\0", [os.fsdecode(b"caf\xe9\n")]),
    ],
)
def test_with_null_a_path_may_hold_line_ends(data: bytes, names: list[str]) -> None:
    assert listed(*([data] if data else []), null_separated=True) == names


@given(
    st.lists(st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name), max_size=8),
    st.lists(st.integers(1, 7)),
)
def test_names_are_whole_wherever_the_stream_breaks(names: list[bytes], sizes: list[int]) -> None:
    data, pieces = b"\0".join(names), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    expected = [os.fsdecode(name) for name in names]
    assert listed(*filter(None, [*pieces, data]), null_separated=True) == expected


def test_a_list_is_not_read_further_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Pieces(b"a.png\nb.png\nc.", b"png\n", b"d.png")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
    paths = photographs_of(LIST, null_separated=False).paths
    assert len(stream.pieces) == 3
    assert [next(paths), next(paths)] == ["a.png", "b.png"]
    assert len(stream.pieces) == 2
    assert next(paths) == "c.png"
    assert len(stream.pieces) == 1
    assert list(paths) == ["d.png"]


def test_a_program_without_stdin_has_no_list(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    ran = edgeiqa("score", "-", "--bundle", bundle)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "0 photographs"


def test_names_that_are_no_text_are_scored_from_a_list(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "end\r.png", " spaces .png"]
    paths = [save_grey(tmp_path / name, 40 * index) for index, name in enumerate(names)]
    stdin_of(monkeypatch, b"\0".join(map(os.fsencode, paths)))
    ran = edgeiqa("score", "-", "--null", "--bundle", bundle, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [line["path"] for line in ran.lines] == [str(path) for path in paths]
    assert [line["score"] for line in ran.lines] == pytest.approx([score_of(40 * i) for i in range(4)], abs=FLOAT32)


def test_a_path_of_a_list_that_is_not_there_is_its_own_error(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_grey(tmp_path / "a.png", 10), tmp_path / "no" / "*.png", tmp_path, save_grey(tmp_path / "b.png", 20)]
    stdin_of(monkeypatch, "".join(f"{path}\r\n" for path in paths).encode())
    ran = edgeiqa("score", "-", "--bundle", bundle, "--json")
    assert (ran.code, ran.err) == (1, "2 of 4 photographs could not be read\n")
    assert [line["path"] for line in ran.lines] == [str(path) for path in paths]
    assert [line["score"] is None for line in ran.lines] == [False, True, True, False]
    assert "no file" in ran.lines[1]["error"] and "a folder" in ran.lines[2]["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "a.png"], "- beside other paths"),
        (["a.png", "-"], "- beside other paths"),
        (["-", "-"], "- beside other paths"),
        (["--null", "a.png"], "--null without a list on stdin"),
        (["--null", "-", "a.png"], "- beside other paths"),
    ],
)
def test_a_list_beside_other_paths_is_refused(
    tree: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    stdin_of(monkeypatch, b"a.png\n")
    require_refusal(edgeiqa("score", *arguments, "--bundle", bundle), words)
