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
from ..runtime.errors import DataError
from .models.network import QualityNet

__all__ = ["HeldOut", "heldout_figures", "predict"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Photographs that are only judged.

    Attributes:
        views: uint8 ``[N, ...]`` each.
        rows: which of the N, int64 ``[n]``.
        scores: of those rows, in [0, 1], float64 ``[n]``.
    """

    views: Sequence[NDArray[np.uint8]]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]

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


def heldout_figures(raw: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, float]:
    """SRCC, PLCC and RMSE (of raw scores x 100) of raw scores against scores in [0, 1], both ``[n]``; NaN for none."""

    def defined(metric: Callable[[Any, Any], float]) -> float:
        # A network that gives one score to all has no correlation.
        try:
            return metric(raw, scores)
        except DataError:
            return math.nan

    return {
        "heldout_srcc": defined(srcc),
        "heldout_plcc": defined(plcc),
        "heldout_rmse": rmse(100 * raw, 100 * scores) if bool(np.isfinite(raw).all()) else math.inf,
    }
