"""The photographs that quantization needs: some from the training side, some that no stage learned from."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import DataError, UsageError
from .distill_inputs import PhotographSource
from .runs import RUN_NAME, Run, read_run
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
_SELECTION = "selection.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportPhotographs:
    """What quantization learns its ranges from, and what its gate judges by; no photograph is in both.

    Attributes:
        training: items for calibration to choose from: photographs as they are, and seeded distortions of them.
        judged: items that the gate judges.
        mos: their opinions, float64 ``[judged]``; None where they have none, or too few have.
        source: where they come from, for people.
    """

    training: tuple[Item, ...]
    judged: tuple[Item, ...]
    mos: NDArray[np.float64] | None
    source: str


def find_export_photographs(
    runs: Sequence[Path],
    *,
    calibration: Path | None,
    images: Path | None,
    data: Path | None,
    split: str | None,
    most: int,
    seed: int,
    threads: int | None = None,
) -> ExportPhotographs:
    """The photographs that a call names, else those of the runs that its checkpoints come from, else samples.

    Args:
        runs: folders of checkpoints or of their runs.
        calibration: folder of photographs of the training side.
        images: folder of photographs for the gate.
        data: CSV with opinions on those of ``images``.
        split: only those rows.
        most: photographs to choose calibration images from, at most.
        seed: of the draw and of the distortions.
        threads: that read files.

    Raises:
        DataError: a folder or a table is not as stated, a photograph is on both sides, or a side is empty.
        UsageError: ``data`` without ``images``, or ``split`` without ``data``.
    """
    if (data is not None and images is None) or (split is not None and data is None):
        raise UsageError("--data without --images, or --split without --data", expected="both", mend="give both")
    known = _of_runs(runs, threads) if calibration is None or images is None else None
    if known is None and (calibration is None or images is None):
        known = _samples(threads)
    training, judged, opinions, sources = ((), (), {}, []) if known is None else known
    if calibration is not None:
        training, sources = _folder(calibration, threads), [f"calibration: {calibration.name}"]
    if images is not None:
        judged, opinions = _named(images, data, split, threads)
        learned = {photo.sha256 for photo in training} if calibration is None else set()
        unseen = [photo for photo in judged if photo.sha256 not in learned]
        if out := len(judged) - len(unseen):
            say(f"{out} photographs that were learned from are not judged")
        judged = unseen
        sources = [*sources, f"gate: {images.name if data is None else data.name}"]
    apart = {photo.sha256 for photo in judged}
    free = [photo for photo in training if photo.sha256 not in apart]
    if out := len(training) - len(free):
        say(f"{out} photographs that the gate judges are no calibration images")
    if not free or not judged:
        raise DataError(
            f"{len(free)} photographs to calibrate on and {len(judged)} to judge by",
            expected="some of each, that are not the same",
            mend="--calibration FOLDER of the training side, --images FOLDER of others",
        )
    return _as_items(free, judged, opinions, most, seed, "; ".join(sources))


def _as_items(
    training: Sequence[Photograph],
    judged: Sequence[Photograph],
    opinions: Mapping[str, float],
    most: int,
    seed: int,
    source: str,
) -> ExportPhotographs:
    import numpy as np

    from ..compress.data.transfer import transfer_items
    from ..export.rank_gate import LEAST_GATE_PHOTOS
    from ..runtime.splitmix import permutation

    drawn = [training[place] for place in permutation(seed, len(training))[:most]]
    spoken = len(judged) >= LEAST_GATE_PHOTOS and all(photo.sha256 in opinions for photo in judged)
    # Opinions are of photographs as they are; without any, versions of a few photographs give an order to keep.
    versions = 0 if spoken else max(0, math.ceil(_LEAST_JUDGED / len(judged)) - 1)
    items = transfer_items(judged, distortions=versions, seed=seed + 1)
    if versions:
        say(f"the gate judges {len(judged)} photographs and {versions} distorted versions of each")
    # Of few photographs more versions, so that there are twice as many to choose from as are wanted.
    distortions = min(_MOST_VERSIONS, max(1, math.ceil(2 * most / len(drawn)) - 1))
    return ExportPhotographs(
        training=tuple(transfer_items(drawn, distortions=distortions, seed=seed)),
        judged=tuple(items),
        mos=np.array([opinions[item.sha256] for item in items]) if spoken else None,
        source=source,
    )


_Found = tuple[Sequence["Photograph"], Sequence["Photograph"], Mapping[str, float], list[str]]


def _of_runs(folders: Sequence[Path], threads: int | None) -> _Found | None:
    """Photographs of the runs of checkpoints; those of any run's ``selection.csv`` are judged. None without a run."""
    runs = dict.fromkeys(folder for folder in (_run_of(folder) for folder in folders) if folder is not None)
    if not runs:
        return None
    found: dict[str, Photograph] = {}
    opinions: dict[str, float] = {}
    judged: set[str] = set()
    for folder in runs:
        found |= {photo.sha256: photo for photo in _source_of(folder, read_run(folder)).photographs(threads)}
        for sha, mos in _selection_of(folder / _SELECTION):
            judged.add(sha)
            if mos is not None:
                opinions[sha] = mos
    return (
        [photo for sha, photo in found.items() if sha not in judged],
        [photo for sha, photo in found.items() if sha in judged],
        opinions,
        [f"photographs of {', '.join(folder.name for folder in runs)}: its training side, and its selection part"],
    )


