"""Calibration images: the photographs whose views set the ranges of an INT8 graph's activations.

They are chosen once, and are the same for every target. (A score map is fitted, not calibrated; see
``profiles.refit_score_map``.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError, PhotoError, UsageError, require_field

__all__ = [
    "CALIBRATION_COUNT",
    "LEAST_CALIBRATION",
    "CalibrationCandidate",
    "CalibrationImages",
    "CalibrationRecord",
    "CalibrationStratum",
    "check_calibration_images",
    "choose_calibration",
    "record_calibration",
]

CALIBRATION_COUNT = 100
"""Photographs that are chosen unless another number is named."""
LEAST_CALIBRATION = 16
"""With fewer, a range is that of a few photographs, and what lies beyond it is cut off in all others."""

Views = Mapping[str, NDArray[np.uint8]]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationCandidate:
    """A photograph, as it is or distorted, that may be chosen.

    Attributes:
        key: of what is looked at: the hash of the photograph's file and, where something was done to it, a blank and
            what; the same for the same bytes, wherever they lie.
        score: of it, in any unit, finite: the reference's, or people's.
        distortion: kind of its distortion; empty for none.
    """

    key: str
    score: float
    distortion: str = ""

    @property
    def photograph(self) -> str:
        """The part of the key that all versions of a photograph share."""
        return self.key.partition(" ")[0]


class CalibrationStratum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The chosen ones of one kind of distortion.

    Attributes:
        distortion: the kind; empty for none.
        candidates: how many different ones there were, from 1.
        count: how many were chosen: one from each of so many quantile bins of the score.
        lowest_score: of those chosen; None where none was.
        highest_score: likewise.
    """

    distortion: str
    candidates: int
    count: int
    lowest_score: float | None
    highest_score: float | None


class CalibrationRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was chosen, for the bundle.

    Attributes:
        wanted: how many were asked for.
        count: how many were chosen; fewer where there were no more.
        photographs: how many different photographs these show: a photograph and its distorted versions are one.
        versions: how many of them are distorted.
        seed: of the choice.
        keys_sha256: SHA-256 over the chosen keys in their order, each in UTF-8 with a newline behind it.
        strata: one for each kind of distortion, by name.
        source: where the photographs come from, for a person.

    Raises:
        RecordError: the counts do not add up, or the hash is none.
    """

    wanted: int
    count: int
    photographs: int
    versions: int
    seed: int
    keys_sha256: str
    strata: tuple[CalibrationStratum, ...]
    source: str

    def __post_init__(self) -> None:
        added = sum(stratum.count for stratum in self.strata)
        require_field(self.count == added, f"{self.count} images, {added} in strata", "as many in all strata")
        distorted = sum(stratum.count for stratum in self.strata if stratum.distortion)
        require_field(self.versions == distorted, f"{self.versions} versions, {distorted} in strata", "as many")
        shown = 1 <= self.photographs <= self.count
        require_field(shown, f"{self.photographs} photographs of {self.count} images", "1 to as many as images")
        fits = LEAST_CALIBRATION <= self.count <= self.wanted
        require_field(fits, f"{self.count} of {self.wanted} images", f"{LEAST_CALIBRATION} to as many as were wanted")
        hexadecimal = len(self.keys_sha256) == 64 and set(self.keys_sha256) <= set("0123456789abcdef")
        require_field(hexadecimal, f"keys_sha256 {self.keys_sha256!r}", "64 lower-case hexadecimal digits")


def choose_calibration(
    candidates: Sequence[CalibrationCandidate], count: int = CALIBRATION_COUNT, seed: int = 0
) -> tuple[int, ...]:
    """Choose calibration images, stratified by distortion and score.

    Each kind of distortion gets its share of ``count`` by its share of the candidates, and at least one where ``count``
    allows. Inside a kind, candidates are sorted by score and cut into as many quantile bins as it gets, and one is
    drawn from each, so that both ends of the scale are there. What has the same key is one candidate, the first. The
    order of different candidates does not matter.

    Args:
        candidates: at least `LEAST_CALIBRATION` different ones.
        count: how many are wanted, at least `LEAST_CALIBRATION`; where there are fewer candidates, all are chosen.
        seed: of the draw, at least 0.

    Returns:
        Places of the chosen ones in ``candidates``, without repeats, mixed, so that the first few are of all kinds, too
        (a quantizer may look at a part only).

    Raises:
        UsageError: ``count`` or ``seed`` is too small.
        DataError: there are too few different candidates, or a score is not finite.
    """
    if count < LEAST_CALIBRATION or seed < 0:
        raise UsageError(
            f"{count} calibration images by the seed {seed}",
            expected=f"at least {LEAST_CALIBRATION}, and a seed of at least 0",
            mend=f"ask for {CALIBRATION_COUNT}",
        )
    kinds = _by_kind(candidates)
    different = sum(map(len, kinds.values()))
    if different < LEAST_CALIBRATION:
        raise DataError(
            f"{different} different calibration images among {len(candidates)} candidates",
            expected=f"at least {LEAST_CALIBRATION}, better {CALIBRATION_COUNT}",
            mend="give --calibration with more photographs",
        )
    shares = _shares([len(places) for places in kinds.values()], min(count, different))
    stream = np.random.default_rng([seed])
    chosen = [
        places[int(stream.integers(len(places) * bin_ // share, len(places) * (bin_ + 1) // share))]
        for places, share in zip(kinds.values(), shares, strict=True)
        for bin_ in range(share)
    ]
    return tuple(chosen[place] for place in stream.permutation(len(chosen)))


def _by_kind(candidates: Sequence[CalibrationCandidate]) -> dict[str, list[int]]:
    """Places of the different candidates of each kind, kinds by name, places by score."""
    first: dict[str, int] = {}
    for place, candidate in enumerate(candidates):
        if not math.isfinite(candidate.score):
            raise DataError(
                f"a score of {candidate.score} of the calibration candidate {candidate.key}",
                expected="finite scores",
                mend="leave out photographs without a score",
            )
        first.setdefault(candidate.key, place)
    kinds: dict[str, list[int]] = {}
    for place in sorted(
        first.values(), key=lambda place: (candidates[place].distortion, candidates[place].score, candidates[place].key)
    ):
        kinds.setdefault(candidates[place].distortion, []).append(place)
    return kinds


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """``count`` shared out by size: by largest remainders, none above its size, each at least one where possible."""
    total = sum(sizes)
    shares = [min(size, max(1, count * size // total)) for size in sizes]
    while sum(shares) > count:
        # More kinds than are wanted, or small ones that were raised to one: the largest gives.
        shares[max(range(len(sizes)), key=lambda kind: (shares[kind], kind))] -= 1
    while sum(shares) < count:
        open_kinds = [kind for kind, size in enumerate(sizes) if shares[kind] < size]
        shares[max(open_kinds, key=lambda kind: (count * sizes[kind] / total - shares[kind], -kind))] += 1
    return shares


def record_calibration(
    candidates: Sequence[CalibrationCandidate],
    chosen: Sequence[int],
    *,
    wanted: int = CALIBRATION_COUNT,
    seed: int,
    source: str,
) -> CalibrationRecord:
    """The record of a choice.

    Args:
        candidates: that were chosen from.
        chosen: what `choose_calibration` gave.
        wanted: the ``count`` that it was given.
        seed: that it was given.
        source: where the photographs come from, for a person.

    Raises:
        RecordError: fewer than `LEAST_CALIBRATION` were chosen, or more than wanted.
        DataError: a score is not finite.
    """
    digest = hashlib.sha256("".join(f"{candidates[place].key}\n" for place in chosen).encode()).hexdigest()
    strata = []
    for distortion, places in _by_kind(candidates).items():
        scores = [candidates[place].score for place in chosen if candidates[place].distortion == distortion]
        strata.append(
            CalibrationStratum(
                distortion=distortion,
                candidates=len(places),
                count=len(scores),
                lowest_score=min(scores, default=None),
                highest_score=max(scores, default=None),
            )
        )
    return CalibrationRecord(
        wanted=wanted,
        count=len(chosen),
        photographs=len({candidates[place].photograph for place in chosen}),
        versions=sum(bool(candidates[place].distortion) for place in chosen),
        seed=seed,
        keys_sha256=digest,
        strata=tuple(strata),
        source=source,
    )


class CalibrationImages(Collection[Views], Generic[Item]):
    """The views of chosen items, cut when they are asked for: memory does not grow with their number.

    It may be gone through again and again, each time in the same order.

    Attributes:
        items: that were chosen.
    """

    def __init__(self, items: Sequence[Item], cut: Callable[[Item], Views], name: Callable[[Item], str] = str) -> None:
        """Nothing is cut yet; `check_calibration_images` does.

        Args:
            items: in their order.
            cut: an item's views by name, uint8 ``[H, W, 3]`` or ``[T, H, W, 3]``.
            name: of an item, for errors.
        """
        self.items = tuple(items)
        self._cut = cut
        self._name = name

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Views]:
        """Cut one after the other.

        Raises:
            PhotoError: one cannot be read; it is named.
        """
        for item in self.items:
            try:
                views = self._cut(item)
            except PhotoError as error:
                name = self._name(item)
                got = error.got if name in error.got else f"{name}: {error.got}"
                raise PhotoError(f"calibration image {got}", expected=error.expected, mend=error.mend) from error
            yield views

    def __contains__(self, views: object) -> bool:
        """Whether an item has just these views; cuts until it is found."""
        if not isinstance(views, Mapping):
            return False
        return any(
            set(views) == set(mine) and all(np.array_equal(mine[name], views[name]) for name in mine) for mine in self
        )


def check_calibration_images(images: Collection[Views]) -> int:
    """Go through calibration images once, before a quantizer does.

    Returns:
        How many differ in a pixel from all before them.

    Raises:
        DataError: fewer than `LEAST_CALIBRATION`, or fewer that differ.
        PhotoError: one cannot be read.
    """
    seen: set[bytes] = set()
    count = 0
    for views in images:
        count += 1
        digest = hashlib.sha256()
        for name in sorted(views):
            digest.update(f"{name} {views[name].shape}".encode())
            digest.update(views[name].tobytes())
        seen.add(digest.digest())
    if len(seen) < LEAST_CALIBRATION:
        what = f"{count} calibration images"
        if len(seen) < count:
            what += " that are all the same" if len(seen) == 1 else f", only {len(seen)} of them different"
        raise DataError(
            what,
            expected=f"at least {LEAST_CALIBRATION} different ones, better {CALIBRATION_COUNT}",
            mend="give --calibration with more photographs, of different quality",
        )
    return len(seen)
