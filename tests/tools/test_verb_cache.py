"""``edgeiqa cache``: what a fill takes is said first, what it did is shown, and what cannot be is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from edgeiqa.compress.data.items import list_photographs, read_photographs
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teachers import Teacher, load_teacher

from .command import edgeiqa, files_in, require_refusal, write_table


@pytest.fixture(scope="module")
def few(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(photos.iterdir())[:3]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def filled(run_folder: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of two members' answers to three photographs, a crop and a distorted version of each."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    ran = edgeiqa("cache", "fill", run_folder, "--images", few, "-o", folder, "--crops", 2, "--distortions", 1)
    assert ran.code == 0, ran.err
    for words in (
        "teacher training: 2 members\n",
        "9 items, of which 9 are to do: 18 runs, ",
        " TMACs, about ",
        "GB free",
        "which photographs it was trained on is not known",
        f"{folder}: 18 answers added, of 9 items",
    ):
        assert words in ran.out, words
    return folder


def test_what_was_filled_is_what_a_distillation_asks_for(filled: Path, run_folder: Path, few: Path) -> None:
    photographs, unreadable = read_photographs(list_photographs(few))
    items = transfer_items(photographs, crops=2, distortions=1)
    teacher = load_teacher(str(run_folder))
    assert isinstance(teacher, Teacher) and not unreadable
    with TeacherCache(filled, create=False) as cache:
        assert [cache.missing(member, items) for member in teacher.members] == [[], []]


def test_what_was_done_is_not_done_again(filled: Path, run_folder: Path, few: Path) -> None:
    before = {path: path.read_bytes() for path in (filled / "shards").iterdir()}
    again = ("cache", "fill", run_folder, "--images", few, "-o", filled, "--json")
    facts = edgeiqa(*again, "--crops", 2, "--distortions", 1).object
    assert (facts["items"], facts["items_to_do"], facts["runs"], facts["bytes"]) == (9, 0, 0, 0)
    assert (facts["members"], facts["folds_known"], facts["unreadable"]) == (["first", "second"], False, 0)
    more = edgeiqa(*again, "--distortions", 3, "--crops", 2, "--dry-run").object
    assert (more["items_to_do"], more["runs"]) == (6, 12) and more["seconds"] > 0
    assert {path: path.read_bytes() for path in (filled / "shards").iterdir()} == before


def test_info_for_a_person_and_for_a_machine(filled: Path) -> None:
    ran = edgeiqa("cache", "info", filled)
    assert (ran.code, ran.err) == (0, "")
    assert f"{filled}: 3 photographs, 9 items, " in ran.out
    facts = edgeiqa("cache", "info", filled, "--json").object
    assert (facts["items"], facts["photographs"]) == (9, 3)
    for member, name in zip(facts["members"], ("first", "second"), strict=True):
        assert (member["name"], member["items"], member["stale"], member["folds"]) == (name, 9, False, {"none": 9})
        assert member["key"][:16] in ran.out and name in ran.out
        assert member["size_bytes"] == 9 * 2 * sum(member["features"].values())


def test_a_member_is_removed_by_the_beginning_of_its_key(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    keys = [member["key"] for member in edgeiqa("cache", "info", copy, "--json").object["members"]]
    require_refusal(edgeiqa("cache", "remove", "", copy), "2 keys", keys[0][:16])
    require_refusal(edgeiqa("cache", "remove", "xyz", copy), "0 keys", keys[1][:16])
    ran = edgeiqa("cache", "remove", keys[0][:8], copy)
    assert (ran.code, ran.out) == (0, "") and "MB freed" in ran.err
    assert [member["key"] for member in edgeiqa("cache", "info", copy, "--json").object["members"]] == keys[1:]
    assert len(list((copy / "shards").iterdir())) == 1


def test_a_dry_run_writes_nothing(run_folder: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    ran = edgeiqa("cache", "fill", run_folder, "--images", few, "-o", out, "--dry-run")
    assert ran.code == 0 and "3 items, of which 3 are to do: 6 runs" in ran.out
    assert files_in(tmp_path) == set()
    out.mkdir()
    ran = edgeiqa("cache", "fill", run_folder, "--images", few, "-o", out, "--dry-run")
    assert ran.code == 0 and files_in(out) == set()


def test_a_dry_run_speaks_of_the_disk_that_is_meant(
    run_folder: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    usage = shutil.disk_usage

    def disk_usage(path: Path) -> Any:
        asked.append(Path(path))
        return usage(path)._replace(free=1 if Path(path) == tmp_path else 2)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    call = ("cache", "fill", run_folder, "--images", few, "-o", tmp_path / "not" / "yet", "--dry-run", "--json")
    assert edgeiqa(*call).object["free_bytes"] == 1 and tmp_path in asked


def test_members_of_several_teachers(run_folder: Path, few: Path, tmp_path: Path) -> None:
    both = [run_folder / "first", run_folder / "second"]
    ran = edgeiqa("cache", "fill", *both, "--images", few, "-o", tmp_path / "cache", "--json")
    assert ran.code == 0, ran.err
    assert (ran.object["teacher"], ran.object["members"]) == ("first + second", ["first", "second"])
    members = edgeiqa("cache", "info", tmp_path / "cache", "--json").object["members"]
    assert [member["items"] for member in members] == [3, 3]


def test_a_photograph_that_cannot_be_read_is_left_out_and_counted(run_folder: Path, few: Path, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path / "photos")
    (tmp_path / "photos" / "cut.jpg").write_bytes((few / "00.jpg").read_bytes()[:500])
    ran = edgeiqa("cache", "fill", run_folder, "--images", tmp_path / "photos", "-o", tmp_path / "cache")
    assert ran.code == 1 and "left out: " in ran.err and "1 of 4 photographs could not be read" in ran.err
    assert edgeiqa("cache", "info", tmp_path / "cache", "--json").object["photographs"] == 3


def test_calls_that_cannot_run(filled: Path, run_folder: Path, few: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "scores.csv", [("00.jpg", 3)], "image,score")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    before = files_in(tmp_path)

    def fill(teacher: object, images: Path, out: Path, *more: object) -> None:
        require_refusal(edgeiqa("cache", "fill", teacher, "--images", images, "-o", out, *more))

    fill(table, few, tmp_path / "new")
    fill("absent.eiqa", few, tmp_path / "new")
    fill(run_folder, tmp_path / "empty", tmp_path / "new")
    fill(run_folder, tmp_path / "absent", tmp_path / "new")
    fill(run_folder, few, tmp_path / "mine")
    fill(run_folder, few, tmp_path / "mine", "--dry-run")
    fill(run_folder, few, tmp_path / "new", "--crops", 0)
    fill(run_folder, few, tmp_path / "new", "--accelerator", "abacus")
    require_refusal(edgeiqa("cache", "fill", run_folder), "--images")
    require_refusal(edgeiqa("cache", "info", tmp_path / "absent"), "absent", "edgeiqa cache fill")
    require_refusal(edgeiqa("cache", "info", tmp_path / "mine"), "thesis.txt")
    require_refusal(edgeiqa("cache", "remove", "a", tmp_path / "absent"), "absent")
    assert files_in(tmp_path) == before


def test_the_default_folder_is_in_runs(
    run_folder: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    require_refusal(edgeiqa("cache", "info"), str(Path("runs") / "cache"))
    assert edgeiqa("cache", "fill", run_folder, "--images", few).code == 0
    assert edgeiqa("cache", "info", "--json").object["items"] == 3
    assert {path.parts[0] for path in map(Path, files_in(tmp_path))} == {"runs"}
