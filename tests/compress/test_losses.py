"""Losses: closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from edgeiqa.compress.losses import end_weight, huber_loss, mse_loss, plcc_loss, weighted_mse_loss
from torch import Tensor


def test_huber_is_a_parabola_within_delta_and_a_line_beyond() -> None:
    delta = 0.1
    errors = torch.tensor([0.0, 0.05, 0.1, 0.3])
    each = [float(huber_loss(error[None], torch.zeros(1), delta=delta)) for error in errors]
    # 1/2 (e / delta)^2 within, |e| / delta - 1/2 beyond.
    assert each == pytest.approx([0.0, 0.125, 0.5, 2.5], rel=1e-6)


def test_huber_of_an_error_of_delta_is_a_half_whatever_delta_is() -> None:
    for delta in (0.01, 0.1, 1.0):
        loss = huber_loss(torch.tensor([delta], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), delta=delta)
        assert float(loss) == pytest.approx(0.5, rel=1e-12)


def test_plcc_loss_is_zero_for_a_rising_line_and_two_for_a_falling_one() -> None:
    mos = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    assert float(plcc_loss(3 * mos + 1, mos, epsilon=0.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(plcc_loss(1 - mos, mos, epsilon=0.0)) == pytest.approx(2.0, abs=1e-12)


def test_plcc_loss_is_one_minus_pearsons_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    score, mos = torch.rand(2, 32, generator=generator, dtype=torch.float64)
    correlation = float(torch.corrcoef(torch.stack([score, mos]))[0, 1])
    assert float(plcc_loss(score, mos, epsilon=0.0)) == pytest.approx(1 - correlation, abs=1e-12)


def test_plcc_loss_has_a_finite_gradient_where_all_scores_are_equal() -> None:
    score = torch.full((8,), 0.5, requires_grad=True)
    loss = plcc_loss(score, torch.linspace(0, 1, 8))
    torch.autograd.backward(loss)
    assert math.isfinite(float(loss.detach()))
    assert score.grad is not None
    assert bool(torch.isfinite(score.grad).all())
    # Descent pulls the scores towards the opinions' order.
    assert float(score.grad[0]) > 0 > float(score.grad[-1])


def test_mse_by_hand() -> None:
    score, mos = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.5, 0.6])
    assert float(mse_loss(score, mos)) == pytest.approx((0.01 + 0.09) / 3)
    assert float(mse_loss(score, mos, weight=torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx((0.02 + 0.09) / 4)


def test_weighted_huber_by_hand() -> None:
    errors, weight = torch.tensor([0.05, 0.3]), torch.tensor([3.0, 1.0])
    loss = huber_loss(errors, torch.zeros(2), delta=0.1, weight=weight)
    assert float(loss) == pytest.approx((3 * 0.125 + 2.5) / 4)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "mse": lambda score, mos, weight: mse_loss(score, mos, weight=weight),
    "huber": lambda score, mos, weight: huber_loss(score, mos, delta=0.1, weight=weight),
    "plcc": lambda score, mos, weight: plcc_loss(score, mos, weight=weight),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_weights_count_as_that_many_copies_of_an_image(loss: Callable[..., Tensor]) -> None:
    score, mos = torch.rand(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    copies = torch.tensor([1, 3, 0, 2, 1, 5])
    repeated = loss(score.repeat_interleave(copies), mos.repeat_interleave(copies), None)
    # Only the ratios of weights matter.
    assert float(loss(score, mos, 0.3 * copies.double())) == pytest.approx(float(repeated), rel=1e-12)
    assert float(repeated) != pytest.approx(float(loss(score, mos, None)), rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_equal_weights_change_nothing(loss: Callable[..., Tensor]) -> None:
    score, mos = torch.rand(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for weight in (1.0, 0.25):
        weighted = loss(score, mos, torch.full((6,), weight))
        assert float(weighted) == pytest.approx(float(loss(score, mos, None)), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients(loss: Callable[..., Tensor]) -> None:
    score, mos, weight = torch.rand(3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, mos, weight), (score.requires_grad_(),))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_degenerate_batches_are_finite(loss: Callable[..., Tensor]) -> None:
    for mos in (torch.full((4,), 0.5), torch.linspace(0, 1, 4)):
        for weight in (None, torch.zeros(4), torch.tensor([0.0, 0.0, 1e-30, 0.0])):
            score = torch.full((4,), 0.5, requires_grad=True)
            value = loss(score, mos, weight)
            torch.autograd.backward(value)
            assert score.grad is not None
            assert math.isfinite(float(value.detach()))
            assert bool(torch.isfinite(score.grad).all())


def test_the_ends_weigh_more_symmetrically() -> None:
    mos = torch.linspace(0, 1, 101, dtype=torch.float64)
    weight = end_weight(mos, height=2.0, distance=0.25, width=0.05)
    assert weight.flip(0).tolist() == pytest.approx(weight.tolist())
    # Half of the height where the sigmoid is at its middle, by hand there and at an end.
    assert float(weight[75]) == pytest.approx(1 + 2 * (0.5 + 1 / (1 + math.exp(10))))
    assert float(weight[100]) == pytest.approx(1 + 2 * (1 / (1 + math.exp(-5)) + 1 / (1 + math.exp(15))))
    assert float(weight[50]) == pytest.approx(1 + 4 / (1 + math.exp(5)))
    assert (weight[50:].diff() > 0).all()


def test_weighted_mse_by_hand() -> None:
    score, mos = torch.tensor([0.1, 0.5], dtype=torch.float64), torch.tensor([0.0, 0.7], dtype=torch.float64)
    loss = partial(weighted_mse_loss, height=3.0, distance=0.2, width=0.1)
    a, b = end_weight(mos, height=3.0, distance=0.2, width=0.1).tolist()
    assert float(loss(score, mos)) == pytest.approx((a * 0.01 + b * 0.04) / 2)
    both = loss(score, mos, weight=torch.tensor([1.0, 3.0]))
    assert float(both) == pytest.approx((a * 0.01 + 3 * b * 0.04) / 4)
    # A batch of one end alone still counts more than the plain error.
    end = loss(score[:1], mos[:1])
    assert float(end) == pytest.approx(a * 0.01) and a > 3
    plain = weighted_mse_loss(score, mos, height=0.0, distance=0.2, width=0.1)
    assert float(plain) == pytest.approx(float(mse_loss(score, mos)))
