"""What the training loop is given: examples to draw from, an objective, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .stages import Stage

__all__ = ["Examples", "Objective", "Step"]


class Examples(Protocol):
    """What a training draws its batches from."""

    @property
    def count(self) -> int:
        """Number of photographs."""

    @property
    def fingerprint(self) -> str:
        """Two sets of examples with the same fingerprint give the same batches."""

    def draw(
        self, rows: NDArray[np.int64], epoch: int, whole: bool
    ) -> tuple[Sequence[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        """Views uint8 ``[n, ...]`` and targets float32 ``[n, ...]`` of some photographs in an epoch of the whole run.

        ``whole`` asks for whole frames where there is a choice.
        """

    def name(self, row: int) -> str:
        """Of a photograph, for a message."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a training is: steps done of all, and the epoch's mean loss so far."""

    done: int
    total: int
    epoch: int
    loss: float


class Objective(Protocol):
    """From outputs and targets of a batch to the terms of the loss, each a weighted scalar; it may have parameters."""

    def __call__(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        """``seed`` differs from step to step."""
