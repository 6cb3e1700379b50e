"""Distillation from end to end with a small student: it learns, resumes to the same bits, and refuses with the mend."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress import distill as module
from edgeiqa.compress import teacher_fill
from edgeiqa.compress.checkpoint import load_checkpoint
from edgeiqa.compress.data.items import Item, cut_item
from edgeiqa.compress.distill import TransferPhotographs, feature_widths
from edgeiqa.compress.distill_records import DistillReport, Transfer
from edgeiqa.compress.distillation import TransferExamples, TransferSet
from edgeiqa.compress.judging import predict
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.records import Mlp
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_members import read_score_table
from edgeiqa.profiles.metrics import evaluate
from edgeiqa.runtime.errors import DataError, UsageError

from . import quick_students
from .quick_students import RECIPE, bright, planes, recipe, run, said_of, save_planes, save_scores, table

COUNT = 40
OPINIONS = {"score": 0.0, "mos": 1.0, "feature": 0.0}
WHOLE = Transfer(crops=1, distortions=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_planes(tmp_path_factory.mktemp("photographs"), COUNT)


@pytest.fixture(scope="module")
def unlabelled(folder: Path) -> TransferPhotographs:
    return planes(folder)


@pytest.fixture(scope="module")
def labelled(folder: Path) -> TransferPhotographs:
    return planes(folder, labelled=range(COUNT))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads take another path."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of `fill` had to do."""
    done: list[int] = []
    fill = teacher_fill.fill

    def counted(*given: Any, **options: Any) -> int:
        done.append(fill(*given, **options))
        return done[-1]

    monkeypatch.setattr(module, "fill", counted)
    return done


@pytest.fixture(scope="module")
def learned(labelled: TransferPhotographs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DistillReport]:
    """A student that learned from all there is: scores, features, opinions; and its run's folder."""
    root = tmp_path_factory.mktemp("learned")
    return root / "run", run(recipe(epochs=12), labelled, bright(), root / "run", root / "cache")


def raw_scores(at: Path, photographs: TransferPhotographs) -> Any:
    """What the stored checkpoint says of the photographs that were held out, on the outer scale."""
    record, network = load_checkpoint(at)
    items = [Item(path=photo.path, sha256=photo.sha256) for photo in photographs.heldout]
    views = np.stack([cut_item(item, record.system.preprocess)["image"] for item in items])
    return record.score_map.apply(predict(network, (views,)))


def test_a_student_learns_what_its_teacher_says(learned: tuple[Path, DistillReport]) -> None:
    at, report = learned
    assert report.agreement is not None and report.agreement.value > 0.8
    assert (report.student, report.teacher, report.photographs, report.heldout) == ("small", "bright", 32, 8)
    # Of 32 photographs a crop and a distorted version each an epoch.
    assert (report.items, report.steps, len(report.history)) == (32 * 3, 12 * 8, 12)
    first, last = report.history[0], report.history[-1]
    assert {"teacher_huber", "teacher_plcc", "mos_huber", "mos_plcc", "feature"} < set(first)
    assert last["loss"] < 0.75 * first["loss"]
    assert sorted(path.name for path in at.iterdir()) == [
        *("checkpoint.json", "metrics.csv", "report.json", "selection.csv", "weights.safetensors")
    ]


