"""Score maps fitted again: quantized raw scores are brought back to the scores that the reference gave.

Quantization shifts and scales raw scores a little, alike for all photographs. That part of its error is taken back by
an affine step before the reference's own map; the rank of a network's scores stays, as the step rises.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError
from ..runtime.score_map import Affine, ScoreMap
from .fit_score_map import scipy_optimize
from .metrics import srcc

__all__ = ["MapRefit", "refit_to"]

_LEAST_PHOTOS = 3
# Of the natural logarithm of the step's scale, and of its shift in standard deviations of the raw scores.
_LOG_SCALE = 5.0
_SHIFT = 100.0


class MapRefit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A map that was fitted again, and what that brought.

    Attributes:
        score_map: of the quantized graph.
        scale: of the affine step that was put before the reference's map, above 0.
        offset: likewise; the map's own steps get ``scale * raw + offset``.
        photos: that it was fitted on.
        rmse_before: root mean square of the mapped quantized scores minus the reference's, by the reference's map, in
            score points.
        rmse_after: likewise by ``score_map``.
        mean_before: mean of the same differences: the bias.
        mean_after: likewise.
    """

    score_map: ScoreMap
    scale: float
    offset: float
    photos: int
    rmse_before: float
    rmse_after: float
    mean_before: float
    mean_after: float


def refit_to(score_map: ScoreMap, raw_quantized: ArrayLike, reference_scores: ArrayLike) -> MapRefit:
    """Put an affine correction of the raw score before a map, so that quantized scores agree with the reference's.

    Least squares in score points, through the whole map, from no correction at all: what is fitted is never further
    from the reference than the map as it was.

    Args:
        score_map: of the reference.
        raw_quantized: raw scores of the quantized graph, float ``[n]``, n at least 3.
        reference_scores: mapped scores of the reference for the same photographs, float ``[n]``, in the map's range.

    Raises:
        DataError: the arrays are not so, one of them is constant, or the raw scores do not rise with the scores.
        MissingExtraError: scipy is not installed.
        RecordError: the map has 16 steps and begins with another than an affine one.
    """
    raw, scores = np.asarray(raw_quantized, dtype=np.float64), np.asarray(reference_scores, dtype=np.float64)
    if raw.ndim != 1 or raw.shape != scores.shape or len(raw) < _LEAST_PHOTOS:
        raise DataError(
            f"raw scores of shape {list(raw.shape)} and reference scores of shape {list(scores.shape)}",
            expected=f"two arrays of the same length, at least {_LEAST_PHOTOS}",
            mend="score the same photographs on both sides",
        )
    for what, values in (("quantized raw scores", raw), ("reference scores", scores)):
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            raise DataError(
                f"{what} that are not finite, or the same for all {len(values)} photographs",
                expected="finite numbers that differ",
                mend="look for what overflows or saturates in the graph, or quantize otherwise",
            )
    outside = np.flatnonzero((scores < score_map.low) | (scores > score_map.high))
    if len(outside):
        raise DataError(
            f"a reference score of {scores[outside[0]]:g}",
            expected=f"scores in the map's range, [{score_map.low:g}, {score_map.high:g}]",
            mend="give scores that the same map made",
        )
    ranks = srcc(raw, scores)
    if ranks <= 0:
        raise DataError(
            f"quantized raw scores that do not rise with the reference's scores (SRCC {ranks:.3f})",
            expected="raw scores that are higher where the reference's are",
            mend="check that both are of the same photographs in the same order, or quantize otherwise",
        )
    log_scale, shift = _fit(score_map, raw, scores)
    scale = math.exp(log_scale)
    # With c the middle and w the width of the raw scores: c + w (scale (raw - c) / w + shift).
    offset = float(raw.mean() * (1 - scale) + raw.std() * shift)
    fitted = _corrected(score_map, scale, offset, len(raw))
    before, after = score_map.apply(raw) - scores, fitted.apply(raw) - scores
    return MapRefit(
        score_map=fitted,
        scale=scale,
        offset=offset,
        photos=len(raw),
        rmse_before=float(np.sqrt(np.mean(np.square(before)))),
        rmse_after=float(np.sqrt(np.mean(np.square(after)))),
        mean_before=float(before.mean()),
        mean_after=float(after.mean()),
    )


def _fit(score_map: ScoreMap, raw: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[float, float]:
    """The logarithm of the scale, and the shift in standard deviations of the raw scores."""
    least_squares = scipy_optimize().least_squares
    centre, width, span = raw.mean(), raw.std(), score_map.high - score_map.low

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        log_scale, shift = parameters
        corrected = centre + math.exp(log_scale) * (raw - centre) + width * shift
        difference: NDArray[np.float64] = (score_map.apply(corrected) - scores) / span
        return difference

    start = np.zeros(2)
    found = least_squares(
        residuals, start, bounds=((-_LOG_SCALE, -_SHIFT), (_LOG_SCALE, _SHIFT)), method="dogbox", max_nfev=2000
    )
    best = found.x if np.sum(np.square(found.fun)) < np.sum(np.square(residuals(start))) else start
    return float(best[0]), float(best[1])


def _corrected(score_map: ScoreMap, scale: float, offset: float, photos: int) -> ScoreMap:
    steps = score_map.steps
    if steps and isinstance(steps[0], Affine):
        # Two affine steps are one, so that a map that is fitted again and again does not grow.
        first = Affine(scale=steps[0].scale * scale, offset=steps[0].scale * offset + steps[0].offset)
        steps = steps[1:]
    else:
        first = Affine(scale=scale, offset=offset)
    note = f"brought back to the reference's scores of {photos} photographs"
    fitted_on = f"{score_map.fitted_on}; {note}" if score_map.fitted_on else note
    return msgspec.structs.replace(score_map, steps=(first, *steps), fitted_on=fitted_on)
