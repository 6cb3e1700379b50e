"""ScoreMap: from a network's raw output to a quality score on a stated scale.

A map is a chain of monotone steps and a clip to its output range. All arithmetic is float64. The fitting of maps is in
``edgeiqa.profiles``; a device only applies them.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import require_field

__all__ = ["Affine", "InversePiecewiseLinear", "Isotonic", "Logistic", "ScoreMap", "Sigmoid", "Step"]


_LARGEST = 1e100


_require = partial(require_field, mend="correct the score map's parameter, or fit it again")


def _finite(name: str, *numbers: float) -> None:
    # The bound keeps every step of a finite number finite or of one sign: inf * 0 and inf - inf would be NaN.
    bounded = all(math.isfinite(number) and abs(number) <= _LARGEST for number in numbers)
    _require(bounded, f"{name} with {numbers}", f"finite numbers of at most {_LARGEST:g} in size")


def _same_number(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    same = len(one) == len(other) and 2 <= len(one) <= 4096
    _require(same, f"{len(one)} and {len(other)} breakpoints", "the same number, 2 to 4096")


def _rising(numbers: tuple[float, ...]) -> None:
    _require(all(a < b for a, b in pairwise(numbers)), f"breakpoints {numbers}", "rising strictly")


def _expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Of the two equal forms, each is used where its exponential cannot overflow.
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


class Affine(msgspec.Struct, frozen=True, tag="affine", kw_only=True, forbid_unknown_fields=True):
    """``scale * x + offset``, with ``scale > 0``."""

    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        _finite("affine", self.scale, self.offset)
        _require(self.scale > 0, f"a scale of {self.scale}", "a scale above 0")

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 of any shape -> the same shape."""
        return self.scale * x + self.offset


class Sigmoid(msgspec.Struct, frozen=True, tag="sigmoid", kw_only=True, forbid_unknown_fields=True):
    """``low + (high - low) / (1 + exp(-slope (x - centre)))``, with ``slope > 0`` and ``low < high``.

    The calibration that maps each member of an ensemble to the scale of the opinions before they are averaged.
    """

    slope: float
    centre: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _finite("sigmoid", self.slope, self.centre, self.low, self.high)
        _require(self.slope > 0, f"a slope of {self.slope}", "a slope above 0")
        _require(self.low < self.high, f"a range of [{self.low}, {self.high}]", "low below high")

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 of any shape -> the same shape."""
        return self.low + (self.high - self.low) * _expit(self.slope * (x - self.centre))


class Logistic(msgspec.Struct, frozen=True, tag="logistic", kw_only=True, forbid_unknown_fields=True):
    """The four-parameter logistic ``b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))``, with ``b1 > b2``, ``b4 != 0``.

    Source: Video Quality Experts Group, final report of the FR-TV phase I test (2000), and the usual fit before PLCC
    and RMSE are read.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __post_init__(self) -> None:
        _finite("logistic", self.b1, self.b2, self.b3, self.b4)
        _require(self.b1 > self.b2, f"asymptotes b1={self.b1}, b2={self.b2}", "b1 above b2")
        _require(self.b4 != 0, "b4 = 0", "b4 other than 0")

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 of any shape -> the same shape."""
        return self.b2 + (self.b1 - self.b2) * _expit((x - self.b3) / abs(self.b4))


class InversePiecewiseLinear(
    msgspec.Struct, frozen=True, tag="inverse_piecewise_linear", kw_only=True, forbid_unknown_fields=True
):
    """The exact inverse of a piecewise-linear transform of the MOS that a network was trained on.

    Attributes:
        mos: breakpoints of the forward transform, rising strictly, at least two.
        transformed: what each breakpoint was mapped to, rising strictly. The inverse is linear between them and held
            constant outside.
    """

    mos: tuple[float, ...]
    transformed: tuple[float, ...]

    def __post_init__(self) -> None:
        _finite("piecewise-linear transform", *self.mos, *self.transformed)
        _same_number(self.mos, self.transformed)
        _rising(self.mos)
        _rising(self.transformed)

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transformed MOS, float64 of any shape -> MOS, the same shape."""
        return np.interp(x, self.transformed, self.mos)

    def forward(self, mos: ArrayLike) -> NDArray[np.float64]:
        """MOS, of any shape -> transformed MOS, float64 of the same shape; for making training targets."""
        return np.interp(np.asarray(mos, dtype=np.float64), self.mos, self.transformed)


class Isotonic(msgspec.Struct, frozen=True, tag="isotonic", kw_only=True, forbid_unknown_fields=True):
    """A curve of any shape that never falls: it inverts no ranking, but gives what lies on a flat piece the same score.

    A bundle with such a step names ``isotonic`` in its ``requires``.

    Attributes:
        raw: breakpoints, rising strictly, at least two.
        score: of each breakpoint, never falling. The curve is linear between them and held constant outside.
    """

    raw: tuple[float, ...]
    score: tuple[float, ...]

    def __post_init__(self) -> None:
        _finite("isotonic map", *self.raw, *self.score)
        _same_number(self.raw, self.score)
        _rising(self.raw)
        _require(all(a <= b for a, b in pairwise(self.score)), f"scores {self.score}", "never falling")

    def apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Float64 of any shape -> the same shape."""
        # Rounding may lift the end of a rising piece above the breakpoint that follows.
        following = np.minimum(np.searchsorted(self.raw, x), len(self.raw) - 1)
        scores: NDArray[np.float64] = np.minimum(np.interp(x, self.raw, self.score), np.take(self.score, following))
        return scores


Step = Affine | Sigmoid | Logistic | InversePiecewiseLinear | Isotonic


class ScoreMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain of monotone steps and a clip.

    Attributes:
        steps: applied in order; none is the identity.
        low: the least score it gives.
        high: the greatest.
        fitted_on: which scores the parameters were fitted on, for a person; empty where nothing was fitted.
    """

    steps: tuple[Step, ...] = ()
    low: float = 0.0
    high: float = 100.0
    fitted_on: str = ""

    def __post_init__(self) -> None:
        _finite("output range", self.low, self.high)
        _require(self.low < self.high, f"an output range of [{self.low}, {self.high}]", "low below high")
        _require(len(self.steps) <= 16, f"{len(self.steps)} steps", "at most 16")

    def apply(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Raw outputs, of any shape -> scores in [low, high], float64 of the same shape. NaN stays NaN."""
        x = np.asarray(raw, dtype=np.float64)
        # What overflows saturates, and is clipped.
        with np.errstate(over="ignore"):
            for step in self.steps:
                x = step.apply(x)
        return np.clip(x, self.low, self.high)

    def then(self, *steps: Step, low: float, high: float, fitted_on: str = "") -> ScoreMap:
        """This map with further steps behind it and another output range."""
        return ScoreMap(steps=self.steps + steps, low=low, high=high, fitted_on=fitted_on or self.fitted_on)