def _run_of(checkpoint: Path) -> Path | None:
    """The folder with ``run.json``: the checkpoint's own, or the one whose ``members`` it is among."""
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        if (folder / RUN_NAME).is_file():
            return folder
    return None


def _source_of(folder: Path, run: Run) -> PhotographSource:
    settings = run.settings
    try:
        if run.kind in ("distill", "quantize"):
            return PhotographSource.of(settings["photographs"])
        data = settings["recipe"]["data"]
        low, high = data["score_range"]
        return PhotographSource(
            data=Path(settings["data"]),
            images=Path(settings["images"]),
            unlabelled=(),
            split=data.get("split"),
            score_range=(low, high),
            samples=False,
        )
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}, whose run.json names no photographs ({error!r})",
            expected="a run of distill or teach",
            mend="name photographs: --calibration FOLDER --images FOLDER",
        ) from error


def _selection_of(path: Path) -> Iterator[tuple[str, float | None]]:
    """sha256 and opinion of each row of a run's ``selection.csv``; distorted versions have none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield row["sha256"], float(row["mos"]) if row.get("mos") and not row.get("kind") else None
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} ({error!r})",
            expected="the table that the run wrote",
            mend="name photographs: --calibration FOLDER --images FOLDER",
        ) from error


def _samples(threads: int | None) -> _Found:
    from ..compress.distill_plan import hold_out

    say(
        "photographs: the sample photographs of scikit-learn and scikit-image, as no run and none were named: what they"
    )
    say("calibrate and judge says little of yours; name your own with --calibration FOLDER --images FOLDER")
    source = PhotographSource(data=None, images=None, unlabelled=(), split=None, score_range=(0.0, 100.0), samples=True)
    training, judged = hold_out(source.photographs(threads), fraction=0.3, seed=0)
    return training, judged, {}, ["sample photographs"]


def _folder(folder: Path, threads: int | None) -> Sequence[Photograph]:
    from ..compress.data.items import list_photographs, read_photographs

    readable, unreadable = read_photographs(list_photographs(folder), threads=threads)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} photographs that cannot be read, such as {unreadable[0][1]}",
            expected="photographs",
            mend=f"remove them from {folder.name}",
        )
    return tuple({photo.sha256: photo for photo in readable}.values())


def _named(
    images: Path, data: Path | None, split: str | None, threads: int | None
) -> tuple[Sequence[Photograph], dict[str, float]]:
    if data is None:
        return _folder(images, threads), {}
    from ..compress.data.dataset import read_csv, select
    from ..compress.data.items import read_photographs

    whole = read_csv(data, images)
    dataset = whole if split is None else select(whole, split=split)
    readable, unreadable = read_photographs([photo.path for photo in dataset.photos], threads=threads)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} photographs that cannot be read, such as {unreadable[0][1]}",
            expected="photographs",
            mend=f"remove their rows from {data.name}",
        )
    found = {photo.sha256: photo for photo in readable}
    opinions = {photo.sha256: float(mos) for photo, mos in zip(readable, dataset.mos, strict=True)}
    return tuple(found.values()), opinions


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
