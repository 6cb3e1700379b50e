"""Rank: whether a quantized artefact puts photographs in the order that the reference puts them in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError, RecordError, UsageError
from .metrics import Interval, paired_difference, srcc

__all__ = ["LEAST_SRCC", "MAX_SRCC_DROP", "SWAP_MARGIN", "RankReport", "check_rank", "swapped_share"]

LEAST_SRCC = 0.99
MAX_SRCC_DROP = 0.03
"""It bounds an interval's upper end, not the drop itself, and with few photographs an interval is wide.

Of 112 photographs, scores of SRCC .83 to the opinions and independent changes of the scores, the bound's median is .010
where SRCC to the reference is .999, .020 at .996, .026 at .993 and .032 at .99; of 232 photographs .006, .013, .017 and
.026. A limit of .02 would refuse most of the good quantizations for want of photographs.
"""
SWAP_MARGIN = 1.0

_LEVEL = 0.95
# With two photographs every correlation is 1 or -1.
_LEAST_PHOTOS = 3
_LARGEST = 1e100
_BLOCK_NUMBERS = 1 << 20


class _RankFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a report but its verdict."""

    engine: str
    precision: str
    photos: int
    versions: int
    images_sha256: str
    not_finite: int
    worst_photo: str
    distinct_reference: int | None
    distinct_got: int | None
    least_srcc: float
    srcc: float | None
    opinions: int
    max_srcc_drop: float | None
    srcc_drop: Interval | None
    level: float
    resamples: int
    seed: int
    swap_margin: float
    swapped_share: float | None
    max_swapped_share: float | None
    mean_change: float | None
    p99_change: float | None
    largest_change: float | None
    max_change: float | None

    @property
    def failures(self) -> tuple[str, ...]:
        """Each reason why the gate does not pass, what was got and what was expected; empty where it passes."""
        if self.not_finite:
            return (f"{self.not_finite} of {self.photos} photographs without finite scores, as {self.worst_photo}",)
        found = [
            f"the same score of the {side} for all {self.photos} photographs, so that there is no order"
            for side, distinct in (("reference", self.distinct_reference), ("artefact", self.distinct_got))
            if distinct == 1
        ]
        if self.srcc is not None and self.srcc < self.least_srcc:
            found.append(f"SRCC to the reference {self.srcc:.4f}, expected at least {self.least_srcc:g}")
        drop, limit = self.srcc_drop, self.max_srcc_drop
        if self.srcc is not None and drop is None and limit is not None:
            found.append(
                f"the same score of one side for all {self.opinions} photographs with opinions: they have no order"
            )
        if drop is not None and limit is not None and drop.high > limit:
            few = "" if drop.value > limit else "; more photographs would narrow it"
            found.append(
                f"SRCC to the opinions {drop.value:.4f} lower, by the {self.level:.0%} interval up to {drop.high:.4f}, "
                f"expected at most {limit:g}{few}"
            )
        swapped, most = self.swapped_share, self.max_swapped_share
        if swapped is not None and most is not None and swapped > most:
            found.append(
                f"{swapped:.2%} of the pairs change order by more than {self.swap_margin:g} points, "
                f"expected at most {most:.2%}"
            )
        largest, most = self.largest_change, self.max_change
        if largest is not None and most is not None and largest > most:
            found.append(f"{self.worst_photo} changes by {largest:.3g} points, expected at most {most:g}")
        return tuple(found)


