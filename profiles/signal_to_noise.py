"""Signal to noise: how far a quantized graph's features are from the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import DataError, RecordError

__all__ = ["SignalToNoise", "measure_signal_to_noise", "signal_to_noise_db"]

Features = Mapping[str, NDArray[np.floating]]


class SignalToNoise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one output, over photographs.

    Attributes:
        output: its name.
        photos: how many were compared, from 1.
        not_finite: photographs of which either side is not finite; with any, the three figures are None.
        signal: mean square of the reference's numbers, over photographs and channels.
        noise: mean square of the differences, likewise.
        db: ``10 log10(signal / noise)``; None where there is no noise at all, or no signal.

    Raises:
        RecordError: a figure does not follow from the others.
    """

    output: str
    photos: int
    not_finite: int
    signal: float | None
    noise: float | None
    db: float | None

    def __post_init__(self) -> None:
        if self.not_finite or self.signal is None or self.noise is None:
            sound = self.not_finite > 0 and self.signal is None and self.noise is None and self.db is None
        else:
            sound = 0 <= self.signal < math.inf and 0 <= self.noise < math.inf
            sound = sound and self.db == _finite_or_none(_db(self.signal, self.noise))
        if not (sound and 0 <= self.not_finite <= self.photos and self.photos >= 1):
            raise RecordError(
                f"{self.db} dB of a signal of {self.signal} and a noise of {self.noise}, {self.photos} photographs, "
                f"{self.not_finite} of them not finite",
                expected="decibels that follow from signal and noise",
                mend="compare the features again",
            )

    def reaches(self, least_db: float) -> bool:
        """Whether it is at least so much: no noise reaches anything, what is not finite nothing."""
        if self.signal is None or self.noise is None:
            return False
        return self.noise == 0 or _db(self.signal, self.noise) >= least_db


def signal_to_noise_db(reference: ArrayLike, got: ArrayLike) -> float:
    """``10 log10(sum(reference**2) / sum((reference - got)**2))``, over all numbers.

    The mean is part of the signal, as usual in quantization: 20 dB is a difference of a tenth of the features' size.

    Args:
        reference: float of any shape, finite, at least one number.
        got: of the same shape.

    Returns:
        In decibels; inf where both are the same, -inf where the reference alone is all 0.

    Raises:
        DataError: the arrays are not so.
    """
    r, q = _paired(reference, got, "features")
    if not (np.isfinite(r).all() and np.isfinite(q).all()):
        raise DataError("features that are not finite", expected="finite numbers", mend="check the graph's arithmetic")
    return _db(*_powers(r, q))


def measure_signal_to_noise(reference: Iterable[Features], got: Iterable[Features]) -> tuple[SignalToNoise, ...]:
    """The signal to noise of each output, pooled over photographs.

    Squares are summed over photographs before the ratio is taken, so that a photograph without much signal does not
    decide. One photograph is held at a time.

    Args:
        reference: of each photograph, pooled features by output name, float ``[C]``, or a score ``[]``.
        got: of the same photographs in the same order.

    Returns:
        A record an output, in the reference's order.

    Raises:
        DataError: no photographs, or sides that differ in their number, outputs or shapes.
    """
    outputs: tuple[str, ...] | None = None
    # Of each output: signal, noise, photographs that are not finite.
    sums: dict[str, list[float]] = {}
    photos = 0
    others = iter(got)
    for before in reference:
        after = next(others, None)
        outputs = outputs or tuple(before)
        if after is None or set(before) != set(outputs) or set(after) != set(outputs):
            raise DataError(
                f"outputs {sorted(before)} and {sorted(after or ())} of photograph {photos + 1}",
                expected="the same outputs of every photograph on both sides",
                mend="run both graphs on the same photographs, with the same outputs",
            )
        for output in outputs:
            r, q = _paired(before[output], after[output], f"the output {output}")
            total = sums.setdefault(output, [0.0, 0.0, 0])
            if np.isfinite(r).all() and np.isfinite(q).all():
                signal, noise = _powers(r, q)
                total[0] += signal
                total[1] += noise
            else:
                total[2] += 1
        photos += 1
    if not outputs or next(others, None) is not None:
        raise DataError(
            f"features of {photos} photographs of the reference",
            expected="as many on both sides, and at least one with an output",
            mend="run both graphs on the same photographs",
        )
    return tuple(_record(output, photos, *sums[output]) for output in outputs)


def _record(output: str, photos: int, signal: float, noise: float, not_finite: float) -> SignalToNoise:
    if not_finite:
        return SignalToNoise(output=output, photos=photos, not_finite=int(not_finite), signal=None, noise=None, db=None)
    signal, noise = signal / photos, noise / photos
    db = _finite_or_none(_db(signal, noise))
    return SignalToNoise(output=output, photos=photos, not_finite=0, signal=signal, noise=noise, db=db)


def _paired(reference: ArrayLike, got: ArrayLike, what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r, q = np.asarray(reference, dtype=np.float64), np.asarray(got, dtype=np.float64)
    if r.shape != q.shape or not r.size:
        raise DataError(
            f"{what} of shapes {list(r.shape)} and {list(q.shape)}",
            expected="the same shape on both sides, and at least one number",
            mend="compare the same output of both graphs",
        )
    return r, q


def _powers(r: NDArray[np.float64], q: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.mean(np.square(r))), float(np.mean(np.square(r - q)))


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf


def _finite_or_none(db: float) -> float | None:
    return db if math.isfinite(db) else None
