"""What a distillation takes when the call does not say: the newest ensemble, and photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import DataError, UsageError
from .runs import newest_run, read_run
from .show import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..compress.data.dataset import Dataset
    from ..compress.data.items import Photograph
    from ..compress.distill import TransferPhotographs
    from ..compress.teacher_members import ScoreTable, Teacher

__all__ = ["PhotographSource", "find_photographs_of", "find_teacher"]


def find_teacher(name: str, runs: Path) -> str | None:
    """What ``--teacher`` means: ``ensemble`` is the newest teach run, else the default bundle; ``none`` is None."""
    if name == "none":
        return None
    if name != "ensemble":
        return name
    run = newest_run(runs, "teach")
    if run is None:
        say(f"teacher: the default bundle, as {runs} holds no finished teach run")
        return "default"
    say(f"teacher: {run}, the newest teach run")
    return str(run)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotographSource:
    """Where the photographs of a distillation come from.

    Attributes:
        data: CSV with opinions; None for none.
        images: folder of its photographs, or of unlabelled ones.
        unlabelled: further folders.
        split: only those rows.
        score_range: of the opinions.
        samples: whether they are the sample photographs.
        flags: options of the call that say the same.
    """

    data: Path | None
    images: Path | None
    unlabelled: tuple[Path, ...]
    split: str | None
    score_range: tuple[float, float]
    samples: bool
    flags: dict[str, Any]

    def load(
        self, teacher: Teacher | ScoreTable | None, selection: float, seed: int, threads: int | None
    ) -> TransferPhotographs:
        """Read, hash and divide them.

        Photographs of the teacher's selection part are only judged; those of other splits of the table are kept out,
        also where an unlabelled folder holds them. Those that cannot be read are left out, which is said.

        Raises:
            DataError: the table or a folder is not as stated, or nothing is left to learn from.
        """
        return _load(self, teacher, selection, seed, threads)


def find_photographs_of(flags: dict[str, Any], runs: Path) -> PhotographSource:
    """The photographs that the call names, else the newest teach run's, else the sample photographs; it is said which.

    Raises:
        UsageError: ``--split`` without ``--data``.
    """
    data, images, unlabelled = flags["data"], flags["images"], tuple(flags["unlabelled"])
    split, score_range = flags["split"], flags["score_range"]
    samples = False
    if data is None and split is not None:
        raise UsageError("--split without --data", expected="a table that has splits", mend="--data mos.csv")
    if data is None and images is None and not unlabelled:
        run = newest_run(runs, "teach")
        if run is None:
            samples = True
            say("photographs: the sample photographs of scikit-learn and scikit-image, as none were named")
        else:
            settings = read_run(run).settings
            data, images = Path(settings["data"]), Path(settings["images"])
            recipe = settings["recipe"]["data"]
            split, score_range = recipe.get("split"), tuple(recipe.get("score_range", score_range))
            say(f"photographs: those of {run}")
    elif data is not None and images is None:
        images = data.parent
    said = {"data": data, "images": images, "unlabelled": unlabelled, "split": split, "score_range": score_range}
    return PhotographSource(**said, samples=samples, flags=said)


def _load(
    source: PhotographSource,
    teacher: Teacher | ScoreTable | None,
    selection: float,
    seed: int,
    threads: int | None,
) -> TransferPhotographs:
    from ..compress.data.items import list_photographs, read_photographs
    from ..compress.distill import TransferPhotographs, hold_out
    from .sample_photographs import sample_photographs

    labelled, mos, kept_out = _labelled(source, threads)
    paths: list[Path] = sample_photographs() if source.samples else []
    names = {path: path.name for path in paths}
    folders = (*source.unlabelled, *((source.images,) if source.data is None and source.images else ()))
    for folder in folders:
        found = list_photographs(folder)
        names |= {path: path.relative_to(folder).as_posix() for path in found}
        paths += found
    others, unreadable = read_photographs(paths, threads=threads) if paths else ((), ())
    for _, reason in unreadable:
        say(f"left out: {reason}")
    images = {photo.sha256: name for photo, name in labelled} | {
        photo.sha256: names[photo.path] for photo in others if photo.sha256 not in mos
    }
    folds = getattr(teacher, "folds", {})
    taken = set(mos) | kept_out | {sha for sha, part in folds.items() if part == "selection"}
    fresh: dict[str, Photograph] = {}
    for photo in others:
        if photo.sha256 not in taken:
            fresh.setdefault(photo.sha256, photo)
    if len(fresh) < len(others):
        out = len(others) - len(fresh)
        say(f"{out} unlabelled photographs are kept out: labelled, reserved, of another split, or there twice")
    judged, learned = _divide([photo for photo, _ in labelled], source, folds, selection, seed)
    if not labelled:
        learned, judged = hold_out(list(fresh.values()), fraction=selection, seed=seed)
    else:
        learned = [*learned, *fresh.values()]
    return TransferPhotographs(training=tuple(learned), heldout=tuple(judged), mos=mos, images=images)


def _labelled(
    source: PhotographSource, threads: int | None
) -> tuple[list[tuple[Photograph, str]], dict[str, float], set[str]]:
    """Labelled photographs with their names, opinions by sha256, and the sha256 of those of other splits."""
    if source.data is None or source.images is None:
        return [], {}, set()
    from ..compress.data.dataset import read_csv, select
    from ..compress.data.items import hash_files, read_photographs

    whole = read_csv(source.data, source.images, score_range=source.score_range)
    dataset: Dataset = whole if source.split is None else select(whole, split=source.split)
    mine = {photo.path for photo in dataset.photos}
    kept_out = set(hash_files([photo.path for photo in whole.photos if photo.path not in mine], threads=threads))
    found, unreadable = read_photographs([photo.path for photo in dataset.photos], threads=threads)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} labelled photographs that cannot be read, such as {unreadable[0][1]}",
            expected="photographs",
            mend="restore them, or remove their rows",
        )
    names = {photo.path: (photo.image, mos) for photo, mos in zip(dataset.photos, dataset.unit_mos, strict=True)}
    labelled: dict[str, tuple[Photograph, str]] = {}
    mos: dict[str, list[float]] = {}
    for photo in found:
        image, score = names[photo.path]
        labelled.setdefault(photo.sha256, (photo, image))
        mos.setdefault(photo.sha256, []).append(float(score))
    if len(labelled) < len(found):
        say(f"{len(found) - len(labelled)} labelled photographs are there twice; their opinions are averaged")
    return list(labelled.values()), {sha: sum(scores) / len(scores) for sha, scores in mos.items()}, kept_out


def _divide(
    labelled: Sequence[Photograph],
    source: PhotographSource,
    folds: dict[str, Any],
    selection: float,
    seed: int,
) -> tuple[list[Photograph], list[Photograph]]:
    """Labelled photographs that are judged, and those that are learned from."""
    if not labelled:
        return [], []
    parts = {photo.sha256: folds.get(photo.sha256) for photo in labelled}
    judged = [photo for photo in labelled if parts[photo.sha256] == "selection"]
    if not judged:
        from ..compress.data.dataset import read_csv, select
        from ..compress.data.splits import split_folds

        assert source.data is not None and source.images is not None
        dataset = read_csv(source.data, source.images, score_range=source.score_range)
        if source.split is not None:
            dataset = select(dataset, split=source.split)
        chosen = {dataset.photos[row].path for row in split_folds(dataset, 1, selection, seed).selection}
        judged = [photo for photo in labelled if photo.path in chosen]
    apart = {photo.sha256 for photo in judged}
    return judged, [photo for photo in labelled if photo.sha256 not in apart]
