"""What a student is shown of a teacher's cache, and the losses to it, against values computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from edgeiqa.compress import distillation
from edgeiqa.compress.data.items import Item, read_photographs
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.compress.distill_records import DistillLosses
from edgeiqa.compress.distillation import (
    DistillObjective,
    TransferExamples,
    TransferSet,
    group_items,
    member_statistics,
)
from edgeiqa.compress.distillation_losses import relational_angle, relational_distance
from edgeiqa.compress.losses import plcc_loss
from edgeiqa.compress.stages import ScoreLosses, Stage
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_members import Teacher
from edgeiqa.compress.teacher_targets import targets
from edgeiqa.runtime.errors import DataError, ModelError, RecordError
from torch import Tensor

from .quick_teachers import WIDTHS, member, save_photographs, teacher

CROPS, EPOCHS = 3, 60
MSE = Stage(losses=ScoreLosses(mse=1.0, huber=0.0, plcc=0.0))
STUDENT = {"features.last": 4, "features.1": 2}
NARROW = {"features.last": 2, "features.0": 1}
ALL_ALIKE = DistillLosses(score=1.0, mos=0.0, feature=0.0, disagreement=None)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Of each of six photographs three crops and a distorted version."""
    photographs, _ = read_photographs(save_photographs(tmp_path_factory.mktemp("photographs"), 6))
    return transfer_items(photographs, crops=CROPS, distortions=1)


@pytest.fixture(scope="module")
def ensemble(items: list[Item]) -> Teacher:
    """Two members of different widths. The first two photographs are of folds 0 and 1, the third is reserved."""
    first, second, third = list(dict.fromkeys(item.sha256 for item in items))[:3]
    narrow = member(
        *("two", 2), heldout_fold=1, feature_widths=NARROW, features_of=lambda name, values: values[:, : NARROW[name]]
    )
    return teacher(
        *(member("one", 1, heldout_fold=0), narrow),
        folds={first: 0, second: 1, third: "selection"},
        folds_known=True,
    )


@pytest.fixture(scope="module")
def transfer(items: list[Item], ensemble: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransferSet]:
    with TeacherCache(tmp_path_factory.mktemp("cache")) as cache:
        fill(cache, ensemble, items, only_speakers=True)
        mos = np.linspace(0, 1, len(items))
        mos[::3] = np.nan
        yield TransferSet(items=items, mos=mos, said=targets(cache, ensemble, items), teacher=ensemble, cache=cache)


def numbered(transfer: TransferSet) -> list[Any]:
    """Views whose pixels say which item they show."""
    return [np.arange(len(transfer.items), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 3), np.uint8)]


def examples_of(transfer: TransferSet, *, seed: int = 5, features: bool = True) -> TransferExamples:
    return TransferExamples(numbered(transfer), transfer, seed=seed, features=features)


def drawn(examples: TransferExamples, rows: list[int], epoch: int, whole: bool = False) -> tuple[list[int], Any]:
    """Places of the items that are drawn, and their targets."""
    (views,), told = examples.draw(np.array(rows), epoch, whole)
    assert views.dtype == np.uint8 and views.shape == (len(rows), 2, 2, 3)
    assert all(target.dtype == np.float32 and len(target) == len(rows) for target in told.values())
    return views[:, 0, 0, 0].tolist(), told


def test_the_crops_of_a_photograph_are_one_group_and_each_distorted_version_is_alone(items: list[Item]) -> None:
    expected = [group for start in range(0, 24, 4) for group in ([start, start + 1, start + 2], [start + 3])]
    assert group_items(items) == expected
    # Whatever their order, and photographs that are the same to the byte are one.
    assert sorted(len(group) for group in group_items([*items[::-1], items[0]])) == [1] * 6 + [3] * 5 + [4]
    # Two items that are the same distorted version stay two.
    assert group_items([items[3], items[3]]) == [[0], [1]]


def test_an_epoch_draws_one_item_of_each_group_and_all_of_them_in_turn(transfer: TransferSet) -> None:
    examples = examples_of(transfer)
    groups = group_items(transfer.items)
    assert examples.count == len(groups) == 12
    rows = list(range(examples.count))
    epochs = [drawn(examples, rows, epoch)[0] for epoch in range(EPOCHS)]
    for row, group in enumerate(groups):
        seen = [places[row] for places in epochs]
        assert set(seen) == set(group)
        # Each crop has its share: at 60 draws of 3, fewer than 8 are less likely than one in a thousand.
        assert min(seen.count(place) for place in group) >= 8
    # Groups draw apart from each other.
    crops = np.array([[place % 4 for place in places if place % 4 < CROPS] for places in epochs])
    assert len({tuple(column) for column in crops.T}) == 6


