"""Learning from opinions: photographs with scores as examples, and the losses to them as an objective."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .losses import huber_loss, mse_loss, plcc_loss, weighted_mse_loss
from .stages import ScoreLosses, Stage

__all__ = ["LabelledExamples", "ScoreObjective", "score_terms"]


@dataclass(frozen=True, slots=True)
class LabelledExamples:
    """Some rows of views with their scores; see `examples.Examples`.

    Attributes:
        views: uint8 ``[n, ...]`` each; may be memory maps.
        scores: float64 ``[n]``, in [0, 1].
        rows: int64, those that are learned from.
        names: of all n photographs.
        count: of rows.
        fingerprint: of what the rows show and of their scores.
    """

    views: Sequence[NDArray[np.uint8]]
    scores: NDArray[np.float64]
    rows: NDArray[np.int64]
    names: Sequence[str]
    count: int
    fingerprint: str

    @classmethod
    def of(
        cls,
        views: Sequence[NDArray[np.uint8]],
        scores: NDArray[np.float64],
        rows: NDArray[np.int64],
        names: Sequence[str],
        keys: Sequence[str],
    ) -> LabelledExamples:
        """The examples of some rows; ``keys`` say what each of the n shows, as `data.items.Item.key` does."""
        digest = hashlib.sha256()
        for row in rows:
            digest.update(keys[row].encode())
        digest.update(np.ascontiguousarray(scores[rows]).data)
        return cls(views, scores, rows, names, len(rows), digest.hexdigest())

    def draw(
        self,
        rows: NDArray[np.int64],
        epoch: int,  # noqa: ARG002 - photographs are the same in every epoch; augmentation is the loop's
        whole: bool,  # noqa: ARG002
    ) -> tuple[Sequence[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        """See `examples.Examples`."""
        chosen = self.rows[rows]
        return [view[chosen] for view in self.views], {"mos": self.scores[chosen].astype(np.float32)}

    def name(self, row: int) -> str:
        """See `examples.Examples`."""
        return self.names[int(self.rows[row])]


class ScoreObjective:
    """The losses of a stage between raw scores and opinions."""

    def __call__(
        self,
        outputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        stage: Stage,
        seed: int,  # noqa: ARG002 - nothing is drawn
    ) -> dict[str, Tensor]:
        """See `examples.Objective`."""
        return score_terms(outputs["score"], targets["mos"], stage.losses)


def score_terms(
    score: Tensor, target: Tensor, losses: ScoreLosses, weight: Tensor | None = None, prefix: str = ""
) -> dict[str, Tensor]:
    """The weighted terms whose weight is not 0, by name.

    Args:
        score: raw, float ``[N]``.
        target: in [0, 1], float ``[N]``.
        losses: their weights.
        weight: of each photograph, float ``[N]``; None for all alike.
        prefix: of the terms' names.
    """
    terms = {}
    if losses.mse:
        terms[f"{prefix}mse"] = losses.mse * mse_loss(score, target, weight=weight)
    if losses.weighted_mse:
        ends = {"height": losses.end_height, "distance": losses.end_distance, "width": losses.end_width}
        loss = weighted_mse_loss(score, target, **ends, weight=weight)
        terms[f"{prefix}weighted_mse"] = losses.weighted_mse * loss
    if losses.huber:
        terms[f"{prefix}huber"] = losses.huber * huber_loss(score, target, delta=losses.huber_delta, weight=weight)
    if losses.plcc:
        terms[f"{prefix}plcc"] = losses.plcc * plcc_loss(score, target, weight=weight)
    return terms
