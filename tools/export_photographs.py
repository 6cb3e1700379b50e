"""The photographs that quantization needs: some from the training side, some that no stage learned from."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import DataError, UsageError
from .run_photographs import NAME_BOTH, RunPhotographs, photographs_of_runs, sample_source
from .show import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..compress.data.items import Item, Photograph
    from ..export.pack import Photograph as NamedPhotograph

__all__ = ["ExportPhotographs", "find_export_photographs", "name_item", "whole_photograph"]

_LEAST_JUDGED = 48
"""Of fewer photographs the gate also judges distorted versions: so few hardly tell one ranking from another."""
_MOST_VERSIONS = 32
_SAMPLE_SHARE, _SAMPLE_SEED = 0.15, 0
"""What is judged of the samples: just what `distill` and `quickstart` hold out of them unless told otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPhotographs:
    """What quantization learns its ranges from, and what its gate judges by; no photograph is in both.

    Attributes:
        training: items for calibration to choose from: photographs as they are, and seeded distortions of them.
        judged: items that the gate judges.
        mos: their opinions, float64 ``[judged]``, nan for those without; None where too few have one.
        source: where they come from and how many are judged, for people.
    """

    training: tuple[Item, ...]
    judged: tuple[Item, ...]
    mos: NDArray[np.float64] | None
    source: str

    @property
    def versions(self) -> int:
        """How many of those judged are distorted versions of others."""
        return sum(item.distortion is not None for item in self.judged)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """Photographs of one side.

    Attributes:
        photographs: no content twice.
        source: where they come from, for people.
        samples: whether they are the sample photographs, of which few will do.
        opinions: by SHA-256, where there are some.
    """

    photographs: Sequence[Photograph]
    source: str
    samples: bool = False
    opinions: Mapping[str, float] = field(default_factory=dict)

    def without(self, apart: Collection[str], why: str) -> _Side:
        """Those whose SHA-256 is not among ``apart``; it is said how many are left out."""
        left = [photo for photo in self.photographs if photo.sha256 not in apart]
        if out := len(self.photographs) - len(left):
            say(f"{out} photographs {why}")
        return replace(self, photographs=left)


def find_export_photographs(
    checkpoints: Sequence[Path],
    *,
    calibration: Path | None,
    images: Path | None,
    data: Path | None,
    split: str | None,
    most: int,
    seed: int,
    gated: bool = True,
    hold_drop: bool = False,
    threads: int | None = None,
) -> ExportPhotographs:
    """The photographs that a call names, else those of the runs that its checkpoints come from, else samples.

    What those runs learned from is never judged, whoever names it. There must be `LEAST_CALIBRATION` different
    photographs on one side and `LEAST_GATE_PHOTOS` on the other, unless they are the sample photographs: a copy is no
    other photograph, and a distorted version neither.

    Args:
        checkpoints: their folders, or those of their runs.
        calibration: folder of photographs of the training side.
        images: folder of photographs for the gate.
        data: CSV with opinions on those of ``images``.
        split: only those rows.
        most: photographs to choose calibration images from, at most.
        seed: of the draw and of the distortions.
        gated: whether a gate judges; for anything else one photograph is enough.
        hold_drop: whether a limit of the SRCC lost to opinions was asked for, so that there must be opinions.
        threads: that read files.

    Raises:
        DataError: a folder or a table is not as stated, or a side has too few photographs, or too few with opinions.
        UsageError: ``data`` without ``images``, ``split`` without ``data``, or one side is named and no run knows what
            the other is.
        MissingExtraError: the sample photographs are not installed.
    """
    if (data is not None and images is None) or (split is not None and data is None):
        raise UsageError("--data without --images, or --split without --data", expected="both", mend="give both")
    complete = calibration is not None and images is not None
    known = photographs_of_runs(checkpoints, threads, needed=not complete)
    if known is None and calibration is None and images is None:
        known = _samples(threads)
    if known is None and not complete:
        raise UsageError(
            f"--{'images' if calibration is None else 'calibration'} alone, and no run that knows other photographs",
            expected="both sides, or none to see what comes of the sample photographs",
            mend=NAME_BOTH,
        )
    training = _calibration_side(calibration, known, threads)
    judged = _gate_side(images, data, split, known, threads)
    if known is not None:
        judged = judged.without(known.learned, "that were learned from are not judged")
    apart = {photo.sha256 for photo in judged.photographs}
    training = training.without(apart, "that the gate judges are no calibration images")
    if training.samples or judged.samples:
        say("photographs: the sample photographs of scikit-learn and scikit-image, as none were named: what they")
        say("calibrate and judge says little of yours; name your own with --calibration FOLDER --images FOLDER")
    _require_enough(training, judged, gated=gated)
    return _as_items(training, judged, most, seed, gated=gated, hold_drop=hold_drop)