def test_the_figures_of_the_report_are_those_of_the_table(
    learned: tuple[Path, DistillReport], labelled: TransferPhotographs
) -> None:
    at, report = learned
    assert msgspec.json.decode((at / "report.json").read_bytes(), type=DistillReport) == report
    rows = table(at / "selection.csv")
    assert [row["image"] for row in rows] == [f"{place:03}.png" for place in range(8)]
    mos, said, student = (np.array([float(row[name]) for row in rows]) for name in ("mos", "teacher", "student"))
    assert report.accuracy == evaluate(student, mos)
    assert report.teacher_accuracy == evaluate(said, mos)
    assert report.agreement == evaluate(student, said).srcc
    assert (report.heldout_is, report.accuracy.n) == ("selection part", 8)
    # The table is what the checkpoint and the teacher say.
    np.testing.assert_allclose(student, raw_scores(at, labelled), atol=1e-3)
    np.testing.assert_allclose(said, [said_of(photo) for photo in labelled.heldout], atol=1e-9)
    np.testing.assert_allclose(mos, [100 * labelled.mos[photo.sha256] for photo in labelled.heldout], rtol=1e-12)
    record, network = load_checkpoint(at)
    assert record.provenance["teacher"] == "bright"
    assert "8 held-out images" in record.score_map.fitted_on and "opinions" in record.score_map.fitted_on
    assert report.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_a_second_student_finds_the_teachers_answers(
    learned: tuple[Path, DistillReport], labelled: TransferPhotographs, tmp_path: Path, filled: list[int]
) -> None:
    cache = learned[0].parent / "cache"
    with TeacherCache(cache, create=False) as opened:
        assert opened.info().items == 32 * 3 + 8
    other = recipe(losses={"rank": 1.0, "feature": 0.0}, seed=9, backbone="test_resnet", name="other")
    # The same crops and distortions, as their seed is the transfer's.
    run(other, labelled, bright(), tmp_path / "second", cache, most_steps=3)
    assert filled == [0]
    # One more distorted version of each photograph is all that is new.
    more = msgspec.structs.replace(other, transfer=Transfer(crops=2, distortions=2))
    report = run(more, labelled, bright(), tmp_path / "third", cache, most_steps=3)
    assert filled == [0, 32]
    assert (report.steps, report.items) == (3, 32 * 4)


def test_a_student_of_opinions_alone_needs_no_cache(labelled: TransferPhotographs, tmp_path: Path) -> None:
    alone = recipe(epochs=16, losses=OPINIONS, transfer=Transfer(crops=2))
    report = run(alone, labelled, None, tmp_path / "run", tmp_path / "cache")
    assert report.accuracy is not None and report.accuracy.srcc.value > 0.8
    assert (report.teacher, report.teacher_accuracy, report.agreement) == ("none", None, None)
    assert {row["teacher"] for row in table(tmp_path / "run" / "selection.csv")} == {""}
    assert not (tmp_path / "cache").exists()


def test_opinions_are_of_photographs_and_not_of_their_distorted_versions(
    labelled: TransferPhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TransferSet] = []

    class Seen(TransferExamples):
        def __init__(self, views: Any, transfer: TransferSet, **options: Any) -> None:
            seen.append(transfer)
            super().__init__(views, transfer, **options)

    monkeypatch.setattr(module, "TransferExamples", Seen)
    some = replace(labelled, mos=dict(list(labelled.mos.items())[:20]))
    run(RECIPE, some, bright(), tmp_path / "run", tmp_path / "cache", most_steps=1)
    (transfer,) = seen
    for item, opinion in zip(transfer.items, transfer.mos, strict=True):
        if item.distortion is None and item.sha256 in some.mos:
            assert opinion == some.mos[item.sha256]
        else:
            assert np.isnan(opinion)
    assert np.isfinite(transfer.mos).sum() == 12 * 2


