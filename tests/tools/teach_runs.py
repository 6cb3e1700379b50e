"""A finished run of `teach`, as its folder is, without a training: two members, each with the fold it left out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.tools.runs import finish_run, start_run

from .command import save_photo, write_table

SIZE = 32


def save_labelled(folder: Path, count: int, *, test: int = 0, first: int = 0) -> Path:
    """Photographs ``00.jpg`` ... in ``folder/images`` and their table ``mos.csv``; the last are of split=test."""
    stream = np.random.default_rng(first)
    rows = []
    for place in range(count):
        name = f"{place:02}.jpg"
        save_photo(folder / "images" / name, first + place, blur=place % 3, size=(64, 48))
        rows.append((name, round(float(stream.uniform(5, 95)), 3), "test" if place >= count - test else "train"))
    return write_table(folder / "mos.csv", rows, "image,mos,split")


def sha256_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / "images" / name).read_bytes()).hexdigest() for name in names}


def teach_run(
    runs: Path, data: Path, parts: Mapping[str, int | str], *, split: str | None = "train", label: str = "pair"
) -> Path:
    """A run whose members held out the folds 0 and 1.

    Args:
        runs: folder of runs.
        data: the table.
        parts: of each photograph by name: a fold, or ``selection``.
        split: of the table.
        label: of the run's folder.
    """
    names = ("a", "b")
    recipe = TeachRecipe(
        name=label,
        data=DataRecipe(split=split, folds=max(2, 1 + max(part for part in parts.values() if isinstance(part, int)))),
        members=tuple(
            MemberRecipe(
                name=name,
                backbone="test_efficientnet",
                width=SIZE,
                height=SIZE,
                heldout_fold=fold,
                weights=NoWeights(seed=fold),
            )
            for fold, name in enumerate(names)
        ),
    )
    images = data.parent / "images"
    settings = {"recipe": recipe, "data": str(data.resolve()), "images": str(images.resolve())}
    run = start_run(runs, "teach", label, settings)
    for fold, name in enumerate(names):
        system = one_backbone("test_efficientnet", SIZE, SIZE, stages=(1,))
        network = build(system, weights=NoWeights(seed=fold + len(label)))
        score_map = ScoreMap(steps=(Sigmoid(slope=0.05, centre=0.0, low=0.0, high=100.0),), low=0.0, high=100.0)
        record = Checkpoint(name=name, system=system, score_map=score_map, provenance={"heldout_fold": fold})
        save_checkpoint(run / "members" / name, record, network)
    mos = {photo.image: photo.mos for photo in read_csv(data, images).photos}
    known = [(name, sha, mos[name]) for name, sha in sha256_of(data.parent, list(parts)).items()]
    with (run / "out_of_fold.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "sha256", "mos", "fold", "member", "raw", "score"])
        for row in known:
            part = parts[row[0]]
            if isinstance(part, int):
                writer.writerow([*row, part, *((names[part], 0.0, 50.0) if part < len(names) else ("", "", ""))])
    with (run / "selection.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "sha256", "mos", *names, "ensemble"])
        writer.writerows([*row, 50.0, 50.0, 50.0] for row in known if parts[row[0]] == "selection")
    finish_run(run)
    return run
