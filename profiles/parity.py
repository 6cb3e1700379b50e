"""Parity: whether an exported artefact gives the scores that the reference gives, on real photographs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import RecordError, UsageError

__all__ = ["ParityReport", "ParityUnit", "check_parity", "hash_photos"]

ParityUnit = Literal["score points", "raw"]


class ParityReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the parity gate saw.

    Attributes:
        engine: that gave the scores that were checked.
        precision: that it was told.
        photos: how many photographs were compared, from 1.
        images_sha256: of the photographs; see `hash_photos`.
        unit: of the differences: ``score points`` of the outer scale, or ``raw`` outputs of the graph.
        tolerance: largest absolute difference that passes, in that unit.
        max_abs_difference: largest absolute difference; None when one of them is not a finite number.
        mean_abs_difference: their mean; None likewise.
        worst_photo: the photograph of the largest difference, or the first whose difference is not finite.
        not_finite: photographs whose difference is not finite, since either side gave nan or an infinity.
        passed: all differences are finite and within the tolerance.

    Raises:
        RecordError: ``passed`` does not follow from the figures, or a figure is out of its range.
    """

    engine: str
    precision: str
    photos: int
    images_sha256: str
    unit: ParityUnit
    tolerance: float
    max_abs_difference: float | None
    mean_abs_difference: float | None
    worst_photo: str
    not_finite: int
    passed: bool

    def __post_init__(self) -> None:
        largest, mean = self.max_abs_difference, self.mean_abs_difference
        if self.not_finite or largest is None or mean is None:
            sound = self.not_finite > 0 and largest is None and mean is None and not self.passed
        else:
            # A mean may round to a little more than the largest.
            sound = 0 <= mean <= largest * (1 + 1e-9) < math.inf and self.passed == (largest <= self.tolerance)
        hexadecimal = len(self.images_sha256) == 64 and set(self.images_sha256) <= set("0123456789abcdef")
        counts = 0 <= self.not_finite <= self.photos and self.photos >= 1
        if not (sound and hexadecimal and counts and 0 <= self.tolerance < math.inf):
            raise RecordError(
                f"a parity report of {self.photos} photographs, differences of at most {largest}, {self.not_finite} "
                f"of them not finite, a tolerance of {self.tolerance} and passed = {self.passed}",
                expected="a verdict that follows from its figures, on at least one photograph, with their SHA-256",
                mend="run the parity gate again",
            )


def check_parity(
    reference: Sequence[float] | NDArray[np.floating],
    got: Sequence[float] | NDArray[np.floating],
    names: Sequence[str],
    tolerance: float,
    *,
    engine: str,
    precision: str,
    images_sha256: str,
    unit: ParityUnit = "score points",
) -> ParityReport:
    """Compare scores with the reference's, photograph by photograph.

    A score that is nan or infinite on either side never passes, also where both sides agree on it.

    Args:
        reference: the reference's scores ``[n]``.
        got: the artefact's, in the same order and unit.
        names: of the photographs, likewise.
        tolerance: largest absolute difference that passes, from 0.
        engine: that gave ``got``.
        precision: that it was told.
        images_sha256: of the photographs; see `hash_photos`.
        unit: of both sides and of the tolerance.

    Raises:
        UsageError: no photographs, sides that are not as many, or a tolerance that is negative or not finite.
        RecordError: ``images_sha256`` is not a SHA-256 in hexadecimal.
    """
    if not (len(reference) == len(got) == len(names)) or len(names) == 0:
        raise UsageError(
            f"{len(reference)} reference scores, {len(got)} scores and {len(names)} names",
            expected="as many of each, and at least one",
            mend="score the same photographs on both sides",
        )
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(
            f"a tolerance of {tolerance}", expected="a finite number from 0", mend="give a tolerance such as 0.05"
        )
    differences = [abs(float(b) - float(a)) for a, b in zip(reference, got, strict=True)]
    broken = [index for index, difference in enumerate(differences) if not math.isfinite(difference)]
    worst = broken[0] if broken else max(range(len(differences)), key=differences.__getitem__)
    largest = None if broken else differences[worst]
    return ParityReport(
        engine=engine,
        precision=precision,
        photos=len(names),
        images_sha256=images_sha256,
        unit=unit,
        tolerance=float(tolerance),
        max_abs_difference=largest,
        mean_abs_difference=None if broken else math.fsum(differences) / len(differences),
        worst_photo=names[worst],
        not_finite=len(broken),
        passed=largest is not None and largest <= tolerance,
    )


def hash_photos(photos: Iterable[bytes]) -> str:
    """Hash photographs: SHA-256 over the SHA-256 digests of their files' bytes, in their order.

    Args:
        photos: each file's bytes, taken one at a time.

    Returns:
        64 hexadecimal digits.
    """
    whole = hashlib.sha256()
    for photo in photos:
        whole.update(hashlib.sha256(photo).digest())
    return whole.hexdigest()