def _samples(threads: int | None) -> RunPhotographs:
    from ..compress.distill_plan import hold_out

    photographs = sample_source().photographs(threads)
    training, judged = hold_out(photographs, fraction=_SAMPLE_SHARE, seed=_SAMPLE_SEED)
    return RunPhotographs(
        training=tuple(training),
        judged=tuple(judged),
        learned={photo.sha256 for photo in training},
        opinions={},
        samples=True,
        name="the sample photographs",
    )


def _calibration_side(calibration: Path | None, known: RunPhotographs | None, threads: int | None) -> _Side:
    if calibration is not None:
        return _Side(photographs=_once(_folder(calibration, threads)), source=calibration.name)
    assert known is not None
    return _Side(photographs=known.training, source=f"the training side of {known.name}", samples=known.samples)


def _gate_side(
    images: Path | None, data: Path | None, split: str | None, known: RunPhotographs | None, threads: int | None
) -> _Side:
    if images is None:
        assert known is not None
        source = f"the selection part of {known.name}"
        return _Side(photographs=known.judged, source=source, samples=known.samples, opinions=known.opinions)
    if data is None:
        return _Side(photographs=_once(_folder(images, threads)), source=images.name)
    from ..compress.data.dataset import read_csv, select

    whole = read_csv(data, images)
    dataset = whole if split is None else select(whole, split=split)
    rows = _readable([photo.path for photo in dataset.photos], f"remove their rows from {data.name}", threads)
    said: dict[str, list[float]] = {}
    for photo, mos in zip(rows, dataset.mos, strict=True):
        said.setdefault(photo.sha256, []).append(float(mos))
    opinions = {sha: sum(scores) / len(scores) for sha, scores in said.items()}
    return _Side(photographs=_once(rows), source=data.name, opinions=opinions)


def _folder(folder: Path, threads: int | None) -> Sequence[Photograph]:
    from ..compress.data.items import list_photographs

    return _readable(list_photographs(folder), f"remove them from {folder.name}", threads)


def _readable(paths: Sequence[Path], mend: str, threads: int | None) -> Sequence[Photograph]:
    from ..compress.data.items import read_photographs

    readable, unreadable = read_photographs(paths, threads=threads)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} photographs that cannot be read, such as {unreadable[0][1]}",
            expected="photographs",
            mend=mend,
        )
    return readable


def _once(photographs: Sequence[Photograph]) -> Sequence[Photograph]:
    """Each content once; it is said how many files are copies."""
    different = {photo.sha256: photo for photo in photographs}
    if copies := len(photographs) - len(different):
        say(f"{copies} of {len(photographs)} files are copies of others, and count once")
    return tuple(different.values())


