"""Losses on scores, each a pure function of tensors of shape ``[N]`` in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["huber_loss", "plcc_loss"]


def huber_loss(score: Tensor, mos: Tensor, *, delta: float) -> Tensor:
    """Huber loss, divided by delta squared so that an error of delta weighs 1/2 whatever delta is.

    Args:
        score: predicted, float ``[N]``.
        mos: opinions in [0, 1], float ``[N]``.
        delta: where the parabola becomes a line, in the scores' unit.

    Returns:
        The mean over the batch, a scalar. Source: P. J. Huber, "Robust Estimation of a Location Parameter", Annals of
        Mathematical Statistics 35(1), 1964.
    """
    return torch.nn.functional.huber_loss(score, mos, delta=delta) / delta**2


def plcc_loss(score: Tensor, mos: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """One minus Pearson's linear correlation within the batch: a scalar in [0, 2].

    Args:
        score: predicted, float ``[N]`` with N of at least 2.
        mos: opinions in [0, 1], float ``[N]``.
        epsilon: added to the product of the two variances; it bounds the gradient where one side is constant, as the
            scores are when a training starts from their mean.
    """
    score, mos = score - score.mean(), mos - mos.mean()
    covariance = (score * mos).mean()
    variances = score.square().mean() * mos.square().mean()
    return 1.0 - covariance / (variances + epsilon).sqrt()
