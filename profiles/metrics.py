"""Accuracy: how scores agree with opinions, with bootstrap intervals.

Correlations are scipy's. Intervals are percentiles of the paired bootstrap (B. Efron and R. J. Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13): photographs are drawn with replacement, each with its score and its
opinion. Needs the extra ``evaluate``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError, MissingExtraError, UsageError

__all__ = [
    "Accuracy",
    "Interval",
    "Metric",
    "SceneAccuracy",
    "evaluate",
    "krcc",
    "mae",
    "paired_difference",
    "per_scene",
    "plcc",
    "rmse",
    "srcc",
]

Metric = Literal["srcc", "plcc", "krcc", "mae", "rmse"]

_CORRELATIONS: tuple[Metric, ...] = ("srcc", "plcc", "krcc")
# With two photographs every correlation is 1 or -1.
_LEAST_PHOTOS = 3
# Numbers drawn at a time, so that the bootstrap of a large set stays in a few tens of MiB.
_BATCH_NUMBERS = 2_000_000


class Interval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure of all photographs, and the percentile interval of the bootstrap around it."""

    value: float
    low: float
    high: float


class Accuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How scores agree with opinions.

    Attributes:
        n: photographs judged.
        failed: photographs that gave no score; they are not among the n.
        level: of the intervals, in (0, 1).
        srcc: Spearman's rank correlation, in [-1, 1].
        plcc: Pearson's linear correlation, in [-1, 1], without any map fitted in between.
        krcc: Kendall's rank correlation (tau-b), in [-1, 1].
        mae: mean absolute error, in the unit of the opinions.
        rmse: root mean squared error, in the unit of the opinions.
    """

    n: int
    failed: int = 0
    level: float
    srcc: Interval
    plcc: Interval
    krcc: Interval
    mae: Interval
    rmse: Interval


class SceneAccuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How scores agree with opinions that compare only inside a scene: means over scenes.

    There is no MAE and no RMSE: opinions that were scaled scene by scene have no common zero.

    Attributes:
        n: photographs in the scenes judged.
        failed: photographs that gave no score; they are not among the n.
        scenes: scenes judged, each with the same weight.
        scenes_left_out: scenes with fewer than three photographs, or with the same opinion of all of them.
        level: of the intervals, in (0, 1); scenes are what is resampled.
        srcc: Spearman's rank correlation, in [-1, 1].
        plcc: Pearson's linear correlation, in [-1, 1].
        krcc: Kendall's rank correlation (tau-b), in [-1, 1].
    """

    n: int
    failed: int = 0
    scenes: int
    scenes_left_out: int
    level: float
    srcc: Interval
    plcc: Interval
    krcc: Interval


