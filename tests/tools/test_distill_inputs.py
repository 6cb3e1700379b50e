"""What a distillation takes when the call does not say, and what of it is kept out so that no label leaks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress.distill import TransferPhotographs
from edgeiqa.compress.teachers import Teacher, load_teacher
from edgeiqa.runtime.errors import DataError, UsageError
from edgeiqa.tools.distill_inputs import PhotographSource, find_photographs_of, find_teacher, find_teachers
from edgeiqa.tools.runs import start_run
from edgeiqa.tools.sample_photographs import sample_photographs

from .command import save_photo, write_table
from .teach_runs import save_labelled, sha256_of, teach_run

NOTHING: dict[str, Any] = {
    "data": None,
    "images": None,
    "unlabelled": (),
    "split": None,
    "score_range": (0.0, 100.0),
}
COUNT, TEST = 24, 6


@dataclass(frozen=True)
class Made:
    """A labelled folder of which 18 photographs are for training, and an ensemble that was taught on these."""

    data: Path
    run: Path
    teacher: Teacher
    parts: dict[str, int | str]

    def name(self, sha256: str) -> str:
        names = sha256_of(self.data.parent, [f"{place:02}.jpg" for place in range(COUNT)])
        return next(name for name, known in names.items() if known == sha256)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("made")
    data = save_labelled(root / "data", COUNT, test=TEST)
    # Folds 0 and 1 were held out, fold 2 by nobody.
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 3 for place in range(COUNT - TEST)}
    parts |= dict.fromkeys(("03.jpg", "07.jpg", "11.jpg"), "selection")
    run = teach_run(root / "runs", data, parts)
    teacher = load_teacher(str(run))
    assert isinstance(teacher, Teacher)
    return Made(data, run, teacher, parts)


def load(
    teacher: Any = None, selection: float = 0.2, runs: Path = Path("nowhere"), **flags: Any
) -> TransferPhotographs:
    return find_photographs_of({**NOTHING, **flags}, runs).load(teacher, selection, 0, 1)


def names(photographs: Iterable[Any]) -> set[str]:
    return {photo.path.name for photo in photographs}


def test_the_ensemble_is_the_newest_finished_teach_run(made: Made, tmp_path: Path, capsys: Any) -> None:
    runs = tmp_path / "runs"
    assert find_teacher("ensemble", runs) == "default"
    assert "the default ensemble" in capsys.readouterr().err
    parts: dict[str, int | str] = {"00.jpg": 0, "01.jpg": 1, "02.jpg": "selection"}
    old, new = (teach_run(runs, made.data, parts, label=label) for label in ("zebra", "ant"))
    start_run(runs, "teach", "unfinished", {})
    assert find_teacher("ensemble", runs) == str(new.resolve()) != str(old.resolve())
    assert f"teacher: {new}, the newest teach run" in capsys.readouterr().err
    assert find_teacher("none", runs) is None
    assert find_teachers(("none",), runs) == ()
    assert find_teachers(("a:b", "ensemble"), runs) == ("a:b", str(new.resolve()))
    with pytest.raises(UsageError, match="--teacher a:b --teacher none"):
        find_teachers(("a:b", "none"), runs)


def test_a_teachers_file_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scores.csv", "weights.pth"):
        Path(name).touch()
    assert find_teacher("scores.csv", tmp_path) == str(tmp_path / "scores.csv")
    assert find_teacher("scores.csv?range=0,5", tmp_path) == f"{tmp_path / 'scores.csv'}?range=0,5"
    assert find_teacher("timm:resnet18@weights.pth?size=32x32", tmp_path) == (
        f"timm:resnet18@{tmp_path / 'weights.pth'}?size=32x32"
    )
    for other in ("default", "module:factory", "absent.csv", "timm:resnet18@absent.pth", "timm:resnet18"):
        assert find_teacher(other, tmp_path) == other


def test_photographs_that_nobody_named(made: Made, tmp_path: Path, capsys: Any) -> None:
    sample = find_photographs_of(NOTHING, tmp_path)
    assert sample.samples and "the sample photographs of scikit-learn and scikit-image" in capsys.readouterr().err
    learned = sample.load(None, 0.15, 0, 1)
    assert len(learned.training) + len(learned.heldout) == len(sample_photographs()) and len(learned.heldout) == 1
    assert set(learned.images.values()) == {path.name for path in sample_photographs()}
    # Those of the newest teach run, by its own split and range.
    source = find_photographs_of(NOTHING, made.run.parent)
    assert f"photographs: those of {made.run}" in capsys.readouterr().err
    assert (source.data, source.images, source.split) == (made.data, made.data.parent / "images", "train")
    assert not source.samples


def test_named_photographs_go_before_those_of_a_run(made: Made, tmp_path: Path) -> None:
    runs = made.run.parent
    named = find_photographs_of({**NOTHING, "data": tmp_path / "a" / "mos.csv"}, runs)
    assert (named.data, named.images, named.split) == (tmp_path / "a" / "mos.csv", tmp_path / "a", None)
    folder = find_photographs_of({**NOTHING, "unlabelled": (tmp_path,)}, runs)
    assert (folder.data, folder.images, folder.unlabelled) == (None, None, (tmp_path,))
    with pytest.raises(UsageError, match="--split without --data"):
        find_photographs_of({**NOTHING, "split": "train"}, runs)


def test_a_source_comes_back_from_the_runs_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"data": Path("d.csv"), "images": Path("i"), "unlabelled": (Path("u"),), "split": "train"}
    source = find_photographs_of({**NOTHING, **flags, "score_range": (1.0, 5.0)}, tmp_path)
    assert PhotographSource.of(source.settings) == PhotographSource(
        data=tmp_path / "d.csv",
        images=tmp_path / "i",
        unlabelled=(tmp_path / "u",),
        split="train",
        score_range=(1.0, 5.0),
        samples=False,
    )
    samples = find_photographs_of(NOTHING, tmp_path)
    assert PhotographSource.of(samples.settings) == samples and samples.samples


def test_the_selection_part_of_the_teacher_is_only_judged(made: Made, capsys: Any) -> None:
    found = load(made.teacher, data=made.data, images=made.data.parent / "images", split="train")
    assert names(found.heldout) == {"03.jpg", "07.jpg", "11.jpg"}
    # Of fold 2 nobody may speak: its members were all trained on it.
    speaking = {name for name, part in made.parts.items() if part in (0, 1)}
    assert names(found.training) == speaking
    silent = sum(part == 2 for part in made.parts.values())
    assert f"{silent} photographs are left out: members were trained on them, and none held their folds out" in (
        capsys.readouterr().err
    )
    assert found.judged_by_people and set(found.mos) >= {photo.sha256 for photo in found.training}
    for photo in (*found.training, *found.heldout):
        assert found.images[photo.sha256] == made.name(photo.sha256)


def test_opinions_are_in_the_unit_of_their_range(made: Made) -> None:
    whole = load(data=made.data, images=made.data.parent / "images")
    outer = dict(line.split(",")[:2] for line in made.data.read_text().splitlines()[1:])
    for sha256, opinion in whole.mos.items():
        assert opinion == pytest.approx(float(outer[made.name(sha256)]) / 100)
    wide = load(data=made.data, images=made.data.parent / "images", score_range=(-100.0, 100.0))
    assert {sha: (opinion * 100 + 100) / 200 for sha, opinion in whole.mos.items()} == pytest.approx(wide.mos)


def test_without_a_reserved_part_one_is_drawn(made: Made) -> None:
    found = load(data=made.data, images=made.data.parent / "images", split="train")
    assert len(found.heldout) == round(0.2 * 18) and len(found.training) == 18 - len(found.heldout)
    assert not names(found.heldout) & names(found.training)
    again = load(data=made.data, images=made.data.parent / "images", split="train")
    assert again == found


def test_photographs_of_other_splits_are_kept_out_wherever_they_lie(made: Made, tmp_path: Path, capsys: Any) -> None:
    """A folder of unlabelled photographs may hold the test's, under other names."""
    folder = tmp_path / "collected"
    for place in range(3):
        save_photo(folder / f"fresh{place}.jpg", 100 + place)
    shutil.copy(made.data.parent / "images" / "23.jpg", folder / "innocent.jpg")
    shutil.copy(made.data.parent / "images" / "00.jpg", folder / "labelled.jpg")
    shutil.copy(made.data.parent / "images" / "07.jpg", folder / "reserved.jpg")
    shutil.copy(made.data.parent / "images" / "02.jpg", folder / "silent.jpg")
    shutil.copy(folder / "fresh0.jpg", folder / "twice.jpg")
    images = made.data.parent / "images"
    found = load(made.teacher, data=made.data, images=images, split="train", unlabelled=(folder,))
    every = names(found.training) | names(found.heldout)
    assert every & {path.name for path in folder.iterdir()} == {"fresh0.jpg", "fresh1.jpg", "fresh2.jpg"}
    assert not every & {f"{place:02}.jpg" for place in range(COUNT - TEST, COUNT)}
    assert {"fresh0.jpg", "fresh1.jpg", "fresh2.jpg"} < names(found.training)
    said = capsys.readouterr().err
    # The test's, the labelled one, the reserved one, one of a fold nobody held out (labelled too), and the copy.
    assert "5 unlabelled photographs are kept out: labelled, reserved, of another split, or there twice" in said
    assert all(photo.sha256 not in found.mos for photo in found.training if photo.path.parent == folder)