def test_a_draw_depends_on_seed_row_and_epoch_alone(transfer: TransferSet) -> None:
    examples, rows = examples_of(transfer, features=False), list(range(12))
    together, told = drawn(examples, rows, 7)
    assert together == drawn(examples_of(transfer, features=False), rows, 7)[0]
    assert together == [drawn(examples, [row], 7)[0][0] for row in rows]
    backwards, told_backwards = drawn(examples, rows[::-1], 7)
    assert together == backwards[::-1]
    for name, target in told.items():
        np.testing.assert_array_equal(target, told_backwards[name][::-1])
    others = [drawn(examples_of(transfer, seed=6), rows, 7)[0], drawn(examples, rows, 8)[0]]
    assert together not in others and others[0] != others[1]


def test_whole_frames_where_they_are_asked_for(transfer: TransferSet) -> None:
    places, _ = drawn(examples_of(transfer), list(range(12)), 3, whole=True)
    assert places == [group[0] for group in group_items(transfer.items)]
    assert [transfer.items[place].crop for place in places[::2]] == [None] * 6


def test_targets_are_those_of_the_item_that_was_drawn(transfer: TransferSet) -> None:
    assert transfer.said is not None
    for epoch in range(5):
        places, told = drawn(examples_of(transfer), list(range(12)), epoch)
        np.testing.assert_array_equal(told["mos"], transfer.mos[places].astype(np.float32))
        np.testing.assert_array_equal(told["teacher"], transfer.said.mean[places].astype(np.float32))
        np.testing.assert_array_equal(told["spread"], transfer.said.spread[places].astype(np.float32))
    without = replace(transfer, said=None, teacher=None, cache=None)
    assert set(drawn(examples_of(without, features=False), [0], 0)[1]) == {"mos"}
    assert set(drawn(examples_of(transfer, features=False), [0], 0)[1]) == {"mos", "teacher", "spread"}


def test_features_are_of_a_member_that_may_speak_and_zeros_elsewhere(transfer: TransferSet, ensemble: Teacher) -> None:
    assert transfer.said is not None and transfer.cache is not None
    examples, free = examples_of(transfer), set()
    for epoch in range(20):
        places, told = drawn(examples, list(range(12)), epoch)
        members = told["member"].astype(int).tolist()
        for row, (place, index) in enumerate(zip(places, members, strict=True)):
            item = transfer.items[place]
            part = ensemble.folds.get(item.sha256)
            if item.distortion is None and part in (0, 1):
                # Of a photograph it was trained on, a member says nothing.
                assert index == part
            (said,) = ([one] for one in [transfer.cache.read(ensemble.members[index].key, [item.key])[1]])
            for other, one in enumerate(ensemble.members):
                for name in one.feature_widths:
                    expected = said[0][name][0] if other == index else np.zeros(one.feature_widths[name])
                    np.testing.assert_array_equal(told[f"features.{other}.{name}"][row], expected)
        # A step draws one member; only the undistorted photograph of the other's fold takes that one.
        step = {index for place, index in zip(places, members, strict=True) if place % 4 == 3 or place >= 8}
        assert len(step) == 1
        free |= step
    assert free == {0, 1}