def plcc(predictions: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's linear correlation.

    Args:
        predictions: scores, float ``[n]``, finite, n at least 2.
        mos: opinions, float ``[n]``.

    Returns:
        In [-1, 1].

    Raises:
        DataError: the arrays are not so, or one of them is constant.
        MissingExtraError: scipy is not installed.
    """
    return _correlation("plcc", predictions, mos)


def srcc(predictions: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; arguments and errors as in `plcc`."""
    return _correlation("srcc", predictions, mos)


def krcc(predictions: ArrayLike, mos: ArrayLike) -> float:
    """Kendall's rank correlation, tau-b; arguments and errors as in `plcc`."""
    return _correlation("krcc", predictions, mos)


def mae(predictions: ArrayLike, mos: ArrayLike) -> float:
    """Mean absolute error, in the unit of the opinions; n at least 1, constants allowed, errors as in `plcc`."""
    return float(_mae(*paired_arrays(predictions, mos, least=1)))


def rmse(predictions: ArrayLike, mos: ArrayLike) -> float:
    """Root mean squared error, in the unit of the opinions; n at least 1, constants allowed, errors as in `plcc`."""
    return float(_rmse(*paired_arrays(predictions, mos, least=1)))


def evaluate(
    predictions: ArrayLike,
    mos: ArrayLike,
    *,
    failed: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Accuracy:
    """All five figures with their intervals.

    Resamples in which a correlation is not defined (one photograph drawn n times) are left out of its interval. All
    figures are of the same resamples.

    Args:
        predictions: scores, float ``[n]``, finite, n at least 3, in the unit of the opinions.
        mos: opinions, float ``[n]``.
        failed: photographs that gave no score, to be carried along.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap.
        level: of the intervals, in (0, 1).

    Returns:
        The figures; MAE and RMSE in the unit of the opinions.

    Raises:
        DataError: the arrays are not so, or one of them is constant.
        MissingExtraError: scipy is not installed.
        UsageError: another argument is out of its range.
    """
    x, y = paired_arrays(predictions, mos, least=_LEAST_PHOTOS)
    require_varied(x, y)
    intervals = {metric: _bootstrap(_STATISTICS[metric], (x, y), resamples, seed, level) for metric in get_args(Metric)}
    return Accuracy(n=len(x), failed=failed, level=level, **intervals)


def paired_difference(
    predictions_a: ArrayLike,
    predictions_b: ArrayLike,
    mos: ArrayLike,
    *,
    metric: Metric = "srcc",
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The figure of A minus the figure of B on the same photographs, with its interval.

    An interval that leaves out zero says that the two differ on photographs like these. Of a correlation, more is
    better; of an error, less.

    Args:
        predictions_a: scores of A, float ``[n]``, finite, n at least 3.
        predictions_b: scores of B of the same photographs, float ``[n]``.
        mos: opinions, float ``[n]``.
        metric: which figure.
        resamples: as of `evaluate`, like ``seed`` and ``level``.
        seed: likewise.
        level: likewise.

    Returns:
        In the unit of the figure.

    Raises:
        DataError: the arrays are not so, or, for a correlation, one of them is constant.
        MissingExtraError: scipy is not installed.
        UsageError: another argument is out of its range.
    """
    _require_argument(metric in _STATISTICS, f"the metric {metric!r}", f"one of {', '.join(_STATISTICS)}")
    statistic = _STATISTICS[metric]
    a, y = paired_arrays(predictions_a, mos, least=_LEAST_PHOTOS)
    b, _ = paired_arrays(predictions_b, mos, least=_LEAST_PHOTOS)
    if metric in _CORRELATIONS:
        require_varied(a, y)
        require_varied(b, y)

    def difference(a: NDArray[np.float64], b: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return statistic(a, y) - statistic(b, y)

    return _bootstrap(difference, (a, b, y), resamples, seed, level)


def per_scene(
    predictions: ArrayLike,
    mos: ArrayLike,
    scenes: Sequence[str],
    *,
    failed: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> SceneAccuracy:
    """Correlations inside each scene, averaged over scenes.

    Args:
        predictions: scores, float ``[n]``, finite.
        mos: opinions, float ``[n]``, that compare inside a scene.
        scenes: of each photograph, ``[n]``.
        failed: as of `evaluate`, like ``resamples`` (here of scenes), ``seed`` and ``level``.
        resamples: likewise.
        seed: likewise.
        level: likewise.

    Returns:
        Means over scenes. Scenes that no correlation can be read from are left out and counted.

    Raises:
        DataError: the arrays are not so, fewer than two scenes can be judged, or all scores of a scene are the same.
        MissingExtraError: scipy is not installed.
        UsageError: another argument is out of its range.
    """
    x, y = paired_arrays(predictions, mos, least=_LEAST_PHOTOS)
    if len(scenes) != len(x):
        raise DataError(
            f"{len(scenes)} scenes for {len(x)} photographs",
            expected="one for each",
            mend="give each photograph a scene",
        )
    members: dict[str, list[int]] = {}
    for index, scene in enumerate(scenes):
        members.setdefault(scene, []).append(index)
    judged = {
        scene: indices for scene, indices in members.items() if len(indices) >= _LEAST_PHOTOS and np.ptp(y[indices]) > 0
    }
    if len(judged) < 2:
        raise DataError(
            f"{len(judged)} of {len(members)} scenes with {_LEAST_PHOTOS} or more photographs of different opinions",
            expected="at least two, for a mean over scenes with an interval",
            mend="give more photographs a scene, or, where all scores compare, evaluate the whole set at once",
        )
    for scene, indices in judged.items():
        if np.ptp(x[indices]) == 0:
            raise DataError(
                f"the same score, {x[indices[0]]:g}, for all {len(indices)} photographs of scene {scene!r}",
                expected="scores that differ, as a correlation is not defined without",
                mend="check that the model looks at the photographs, or leave the scene out",
            )
    intervals = {}
    for metric in _CORRELATIONS:
        figures = np.array([_STATISTICS[metric](x[indices], y[indices]) for indices in judged.values()])
        intervals[metric] = _bootstrap(_mean, (figures,), resamples, seed, level)
    return SceneAccuracy(
        n=sum(map(len, judged.values())),
        failed=failed,
        scenes=len(judged),
        scenes_left_out=len(members) - len(judged),
        level=level,
        **intervals,
    )


def _stats() -> ModuleType:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError(
            "no scipy, which the figures of accuracy need",
            expected="the extra 'evaluate'",
            mend='pip install "edgeiqa[evaluate]"',
        ) from error
    return stats


# The statistics below take float64 [..., n] and give [...], so that the bootstrap need not loop over resamples.


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x.mean(axis=-1))


def _mae(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return _mean(np.abs(x - y))


def _rmse(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(_mean(np.square(x - y)))


def _plcc(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_stats().pearsonr(x, y, axis=-1).statistic)


def _srcc(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    rank = _stats().rankdata
    return _plcc(rank(x, axis=-1), rank(y, axis=-1))


def _krcc(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    tau = _stats().kendalltau
    rows = [tau(a, b).statistic for a, b in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True)]
    return np.array(rows).reshape(x.shape[:-1])


_STATISTICS: dict[Metric, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "srcc": _srcc,
    "plcc": _plcc,
    "krcc": _krcc,
    "mae": _mae,
    "rmse": _rmse,
}


def _correlation(metric: Metric, predictions: ArrayLike, mos: ArrayLike) -> float:
    x, y = paired_arrays(predictions, mos, least=2)
    require_varied(x, y)
    return _defined(float(_STATISTICS[metric](x, y)))


def _bootstrap(
    statistic: Callable[..., NDArray[np.float64]],
    data: tuple[NDArray[np.float64], ...],
    resamples: int,
    seed: int,
    level: float,
) -> Interval:
    _require_argument(resamples >= 100, f"{resamples} resamples", "at least 100")
    _require_argument(0 < level < 1, f"a level of {level}", "one in (0, 1)")
    _require_argument(seed >= 0, f"a seed of {seed}", "a seed of at least 0")

    def with_axis(*rows: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return statistic(*(np.moveaxis(row, axis, -1) for row in rows))

    value = _defined(float(statistic(*data)))
    stats = _stats()
    with warnings.catch_warnings():
        # A constant resample has no correlation; its NaN is left out below.
        for category in (stats.ConstantInputWarning, stats.NearConstantInputWarning, stats.DegenerateDataWarning):
            warnings.simplefilter("ignore", category)
        result: Any = stats.bootstrap(
            data,
            with_axis,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _BATCH_NUMBERS // len(data[0])),
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    drawn = result.bootstrap_distribution
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def paired_arrays(
    predictions: ArrayLike, mos: ArrayLike, *, least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 ``[n]``; `DataError` unless they are finite, of one length, and n is at least ``least``."""
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < least:
        raise DataError(
            f"scores of shape {list(x.shape)} and opinions of shape {list(y.shape)}",
            expected=f"two arrays of the same length, at least {least}",
            mend="give one score and one opinion for each photograph",
        )
    for what, values in (("score", x), ("opinion", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(
                f"{len(bad)} of {len(x)} {what}s not finite, the first at place {bad[0]}",
                expected="finite numbers",
                mend="leave out photographs without a score, and count them as failed",
            )
    return x, y


def require_varied(x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """`DataError` when all scores ``x`` or all opinions ``y`` are the same."""
    for what, values in (("score", x), ("opinion", y)):
        if np.ptp(values) == 0:
            raise DataError(
                f"the same {what}, {values[0]:g}, for all {len(values)} photographs",
                expected=f"{what}s that differ, as a correlation is not defined without",
                mend="check that the model looks at the photographs"
                if what == "score"
                else "evaluate on photographs of different quality",
            )


def _require_argument(holds: bool, got: str, expected: str) -> None:
    if not holds:
        raise UsageError(got, expected=expected, mend="correct the argument")


def _defined(value: float) -> float:
    if not math.isfinite(value):
        raise DataError(
            "scores or opinions beyond what floating point can tell apart",
            expected="values of an ordinary magnitude that differ in more than their last digits",
            mend="check the unit of the scores",
        )
    return value
