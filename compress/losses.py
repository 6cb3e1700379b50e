"""Losses on scores, each a pure function of tensors of shape ``[N]`` in [0, 1].

Each takes ``weight``, float ``[N]`` from 0: how much an image counts. Weights are divided by their sum, so that only
their ratios matter and equal weights change nothing; where all are 0 the loss is that of no images.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["end_weight", "huber_loss", "mse_loss", "plcc_loss", "weighted_mean", "weighted_mse_loss"]


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of ``[N]`` values: plain, or with weights ``[N]`` from 0; a scalar, 0 where all weights are 0."""
    if weight is None:
        return values.mean()
    weight = weight.detach().to(values.dtype)
    # Divided first: the gradient of a division by a minute sum would overflow.
    return (weight / weight.sum().clamp_min(torch.finfo(values.dtype).tiny) * values).sum()


def mse_loss(score: Tensor, mos: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean of the squared errors, a scalar.

    Args:
        score: predicted, float ``[N]``.
        mos: opinions in [0, 1], float ``[N]``.
        weight: of each image, float ``[N]``.
    """
    return weighted_mean((score - mos).square(), weight)


def end_weight(mos: Tensor, *, height: float, distance: float, width: float) -> Tensor:
    """How much an opinion counts by where it lies: 1 in the middle of the scale, ``1 + height`` at its ends.

    ``1 + height (s((mos - .5 - distance) / width) + s((.5 - distance - mos) / width))`` with the sigmoid s: two that
    mirror each other about .5, where few photographs have their opinions. Source: "An Ensemble of ConvNeXt Models for
    Perceptual Quality Assessment of Filtered Images", VCIP 2025, which weighs so and leaves the parameters out: the
    defaults of `stages.ScoreLosses` are ours.

    Args:
        mos: opinions in [0, 1], float ``[N]``.
        height: of each sigmoid, from 0.
        distance: of their middles from .5.
        width: in which they rise from .27 to .73, above 0.

    Returns:
        float ``[N]``.
    """
    rising = torch.sigmoid((mos - 0.5 - distance) / width)
    falling = torch.sigmoid((0.5 - distance - mos) / width)
    return 1.0 + height * (rising + falling)


def weighted_mse_loss(
    score: Tensor, mos: Tensor, *, height: float, distance: float, width: float, weight: Tensor | None = None
) -> Tensor:
    """Mean of the squared errors, each times its `end_weight`: a scalar.

    Not divided by the weights' mean: in a batch of four that are all near one end nothing would be left of it.

    Args:
        score: predicted, float ``[N]``.
        mos: opinions in [0, 1], float ``[N]``.
        height: as `end_weight`, likewise ``distance`` and ``width``.
        distance: likewise.
        width: likewise.
        weight: of each image besides, float ``[N]``.
    """
    ends = end_weight(mos, height=height, distance=distance, width=width)
    return weighted_mean(ends * (score - mos).square(), weight)


def huber_loss(score: Tensor, mos: Tensor, *, delta: float, weight: Tensor | None = None) -> Tensor:
    """Huber loss, divided by delta squared so that an error of delta weighs 1/2 whatever delta is.

    Args:
        score: predicted, float ``[N]``.
        mos: opinions in [0, 1], float ``[N]``.
        delta: where the parabola becomes a line, in the scores' unit.
        weight: of each image, float ``[N]``.

    Returns:
        The mean over the batch, a scalar. Source: P. J. Huber, "Robust Estimation of a Location Parameter", Annals of
        Mathematical Statistics 35(1), 1964.
    """
    each = torch.nn.functional.huber_loss(score, mos, delta=delta, reduction="none")
    return weighted_mean(each, weight) / delta**2


def plcc_loss(score: Tensor, mos: Tensor, *, epsilon: float = 1e-5, weight: Tensor | None = None) -> Tensor:
    """One minus Pearson's linear correlation within the batch: a scalar in [0, 2].

    Args:
        score: predicted, float ``[N]`` with N of at least 2.
        mos: opinions in [0, 1], float ``[N]``.
        epsilon: added to the product of the two variances; it bounds the gradient where one side is constant, as the
            scores are when a training starts from their mean.
        weight: of each image, float ``[N]``: means, covariance and variances are weighted by it.
    """
    score, mos = score - weighted_mean(score, weight), mos - weighted_mean(mos, weight)
    covariance = weighted_mean(score * mos, weight)
    variances = weighted_mean(score.square(), weight) * weighted_mean(mos.square(), weight)
    return 1.0 - covariance / (variances + epsilon).sqrt()