class RankReport(_RankFigures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the rank gate saw. Limits begin with ``least`` or ``max``.

    Where a score is not finite, all figures are None. The reference's scores are called r, the artefact's q.

    Attributes:
        engine: that gave q.
        precision: that it was told.
        photos: how many photographs were compared, from 3, distorted versions among them.
        versions: how many of these are distorted versions of others, as the caller said.
        images_sha256: of the photographs; see `parity.hash_photos`.
        not_finite: photographs for which either side gave no finite number (of at most 1e100 in size).
        worst_photo: the photograph of the largest change, or the first whose score is not finite.
        distinct_reference: different scores among r; of one, no rank can be read.
        distinct_got: likewise of q.
        least_srcc: smallest ``srcc`` that passes.
        srcc: Spearman's rank correlation of r and q, in [-1, 1]; None also where a side is constant.
        opinions: photographs that have opinions, at least 3; 0 where there were none.
        max_srcc_drop: largest ``srcc_drop.high`` that passes; None where there were no opinions.
        srcc_drop: SRCC of r to the opinions minus that of q, on the photographs that have some, with its bootstrap
            interval; None without opinions, and where a side is constant.
        level: of that interval, in (0, 1).
        resamples: of that bootstrap.
        seed: likewise.
        swap_margin: in score points; see ``swapped_share``.
        swapped_share: share of the pairs of photographs that change order by more than the margin, in [0, 1]; see
            the function of that name.
        max_swapped_share: largest that passes; None where it is not held.
        mean_change: mean of q - r, in score points: the bias.
        p99_change: 99th percentile of ``|q - r|``, interpolated linearly.
        largest_change: of ``|q - r|``.
        max_change: largest ``largest_change`` that passes; None where it is not held.
        passed: nothing is in `failures`.

    Raises:
        RecordError: ``passed`` does not follow from the figures, or a figure is out of its range.
    """

    passed: bool

    def __post_init__(self) -> None:
        hexadecimal = len(self.images_sha256) == 64 and set(self.images_sha256) <= set("0123456789abcdef")
        counts = self.photos >= _LEAST_PHOTOS and 0 <= self.not_finite <= self.photos
        counts = counts and 0 <= self.versions < self.photos
        counts = counts and (self.opinions == 0 or _LEAST_PHOTOS <= self.opinions <= self.photos)
        counts = counts and (self.opinions == 0) == (self.max_srcc_drop is None)
        limits = -1 <= self.least_srcc <= 1 and all(
            limit is None or 0 <= limit < math.inf
            for limit in (self.max_srcc_drop, self.swap_margin, self.max_swapped_share, self.max_change)
        )
        figures_are_sound = self._are_figures_sound()
        if not (hexadecimal and counts and limits and figures_are_sound and self.passed == (not self.failures)):
            raise RecordError(
                f"a rank report of {self.photos} photographs, {self.not_finite} of them without finite scores, SRCC "
                f"{self.srcc}, drop {self.srcc_drop}, changes up to {self.largest_change} and passed = {self.passed}",
                expected="a verdict that follows from its figures, on at least three photographs, with their SHA-256",
                mend="run the rank gate again",
            )

    def _are_figures_sound(self) -> bool:
        r, q = self.distinct_reference, self.distinct_got
        swapped, mean, p99, largest = self.swapped_share, self.mean_change, self.p99_change, self.largest_change
        if self.not_finite:
            figures = (r, q, self.srcc, self.srcc_drop, swapped, mean, p99, largest)
            return all(figure is None for figure in figures)
        if r is None or q is None or swapped is None or mean is None or p99 is None or largest is None:
            return False
        # Means and percentiles may round to a little more than the largest.
        bound = largest * (1 + 1e-9)
        sound = 1 <= r <= self.photos and 1 <= q <= self.photos and 0 <= swapped <= 1
        sound = sound and 0 <= p99 <= bound < math.inf and abs(mean) <= bound
        if min(r, q) == 1:
            return sound and self.srcc is None and self.srcc_drop is None
        drop = self.srcc_drop
        sound = sound and self.srcc is not None and -1 <= self.srcc <= 1
        # Where some have no opinion, a side may be constant on those that have one.
        sound = sound and (
            (drop is None) == (self.max_srcc_drop is None) or (drop is None and self.opinions < self.photos)
        )
        return sound and (drop is None or (-2 <= drop.value <= 2 and -2 <= drop.low <= drop.high <= 2))


def swapped_share(reference: ArrayLike, got: ArrayLike, margin: float = SWAP_MARGIN) -> float:
    """Share of the pairs of photographs that change order by more than a margin.

    A pair (i, j) counts where the signs of r_i - r_j and q_i - q_j differ (a tie on one side alone differs, too), and
    ``|(r_i - r_j) - (q_i - q_j)|`` is more than the margin. As the signs differ, that is how far apart the two
    were, plus how far apart they are now.

    Memory does not grow with the number of pairs; time does (a second or so for 5,000 photographs).

    Args:
        reference: scores r, float ``[n]``, finite, n at least 2.
        got: scores q, likewise.
        margin: in the unit of both, from 0.

    Returns:
        In [0, 1].

    Raises:
        UsageError: the arrays are not so.
    """
    r, q = np.asarray(reference, dtype=np.float64), np.asarray(got, dtype=np.float64)
    if r.ndim != 1 or r.shape != q.shape or len(r) < 2 or not (np.isfinite(r).all() and np.isfinite(q).all()):
        raise UsageError(
            f"scores of shapes {list(r.shape)} and {list(q.shape)}",
            expected="two arrays of the same length, at least 2, of finite numbers",
            mend="score the same photographs on both sides",
        )
    swapped = 0
    rows = max(1, _BLOCK_NUMBERS // len(r))
    for start in range(0, len(r), rows):
        before = r[start : start + rows, None] - r[None, :]
        after = q[start : start + rows, None] - q[None, :]
        disagree = np.sign(before) != np.sign(after)
        swapped += int(np.count_nonzero(disagree & (np.abs(before - after) > margin)))
    # Each pair was met from both its photographs.
    return swapped / (len(r) * (len(r) - 1))


def check_rank(
    reference: Sequence[float] | NDArray[np.floating],
    got: Sequence[float] | NDArray[np.floating],
    names: Sequence[str],
    *,
    mos: Sequence[float] | NDArray[np.floating] | None = None,
    versions: int = 0,
    least_srcc: float = LEAST_SRCC,
    max_srcc_drop: float = MAX_SRCC_DROP,
    swap_margin: float = SWAP_MARGIN,
    max_swapped_share: float | None = None,
    max_change: float | None = None,
    engine: str,
    precision: str,
    images_sha256: str,
    resamples: int = 1000,
    seed: int = 0,
) -> RankReport:
    """Compare the order of scores with the reference's.

    A score that is nan or infinite on either side never passes, nor do scores that are all the same.

    With opinions, the upper end of the 95 % interval of the paired drop must be within ``max_srcc_drop``: it passes
    where no larger loss is to be expected of photographs like these, not where none happened to show.

    Args:
        reference: the reference's scores ``[n]``, n at least 3.
        got: the artefact's, in the same order and unit.
        names: of the photographs, likewise.
        mos: opinions of the same photographs, higher where the scores should be, nan for one without; None where there
            are none. The drop is that on the photographs that have one.
        versions: how many of the photographs are distorted versions of others of them, for the report.
        least_srcc: smallest SRCC of the two that passes.
        max_srcc_drop: largest upper bound of the drop of SRCC to the opinions that passes; see `MAX_SRCC_DROP`.
        swap_margin: in score points, from 0; unless said one, less than what opinions are certain to on a scale of 100.
        max_swapped_share: largest share of swapped pairs that passes; None: it is told and not held.
        max_change: largest change of a score that passes, in score points; None likewise.
        engine: that gave ``got``.
        precision: that it was told.
        images_sha256: of the photographs; see `parity.hash_photos`.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap.

    Raises:
        UsageError: fewer than three photographs, sides that are not as many, or a limit out of its range.
        DataError: opinions that are infinite, all the same, or fewer than three.
        MissingExtraError: scipy is not installed.
        RecordError: ``images_sha256`` is not a SHA-256 in hexadecimal.
    """
    n = len(names)
    if not (len(reference) == len(got) == n == (n if mos is None else len(mos))) or n < _LEAST_PHOTOS:
        opinions = "" if mos is None else f", {len(mos)} opinions"
        raise UsageError(
            f"{len(reference)} reference scores, {len(got)} scores{opinions} and {n} names",
            expected=f"as many of each, and at least {_LEAST_PHOTOS}",
            mend="score the same photographs on both sides",
        )
    _require_limits(least_srcc, max_srcc_drop, swap_margin, max_swapped_share, max_change)
    r, q = np.asarray(reference, dtype=np.float64), np.asarray(got, dtype=np.float64)
    # A comparison with nan is false.
    broken = np.flatnonzero(~((np.abs(r) <= _LARGEST) & (np.abs(q) <= _LARGEST)))
    whole = not len(broken)
    change = np.abs(q - r) if whole else np.zeros(n)
    distinct = (len(np.unique(r)), len(np.unique(q))) if whole else (None, None)
    varied = whole and 1 not in distinct
    rated, of_people = _rated(mos, n)
    ordered = varied and len(of_people) > 0 and np.ptp(r[rated]) > 0 and np.ptp(q[rated]) > 0
    figures = _RankFigures(
        engine=engine,
        precision=precision,
        photos=n,
        versions=versions,
        images_sha256=images_sha256,
        not_finite=len(broken),
        worst_photo=names[int(change.argmax() if whole else broken[0])],
        distinct_reference=distinct[0],
        distinct_got=distinct[1],
        least_srcc=float(least_srcc),
        # The same ranks on both sides round to a little less than 1.
        srcc=round(srcc(r, q), 12) if varied else None,
        opinions=len(of_people),
        max_srcc_drop=None if mos is None else float(max_srcc_drop),
        srcc_drop=paired_difference(r[rated], q[rated], of_people, resamples=resamples, seed=seed, level=_LEVEL)
        if ordered
        else None,
        level=_LEVEL,
        resamples=resamples,
        seed=seed,
        swap_margin=float(swap_margin),
        swapped_share=swapped_share(r, q, swap_margin) if whole else None,
        max_swapped_share=max_swapped_share,
        mean_change=float(np.mean(q - r)) if whole else None,
        p99_change=float(np.percentile(change, 99)) if whole else None,
        largest_change=float(change.max()) if whole else None,
        max_change=max_change,
    )
    return RankReport(**msgspec.structs.asdict(figures), passed=not figures.failures)


def _rated(
    mos: Sequence[float] | NDArray[np.floating] | None, photos: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which photographs have opinions, and these."""
    given = np.full(photos, np.nan) if mos is None else np.asarray(mos, dtype=np.float64)
    rated = ~np.isnan(given)
    if mos is not None and np.count_nonzero(rated) < _LEAST_PHOTOS:
        raise DataError(
            f"{np.count_nonzero(rated)} opinions of {photos} photographs",
            expected=f"at least {_LEAST_PHOTOS}, or none at all",
            mend="give opinions of more photographs",
        )
    return rated, given[rated]


def _require_limits(least_srcc: float, *limits: float | None) -> None:
    held = [limit for limit in limits if limit is not None]
    if not -1 <= least_srcc <= 1 or not all(0 <= limit < math.inf for limit in held):
        raise UsageError(
            f"a least SRCC of {least_srcc} and other limits {held}",
            expected="a least SRCC in [-1, 1], and finite numbers from 0",
            mend="give limits such as --max-srcc-drop 0.03",
        )
