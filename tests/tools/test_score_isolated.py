"""``edgeiqa score --isolate``: the same scores, and a photograph that hangs costs its own time limit."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from .command import edgeiqa, require_refusal
from .grey import bytes_out, light_bundle, save_grey, stdin_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("bundle"))


def test_isolated_scores_are_the_same_and_one_that_hangs_is_told(tmp_path: Path, bundle: Path) -> None:
    names = ["a.png", "b\n.png", os.fsdecode(b"caf\xe9.png")]
    good = [save_grey(tmp_path / name, 40 + 50 * index) for index, name in enumerate(names)]
    (tmp_path / "broken.png").write_bytes(b"no photograph")
    os.mkfifo(tmp_path / "endless.png")
    paths = [good[0], tmp_path / "broken.png", good[1]]
    before = {process.pid for process in multiprocessing.active_children()}
    plain = edgeiqa("score", *paths, good[2], "--bundle", bundle, "--json")
    ran = edgeiqa(
        *("score", *paths, tmp_path / "endless.png", good[2], "--bundle", bundle, "--json"),
        *("--isolate", "--time-limit", 2.5, "--streams", 1),
    )
    assert {process.pid for process in multiprocessing.active_children()} == before
    assert (plain.code, ran.code, ran.err) == (1, 1, "2 of 5 photographs could not be read\n")
    hung = ran.lines[3]
    assert ran.lines[:3] + ran.lines[4:] == plain.lines
    assert hung["score"] is None and hung["path"] == str(tmp_path / "endless.png")
    assert "endless.png, which took longer than 2.5 s" in hung["error"] and "more time" in hung["error"]


def test_isolated_scores_are_kept_and_printed_as_others_are(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_grey(tmp_path / f"{level}.png", level) for level in (10, 200)]
    kept = [tmp_path / "plain.jsonl", tmp_path / "isolated.jsonl"]
    for file, options in zip(kept, ([], ["--isolate"]), strict=True):
        assert edgeiqa("score", *paths, "--bundle", bundle, "--resume", file, *options).code == 0
    assert kept[0].read_bytes() == kept[1].read_bytes()
    printed = []
    for options in ([], ["--isolate"]):
        stdin_of(monkeypatch, b"\n".join(map(os.fsencode, paths)))
        printed.append(bytes_out("score", "-", "--bundle", bundle, "--csv", *options))
    assert printed[0] == printed[1] and printed[0][0] == 0


@pytest.mark.parametrize("how", ["--csv", "--json"])
def test_a_time_limit_that_is_no_number_is_refused_before_anything_is_printed(
    tmp_path: Path, bundle: Path, how: str
) -> None:
    path = save_grey(tmp_path / "a.png", 10)
    ran = edgeiqa("score", path, "--bundle", bundle, "--isolate", "--time-limit", "nan", how)
    require_refusal(ran, "nan")
