"""Photographs whose brightness is their quality, a teacher that sees it, a small student, and a process that dies.

As a script: ``quick_students.py PHOTOGRAPHS CACHE RUN WHEN NUMBER`` distills and kills itself at the moment that is
called so: ``ask`` 3 is when the teacher has looked at three items, ``step`` 5 after the fifth step.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from edgeiqa.compress.data.items import Item, Photograph, cut_item, read_photographs
from edgeiqa.compress.distill import TransferPhotographs, distill
from edgeiqa.compress.distill_records import DistillLosses, DistillRecipe, DistillReport, Transfer
from edgeiqa.compress.models.records import Normalisation
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.stages import Augmentation, Stage
from edgeiqa.compress.teacher_members import ScoreTable, Teacher, TorchTeacher
from edgeiqa.compress.torch_teachers import torch_member
from edgeiqa.compress.watch import SILENT
from edgeiqa.runtime.preprocess import single_view
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor, nn

STAGE = Stage(epochs=2, batch=8, learning_rate=3e-3, head_learning_rate=1e-2, augmentation=Augmentation(flip=False))
RECIPE = DistillRecipe(
    name="small",
    backbone="test_efficientnet",
    width=32,
    height=32,
    weights=NoWeights(seed=3),
    stages=(STAGE,),
    transfer=Transfer(crops=2, distortions=1),
    seed=3,
)


def recipe(*, epochs: int = 2, losses: dict[str, Any] | None = None, **changed: Any) -> DistillRecipe:
    stage = msgspec.structs.replace(STAGE, epochs=epochs)
    return msgspec.structs.replace(RECIPE, stages=(stage,), losses=DistillLosses(**(losses or {})), **changed)


class Brightness(nn.Module):
    """The gain times a photograph's mean, and its mean colour for features."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"score": self.gain * pixels.mean((1, 2, 3)), "features.last": pixels.mean((2, 3))}


def bright(gain: float = 1.0, **fields: Any) -> Teacher:
    made = TorchTeacher(
        module=Brightness(gain),
        preprocess=single_view(16, 16),
        normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )
    return Teacher(name="bright", members=(torch_member(made, "bright", torch.device("cpu")),), **fields)


def save_planes(folder: Path, count: int) -> Path:
    """Planes of one grey, with noise."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = np.random.default_rng(0)
    for place in range(count):
        grey = 30 + 195 * stream.random() + stream.integers(-8, 9, (30, 40, 3))
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / f"{place:03}.png")
    return folder


def planes(folder: Path, *, heldout: int = 8, labelled: Sequence[int] = ()) -> TransferPhotographs:
    """The photographs of a folder, the first of which are only judged; opinions are near to their brightness."""
    found, _ = read_photographs(sorted(folder.glob("*.png")))
    stream = np.random.default_rng(1)
    greys = [np.asarray(Image.open(photo.path)).mean() / 255 + stream.uniform(-0.05, 0.05) for photo in found]
    return TransferPhotographs(
        training=found[heldout:],
        heldout=found[:heldout],
        mos={found[place].sha256: float(np.clip(greys[place], 0, 1)) for place in labelled},
        images={photo.sha256: photo.path.name for photo in found},
    )


def said_of(photo: Photograph) -> float:
    """What `bright` says of a whole photograph, 0 to 100."""
    (member,) = bright().members
    views = cut_item(Item(path=photo.path, sha256=photo.sha256), member.preprocess)
    raw, _ = member.run({name: view[None] for name, view in views.items()})
    return 100 * float(raw[0])


def save_scores(path: Path, photographs: TransferPhotographs, **more: float) -> Path:
    """What it says of all of them, as a table."""
    lines = [f"{photo.path.name},{said_of(photo):.4f}" for photo in (*photographs.training, *photographs.heldout)]
    path.write_text("\n".join(["image,score", *lines, *(f"{name},{score}" for name, score in more.items())]) + "\n")
    return path


def run(
    what: DistillRecipe,
    photographs: TransferPhotographs,
    teacher: Teacher | ScoreTable | None,
    folder: Path,
    cache: Path,
    **options: Any,
) -> DistillReport:
    fabric = Fabric(accelerator="cpu")
    fabric.launch()
    return distill(what, photographs, teacher, folder, cache=cache, fabric=fabric, **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Watching:
    """Kills this process, as the kernel would, at a moment."""

    def __init__(self, when: str, number: int) -> None:
        self._when, self._number = when, number
        self.say, self.cut, self.epoch = SILENT.say, SILENT.cut, SILENT.epoch

    def ask(self, done: int, _: int) -> None:
        self._perhaps("ask", done)

    def step(self, _: str, step: Any) -> None:
        self._perhaps("step", step.done)

    def _perhaps(self, when: str, number: int) -> None:
        if when == self._when and number >= self._number:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    images, cache_at, run_at, moment, at = sys.argv[1:]
    torch.set_num_threads(1)
    run(RECIPE, planes(Path(images)), bright(), Path(run_at), Path(cache_at), watch=Watching(moment, int(at)))