def test_a_table_of_scores_is_a_teacher_of_whole_photographs(unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    scores = read_score_table(save_scores(tmp_path / "scores.csv", unlabelled))
    plain = recipe(epochs=20, losses={"feature": 0.0}, transfer=WHOLE)
    report = run(plain, unlabelled, scores, tmp_path / "run", tmp_path / "cache")
    assert (report.teacher, report.items, report.heldout_is) == ("scores.csv", 32, "unlabelled photographs")
    assert report.agreement is not None and report.agreement.value > 0.8 and report.accuracy is None
    # It knows nothing of distorted versions, so whole photographs are all that is judged.
    rows = table(tmp_path / "run" / "selection.csv")
    assert [(row["image"], row["kind"]) for row in rows] == [(f"{place:03}.png", "") for place in range(8)]
    assert {name: float(row["teacher"]) for row in rows for name in [row["image"]]} == pytest.approx(
        {name: scores.scores[name] for name in (f"{place:03}.png" for place in range(8))}
    )
    assert not (tmp_path / "cache").exists()


def test_few_unlabelled_photographs_are_judged_in_distorted_versions_too(folder: Path, tmp_path: Path) -> None:
    few = planes(folder, heldout=1)
    report = run(recipe(), few, bright(), tmp_path / "run", tmp_path / "cache", most_steps=2)
    rows = table(tmp_path / "run" / "selection.csv")
    assert [row["kind"] == "" for row in rows] == [True] + [False] * 11
    assert {row["sha256"] for row in rows} == {few.heldout[0].sha256} and {row["mos"] for row in rows} == {""}
    assert (
        report.agreement
        == evaluate(*(np.array([float(row[name]) for row in rows]) for name in ("student", "teacher"))).srcc
    )
    assert (report.heldout, report.heldout_is) == (1, "unlabelled photographs")


def killed(folder: Path, root: Path, when: str, number: int) -> None:
    script = Path(quick_students.__file__)
    command = [sys.executable, "-m", f"{__package__}.{script.stem}"] if __package__ else [sys.executable, str(script)]
    ran = subprocess.run(
        [*command, str(folder), str(root / "cache"), str(root / "run"), when, str(number)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=script.parents[2],
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr


def test_a_run_that_was_killed_twice_comes_to_the_same_bits(
    folder: Path, unlabelled: TransferPhotographs, tmp_path: Path, filled: list[int]
) -> None:
    whole = run(RECIPE, unlabelled, bright(), tmp_path / "whole" / "run", tmp_path / "whole" / "cache")
    (items,) = filled
    cut = tmp_path / "cut"
    # While the teacher is asked: what it has said is kept.
    killed(folder, cut, "ask", 40)
    with TeacherCache(cut / "cache", create=False) as cache:
        kept = cache.info().items
    assert 40 <= kept < items and not list((cut / "run").iterdir())
    # In the second epoch.
    killed(folder, cut, "step", 12)
    assert (cut / "run" / "resume.pt").is_file() and not (cut / "run" / "checkpoint.json").exists()
    resumed = run(RECIPE, unlabelled, bright(), cut / "run", cut / "cache")
    assert filled == [items, 0]
    require_same(tmp_path / "whole" / "run", cut / "run")
    assert without_seconds(resumed) == without_seconds(whole)


def require_same(one: Path, other: Path) -> None:
    weights = [load_checkpoint(at)[1].state_dict() for at in (one, other)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert (one / "selection.csv").read_bytes() == (other / "selection.csv").read_bytes()
    logs = [[{**row, "seconds": ""} for row in table(at / "metrics.csv")] for at in (one, other)]
    assert logs[0] == logs[1]
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


def without_seconds(report: DistillReport) -> DistillReport:
    return msgspec.structs.replace(report, history=tuple({**line, "seconds": 0.0} for line in report.history))


def test_a_finished_run_is_not_trained_again_and_another_is_refused(
    unlabelled: TransferPhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache", most_steps=3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert first.steps == 3
    # As a kill between checkpoint and report would leave it.
    (tmp_path / "run" / "report.json").unlink()
    monkeypatch.setattr(module, "fit", None)
    assert run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache", most_steps=3) == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    for other, steps in ((recipe(epochs=3), 3), (RECIPE, 4)):
        with pytest.raises(UsageError, match="a finished student of another run"):
            run(other, unlabelled, bright(), tmp_path / "run", tmp_path / "cache", most_steps=steps)
    # As many photographs, of which another is judged; and a teacher of the same name.
    swapped = replace(
        unlabelled,
        training=(*unlabelled.training[1:], unlabelled.heldout[0]),
        heldout=(*unlabelled.heldout[1:], unlabelled.training[0]),
    )
    for photographs, teacher in ((swapped, bright()), (unlabelled, bright(0.5))):
        with pytest.raises(UsageError, match="another run \\(its transfer_fingerprint differ\\)"):
            run(RECIPE, photographs, teacher, tmp_path / "run", tmp_path / "cache", most_steps=3)
    # A record of an earlier version says nothing of it.
    record = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    del record["provenance"]["transfer_fingerprint"]
    (tmp_path / "run" / "checkpoint.json").write_text(json.dumps(record))
    assert run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache", most_steps=3) == first


def test_answers_of_other_weights_are_not_taken_for_the_teachers(
    unlabelled: TransferPhotographs, tmp_path: Path, filled: list[int]
) -> None:
    cache = tmp_path / "cache"
    run(RECIPE, unlabelled, bright(), tmp_path / "old", cache, most_steps=2)
    run(RECIPE, unlabelled, bright(0.5), tmp_path / "new", cache, most_steps=2)
    # All of it again, and the older answers are known for stale.
    assert filled[0] == filled[1] > 0
    with TeacherCache(cache, create=False) as opened:
        assert [(member.name, member.stale) for member in opened.info().members] == [
            ("bright", True),
            ("bright", False),
        ]
    old, new = ([float(row["teacher"]) for row in table(tmp_path / run / "selection.csv")] for run in ("old", "new"))
    np.testing.assert_allclose(new, np.array(old) / 2, atol=1e-3)


def test_the_student_is_drawn_by_its_seed() -> None:
    """Also its head, when the trunk starts from the same weights."""

    def fresh(seed: int) -> dict[str, torch.Tensor]:
        plain = recipe(seed=seed, head=Mlp(hidden=4))
        transfer = TransferSet(items=(), mos=np.array([0.5]), said=None)
        return module._build(plain, module.student_system(plain), transfer).state_dict()

    first, same, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    differing = [name for name in first if not torch.equal(first[name], other[name])]
    assert differing and all(name.startswith("head.") for name in differing)


def test_widths_of_the_students_features() -> None:
    network = build(module.student_system(RECIPE), weights=NoWeights())
    widths = feature_widths(network)
    outputs = network(torch.zeros((2, 32, 32, 3), dtype=torch.uint8))
    assert widths == {name: output.shape[1] for name, output in outputs.items() if name != "score"}
    assert len(widths) > 2


def test_a_teacher_that_gives_no_number_is_refused_at_the_cache(
    unlabelled: TransferPhotographs, tmp_path: Path
) -> None:
    who = bright()
    (member,) = who.members

    def broken(views: Any) -> Any:
        raw, features = member.forward(views)
        return np.full_like(raw, np.nan), features

    nan = replace(who, members=(replace(member, forward=broken),))
    with pytest.raises(DataError) as caught:
        run(RECIPE, unlabelled, nan, tmp_path / "run", tmp_path / "cache")
    assert "a raw score of nan of bright for" in caught.value.got and ".png" in caught.value.got
    assert not list((tmp_path / "run").iterdir())
    with TeacherCache(tmp_path / "cache", create=False) as cache:
        assert cache.info().items == 0
    # The cache is as good as new.
    assert run(RECIPE, unlabelled, who, tmp_path / "run", tmp_path / "cache", most_steps=1).steps == 1


def test_a_loss_that_is_not_finite_names_the_batch_and_keeps_the_good_state(
    unlabelled: TransferPhotographs, tmp_path: Path
) -> None:
    wild = msgspec.structs.replace(
        RECIPE, stages=(msgspec.structs.replace(RECIPE.stages[0], learning_rate=1e30, head_learning_rate=1e30),)
    )
    with pytest.raises(DataError, match=r"not finite.* epoch 1, step \d, on the batch: \d{3}\.png") as caught:
        run(wild, unlabelled, bright(), tmp_path / "run", tmp_path / "cache")
    assert "lower the learning rates" in caught.value.mend and caught.value.exit_code == 2
    assert not (tmp_path / "run" / "checkpoint.json").exists() and not (tmp_path / "run" / "report.json").exists()


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_loses_nothing(
    unlabelled: TransferPhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: list[int]
) -> None:
    free = 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, free))
    with pytest.raises(DataError, match=r"0\.00 GB free at") as caught:
        run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache")
    assert "free space" in caught.value.mend and filled == []
    # Room for the teacher's answers, not for the student's views.
    free = 150_000
    with pytest.raises(DataError, match="GB free for") as caught:
        run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache")
    assert caught.value.exit_code == 2 and filled[0] > 0
    monkeypatch.undo()
    report = run(RECIPE, unlabelled, bright(), tmp_path / "run", tmp_path / "cache", most_steps=2)
    assert report.steps == 2


def test_a_log_with_a_correlation_that_is_none_is_plain_json(folder: Path, tmp_path: Path) -> None:
    """A teacher that gives one score to all: there is no order to agree on, and that is said by leaving it out."""
    said: list[str] = []

    class Heard(quick_students.Watching):
        def __init__(self) -> None:
            super().__init__("never", 0)
            self.say = said.append  # type: ignore[assignment]

    photographs = planes(folder)
    plain = recipe(epochs=1, losses={"feature": 0.0})
    report = run(plain, photographs, bright(0.0), tmp_path / "run", tmp_path / "cache", watch=Heard())
    assert report.agreement is None and "heldout_srcc" not in report.history[0]
    parsed = json.loads((tmp_path / "run" / "report.json").read_text())
    assert parsed["history"][0] == report.history[0]
    record, _ = load_checkpoint(tmp_path / "run")
    assert record.score_map.fitted_on == "nothing" and any("the straight line from [0, 1]" in line for line in said)
    assert float(record.score_map.apply(np.array([0.25]))[0]) == pytest.approx(25)
