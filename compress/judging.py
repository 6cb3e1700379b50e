"""What is held out of a training, and how well a network does on it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..profiles.metrics import plcc, rmse, srcc
from ..profiles.range_errors import equal_edges, range_of
from ..runtime.errors import DataError
from ..runtime.score_map import InversePiecewiseLinear
from .labelled import score_terms
from .models.network import QualityNet
from .stages import ScoreLosses

__all__ = ["HeldOut", "heldout_figures", "predict"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Photographs that are only judged.

    Attributes:
        views: uint8 ``[N, ...]`` each.
        rows: which of the N, int64 ``[n]``.
        scores: what is learned towards, of those rows, in [0, 1], float64 ``[n]``.
        transform: whose forward direction made the scores of opinions; None where they are opinions.
    """

    views: Sequence[NDArray[np.uint8]]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    transform: InversePiecewiseLinear | None = None

    def opinions(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """From what is learned towards to opinions in [0, 1]."""
        return scores if self.transform is None else self.transform.apply(scores)

    @property
    def digest(self) -> str:
        """Of rows and scores."""
        return hashlib.sha256(self.rows.tobytes() + self.scores.tobytes()).hexdigest()


def predict(
    network: QualityNet, views: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64] | None = None, *, batch: int = 16
) -> NDArray[np.float64]:
    """Raw scores float64 ``[n]`` of rows (all, if none are said) of views ``[N, ...]``.

    The network is asked in eval mode; its mode is restored.
    """
    rows = np.arange(len(views[0])) if rows is None else rows
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    scores: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            inputs = [torch.from_numpy(np.array(view[rows[start : start + batch]])).to(device) for view in views]
            scores.append(network(*inputs)["score"].cpu().double().numpy())
    network.train(training)
    return np.concatenate(scores)


def heldout_figures(
    raw: NDArray[np.float64], heldout: HeldOut, losses: ScoreLosses, *, ranges: int | None = None
) -> dict[str, float]:
    """How raw scores ``[n]`` agree with what was held out.

    Args:
        raw: of the held-out rows.
        heldout: those rows.
        losses: of the stage.
        ranges: equal parts of the scale for the sum of the squared errors' means over them.

    Returns:
        ``heldout_loss`` of the raw scores, as the stage weighs it; of the opinions that they stand for: SRCC, PLCC and
        R2 (NaN for none), RMSE of 100 points, and ``heldout_range_mse`` of 100 points
        squared, over the ranges that hold photographs, where it is asked for.
    """
    said, opinions = heldout.opinions(raw), heldout.opinions(heldout.scores)
    finite = bool(np.isfinite(raw).all())

    def defined(metric: Callable[[Any, Any], float]) -> float:
        # A network that gives one score to all has no correlation.
        try:
            return metric(said, opinions)
        except DataError:
            return math.nan

    error = rmse(100 * said, 100 * opinions) if finite else math.inf
    spread = float(100 * opinions.std())
    terms = score_terms(torch.from_numpy(raw), torch.from_numpy(heldout.scores), losses)
    figures = {
        "heldout_loss": sum(float(term) for term in terms.values()) if terms and finite else math.nan,
        "heldout_srcc": defined(srcc),
        "heldout_plcc": defined(plcc),
        "heldout_r2": 1 - (error / spread) ** 2 if spread > 0 else math.nan,
        "heldout_rmse": error,
    }
    if ranges is not None:
        each = range_of(100 * opinions, equal_edges(0.0, 100.0, ranges))
        # Ranges that hold nothing of the fold say nothing in any epoch.
        mean = [float(np.mean((100 * (said - opinions)[each == one]) ** 2)) for one in np.unique(each)]
        figures["heldout_range_mse"] = sum(mean) if finite else math.inf
    return figures
