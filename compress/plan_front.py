"""The rows of a plan, which of them leave no reason for others, and the compromise among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from .known_accuracy import QualityFigure
from .plan_space import VIEWS, Precision, ViewName

__all__ = ["Candidate", "PlanRow", "compromise", "dominates", "pareto_front"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A point of the space.

    Attributes:
        backbone: timm's name.
        view: how the photograph is looked at; of ``three-scale`` and ``fragments`` the size is that of one image.
        width: of the input, in pixels.
        height: likewise.
        members: how many such networks score a photograph.
    """

    backbone: str
    view: ViewName
    width: int
    height: int
    members: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of one image."""
        return self.width, self.height


class PlanRow(Candidate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate within the budget.

    Attributes:
        macs: strict multiply-adds of one photograph, of all views and members.
        counted: whether ``macs`` was counted at this size; foretold otherwise.
        parameters: of all members.
        size_bytes: of the parameters of all members on disk, by each precision that keeps the budget.
        share: part of the photograph's pixels that is seen, in (0, 1].
        top1: ImageNet-1k top-1 in percent of the backbone's pretrained weights; None where it is not known.
        latency_ms: of the networks alone, members one after another, batch 1; on this machine in torch, FP32.
        latency: ``estimated`` from this machine's speed at a small input of the same backbone; ``measured`` at this
            size; or ``at least``: the multiply-adds at the highest throughput documented of a device.
        licence: of those weights, as timm states it; None where there are none or it does not.
        quality: what is known of networks with this backbone against people's scores.
    """

    macs: int
    counted: bool
    parameters: int
    size_bytes: dict[Precision, int]
    share: float
    top1: float | None = None
    latency_ms: float
    latency: Literal["estimated", "measured", "at least"] = "estimated"
    licence: str | None = None
    quality: tuple[QualityFigure, ...] = ()

    @property
    def point(self) -> Candidate:
        """The row as a candidate."""
        return Candidate(**{name: getattr(self, name) for name in Candidate.__struct_fields__})

    @property
    def alone(self) -> Candidate:
        """One member of it."""
        return msgspec.structs.replace(self.point, members=1)


def _qualities(row: PlanRow) -> tuple[float, float, float]:
    """What dominance looks at; less is better in each."""
    return float(row.parameters), -row.share, -(row.top1 or 0.0)


def _price(row: PlanRow) -> tuple[float, float]:
    """What decides between rows of equal qualities; less is better, the first first."""
    return float(row.macs), float(list(VIEWS).index(row.view))


def dominates(better: PlanRow, worse: PlanRow) -> bool:
    """Whether a row leaves no reason for another of as many members.

    It has no more parameters (and so no more bytes), sees no less of the photograph's pixels, its backbone's ImageNet
    top-1 is no lower (one that is not known counts as the lowest), and one of these is better; or all are equal, and it
    takes fewer multiply-adds, or as many and its view comes first in `VIEWS`. Multiply-adds are what the budget is for:
    within it they are no criterion but that. Latency is none: it is an estimate of one machine.
    """
    mine, yours = _qualities(better), _qualities(worse)
    if mine == yours:
        return _price(better) < _price(worse)
    return all(a <= b for a, b in zip(mine, yours, strict=True))


def pareto_front(rows: Sequence[PlanRow]) -> list[int]:
    """Indices of the rows that no other row dominates, ascending; see `dominates`."""
    if not rows:
        return []
    values: NDArray[np.float64] = np.array([(*_qualities(row), *_price(row)) for row in rows], dtype=np.float64)
    qualities = values[:, :3]
    front: list[int] = []
    # In this order nothing is dominated by what comes after it.
    for at in np.lexsort(values.T[::-1]):
        no_worse = (qualities[front] <= qualities[at]).all(axis=1)
        # Of equal qualities the first is the cheaper one; they are both kept where they cost the same.
        other = (values[front] != values[at]).any(axis=1)
        if not (no_worse & other).any():
            front.append(int(at))
    return sorted(front)


def compromise(rows: Sequence[PlanRow]) -> int:
    """The row between most pixels and best backbone.

    Each gain is scaled from 0 at the least of the rows to 1 at the most: of the share of pixels its logarithm, of the
    backbone its top-1. The row whose smaller gain is the largest is taken, the nearest to the ideal in the Chebyshev
    distance (M. Zeleny, "Compromise programming", 1973); of equal ones that of fewer multiply-adds.

    Args:
        rows: at least one.

    Returns:
        Its index.
    """
    gains = np.array([(math.log(row.share), row.top1 or 0.0) for row in rows], dtype=np.float64)
    known = gains[gains[:, 1] > 0]
    # A backbone of which nothing is known is no end of the scale.
    least = (known if len(known) else gains).min(axis=0)
    spread = gains.max(axis=0) - least
    scaled = np.where(spread > 0, (gains - least) / np.where(spread > 0, spread, 1.0), 1.0)
    worth = scaled.min(axis=1)
    return min(range(len(rows)), key=lambda at: (-worth[at], rows[at].macs))
