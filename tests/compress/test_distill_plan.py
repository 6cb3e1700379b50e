"""What a distillation looks at, and what is refused before anything is computed: with the mend, and nothing written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress import distill as distill_module
from edgeiqa.compress.distill import TransferPhotographs, hold_out
from edgeiqa.compress.distill_plan import judged_items, learned_items, require_distillable
from edgeiqa.compress.distill_records import Transfer
from edgeiqa.compress.teacher_members import read_score_table
from edgeiqa.compress.watch import SILENT
from edgeiqa.runtime.errors import DataError, EdgeIQAError, ModelError, UsageError

from .quick_students import bright, planes, recipe, run, save_planes, save_scores

OPINIONS = {"score": 0.0, "mos": 1.0, "feature": 0.0}
WHOLE = Transfer(crops=1, distortions=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_planes(tmp_path_factory.mktemp("photographs"), 40)


@pytest.fixture(scope="module")
def unlabelled(folder: Path) -> TransferPhotographs:
    return planes(folder)


@pytest.fixture(scope="module")
def labelled(folder: Path) -> TransferPhotographs:
    return planes(folder, labelled=range(40))


def test_what_is_learned_from_and_what_is_judged(
    folder: Path, unlabelled: TransferPhotographs, labelled: TransferPhotographs, tmp_path: Path
) -> None:
    plan = recipe(transfer=Transfer(crops=2, distortions=1))
    learned = learned_items(plan, unlabelled)
    assert len(learned) == 32 * 3 and {item.sha256 for item in learned} == {p.sha256 for p in unlabelled.training}

    def judged(photographs: TransferPhotographs, teacher: Any = None, what: Any = plan) -> list[tuple[bool, bool]]:
        items = judged_items(what, photographs, teacher)
        assert {item.sha256 for item in items} == {photo.sha256 for photo in photographs.heldout}
        return [(item.crop is None, item.distortion is None) for item in items]

    # As people saw them, or as a table of scores has them.
    assert judged(labelled) == [(True, True)] * 8
    table = read_score_table(save_scores(tmp_path / "scores.csv", unlabelled))
    assert judged(unlabelled, table) == [(True, True)] * 8
    # Else as many as there are distorted versions of to learn from, and at least a dozen in all.
    assert judged(unlabelled, bright()) == [(True, True), (True, False)] * 8
    assert judged(planes(folder, heldout=3)) == [(True, True), *[(True, False)] * 3] * 3
    assert judged(planes(folder, heldout=1)) == [(True, True), *[(True, False)] * 11]
    ladder = recipe(transfer=Transfer(crops=2, ladder=(0.5, 1.0)))
    rungs = judged(planes(folder, heldout=1), None, ladder)
    assert rungs == [(True, True), *[(True, False)] * (len(rungs) - 1)] and (len(rungs) - 1) % 2 == 0


def test_photographs_are_held_out_by_the_seed(unlabelled: TransferPhotographs) -> None:
    photos = unlabelled.training
    learned, judged = hold_out(photos, fraction=0.25, seed=4)
    assert len(judged) == 8 and sorted([*learned, *judged], key=photos.index) == list(photos)
    assert hold_out(photos, fraction=0.25, seed=4) == (learned, judged)
    assert hold_out(photos, fraction=0.25, seed=5)[1] != judged
    # Few as they may be, one of each is left.
    assert [len(part) for part in hold_out(photos[:2], fraction=0.01, seed=0)] == [1, 1]
    assert [len(part) for part in hold_out(photos[:3], fraction=0.5, seed=0)] == [1, 2]
    with pytest.raises(DataError, match="1 photographs"):
        hold_out(photos[:1], fraction=0.5, seed=0)
    for fraction in (0.0, -1.0, 0.6, np.nan):
        with pytest.raises(UsageError, match="a share of"):
            hold_out(photos, fraction=fraction, seed=0)


def refused(
    kind: type[EdgeIQAError],
    words: tuple[str, ...],
    what: Any,
    photographs: TransferPhotographs,
    teacher: Any,
    root: Path,
    **options: Any,
) -> EdgeIQAError:
    """The call is refused with all of the words, and nothing is there that was not there before."""
    before = sorted(root.rglob("*"))
    with pytest.raises(kind) as caught:
        run(what, photographs, teacher, root / "run", root / "cache", **options)
    error = caught.value
    assert error.exit_code == 2 and error.expected and error.mend
    missing = [word for word in words if word not in str(error)]
    assert not missing, (missing, str(error))
    assert sorted(root.rglob("*")) == before
    return error


@pytest.mark.parametrize(("worth", "told"), [(10_000, False), (1, True)])
def test_what_asking_a_teacher_takes_is_said_first(
    unlabelled: TransferPhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: int, told: bool
) -> None:
    said: list[str] = []

    class Stopped(Exception):
        pass

    class Watching(type(SILENT)):  # type: ignore[misc]
        def say(self, text: str) -> None:
            said.append(text)

        def ask(self, done: int, total: int) -> None:
            raise Stopped

    monkeypatch.setattr(distill_module, "_WORTH_MEASURING", worth)
    with pytest.raises(Stopped):
        run(recipe(), unlabelled, bright(), tmp_path / "run", tmp_path / "cache", watch=Watching())
    (line,) = said
    assert line.startswith("teacher bright, 1 members: 112 of 112 items to look at, ")
    assert ("about 1 min, " in line) is told and " MB for the cache " in line


def test_losses_without_what_they_are_to(
    unlabelled: TransferPhotographs, labelled: TransferPhotographs, tmp_path: Path
) -> None:
    refused(UsageError, ("losses to a teacher, and none", "--feature-weight 0"), recipe(), labelled, None, tmp_path)
    alone = recipe(losses=OPINIONS)
    refused(UsageError, ("photographs without opinions", "--data"), alone, unlabelled, None, tmp_path)


def test_features_that_cannot_be_paired_are_refused_before_the_teacher_is_asked(
    unlabelled: TransferPhotographs, tmp_path: Path
) -> None:
    blind = bright()
    (member,) = blind.members
    blind = replace(blind, members=(replace(member, feature_widths={}, name="blind"),))
    words = ("the member blind", "--feature-weight 0")
    refused(ModelError, words, recipe(), unlabelled, blind, tmp_path)


def test_what_a_table_of_scores_cannot_say(unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    scores = read_score_table(save_scores(tmp_path / "scores.csv", unlabelled))
    mend = "--crops 1 --distortions 0 --feature-weight 0"
    words = ("2 crops, 1 distorted versions, losses to features, of ", "scores.csv", mend)
    refused(UsageError, words, recipe(), unlabelled, scores, tmp_path)
    for transfer, asked in ((Transfer(crops=2), "2 crops, of"), (Transfer(crops=1, ladder=(0.5,)), "a ladder")):
        plain = recipe(losses={"feature": 0.0}, transfer=transfer)
        refused(UsageError, (asked, mend), plain, unlabelled, scores, tmp_path)


def test_a_table_of_scores_of_other_photographs(unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    plain = recipe(losses={"feature": 0.0}, transfer=WHOLE)
    more = read_score_table(save_scores(tmp_path / "scores.csv", unlabelled, **{"strange.png": 5}))
    # A photograph that is there and takes no part is none that is not there.
    require_distillable(plain, replace(unlabelled, left_out=frozenset({"strange.png"})), more)
    refused(DataError, ("which names strange.png", "column image"), plain, unlabelled, more, tmp_path)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    (tmp_path / "scores.csv").write_text("\n".join(line for line in lines[:-1] if "003.png" not in line))
    fewer = read_score_table(tmp_path / "scores.csv")
    refused(DataError, ("without a score for 003.png", "add the rows"), plain, unlabelled, fewer, tmp_path)
    twins = replace(unlabelled, images=dict.fromkeys(unlabelled.images, "same.png"))
    refused(DataError, ("such as same.png", "name one folder"), plain, twins, fewer, tmp_path)


def test_too_few_photographs_for_a_batch(unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    few = replace(unlabelled, training=unlabelled.training[:3])
    words = ("3 photographs to learn from, 6 with their distorted versions", "batch of 8", "--distortions 3")
    refused(DataError, words, recipe(), few, bright(), tmp_path)


def test_a_photograph_on_which_no_member_may_speak(unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    for photo in (unlabelled.training[0], unlabelled.heldout[0]):
        silent = bright(folds={photo.sha256: 5}, folds_known=True)
        refused(DataError, ("a photograph of fold 5", "edgeiqa teach"), recipe(), unlabelled, silent, tmp_path)


def test_a_member_that_may_speak_of_nothing(folder: Path, unlabelled: TransferPhotographs, tmp_path: Path) -> None:
    (one,), (two,) = bright().members, bright(0.5).members
    both = replace(
        bright(),
        members=(replace(one, name="one", heldout_fold=0), replace(two, name="two", heldout_fold=1)),
        folds={photo.sha256: 0 for photo in unlabelled.training},
        folds_known=True,
    )
    plain = recipe(transfer=WHOLE)
    refused(DataError, ("two, which may speak of 0 of 32 items", "--distortions 1"), plain, unlabelled, both, tmp_path)
