"""``edgeiqa score``: a line a photograph, in order, whatever one of them is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from edgeiqa import load

from .command import edgeiqa, require_refusal, rewritten, save_photo

KEYS = ["path", "score", "members", "spread", "width", "height", "error"]


def test_a_line_of_json_a_photograph(pair_bundle: Path, photos: Path) -> None:
    first, second = photos / "03.jpg", photos / "00.jpg"
    ran = edgeiqa("score", first, second, "--bundle", pair_bundle, "--json")
    assert (ran.code, ran.err) == (0, "")
    scorer = load(pair_bundle)
    for line, path in zip(ran.lines, (first, second), strict=True):
        expected = scorer.score(path)
        assert list(line) == KEYS
        assert line == {
            "path": str(path),
            "score": expected.value,
            "members": list(expected.members),
            "spread": expected.spread,
            "width": expected.width,
            "height": expected.height,
            "error": None,
        }
        a, b = line["members"]
        assert line["score"] == pytest.approx((3 * a + b) / 4)
        assert line["spread"] == pytest.approx(abs(a - b) / 2)
    assert (ran.lines[0]["width"], ran.lines[0]["height"]) == (132, 90)


def test_one_member_has_no_spread(small_bundle: Path, photos: Path) -> None:
    line = edgeiqa("score", photos / "00.jpg", "--bundle", small_bundle, "--json").object
    assert line["spread"] is None
    assert line["members"] == [line["score"]]


def test_folders_are_walked_in_order(small_bundle: Path, tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.png", "a/c/1.JPG", "a/c/2.webp", "c.tiff"]
    for seed, name in enumerate(names):
        save_photo(tmp_path / "in" / name, seed)
    (tmp_path / "in" / "a" / "notes.txt").write_text("not a photograph")
    (tmp_path / "in" / "folder.jpg").mkdir()
    alone = save_photo(tmp_path / "alone.bmp", 9)
    ran = edgeiqa("score", alone, tmp_path / "in", alone, "--bundle", small_bundle, "--json")
    assert ran.code == 0
    walked = [str(tmp_path / "in" / name) for name in ("a/c/1.JPG", "a/c/2.webp", "a/z.png", "b.jpg", "c.tiff")]
    assert [line["path"] for line in ran.lines] == [str(alone), *walked, str(alone)]


def test_unreadable_photographs_say_why_and_the_others_are_scored(
    small_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    data = (photos / "05.jpg").read_bytes()
    (tmp_path / "a-cut-off.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "b-empty.jpg").write_bytes(b"")
    shutil.copy(photos / "05.jpg", tmp_path / "c-good.jpg")
    (tmp_path / "d-text.png").write_text("not a photograph")
    ran = edgeiqa("score", tmp_path, "--bundle", small_bundle, "--json")
    assert ran.code == 1
    assert ran.err == "3 of 4 photographs could not be read\n"
    assert [list(line) for line in ran.lines] == [KEYS] * 4
    for line in ran.lines:
        if line["path"].endswith("c-good.jpg"):
            assert isinstance(line["score"], float) and line["error"] is None
        else:
            assert line["score"] is None and line["members"] == [] and line["spread"] is None
            assert line["path"] in line["error"]
            assert "expected" in line["error"] and "to mend" in line["error"]


def test_a_file_that_is_named_is_tried_whatever_its_suffix(small_bundle: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "00.jpg", tmp_path / "photo")
    ran = edgeiqa("score", tmp_path / "photo", "--bundle", small_bundle, "--json")
    assert ran.code == 0 and ran.object["error"] is None


def test_names_that_are_no_text(small_bundle: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 [red]\xc3\xa9.jpg")
    shutil.copy(photos / "00.jpg", tmp_path / name)
    ran = edgeiqa("score", tmp_path, "--bundle", small_bundle, "--json")
    assert ran.code == 0
    assert ran.out.isascii()
    assert ran.object["path"] == str(tmp_path / name)
    table = edgeiqa("score", tmp_path, "--bundle", small_bundle)
    assert table.code == 0
    assert "caf� [red]é.jpg" in table.out


def test_a_table_for_people(small_bundle: Path, photos: Path) -> None:
    ran = edgeiqa("score", photos / "00.jpg", photos / "01.jpg", "--bundle", small_bundle)
    line = edgeiqa("score", photos / "00.jpg", "--bundle", small_bundle, "--json").object
    assert ran.code == 0
    assert "small: 0 to 100, higher is better" in ran.out
    row = next(row for row in ran.out.splitlines() if str(photos / "00.jpg") in row)
    assert row.split()[1:] == [f"{line['score']:.2f}", "120x90"]


def test_the_other_engine(small_bundle: Path, photos: Path) -> None:
    arguments: list[Any] = ["score", photos, "--bundle", small_bundle, "--json"]
    ours, theirs = edgeiqa(*arguments), edgeiqa(*arguments, "--engine", "openvino", "--threads", 1)
    assert theirs.code == 0
    for a, b in zip(ours.lines, theirs.lines, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=0.05)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_missing_path_and_a_folder_without_images(small_bundle: Path, tmp_path: Path, as_json: list[str]) -> None:
    good = save_photo(tmp_path / "good.jpg", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing here")
    for path, words in ((tmp_path / "missing.jpg", "not there"), (tmp_path / "empty", "without images")):
        require_refusal(edgeiqa("score", good, path, "--bundle", small_bundle, *as_json), str(path), words)


def test_bundles_that_must_not_be_used(small_bundle: Path, photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.eiqa"
    graph = "graphs/mobilenetv3_small_050-64x64.onnx.fp32.onnx"
    size = len(load(small_bundle).bundle.read(graph))

    def score(bundle: Path) -> Any:
        return edgeiqa("score", photos / "00.jpg", "--bundle", bundle, "--json")

    require_refusal(score(tmp_path / "missing.eiqa"), "missing.eiqa", "not there")
    require_refusal(score(tmp_path), "a folder")
    require_refusal(score(photos / "00.jpg"), "a whole bundle")
    data = small_bundle.read_bytes()
    broken.write_bytes(data[:-2000])
    require_refusal(score(broken), "copy it again")
    rewritten(small_bundle, broken, parts={graph: bytes(size)})
    require_refusal(score(broken), graph, "sha256", "copy it again")
    rewritten(small_bundle, broken, lambda manifest: manifest.update(format="2.0"))
    require_refusal(score(broken), "format 2.0", "format 1.x", "pip install --upgrade edgeiqa")
    rewritten(small_bundle, broken, lambda manifest: manifest.update(requires=["time-travel"]))
    require_refusal(score(broken), "time-travel", "pip install --upgrade edgeiqa")
    rewritten(small_bundle, broken, lambda manifest: manifest.update(extensions={"time-travel": 1}))
    assert score(broken).code == 0


def test_a_precision_that_the_bundle_does_not_hold(small_bundle: Path, photos: Path) -> None:
    ran = edgeiqa("score", photos / "00.jpg", "--bundle", small_bundle, "--precision", "int8", "--json")
    require_refusal(ran, "int8", "onnx fp32, openvino fp32", "--precision")
