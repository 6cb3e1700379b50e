"""``runs/``: folders that say what they are, go on only as what they are, and are never shared."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress.stages import Stage
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.version import __version__
from edgeiqa.tools.runs import RUN_NAME, Run, finish_run, goes_on, newest_run, read_run, start_run

from .command import files_in

SETTINGS: dict[str, Any] = {"rate": 0.1, "stages": (Stage(epochs=3),), "data": "mos.csv"}


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    folder = start_run(tmp_path / "runs", "teach", "convnext", SETTINGS)
    assert folder == tmp_path / "runs" / "teach-convnext-001"
    run = read_run(folder)
    assert (run.kind, run.finished, run.version) == ("teach", None, __version__)
    assert before <= datetime.fromisoformat(run.created) <= datetime.now(UTC)
    assert msgspec.convert(run.settings["stages"], tuple[Stage, ...]) == SETTINGS["stages"]
    assert files_in(folder) == {RUN_NAME}


def test_each_new_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [start_run(tmp_path, "teach", label, SETTINGS) for label in ("a", "a", "b", "a", "")]
    names = ["teach-a-001", "teach-a-002", "teach-b-001", "teach-a-003", "teach-001"]
    assert [folder.name for folder in folders] == names
    # Another process may have made a folder and not yet said what it is.
    (tmp_path / "teach-a-004").mkdir()
    assert start_run(tmp_path, "teach", "a", SETTINGS).name == "teach-a-005"


def test_a_named_folder_goes_on_with_the_run_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert not goes_on(folder, "teach", SETTINGS)
    assert files_in(tmp_path) == set()
    assert start_run(tmp_path, "teach", "a", SETTINGS, folder=folder) == folder
    written = (folder / RUN_NAME).read_bytes()
    (folder / "weights").write_bytes(b"")
    assert start_run(tmp_path, "teach", "other", SETTINGS, folder=folder) == folder
    assert goes_on(folder, "teach", SETTINGS)
    assert (folder / RUN_NAME).read_bytes() == written


def test_an_empty_folder_is_a_new_one(tmp_path: Path) -> None:
    # Also one in which a process was killed at its very beginning.
    (tmp_path / f"{RUN_NAME}.partial").write_bytes(b"{")
    assert not goes_on(tmp_path, "teach", SETTINGS)
    assert start_run(tmp_path, "teach", "a", SETTINGS, folder=tmp_path) == tmp_path


def test_another_run_is_refused_and_the_differences_are_named(tmp_path: Path) -> None:
    folder = start_run(tmp_path, "teach", "a", SETTINGS)
    written = (folder / RUN_NAME).read_bytes()
    others: list[tuple[str, dict[str, Any], str]] = [
        ("teach", {**SETTINGS, "rate": 0.2}, "its rate differ"),
        ("teach", {**SETTINGS, "stages": (Stage(epochs=4),), "more": 1}, "its more, stages differ"),
        ("teach", {"rate": 0.1}, "its data, stages differ"),
        ("distill", SETTINGS, "its kind differ"),
    ]
    for kind, settings, words in others:
        with pytest.raises(UsageError, match=words) as caught:
            start_run(tmp_path, kind, "a", settings, folder=folder)
        assert f"edgeiqa teach --resume {folder}" in caught.value.mend
    assert (folder / RUN_NAME).read_bytes() == written


def test_a_folder_of_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "thesis", tmp_path / "file"):
        with pytest.raises(UsageError, match=f"{folder.name}, .*expected a new folder"):
            start_run(tmp_path, "teach", "a", SETTINGS, folder=folder)
    assert files_in(tmp_path) == {"thesis", "thesis/chapter.tex", "file"}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"kind": 1}', b"\xff\xfe", b'{"kind": "teach", "created": "now"}'])
def test_a_broken_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN_NAME).write_bytes(content)
    for call in (read_run, finish_run, lambda folder: start_run(tmp_path, "teach", "a", SETTINGS, folder=folder)):
        with pytest.raises(UsageError, match=r"run\.json .*expected the folder of a run"):
            call(tmp_path)
    assert (tmp_path / RUN_NAME).read_bytes() == content


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file.*expected the folder of a run"):
        read_run(tmp_path)


def test_a_run_is_finished_once(tmp_path: Path) -> None:
    folder = start_run(tmp_path, "teach", "a", SETTINGS)
    finish_run(folder)
    first = read_run(folder)
    assert first.finished is not None and first.finished >= first.created
    finish_run(folder)
    assert read_run(folder) == first
    # What was finished may be gone on with: all its work is passed over.
    assert start_run(tmp_path, "teach", "a", SETTINGS, folder=folder) == folder
    assert read_run(folder) == first


def test_the_newest_run_of_a_kind_is_the_one_finished_last(tmp_path: Path) -> None:
    assert newest_run(tmp_path / "absent", "teach") is None
    folders = [start_run(tmp_path, "teach", label, SETTINGS) for label in ("a", "b", "c")]
    assert newest_run(tmp_path, "teach") is None
    finish_run(folders[1])
    finish_run(folders[0])
    other = start_run(tmp_path, "distill", "a", SETTINGS)
    finish_run(other)
    assert newest_run(tmp_path, "teach") == folders[0]
    assert newest_run(tmp_path, "distill") == other
    finish_run(folders[1])
    assert newest_run(tmp_path, "teach") == folders[0]


def test_a_record_goes_through_json() -> None:
    run = Run(kind="teach", created="2026-01-01T00:00:00+00:00", settings={"a": [1, {"b": None}]})
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
