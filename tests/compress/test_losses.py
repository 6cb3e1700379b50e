"""Losses: closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from edgeiqa.compress.losses import huber_loss, plcc_loss


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
