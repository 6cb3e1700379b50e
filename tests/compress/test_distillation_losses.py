"""Distillation losses: closed forms by hand, gradients, invariances, and batches with nothing to compare."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from edgeiqa.compress.distillation_losses import (
    Pair,
    Projections,
    channel_statistics,
    disagreement_weight,
    feature_cosine,
    feature_mse,
    pair_features,
    rank_loss,
    relational_angle,
    relational_distance,
)
from edgeiqa.runtime.errors import ModelError, UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def unit_statistics(width: int) -> dict[str, Tensor]:
    return {"mean": torch.zeros(width, dtype=torch.float64), "std": torch.ones(width, dtype=torch.float64)}


def statistics(teacher: Tensor) -> dict[str, Tensor]:
    mean, std = channel_statistics(teacher)
    return {"mean": mean, "std": std}


# Features


def test_channel_statistics_are_those_of_the_population() -> None:
    mean, std = channel_statistics(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0]
    assert std.tolist() == [1.0, 0.0]


def test_feature_mse_by_hand() -> None:
    teacher = torch.tensor([[12.0, 0.0], [8.0, 3.0]], dtype=torch.float64)
    given = {"mean": doubles(10, 0), "std": doubles(2, 3)}
    # Standardised: [[1, 0], [-1, 1]].
    projected = torch.tensor([[0.0, 0.0], [-1.0, 3.0]], dtype=torch.float64)
    # Rows: (1 + 0) / 2 and (0 + 4) / 2.
    assert float(feature_mse(projected, teacher, **given)) == pytest.approx(1.25)
    assert float(feature_mse(projected, teacher, **given, weight=doubles(3, 1))) == pytest.approx(0.875)


def test_feature_mse_of_the_mean_is_one_whatever_the_channels_scales_are() -> None:
    teacher = normal(0, 50, 4) * doubles(1e-2, 1, 1e2, 1e4) + 37.0
    loss = feature_mse(torch.zeros(50, 4, dtype=torch.float64), teacher, **statistics(teacher))
    assert float(loss) == pytest.approx(1.0, rel=1e-5)


def test_a_channel_that_never_changes_has_the_target_zero() -> None:
    teacher = torch.full((4, 1), 7.25)
    assert float(feature_mse(torch.full((4, 1), 0.5), teacher, **statistics(teacher))) == pytest.approx(0.25)


def test_feature_cosine_by_hand() -> None:
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    projected = torch.tensor([[3.0, 3.0], [0.0, -1.0]], dtype=torch.float64)
    # Cosines: 1 / sqrt(2) and -1.
    expected = 1 - (1 / math.sqrt(2) - 1) / 2
    assert float(feature_cosine(projected, teacher, **unit_statistics(2))) == pytest.approx(expected)
    first = feature_cosine(projected, teacher, **unit_statistics(2), weight=doubles(5, 0))
    assert float(first) == pytest.approx(1 - 1 / math.sqrt(2))


def test_feature_cosine_does_not_see_a_rows_scale() -> None:
    student, teacher = normal(1, 6, 5), normal(2, 6, 5)
    scales = doubles(0.1, 1, 2, 3, 40, 500)[:, None]
    loss = feature_cosine(student, teacher, **unit_statistics(5))
    assert float(feature_cosine(scales * student, teacher, **unit_statistics(5))) == pytest.approx(float(loss))


# Relations


def test_relational_distance_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    # Distances of 01, 02, 12: student 5, 0, 5 over their mean 10/3; teacher 1, 2, 1 over 4/3.
    # Differences 3/4, -3/2, 3/4: Huber's 9/32, 3/2 - 1/2, 9/32.
    assert float(relational_distance(student, teacher)) == pytest.approx((9 / 32 + 1 + 9 / 32) / 3)


def test_relational_angle_by_hand() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    # Cosines at the three points: of the line 1, -1, 1; of the corner 1/sqrt 2, 0, 1/sqrt 2.
    expected = (2 * 0.5 * (1 - 1 / math.sqrt(2)) ** 2 + 0.5) / 3
    assert float(relational_angle(corner, line)) == pytest.approx(expected)
    assert float(relational_angle(line, corner)) == pytest.approx(expected)


def test_triplets_without_an_angle_in_the_teacher_do_not_count() -> None:
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0]], dtype=torch.float64)
    # Of the 12 triplets those with the teacher's coincident points 2 and 3 both, one of them at the angle, are out:
    # (at 2: 0-3, 1-3; at 3: 0-2, 1-2).
    cosines = {(0, 1, 2): 1, (0, 1, 3): 1, (0, 2, 3): 1, (1, 0, 2): -1, (1, 0, 3): -1, (1, 2, 3): 1}
    cosines |= {(2, 0, 1): 1, (3, 0, 1): 1}
    losses = []
    for (at, i, k), target in cosines.items():
        a, b = student[i] - student[at], student[k] - student[at]
        error = abs(float(a @ b / (a.norm() * b.norm())) - target)
        losses.append(0.5 * error**2 if error <= 1 else error - 0.5)
    assert float(relational_angle(student, teacher)) == pytest.approx(sum(losses) / len(losses))


@quick
@given(seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_relations_do_not_see_scale_rotation_and_shift(seed: int, log_a: float, log_b: float) -> None:
    student, teacher = normal(seed, 6, 3), normal(seed + 1, 6, 4)
    rotation = torch.linalg.qr(normal(seed + 2, 3, 3))[0]
    moved = 10**log_a * student @ rotation + normal(seed + 3, 1, 3)
    for loss in (relational_distance, relational_angle):
        expected = float(loss(student, teacher))
        assert float(loss(moved, 10**log_b * teacher)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert float(loss(moved, student)) == pytest.approx(0.0, abs=1e-9)
        assert expected > 1e-6


@quick
@given(seeds)
def test_losses_do_not_see_the_order_of_the_images(seed: int) -> None:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    student, teacher, weight = normal(seed, 7, 3), normal(seed + 1, 7, 3), normal(seed + 2, 7).abs()
    rows = torch.tensor([True, True, False, True, True, False, True])
    given = unit_statistics(3)

    def losses(order: Tensor) -> list[float]:
        s, t, w = student[order], teacher[order], weight[order]
        return [
            float(feature_mse(s, t, **given, weight=w)),
            float(feature_cosine(s, t, **given, weight=w)),
            float(relational_distance(s, t, rows=rows[order])),
            float(relational_angle(s, t, rows=rows[order])),
            float(rank_loss(s[:, 0], t[:, 0], margin=0.3, tie=0.2, weight=w)),
        ]

    assert losses(order) == pytest.approx(losses(torch.arange(7)), rel=1e-9)


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_rows_that_are_masked_take_no_part(loss: Callable[..., Tensor]) -> None:
    student, teacher = normal(3, 6, 3).requires_grad_(), normal(4, 6, 4)
    rows = torch.tensor([True, False, True, True, False, True])
    masked = loss(student, teacher, rows=rows)
    assert float(masked.detach()) == float(loss(student[rows], teacher[rows]).detach())
    torch.autograd.backward(masked)
    assert student.grad is not None
    assert student.grad[~rows].abs().max() == 0
    assert student.grad[rows].abs().sum(1).min() > 0


# Ranks


def test_rank_loss_by_hand() -> None:
    teacher = doubles(0.9, 0.5, 0.45)
    score = doubles(0.6, 0.7, 0.2)
    # Pairs 01, 02, 12 lead by -0.1, 0.4, 0.5: hinges of 0.2 are 0.3, 0, 0.
    assert float(rank_loss(score, teacher, margin=0.2)) == pytest.approx(0.3 / 3)
    # 12 is a tie.
    assert float(rank_loss(score, teacher, margin=0.2, tie=0.1)) == pytest.approx(0.3 / 2)
    # In proportion the margins are 0.8, 0.9 and 0.1: hinges 0.9, 0.5, 0.
    loss = rank_loss(score, teacher, margin=2.0, proportional=True)
    assert float(loss) == pytest.approx(1.4 / 3)
    # Pairs weigh 2 x 1, 2 x 3, 1 x 3.
    weighted = rank_loss(score, teacher, margin=2.0, proportional=True, weight=doubles(2, 1, 3))
    assert float(weighted) == pytest.approx((2 * 0.9 + 6 * 0.5) / 11)


@quick
@given(seeds, st.floats(0, 0.5), st.floats(0, 0.2))
def test_rank_loss_is_zero_just_where_the_order_is_kept_by_the_margin(seed: int, margin: float, tie: float) -> None:
    teacher = normal(seed, 8)
    ranks = teacher.argsort().argsort().double()
    assert float(rank_loss(ranks * (margin + 0.01), teacher, margin=margin, tie=tie)) == 0.0
    assert float(rank_loss(-ranks, teacher, margin=margin, tie=tie)) >= 1.0
    assert float(rank_loss(teacher, teacher, margin=1.0, tie=tie, proportional=True)) == pytest.approx(0.0, abs=1e-12)


def test_a_difference_of_the_tie_itself_counts_and_equals_never_do() -> None:
    assert float(rank_loss(doubles(0, 0), doubles(0.5, 0.25), margin=0.1, tie=0.25)) == pytest.approx(0.1)
    assert float(rank_loss(doubles(0, 5), doubles(0.5, 0.5), margin=0.1)) == 0.0


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": math.nan}, {"margin": 0.1, "tie": -1.0}])
def test_rank_loss_refuses_negative_margins_and_ties(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="margin"):
        rank_loss(doubles(0, 1), doubles(0, 1), margin=options["margin"], tie=options.get("tie", 0.0))


# Disagreement


def test_disagreement_weight_by_hand() -> None:
    # 1, 1/2 and 1/10 before they are divided by their mean, 1.6 / 3.
    weight = disagreement_weight(doubles(0, 0.05, 0.15), scale=0.05)
    assert weight.tolist() == pytest.approx([3 / 1.6, 1.5 / 1.6, 0.3 / 1.6])
    assert float(weight.mean()) == pytest.approx(1.0)


def test_equal_disagreement_changes_nothing() -> None:
    assert disagreement_weight(torch.zeros(4), scale=0.1).tolist() == [1.0] * 4
    assert disagreement_weight(torch.full((4,), 3.0), scale=0.1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_of_disagreement_must_be_positive(scale: float) -> None:
    with pytest.raises(UsageError, match="disagreement"):
        disagreement_weight(torch.zeros(2), scale=scale)


# Gradients

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda s, t: feature_mse(s, t, **statistics(t), weight=torch.arange(len(s)).to(s.dtype)),
    "cosine": lambda s, t: feature_cosine(s, t, **statistics(t)),
    "distance": relational_distance,
    "angle": relational_angle,
    "rank": lambda s, t: rank_loss(s[:, 0], t[:, 0], margin=0.1),
    "rank in proportion": lambda s, t: rank_loss(s[:, 0], t[:, 0], margin=0.5, proportional=True),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher = normal(6, 5, 3)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (normal(5, 5, 3).requires_grad_(),))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_degenerate_batches_are_finite(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
    varied, twins = normal(7, 6, 3), normal(8, 6, 3)[[0, 0, 1, 1, 1, 2]]
    batches = {
        "constant": torch.full((6, 3), 0.7),
        "zero": torch.zeros(6, 3),
        "nearly constant": 0.7 + 1e-7 * varied,
        "minute": 1e-22 * varied,
        "twins": twins,
        "varied": varied,
    }
    for name, student in batches.items():
        for teacher in batches.values():
            for rows in (1, 2, 6):
                s = student[:rows].to(dtype).requires_grad_()
                value = loss(s, teacher[:rows].to(dtype))
                torch.autograd.backward(value)
                assert s.grad is not None
                assert math.isfinite(float(value.detach())), name
                assert bool(torch.isfinite(s.grad).all()), name


def test_no_gradient_flows_into_the_teacher() -> None:
    for loss in LOSSES.values():
        student, teacher = normal(9, 5, 3).requires_grad_(), normal(10, 5, 3).requires_grad_()
        torch.autograd.backward(loss(student, teacher))
        assert student.grad is not None
        assert teacher.grad is None or not teacher.grad.any()


# Projections

CONVNEXT = {"features.last": 768, "features.0": 96, "features.1": 192, "features.2": 384, "features.3": 768}


def test_last_goes_with_last_and_stages_from_the_end() -> None:
    student = {"features.last": 64, "features.1": 16, "features.3": 32}
    assert pair_features(student, CONVNEXT) == (
        Pair("features.last", "features.last"),
        Pair("features.3", "features.3"),
        Pair("features.2", "features.1"),
    )
    # Ten comes after nine, whatever the order of the names.
    blocks = {f"features.{block}": 8 for block in (9, 10, 11)}
    assert [pair.teacher for pair in pair_features(student, blocks)] == ["features.11", "features.10"]


def test_branches_go_together_in_their_order() -> None:
    student = {"features.near.last": 8, "features.far.last": 9}
    teacher = {"features.a.last": 1, "features.b.last": 2, "features.c.last": 3}
    assert pair_features(student, teacher) == (
        Pair("features.a.last", "features.near.last"),
        Pair("features.b.last", "features.far.last"),
        Pair("features.c.last", "features.far.last"),
    )
    # A vector of another network, whose name says nothing.
    assert pair_features({"features.last": 8}, {"embedding": 5}) == (Pair("embedding", "features.last"),)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [({}, CONVNEXT), (CONVNEXT, {}), ({"features.last": 8}, {"features.0": 8}), ({}, {})],
    ids=["no student's", "no teacher's", "different kinds", "none"],
)
def test_features_that_cannot_be_paired(student: dict[str, int], teacher: dict[str, int]) -> None:
    with pytest.raises(ModelError) as caught:
        Projections(student, {"fold 0": teacher})
    assert "'fold 0'" in caught.value.got
    assert "--feature-weight 0" in caught.value.mend


def test_projections_have_the_teachers_widths_and_learn_one_member_at_a_time() -> None:
    student = {"features.last": 6, "features.3": 5}
    maps = Projections(student, {"m.0": CONVNEXT, "m.1": {"embedding": 3}}, seed=4)
    features = {name: normal(index, 2, width).float() for index, (name, width) in enumerate(student.items())}
    assert {name: tuple(value.shape) for name, value in maps(features, "m.0").items()} == {
        "features.last": (2, 768),
        "features.3": (2, 768),
    }
    torch.autograd.backward(maps(features, "m.1")["embedding"].sum())
    assert [parameter.grad is not None for parameter in maps.parameters()] == [False] * 4 + [True] * 2


def test_projections_are_linear_maps_of_the_paired_feature() -> None:
    maps = Projections({"features.last": 2, "features.0": 2}, {"m": {"features.0": 2, "features.last": 2}})
    with torch.no_grad():
        for parameter, value in zip(maps.parameters(), ([[1.0, 2.0], [0.0, 3.0]], [4.0, 5.0]), strict=False):
            parameter.copy_(torch.tensor(value))
    projected = maps({"features.last": torch.tensor([[1.0, 10.0]]), "features.0": torch.zeros(1, 2)}, "m")
    assert projected["features.last"].tolist() == [[25.0, 35.0]]


def test_projections_are_drawn_from_their_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = Projections({"features.last": 6}, {"m": CONVNEXT}, seed=4).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    again = Projections({"features.last": 6}, {"m": CONVNEXT}, seed=4).state_dict()
    other = Projections({"features.last": 6}, {"m": CONVNEXT}, seed=5).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_an_unknown_member() -> None:
    maps = Projections({"features.last": 6}, {"m": CONVNEXT})
    with pytest.raises(ModelError, match="one of: m"):
        maps({"features.last": torch.zeros(1, 6)}, "n")
