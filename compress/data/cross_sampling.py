"""Cross-sampling: an epoch draws fewer photographs of the MOS ranges that have many, and others each time.

T. M. Lehmann and P. Rokita, "Xception-based architecture with cross-sampled training for Image Quality Assessment on
KonIQ-10k", Machine Graphics and Vision 32(2), 2023, doi 10.22630/MGV.2023.32.2.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError, require_field

__all__ = ["CrossSampling", "draw_epoch", "draws", "range_counts"]

Rounding = Literal["floor", "nearest"]

_METHODS: dict[int, tuple[float, Rounding]] = {1: (math.inf, "floor"), 2: (10.0, "floor"), 3: (2.0, "nearest")}


class CrossSampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many photographs of each MOS range an epoch draws, as a multiple of the smallest range that is not empty.

    A range with r times as many photographs as the smallest gives ``1 + rounded(log_base r)`` times the smallest, and
    never more than it has. Methods 1, 2 and 3 are the paper's, of which only the sums over the ranges are known to us:
    on KonIQ-10k's training set, [129, 833, 2157, 3790, 149] photographs in five ranges, an epoch has 645, 903 and 2193.
    How a sum is divided between the ranges is our reading, as several rules give these sums.

    Attributes:
        method: 1 draws as many from every range, (1, 1, 1, 1, 1) times the smallest on KonIQ-10k (the rule with an
            infinite base); 2 has base 10 and rounds down, (1, 1, 2, 2, 1); 3 has base 2 and rounds to the nearest,
            (1, 4, 5, 6, 1); ``log`` is the rule with the next two fields.
        base: of the logarithm, more than 1 and finite; for ``log`` alone.
        rounding: ``floor``, or ``nearest`` with halves going up; for ``log`` alone.
        ranges: of equal width over [0, 1], at least 1.
    """

    method: Literal[1, 2, 3, "log"] = 2
    base: float | None = None
    rounding: Rounding | None = None
    ranges: int = 5

    def __post_init__(self) -> None:
        asked = f"method {self.method!r} with base {self.base} and rounding {self.rounding}"
        if self.method == "log":
            right = self.base is not None and 1 < self.base < math.inf and self.rounding is not None
            require_field(right, asked, "a finite base above 1, and a rounding")
        else:
            expected = 'neither: they are for method "log"'
            require_field(self.base is None and self.rounding is None, asked, expected)
        require_field(self.ranges >= 1, f"{self.ranges} ranges", "at least 1")

    @property
    def rule(self) -> tuple[float, Rounding]:
        """Base (infinite for method 1) and rounding."""
        if self.method == "log":
            assert self.base is not None and self.rounding is not None
            return self.base, self.rounding
        return _METHODS[self.method]


def range_counts(scores: NDArray[np.float64], ranges: int) -> tuple[int, ...]:
    """How many scores lie in each range.

    Args:
        scores: float64 ``[n]`` in [0, 1].
        ranges: of equal width; a score on an edge is in the upper range, 1 in the last.

    Raises:
        DataError: a score outside [0, 1].
    """
    return tuple(np.bincount(_places(scores, ranges), minlength=ranges).tolist())


def draws(counts: Sequence[int], sampling: CrossSampling) -> tuple[int, ...]:
    """How many photographs of each range an epoch draws; their sum is the length of the epoch.

    Args:
        counts: photographs in each range.
        sampling: the rule; its number of ranges does not matter here.

    Returns:
        One number a range, at most its count: an empty range gives nothing, and one with fewer than the rule asks for
        gives all that it has.
    """
    base, rounding = sampling.rule
    smallest = min((count for count in counts if count), default=1)
    return tuple(min(count, smallest * (1 + _logarithm(count, smallest, base, rounding))) for count in counts)


def draw_epoch(scores: NDArray[np.float64], sampling: CrossSampling, stream: np.random.Generator) -> NDArray[np.int64]:
    """The photographs of one epoch, in the order in which they are shown.

    Args:
        scores: float64 ``[n]`` in [0, 1], the opinions of all training photographs.
        sampling: how many are drawn of each range.
        stream: of the draws; one of its own for each epoch draws anew.

    Returns:
        int64 ``[m]``, rows of ``scores`` in random order, none twice.

    Raises:
        DataError: a score outside [0, 1].
    """
    places = _places(scores, sampling.ranges)
    wanted = draws(range_counts(scores, sampling.ranges), sampling)
    drawn = [stream.permutation(np.flatnonzero(places == place))[:count] for place, count in enumerate(wanted)]
    return stream.permutation(np.concatenate(drawn)).astype(np.int64, copy=False)


def _places(scores: NDArray[np.float64], ranges: int) -> NDArray[np.int64]:
    """The range of each score, from 0."""
    # Not a number is not between them either.
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError(
            f"scores of {scores.min():g} to {scores.max():g}",
            expected="scores in [0, 1], of which the ranges are parts",
            mend="correct the data set's score range",
        )
    # Quotients and not products: 0.29 x 100 is less than 29.
    return np.searchsorted(np.arange(1, ranges) / ranges, scores, side="right").astype(np.int64, copy=False)


def _logarithm(count: int, smallest: int, base: float, rounding: Rounding) -> int:
    """Of count / smallest, rounded, at least 0; by powers, as quotients of logarithms miss whole numbers by a bit."""
    level = 0
    # What is more than the quotient itself does not matter, and a base next to 1 has very many powers.
    while level * smallest < count and _reaches(level + 1, count, smallest, base, rounding):
        level += 1
    return level


def _reaches(level: int, count: int, smallest: int, base: float, rounding: Rounding) -> bool:
    if rounding == "floor":
        return base**level * smallest <= count
    return base ** (2 * level - 1) * smallest**2 <= count**2
