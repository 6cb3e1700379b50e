"""Transforms of the MOS that a network is trained on; their exact inverse is a step of its score map.

Source: "An Ensemble of ConvNeXt Models for Perceptual Quality Assessment of Filtered Images", VCIP 2025, which trains
on a piecewise-linear transform and inverts it at inference. Its breakpoints are not published; those here are ours.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError, require_field
from ..runtime.score_map import InversePiecewiseLinear

__all__ = ["EvenMos", "MosTransform", "even_transform", "resolve"]


class EvenMos(msgspec.Struct, frozen=True, tag="even", kw_only=True, forbid_unknown_fields=True):
    """The piecewise-linear transform that spreads the training opinions evenly over [0, 1].

    Attributes:
        pieces: each holds as many opinions as the others.
        most_slope: of a piece, and the reciprocal of its least slope; where evenness would ask for more, the transform
            lies as near to it as the bound allows.
    """

    pieces: int = 4
    most_slope: float = 4.0

    def __post_init__(self) -> None:
        require_field(2 <= self.pieces <= 64, f"{self.pieces} pieces", "2 to 64")
        require_field(1 < self.most_slope <= 100, f"a slope of {self.most_slope}", "more than 1, at most 100")


MosTransform = EvenMos | InversePiecewiseLinear
"""Fitted to the training opinions, or given: from opinions in [0, 1] to targets in [0, 1]."""


def resolve(transform: MosTransform, mos: NDArray[np.float64]) -> InversePiecewiseLinear:
    """The transform with its breakpoints.

    Args:
        transform: given, or to be fitted.
        mos: the opinions that a member learns from, in [0, 1], float64 ``[n]``.

    Raises:
        DataError: given breakpoints that do not cover [0, 1] on both sides, or too few opinions for the pieces.
    """
    if isinstance(transform, EvenMos):
        return even_transform(mos, pieces=transform.pieces, most_slope=transform.most_slope)
    ends = (transform.mos[0], transform.mos[-1], transform.transformed[0], transform.transformed[-1])
    if ends != (0.0, 1.0, 0.0, 1.0):
        raise DataError(
            f"a MOS transform from [{ends[0]}, {ends[1]}] to [{ends[2]}, {ends[3]}]",
            expected="one of [0, 1] onto [0, 1], as opinions are scaled in training",
            mend="begin both lists of breakpoints with 0 and end them with 1",
        )
    return transform


def even_transform(mos: NDArray[np.float64], *, pieces: int, most_slope: float) -> InversePiecewiseLinear:
    """Breakpoints at the quantiles of the opinions, mapped to equal steps, drawn towards the identity by the bound.

    Args:
        mos: opinions in [0, 1], float64 ``[n]``.
        pieces: as `EvenMos`.
        most_slope: likewise.

    Raises:
        DataError: fewer than ten opinions a piece.
    """
    if len(mos) < 10 * pieces:
        raise DataError(
            f"{len(mos)} opinions for a transform of {pieces} pieces",
            expected="at least ten a piece",
            mend="fewer pieces, or more photographs",
        )
    levels = np.linspace(0.0, 1.0, pieces + 1)
    at = np.quantile(mos, levels)
    at[0], at[-1] = 0.0, 1.0
    # Where opinions repeat or touch the ends of the scale, a piece would have no width.
    kept = np.concatenate([[True], (np.diff(at[:-1]) > 1e-6) & (at[1:-1] < 1 - 1e-6), [True]])
    at, levels = at[kept], levels[kept]
    slopes = np.diff(levels) / np.diff(at)
    steep, flat = slopes.max(), slopes.min()
    # A share of evenness changes each slope s to 1 + share (s - 1).
    share = min(
        1.0,
        (most_slope - 1) / (steep - 1) if steep > 1 else 1.0,
        (1 - 1 / most_slope) / (1 - flat) if flat < 1 else 1.0,
    )
    transformed = (1 - share) * at + share * levels
    return InversePiecewiseLinear(mos=tuple(at.tolist()), transformed=tuple(transformed.tolist()))
