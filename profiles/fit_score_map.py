"""Fitting score maps: from a network's raw outputs and the opinions of the same photographs.

Least squares by scipy (extra ``evaluate``). The curves never fall by construction, so a map never inverts a ranking;
all but the isotonic one rise everywhere, and keep it whole. Where a model is judged on the photographs its map was
fitted on, the judgement is flattered: fit on scores out of fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError, MissingExtraError
from ..runtime.score_map import Affine, Isotonic, Logistic, ScoreMap, Sigmoid
from .metrics import paired_arrays, plcc, require_varied, srcc

__all__ = ["fit_isotonic", "fit_logistic4", "fit_minmax", "fit_sigmoid", "scipy_optimize"]

# With raw outputs in units of their standard deviation: the natural logarithm of a curve's width, and its middle. A
# curve wider than e^4 is straight over all the data, and wider ones only drift.
_LOG_WIDTH = (-7.0, 4.0)
_OFFSET = 100.0
# Widths from its middle at which a curve is within .7 % of an asymptote.
_FLAT = 5.0
# Breakpoints that an `Isotonic` may have.
_MOST_KNOTS = 4096


def fit_sigmoid(raw: ArrayLike, mos: ArrayLike, low: float, high: float, *, fitted_on: str = "") -> ScoreMap:
    """Fit the slope and centre of ``low + (high - low) / (1 + exp(-slope (raw - centre)))``.

    Args:
        raw: a network's outputs, float ``[n]``, finite, n at least 3, that rise with the opinions.
        mos: opinions, float ``[n]``, in [low, high].
        low: lowest score of the scale, which the curve never quite reaches.
        high: highest score of the scale, likewise.
        fitted_on: for a person: which scores these are.

    Returns:
        A map of one rising `Sigmoid`, with output range [low, high].

    Raises:
        DataError: the arrays are not so, or no such curve describes them.
        MissingExtraError: scipy is not installed.
        RecordError: low is not below high.
    """
    identity = ScoreMap(low=low, high=high, fitted_on=fitted_on)
    x, y = _checked(raw, mos, identity, parameters=2)
    centre, width = x.mean(), x.std()
    z = (x - centre) / width

    def curve(z: NDArray[np.float64], log_width: float, at: float) -> NDArray[np.float64]:
        return Sigmoid(slope=float(np.exp(-log_width)), centre=at, low=low, high=high).apply(z)

    # The start has the least-squares line's slope at the curve's middle.
    rise = float(np.mean(z * (y - y.mean()))) / (high - low)
    log_width, at = _fit(
        curve,
        z,
        y,
        start=(-np.log(4 * abs(rise) + 1e-3), 0.0),
        bounds=(_LOG_WIDTH, (-_OFFSET, _OFFSET)),
    )
    _require_slope((z - at) / np.exp(log_width))
    step = Sigmoid(slope=float(np.exp(-log_width) / width), centre=float(centre + width * at), low=low, high=high)
    return identity.then(step, low=low, high=high)


def fit_logistic4(
    raw: ArrayLike, mos: ArrayLike, low: float = 0.0, high: float = 100.0, *, fitted_on: str = ""
) -> ScoreMap:
    """Fit the four-parameter logistic ``b2 + (b1 - b2) / (1 + exp(-(raw - b3) / b4))``.

    The asymptotes are held within one width of the scale beyond its ends: nearly straight data would send them to
    infinity. Source: Video Quality Experts Group, final report of the FR-TV phase I test (2000).

    Args:
        raw: a network's outputs, float ``[n]``, finite, n at least 5, that rise with the opinions.
        mos: opinions, float ``[n]``, in [low, high].
        low: lowest score of the scale; the curve may go below and is clipped.
        high: highest score of the scale, likewise.
        fitted_on: for a person: which scores these are.

    Returns:
        A map of one rising `Logistic` (b1 > b2, b4 > 0), with output range [low, high].

    Raises:
        DataError: the arrays are not so, or no such curve describes them.
        MissingExtraError: scipy is not installed.
        RecordError: low is not below high.
    """
    identity = ScoreMap(low=low, high=high, fitted_on=fitted_on)
    x, y = _checked(raw, mos, identity, parameters=4)
    centre, width, middle, span, apart = x.mean(), x.std(), y.mean(), high - low, 1e-3 * y.std()
    z = (x - centre) / width

    def curve(z: NDArray[np.float64], log_width: float, at: float, b1: float, b2: float) -> NDArray[np.float64]:
        return Logistic(b1=b1, b2=b2, b3=at, b4=float(np.exp(log_width))).apply(z)

    log_width, at, b1, b2 = _fit(
        curve,
        z,
        y,
        start=(-0.5, 0.0, y.max(), y.min()),
        # Least squares puts the mean opinion between the asymptotes, so these bounds lose nothing and keep b1 > b2.
        bounds=(_LOG_WIDTH, (-_OFFSET, _OFFSET), (middle + apart, high + span), (low - span, middle - apart)),
    )
    _require_slope((z - at) / np.exp(log_width))
    step = Logistic(b1=b1, b2=b2, b3=float(centre + width * at), b4=float(width * np.exp(log_width)))
    return identity.then(step, low=low, high=high)


def fit_isotonic(raw: ArrayLike, mos: ArrayLike, low: float, high: float, *, fitted_on: str = "") -> ScoreMap:
    """Fit the curve that never falls and is nearest to the opinions in least squares, whatever its shape.

    Photographs of the same raw output count by their mean opinion. The fitted curve is made of flat pieces; the
    breakpoints are their ends, and between two pieces the map is linear. So it inverts no ranking, but ties what lies
    on one piece, and follows few photographs too closely: fit on hundreds. Source: pool adjacent violators, R. E.
    Barlow, D. J. Bartholomew, J. M. Bremner and H. D. Brunk, "Statistical Inference under Order Restrictions", 1972.

    Args:
        raw: a network's outputs, float ``[n]``, finite, n at least 3, that rise with the opinions.
        mos: opinions, float ``[n]``, in [low, high].
        low: lowest score of the scale.
        high: highest score of the scale.
        fitted_on: for a person: which scores these are.

    Returns:
        A map of one `Isotonic` of at most 4,096 breakpoints (where the curve has more, evenly spaced ones of them),
        with output range [low, high].

    Raises:
        DataError: the arrays are not so.
        MissingExtraError: scipy is not installed.
        RecordError: low is not below high.
    """
    identity = ScoreMap(low=low, high=high, fitted_on=fitted_on)
    x, y = _checked(raw, mos, identity, parameters=2)
    outputs, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(places, weights=y) / counts
    curve = np.asarray(scipy_optimize().isotonic_regression(means, weights=counts.astype(np.float64)).x)
    # What lies inside a flat piece says nothing. At least two breakpoints stay: outputs whose PLCC with the opinions is
    # above 0 pool to more than one piece.
    rises = np.diff(curve) > 0
    knots = np.flatnonzero(np.append(True, rises) | np.append(rises, True))
    if len(knots) > _MOST_KNOTS:
        knots = knots[np.linspace(0, len(knots) - 1, _MOST_KNOTS).round().astype(np.intp)]
    step = Isotonic(raw=tuple(outputs[knots].tolist()), score=tuple(curve[knots].tolist()))
    return identity.then(step, low=low, high=high)


def fit_minmax(predictions: ArrayLike, low: float, high: float, *, fitted_on: str = "") -> ScoreMap:
    """Take the least prediction to low and the greatest to high, by a straight line.

    No opinion is looked at. The extremes are those of the photographs given, training ones, and stay as they are: what
    lies beyond them later is clipped.

    Args:
        predictions: a network's outputs, float ``[n]``, finite, that are not all the same.
        low: lowest score of the scale.
        high: highest score of the scale.
        fitted_on: for a person: which scores these are.

    Returns:
        A map of one `Affine`, with output range [low, high].

    Raises:
        DataError: the predictions are not so.
        RecordError: low is not below high.
    """
    identity = ScoreMap(low=low, high=high, fitted_on=fitted_on)
    x = np.asarray(predictions, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all() or len(x) == 0 or np.ptp(x) == 0:
        raise DataError(
            f"predictions of shape {list(x.shape)} that are not finite, or all the same",
            expected="finite numbers [n] that differ",
            mend="check that the model looks at the photographs, and leave out those without a score",
        )
    least, greatest = float(x.min()), float(x.max())
    scale = (high - low) / (greatest - least)
    return identity.then(Affine(scale=scale, offset=low - scale * least), low=low, high=high)


def _checked(
    raw: ArrayLike, mos: ArrayLike, scale: ScoreMap, *, parameters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = paired_arrays(raw, mos, least=parameters + 1)
    require_varied(x, y)
    outside = np.flatnonzero((y < scale.low) | (y > scale.high))
    if len(outside):
        raise DataError(
            f"{len(outside)} of {len(y)} opinions outside [{scale.low:g}, {scale.high:g}], the first {y[outside[0]]:g}",
            expected="opinions on the stated scale",
            mend="state the lowest and the highest score of the scale the opinions are on",
        )
    ranks, line = srcc(x, y), plcc(x, y)
    if ranks <= 0 or line <= 0:
        raise DataError(
            f"raw outputs that do not rise with the opinions (SRCC {ranks:.3f}, PLCC {line:.3f})",
            expected="outputs that are higher for better photographs",
            mend="negate the output of a network that predicts distortion; check that rows of both tables match",
        )
    return x, y


def scipy_optimize() -> ModuleType:
    """scipy.optimize, or `MissingExtraError`."""
    try:
        import scipy.optimize
    except ImportError as error:
        raise MissingExtraError(
            "no scipy, which fits score maps",
            expected="the extra 'evaluate'",
            mend='pip install "edgeiqa[evaluate]"',
        ) from error
    return scipy.optimize


def _fit(
    curve: Callable[..., NDArray[np.float64]],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    start: tuple[float, ...],
    bounds: tuple[tuple[float, float], ...],
) -> tuple[float, ...]:
    optimize = scipy_optimize()
    lowest, highest = zip(*bounds, strict=True)
    inside: Any = np.clip(start, lowest, highest)
    try:
        with warnings.catch_warnings():
            # Straight or perfect data leave the covariance undefined; it is not used.
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            parameters, _ = optimize.curve_fit(
                curve, x, y, p0=inside, bounds=(lowest, highest), max_nfev=2000, method="dogbox"
            )
    except RuntimeError as error:
        raise DataError(
            f"a curve that did not converge on {len(x)} photographs ({error})",
            expected="raw outputs and opinions that a rising S-shaped curve describes",
            mend="fit on more photographs, or a curve of fewer parameters (fit_sigmoid has two)",
        ) from error
    return tuple(float(parameter) for parameter in parameters)


def _require_slope(widths: NDArray[np.float64]) -> None:
    """`DataError` when no photograph lies on the curve's slope; ``widths`` are distances from its middle, ``[n]``."""
    if np.all(np.abs(widths) > _FLAT):
        raise DataError(
            "opinions that jump at one raw output and do not change on either side of it",
            expected="opinions that rise gradually with the raw output",
            mend="fit on more photographs, whose quality covers the scale",
        )
