"""Which weights a training gives: those of its last epoch, or of the epochs that did best on what was held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .stages import Keep

__all__ = ["CRITERIA", "Best", "better", "chosen", "kept_name", "kept_of", "remove_kept"]

CRITERIA: dict[Keep, tuple[tuple[str, int], ...]] = {
    "last": (),
    "least_rmse": (("rmse", -1),),
    "greatest_srcc": (("srcc", 1),),
    "least_loss": (("loss", -1),),
    "greatest_r2": (("r2", 1),),
    "two_checkpoints": (("loss", -1), ("r2", 1)),
    "least_range_mse": (("range_mse", -1),),
}
"""Of each choice the held-out figures that it keeps a checkpoint by, and 1 where more is better."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best of a figure so far.

    Attributes:
        figure: ``heldout_`` and this is its name in the log.
        value: the greater the better; minus infinity where the figure was not defined.
        epoch: of the log, from 0.
    """

    figure: str
    value: float
    epoch: int


def better(best: Mapping[str, Best], history: Sequence[Mapping[str, float]], keep: Keep) -> list[Best]:
    """What the last epoch of a log did better than all before it; of a run that keeps the last epoch, by its RMSE.

    Args:
        best: by figure, of the epochs before.
        history: the log.
        keep: the run's.
    """
    found = []
    for figure, sign in CRITERIA[keep] or CRITERIA["least_rmse"]:
        value = sign * history[-1].get(f"heldout_{figure}", math.nan)
        value = -math.inf if math.isnan(value) else value
        if figure not in best or value > best[figure].value:
            found.append(Best(figure, value, len(history) - 1))
    return found


def chosen(best: Mapping[str, Best], history: Sequence[Mapping[str, float]], keep: Keep) -> Best | None:
    """The checkpoint that a run gives, of those that it kept: the greatest mean of PLCC and SRCC; None for the last.

    Source: "An Ensemble of ConvNeXt Models for Perceptual Quality Assessment of Filtered Images", VCIP 2025, which
    keeps those of the least validation loss and of the greatest R2. Of equals it is the first.
    """
    kept = [best[figure] for figure, _ in CRITERIA[keep] if figure in best]

    def mean(one: Best) -> float:
        line = history[one.epoch]
        both = (line.get("heldout_plcc", math.nan) + line.get("heldout_srcc", math.nan)) / 2
        return -math.inf if math.isnan(both) else both

    return max(kept, key=mean, default=None)


def kept_of(history: Sequence[Mapping[str, float]], keep: Keep) -> Best | None:
    """The same from a whole log, in which figures that were not defined may be missing."""
    best: dict[str, Best] = {}
    for epochs in range(1, len(history) + 1):
        best |= {one.figure: one for one in better(best, history[:epochs], keep)}
    return chosen(best, history, keep)


def kept_name(figure: str) -> str:
    """Of the file that holds the weights of a figure's best epoch."""
    return f"best_{figure}.pt"


def remove_kept(folder: Path) -> None:
    """What only a training that goes on needs of these files."""
    for figure in {figure for criteria in CRITERIA.values() for figure, _ in criteria}:
        (folder / kept_name(figure)).unlink(missing_ok=True)