def _require_enough(training: _Side, judged: _Side, *, gated: bool) -> None:
    from ..export.calibration import CALIBRATION_COUNT, LEAST_CALIBRATION
    from ..export.rank_gate import LEAST_GATE_PHOTOS

    what = "different photographs (copies and distorted versions do not count)"
    least = 1 if training.samples else LEAST_CALIBRATION
    if len(training.photographs) < least:
        raise DataError(
            f"{len(training.photographs)} photographs to calibrate on: {training.source}",
            expected=f"at least {least} {what}, better {CALIBRATION_COUNT}, that the gate does not judge",
            mend="--calibration FOLDER with more of the training side",
        )
    least = 1 if judged.samples or not gated else LEAST_GATE_PHOTOS
    if len(judged.photographs) < least:
        raise DataError(
            f"{len(judged.photographs)} photographs for the gate to judge: {judged.source}",
            expected=f"at least {least} {what}, better 100, that nothing was trained on",
            mend="--images FOLDER of more that nothing was trained on; opinions are not needed",
        )


def _as_items(
    training: _Side, judged: _Side, most: int, seed: int, *, gated: bool, hold_drop: bool
) -> ExportPhotographs:
    from ..compress.data.transfer import transfer_items
    from ..runtime.splitmix import permutation

    order = permutation(seed, len(training.photographs))
    drawn = [training.photographs[place] for place in order[:most]]
    mos = _opinions(judged, hold_drop=hold_drop) if gated else None
    # Opinions are of photographs as they are; without any, versions of a few photographs give an order to keep.
    count = len(judged.photographs)
    versions = 0 if mos is not None else max(0, math.ceil(_LEAST_JUDGED / count) - 1)
    shown = f"{count} photographs" + (f" and {versions} distorted versions of each" if versions else "")
    if versions and gated:
        say(f"the gate judges {shown}")
    # Of few photographs more versions, so that there are twice as many to choose from as are wanted.
    distortions = min(_MOST_VERSIONS, max(1, math.ceil(2 * most / len(drawn)) - 1))
    return ExportPhotographs(
        training=tuple(transfer_items(drawn, distortions=distortions, seed=seed)),
        judged=tuple(transfer_items(judged.photographs, distortions=versions, seed=seed + 1)),
        mos=mos,
        source=f"calibration: {training.source}; gate: {judged.source}, {shown}",
    )


def _opinions(judged: _Side, *, hold_drop: bool) -> NDArray[np.float64] | None:
    """Opinions of photographs, where enough have one to hold the SRCC that is lost to them; it is said of how many."""
    import numpy as np

    from ..export.rank_gate import LEAST_GATE_PHOTOS

    found = np.array([judged.opinions.get(photo.sha256, np.nan) for photo in judged.photographs])
    count = int(np.count_nonzero(~np.isnan(found)))
    some = f"{count} of {len(found)} photographs that the gate judges have opinions"
    if count >= LEAST_GATE_PHOTOS:
        if count < len(found):
            say(f"{some}: the SRCC lost to opinions is held on these")
        return found
    if hold_drop:
        raise DataError(
            f"--max-srcc-drop, and {some}",
            expected=f"at least {LEAST_GATE_PHOTOS} with opinions, or no limit to the SRCC that is lost to them",
            mend="--images FOLDER --data mos.csv with opinions on more, or leave --max-srcc-drop out",
        )
    if count:
        say(f"{some}, too few to hold the SRCC lost to them: --images FOLDER --data mos.csv gives others")
    return None


def name_item(item: Item) -> str:
    """For reports: the file's name, and the distortion."""
    if item.distortion is None:
        return item.path.name
    return f"{item.path.name} ({item.distortion.kind} {item.distortion.severity:.2f})"


def whole_photograph(item: Item) -> NamedPhotograph:
    """The file's bytes, or, of a distorted version, those of a PNG that holds it.

    Raises:
        PhotoError: it cannot be read.
    """
    from ..compress.data.distortions import distort
    from ..export.pack import Photograph as Named
    from ..runtime.decode import open_photo
    from ..runtime.preprocess import single_view
    from .packing import read_photographs

    (photo,) = read_photographs([item.path])
    if item.distortion is None:
        return Named(name_item(item), photo.data)
    # Any Preprocess that decodes in full gives the same image.
    buffer = io.BytesIO()
    distort(open_photo(photo.data, single_view(1, 1)).image, item.distortion).save(buffer, "PNG", compress_level=1)
    return Named(name_item(item), buffer.getvalue())
