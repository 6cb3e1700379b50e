"""Errors by range of the opinions: a model that is right on the crowded middle alone is found out.

Source: T. M. Lehmann and P. Rokita, "Xception-based architecture with cross-sampled training for Image Quality
Assessment on KonIQ-10k", Machine Graphics and Vision 32(2), 2023: the mean squared error in each of five ranges of
equal width, their sum and their standard deviation. Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError, UsageError
from .metrics import paired_arrays

__all__ = ["RangeErrors", "equal_edges", "range_errors", "range_of"]


class RangeErrors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far scores are from opinions in each range of the opinions.

    Attributes:
        edges: of the r ranges, ``[r + 1]``, rising; a range holds its lower edge, the last one its upper edge too.
        counts: photographs of each range, ``[r]``, each at least 1.
        mse: mean squared error of each range, ``[r]``, in the squared unit of the opinions.
        total: sum of ``mse``: every range counts alike, however many photographs it has.
        std: standard deviation of ``mse`` over the ranges (divisor r - 1); 0 where the model errs alike everywhere.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    mse: tuple[float, ...]
    total: float
    std: float


def equal_edges(low: float, high: float, ranges: int = 5) -> tuple[float, ...]:
    """Edges of ranges of equal width: ``(0, 20, 40, 60, 80, 100)`` of the scale 0 to 100.

    Args:
        low: lowest score of the scale.
        high: highest.
        ranges: how many, at least 1.

    Returns:
        ``ranges + 1`` numbers that rise from low to high.

    Raises:
        UsageError: fewer than one range, or low is not below high, or they are not finite.
    """
    if ranges < 1:
        raise UsageError(f"{ranges} ranges", expected="at least 1", mend="correct the argument")
    return tuple(float(edge) for edge in _checked_edges(np.linspace(low, high, ranges + 1)))


def range_of(mos: ArrayLike, edges: Sequence[float]) -> NDArray[np.int64]:
    """The range that each opinion lies in.

    Args:
        mos: opinions, float ``[n]``, each from the first edge to the last.
        edges: of the r ranges, ``[r + 1]``, finite, rising strictly, at least two.

    Returns:
        Int64 ``[n]``, 0 to r - 1. A range holds its lower edge; the last one holds its upper edge too.

    Raises:
        DataError: opinions are not ``[n]``, not finite or outside the edges.
        UsageError: the edges are not so.
    """
    bounds = _checked_edges(edges)
    values = np.asarray(mos, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(
            f"opinions of shape {list(values.shape)}", expected="[n]", mend="give one opinion for each photograph"
        )
    # NaN lies in no range either.
    outside = np.flatnonzero(~((values >= bounds[0]) & (values <= bounds[-1])))
    if len(outside):
        raise DataError(
            f"{len(outside)} of {len(values)} opinions outside [{bounds[0]:g}, {bounds[-1]:g}], "
            f"the first {values[outside[0]]:g}",
            expected="opinions inside the ranges",
            mend="give edges from the lowest to the highest score of the scale the opinions are on",
        )
    places = np.searchsorted(bounds, values, side="right") - 1
    return np.minimum(places, len(bounds) - 2).astype(np.int64)


def range_errors(predictions: ArrayLike, mos: ArrayLike, edges: Sequence[float]) -> RangeErrors:
    """The mean squared error in each range of the opinions, their sum and their spread.

    A range without photographs is refused and not passed over: the sum of fewer ranges would look better, and would not
    compare with that of another set.

    Args:
        predictions: scores, float ``[n]``, finite, in the unit of the opinions.
        mos: opinions, float ``[n]``, each from the first edge to the last.
        edges: as of `range_of`, of at least two ranges; `equal_edges` gives those of the source.

    Raises:
        DataError: the arrays are not so, or a range holds no photograph.
        UsageError: the edges are not so.
    """
    x, y = paired_arrays(predictions, mos, least=1)
    places = range_of(y, edges)
    bounds = tuple(float(edge) for edge in edges)
    ranges = len(bounds) - 1
    if ranges < 2:
        raise UsageError("one range", expected="at least two, for a spread over ranges", mend="give more edges")
    counts = np.bincount(places, minlength=ranges)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise DataError(
            f"no photograph with an opinion from {bounds[empty[0]]:g} to {bounds[empty[0] + 1]:g}"
            + (f", and {len(empty) - 1} further empty ranges" if len(empty) > 1 else ""),
            expected="photographs in every range",
            mend="judge on more photographs, or give edges of wider ranges",
        )
    mse = np.bincount(places, weights=np.square(x - y), minlength=ranges) / counts
    return RangeErrors(
        edges=bounds,
        counts=tuple(int(count) for count in counts),
        mse=tuple(float(error) for error in mse),
        total=float(mse.sum()),
        std=float(mse.std(ddof=1)),
    )


def _checked_edges(edges: ArrayLike) -> NDArray[np.float64]:
    bounds = np.asarray(edges, dtype=np.float64)
    rising = bounds.ndim == 1 and len(bounds) >= 2 and np.isfinite(bounds).all() and bool((np.diff(bounds) > 0).all())
    if not rising:
        raise UsageError(
            f"edges {bounds.tolist()}",
            expected="two or more finite numbers that rise strictly",
            mend="correct the argument",
        )
    return bounds
