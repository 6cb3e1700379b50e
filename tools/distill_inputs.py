"""What a distillation takes when the call does not say: the newest ensemble, and photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import DataError, UsageError
from .runs import newest_run, read_run
from .show import say
from .training import say_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..compress.data.dataset import Dataset
    from ..compress.data.items import Photograph
    from ..compress.distill import TransferPhotographs
    from ..compress.teacher_members import Part, ScoreTable, Teacher

__all__ = ["PhotographSource", "find_photographs_of", "find_teacher", "find_teachers"]


def find_teacher(name: str, runs: Path) -> str | None:
    """What ``--teacher`` means: ``ensemble`` is the newest teach run, else the default ensemble; ``none`` is None."""
    if name == "none":
        return None
    if name != "ensemble":
        return _absolute(name)
    run = newest_run(runs, "teach")
    if run is None:
        say(f"teacher: the default ensemble, as {runs} holds no finished teach run")
        return "default"
    say(f"teacher: {run}, the newest teach run")
    return str(run.resolve())


def find_teachers(names: Sequence[str], runs: Path) -> tuple[str, ...]:
    """What all the ``--teacher`` of a call mean; empty for ``none``.

    Raises:
        UsageError: ``none`` beside others.
    """
    found = tuple(find_teacher(name, runs) for name in names)
    if None in found and len(found) > 1:
        raise UsageError(
            f"--teacher {' --teacher '.join(names)}", expected="none alone, or teachers", mend="leave none out"
        )
    return tuple(name for name in found if name is not None)


def _absolute(name: str) -> str:
    """A teacher's name with the whole path of its file, if it has one, so that a run can go on from elsewhere."""
    if Path(name).exists():
        return str(Path(name).resolve())
    before, mark, query = name.partition("?")
    library, at, file = before.rpartition("@")
    return f"{library}{at}{Path(file).resolve()}{mark}{query}" if file and Path(file).exists() else name


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
    """

    data: Path | None
    images: Path | None
    unlabelled: tuple[Path, ...]
    split: str | None
    score_range: tuple[float, float]
    samples: bool

    @property
    def settings(self) -> dict[str, Any]:
        """As ``run.json`` has it, with whole paths."""
        return {
            "data": None if self.data is None else str(self.data.resolve()),
            "images": None if self.images is None else str(self.images.resolve()),
            "unlabelled": [str(folder.resolve()) for folder in self.unlabelled],
            "split": self.split,
            "score_range": list(self.score_range),
            "samples": self.samples,
        }

    @classmethod
    def of(cls, settings: dict[str, Any]) -> PhotographSource:
        """From what `settings` gave.

        Raises:
            KeyError, TypeError: it is not that.
        """
        low, high = settings["score_range"]
        return cls(
            data=None if settings["data"] is None else Path(settings["data"]),
            images=None if settings["images"] is None else Path(settings["images"]),
            unlabelled=tuple(Path(folder) for folder in settings["unlabelled"]),
            split=settings["split"],
            score_range=(low, high),
            samples=settings["samples"],
        )

    def load(
        self, teacher: Teacher | ScoreTable | None, selection: float, seed: int, threads: int | None
    ) -> TransferPhotographs:
        """Read, hash and divide them.

        Photographs of the teacher's selection part are only judged; those of other splits of the table are kept out,
        also where an unlabelled folder holds them. Those that cannot be read, and those of folds that no member of the
        teacher held out, are left out. All this is said.

        Raises:
            DataError: the table or a folder is not as stated, or nothing is left to learn from or to judge.
        """
        return _load(self, teacher, selection, seed, threads)

    def photographs(self, threads: int | None = None) -> tuple[Photograph, ...]:
        """All photographs that may be learned from or judged, each once; those of other splits are kept out.

        Raises:
            DataError: the table or a folder is not as stated.
        """
        labelled, _, kept_out, _ = _labelled(self, threads)
        found = {photo.sha256: photo for photo, _ in labelled}
        for photo in _unlabelled(self, threads)[0]:
            if photo.sha256 not in kept_out:
                found.setdefault(photo.sha256, photo)
        return tuple(found.values())


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
    return PhotographSource(
        data=data, images=images, unlabelled=unlabelled, split=split, score_range=score_range, samples=samples
    )


def _load(
    source: PhotographSource,
    teacher: Teacher | ScoreTable | None,
    selection: float,
    seed: int,
    threads: int | None,
) -> TransferPhotographs:
    from ..compress.distill import TransferPhotographs, hold_out

    labelled, mos, kept_out, named = _labelled(source, threads)
    folds: Mapping[str, Part] = getattr(teacher, "folds", {})
    silent = _of_silent_folds(teacher)
    others, names = _unlabelled(source, threads)
    taken = set(mos) | kept_out | {sha for sha, part in folds.items() if part == "selection"}
    fresh: dict[str, Photograph] = {}
    for photo in others:
        if photo.sha256 not in taken:
            fresh.setdefault(photo.sha256, photo)
    if len(fresh) < len(others):
        out = len(others) - len(fresh)
        say(f"{out} unlabelled photographs are kept out: labelled, reserved, of another split, or there twice")
    known = [photo for photo, _ in labelled if photo.sha256 not in silent]
    free = [photo for photo in fresh.values() if photo.sha256 not in silent]
    if out := len(labelled) + len(fresh) - len(known) - len(free):
        say(f"{out} photographs are left out: members were trained on them, and none held their folds out")
    if labelled:
        learned, judged = _divide(known, source, folds, selection, seed)
        learned = [*learned, *free]
    else:
        learned, judged = hold_out(free, fraction=selection, seed=seed)
    if not learned or not judged:
        raise DataError(
            f"{len(learned)} photographs to learn from and {len(judged)} to judge by",
            expected="at least one of each",
            mend="give more photographs, or another --selection",
        )
    images = {photo.sha256: name for photo, name in labelled} | {
        sha256: names[photo.path] for sha256, photo in fresh.items()
    }
    part = {images[photo.sha256] for photo in (*learned, *judged)}
    return TransferPhotographs(
        training=tuple(learned),
        heldout=tuple(judged),
        mos=mos,
        images=images,
        left_out=frozenset({*named, *names.values()} - part),
    )


def _of_silent_folds(teacher: Teacher | ScoreTable | None) -> set[str]:
    """sha256 of the photographs that members were trained on and of which none may speak."""
    members = getattr(teacher, "members", ())
    held = {member.heldout_fold for member in members} | {"selection"}
    return {sha for sha, part in getattr(teacher, "folds", {}).items() if part not in held}


def _unlabelled(source: PhotographSource, threads: int | None) -> tuple[tuple[Photograph, ...], dict[Path, str]]:
    """Photographs of folders without opinions, with their names."""
    from ..compress.data.items import list_photographs, read_photographs
    from .sample_photographs import sample_photographs

    paths: list[Path] = sample_photographs() if source.samples else []
    names = {path: path.name for path in paths}
    for folder in (*source.unlabelled, *((source.images,) if source.data is None and source.images else ())):
        found = list_photographs(folder)
        names |= {path: path.relative_to(folder).as_posix() for path in found}
        paths += found
    if not paths:
        return (), {}
    readable, unreadable = read_photographs(paths, threads=threads)
    for _, reason in unreadable:
        say(f"left out: {reason}")
    return readable, names


def _dataset(source: PhotographSource) -> tuple[Dataset, Dataset]:
    """The whole table, and the rows of the split."""
    from ..compress.data.dataset import read_csv, select

    assert source.data is not None and source.images is not None
    whole = read_csv(source.data, source.images, score_range=source.score_range)
    return whole, whole if source.split is None else select(whole, split=source.split)


def _labelled(
    source: PhotographSource, threads: int | None
) -> tuple[list[tuple[Photograph, str]], dict[str, float], set[str], set[str]]:
    """Labelled photographs with their names, opinions by sha256, the sha256 of those of other splits, and all names."""
    if source.data is None:
        return [], {}, set(), set()
    from ..compress.data.items import hash_files, read_photographs

    whole, dataset = _dataset(source)
    if source.split is None:
        say_splits(source.data, whole)
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
        if photo.sha256 in kept_out:
            continue
        image, score = names[photo.path]
        labelled.setdefault(photo.sha256, (photo, image))
        mos.setdefault(photo.sha256, []).append(float(score))
    if again := sum(photo.sha256 in kept_out for photo in found):
        say(f"{again} labelled photographs are kept out, as another split has them too")
    if twice := len(found) - again - len(labelled):
        say(f"{twice} labelled photographs are there twice; their opinions are averaged")
    means = {sha: sum(scores) / len(scores) for sha, scores in mos.items()}
    return list(labelled.values()), means, kept_out, {photo.image for photo in whole.photos}


def _divide(
    labelled: Sequence[Photograph],
    source: PhotographSource,
    folds: Mapping[str, Part],
    selection: float,
    seed: int,
) -> tuple[list[Photograph], list[Photograph]]:
    """Labelled photographs that are learned from, and those that are only judged."""
    judged = [photo for photo in labelled if folds.get(photo.sha256) == "selection"]
    if not judged:
        from ..compress.data.splits import split_folds

        _, dataset = _dataset(source)
        chosen = {dataset.photos[row].path for row in split_folds(dataset, 1, selection, seed).selection}
        judged = [photo for photo in labelled if photo.path in chosen]
    apart = {photo.sha256 for photo in judged}
    return [photo for photo in labelled if photo.sha256 not in apart], judged