def test_the_fingerprint_follows_all_that_decides_the_batches(transfer: TransferSet) -> None:
    assert transfer.said is not None
    first = examples_of(transfer).fingerprint
    assert first == examples_of(replace(transfer, items=list(transfer.items))).fingerprint
    scores, mos = transfer.said.scores.copy(), transfer.mos.copy()
    scores[-1, 0] += 1e-9
    mos[1] += 1e-9
    others = [
        examples_of(transfer, seed=6),
        examples_of(transfer, features=False),
        examples_of(replace(transfer, mos=mos)),
        examples_of(replace(transfer, said=replace(transfer.said, scores=scores))),
        examples_of(replace(transfer, items=[*transfer.items[1:], transfer.items[0]])),
        examples_of(replace(transfer, said=None), features=False),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 7


def test_a_row_is_called_by_its_photograph_and_distortion(transfer: TransferSet) -> None:
    examples = examples_of(transfer)
    distortion = transfer.items[3].distortion
    assert distortion is not None
    assert [examples.name(0), examples.name(2)] == ["000.png", "001.png"]
    assert examples.name(1) == f"000.png ({distortion.kind} {distortion.severity:.2f})"


def test_statistics_are_over_what_a_member_may_speak_of(
    transfer: TransferSet, ensemble: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert transfer.said is not None and transfer.cache is not None
    for index, one in enumerate(ensemble.members):
        # Neither the crops of the other's fold.
        rows = [row for row in range(24) if row // 4 != 1 - index or row % 4 == 3]
        assert np.flatnonzero(transfer.said.mask[:, index]).tolist() == rows
        _, features = transfer.cache.read(one.key, [transfer.items[row].key for row in rows])
        found = member_statistics(transfer, index)
        assert set(found) == set(one.feature_widths)
        for name, (mean, std) in found.items():
            np.testing.assert_allclose(mean, features[name].mean(0, dtype=np.float64), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(std, features[name].std(0, dtype=np.float64), rtol=1e-5, atol=1e-6)
    # Of very many items every nth.
    monkeypatch.setattr(distillation, "_STATISTICS_ITEMS", 6)
    rows = [row for row in range(24) if row // 4 != 1 or row % 4 == 3][::4]
    _, features = transfer.cache.read(ensemble.members[0].key, [transfer.items[row].key for row in rows])
    np.testing.assert_allclose(
        member_statistics(transfer, 0)["features.last"][0], features["features.last"].mean(0), rtol=1e-5, atol=1e-6
    )


def test_one_item_has_no_deviation(transfer: TransferSet) -> None:
    assert transfer.said is not None
    said = replace(transfer.said, mask=transfer.said.mask & (np.arange(24)[:, None] < 1))
    with pytest.raises(DataError, match="one, which may speak of 1 of 24 items") as refused:
        DistillObjective(DistillLosses(), STUDENT, replace(transfer, said=said))
    assert "--feature-weight 0" in refused.value.mend


def objective(losses: DistillLosses, transfer: TransferSet) -> DistillObjective:
    return DistillObjective(losses, STUDENT, transfer, seed=1)


def batch(**given: list[float]) -> dict[str, Tensor]:
    return {name: torch.tensor(values) for name, values in given.items()}


def plain(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


def terms_of(losses: DistillLosses, transfer: TransferSet, score: list[float], **told: list[float]) -> dict[str, float]:
    told.setdefault("mos", [np.nan] * len(score))
    return plain(objective(losses, transfer)({"score": torch.tensor(score)}, batch(**told), MSE, 0))


def test_the_loss_to_the_teachers_scores(transfer: TransferSet) -> None:
    told = {"teacher": [0.1, 0.5, 0.3], "spread": [0.0, 0.1, 0.3]}
    twice = DistillLosses(score=2.0, mos=0.0, feature=0.0, disagreement=None)
    found = terms_of(twice, transfer, [0.2, 0.2, 0.3], **told)
    assert found == {"teacher_mse": pytest.approx(2 * (0.01 + 0.09 + 0.0) / 3)}
    # At a spread of the scale an image weighs a half, at three times the scale a tenth.
    unsure = DistillLosses(score=1.0, mos=0.0, feature=0.0, disagreement=0.1)
    found = terms_of(unsure, transfer, [0.2, 0.2, 0.8], **told)
    assert found == {"teacher_mse": pytest.approx((0.01 + 0.09 / 2 + 0.25 / 10) / 1.6)}


def test_a_stage_says_which_score_losses_there_are(transfer: TransferSet) -> None:
    stage = Stage(losses=ScoreLosses(mse=0.0, huber=1.0, huber_delta=0.1, plcc=1.5))
    score, teacher_says = torch.tensor([0.1, 0.2, 0.3]), [0.3, 0.2, 0.1]
    told = batch(teacher=teacher_says, spread=[0.0] * 3, mos=[0.5] * 3)
    terms = objective(ALL_ALIKE, transfer)({"score": score}, told, stage, 0)
    # Over delta squared, Huber is |d| / delta - 1/2 beyond it.
    assert {name: float(term) for name, term in terms.items()} == {
        "teacher_huber": pytest.approx(1.0, abs=1e-5),
        "teacher_plcc": pytest.approx(1.5 * float(plcc_loss(score, torch.tensor(teacher_says)))),
    }
    assert terms["teacher_plcc"] > 2.5


def test_opinions_count_where_there_are_some(transfer: TransferSet) -> None:
    alone = DistillLosses(score=0.0, mos=3.0, feature=0.0)
    found = terms_of(alone, transfer, [0.2, 0.2, 0.3], mos=[0.4, np.nan, 0.3])
    assert found == {"mos_mse": pytest.approx(3 * 0.04 / 2)}
    both = DistillLosses(score=1.0, mos=1.0, feature=0.0, disagreement=None)
    told = {"teacher": [0.2, 0.2, 0.3], "spread": [0.0] * 3}
    found = terms_of(both, transfer, [0.2, 0.2, 0.3], mos=[0.4, np.nan, 0.3], **told)
    assert found == {"teacher_mse": 0.0, "mos_mse": pytest.approx(0.02)}
    assert set(terms_of(both, transfer, [0.2, 0.2, 0.3], mos=[0.4, np.nan, np.nan], **told)) == {"teacher_mse"}


def test_a_batch_with_nothing_to_learn_from_is_finite(transfer: TransferSet) -> None:
    score = torch.tensor([0.2, 0.7], requires_grad=True)
    alone = objective(DistillLosses(score=0.0, mos=1.0, feature=0.0), transfer)
    for mos in ([np.nan, np.nan], [0.5, np.nan]):
        terms = alone({"score": score}, batch(mos=mos), MSE, 0)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0.0
        assert score.grad is not None and score.grad.tolist() == [0.0, 0.0]


def test_the_hinge_on_the_teachers_order(transfer: TransferSet) -> None:
    losses = DistillLosses(score=0.0, mos=0.0, feature=0.0, rank=2.0, disagreement=None)
    told = {"teacher": [0.2, 0.6, 0.6], "spread": [0.0] * 3}
    assert terms_of(losses, transfer, [0.2, 0.6, 0.6], **told) == {"rank": pytest.approx(0.0, abs=1e-6)}
    # Pairs of a lead of 0.4: one the wrong way round by 0.2, one the right way by 0.1.
    found = terms_of(losses, transfer, [0.5, 0.3, 0.6], **told)
    assert found == {"rank": pytest.approx(2 * (0.6 + 0.3) / 2)}
    half = replace_losses(losses, rank_margin=0.5)
    assert terms_of(half, transfer, [0.5, 0.3, 0.6], **told) == {"rank": pytest.approx(2 * (0.4 + 0.1) / 2)}


def replace_losses(losses: DistillLosses, **changed: Any) -> DistillLosses:
    import msgspec

    return msgspec.structs.replace(losses, **changed)


@pytest.fixture
def step(transfer: TransferSet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs of a student and targets: three rows of the first member, one of the second."""
    stream = np.random.default_rng(0)
    outputs = {"score": torch.zeros(4)} | {
        name: torch.tensor(stream.normal(size=(4, width)), dtype=torch.float32) for name, width in STUDENT.items()
    }
    member_of = np.array([0, 0, 1, 0])
    told = {"member": torch.tensor(member_of, dtype=torch.float32), "mos": torch.full((4,), torch.nan)}
    told |= {"teacher": torch.zeros(4), "spread": torch.tensor([0.0, 0.1, 0.0, 0.3])}
    for index, widths in enumerate((WIDTHS, NARROW)):
        for name, width in widths.items():
            features = stream.normal(1.0, 2.0, size=(4, width)) * (member_of == index)[:, None]
            told[f"features.{index}.{name}"] = torch.tensor(features, dtype=torch.float32)
    return outputs, told


def with_plain_maps(losses: DistillLosses, transfer: TransferSet) -> DistillObjective:
    """Every projection gives ones, and standard deviations are 2 about a mean of 1."""
    made = objective(losses, transfer)
    with torch.no_grad():
        for each in made.projections.maps:
            each.weight.zero_()  # type: ignore[operator]
            each.bias.fill_(1.0)  # type: ignore[operator]
    for name, buffer in made.named_buffers():
        buffer.fill_(1.0 if name.startswith("mean") else 2.0)
    return made


def test_the_losses_to_features_of_two_members(transfer: TransferSet, step: Any) -> None:
    outputs, told = step
    losses = DistillLosses(score=1.0, mos=0.0, feature=0.5, cosine=0.25, disagreement=None)
    found = plain(with_plain_maps(losses, transfer)(outputs, told, MSE, 0))
    assert set(found) == {"teacher_mse", "feature", "cosine"}
    squared, cosines = 0.0, 0.0
    for index, rows, share in ((0, [0, 1, 3], 3 / 4), (1, [2], 1 / 4)):
        for name in WIDTHS:
            z = (told[f"features.{index}.{name}"][rows].numpy() - 1) / 2
            # Of two pairs each counts a half.
            squared += share / 2 * float(np.mean((1 - z) ** 2))
            cosines += share / 2 * float(np.mean(1 - z.sum(1) / np.sqrt(z.shape[1]) / np.linalg.norm(z, axis=1)))
    assert found["feature"] == pytest.approx(0.5 * squared, rel=1e-5)
    assert found["cosine"] == pytest.approx(0.25 * cosines, rel=1e-5)


def test_an_image_on_which_members_disagree_weighs_less_in_features_too(transfer: TransferSet, step: Any) -> None:
    outputs, told = step
    losses = DistillLosses(score=1.0, mos=0.0, feature=1.0, disagreement=0.1)
    found = plain(with_plain_maps(losses, transfer)(outputs, told, MSE, 0))["feature"]
    weights = {0: np.array([1.0, 0.5, 0.1]), 1: np.array([1.0])}
    expected = 0.0
    for index, rows, share in ((0, [0, 1, 3], 3 / 4), (1, [2], 1 / 4)):
        for name in WIDTHS:
            z = (told[f"features.{index}.{name}"][rows].numpy() - 1) / 2
            expected += share / 2 * np.average(np.mean((1 - z) ** 2, axis=1), weights=weights[index])
    assert found == pytest.approx(expected, rel=1e-5)


def test_relations_are_between_the_last_features_of_a_members_own_rows(transfer: TransferSet, step: Any) -> None:
    outputs, told = step
    losses = DistillLosses(score=1.0, mos=0.0, feature=0.0, distance=2.0, angle=4.0, disagreement=None)
    found = objective(losses, transfer)(outputs, told, MSE, 0)
    assert set(found) == {"teacher_mse", "distance", "angle"}
    ours, theirs = outputs["features.last"][[0, 1, 3]], told["features.0.features.last"][[0, 1, 3]]
    # One row has no relation.
    assert float(found["distance"]) == pytest.approx(3 / 4 * 2 * float(relational_distance(ours, theirs)), rel=1e-5)
    assert float(found["angle"]) == pytest.approx(3 / 4 * 4 * float(relational_angle(ours, theirs)), rel=1e-5)
    assert float(found["distance"]) > 0 and float(found["angle"]) > 0


def test_a_weight_of_zero_leaves_a_term_out(transfer: TransferSet, step: Any) -> None:
    outputs, told = step
    told["mos"] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    every: dict[str, Any] = {"score": 1.0, "mos": 1.0, "feature": 1.0, "cosine": 1.0, "distance": 1.0, "angle": 1.0}
    names = {"score": "teacher_mse", "mos": "mos_mse", "rank": "rank"}
    for left_out in (*every, "rank"):
        losses = DistillLosses(**(every | {"rank": 1.0, left_out: 0.0}))
        wanted = {names.get(name, name) for name in (*every, "rank") if name != left_out}
        assert set(objective(losses, transfer)(outputs, told, MSE, 0)) == wanted


def test_the_gradient_reaches_the_student_and_the_maps_of_the_drawn_member_only(
    transfer: TransferSet, step: Any
) -> None:
    outputs, told = step
    told["member"] = torch.zeros(4)
    for name in STUDENT:
        outputs[name].requires_grad_()
    made = objective(DistillLosses(feature=1.0, disagreement=None), transfer)
    torch.stack(list(made(outputs, told, MSE, 0).values())).sum().backward()  # type: ignore[no-untyped-call]
    first, second = made.projections.maps[:2], made.projections.maps[2:]
    assert (len(first), len(second)) == (2, 2)
    for each in first:
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in each.parameters())
    for each in second:
        assert all(parameter.grad is None or not bool(parameter.grad.any()) for parameter in each.parameters())
    for name in STUDENT:
        assert bool(outputs[name].grad.any())


def test_maps_are_drawn_by_the_seed_and_statistics_are_not_stored(transfer: TransferSet) -> None:
    states = [DistillObjective(DistillLosses(), STUDENT, transfer, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert all(name.startswith("projections.") for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert not list(objective(ALL_ALIKE, transfer).parameters())


def test_features_that_cannot_be_paired(transfer: TransferSet) -> None:
    with pytest.raises(ModelError) as refused:
        DistillObjective(DistillLosses(), {}, transfer)
    assert "--feature-weight 0" in refused.value.mend


def test_weights_of_losses_out_of_range() -> None:
    for wrong in (
        {"score": -1.0},
        {"feature": np.inf},
        {"score": 0.0, "mos": 0.0},
        {"rank_margin": 1.5},
        {"disagreement": 0.0},
    ):
        with pytest.raises(RecordError):
            DistillLosses(**wrong)
    assert not DistillLosses(score=0.0, feature=0.0).teacher
    assert DistillLosses(score=0.0, angle=1.0).teacher and DistillLosses(angle=1.0, feature=0.0).features
