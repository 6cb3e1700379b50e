"""The rank gate: whether a quantized bundle puts photographs in the order of the one it was made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..profiles.parity import hash_photos
from ..profiles.rank import LEAST_SRCC, MAX_SRCC_DROP, SWAP_MARGIN, RankReport, check_rank
from ..profiles.refit_score_map import MapRefit, refit_to
from ..runtime.errors import DataError, EngineError, GateError, PhotoError, UsageError
from ..runtime.manifest import GateRecord
from ..runtime.scorer import Scorer
from .pack import Photograph

__all__ = [
    "LEAST_GATE_PHOTOS",
    "gate_rank",
    "photograph_bytes",
    "rank_record",
    "rank_refusal",
    "refit_maps",
    "run_refusal",
]

LEAST_GATE_PHOTOS = 30
"""With fewer, an SRCC of .99 is passed or missed by a pair or two."""

Views = Mapping[str, NDArray[np.uint8]]


def gate_rank(
    reference: Scorer,
    judged: Scorer,
    photos: Sequence[Photograph | Path],
    *,
    mos: Sequence[float] | NDArray[np.floating] | None = None,
    versions: int = 0,
    least_srcc: float = LEAST_SRCC,
    max_srcc_drop: float = MAX_SRCC_DROP,
    swap_margin: float | None = None,
    max_swapped_share: float | None = None,
    max_change: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    on_photo: Callable[[int, int], None] | None = None,
) -> RankReport:
    """The rank gate: photographs through the runtime's own path, file in and score out, on both sides.

    Combined scores are compared, by each side's own score maps. One photograph is held at a time.

    Args:
        reference: the bundle in FP32, say.
        judged: the one to judge, or the same bundle in another engine and precision.
        photos: that no stage trained on, at least `LEAST_GATE_PHOTOS`.
        mos: opinions of the same photographs, higher where scores should be, nan for one without; None where there are
            none.
        versions: how many of the photographs are distorted versions of others of them, for the report.
        least_srcc: as of `check_rank`, like what follows.
        max_srcc_drop: likewise.
        swap_margin: in points of the bundle's scale; None: a hundredth of it.
        max_swapped_share: likewise.
        max_change: likewise.
        resamples: likewise.
        seed: likewise.
        on_photo: called with how many are done, and of how many.

    Returns:
        The report, passed or not; `rank_refusal` makes an error of one that has not.

    Raises:
        DataError: too few photographs, or opinions that are not as `check_rank` wants them.
        UsageError: bundles of different scales, or a limit out of its range.
        PhotoError: a photograph cannot be read; it is named.
        GateError: the judged graph fails to run, or gives what is not finite; the photograph is named.
        EngineError: the reference's does.
    """
    scale, other = reference.bundle.manifest.scale, judged.bundle.manifest.scale
    if scale != other:
        raise UsageError(
            f"scores on a scale of [{scale.low:g}, {scale.high:g}] and of [{other.low:g}, {other.high:g}]",
            expected="two bundles of the same scale, direction and comparability",
            mend="judge a bundle against the one it was made from",
        )
    if len(photos) < LEAST_GATE_PHOTOS:
        raise DataError(
            f"{len(photos)} photographs for the rank gate",
            expected=f"at least {LEAST_GATE_PHOTOS}, better 100 or more, that no stage was trained on",
            mend="give more with --images (opinions are not needed)",
        )
    names = [photo.name for photo in photos]
    scores: tuple[list[float], list[float]] = ([], [])
    for done, photo in enumerate(photos, start=1):
        data = photograph_bytes(photo)
        scores[0].append(_score(reference, photo.name, data))
        try:
            scores[1].append(_score(judged, photo.name, data))
        except EngineError as error:
            raise run_refusal(f"{judged.engine} {judged.precision} on {photo.name}", error) from error
        if on_photo is not None:
            on_photo(done, len(photos))
    return check_rank(
        *scores,
        names,
        mos=mos,
        versions=versions,
        least_srcc=least_srcc,
        max_srcc_drop=max_srcc_drop,
        swap_margin=SWAP_MARGIN * (scale.high - scale.low) / 100 if swap_margin is None else swap_margin,
        max_swapped_share=max_swapped_share,
        max_change=max_change,
        engine=judged.engine,
        precision=judged.precision,
        images_sha256=hash_photos(photograph_bytes(photo) for photo in photos),
        resamples=resamples,
        seed=seed,
    )


def run_refusal(what: str, error: EngineError) -> GateError:
    """The error of a graph that fails to run, or gives what is not finite; ``what`` names it and the photograph."""
    return GateError(
        f"{what}: {error.got}",
        expected=error.expected,
        mend="keep what overflows in float, or choose another precision; nothing was written",
    )


def rank_record(report: RankReport) -> GateRecord:
    """The report as a bundle holds it."""
    return GateRecord(kind="rank", passed=report.passed, report=msgspec.to_builtins(report))


def rank_refusal(what: str, report: RankReport) -> GateError:
    """The error of a report that has not passed; ``what`` names the artefact."""
    return GateError(
        f"{what}: {'; '.join(report.failures)}",
        expected="the order of the reference's scores",
        mend="calibrate with other images, choose another recipe or precision, or keep blocks float (edgeiqa quantize "
        "--sensitivity); nothing was written",
    )


def refit_maps(
    reference: Scorer,
    judged: Scorer,
    images: Mapping[str, Collection[Views]],
    *,
    on_photo: Callable[[int, int], None] | None = None,
) -> dict[str, MapRefit]:
    """Fit every member's score map again, so that its scores agree with the reference's on calibration images.

    What is corrected is the reference's map: the one that the judged side has does not matter, so that this may be done
    again.

    Args:
        reference: whose mapped scores are wanted.
        judged: whose raw scores are mapped; with the same members.
        images: by member name its views of at least three photographs.
        on_photo: called with how many images are done, and of how many, over all members.

    Returns:
        By member name; ``score_map`` is the one for the judged artefact.

    Raises:
        UsageError: members, or images for them, are not the same.
        GateError: a member's raw scores on the judged side are constant, fall with the reference's, or are not finite.
        PhotoError: an image cannot be read.
        EngineError: the reference's graph fails.
        MissingExtraError: scipy is not installed.
    """
    members = [member.name for member in reference.bundle.manifest.members]
    others = [member.name for member in judged.bundle.manifest.members]
    if members != others or set(members) != set(images):
        raise UsageError(
            f"members {members} and {others}, and images for {sorted(images)}",
            expected="the same members on both sides, and images for each",
            mend="fit the maps of a bundle against the one it was made from",
        )
    total, done = sum(map(len, images.values())), 0
    refits: dict[str, MapRefit] = {}
    for member in members:
        wanted: list[float] = []
        raw: list[float] = []
        for views in images[member]:
            wanted.append(reference.run_views(member, views))
            try:
                raw.append(judged.run_views(member, views))
            except EngineError as error:
                raise _no_map(judged, member, error.got, error.expected) from error
            done += 1
            if on_photo is not None:
                on_photo(done, total)
        score_map = reference.artefacts[member].score_map
        try:
            refits[member] = refit_to(score_map, raw, score_map.apply(wanted))
        except DataError as error:
            raise _no_map(judged, member, error.got, error.expected) from error
    return refits


def _no_map(judged: Scorer, member: str, got: str, expected: str) -> GateError:
    return GateError(
        f"{judged.engine} {judged.precision}, member {member}: {got}",
        expected=expected,
        mend="choose another recipe or precision; nothing was written",
    )


def photograph_bytes(photo: Photograph | Path) -> bytes:
    """A photograph's file.

    Raises:
        PhotoError: it cannot be read; it is named.
    """
    if isinstance(photo, Photograph):
        return photo.data
    try:
        return photo.read_bytes()
    except OSError as error:
        raise PhotoError(
            f"{photo.name} cannot be read ({error.strerror or error})",
            expected="a photograph",
            mend="restore the file, or leave it out",
        ) from error


def _score(scorer: Scorer, name: str, data: bytes) -> float:
    try:
        return scorer.combine(scorer.raw(data))[0]
    except PhotoError as error:
        raise PhotoError(f"{name}: {error.got}", expected=error.expected, mend=error.mend) from error