def test_a_folder_alone_is_divided_without_the_teachers_parts(made: Made, capsys: Any) -> None:
    images = made.data.parent / "images"
    found = load(made.teacher, images=images)
    every = {*found.training, *found.heldout}
    reserved = {name for name, part in made.parts.items() if part in ("selection", 2)}
    assert names(every) == {f"{place:02}.jpg" for place in range(COUNT)} - reserved
    assert not found.mos and not found.judged_by_people
    assert "3 unlabelled photographs are kept out" in capsys.readouterr().err
    # A teacher that does not say what it was trained on keeps nothing out.
    assert len(load(images=images).training) == COUNT - round(0.2 * COUNT)


def test_a_table_with_splits_is_said_to_be_taken_whole(made: Made, capsys: Any) -> None:
    load(data=made.data, images=made.data.parent / "images")
    assert "has the splits test, train: all are taken" in capsys.readouterr().err
    load(data=made.data, images=made.data.parent / "images", split="test")
    assert "all are taken" not in capsys.readouterr().err


def test_photographs_that_are_there_twice(tmp_path: Path, capsys: Any) -> None:
    data = save_labelled(tmp_path, 12, test=2)
    shutil.copy(tmp_path / "images" / "11.jpg", tmp_path / "images" / "leak.jpg")
    shutil.copy(tmp_path / "images" / "00.jpg", tmp_path / "images" / "again.jpg")
    first = float(data.read_text().splitlines()[1].split(",")[1])
    data.write_text(f"{data.read_text()}leak.jpg,50,train\nagain.jpg,{first / 2},train\n")
    found = load(data=data, images=tmp_path / "images", split="train")
    # What the test has as well is the test's.
    assert names({*found.training, *found.heldout}) == {f"{place:02}.jpg" for place in range(10)}
    assert found.mos[sha256_of(tmp_path, ["00.jpg"])["00.jpg"]] == pytest.approx(0.75 * first / 100)
    assert found.left_out == {"10.jpg", "11.jpg", "leak.jpg", "again.jpg"}
    said = capsys.readouterr().err
    assert "1 labelled photographs are kept out, as another split has them too" in said
    assert "1 labelled photographs are there twice; their opinions are averaged" in said


