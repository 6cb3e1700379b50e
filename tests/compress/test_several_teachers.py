"""Several teachers as one: all their members, and a rule that still says who may speak."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.data.items import Item
from edgeiqa.compress.models import NoWeights, build, one_backbone
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_targets import targets
from edgeiqa.compress.teachers import Teacher, load_teachers
from edgeiqa.runtime.errors import DataError, UsageError
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from PIL import Image

SYSTEM = one_backbone("test_efficientnet", 32, 32, stages=(1,))


def save(folder: Path, seed: int, high: float = 100.0, **provenance: object) -> str:
    """A checkpoint whose scores are 0 to ``high``."""
    score_map = ScoreMap(steps=(Sigmoid(slope=3.0, centre=0.0, low=0.0, high=high),), low=0.0, high=high)
    record = Checkpoint(name=folder.name, system=SYSTEM, score_map=score_map, provenance=dict(provenance))
    save_checkpoint(folder, record, build(SYSTEM, weights=NoWeights(seed=seed)))
    return str(folder)


def sha(place: int) -> str:
    return hashlib.sha256(bytes([place])).hexdigest()


def save_run(folder: Path, seed: int, folds: tuple[int, ...]) -> str:
    """A run of two members, and the fold of each of its photographs."""
    for fold in (0, 1):
        save(folder / "members" / f"m{fold}", seed + fold, heldout_fold=fold)
    rows: list[tuple[object, ...]] = [
        (f"{place}.jpg", sha(place), 50, fold, f"m{fold}", 0.1, 40) for place, fold in enumerate(folds)
    ]
    tables: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
        "out_of_fold.csv": (("image", "sha256", "mos", "fold", "member", "raw", "score"), rows),
        "selection.csv": (("image", "sha256", "mos", "ensemble"), [("r.jpg", sha(99), 50, 50)]),
    }
    for name, (header, lines) in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *lines])
    return str(folder)


def test_their_members_are_heard_together_whatever_their_scales(tmp_path: Path) -> None:
    specs = [save(tmp_path / "a", 0), save(tmp_path / "b", 1, high=5.0)]
    both = load_teachers(specs, device="cpu")
    assert isinstance(both, Teacher) and not both.folds_known
    assert (both.name, [member.name for member in both.members]) == ("a + b", ["a", "b"])
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    item = Item(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with TeacherCache(tmp_path / "cache") as cache:
        fill(cache, both, [item])
        said = targets(cache, both, [item])
        alone = []
        for spec in specs:
            one = load_teachers([spec], device="cpu")
            assert isinstance(one, Teacher)
            # The same keys: nothing is asked again.
            alone.append(targets(cache, one, [item]).mean[0])
    assert said.mean == pytest.approx([np.mean(alone)]) and said.spread == pytest.approx([np.std(alone)])
    assert alone[0] != alone[1]


def test_runs_on_one_division_keep_it(tmp_path: Path) -> None:
    specs = [save_run(tmp_path / name, seed, (0, 1, 1)) for name, seed in (("one", 0), ("two", 5))]
    both = load_teachers(specs, device="cpu")
    assert isinstance(both, Teacher) and both.folds_known
    assert both.speakers(both.folds[sha(1)], distorted=False) == (False, True, False, True)
    assert both.speakers(both.folds[sha(99)], distorted=False) == (True,) * 4


def test_teachers_that_do_not_go_together(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", 0, (0, 1, 1))
    other = save_run(tmp_path / "other", 5, (1, 0, 1))
    foreign = save(tmp_path / "foreign", 9)
    for pair in ([run, other], [run, foreign], [foreign, run]):
        with pytest.raises(UsageError, match="do not know the same folds") as caught:
            load_teachers(pair, device="cpu")
        assert "in one run" in caught.value.mend
    (tmp_path / "scores.csv").write_text("image,score\na,1\n")
    with pytest.raises(UsageError, match="a table of scores among the teachers"):
        load_teachers([foreign, str(tmp_path / "scores.csv")], device="cpu")
    with pytest.raises(DataError, match="the same network"):
        load_teachers([foreign, foreign], device="cpu")
    with pytest.raises(UsageError, match="no teacher"):
        load_teachers([])