def test_a_copy_among_unlabelled_photographs_has_the_name_of_the_first(tmp_path: Path) -> None:
    for place in range(4):
        save_photo(tmp_path / "few" / f"{place}.jpg", place)
    shutil.copy(tmp_path / "few" / "0.jpg", tmp_path / "few" / "z.jpg")
    found = load(images=tmp_path / "few")
    assert {found.images[photo.sha256] for photo in (*found.training, *found.heldout)} == {
        f"{place}.jpg" for place in range(4)
    }
    assert found.left_out == {"z.jpg"}


def test_photographs_that_cannot_be_read(made: Made, tmp_path: Path, capsys: Any) -> None:
    for place in range(3):
        save_photo(tmp_path / "few" / f"{place}.jpg", place)
    (tmp_path / "few" / "cut.jpg").write_bytes((tmp_path / "few" / "0.jpg").read_bytes()[:300])
    found = load(images=tmp_path / "few")
    assert len(found.training) + len(found.heldout) == 3
    assert "left out: " in capsys.readouterr().err
    write_table(tmp_path / "mos.csv", [("0.jpg", 3), ("cut.jpg", 4)])
    with pytest.raises(DataError, match=r"1 labelled photographs that cannot be read.*cut\.jpg"):
        load(data=tmp_path / "mos.csv", images=tmp_path / "few")


def test_too_few_photographs(made: Made, tmp_path: Path) -> None:
    save_photo(tmp_path / "one" / "0.jpg", 0)
    with pytest.raises(DataError, match="1 photographs"):
        load(images=tmp_path / "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="a folder without images"):
        load(images=tmp_path / "none")
    # All that is left is of folds that nobody held out, or nothing is left to judge by.
    data = save_labelled(tmp_path / "all", 8)
    run = teach_run(tmp_path / "runs", data, {f"{place:02}.jpg": min(place, 2) for place in range(8)}, split=None)
    header, _, _, *rest = data.read_text().splitlines()
    data.write_text("\n".join([header, *rest]) + "\n")
    with pytest.raises(DataError, match="0 photographs to learn from and 0 to judge by"):
        load(load_teacher(str(run)), data=data, images=tmp_path / "all" / "images")
    with pytest.raises(DataError, match="to judge by"):
        load(selection=0.0, data=data, images=tmp_path / "all" / "images")
    for share in (0.6, np.nan, -1.0):
        with pytest.raises(UsageError):
            load(selection=share, data=data, images=tmp_path / "all" / "images")
